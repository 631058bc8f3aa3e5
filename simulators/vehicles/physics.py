"""What driving costs: from a second of motion to forces, electrical power, stored energy, voltage, current and heat.

Pure. Every step returns the energy of each path, so that the sums can be checked: what leaves the battery's terminals
is wheel work + friction braking + driveline losses + auxiliaries, and what the cells lose is that + their own heat.
Sign: power and current are positive into the battery.
"""

from bisect import bisect_right
from itertools import pairwise
from math import sqrt

import msgspec

GRAVITY_MPS2 = 9.81
AIR_DENSITY_KGPM3 = 1.225
SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6
REGEN_FADE_MPS = 2.0
"""Below this speed a motor has no braking torque worth the name; friction takes over."""
REGEN_SOC_FULL, REGEN_SOC_BEGIN = 1.0, 0.95
"""Regeneration fades out between these states of charge: a full battery takes nothing."""
COMFORT_TEMP_C = 20.0

OCV_CURVE = (
    (0.00, 3.00),
    (0.05, 3.35),
    (0.10, 3.45),
    (0.20, 3.54),
    (0.30, 3.60),
    (0.40, 3.65),
    (0.50, 3.70),
    (0.60, 3.78),
    (0.70, 3.87),
    (0.80, 3.96),
    (0.90, 4.06),
    (1.00, 4.18),
)
"""State of charge and open-circuit volts of one cell, linear between points: the usual shape of NMC cells."""
_OCV_SOC = tuple(soc for soc, _ in OCV_CURVE)
_OCV_STORED = [0.0]
"""Integral of the curve up to each point, in volts."""
for (_soc_a, _volts_a), (_soc_b, _volts_b) in pairwise(OCV_CURVE):
    _OCV_STORED.append(_OCV_STORED[-1] + (_soc_b - _soc_a) * (_volts_a + _volts_b) / 2)


