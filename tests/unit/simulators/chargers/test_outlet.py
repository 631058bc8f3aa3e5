"""What an outlet says of power and energy agrees to the watt-hour, and resets are seen as they are."""

import random

import pytest

from simulators.chargers.hardware import HARDWARE
from simulators.chargers.meter import US_PER_HOUR, US_PER_S
from simulators.chargers.outlet import Guest, Outlet, Reservation, places
from simulators.chargers.session import Token
from simulators.chargers.visits import Car, Visit

KINDS = {kind.name: kind for kind in HARDWARE}
VISIT = Visit(energy_wh=30_000, capacity_wh=60_000, soc_from=0.4, power_max_w=90_000, idle_s=0.0)


def outlet_with_car(kind: str = "dc-one") -> Outlet:
    hardware = KINDS[kind]
    outlet = Outlet(places(hardware, "1.6")[0], hardware, start_wh=5_000, has_temperature=True)
    outlet.plug_in(Guest(load=Car(VISIT, 0), token=Token(text="T")), 0)
    return outlet


def test_power_times_time_is_what_the_register_rose():
    """Sample by sample, within the rounding to whole watts and watt-hours."""
    outlet, random_, at_us = outlet_with_car(), random.Random(4), 0
    assert outlet.guest is not None
    before = outlet.sample()
    for _ in range(400):
        outlet.guest.load.limit_w = random_.choice((0, 20_000, 150_000))
        at_us += random_.randrange(1, 30 * US_PER_S)
        outlet.settle(at_us)
        now = outlet.sample()
        rise_wh = now.power_w * (now.at_us - before.at_us) / US_PER_HOUR
        assert rise_wh == pytest.approx(now.energy_wh - before.energy_wh, abs=1.01)
        before = now
    assert 35_000 == outlet.register.wh


@pytest.mark.parametrize(("kind", "phases"), [("dc-one", 1), ("ac-one", 3)])
def test_voltage_times_current_is_the_power(kind: str, phases: int):
    """Of one battery, or of three phases."""
    outlet = outlet_with_car(kind)
    assert outlet.guest is not None
    outlet.guest.load.limit_w = 22_000
    outlet.settle(60 * US_PER_S)
    now = outlet.sample()
    assert 22_000 == now.power_w == pytest.approx(now.voltage_v * now.current_a * phases)


def test_ac_charger_does_not_know_the_state_of_charge():
    """A DC one asks the vehicle."""
    assert outlet_with_car("ac-one").sample().soc_pct is None
    assert 40.0 == outlet_with_car("dc-one").sample().soc_pct


def test_reset_register_begins_at_nothing_and_what_was_delivered_is_still_known():
    """The difference as sent is then negative; the truth is not."""
    outlet = outlet_with_car()
    assert outlet.guest is not None
    outlet.guest.load.limit_w = 60_000
    outlet.settle(360 * US_PER_S)
    outlet.register.reset()
    outlet.settle(420 * US_PER_S)
    assert 1_000 == outlet.register.wh
    assert 7_000 * US_PER_HOUR == outlet.register.delivered_wus


def test_second_sample_of_one_moment_says_the_same():
    """Time does not pass between a meter value and the end that follows at once."""
    outlet = outlet_with_car()
    assert outlet.guest is not None
    outlet.guest.load.limit_w = 60_000
    outlet.settle(60 * US_PER_S)
    assert outlet.sample() == outlet.sample()
    assert 60_000 == outlet.sample().power_w


def test_reservation_ends_by_itself():
    """At its moment, not before."""
    outlet = Outlet(places(KINDS["ac-one"], "1.6")[0], KINDS["ac-one"], start_wh=0, has_temperature=True)
    outlet.reservation = Reservation(number=4, token="T", until_us=100)
    assert outlet.reserved_at(99) is not None
    assert outlet.reserved_at(100) is None
    assert outlet.reservation is None
