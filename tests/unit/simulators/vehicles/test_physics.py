"""The physics add up."""

import random
from itertools import pairwise
from math import sqrt

import pytest

from simulators.vehicles.drive import Drive, Snapshot
from simulators.vehicles.physics import BUS, CAR, JOULES_PER_KWH, Model, Motion, PackState, step, wheel_kw
from simulators.vehicles.routes import ROUTES, Route

HOUR_S = 3600
LINES = [(BUS if "-bus-" in route.name else CAR, route) for routes in ROUTES.values() for route in routes]


def hour(model: Model, route: Route, *, soc: float = 0.9, ambient_temp_c: float = 8.0) -> list[Snapshot]:
    drive = Drive(
        model,
        route,
        random_=random.Random(1),
        soc=soc,
        odometer_km=0.0,
        ambient_temp_c=ambient_temp_c,
    )
    return [drive.advance() for _ in range(HOUR_S)]


@pytest.mark.parametrize(("model", "route"), LINES, ids=lambda value: value.name)
def test_hour_of_driving_balances(model: Model, route: Route):
    """Energy at the terminals = change of stored energy + heat in the cells, within a tenth of a percent."""
    journey = hour(model, route)
    into_kwh = sum(now.flows.voltage_v * now.flows.current_a for now in journey) / JOULES_PER_KWH
    heat_kwh = sum(now.flows.cell_loss_kw for now in journey) / HOUR_S
    stored_kwh = model.battery.stored_kwh(journey[-1].pack.soc) - model.battery.stored_kwh(0.9)
    assert stored_kwh + heat_kwh == pytest.approx(into_kwh, rel=1e-3)


@pytest.mark.parametrize(("model", "route"), LINES, ids=lambda value: value.name)
def test_hour_of_driving_goes_where_it_must(model: Model, route: Route):
    """What leaves the terminals moves the wheels, heats brakes and driveline, and runs auxiliaries; nothing else."""
    journey = hour(model, route)
    out_kwh = -sum(now.flows.terminal_kw for now in journey) / HOUR_S
    used_kw = sum(
        now.flows.wheel_kw + now.flows.friction_kw + now.flows.driveline_loss_kw + now.flows.auxiliary_kw
        for now in journey
    )
    assert used_kw / HOUR_S == pytest.approx(out_kwh, rel=1e-9)
    assert min(now.flows.friction_kw for now in journey) >= 0
    assert min(now.flows.driveline_loss_kw for now in journey) >= -1e-9


@pytest.mark.parametrize(("model", "route"), LINES, ids=lambda value: value.name)
@pytest.mark.parametrize("ambient_temp_c", [-5.0, 20.0])
def test_consumption_is_that_of_real_vehicles(model: Model, route: Route, ambient_temp_c: float):
    """City buses take 90 to 160 kWh per 100 km, the more the colder; compact cars 12 to 25."""
    journey = hour(model, route, ambient_temp_c=ambient_temp_c)
    driven_km = (journey[-1].odometer_m - journey[0].odometer_m) / 1000
    kwh_per_100km = -sum(now.flows.terminal_kw for now in journey) / HOUR_S / driven_km * 100
    low, high = (85, 160) if model.name == "bus" else (11, 25)
    assert low < kwh_per_100km < high


def test_state_of_charge_falls_and_rises_with_the_current():
    """Discharging never raises it, charging never lowers it."""
    journey = hour(BUS, ROUTES["munich"][0])
    for before, after in pairwise(journey):
        assert (after.pack.soc - before.pack.soc) * after.flows.current_a >= 0


def test_stored_energy_rises_with_the_state_of_charge():
    """Strictly, from empty to the nameplate."""
    energies = [CAR.battery.stored_kwh(soc / 100) for soc in range(101)]
    assert energies == sorted(set(energies))
    assert energies[0] == 0.0
    assert 50 < energies[-1] < 80
    assert 350 < BUS.battery.energy_kwh < 450


def test_stored_energy_is_the_integral_of_the_voltage():
    """The oracle adds a hundred thousand small steps."""
    battery, steps = CAR.battery, 100_000
    total = sum(battery.ocv_v((i + 0.5) / steps * 0.73) for i in range(steps))
    assert battery.stored_kwh(0.73) == pytest.approx(total / steps * 0.73 * battery.capacity_ah / 1000, rel=1e-9)


@pytest.mark.parametrize("power_kw", [-300.0, -20.0, 0.0, 30.0, 150.0])
def test_voltage_times_current_is_the_power(power_kw: float):
    """And the voltage sags when discharging, by the resistance."""
    pack = PackState(soc=0.6, temp_c=20.0)
    _, flows = step(
        BUS, pack, Motion(), auxiliary_kw=max(-power_kw, 0.0), charger_kw=max(power_kw, 0.0), ambient_temp_c=20.0
    )
    assert flows.voltage_v * flows.current_a == pytest.approx(power_kw * 1000)
    assert flows.voltage_v - BUS.battery.ocv_v(0.6) == pytest.approx(flows.current_a * BUS.battery.resistance_ohm)


def test_braking_charges_until_the_battery_is_full():
    """At 99.9 % nearly all of it heats the brakes instead."""
    braking = Motion(speed_from_mps=12.0, speed_to_mps=11.0, distance_m=11.5)
    _, half = step(BUS, PackState(soc=0.5, temp_c=20.0), braking, auxiliary_kw=0.0, ambient_temp_c=20.0)
    _, full = step(BUS, PackState(soc=0.999, temp_c=20.0), braking, auxiliary_kw=0.0, ambient_temp_c=20.0)
    assert half.terminal_kw == pytest.approx(-half.wheel_kw * BUS.driveline)
    assert half.friction_kw == 0.0
    assert full.terminal_kw == pytest.approx(4.0)
    assert full.friction_kw > 100


def test_constant_speed_on_the_flat_costs_drag_and_rolling_alone():
    """The text-book formula at 50 km/h."""
    speed = 50 / 3.6
    motion = Motion(speed_from_mps=speed, speed_to_mps=speed, distance_m=speed)
    force_n = 0.5 * 1.225 * CAR.drag_area_m2 * speed**2 + CAR.rolling * CAR.mass_kg * 9.81
    assert wheel_kw(CAR, motion, 1.0) == pytest.approx(force_n * speed / 1000)


def test_hill_returns_what_it_took():
    """Up and down again is as much work as the same way on the flat."""
    speed = sqrt(200.0)
    up, down, flat = (
        wheel_kw(CAR, Motion(speed_from_mps=speed, speed_to_mps=speed, distance_m=speed, climb_m=climb), 1.0)
        for climb in (0.5, -0.5, 0.0)
    )
    assert up + down == pytest.approx(2 * flat)


def test_cells_warm_by_their_losses_and_cool_to_the_air():
    """Charging at full power warms a pack; standing in the cold cools it."""
    warm = cold = PackState(soc=0.3, temp_c=20.0)
    for _ in range(600):
        warm, _ = step(CAR, warm, Motion(), auxiliary_kw=0.0, charger_kw=70.0, ambient_temp_c=20.0)
        cold, _ = step(CAR, cold, Motion(), auxiliary_kw=0.0, ambient_temp_c=-10.0)
    assert 20.5 < warm.temp_c < 30.0
    assert 19.0 < cold.temp_c < 20.0