class Battery(msgspec.Struct, frozen=True, kw_only=True):
    """A pack of cells in series groups.

    Attributes:
        cells: Groups in series.
        capacity_ah: Charge from empty to full.
        resistance_ohm: Of the whole pack, ohmic and constant.
        heat_capacity_jpk: Of the whole pack, joules per kelvin.
        cooling_wpk: Heat given to the surroundings per kelvin, passive.
        chiller_w: Heat that active cooling removes above `chiller_on_c`.
        chiller_on_c: Where it begins.
        cell_spread_v: Largest rest voltage difference between two cells.
        charge_max_kw: Largest power into the terminals, charging or braking.
    """

    cells: int
    capacity_ah: float
    resistance_ohm: float
    heat_capacity_jpk: float
    cooling_wpk: float
    chiller_w: float
    chiller_on_c: float = 30.0
    cell_spread_v: float
    charge_max_kw: float

    def ocv_v(self, soc: float) -> float:
        """Return the open-circuit volts of the pack at `soc`, 0 .. 1."""
        i = min(max(bisect_right(_OCV_SOC, soc) - 1, 0), len(OCV_CURVE) - 2)
        (soc_a, volts_a), (soc_b, volts_b) = OCV_CURVE[i], OCV_CURVE[i + 1]
        return self.cells * (volts_a + (volts_b - volts_a) * (soc - soc_a) / (soc_b - soc_a))

    def stored_kwh(self, soc: float) -> float:
        """Return the energy in the cells above empty: the integral of the open-circuit voltage over the charge."""
        i = min(max(bisect_right(_OCV_SOC, soc) - 1, 0), len(OCV_CURVE) - 2)
        soc_a, volts_a = OCV_CURVE[i]
        volts = self.ocv_v(soc) / self.cells
        volt_soc = _OCV_STORED[i] + (soc - soc_a) * (volts_a + volts) / 2
        return self.cells * self.capacity_ah * volt_soc / 1000

    @property
    def energy_kwh(self) -> float:
        """Energy from empty to full."""
        return self.stored_kwh(1.0)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A type of vehicle.

    Attributes:
        name: `bus` or `car`.
        mass_kg: With its usual load.
        rotating: Wheels and motor count as this much more mass when accelerating.
        drag_area_m2: Drag coefficient times frontal area.
        rolling: Rolling resistance coefficient.
        driveline: Efficiency from terminals to wheels, and back.
        traction_max_kw: Largest power at the wheels.
        acceleration_mps2: What the driver asks for.
        braking_mps2: What the driver asks for.
        auxiliary_kw: Pumps, compressor, lights, computers; whenever the ignition is on.
        hvac_kwpk: Heating or cooling per kelvin away from 20 C.
        hvac_max_kw: Largest heating or cooling power.
        cabin_s: Time constant of the cabin temperature.
        battery: Its pack.
    """

    name: str
    mass_kg: float
    rotating: float
    drag_area_m2: float
    rolling: float
    driveline: float
    traction_max_kw: float
    acceleration_mps2: float
    braking_mps2: float
    auxiliary_kw: float
    hvac_kwpk: float
    hvac_max_kw: float
    cabin_s: float
    battery: Battery


BUS = Model(
    name="bus",
    mass_kg=16_200.0,
    rotating=0.05,
    drag_area_m2=5.2,
    rolling=0.0085,
    driveline=0.86,
    traction_max_kw=220.0,
    acceleration_mps2=1.0,
    braking_mps2=0.9,
    auxiliary_kw=5.0,
    hvac_kwpk=0.6,
    hvac_max_kw=22.0,
    cabin_s=900.0,
    battery=Battery(
        cells=180,
        capacity_ah=600.0,
        resistance_ohm=0.045,
        heat_capacity_jpk=2.6e6,
        cooling_wpk=40.0,
        chiller_w=6_000.0,
        cell_spread_v=0.012,
        charge_max_kw=200.0,
    ),
)
"""A 12 m city bus: 13.5 t empty, 38 passengers, 400 kWh."""

CAR = Model(
    name="car",
    mass_kg=1_900.0,
    rotating=0.04,
    drag_area_m2=0.66,
    rolling=0.0105,
    driveline=0.90,
    traction_max_kw=130.0,
    acceleration_mps2=1.7,
    braking_mps2=1.4,
    auxiliary_kw=0.5,
    hvac_kwpk=0.09,
    hvac_max_kw=4.5,
    cabin_s=400.0,
    battery=Battery(
        cells=96,
        capacity_ah=180.0,
        resistance_ohm=0.08,
        heat_capacity_jpk=0.42e6,
        cooling_wpk=12.0,
        chiller_w=2_500.0,
        cell_spread_v=0.008,
        charge_max_kw=75.0,
    ),
)
"""A compact car with 64 kWh."""


class Motion(msgspec.Struct, frozen=True, kw_only=True):
    """What one step does to the wheels.

    Attributes:
        speed_from_mps: At its beginning.
        speed_to_mps: At its end.
        distance_m: Travelled.
        climb_m: Gained in height, negative downhill.
    """

    speed_from_mps: float = 0.0
    speed_to_mps: float = 0.0
    distance_m: float = 0.0
    climb_m: float = 0.0


class PackState(msgspec.Struct, frozen=True, kw_only=True):
    """The battery at one moment.

    Attributes:
        soc: 0 .. 1.
        temp_c: Mean of the cells.
    """

    soc: float
    temp_c: float


class Ailment(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong inside a pack at one moment: one group of its cells, and the way to the chassis.

    Attributes:
        cell: The sick group, from 1; None for none.
        rest_v: Its open-circuit voltage over that of the others, <= 0.
        extra_ohm: Its resistance over that of the others, >= 0.
        collapse: Part of its voltage that is gone, 0 .. 1: 1 is a dead short.
        temp_c: At its temperature sensor, None for as warm as the others.
        leak_kohm: Path from the pack to the chassis beside the healthy insulation, None for none.
    """

    cell: int | None = None
    rest_v: float = 0.0
    extra_ohm: float = 0.0
    collapse: float = 0.0
    temp_c: float | None = None
    leak_kohm: float | None = None

    def cell_v(self, healthy_v: float, current_a: float) -> float:
        """Return the sick group's voltage, given that of a healthy one; a pole reversal is not modelled."""
        return max((healthy_v + self.rest_v + current_a * self.extra_ohm) * (1.0 - self.collapse), 0.0)

    def isolation_kohm(self, healthy_kohm: float) -> float:
        """Return what an insulation monitor measures: both paths in parallel."""
        return healthy_kohm if self.leak_kohm is None else 1 / (1 / healthy_kohm + 1 / self.leak_kohm)


HEALTHY = Ailment()


