"""Fleets of vehicles that live for days and sometimes fail, through the chain, and what they were told of."""

import random
import time
from collections.abc import Sequence

import msgspec

from processors.contracts.load import load_contracts
from simulators.scenarios.vehicle_faults import VehicleFault, vehicle_fault
from simulators.truth import FaultTruth
from simulators.vehicles.fleet import model_and_route
from simulators.vehicles.life import DAY_S, Life, habits
from tests.quality.fault_journal import MIDNIGHT_US, US_PER_S, Alert, Journal, to_us

BLOCK_S = 1_800
FINE_BEFORE_S = 1_800
"""A vehicle that is about to fail sends every second so long before."""
AFTER_S = 900
"""So long it is still listened to after the deadline."""
LONGEST_S = 2 * 3_600
COURSE_S = {"weak-cell": 6 * 3_600.0, "isolation-loss-slow": 3 * 3_600.0}
"""How long slow faults take when nobody watches a demonstration."""
KINDS = (
    "thermal-runaway",
    "thermal-runaway-slow",
    "weak-cell",
    "isolation-loss",
    "isolation-loss-slow",
    "temperature-stuck",
    "soc-stuck",
    "silent",
)
COARSE = frozenset({"weak-cell", "isolation-loss-slow", "temperature-stuck", "soc-stuck"})
"""Faults that slow data must show as well: their vehicles keep their usual interval."""


class FleetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet to simulate.

    Attributes:
        name: In front of the vehicles' ids.
        seed: The same seed lives the same lives.
        days: How long.
        healthy: Vehicles to which nothing happens.
        faults: Kinds of faults, each for a vehicle of its own.
        sample_s: Usual interval.
        fine_share: Part of the healthy vehicles that send every second.
        hours: Between which hours of its day a fault begins, in the morning's turn of duty.
        air_c: Between which means the temperature of the air is, by vehicle.
    """

    name: str
    seed: int
    days: float
    healthy: int
    faults: tuple[str, ...]
    sample_s: int = 10
    fine_share: float = 0.1
    hours: tuple[float, float] = (7.0, 10.0)
    air_c: tuple[float, float] = (-8.0, 24.0)


class FleetResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it.

    Attributes:
        alerts: All that fired, of vehicles that still were in service.
        faults: The truth.
        holes: Holes in coverage.
        vehicle_days: Days before anything was wrong, summed over the vehicles.
        messages: Taken.
        rejected: Of those, refused: 0 unless the simulator is wrong.
        cpu_s: Simulation and chain.
    """

    alerts: list[Alert]
    faults: list[FaultTruth]
    holes: list[FaultTruth]
    vehicle_days: float
    messages: int
    rejected: int
    cpu_s: float


class _Vehicle:
    """A life, the day on which it begins, its fault, and when that begins; without one when the run ends."""

    def __init__(self, life: Life, fault: VehicleFault | None, *, born_s: int, began_s: float) -> None:
        self.life, self.fault, self.born_s, self.began_s = life, fault, born_s, began_s

    def is_over(self, second: int) -> bool:
        """Whether the vehicle has been taken out of service."""
        if self.fault is None or second < self.began_s:
            return False
        truth, now_us = self.fault.truth, MIDNIGHT_US + second * US_PER_S
        deadline = truth.deadline_at
        return deadline is not None and now_us >= to_us(deadline) + AFTER_S * US_PER_S


def run_fleet(plan: FleetPlan) -> FleetResult:
    """Simulate a fleet and process what it says."""
    cpu_s = time.process_time()
    random_ = random.Random(f"{plan.seed}/{plan.name}")
    journal = Journal(load_contracts([]))
    vehicles = [_healthy(plan, i, random_) for i in range(plan.healthy)]
    vehicles += [_failing(plan, plan.healthy + i, kind, random_) for i, kind in enumerate(plan.faults)]
    in_service = list(vehicles)
    for second in range(BLOCK_S, int(plan.days * DAY_S) + 1, BLOCK_S):
        for vehicle in in_service:
            journal.put(vehicle.life.live(second - vehicle.born_s))
        journal.run_until(MIDNIGHT_US + second * US_PER_S)
        for vehicle in [vehicle for vehicle in in_service if vehicle.is_over(second)]:
            assert vehicle.fault is not None
            vehicle.fault.end(MIDNIGHT_US + second * US_PER_S)
            in_service.remove(vehicle)
    faults = [vehicle.fault.truth for vehicle in vehicles if vehicle.fault is not None]
    ended_us = {truth.device_id: to_us(truth.ended_at) for truth in faults if truth.ended_at is not None}
    return FleetResult(
        alerts=[one for one in journal.alerts if one.fired_us < ended_us.get(one.device_id, one.fired_us + 1)],
        faults=faults,
        holes=[hole for vehicle in vehicles for hole in vehicle.life.holes],
        vehicle_days=sum(vehicle.began_s - vehicle.born_s for vehicle in vehicles) / DAY_S,
        messages=journal.messages,
        rejected=journal.rejected,
        cpu_s=time.process_time() - cpu_s,
    )


def _life(
    plan: FleetPlan,
    name: str,
    index: int,
    random_: random.Random,
    *,
    born_s: int = 0,
    fault: tuple[int, VehicleFault] | None = None,
    fine_us: Sequence[tuple[int, int]] = (),
) -> Life:
    model, route = model_and_route(name, index)
    return Life(
        name,
        model=model,
        route=route,
        habits=habits(model, random_, sample_s=plan.sample_s, mean_temp_c=random_.uniform(*plan.air_c)),
        began_us=MIDNIGHT_US + born_s * US_PER_S,
        random_=random.Random(f"{plan.seed}/{name}"),
        faults=[] if fault is None else [fault],
        fine_us=fine_us,
    )


def _healthy(plan: FleetPlan, index: int, random_: random.Random) -> _Vehicle:
    """Return a bus or a car, in turn."""
    name = f"{'car' if index % 2 else 'bus'}-{plan.name}-{index:03d}"
    is_fine = random_.random() < plan.fine_share
    fine = [(MIDNIGHT_US, MIDNIGHT_US + round(plan.days * DAY_S) * US_PER_S)] if is_fine else []
    life = _life(plan, name, index, random_, fine_us=fine)
    return _Vehicle(life, None, born_s=0, began_s=plan.days * DAY_S)


def _failing(plan: FleetPlan, index: int, kind: str, random_: random.Random) -> _Vehicle:
    """Return a bus that fails on a morning, after a healthy day where the run has more than one."""
    name = f"bus-{plan.name}-{index:03d}"
    model, _ = model_and_route(name, index)
    day = random_.randrange(1, int(plan.days)) if plan.days >= 2 else 0
    began_s = day * DAY_S + random_.uniform(*plan.hours) * 3_600
    began_us = MIDNIGHT_US + round(began_s * US_PER_S)
    fault = vehicle_fault(
        kind,
        device_id=name,
        model=model,
        began_us=began_us,
        cell=random_.randint(1, model.battery.cells),
        course_s=COURSE_S.get(kind),
    )
    born_s = max(day - 1, 0) * DAY_S
    fine = [] if kind in COARSE else [(began_us - FINE_BEFORE_S * US_PER_S, began_us + LONGEST_S * US_PER_S)]
    life = _life(plan, name, index, random_, born_s=born_s, fault=(began_us, fault), fine_us=fine)
    return _Vehicle(life, fault, born_s=born_s, began_s=began_s)
