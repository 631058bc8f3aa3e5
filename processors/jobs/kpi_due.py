"""Which UTC days the KPI job must compute again: those that new rows of the lake are about.

Rows are new by their offset, so late data, a replay or a changed clock miss no day and find none twice.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from gateway.core.errors import CheckpointError
from processors.jobs.kpi_lake import has_column, is_table, scan
from processors.jobs.kpi_trips import TIME
from processors.jobs.kpis import ALERTS, BATTERY, DAY, MARGIN, ORDERS, SESSIONS, SPEED, STATUSES, TELEMETRY

SPAN_DAYS_MAX: Final = 400
"""Most days that one row makes due, the newest ones: a late state of a charger may change every day after it, and a
device whose clock was never set begins in 1970."""
_ROW: Final[dict[str, pl.DataType]] = {"offset": pl.Int64(), "received_at": TIME}


class KpiState(msgspec.Struct, frozen=True, kw_only=True):
    """What the last run had seen.

    Attributes:
        offsets: Table -> highest offset of its rows.
        received: Table -> latest UTC day on which they were received.
        ran_at: Its `now`; the day was not over then.
    """

    offsets: Mapping[str, int] = {}
    received: Mapping[str, date] = {}
    ran_at: datetime | None = None

    def to_bytes(self) -> bytes:
        """Return the state as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, payload: bytes) -> "KpiState":
        """Invert `to_bytes`.

        Raises:
            CheckpointError: If the bytes are no such state.
        """
        try:
            return msgspec.json.decode(payload, type=cls)
        except msgspec.DecodeError as exc:
            raise CheckpointError(
                f"state of the KPI job is unreadable: {exc}; remove it, and all days are due"
            ) from exc


def due_days(lake: Path, state: KpiState, *, now: datetime, streams: Sequence[str] = ()) -> tuple[list[date], KpiState]:
    """Return the days to compute, sorted, and the state to keep once they are computed.

    Args:
        lake: Directory of the tables.
        state: What the last run had seen; `KpiState()` for none, then all days that have rows are due.
        now: The time; later days are not due.
        streams: As in `run_kpis`.
    """
    today = now.date()
    offsets, received = dict(state.offsets), dict(state.received)
    due: set[date] = set() if state.ran_at is None else set(_span(state.ran_at.date(), today))
    moving = [name for name in dict.fromkeys((TELEMETRY, *streams)) if has_column(lake, name, SPEED)]
    for table in dict.fromkeys((*moving, BATTERY, SESSIONS, STATUSES, ALERTS, ORDERS)):
        if not is_table(lake, table):
            continue
        first, last = _touched(table, is_moving=table in moving, now=now)
        newest = scan(lake, table, _ROW).select(pl.col("offset").max()).collect().item()
        # A lake that was made anew from the journal begins at 0 again.
        seen = state.offsets.get(table, -1) if newest is not None and newest >= state.offsets.get(table, -1) else -1
        since = state.received.get(table) if seen >= 0 else None
        columns = {**_ROW, **_COLUMNS.get(table, {"measured_at": TIME})}
        new = scan(lake, table, columns, received_from=None if since is None else since - DAY).filter(
            pl.col("offset") > seen
        )
        spans = new.select(first.dt.date().alias("first"), last.dt.date().alias("last")).unique()
        marks = new.select(pl.col("offset").max(), pl.col("received_at").max().dt.date().alias("received"))
        found, mark = pl.collect_all([spans, marks], engine="streaming")
        for begin, end in found.drop_nulls().iter_rows():
            due.update(_span(begin, min(end, today)))
        if mark.item(0, "offset") is not None:
            offsets[table], received[table] = mark.item(0, "offset"), mark.item(0, "received")
    return sorted(due), KpiState(offsets=offsets, received=received, ran_at=now)


_COLUMNS: Final[dict[str, dict[str, pl.DataType]]] = {
    SESSIONS: {"started_at": TIME, "ended_at": TIME, "last_event_at": TIME},
    ALERTS: {"fired_at": TIME},
    ORDERS: {"starts_at_us": pl.Int64(), "ends_at_us": pl.Int64()},
}


def _touched(table: str, *, is_moving: bool, now: datetime) -> tuple[pl.Expr, pl.Expr]:
    """Return the first and the last moment that a row of the table may change."""
    at = pl.col("measured_at")
    if is_moving:
        # A trip across midnight belongs to the day it began.
        return at - MARGIN, at + MARGIN
    if table == SESSIONS:
        return pl.col("started_at"), pl.max_horizontal("started_at", pl.coalesce("ended_at", "last_event_at"))
    if table == ALERTS:
        return pl.col("fired_at"), pl.col("fired_at")
    if table == STATUSES:
        return at, pl.lit(now)
    if table == ORDERS:
        starts, ends = (_moment(name) for name in ("starts_at_us", "ends_at_us"))
        return pl.min_horizontal("received_at", starts), pl.coalesce(ends, pl.lit(now))
    return at, at


def _moment(name: str) -> pl.Expr:
    return pl.from_epoch(name, "us").dt.replace_time_zone("UTC")


def _span(first: date, last: date) -> list[date]:
    count = min((last - first).days + 1, SPAN_DAYS_MAX)
    return [last - timedelta(days=i) for i in range(count)]
