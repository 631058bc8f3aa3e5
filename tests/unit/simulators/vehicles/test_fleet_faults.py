"""A vehicle of a fleet fails when it was ordered to, and its truth file says so."""

import json
from pathlib import Path

from simulators.moments import US_PER_S, iso
from simulators.scenarios.orders import FaultOrder
from simulators.target import Target
from simulators.truth import TruthFile, read_faults
from simulators.vehicles.fleet import Vehicle, VehiclesConfig

BEGAN_US = 1_790_000_000 * US_PER_S
AT_S = 15


def drive(path: Path, *kinds: str, seconds: int = 40) -> list[dict[str, object]]:
    """What the battery of the first bus says, second by second."""
    orders = tuple(FaultOrder(kind=kind, device_id=None, at_s=AT_S) for kind in kinds)
    with TruthFile(path) as truth:
        vehicle = Vehicle("bus-001", 0, VehiclesConfig(target=Target()), truth, scenarios=orders)
        said: list[dict[str, object]] = []
        for second in range(seconds):
            vehicle.now_us = BEGAN_US + second * US_PER_S
            now = vehicle.drive_state.advance()
            vehicle._fail(now, float(second))
            said += [json.loads(out.payload) for out in vehicle._report(now) if out.channel == "battery"]
    return said


def test_ordered_thermal_runaway_is_plain_ten_seconds_later(tmp_path: Path):
    """Half a minute after the start of a demonstration everybody has seen it."""
    said = drive(tmp_path / "truth", "thermal-runaway")
    before, after = said[AT_S - 1], said[AT_S + 10]
    assert float(str(after["cell_temp_max_c"])) > float(str(before["cell_temp_max_c"])) + 50
    assert float(str(after["cell_voltage_min_v"])) < 0.5 * float(str(before["cell_voltage_min_v"]))


def test_fault_is_in_the_truth_from_its_first_second(tmp_path: Path):
    """With the moment it became critical and the deadline, as soon as both are known."""
    drive(tmp_path / "truth", "thermal-runaway")
    (truth,) = read_faults(tmp_path / "truth")
    assert ("bus-001", "thermal-runaway", iso(BEGAN_US + AT_S * US_PER_S)) == (
        truth.device_id,
        truth.kind,
        truth.began_at,
    )
    assert truth.critical_at is not None
    assert truth.deadline_at == iso(BEGAN_US + (AT_S + 1 + 15) * US_PER_S)


def test_silent_vehicle_has_no_readings_after_its_fault(tmp_path: Path):
    """One per second before it."""
    assert AT_S == len(drive(tmp_path / "truth", "silent"))


def test_vehicle_may_have_two_faults(tmp_path: Path):
    """A pack that leaks and a gauge that is stuck."""
    said = drive(tmp_path / "truth", "isolation-loss", "soc-stuck")
    assert float(str(said[-1]["isolation_kohm"])) < 20
    assert 1 == len({reading["soc_pct"] for reading in said[AT_S:]})
    assert ["isolation-loss", "soc-stuck"] == [truth.kind for truth in read_faults(tmp_path / "truth")]
