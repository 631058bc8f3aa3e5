"""Faults of vehicles follow physics, not rules, and what must be noticed of them is written down."""

import random
from itertools import pairwise

import pytest

from simulators.message import Reading
from simulators.moments import US_PER_S, iso
from simulators.scenarios.cells import SENSOR_MAX_C, FailingCell
from simulators.scenarios.orders import VEHICLE_KINDS
from simulators.scenarios.vehicle_faults import KINDS, VehicleFault, vehicle_fault
from simulators.vehicles.drive import Drive
from simulators.vehicles.physics import BUS
from simulators.vehicles.readings import battery, character
from simulators.vehicles.routes import ROUTES

BEGAN_US = 1_790_000_000 * US_PER_S
FAULTED_S = 60
CELL = 77


def lived(
    kind: str, seconds: int, *, course_s: float | None = None, fault_at_s: int = FAULTED_S
) -> tuple[list[Reading | None], VehicleFault]:
    """What a bus says of its battery second by second; the fault begins after a minute."""
    random_ = random.Random(3)
    pack = character(BUS, random_)
    drive = Drive(BUS, ROUTES["munich"][0], random_=random_, soc=0.7, odometer_km=1.0, ambient_temp_c=12.0)
    fault = vehicle_fault(
        kind,
        device_id="bus-1",
        model=BUS,
        began_us=BEGAN_US + fault_at_s * US_PER_S,
        cell=CELL,
        course_s=course_s,
    )
    said: list[Reading | None] = []
    for second in range(seconds):
        at_us, now = BEGAN_US + second * US_PER_S, drive.advance()
        if second < fault_at_s:
            said.append(battery("bus-1", iso(at_us), BUS, pack, now))
            continue
        fault.pass_time(now, at_us)
        said.append(fault.said("battery", battery("bus-1", iso(at_us), BUS, pack, now, fault.ailment)))
    return said, fault


def numbers(said: list[Reading | None], name: str) -> list[float]:
    return [float(str(reading[name])) for reading in said if reading is not None]


def test_every_kind_that_can_be_ordered_is_known():
    """Names on command lines and courses are one list."""
    assert set(VEHICLE_KINDS) == set(KINDS)


@pytest.mark.parametrize("kind", VEHICLE_KINDS)
def test_truth_names_device_kind_begin_rules_and_deadline(kind: str):
    """A row that a judge can go by, once the critical moment is there."""
    _, fault = lived(kind, 400, course_s=100.0)
    truth = fault.truth
    assert ("bus-1", kind, iso(BEGAN_US + FAULTED_S * US_PER_S)) == (truth.device_id, truth.kind, truth.began_at)
    assert KINDS[kind].rules == truth.rules
    assert truth.ended_at is None
    if kind != "thermal-runaway-slow":  # which takes half an hour to become critical
        assert truth.deadline_at is not None
        assert truth.deadline_at > (truth.critical_at or truth.began_at)
    fault.end(BEGAN_US + 400 * US_PER_S)
    assert iso(BEGAN_US + 400 * US_PER_S) == fault.truth.ended_at


@pytest.mark.parametrize("kind", VEHICLE_KINDS)
def test_everything_stays_within_what_physics_and_sensors_allow(kind: str):
    """Voltages between 0 and 4.3 V, temperatures up to the sensor's end, energy equal to voltage times current."""
    said, _ = lived(kind, 1_500, course_s=300.0)
    for reading in said:
        if reading is None:
            continue
        low, mean, high = (float(str(reading[f"cell_voltage_{name}_v"])) for name in ("min", "mean", "max"))
        assert 0.0 <= low <= mean <= high <= 4.3
        assert mean * BUS.battery.cells == pytest.approx(float(str(reading["pack_voltage_v"])), abs=0.02)
        volts, amperes = (float(str(reading[name])) for name in ("pack_voltage_v", "pack_current_a"))
        assert volts * amperes / 1000 == pytest.approx(float(str(reading["pack_power_kw"])), abs=0.002)
        if kind != "temperature-stuck":
            temps = [float(str(reading[f"cell_temp_{name}_c"])) for name in ("min", "mean", "max")]
            assert temps == sorted(temps)
            assert temps[2] <= SENSOR_MAX_C
        assert 0.0 <= float(str(reading["isolation_kohm"])) <= 6_000.0


