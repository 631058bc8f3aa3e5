"""Faults of vehicles: what each does to the pack or to what is said of it, second by second. Pure.

A scenario begins at a moment, follows the vehicle through `pass_time`, changes the physics through `ailment` and what
is sent through `said`. Its courses come from what breaks, not from what rules look for.
"""

from collections.abc import Mapping
from math import exp
from typing import Final

import msgspec

from simulators.message import Reading
from simulators.moments import US_PER_S, iso
from simulators.scenarios.cells import SENSOR_MAX_C, FailingCell
from simulators.truth import FaultTruth
from simulators.vehicles.drive import Snapshot
from simulators.vehicles.physics import HEALTHY, SECONDS_PER_HOUR, Ailment, Model


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a kind of fault before it happens.

    Attributes:
        rules: Any of these alerts shows that it was noticed.
        course_s: How long it takes to develop while somebody watches.
        deadline_s: By when it has to be noticed, after the critical moment, or after its beginning where there is none.
    """

    rules: tuple[str, ...]
    course_s: float
    deadline_s: float


KINDS: Final[Mapping[str, Kind]] = {
    # Within the 5 min that occupants are given before flames (GB 38031-2025), and while a demonstration lasts.
    "thermal-runaway": Kind(rules=("battery_pack/thermal_runaway",), course_s=0.0, deadline_s=15.0),
    "thermal-runaway-slow": Kind(
        rules=("battery_pack/thermal_precursor", "battery_pack/thermal_runaway"), course_s=0.0, deadline_s=15.0
    ),
    "weak-cell": Kind(
        rules=("battery_pack/cell_voltage_deviation", "battery_pack/cell_voltage_deviation_high"),
        course_s=60.0,
        deadline_s=12 * 3_600.0,
    ),
    "isolation-loss": Kind(rules=("battery_pack/isolation",), course_s=0.0, deadline_s=60.0),
    "isolation-loss-slow": Kind(
        rules=("battery_pack/isolation_low", "battery_pack/isolation"), course_s=120.0, deadline_s=60.0
    ),
    "temperature-stuck": Kind(rules=("battery_pack/cell_temp_stuck",), course_s=0.0, deadline_s=12 * 3_600.0),
    "soc-stuck": Kind(rules=("battery_pack/soc_stuck",), course_s=0.0, deadline_s=4 * 3_600.0),
    "silent": Kind(rules=("vehicle_telemetry/silent", "battery_pack/silent"), course_s=0.0, deadline_s=1_200.0),
}
"""Kind -> what must be noticed. Source of the five minutes: GB 38031-2025, section 5.2.7."""


class VehicleFault:
    """A fault of one vehicle; by itself it changes nothing, the kinds below do.

    Args:
        kind: One of KINDS.
        device_id: Whose.
        model: Of the vehicle.
        began_us: Its first moment, UTC microseconds since 1970.
        cell: The group of cells that it is about.
        course_s: How long it takes to develop, None for the kind's own.
    """

    def __init__(
        self, *, kind: str, device_id: str, model: Model, began_us: int, cell: int, course_s: float | None = None
    ) -> None:
        self.model, self.cell = model, cell
        self.ailment: Ailment = HEALTHY
        """What is wrong inside the pack now."""
        self.truth = FaultTruth(device_id=device_id, kind=kind, began_at=iso(began_us), rules=KINDS[kind].rules)
        """As far as it is known now."""
        self._began_us, self._deadline_s = began_us, KINDS[kind].deadline_s
        self._course_s = KINDS[kind].course_s if course_s is None else course_s
        self._seen_us = began_us

    def pass_time(self, now: Snapshot, at_us: int) -> bool:
        """Develop up to a moment, given how the vehicle is then; return whether the truth has changed."""
        before, seconds = self.truth, max(at_us - self._seen_us, 0) / US_PER_S
        self._seen_us = max(at_us, self._seen_us)
        self._develop(now, (at_us - self._began_us) / US_PER_S, seconds)
        return self.truth is not before

    def said(self, channel: str, reading: Reading) -> Reading | None:
        """Return what the vehicle says instead of a reading, None for nothing."""
        return reading

    def end(self, at_us: int) -> None:
        """Note that the vehicle was taken out of service or mended."""
        self.truth = msgspec.structs.replace(self.truth, ended_at=iso(at_us))

    def _develop(self, now: Snapshot, since_s: float, seconds: float) -> None:
        """Set `ailment` and `truth` at `since_s` after the beginning, `seconds` after the last call."""
        if self.truth.deadline_at is None:
            self._set_deadline(self._began_us)

    def _set_critical(self) -> None:
        if self.truth.critical_at is None:
            self.truth = msgspec.structs.replace(self.truth, critical_at=iso(self._seen_us))
            self._set_deadline(self._seen_us)

    def _set_deadline(self, from_us: int) -> None:
        deadline_us = from_us + round(self._deadline_s * US_PER_S)
        self.truth = msgspec.structs.replace(self.truth, deadline_at=iso(deadline_us))


class ThermalRunaway(VehicleFault):
    """A cell is pierced, or shorts inside: critical when it heats by more than 1 K/s, after which nothing stops it."""

    _failing: FailingCell | None = None
    _drawn_as = 0.0

    def _develop(self, now: Snapshot, since_s: float, seconds: float) -> None:
        is_slow = self.truth.kind == "thermal-runaway-slow"
        if self._failing is None:
            self._failing = FailingCell(now.pack.temp_c)
            if not is_slow:
                self._failing.ignite(_PIERCED_C)
        heat_w = _SHORT_FIRST_W * exp(min(since_s, _SHORT_GROWS_S) / _SHORT_TIME_S) if is_slow else 0.0
        self._failing.pass_time(seconds, heat_w=heat_w, around_c=now.pack.temp_c)
        if self._failing.rate_kps >= 1.0:
            self._set_critical()
        battery = self.model.battery
        healthy_v = battery.ocv_v(now.pack.soc) / battery.cells
        short_a = heat_w * (1.0 - self._failing.collapse) / healthy_v
        self._drawn_as += short_a * seconds
        empty_v = self._drawn_as / SECONDS_PER_HOUR / battery.capacity_ah * _VOLTS_PER_SOC
        self.ailment = Ailment(
            cell=self.cell,
            rest_v=-empty_v - short_a * battery.resistance_ohm / battery.cells,
            collapse=self._failing.collapse,
            temp_c=min(self._failing.sensor_c, SENSOR_MAX_C),
        )


class WeakCell(VehicleFault):
    """A group ages before the others: it discharges itself and resists more; critical when it limits the pack."""

    def _develop(self, now: Snapshot, since_s: float, seconds: float) -> None:
        part = min(since_s / self._course_s, 1.0)
        battery = self.model.battery
        self.ailment = Ailment(
            cell=self.cell,
            rest_v=-part * _WEAK_REST_V,
            extra_ohm=part * _WEAK_TIMES * battery.resistance_ohm / battery.cells,
        )
        if part == 1.0:
            self._set_critical()


class IsolationLoss(VehicleFault):
    """Water finds a way, or a cable chafes through; critical when a touch can drive 10 mA through somebody."""

    def _develop(self, now: Snapshot, since_s: float, seconds: float) -> None:
        wet = min(since_s / self._course_s, 1.0) if self._course_s else 1.0
        self.ailment = Ailment(leak_kohm=_LEAK_END_KOHM * (_LEAK_FIRST_KOHM / _LEAK_END_KOHM) ** (1.0 - wet))
        leak_kohm = self.ailment.leak_kohm
        assert leak_kohm is not None
        if now.flows.voltage_v / leak_kohm >= _TOUCH_MA:
            self._set_critical()


class Stuck(VehicleFault):
    """A sensor's value stays what it was, whatever happens; nobody is harmed at once, but nobody is warned either."""

    _held: Reading | None = None

    def said(self, channel: str, reading: Reading) -> Reading | None:
        """Return the reading with the held values."""
        names = [name for name in _STUCK[self.truth.kind] if name in reading]
        if channel != "battery" or not names:
            return reading
        if self._held is None:
            self._held = {name: reading[name] for name in names}
        return reading | self._held


