"""A vehicle drives as drivers do, and the same seed drives the same way."""

import random
from itertools import pairwise

import pytest

from simulators.vehicles.drive import CHARGE_UNTIL_SOC, HARD_BRAKING, Drive, Snapshot
from simulators.vehicles.physics import BUS, CAR, Model
from simulators.vehicles.routes import ROUTES, Route

LINES = [(BUS if "-bus-" in route.name else CAR, route) for routes in ROUTES.values() for route in routes]


def journey(model: Model, route: Route, seconds: int, *, soc: float = 0.9, seed: int = 1) -> list[Snapshot]:
    drive = Drive(model, route, random_=random.Random(seed), soc=soc, odometer_km=12.0, ambient_temp_c=10.0)
    return [drive.advance() for _ in range(seconds)]


def test_same_seed_drives_the_same_way():
    """And another seed dwells differently."""
    first, again, other = (journey(BUS, ROUTES["munich"][0], 900, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("model", "route"), LINES, ids=lambda value: value.name)
def test_driver_keeps_to_limits_and_comfort(model: Model, route: Route):
    """No faster than the highest limit, no harder on the pedals than planned with some margin."""
    snapshots = journey(model, route, 2_400)
    limit = max(point.limit_kmh for point in route.waypoints) / 3.6
    speeds = [0.0, *(now.speed_mps for now in snapshots)]
    changes = [after - before for before, after in pairwise(speeds)]
    assert max(speeds) <= limit + 1e-6
    assert max(changes) <= model.acceleration_mps2 + 1e-6
    assert min(changes) >= -HARD_BRAKING * model.braking_mps2 - 1e-6
    assert max(now.flows.wheel_kw for now in snapshots) <= model.traction_max_kw + 1e-6


@pytest.mark.parametrize(("model", "route"), LINES, ids=lambda value: value.name)
def test_vehicle_stops_at_every_stop_of_a_loop(model: Model, route: Route):
    """It stands as often as the route has stops until it is back at the depot."""
    drive = Drive(model, route, random_=random.Random(1), soc=0.9, odometer_km=0.0, ambient_temp_c=10.0)
    stood, moving = 0, False
    for _ in range(8_000):
        now = drive.advance()
        stood += moving and now.speed_mps == 0.0
        moving = now.speed_mps > 0.0
        if now.odometer_m >= route.length_m - 0.5:
            break
    assert now.odometer_m == pytest.approx(route.length_m, abs=0.5)
    assert stood == len(route.stops_m)


def test_odometer_is_the_integral_of_the_speed():
    """Trapezoids over half an hour, within the metre that the last steps to stops may differ."""
    snapshots = journey(CAR, ROUTES["rotterdam"][2], 1_800)
    speeds = [0.0, *(now.speed_mps for now in snapshots)]
    integral_m = sum((before + after) / 2 for before, after in pairwise(speeds))
    assert snapshots[-1].odometer_m - 12_000 == pytest.approx(integral_m, rel=1e-3)


def test_low_battery_is_charged_at_the_depot_and_nowhere_else():
    """Ignition off, current into the battery, until it is full enough; then it drives on."""
    route = ROUTES["munich"][1]
    snapshots = journey(BUS, route, 12_000, soc=0.26)
    charging = [now for now in snapshots if now.charging]
    depot = route.position(0.0)
    assert all(now.position.latitude_deg == pytest.approx(depot.latitude_deg) for now in charging)
    assert charging
    assert all(now.flows.current_a > 0 and not now.ignition_on and now.speed_mps == 0.0 for now in charging)
    assert charging[-1].pack.soc == pytest.approx(CHARGE_UNTIL_SOC, abs=0.001)
    assert snapshots[-1].ignition_on


def test_doors_open_only_at_a_standstill():
    """And at every stop of a bus."""
    snapshots = journey(BUS, ROUTES["gothenburg"][0], 1_800)
    assert any(now.doors_open for now in snapshots)
    assert all(now.speed_mps == 0.0 for now in snapshots if now.doors_open)
