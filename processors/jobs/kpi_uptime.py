"""Uptime of charging ports by the formula of 23 CFR 680.116(b), from what chargers and their connections said.

Per port: `uptime = (T - (outage - excluded)) / T`, in whole seconds. T is the part of the day since the charger was
first heard, until now. Outage is the time in which the port could not charge anybody: its charger was disconnected, or
connector 0 (the charger itself) or all connectors of the port were `Faulted` or `Unavailable`. Excluded is the part of
the outage that is covered by planned maintenance. An outage without an end lasts until now.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import polars as pl

from processors.jobs.kpi_charging import PORT
from processors.jobs.kpi_trips import TIME, US_PER_S
from processors.stages.alert_orders import Order, read_orders, take_order
from processors.stages.alert_record import SilenceEvent
from processors.stages.alert_store import AlertState, AlertStore

OUT_OF_ORDER: Final = frozenset({"Faulted", "Unavailable"})
CONNECTED: Final = "connected"
DISCONNECTED: Final = "disconnected"
_CHARGER: Final = "0"
"""Connector that stands for the charger itself."""
_PLACE_LABELS: Final = frozenset({"tenant", "device", "part", "site"})
_ORDERS: Final = ("silence", "unsilence")

STATUS_COLUMNS: Final[dict[str, pl.DataType]] = {
    "tenant": pl.String(),
    "device_id": pl.String(),
    "measured_at": TIME,
    "offset": pl.Int64(),
    "record": pl.Int32(),
    "kind": pl.String(),
    "connector": pl.String(),
    "evse_id": pl.Int64(),
    "status": pl.String(),
    "generation": pl.Int64(),
}
"""What is read of `charger_status`."""

ORDER_COLUMNS: Final[dict[str, pl.DataType]] = {
    **dict.fromkeys(Order._fields, pl.String()),
    "offset": pl.Int64(),
    "record": pl.Int32(),
    "received_at": TIME,
    "starts_at_us": pl.Int64(),
    "ends_at_us": pl.Int64(),
}
"""What is read of `alert_order`."""

UPTIME_SCHEMA: Final[dict[str, pl.DataType]] = {
    **dict.fromkeys(PORT, pl.String()),
    "day": pl.Date(),
    "observed_s": pl.Int64(),
    "outage_s": pl.Int64(),
    "excluded_s": pl.Int64(),
    "uptime": pl.Float64(),
}

Span = tuple[int, int]
"""From and until (exclusive), whole seconds since 1970."""


# ---- spans -----------------------------------------------------------------------------------------------------------
def united(spans: Iterable[Span]) -> list[Span]:
    """Return the spans sorted, without overlaps and without empty ones."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif end > start:
            merged.append((start, end))
    return merged


def shared(left: Sequence[Span], right: Sequence[Span]) -> list[Span]:
    """Return what is in both; either is sorted and without overlaps, so is the result."""
    common: list[Span] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if end > start:
            common.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return common


def total_s(spans: Iterable[Span]) -> int:
    """Return how long spans without overlaps are together."""
    return sum(end - start for start, end in spans)


# ---- maintenance -----------------------------------------------------------------------------------------------------
class Maintenance(msgspec.Struct, frozen=True, kw_only=True):
    """Planned work on devices: a silence of the kind `maintenance`, and when it held.

    Attributes:
        silence: As it was ordered.
        span: When it held; one that was ended early holds until then.
    """

    silence: SilenceEvent
    span: Span

    def covers(self, *, tenant: str, device_id: str, part: str, site: str | None) -> bool:
        """Return whether it is about that port: it names the device or the site, and nothing but places."""
        named = {matcher.label for matcher in self.silence.matchers}
        if tenant != self.silence.tenant or not named <= _PLACE_LABELS or not named & {"device", "site"}:
            return False
        labels = {"tenant": tenant, "device": device_id, "part": part, "site": site or ""}
        return all(matcher.matches(labels) for matcher in self.silence.matchers)


def maintenance_of(orders: pl.DataFrame) -> list[Maintenance]:
    """Return the maintenance that operators ordered; orders that the alert life cycle refuses count for nothing.

    Args:
        orders: ORDER_COLUMNS.
    """
    store = AlertStore(AlertState.empty())
    found: dict[str, Maintenance] = {}
    wanted = orders.filter(pl.col("kind").is_in(_ORDERS)).sort("offset", "record")
    for order in read_orders(wanted):
        event = take_order(order, store)
        if not isinstance(event, SilenceEvent) or event.kind != "maintenance":
            continue
        ends_us = min(event.ends_at_us, event.received_at_us) if event.removed else event.ends_at_us
        span = event.starts_at_us // US_PER_S, ends_us // US_PER_S
        found[event.silence_id] = Maintenance(silence=event, span=span)
    return list(found.values())


# ---- outages ---------------------------------------------------------------------------------------------------------
def reduced(statuses: pl.LazyFrame, *, before: datetime) -> pl.DataFrame:
    """Return the rows that decide from `before` on: all later ones, and the last earlier one of its kind and place.

    Args:
        statuses: STATUS_COLUMNS.
        before: First moment of interest.

    Returns: STATUS_COLUMNS and `heard_at`, when a charger's row or an earlier one of its kind was measured.
    """
    known = statuses.filter(pl.col("kind").is_in(["status", CONNECTED, DISCONNECTED]))
    order = pl.struct("measured_at", "offset", "record")
    rest = [name for name in STATUS_COLUMNS if name not in {"tenant", "device_id", "kind", "connector"}]
    earlier = (
        known.filter(pl.col("measured_at") < before)
        .group_by("tenant", "device_id", "kind", "connector")
        .agg(pl.col("measured_at").min().alias("heard_at"), *(pl.col(name).sort_by(order).last() for name in rest))
    )
    later = known.filter(pl.col("measured_at") >= before).with_columns(pl.col("measured_at").alias("heard_at"))
    columns = [*STATUS_COLUMNS, "heard_at"]
    return pl.concat([earlier.select(columns), later.select(columns)]).collect()


