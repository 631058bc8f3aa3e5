"""Charging per port and day, and battery health, from sessions with known answers."""

import csv
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from processors.jobs.kpi_charging import SESSION_COLUMNS, charging_by_port, newest_sessions
from processors.jobs.kpi_health import battery_health, capacity_estimates
from tests.recordings import desl_sessions

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REPORTED = {"tenant": pl.String(), "vehicle_id": pl.String(), "day": pl.Date(), "soh_last_pct": pl.Float64()}


def session(number: int = 1, *, start: datetime = NOON, minutes: float = 60, **values: Any) -> dict[str, Any]:
    """Return a completed session of 10 kWh."""
    return {
        "session_id": f"s{number}",
        "revision": 1,
        "tenant": "t",
        "charger_id": "cp",
        "connector": "1",
        "status": "completed",
        "started_at": start,
        "ended_at": start + timedelta(minutes=minutes),
        "energy_wh": 10_000.0,
        "stop_reason": "Local",
    } | values


def sessions(*rows: dict[str, Any]) -> pl.DataFrame:
    """Return the newest revisions of these rows."""
    return newest_sessions(pl.LazyFrame(rows, schema=SESSION_COLUMNS))


def by_port(*rows: dict[str, Any], days: int = 1) -> list[dict[str, Any]]:
    """Return what the ports did from DAY on."""
    return charging_by_port(sessions(*rows), days=[DAY + timedelta(days=i) for i in range(days)]).to_dicts()


def test_newest_revision_counts_and_a_merged_session_does_not() -> None:
    """A session is told of many times and is one."""
    rows = by_port(
        session(1, revision=2, energy_wh=7_000.0),
        session(1, revision=1, energy_wh=1_000.0),
        session(2, flags="late_stop,merged"),
    )
    assert [(1, 7.0)] == [(row["sessions"], row["energy_kwh"]) for row in rows]


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ({}, (1, 1, 1)),
        ({"energy_wh": 99.9}, (1, 1, 0)),
        ({"energy_wh": None}, (1, 1, 0)),
        ({"stop_reason": None}, (1, 1, 1)),
        ({"stop_reason": "EmergencyStop"}, (1, 1, 0)),
        ({"status": "abandoned"}, (1, 1, 0)),
        ({"status": "active", "ended_at": None}, (1, 0, 0)),
        ({"status": "orphan"}, (0, 0, 0)),
    ],
    ids=["good", "too-little", "unknown-energy", "no-reason", "emergency", "abandoned", "active", "orphan"],
)
def test_success_is_completed_with_energy_and_no_abnormal_stop(values: dict[str, Any], counts: tuple[int, ...]) -> None:
    """Sessions, those that are over, those that succeeded."""
    row = by_port(session(**values))[0]
    assert counts == (row["sessions"], row["ended"], row["succeeded"])


def test_session_across_midnight_splits_its_time_and_nothing_else() -> None:
    """22:00 to 02:00 with an hour of idling at the end: three hours of charging, two before midnight."""
    start = NOON + timedelta(hours=10)
    rows = by_port(
        session(start=start, minutes=240, charging_s=9_000.0, idle_after_full_s=3600.0, peak_power_kw=22.0), days=2
    )
    figures = ("sessions", "energy_kwh", "peak_kw", "connected_s", "charging_s", "idle_after_full_s")
    assert [
        (1, 10.0, 22.0, 7200.0, pytest.approx(6_000.0), 0.0),
        (0, None, None, 7200.0, pytest.approx(3_000.0), 3600.0),
    ] == [tuple(row[name] for name in figures) for row in rows]


def test_overlapping_sessions_connect_a_port_once() -> None:
    """A port cannot be connected for longer than it is."""
    later = NOON + timedelta(minutes=30)
    inner = NOON + timedelta(minutes=40)
    rows = by_port(session(1), session(2, start=later), session(3, start=inner, minutes=5))
    assert [(3, 5400.0)] == [(row["sessions"], row["connected_s"]) for row in rows]


def test_ports_are_evses_where_there_are_any() -> None:
    """Two connectors of one EVSE charge one vehicle at a time."""
    rows = by_port(
        session(1, connector="2/1", evse_id=2), session(2, connector="2/2", evse_id=2), session(3, connector="1")
    )
    assert [("1", 1), ("2", 2)] == [(row["port"], row["sessions"]) for row in rows]


def test_unknown_figures_are_null() -> None:
    """A session that told neither charging time nor energy adds no zeros."""
    row = by_port(session(energy_wh=None))[0]
    assert (None, None, None) == (row["energy_kwh"], row["charging_s"], row["idle_after_full_s"])


