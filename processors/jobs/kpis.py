"""The daily job that turns readings, sessions and alerts in the lake into the KPI tables.

Works on whole UTC days of event time, and replaces exactly the days it is asked for: running it twice changes nothing,
running it after late data mends their days. Reads no clock; what a figure means is in the modules `kpi_*`.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

import polars as pl
from polars.lazyframe.group_by import LazyGroupBy

from processors.jobs.kpi_charging import PORT, SESSION_COLUMNS, charging_by_port, newest_sessions
from processors.jobs.kpi_health import battery_health
from processors.jobs.kpi_lake import drop_replaced, has_column, replace_days, scan
from processors.jobs.kpi_rollups import charger_days, fleet_days, site_days, vehicle_days
from processors.jobs.kpi_trips import MOVING_KMH, READING_COLUMNS, TIME, TRIPS_SCHEMA, find_trips
from processors.jobs.kpi_uptime import ORDER_COLUMNS, STATUS_COLUMNS, maintenance_of, reduced, uptime_by_port

TRIPS: Final = "trips"
VEHICLE_DAY: Final = "kpi_vehicle_day"
CHARGER_DAY: Final = "kpi_charger_day"
SITE_DAY: Final = "kpi_site_day"
FLEET_DAY: Final = "kpi_fleet_day"
HEALTH: Final = "battery_health"
KPI_TABLES: Final = (TRIPS, VEHICLE_DAY, CHARGER_DAY, SITE_DAY, FLEET_DAY, HEALTH)

TELEMETRY: Final = "vehicle_telemetry"
BATTERY: Final = "battery_pack"
SESSIONS: Final = "charging_session_revisions"
STATUSES: Final = "charger_status"
ORDERS: Final = "alert_order"
ALERTS: Final = "alert_revisions"
ASSETS: Final = "asset"
SPEED: Final = "speed_kmh"
"""What a stream must have for trips."""

DAY: Final = timedelta(days=1)
MARGIN: Final = timedelta(hours=12)
"""Readings around a day that are looked at: a trip across midnight is whole if it is on either side no longer."""
SESSION_MARGIN: Final = timedelta(days=31)
"""A session goes on no longer than this without being flagged; one that had a row since then is seen."""
BLOCK_DAYS: Final = 31
"""Days computed before they are written: bounds memory and what a crash repeats."""
BLOCK_GAP: Final = timedelta(days=7)
"""Days further apart than this are read on their own, not with all that lies between them."""
READINGS_MAX: Final = 1_000_000
"""Readings held at once, about 80 bytes each and as much again for what is made of them."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VEHICLE_KEY: Final = ("day", "tenant", "vehicle_id")


def run_kpis(lake: Path, *, days: Sequence[date], now: datetime, streams: Sequence[str] = ()) -> dict[str, int]:
    """Compute the days and put them in place of what the KPI tables held for them. Safe to repeat and to interrupt.

    Args:
        lake: Directory of the tables.
        days: UTC days of event time; those that have not begun at `now` are left out.
        now: Up to when outages last and today is counted.
        streams: Streams beside `vehicle_telemetry` with vehicles; those without speed are left out.

    Returns: Rows written, by table.
    Raises: SinkError: The store refused, or another run wrote meanwhile; what was written is whole days.
    """
    wanted = sorted({day for day in days if day <= now.date()})
    moving = [name for name in dict.fromkeys((TELEMETRY, *streams)) if has_column(lake, name, SPEED)]
    written = dict.fromkeys(KPI_TABLES, 0)
    if not wanted:
        return written
    for block in _blocks(wanted):
        for table, frame in _compute(lake, block, now, moving).items():
            written[table] += replace_days(lake, table, frame, block)
    health = _battery_health(lake)
    written[HEALTH] = replace_days(lake, HEALTH, health, None)
    drop_replaced(lake, KPI_TABLES)
    return written


def _blocks(days: Sequence[date]) -> Iterator[list[date]]:
    """Yield sorted days in blocks that are near enough together to be read at once."""
    block: list[date] = []
    for day in days:
        if block and (len(block) == BLOCK_DAYS or day - block[-1] > BLOCK_GAP):
            yield block
            block = []
        block.append(day)
    yield block


