"""A charger shares its power among its outlets, whatever their vehicles want and profiles allow."""

import random

import pytest

from simulators.chargers.clock import Clock
from simulators.chargers.commands_v2 import handlers_v2
from simulators.chargers.faults import ChargerFaultRates
from simulators.chargers.hardware import HARDWARE, Hardware
from simulators.chargers.link import CentralSystem
from simulators.chargers.meter import US_PER_HOUR, US_PER_S
from simulators.chargers.outlet import Guest
from simulators.chargers.records import Records
from simulators.chargers.session import Session, Token
from simulators.chargers.station import Station
from simulators.chargers.truth import SessionTruth
from simulators.chargers.visits import Car, Visit

KINDS = {kind.name: kind for kind in HARDWARE}


def station(hardware: Hardware) -> Station:
    return Station(
        charger_id="cp-001",
        version="2.0.1",
        hardware=hardware,
        server=CentralSystem(),
        clock=Clock(began_us=0, pace=1.0, monotonic_s=lambda: 0.0),
        seed=1,
        rates=ChargerFaultRates(),
        records=Records(None, None),
        handlers=handlers_v2,
        meter_interval_s=10,
        visitors=None,
    )


def plug_in(charger: Station, number: int, power_w: int) -> None:
    """Let a vehicle charge at an outlet, without a word to anybody."""
    outlet = charger.outlets[number]
    visit = Visit(energy_wh=90_000, capacity_wh=120_000, soc_from=0.1, power_max_w=power_w, idle_s=0.0)
    token = Token(text="T")
    truth = SessionTruth(charger="cp-001", version="2.0.1", connector="1/1", id_token="T", started_at="")
    outlet.plug_in(Guest(load=Car(visit, 0), token=token), 0)
    outlet.session = Session(place=outlet.place, token=token, truth=truth, began_us=0)


def limits(charger: Station) -> list[int]:
    return [outlet.guest.load.limit_w if outlet.guest else 0 for outlet in charger.outlets]


def test_cabinet_never_gives_more_than_it_has():
    """Ten hours of four vehicles of very different appetite."""
    charger, random_ = station(KINDS["cabinet"]), random.Random(2)
    for number, power_w in enumerate((40_000, 110_000, 150_000, 90_000)):
        plug_in(charger, number, power_w)
    charger.balance(0)
    assert [40_000, 66_666, 66_667, 66_667] == sorted(limits(charger))
    at_us = 0
    for _ in range(1_500):
        before_wus = sum(outlet.register.delivered_wus for outlet in charger.outlets)
        step_us = random_.randrange(1, 50 * US_PER_S)
        at_us += step_us
        charger.balance(at_us)
        drawn_wus = sum(outlet.register.delivered_wus for outlet in charger.outlets) - before_wus
        assert drawn_wus <= 240_000 * step_us
        assert sum(limits(charger)) <= 240_000
    assert 4 * 90_000 * US_PER_HOUR == sum(outlet.register.delivered_wus for outlet in charger.outlets)


def test_profile_limits_one_outlet_and_leaves_its_power_to_the_others():
    """240 kW less 20 among three."""
    charger = station(KINDS["cabinet"])
    for number in range(4):
        plug_in(charger, number, 100_000)
    period = {"start_period": 0, "limit": 20_000.0}
    charger.profiles.put(
        2,
        {
            "id": 1,
            "stack_level": 0,
            "charging_profile_purpose": "TxProfile",
            "charging_profile_kind": "Relative",
            "charging_schedule": [{"charging_rate_unit": "W", "charging_schedule_period": [period]}],
        },
    )
    charger.balance(0)
    assert [73_333, 20_000, 73_333, 73_334] == [limits(charger)[0], limits(charger)[1], *sorted(limits(charger)[2:])]


def test_vehicle_without_a_session_gets_nothing():
    """Plugged in, not yet authorized."""
    charger = station(KINDS["dc-one"])
    plug_in(charger, 0, 100_000)
    charger.outlets[0].session = None
    charger.balance(0)
    assert [0] == limits(charger)


@pytest.mark.parametrize(("kind", "usable"), [("dc-two", [False, False]), ("ac-two", [False, True])])
def test_evse_serves_one_of_its_connectors_at_a_time(kind: str, usable: list[bool]):
    """Two plugs of one EVSE, or two EVSEs."""
    charger = station(KINDS[kind])
    plug_in(charger, 0, 10_000)
    assert usable == [charger.is_usable(outlet) for outlet in charger.outlets]
