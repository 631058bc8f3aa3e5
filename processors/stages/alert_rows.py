"""Revisions of alerts as rows of the lake."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import polars as pl

from processors.stages.alert_record import AlertEvent

_TIME: Final = pl.Datetime("us", "UTC")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

ALERTS_SCHEMA: Final[dict[str, pl.DataType]] = {
    "offset": pl.Int64(),
    "received_at": _TIME,
    "alert_id": pl.String(),
    "revision": pl.Int32(),
    "tenant": pl.String(),
    "device_id": pl.String(),
    "part": pl.String(),
    "site": pl.String(),
    "stream": pl.String(),
    "rule": pl.String(),
    "severity": pl.String(),
    "state": pl.String(),
    "title": pl.String(),
    "at": _TIME,
    "since": _TIME,
    "fired_at": _TIME,
    "acknowledged_at": _TIME,
    "resolved_at": _TIME,
    "value": pl.Float64(),
    "limit": pl.Float64(),
    "unit": pl.String(),
    "evidence": pl.String(),
    "source": pl.String(),
    "check": pl.String(),
    "inhibits": pl.String(),
    "by": pl.String(),
    "note": pl.String(),
    "resolved_by": pl.String(),
}
"""Columns of `alert_revisions`: the fields of an AlertEvent; `evidence` is JSON, `inhibits` is joined by commas."""

NO_ALERTS: Final = pl.DataFrame(schema=ALERTS_SCHEMA)

_TIMES: Final = [name for name, dtype in ALERTS_SCHEMA.items() if isinstance(dtype, pl.Datetime)]
_RAW_SCHEMA: Final = {**ALERTS_SCHEMA, **dict.fromkeys(_TIMES, pl.Int64())}


def to_rows(events: Iterable[AlertEvent]) -> pl.DataFrame:
    """Return one row of ALERTS_SCHEMA per revision, in their order."""
    rows = [_row(event) for event in events]
    if not rows:
        return NO_ALERTS
    return pl.DataFrame(rows, schema=_RAW_SCHEMA, orient="row").with_columns(pl.col(_TIMES).cast(_TIME))


def _row(event: AlertEvent) -> tuple[Any, ...]:
    return tuple(_value(event, name) for name in ALERTS_SCHEMA)


def _value(event: AlertEvent, name: str) -> Any:
    if name in _TIMES:
        return getattr(event, f"{name}_us")
    if name == "evidence":
        return msgspec.json.encode(event.evidence).decode()
    if name == "inhibits":
        return ",".join(event.inhibits)
    return getattr(event, name)


def read_alert(row: dict[str, Any]) -> AlertEvent:
    """Return the revision that a row holds.

    Args:
        row: Columns of ALERTS_SCHEMA by name, times as aware datetimes or None.
    """
    values = {
        f"{name}_us" if name in _TIMES else name: _micros(value) if name in _TIMES else value
        for name, value in row.items()
    }
    values["evidence"] = msgspec.json.decode(row["evidence"] or "{}")
    values["inhibits"] = tuple(filter(None, (row["inhibits"] or "").split(",")))
    return msgspec.convert(values, AlertEvent)


def _micros(at: datetime | None) -> int | None:
    return None if at is None else (at - _EPOCH) // timedelta(microseconds=1)