def _compute(lake: Path, days: Sequence[date], now: datetime, streams: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Return the tables' rows of these days."""
    begin, end = day_start(days[0]), day_start(days[-1]) + DAY
    sites = _sites(lake)
    sessions = newest_sessions(scan(lake, SESSIONS, SESSION_COLUMNS, received_from=days[0] - SESSION_MARGIN))
    trips = pl.concat([pl.DataFrame(schema=TRIPS_SCHEMA), *_trips(lake, days, streams)])
    vehicles = vehicle_days(
        trips,
        sessions=sessions,
        charge=_charge(lake, days, streams),
        health=_reported_health(lake, days),
        alerts=_alerts(lake, [*streams, TELEMETRY, BATTERY]),
        sites=sites,
        days=days,
    )
    uptime = uptime_by_port(
        reduced(scan(lake, STATUSES, STATUS_COLUMNS, measured=(_EPOCH, end)), before=begin),
        ports=sessions.filter(pl.col("started_at") < end, pl.col("until") >= begin).select(PORT).unique(),
        maintenance=maintenance_of(scan(lake, ORDERS, ORDER_COLUMNS).collect()),
        sites={(tenant, device_id): site for tenant, device_id, site in sites.iter_rows()},
        days=days,
        now=now,
    )
    chargers = charger_days(charging_by_port(sessions, days=days), uptime, sites)
    return {
        TRIPS: trips,
        VEHICLE_DAY: vehicles,
        CHARGER_DAY: chargers,
        SITE_DAY: site_days(chargers, vehicles),
        FLEET_DAY: fleet_days(chargers, vehicles),
    }


def _trips(lake: Path, days: Sequence[date], streams: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield the trips that begin on the days, of a bounded number of vehicles at a time."""
    for stream in streams:
        counts = _of_days(lake, stream, days, SPEED).agg(pl.len().alias("n"), pl.col(SPEED).abs().max())
        # Most vehicles stand on some days; a trip begins with moving, so those need no reading at all.
        moved = counts.filter(pl.col(SPEED) > MOVING_KMH).sort(_VEHICLE_KEY).collect(engine="streaming")
        for (day,), of_day in moved.group_by("day", maintain_order=True):
            assert isinstance(day, date), "days are dates"
            begin = day_start(day) - MARGIN
            rows = scan(
                lake,
                stream,
                READING_COLUMNS,
                received_from=begin.date() - DAY,
                measured=(begin, day_start(day) + DAY + MARGIN),
            )
            for vehicles in _groups(of_day):
                readings = rows.join(vehicles.lazy(), on=["tenant", "device_id"], how="semi").collect()
                yield find_trips(readings, stream=stream).filter(pl.col("day") == day)


def _groups(counts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the vehicles of a day in groups of about READINGS_MAX readings, the margins included."""
    group = (2 * pl.col("n").cum_sum() // READINGS_MAX).alias("group")
    for _, of_group in counts.with_columns(group).group_by("group", maintain_order=True):
        yield of_group.select("tenant", pl.col("vehicle_id").alias("device_id"))


def _charge(lake: Path, days: Sequence[date], streams: Sequence[str]) -> pl.DataFrame:
    soc = pl.col("soc_pct")
    parts = [
        _of_days(lake, stream, days, "soc_pct").agg(soc.min().alias("soc_min_pct"), soc.max().alias("soc_max_pct"))
        for stream in dict.fromkeys((*streams, BATTERY))
    ]
    found = pl.concat(pl.collect_all(parts, engine="streaming"))
    return found.group_by(_VEHICLE_KEY).agg(pl.col("soc_min_pct").min(), pl.col("soc_max_pct").max())


def _reported_health(lake: Path, days: Sequence[date]) -> pl.DataFrame:
    newest = pl.col("soh_pct").sort_by("measured_at").last().alias("soh_last_pct")
    return _of_days(lake, BATTERY, days, "soh_pct").agg(newest).collect(engine="streaming")


def _of_days(lake: Path, stream: str, days: Sequence[date], name: str) -> LazyGroupBy:
    """Return the readings of the days that have a value, by day and vehicle."""
    rows = scan(
        lake,
        stream,
        {"tenant": pl.String(), "device_id": pl.String(), "measured_at": TIME, name: pl.Float64()},
        received_from=days[0] - DAY,
        measured=(day_start(days[0]), day_start(days[-1]) + DAY),
    )
    day = pl.col("measured_at").dt.date()
    return rows.filter(pl.col(name).is_not_null(), day.is_in(list(days))).group_by(
        day.alias("day"), "tenant", pl.col("device_id").alias("vehicle_id")
    )


def _alerts(lake: Path, streams: Sequence[str]) -> pl.DataFrame:
    """Return the alerts of vehicles, each once, on the day it fired."""
    columns = {
        **dict.fromkeys(("alert_id", "tenant", "device_id", "stream", "severity"), pl.String()),
        "revision": pl.Int32(),
        "fired_at": TIME,
    }
    newest = scan(lake, ALERTS, columns).sort("revision").group_by("alert_id").last()
    return (
        newest.filter(pl.col("stream").is_in(list(streams)))
        .select(
            pl.col("fired_at").dt.date().alias("day"), "tenant", pl.col("device_id").alias("vehicle_id"), "severity"
        )
        .collect()
    )


def _sites(lake: Path) -> pl.DataFrame:
    """Return where devices are, by the newest fact: tenant, device_id, site."""
    columns = {
        **dict.fromkeys(("tenant", "device_id", "site"), pl.String()),
        "offset": pl.Int64(),
        "record": pl.Int32(),
    }
    said = scan(lake, ASSETS, columns).filter(pl.col("site").is_not_null(), pl.col("site") != "")
    return said.sort("offset", "record").group_by("tenant", "device_id").agg(pl.col("site").last()).collect()


def _battery_health(lake: Path) -> pl.DataFrame:
    columns = {"tenant": pl.String(), "vehicle_id": pl.String(), "day": pl.Date(), "soh_last_pct": pl.Float64()}
    return battery_health(
        newest_sessions(scan(lake, SESSIONS, SESSION_COLUMNS)), scan(lake, VEHICLE_DAY, columns).collect()
    )


def day_start(day: date) -> datetime:
    """Return the first moment of a UTC day."""
    return datetime.combine(day, time(tzinfo=UTC))