class Flows(msgspec.Struct, frozen=True, kw_only=True):
    """Mean powers of one step in kW, and the electrical quantities at its end.

    Attributes:
        wheel_kw: At the wheels, positive when driving, negative when braking, friction brakes included.
        friction_kw: Turned to heat in the brakes, >= 0.
        driveline_loss_kw: Between terminals and wheels, >= 0.
        auxiliary_kw: Auxiliaries and climate, >= 0.
        charger_kw: From a charger, >= 0.
        terminal_kw: Into the battery: charger - auxiliaries - driveline - wheels + friction.
        cell_loss_kw: Heat in the cells, >= 0.
        current_a: Into the battery.
        voltage_v: At the terminals; voltage_v * current_a = terminal_kw * 1000.
    """

    wheel_kw: float
    friction_kw: float
    driveline_loss_kw: float
    auxiliary_kw: float
    charger_kw: float
    terminal_kw: float
    cell_loss_kw: float
    current_a: float
    voltage_v: float


def wheel_kw(model: Model, motion: Motion, step_s: float) -> float:
    """Return the mean power at the wheels: inertia, drag, rolling and grade, positive when the motor has to push."""
    inertia_j = model.mass_kg * (1 + model.rotating) * (motion.speed_to_mps**2 - motion.speed_from_mps**2) / 2
    mean_mps = motion.distance_m / step_s
    drag_j = AIR_DENSITY_KGPM3 * model.drag_area_m2 * mean_mps**2 / 2 * motion.distance_m
    rolling_j = model.rolling * model.mass_kg * GRAVITY_MPS2 * motion.distance_m
    grade_j = model.mass_kg * GRAVITY_MPS2 * motion.climb_m
    return (inertia_j + drag_j + rolling_j + grade_j) / step_s / 1000


def climate_kw(model: Model, *, ambient_temp_c: float) -> float:
    """Return the power that keeps the cabin comfortable."""
    return min(abs(ambient_temp_c - COMFORT_TEMP_C) * model.hvac_kwpk, model.hvac_max_kw)


def regen_max_kw(model: Model, pack: PackState, *, speed_mps: float) -> float:
    """Return the most that braking may put into the terminals, >= 0."""
    room = (REGEN_SOC_FULL - pack.soc) / (REGEN_SOC_FULL - REGEN_SOC_BEGIN)
    moving = speed_mps / REGEN_FADE_MPS
    return model.battery.charge_max_kw * min(max(room, 0.0), 1.0) * min(moving, 1.0)


def step(
    model: Model,
    pack: PackState,
    motion: Motion,
    *,
    auxiliary_kw: float,
    ambient_temp_c: float,
    charger_kw: float = 0.0,
    step_s: float = 1.0,
) -> tuple[PackState, Flows]:
    """Return the pack after the step, and where the energy went.

    Args:
        model: The vehicle.
        pack: Before the step.
        motion: What the wheels do.
        auxiliary_kw: Everything but traction.
        ambient_temp_c: Around the vehicle.
        charger_kw: From a charger, before auxiliaries.
        step_s: Length of the step.
    """
    wheels = wheel_kw(model, motion, step_s)
    if wheels >= 0:
        friction, traction = 0.0, wheels / model.driveline
    else:
        mean_mps = (motion.speed_from_mps + motion.speed_to_mps) / 2
        recovered = min(-wheels * model.driveline, regen_max_kw(model, pack, speed_mps=mean_mps))
        friction, traction = max(-wheels - recovered / model.driveline, 0.0), -recovered
    terminal = charger_kw - auxiliary_kw - traction
    ocv_v, ohm = model.battery.ocv_v(pack.soc), model.battery.resistance_ohm
    current_a = (-ocv_v + sqrt(ocv_v**2 + 4 * ohm * terminal * 1000)) / (2 * ohm)
    loss_kw = current_a**2 * ohm / 1000
    after = PackState(
        soc=pack.soc + current_a * step_s / SECONDS_PER_HOUR / model.battery.capacity_ah,
        temp_c=pack.temp_c + _warming_k(model.battery, pack.temp_c, loss_kw, ambient_temp_c, step_s),
    )
    flows = Flows(
        wheel_kw=wheels,
        friction_kw=friction,
        driveline_loss_kw=traction - wheels - friction,
        auxiliary_kw=auxiliary_kw,
        charger_kw=charger_kw,
        terminal_kw=terminal,
        cell_loss_kw=loss_kw,
        current_a=current_a,
        voltage_v=ocv_v + current_a * ohm,
    )
    return after, flows


def _warming_k(battery: Battery, temp_c: float, loss_kw: float, ambient_temp_c: float, step_s: float) -> float:
    chilled_w = battery.chiller_w if temp_c > battery.chiller_on_c else 0.0
    heat_w = loss_kw * 1000 - battery.cooling_wpk * (temp_c - ambient_temp_c) - chilled_w
    return heat_w * step_s / battery.heat_capacity_jpk
