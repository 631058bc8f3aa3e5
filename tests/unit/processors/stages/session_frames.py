"""Frames for the tests of sessions: what a charger, a vehicle and a clock said, in seconds, to rows and back."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from processors.stages.sessions import SessionState, fold_sessions

START_S = 1_790_000_400
"""2026-09-21 13:40:00 UTC; times in the tests are seconds since."""
TIME = pl.Datetime("us", "UTC")
_BASE = {
    "tenant": pl.String(),
    "device_id": pl.String(),
    "measured_at": TIME,
    "received_at": TIME,
    "offset": pl.Int64(),
    "record": pl.Int32(),
    "flags": pl.String(),
}
_CHARGER = {
    "message_id": pl.String(),
    "ocpp_version": pl.String(),
    "connector": pl.String(),
    "evse_id": pl.Int64(),
    "connector_id": pl.Int64(),
}
SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    "charger_transaction": _BASE
    | _CHARGER
    | {
        "event": pl.String(),
        "start_message_id": pl.String(),
        "transaction_id": pl.String(),
        "seq_no": pl.Int64(),
        "charging_state": pl.String(),
        "stop_reason": pl.String(),
        "id_token": pl.String(),
        "id_token_type": pl.String(),
        "meter_start_wh": pl.Float64(),
        "meter_stop_wh": pl.Float64(),
        "vin": pl.String(),
    },
    "charger_meter": _BASE
    | _CHARGER
    | {
        "transaction_id": pl.String(),
        "energy_import_wh": pl.Float64(),
        "power_import_kw": pl.Float64(),
        "soc_pct": pl.Float64(),
        "energy_import_interval_wh": pl.Float64(),
    },
    "charger_status": _BASE | _CHARGER | {"kind": pl.String(), "status": pl.String()},
    "asset": _BASE
    | {
        "kind": pl.String(),
        "latitude_deg": pl.Float64(),
        "longitude_deg": pl.Float64(),
        "rated_power_kw": pl.Float64(),
        "vin": pl.String(),
        "id_tokens": pl.String(),
    },
    "battery_pack": _BASE
    | {
        "pack_power_kw": pl.Float64(),
        "soc_pct": pl.Float64(),
        "cell_temp_min_c": pl.Float64(),
        "cell_temp_max_c": pl.Float64(),
        "bms_state": pl.String(),
    },
    "vehicle_telemetry": _BASE
    | {"latitude_deg": pl.Float64(), "longitude_deg": pl.Float64(), "speed_kmh": pl.Float64()},
}


class Said(dict[str, Any]):
    """One row: its columns, and `stream`; `at` and `received` in seconds."""


def said(stream: str, at: float, *, device: str = "cp-1", received: float | None = None, **columns: Any) -> Said:
    """Return a row of a stream, received when it was measured unless told."""
    return Said(stream=stream, at=at, received=at if received is None else received, device_id=device, **columns)


def event(kind: str, at: float, *, version: str = "1.6", connector: str | None = "1", **columns: Any) -> Said:
    """Return a transaction event; `transaction` for short."""
    renamed = {"transaction": "transaction_id", "message": "start_message_id", "token": "id_token"}
    given = {renamed.get(name, name): value for name, value in columns.items()}
    return said("charger_transaction", at, ocpp_version=version, connector=connector, event=kind, **given)


def start(at: float, meter: float | None = 1000.0, *, message: str = "m1", **columns: Any) -> Said:
    """Return a 1.6 start."""
    return event("start", at, meter_start_wh=meter, message=message, **{"token": "TAG", **columns})


def answer(at: float, transaction: str = "1", *, message: str = "m1", **columns: Any) -> Said:
    """Return our answer to a 1.6 start."""
    return event("start_answer", at, transaction=transaction, message=message, **columns)


def stop(at: float, meter: float | None = 2000.0, transaction: str | None = "1", **columns: Any) -> Said:
    """Return a 1.6 stop, which names no connector."""
    given = {"stop_reason": "Local", "connector": None, **columns}
    return event("end", at, meter_stop_wh=meter, transaction=transaction, **given)


def meter(
    at: float,
    wh: float | None = None,
    kw: float | None = None,
    *,
    transaction: str | None = "1",
    version: str = "1.6",
    connector: str | None = "1",
    **columns: Any,
) -> Said:
    """Return a meter value."""
    return said(
        "charger_meter",
        at,
        ocpp_version=version,
        connector=connector,
        transaction_id=transaction,
        energy_import_wh=wh,
        power_import_kw=kw,
        **columns,
    )


def status(at: float, word: str, *, version: str = "1.6", connector: str = "1", **columns: Any) -> Said:
    """Return what a connector says of itself."""
    return said("charger_status", at, ocpp_version=version, connector=connector, kind="status", status=word, **columns)


def battery(at: float, kw: float, *, device: str = "ev-1", soc: float | None = None, **columns: Any) -> Said:
    """Return a reading of a pack that charges."""
    given = {"bms_state": "charge", "cell_temp_min_c": 20.0, "cell_temp_max_c": 25.0, **columns}
    return said("battery_pack", at, device=device, pack_power_kw=kw, soc_pct=soc, **given)


def standing(at: float, lat: float, lon: float, *, device: str = "ev-1", **columns: Any) -> Said:
    """Return where a vehicle stands."""
    return said("vehicle_telemetry", at, device=device, latitude_deg=lat, longitude_deg=lon, speed_kmh=0.0, **columns)


def asset(kind: str, device: str, **columns: Any) -> Said:
    """Return a fact."""
    return said("asset", 0, device=device, kind=kind, **columns)


def tick(received: float) -> Said:
    """Return a tick."""
    return Said(stream="tick", at=received, received=received)


def us(at_s: float) -> int:
    """Return a time of the tests in us since 1970."""
    return round((START_S + at_s) * 1_000_000)


def frames_of(journal: Sequence[tuple[int, Said]]) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """Return the frames and ticks of journal entries (offset, row)."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMAS}
    ticks = []
    for record, (offset, one) in enumerate(journal):
        columns = {name: value for name, value in one.items() if name not in {"stream", "at", "received"}}
        if one["stream"] == "tick":
            ticks.append((offset, us(one["received"])))
            continue
        base = {
            "tenant": "acme",
            "measured_at": us(one["at"]),
            "received_at": us(one["received"]),
            "offset": offset,
            "record": record,
            "flags": None,
        }
        schema = SCHEMAS[one["stream"]]
        row = dict.fromkeys(schema) | base | columns
        assert row.keys() == schema.keys(), row.keys() ^ schema.keys()
        rows[one["stream"]].append(row)
    frames = {name: pl.DataFrame(some, schema=SCHEMAS[name]) for name, some in rows.items()}
    return frames, pl.DataFrame(ticks, schema={"offset": pl.Int64(), "received_at": TIME}, orient="row")