class Silent(VehicleFault):
    """The telematics unit hangs: the vehicle drives on and says nothing."""

    def said(self, channel: str, reading: Reading) -> Reading | None:
        """Return None."""
        return None


_PIERCED_C = 165.0
"""A nail's short heats a cell to its separator's end within a second."""
_SHORT_FIRST_W, _SHORT_TIME_S, _SHORT_GROWS_S = 20.0, 700.0, 1_600.0
"""A soft internal short: 0.7 ohm at first, growing e-fold every 12 min to 0.07 ohm."""
_VOLTS_PER_SOC = 0.85
"""Mean slope of the open-circuit voltage in the middle of the curve."""
_WEAK_REST_V, _WEAK_TIMES = 0.070, 3.0
"""What a workshop exchanges a module for: 70 mV at rest, four times the resistance."""
_LEAK_FIRST_KOHM, _LEAK_END_KOHM = 20_000.0, 15.0
_TOUCH_MA = 10.0
"""What IEC 60479 holds for harmless as direct current, and UN R100's 100 ohm per volt comes from."""
_STUCK: Final[Mapping[str, tuple[str, ...]]] = {
    "temperature-stuck": ("cell_temp_min_c", "cell_temp_mean_c", "cell_temp_max_c"),
    "soc-stuck": ("soc_pct",),
}
_CLASSES: Final[Mapping[str, type[VehicleFault]]] = {
    "thermal-runaway": ThermalRunaway,
    "thermal-runaway-slow": ThermalRunaway,
    "weak-cell": WeakCell,
    "isolation-loss": IsolationLoss,
    "isolation-loss-slow": IsolationLoss,
    "temperature-stuck": Stuck,
    "soc-stuck": Stuck,
    "silent": Silent,
}


def vehicle_fault(
    kind: str, *, device_id: str, model: Model, began_us: int, cell: int, course_s: float | None = None
) -> VehicleFault:
    """Return a fault of that kind; the arguments are those of `VehicleFault`."""
    return _CLASSES[kind](kind=kind, device_id=device_id, model=model, began_us=began_us, cell=cell, course_s=course_s)