def test_pierced_cell_heats_by_kelvins_a_second_and_loses_its_voltage():
    """Within ten seconds: hotter by tens of kelvins, three quarters of the voltage gone, one cell of the pack less."""
    said, fault = lived("thermal-runaway", 90)
    temps, low, pack = (numbers(said, name) for name in ("cell_temp_max_c", "cell_voltage_min_v", "pack_voltage_v"))
    assert min(after - before for before, after in pairwise(temps[FAULTED_S + 1 : FAULTED_S + 10])) > 1.0
    assert low[FAULTED_S + 10] < 0.25 * low[FAULTED_S - 1]
    assert SENSOR_MAX_C == temps[-1]
    lost_v = numbers(said, "cell_voltage_max_v")[-1] * BUS.battery.cells - pack[-1]
    assert 3.0 < lost_v < 8.0
    assert fault.truth.critical_at is not None
    assert fault.truth.critical_at <= iso(BEGAN_US + (FAULTED_S + 2) * US_PER_S)


def test_internal_short_smoulders_for_long_before_it_runs_away():
    """A quarter of an hour and more of slow warming, less than the cells' spread in voltage, then the end."""
    said, fault = lived("thermal-runaway-slow", 3_600, fault_at_s=0)
    temps, low = numbers(said, "cell_temp_max_c"), numbers(said, "cell_voltage_min_v")
    assert fault.truth.critical_at is not None
    critical_s = next(s for s in range(3_600) if iso(BEGAN_US + s * US_PER_S) == fault.truth.critical_at)
    assert 900 < critical_s < 3_000
    warming_kps = [(temps[s] - temps[s - 60]) / 60 for s in range(60, critical_s - 60)]
    assert 0.01 < max(warming_kps) < 0.5
    assert low[critical_s - 60] > 3.0
    assert SENSOR_MAX_C == max(temps)


def test_cell_left_alone_cools_and_one_past_the_point_of_no_return_burns():
    """90 degC heals, 210 degC does not."""
    mild, wild = FailingCell(20.0), FailingCell(20.0)
    mild.ignite(90.0)
    wild.ignite(210.0)
    for cell in (mild, wild):
        cell.pass_time(600.0, heat_w=0.0, around_c=20.0)
    assert mild.temp_c < 90.0
    assert (0.0, True) == (mild.collapse, wild.temp_c > 500.0)


def test_weak_cell_grows_out_of_the_others_at_rest_and_further_under_load():
    """It is the lowest but while the bus brakes: then its resistance makes it the highest."""
    said, fault = lived("weak-cell", 1_200, course_s=600.0)
    mean, low = numbers(said, "cell_voltage_mean_v"), numbers(said, "cell_voltage_min_v")
    currents = numbers(said, "pack_current_a")
    late = range(FAULTED_S + 600, 1_200)
    at_rest = [mean[s] - low[s] for s in late if abs(currents[s]) < 30]
    at_load = [mean[s] - low[s] for s in late if currents[s] < -200]
    assert 0.05 < max(at_rest) < 0.1
    assert max(at_load) > 2 * max(at_rest)
    late_said = [(currents[s], said[s]) for s in late]
    assert {CELL} == {reading["cell_voltage_min_id"] for amperes, reading in late_said if reading and amperes < 0}
    assert {CELL} == {reading["cell_voltage_max_id"] for amperes, reading in late_said if reading and amperes > 200}
    assert iso(BEGAN_US + (FAULTED_S + 600) * US_PER_S) == fault.truth.critical_at


def test_isolation_falls_at_once_or_little_by_little():
    """To a value at which a touch is felt."""
    sudden, _ = lived("isolation-loss", 90)
    slow, fault = lived("isolation-loss-slow", 400, course_s=300.0)
    before, after = numbers(sudden, "isolation_kohm")[FAULTED_S - 1], numbers(sudden, "isolation_kohm")[FAULTED_S]
    assert before > 1_000 > 20 > after
    falling = numbers(slow, "isolation_kohm")[FAULTED_S:]
    assert falling == sorted(falling, reverse=True)
    assert fault.truth.critical_at is not None
    assert fault.truth.critical_at > fault.truth.began_at


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("temperature-stuck", ("cell_temp_min_c", "cell_temp_mean_c", "cell_temp_max_c")),
        ("soc-stuck", ("soc_pct",)),
    ],
)
def test_stuck_sensor_says_what_it_said_last(kind: str, names: tuple[str, ...]):
    """One value from the beginning on; everything else goes on."""
    said, _ = lived(kind, 900)
    for name in names:
        assert 1 < len(set(numbers(said[:FAULTED_S], name))) or kind == "temperature-stuck"
        assert 1 == len(set(numbers(said[FAULTED_S:], name)))
    assert len(set(numbers(said[FAULTED_S:], "pack_current_a"))) > 100


def test_silent_vehicle_says_nothing():
    """On no channel."""
    said, fault = lived("silent", 90)
    assert [None] * (90 - FAULTED_S) == said[FAULTED_S:]
    assert fault.said("telemetry", {"ts": ""}) is None
