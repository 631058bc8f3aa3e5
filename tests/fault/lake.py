"""Reads what a round left behind: the lake with plain Polars, the ledger and the journal with what users are given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl

from gateway.configuration import load_settings
from gateway.core.errors import StoreError
from gateway.journal.inspect import verify
from simulators.acknowledged import payload_digest, read_acknowledged
from simulators.truth import Expected, expected, read_truth
from tests.fault.compare import Comparison, differing, misjudged, missing, newest, repeated
from voltgate.ledger import read_balance

LOAD_STREAM: Final = "vehicle_telemetry"
CHANNELS: Final = {"telemetry": "vehicle_telemetry", "battery": "battery_pack", "event": "vehicle_event"}
_ACKNOWLEDGED: Final = {"device_id": pl.String(), "seq": pl.Int64(), "digest": pl.Binary()}


def acknowledged_load(path: Path) -> pl.DataFrame:
    """Return (device_id, seq, digest) of what the load generator was told is received."""
    return pl.DataFrame(list(read_acknowledged(path)), schema=_ACKNOWLEDGED, orient="row")


def acknowledged_fleet(path: Path) -> pl.DataFrame:
    """Return (device_id, digest) of what the simulated fleet was told is received, garbage included."""
    rows = [(sent.device_id, bytes.fromhex(sent.digest)) for sent, acknowledged in read_truth(path) if acknowledged]
    return pl.DataFrame(rows, schema={"device_id": pl.String(), "digest": pl.Binary()}, orient="row")


def read_lake(lake: Path) -> dict[str, pl.DataFrame]:
    """Return every table of a lake, payloads of `raw` as digests."""
    tables = {path.name: pl.scan_delta(str(path)).collect() for path in sorted(lake.iterdir())}
    digests = pl.Series("digest", [payload_digest(payload) for payload in tables["raw"]["payload"]], pl.Binary())
    tables["raw"] = tables["raw"].drop("payload").with_columns(digests)
    return tables


def judge(data: Path, reference: Path, *, load: Path, fleet: Path | None) -> Comparison:
    """Compare what was acknowledged with a lake, and the lake with that of an uninterrupted run.

    Args:
        data: Data directory of the killed installation, now stopped.
        reference: Data directory of the uninterrupted run over the same journal.
        load: The load generator's file of acknowledged messages.
        fleet: The simulated fleet's truth file, if there was a fleet.
    """
    tables, quiet = read_lake(data / "lake"), read_lake(reference / "lake")
    load_acknowledged, raw = acknowledged_load(load), tables["raw"]
    lost_payloads = missing(load_acknowledged, raw, ("device_id", "digest"))
    lost_rows = missing(load_acknowledged, tables[LOAD_STREAM], ("device_id", "seq"))
    lost = pl.concat([lost_payloads, lost_rows]).unique().height
    of_load = tables[LOAD_STREAM].filter(pl.col("device_id").is_in(load_acknowledged["device_id"].unique().implode()))
    duplicated = repeated(raw, ("offset",)) + repeated(of_load, ("device_id", "seq"))
    acknowledged = load_acknowledged.height
    rows_differing = windows_differing = 0
    for name in sorted(tables.keys() | quiet.keys()):
        if name.startswith("windows_"):
            windows_differing += differing(newest(tables[name]), newest(quiet[name]))
        else:
            rows_differing += differing(tables[name], quiet[name])
            duplicated += 0 if name == "raw" else repeated(tables[name], ("offset", "record"))
    if fleet is not None:
        fleet_acknowledged = acknowledged_fleet(fleet)
        acknowledged += fleet_acknowledged.height
        lost += missing(fleet_acknowledged, raw, ("device_id", "digest")).height
        too_few, too_many = against_truth(expected(fleet), tables)
        lost, duplicated = lost + too_few, duplicated + too_many
    return Comparison(
        acknowledged=acknowledged,
        found=acknowledged - lost,
        lost=lost,
        duplicated=duplicated,
        windows_differing=windows_differing,
        rows_differing=rows_differing,
        findings=(
            *_ledger_findings(data),
            *_journal_findings(data / "ingest"),
            *_journal_findings(reference / "ingest"),
        ),
    )


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