def test_two_years_of_recorded_sessions_add_up() -> None:
    """Energy, count and peak equal the file; time is the seconds in which a plug was taken, day by day."""
    rows, taken, energy_wh = [], defaultdict(list), 0.0
    with desl_sessions().open(newline="") as lines:
        for row in csv.DictReader(lines):
            start, end = (datetime.fromisoformat(row[name]).replace(tzinfo=UTC) for name in ("Arrival", "Departure"))
            minutes = (end - start).total_seconds() / 60
            values = {"connector": row["CCS"], "energy_wh": float(row["Energy (Wh)"]), "idle_after_full_s": 60.0}
            peak_kw = float(row["Pmax (W)"]) / 1000
            rows.append(session(int(row["Session"]), start=start, minutes=minutes, peak_power_kw=peak_kw, **values))
            taken[row["CCS"]].append((start, end))
            energy_wh += float(row["Energy (Wh)"])
    days = sorted({(start + timedelta(days=i)).date() for row in rows for start in [row["started_at"]] for i in (0, 1)})
    found = charging_by_port(sessions(*rows), days=days)
    assert 1_878 == len(rows) == found["sessions"].sum()
    assert pytest.approx(energy_wh / 1000) == found["energy_kwh"].sum()
    assert max(row["peak_power_kw"] for row in rows) == found["peak_kw"].max()
    assert pytest.approx(60.0 * len(rows)) == found["idle_after_full_s"].sum()
    for port, spans in taken.items():
        minutes_taken = {
            start + timedelta(minutes=i) for start, end in spans for i in range((end - start).seconds // 60)
        }
        by_day: dict[date, int] = defaultdict(int)
        for minute in minutes_taken:
            by_day[minute.date()] += 60
        of_port = found.filter(pl.col("port") == port, pl.col("connected_s") > 0)
        assert dict(by_day) == dict(of_port.select("day", pl.col("connected_s").round().cast(pl.Int64)).iter_rows())


# ---- battery health --------------------------------------------------------------------------------------------------
def charge(number: int, capacity_kwh: float, soc: tuple[float, float], day: int = 0) -> dict[str, Any]:
    """Return a session in which a battery of that capacity was filled."""
    return session(
        number,
        start=NOON + timedelta(days=day),
        vehicle_id="ev",
        vehicle_energy_wh=capacity_kwh * 1000 * (soc[1] - soc[0]) / 100,
        vehicle_soc_start_pct=soc[0],
        vehicle_soc_end_pct=soc[1],
    )


def health(*rows: dict[str, Any]) -> dict[str, Any]:
    """Return the health of the one vehicle."""
    return battery_health(sessions(*rows), pl.DataFrame(schema=REPORTED)).row(0, named=True)


def test_capacity_is_recovered_from_rough_partial_charges() -> None:
    """States of charge in whole points, one wrong session in ten, ageing by 2 kWh a year: capacity within 1 %."""
    rows = []
    for i in range(100):
        start, rise = 10 + i * 7 % 40, 25 + i * 11 % 30
        capacity_kwh = 300.0 - 2.0 * i * 7 / 365.25
        energy_kwh = capacity_kwh * (rise + (i * 37 % 100 - 50) / 100) / 100
        row = charge(i, 1.0, (float(start), float(start + rise)), day=i * 7)
        rows.append(row | {"vehicle_energy_wh": energy_kwh * 1000 * (0.3 if i % 10 == 3 else 1)})
    found = health(*rows)
    assert 100 == found["estimates"]
    assert pytest.approx(300.0 - 2.0 * 350 / 365.25, rel=0.01) == found["capacity_kwh"]
    assert pytest.approx(-2.0, abs=0.5) == found["slope_kwh_per_year"]
    assert 0 < found["capacity_spread_kwh"] < 10


def test_small_charges_say_nothing_of_capacity() -> None:
    """Nor does a session whose vehicle, energy or end nobody knows."""
    assert 0 == capacity_estimates(sessions(charge(1, 300, (50, 69.9)))).height
    good = charge(1, 300, (50, 70))
    for wrong in (
        {"vehicle_id": None},
        {"vehicle_energy_wh": None},
        {"vehicle_soc_end_pct": None},
        {"status": "active"},
    ):
        assert 0 == capacity_estimates(sessions(good | wrong)).height
    assert [pytest.approx(300.0)] == capacity_estimates(sessions(good))["capacity_kwh"].to_list()


def test_slope_needs_days_apart() -> None:
    """Three days in a week tell no age."""
    assert health(*(charge(i, 300 - i, (20, 80), day=i) for i in range(5)))["slope_kwh_per_year"] is None
    assert (
        pytest.approx(-36.525)
        == health(*(charge(i, 300 - i, (20, 80), day=10 * i) for i in range(5)))["slope_kwh_per_year"]
    )


def test_newest_reported_health_stands_beside_the_estimates() -> None:
    """A vehicle that never charged here is in the table with what it says itself."""
    reported = pl.DataFrame(
        [("t", "ev", DAY, 97.0), ("t", "ev", DAY + timedelta(days=1), None), ("t", "other", DAY, 88.0)],
        schema=REPORTED,
        orient="row",
    )
    table = battery_health(sessions(charge(1, 300, (20, 80))), reported)
    assert [("ev", 1, 97.0), ("other", 0, 88.0)] == table.select("vehicle_id", "estimates", "soh_reported_pct").rows()
