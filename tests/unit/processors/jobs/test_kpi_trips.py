"""Trips from readings: where they begin and end, and what they add up to."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from processors.jobs.kpi_trips import READING_COLUMNS, TRIPS_SCHEMA, find_trips
from tests.recordings import twizy_files

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
Reading = tuple[float, float | None]


def readings(values: Sequence[tuple[Any, ...]], *names: str, device: str = "ev-1") -> pl.DataFrame:
    """Return readings of one vehicle: seconds after START, then the named columns."""
    rows = [
        {"tenant": "t", "device_id": device, "measured_at": START + timedelta(seconds=at_s)}
        | dict(zip(names, rest, strict=True))
        for at_s, *rest in values
    ]
    return pl.DataFrame(rows, schema=READING_COLUMNS)


def driven(*speeds: Reading) -> pl.DataFrame:
    """Return the trips of one vehicle with these speeds."""
    return find_trips(readings(speeds, "speed_kmh"), stream="s")


def every(step_s: float, from_s: float, to_s: float, speed_kmh: float) -> list[Reading]:
    """Return readings at one speed, the last one included."""
    return [(from_s + i * step_s, speed_kmh) for i in range(int((to_s - from_s) / step_s) + 1)]


def spans(trips: pl.DataFrame) -> list[tuple[float, float]]:
    """Return start and end of the trips, in seconds after START."""
    times = trips.select("started_at", "ended_at").rows()
    return [((a - START).total_seconds(), (b - START).total_seconds()) for a, b in times]


def test_trip_begins_with_moving_and_ends_where_standing_begins() -> None:
    """Standing before and after is no part of the trip."""
    trips = driven(*every(1, 0, 9, 0.0), *every(1, 10, 69, 36.0), *every(1, 70, 500, 0.5))
    assert [(10, 70)] == spans(trips)
    # 59 steps at 36 km/h, and half of the steps from and to standstill at 18 and 18.25 km/h.
    assert pytest.approx((59 * 36 + 18 + 18.25) / 3600) == trips["distance_km"].item()
    assert (60.0, 60.0, 36.0) == trips.select("duration_s", "moving_s", "speed_max_kmh").row(0)


@pytest.mark.parametrize(("standing_s", "count"), [(299, 1), (300, 2)])
def test_five_minutes_of_standing_part_two_trips(standing_s: int, count: int) -> None:
    """Shorter stops, as at lights, are part of the trip."""
    again = 10 + standing_s
    trips = driven(*every(1, 0, 9, 20.0), *every(1, 10, again - 1, 0.0), *every(1, again, again + 9, 20.0))
    assert count == trips.height


@pytest.mark.parametrize(("gap_s", "count"), [(599, 1), (600, 2)])
def test_ten_minutes_without_readings_part_two_trips(gap_s: int, count: int) -> None:
    """A shorter gap is flagged, and what was driven in it unknown."""
    trips = driven(*every(1, 0, 10, 36.0), *every(1, 10 + gap_s, 20 + gap_s, 36.0))
    assert count == trips.height
    assert pytest.approx(0.2) == trips["distance_km"].sum()
    assert {"gap,no_power" if count == 1 else "no_power"} == set(trips["flags"])


def test_gap_while_standing_parts_two_trips() -> None:
    """One reading at standstill and then nothing for ten minutes is an end, however short the known standing."""
    assert [(0, 5), (610, 611)] == spans(driven((0, 9.0), (5, 0.0), (610, 9.0), (611, 9.0)))


def test_vehicles_do_not_touch_each_other() -> None:
    """The last reading of one and the first of the next are no step, in whatever order they come."""
    one = readings(every(1, 0, 9, 30.0), "speed_kmh", device="a")
    two = readings(every(1, 10, 19, 30.0), "speed_kmh", device="b")
    together = find_trips(pl.concat([two, one]).sample(fraction=1.0, shuffle=True, seed=1), stream="s")
    apart = pl.concat([find_trips(one, stream="s"), find_trips(two, stream="s")])
    assert apart.rows() == together.rows()
    assert ["a", "b"] == together["device_id"].to_list()


def test_reversing_is_moving() -> None:
    """A negative speed counts by its amount."""
    assert pytest.approx(0.01) == driven(*every(1, 0, 9, -4.0))["distance_km"].item()


def test_odometer_that_moves_is_the_distance() -> None:
    """It knows what was driven in a gap."""
    rows = [(0, 36.0, 100.0), (10, 36.0, 100.1), (310, 36.0, 103.1), (320, 36.0, 103.2)]
    trips = find_trips(readings(rows, "speed_kmh", "odometer_km"), stream="s")
    assert (pytest.approx(3.2), "odometer") == trips.select("distance_km", "distance_source").row(0)


@pytest.mark.parametrize(
    ("odometers", "flags"),
    [
        ((100.0, 100.0, 100.0), "no_power"),
        ((100.0, 3.0, 3.1), "no_power,odometer_reset"),
        ((0.0, 52_000.0, 52_000.1), "no_power,odometer_reset"),
    ],
    ids=["frozen", "falls", "jumps"],
)
def test_odometer_that_cannot_be_right_gives_way_to_speed(odometers: tuple[float, ...], flags: str) -> None:
    """The integral of speed counts, and the trip says why."""
    rows = [(i * 10, 36.0, km) for i, km in enumerate(odometers)]
    trips = find_trips(readings(rows, "speed_kmh", "odometer_km"), stream="s")
    assert (pytest.approx(0.2), "speed", flags) == trips.select("distance_km", "distance_source", "flags").row(0)


def test_energy_is_parted_by_its_direction() -> None:
    """Power out of the battery is negative; what comes back while driving is regenerated."""
    rows = [(i, 60.0, -36.0) for i in range(101)] + [(101 + i, 60.0, 18.0) for i in range(51)]
    trip = find_trips(readings(rows, "speed_kmh", "power_kw"), stream="s").row(0, named=True)
    assert pytest.approx(100 * 36 / 3600, rel=0.01) == trip["energy_out_kwh"]
    assert pytest.approx(50 * 18 / 3600, rel=0.02) == trip["energy_in_kwh"]
    assert pytest.approx(trip["energy_out_kwh"] - trip["energy_in_kwh"]) == trip["energy_kwh"]
    assert pytest.approx(trip["energy_kwh"] / (151 / 60) * 100) == trip["kwh_per_100km"]
    assert pytest.approx(0.25, rel=0.02) == trip["regen_share"]
    assert trip["flags"] is None


def test_power_and_speed_may_come_in_messages_of_their_own() -> None:
    """Each quantity is integrated over its own readings; null ends nothing."""
    speeds = readings(every(1, 0, 100, 36.0), "speed_kmh")
    powers = readings([(i + 0.5, -36.0, 50.0 - i) for i in range(100)], "power_kw", "soc_pct")
    trip = find_trips(pl.concat([speeds, powers]), stream="s").row(0, named=True)
    assert (pytest.approx(1.0), pytest.approx(0.99)) == (trip["distance_km"], trip["energy_out_kwh"])
    assert (50.0, -49.0) == (trip["soc_start_pct"], trip["soc_end_pct"])


def test_what_is_not_measured_is_null() -> None:
    """Readings a minute apart say neither distance nor energy."""
    trip = driven(*every(60, 0, 300, 50.0)).row(0, named=True)
    unknown = ("distance_km", "distance_source", "moving_s", "energy_kwh", "kwh_per_100km", "soc_start_pct")
    assert dict.fromkeys(unknown) == {name: trip[name] for name in unknown}
    assert (300.0, "gap,no_power") == (trip["duration_s"], trip["flags"])


def test_trip_id_depends_on_vehicle_stream_and_start_only() -> None:
    """A trip that goes on keeps its name."""
    short, long = every(1, 0, 9, 20.0), every(1, 0, 30, 20.0)
    assert driven(*short)["trip_id"].item() == driven(*long)["trip_id"].item()
    other = find_trips(readings(short, "speed_kmh"), stream="other")
    assert driven(*short)["trip_id"].item() != other["trip_id"].item()


def test_no_readings_give_no_trips() -> None:
    """Nor do readings of a vehicle that stands."""
    assert pl.Schema(TRIPS_SCHEMA) == driven().schema == driven((0, 0.0), (1, None)).schema
    assert 0 == driven((0, 0.0), (1, None)).height


def twizy(file: Path) -> pl.DataFrame:
    """Return a recording as readings; rows whose time does not exist are no readings."""
    rows = []
    for row in csv.DictReader(file.read_text().splitlines()):
        try:
            at = datetime.strptime(f"{row['Date']} {row['Time']}", "%m/%d/%Y %H:%M:%S").replace(tzinfo=UTC)
        except ValueError:
            continue
        rows.append(("t", file.stem, at, float(row["Speed"]), None, float(row["Soc"]), None))
    return pl.DataFrame(rows, schema=READING_COLUMNS, orient="row")


def test_recorded_trips_have_the_distance_of_their_files() -> None:
    """Within 1 % of the integral of speed over each whole file, with the file's state of charge at the ends."""
    files = {file.stem: twizy(file) for file in twizy_files()}
    trips = find_trips(pl.concat(files.values()), stream="twizy")
    found = {name: rows["distance_km"].sum() for (name,), rows in trips.group_by("device_id")}
    expected = {}
    for name, rows in files.items():
        points = rows.select(pl.col("measured_at").dt.epoch("s"), "speed_kmh").rows()
        pairs = pairwise(points)
        expected[name] = sum((a[1] + b[1]) / 2 * (b[0] - a[0]) / 3600 for a, b in pairs)
    assert 14 == len(expected)
    assert {name: pytest.approx(km, rel=0.01, abs=0.01) for name, km in expected.items()} == found
    assert {"no_power"} >= {flag for flags in trips["flags"] for flag in flags.split(",")} - {"gap"}
