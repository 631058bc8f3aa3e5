"""`voltgate kpi`: compute the daily figures, and show them."""

import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from dashboards.queries import history
from gateway.core.settings import Settings
from gateway.observe.run_files import write_private
from processors.contracts.model import Origin
from processors.jobs.kpi_due import KpiState, due_days
from processors.jobs.kpis import CHARGER_DAY, FLEET_DAY, HEALTH, SITE_DAY, SPEED, TRIPS, VEHICLE_DAY, run_kpis
from processors.stores import contracts_of
from voltgate.output import Exit, fail, print_json, print_rows, say

STATE: Final = "kpis.json"
"""What the last run had seen, in the data directory; removed, all days are due again."""
SPEED_UNIT: Final = "km/h"


class _View(msgspec.Struct, frozen=True):
    """What `show` prints of a table: its name, columns, order."""

    table: str
    columns: str
    order: str


_ALERTS: Final = "alerts_critical, alerts_warning"
_CHARGERS: Final = "sessions, success_rate, energy_kwh, peak_kw, connected_share, charging_share, idle_after_full_s"
_UPTIME: Final = "outage_s, excluded_s, uptime"
_VEHICLES: Final = "trips, distance_km, kwh_per_100km, regen_share, charged_kwh"
VIEWS: Final[Mapping[str, _View]] = {
    "vehicles": _View(
        VEHICLE_DAY, f"day, vehicle_id, site, {_VEHICLES}, soc_min_pct, soh_last_pct, {_ALERTS}", "vehicle_id"
    ),
    "chargers": _View(CHARGER_DAY, f"day, charger_id, port, site, {_CHARGERS}, {_UPTIME}", "charger_id, port"),
    "sites": _View(SITE_DAY, f"day, site, ports, {_CHARGERS}, {_UPTIME}, vehicles, {_VEHICLES}, {_ALERTS}", "site"),
    "fleet": _View(
        FLEET_DAY, f"day, tenant, ports, {_CHARGERS}, {_UPTIME}, vehicles, {_VEHICLES}, {_ALERTS}", "tenant"
    ),
    "trips": _View(
        TRIPS,
        "device_id, started_at, duration_s, distance_km, energy_kwh, kwh_per_100km, regen_share, soc_start_pct,"
        " soc_end_pct, speed_max_kmh, flags",
        "started_at, device_id",
    ),
    "health": _View(
        HEALTH,
        "vehicle_id, capacity_kwh, capacity_spread_kwh, estimates, slope_kwh_per_year, soh_reported_pct, last_at",
        "vehicle_id",
    ),
}


def run(settings: Settings, *, day: str | None, since: str | None, as_json: bool) -> int:
    """Compute the days given, or those that new rows in the lake are about; the processors may run meanwhile."""
    if day and since:
        fail("--day and --since are given; say one of them", Exit.USAGE)
    lake, now, streams = settings.lake_directory, datetime.now(UTC), _streams(settings)
    state = None
    if day:
        days = [_day("--day", day)]
    elif since:
        first = _day("--since", since)
        days = [first + timedelta(days=i) for i in range((now.date() - first).days + 1)]
    else:
        days, state = due_days(lake, _read_state(settings.data / STATE), now=now, streams=streams)
    begun_s = time.perf_counter()
    written = run_kpis(lake, days=days, now=now, streams=streams)
    if state is not None and lake.is_dir():
        # Only now: a run that ends early is repeated by the next one.
        write_private(settings.data / STATE, state.to_bytes())
    if as_json:
        print_json({"days": days, "rows": written})
        return Exit.OK
    print_rows(("table", "rows"), list(written.items()), as_json=False)
    shown = f"{days[0]} to {days[-1]}, {len(days)} days" if days else "no day has changed"
    say(f"{shown}, in {time.perf_counter() - begun_s:.1f} s")
    return Exit.OK


def show(settings: Settings, what: str, *, day: str | None, limit: int, as_json: bool) -> int:
    """Print the figures of a day, without one those of the newest; as JSON with all columns."""
    view = VIEWS.get(what)
    if view is None:
        fail(f"{what!r} is none of {', '.join(VIEWS)}", Exit.USAGE)
    wanted = _day("--day", day) if day else None
    lake = settings.lake_directory
    if view.table not in history.tables(lake):
        say(f"no table {view.table} yet; `voltgate kpi run` makes it once there is something to tell")
        return Exit.OK
    table = view.table
    if wanted:
        condition = f"where day = DATE '{wanted.isoformat()}'"
    else:
        condition = "" if table == HEALTH else f"where day = (select max(day) from {table})"  # noqa: S608 - constants
    columns = "* exclude (received_date)" if as_json else view.columns
    sql = f"select {columns} from {table} {condition} order by day, {view.order}"  # noqa: S608 - constants and a date
    found = history.query(lake, sql, rows_max=limit)
    print_rows(found.columns, found.rows, as_json=as_json)
    if found.truncated:
        say(f"there are more than {limit}; --limit shows more")
    return Exit.OK


def _streams(settings: Settings) -> list[str]:
    """Return the streams on which devices tell their speed."""
    return [
        contract.stream
        for contract in contracts_of(settings)
        if contract.origin == Origin.DEVICE
        and any(field.name == SPEED and field.unit_symbol == SPEED_UNIT for field in contract.fields)
    ]


def _read_state(path: Path) -> KpiState:
    return KpiState.from_bytes(path.read_bytes()) if path.exists() else KpiState()


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        fail(f"{option} {text!r} is no day; write one such as 2026-11-22, which is UTC", Exit.USAGE)
