"""Sensors round, scatter and are a little off, and invent nothing."""

import random
from statistics import mean

from simulators.message import Reading
from simulators.vehicles.sensors import Sensors, sensors

READING: Reading = {
    "ts": "2026-11-22T10:00:00.000000Z",
    "pack_voltage_v": 666.666,
    "pack_current_a": -123.456,
    "pack_power_kw": -82.304,
    "soc_pct": 71.3456,
    "cell_voltage_min_v": 3.6971,
    "cell_voltage_mean_v": 3.7037,
    "cell_voltage_max_v": 3.7098,
    "cell_temp_min_c": 17.81,
    "cell_temp_mean_c": 18.42,
    "cell_temp_max_c": 19.03,
    "isolation_kohm": 2_400.0,
    "bms_state": "drive",
}
COARSE = Sensors(current_offset_a=0.5, temp_step_c=1.0, soc_step_pct=0.5)


def read(times: int) -> list[Reading]:
    random_ = random.Random(4)
    return [COARSE.read(READING, random_) for _ in range(times)]


def is_multiple(value: object, step: float) -> bool:
    assert isinstance(value, int | float)
    return abs(value / step - round(value / step)) < 1e-6


def test_values_have_the_resolution_of_the_field():
    """1 mV, 0.1 V, 0.1 A, whole degrees, half percents, whole kilo-ohms."""
    for seen in read(50):
        assert all(is_multiple(seen[f"cell_voltage_{name}_v"], 0.001) for name in ("min", "mean", "max"))
        assert all(is_multiple(seen[f"cell_temp_{name}_c"], 1.0) for name in ("min", "mean", "max"))
        assert is_multiple(seen["pack_voltage_v"], 0.1)
        assert is_multiple(seen["pack_current_a"], 0.1)
        assert is_multiple(seen["isolation_kohm"], 1.0)
        assert 71.5 == seen["soc_pct"]


def test_readings_scatter_about_the_truth():
    """Current about its offset; no two in a row need be alike."""
    seen = read(400)
    amperes = [float(str(one["pack_current_a"])) for one in seen]
    assert abs(mean(amperes) - (-123.456 + 0.5)) < 0.05
    assert 0.05 < max(amperes) - min(amperes) < 2.0
    assert len({one["isolation_kohm"] for one in seen}) > 50


def test_power_is_what_the_sensors_say_of_voltage_and_current():
    """Not what it truly was."""
    for seen in read(20):
        volts, amperes = float(str(seen["pack_voltage_v"])), float(str(seen["pack_current_a"]))
        assert round(volts * amperes / 1000, 2) == seen["pack_power_kw"]


def test_what_is_not_measured_stays():
    """Time, states, and a reading of another stream."""
    assert {"ts": READING["ts"], "bms_state": "drive"}.items() <= read(1)[0].items()
    assert {"speed_kmh": 3.25} == COARSE.read({"speed_kmh": 3.25}, random.Random(1))


def test_vehicles_have_sensors_of_their_own():
    """The same seed the same ones."""
    assert sensors(random.Random(1)) == sensors(random.Random(1))
    assert len({sensors(random.Random(seed)) for seed in range(20)}) == 20
