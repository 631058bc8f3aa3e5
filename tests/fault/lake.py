"""Reads what a round left behind: the lake with plain Polars, the ledger and the journal with what users are given."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from gateway.configuration import load_settings
from gateway.core.errors import StoreError
from gateway.journal.inspect import verify
from simulators.acknowledged import payload_digest, read_acknowledged
from simulators.chargers.truth import read_answered, read_sessions_truth
from simulators.truth import Expected, expected, read_truth
from tests.fault import alerting, charging
from tests.fault.compare import Comparison, differing, misjudged, missing, newest, repeated, total
from voltgate.ledger import read_balance

LOAD_STREAM: Final = "vehicle_telemetry"
CHANNELS: Final = {"telemetry": "vehicle_telemetry", "battery": "battery_pack", "event": "vehicle_event"}
CHARGER_SOURCE: Final = "ocpp"
_ACKNOWLEDGED: Final = {"device_id": pl.String(), "seq": pl.Int64(), "digest": pl.Binary()}


class Chargers(msgspec.Struct, frozen=True):
    """Files of the simulated chargers: their sessions, and their calls that were answered."""

    truth: Path
    answered: Path


def acknowledged_load(path: Path) -> pl.DataFrame:
    """Return (device_id, seq, digest) of what the load generator was told is received."""
    return pl.DataFrame(list(read_acknowledged(path)), schema=_ACKNOWLEDGED, orient="row")


def acknowledged_fleet(path: Path) -> pl.DataFrame:
    """Return (device_id, digest) of what the simulated fleet was told is received, garbage included."""
    rows = [(sent.device_id, bytes.fromhex(sent.digest)) for sent, acknowledged in read_truth(path) if acknowledged]
    return pl.DataFrame(rows, schema={"device_id": pl.String(), "digest": pl.Binary()}, orient="row")


def read_lake(lake: Path) -> dict[str, pl.DataFrame]:
    """Return every table of a lake."""
    return {path.name: pl.scan_delta(str(path)).collect() for path in sorted(lake.iterdir())}


def digested(raw: pl.DataFrame) -> pl.DataFrame:
    """Return `raw` with digests for payloads."""
    digests = pl.Series("digest", [payload_digest(payload) for payload in raw["payload"]], pl.Binary())
    return raw.drop("payload").with_columns(digests)


def judge(
    data: Path, reference: Path, *, load: Path, fleet: Path, chargers: Chargers, told: Sequence[alerting.Told]
) -> Comparison:
    """Compare what was acknowledged with a lake, and the lake with that of an uninterrupted run.

    Args:
        data: Data directory of the killed installation, now stopped.
        reference: Data directory of the uninterrupted run over the same journal.
        load: The load generator's file of acknowledged messages.
        fleet: The simulated fleet's truth file.
        chargers: The simulated chargers' files.
        told: Messages about alerts that a receiver got.
    """
    tables, quiet = read_lake(data / "lake"), read_lake(reference / "lake")
    calls = tables["raw"].filter(pl.col("source") == CHARGER_SOURCE).select("device_id", "channel", "payload")
    tables["raw"], quiet["raw"] = digested(tables["raw"]), digested(quiet["raw"])
    parts = (
        against_load(acknowledged_load(load), tables),
        against_fleet(fleet, tables),
        against_chargers(chargers, tables, calls),
        against_told(told, tables[alerting.ALERTS]),
        against_reference(tables, quiet),
        Comparison(
            findings=(
                *_ledger_findings(data),
                *_journal_findings(data / "ingest"),
                *_journal_findings(reference / "ingest"),
            )
        ),
    )
    return total(parts)


def against_load(acknowledged: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> Comparison:
    """Compare with what the load generator was told is received."""
    raw, readings = tables["raw"], tables[LOAD_STREAM]
    lost_payloads = missing(acknowledged, raw, ("device_id", "digest"))
    lost_rows = missing(acknowledged, readings, ("device_id", "seq"))
    lost = pl.concat([lost_payloads, lost_rows]).unique().height
    of_load = readings.filter(pl.col("device_id").is_in(acknowledged["device_id"].unique().implode()))
    return Comparison(
        acknowledged=acknowledged.height,
        found=acknowledged.height - lost,
        lost=lost,
        duplicated=repeated(raw, ("offset",)) + repeated(of_load, ("device_id", "seq")),
    )


def against_fleet(file: Path, tables: Mapping[str, pl.DataFrame]) -> Comparison:
    """Compare with what the simulated vehicles know."""
    acknowledged = acknowledged_fleet(file)
    lost = missing(acknowledged, tables["raw"], ("device_id", "digest")).height
    too_few, too_many = against_truth(expected(file), tables)
    lost += too_few
    return Comparison(
        acknowledged=acknowledged.height, found=acknowledged.height - lost, lost=lost, duplicated=too_many
    )


def against_chargers(chargers: Chargers, tables: Mapping[str, pl.DataFrame], calls: pl.DataFrame) -> Comparison:
    """Compare with what the simulated chargers know.

    Args:
        chargers: Their files.
        tables: The lake.
        calls: Of `raw` what chargers said and what was said to them: device_id, channel, payload.
    """
    answered = charging.answered_calls(read_answered(chargers.answered))
    streams = {name: tables[name] for name in charging.STREAMS}
    lost = (
        pl.concat(
            [
                missing(answered, tables["raw"], ("device_id", "digest")),
                charging.without_row(answered, streams),
                charging.without_id(answered, streams["charger_transaction"]),
            ]
        )
        .unique()
        .height
    )
    own = calls.filter(~pl.col("channel").str.starts_with("ocpp/")).select("device_id", "payload")
    samples = missing(charging.samples_in(own.iter_rows()), tables["charger_meter"], ("device_id", "measured_at"))
    twice = charging.ids_given_twice(streams["charger_transaction"])
    truth = read_sessions_truth(chargers.truth)
    sessions = charging.judge_sessions(
        charging.true_sessions(truth), charging.newest_sessions(tables[charging.SESSIONS])
    )
    findings = [*sessions.examples]
    if not sessions.compared:
        findings.append("no charging session could be compared")
    if missed := charging.HARMLESS.difference(*(one.faults for one in truth)):
        findings.append(f"no charging session had the faults {sorted(missed)}")
    if twice.height:
        findings.append(f"{twice.height} transaction ids were given twice: {twice['transaction_id'].head(5).to_list()}")
    if samples.height:
        findings.append(f"{samples.height} samples of the journal are no rows: {samples.head(3).rows()}")
    return Comparison(
        acknowledged=answered.height,
        found=answered.height - lost,
        lost=lost,
        duplicated=charging.told_again(streams),
        resent=repeated(own, ("device_id", "payload")),
        sessions=sessions.compared,
        sessions_differing=sessions.differing,
        findings=tuple(findings),
    )


def against_told(told: Sequence[alerting.Told], revisions: pl.DataFrame) -> Comparison:
    """Compare the alerts of the lake with what a receiver was told of them."""
    findings = [*alerting.judge_told(told, revisions)]
    if not revisions.height:
        findings.append("no alert fired")
    return Comparison(alerts=revisions["alert_id"].n_unique(), findings=tuple(findings))


def against_reference(tables: Mapping[str, pl.DataFrame], quiet: Mapping[str, pl.DataFrame]) -> Comparison:
    """Compare every table with that of an uninterrupted run over the same journal."""
    duplicated = rows_differing = windows_differing = 0
    for name in sorted(tables.keys() | quiet.keys()):
        if name.startswith("windows_"):
            windows_differing += differing(newest(tables[name]), newest(quiet[name]))
            continue
        rows_differing += differing(tables[name], quiet[name])
        if name == charging.SESSIONS:
            duplicated += repeated(tables[name], charging.SESSION_KEY)
        elif name == alerting.ALERTS:
            duplicated += repeated(tables[name], alerting.KEY)
        elif name != "raw":
            duplicated += repeated(tables[name], ("offset", "record"))
    return Comparison(duplicated=duplicated, rows_differing=rows_differing, windows_differing=windows_differing)


def against_truth(truth: Mapping[tuple[str, str], Expected], tables: Mapping[str, pl.DataFrame]) -> tuple[int, int]:
    """Return the records of the fleet (too few, too many) in streams and rejects."""
    rejects: dict[tuple[str, str], dict[str, int]] = {}
    for device_id, channel, code, count in (
        tables["rejects"].group_by("device_id", "channel", "code").agg(pl.len()).rows()
    ):
        rejects.setdefault((device_id, channel), {})[code] = count
    too_few, too_many = misjudged(truth, rejects)
    for (device_id, channel), due in truth.items():
        if channel in CHANNELS:
            rows = tables[CHANNELS[channel]].filter(pl.col("device_id") == device_id).height
            too_few += max(0, due.rows - rows)
            too_many += max(0, rows - due.rows - due.rows_possible)
    return too_few, too_many


def _ledger_findings(data: Path) -> tuple[str, ...]:
    try:
        balance = read_balance(load_settings(None, {}, overrides={"data": str(data)}))
    except StoreError as error:
        return (f"ledger: {error}",)
    waiting = (f"ledger: {balance.in_flight} messages still in flight",) if balance.in_flight else ()
    return (*(f"ledger: {finding}" for finding in balance.findings), *waiting)


def _journal_findings(directory: Path) -> tuple[str, ...]:
    report = verify(directory)
    if report.ok and report.entries:
        return ()
    return (f"journal {directory}: {report.missing} entries missing, damaged: {report.corrupt}",)