class _Row(NamedTuple):
    at_s: int
    kind: str
    connector: str | None
    evse_id: int | None
    status: str | None
    generation: int | None


class _Charger:
    """When a charger and its connectors were out of order."""

    def __init__(self, rows: Iterable[_Row], until_s: int) -> None:
        self._until_s = until_s
        self._open: dict[str, int] = {}
        self._spans: dict[str, list[Span]] = {}
        self.ports: dict[str, set[str]] = {}
        generation = -1
        for row in rows:
            if row.kind == CONNECTED:
                generation = max(generation, row.generation if row.generation is not None else generation)
                self._set("link", row.at_s, is_out=False)
            elif row.kind == DISCONNECTED:
                # A connection that was replaced may be noticed to be gone after the new one came.
                if row.generation is None or row.generation >= generation:
                    self._set("link", row.at_s, is_out=True)
            elif row.connector is not None and row.status is not None:
                if row.connector != _CHARGER:
                    port = row.connector if row.evse_id is None else str(row.evse_id)
                    self.ports.setdefault(port, set()).add(row.connector)
                self._set(f"plug {row.connector}", row.at_s, is_out=row.status in OUT_OF_ORDER)

    def _set(self, what: str, at_s: int, *, is_out: bool) -> None:
        if is_out:
            self._open.setdefault(what, at_s)
        elif (start_s := self._open.pop(what, None)) is not None:
            self._spans.setdefault(what, []).append((start_s, at_s))

    def _out(self, what: str) -> list[Span]:
        opened = [(self._open[what], self._until_s)] if what in self._open else []
        return united([*self._spans.get(what, ()), *opened])

    def outage(self, port: str) -> list[Span]:
        """Return when nobody could charge at the port."""
        plugs = [self._out(f"plug {connector}") for connector in sorted(self.ports.get(port, ()))]
        of_port = plugs[0] if plugs else []
        for plug in plugs[1:]:
            of_port = shared(of_port, plug)
        return united([*self._out("link"), *self._out(f"plug {_CHARGER}"), *of_port])


def uptime_by_port(
    statuses: pl.DataFrame,
    *,
    ports: pl.DataFrame,
    maintenance: Sequence[Maintenance],
    sites: Mapping[tuple[str, str], str],
    days: Sequence[date],
    now: datetime,
) -> pl.DataFrame:
    """Return how long each port was up on the days.

    Args:
        statuses: As `reduced` returns them, from the first of the days on.
        ports: PORT of ports known otherwise, as from sessions; with a null port they are left out.
        maintenance: Planned work.
        sites: (tenant, charger) -> where it stands.
        days: UTC days; those after `now` give no rows.
        now: Up to when is known.

    Returns: UPTIME_SCHEMA; a charger that said nothing by the end of a day has no seconds observed and no uptime.
    """
    now_s = _epoch_s(now)
    named: dict[tuple[str, str], set[str]] = {}
    for tenant, charger_id, port in ports.filter(pl.col("port").is_not_null()).select(PORT).iter_rows():
        named.setdefault((tenant, charger_id), set()).add(port)
    heard = {
        (tenant, device_id): rows.sort("measured_at", "offset", "record")
        for (tenant, device_id), rows in statuses.group_by("tenant", "device_id")
    }
    found: list[tuple[Any, ...]] = []
    for key in sorted(named.keys() | heard.keys()):
        rows = heard.get(key)
        charger = _Charger(_rows(rows) if rows is not None else (), now_s)
        first = None if rows is None else rows["heard_at"].min()
        heard_s = now_s if not isinstance(first, datetime) else _epoch_s(first)
        for port in sorted(charger.ports.keys() | named.get(key, set())):
            about = [
                one.span
                for one in maintenance
                if any(
                    one.covers(tenant=key[0], device_id=key[1], part=part, site=sites.get(key))
                    for part in charger.ports.get(port, {port})
                )
            ]
            outage, planned = charger.outage(port), united(about)
            found += [(*key, port, day, *_figures(outage, planned, day, heard_s, now_s)) for day in sorted(set(days))
                      if _day_start_s(day) < now_s]  # fmt: skip
    return pl.DataFrame(found, schema=UPTIME_SCHEMA, orient="row")


def _figures(
    outage: Sequence[Span], planned: Sequence[Span], day: date, heard_s: int, now_s: int
) -> tuple[int, int, int, float | None]:
    """Return T, outage and excluded seconds of the day, and the uptime."""
    start_s = _day_start_s(day)
    observed = united([(max(start_s, heard_s), min(start_s + 86_400, now_s))])
    out = shared(outage, observed)
    period_s, outage_s, excluded_s = total_s(observed), total_s(out), total_s(shared(out, planned))
    return period_s, outage_s, excluded_s, (period_s - (outage_s - excluded_s)) / period_s if period_s else None


def _rows(frame: pl.DataFrame) -> Iterable[_Row]:
    at_s = (pl.col("measured_at").dt.epoch("us") // US_PER_S).alias("at_s")
    return map(_Row._make, frame.select(at_s, *_Row._fields[1:]).iter_rows())


def _epoch_s(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


def _day_start_s(day: date) -> int:
    return _epoch_s(datetime.combine(day, time(tzinfo=UTC)))