def run(
    entries: Iterable[Said | Sequence[Said]], cuts: Iterable[int] = (), *, restart: bool = False
) -> tuple[pl.DataFrame, SessionState]:
    """Return all rows and the state after.

    Args:
        entries: Journal entries in order; several rows of one entry as a list.
        cuts: Places at which a batch ends.
        restart: Whether the state goes through bytes between batches.
    """
    placed = [(offset, [one] if isinstance(one, Said) else list(one)) for offset, one in enumerate(entries)]
    edges = sorted({0, len(placed), *(cut for cut in cuts if 0 < cut < len(placed))})
    state, tables = SessionState.empty(), []
    for low, high in pairwise(edges):
        frames, ticks = frames_of([(offset, one) for offset, rows in placed[low:high] for one in rows])
        table, state = fold_sessions(state, frames, ticks)
        tables.append(table)
        if restart:
            state = SessionState.from_bytes(state.to_bytes())
    return pl.concat(tables), state


def newest(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the newest revision of each session, without nulls, in order of the start."""
    last = rows.sort("revision", maintain_order=True).unique("session_id", keep="last", maintain_order=True)
    return [
        {name: value for name, value in row.items() if value is not None}
        for row in last.sort("started_at", "session_id").to_dicts()
    ]


def only(entries: Iterable[Said | Sequence[Said]]) -> dict[str, Any]:
    """Return the newest revision of the only session that the entries make."""
    (session,) = newest(run(entries)[0])
    return session
