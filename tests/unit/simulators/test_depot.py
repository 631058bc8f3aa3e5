"""A vehicle and its charger count the same energy, and what an operator knows about both is complete."""

import random
from itertools import count

import pytest

from simulators.assets import sites, token, vin
from simulators.chargers.hardware import HARDWARE
from simulators.chargers.meter import US_PER_HOUR, US_PER_S
from simulators.chargers.outlet import Guest, Outlet, places
from simulators.chargers.session import Token
from simulators.depot import Cable, DepotConfig, assets, charger_ids
from simulators.target import Target
from simulators.vehicles.drive import CHARGE_UNTIL_SOC, Drive, Plug
from simulators.vehicles.physics import CAR
from simulators.vehicles.routes import ROUTES

HARDWARE_22 = next(kind for kind in HARDWARE if kind.name == "ac-one")


class Seat:
    """An outlet and a vehicle that begins at it; the outlet is free after a while."""

    def __init__(self, *, limit_w: int, soc: float = 0.5, free_after: int = 0) -> None:
        self.outlet = Outlet(places(HARDWARE_22, "1.6")[0], HARDWARE_22, start_wh=0, has_temperature=True)
        self.cables: list[Cable] = []
        self.asked = 0
        self.second_us = 0
        self._limit_w, self._free_after = limit_w, free_after
        route = ROUTES["munich"][2]
        self.drive = Drive(
            CAR,
            route,
            random_=random.Random(1),
            soc=soc,
            odometer_km=0.0,
            ambient_temp_c=10.0,
            start_m=route.length_m,
            connect=self.connect,
            is_charging=True,
        )

    def connect(self) -> Plug | None:
        self.asked += 1
        if self.asked <= self._free_after:
            return None
        cable = Cable(self.outlet, efficiency=0.92, now_us=lambda: self.second_us, soc=self.drive.soc, wanted_kw=75.0)
        self.outlet.plug_in(Guest(load=cable, token=Token(text="T")), self.second_us)
        cable.limit_w = self._limit_w
        self.cables.append(cable)
        return cable


def test_charger_counts_what_the_battery_takes_over_the_efficiency_and_the_auxiliaries():
    """Second by second; the difference is the documented loss and nothing else."""
    seat, battery_kws, auxiliary_kws = Seat(limit_w=0), 0.0, 0.0
    seat.drive.advance()  # plugs in, at second 0
    seat.cables[0].limit_w = 22_000
    for second in range(600):
        seat.second_us = (second + 1) * US_PER_S
        flows = seat.drive.advance().flows
        battery_kws, auxiliary_kws = battery_kws + flows.terminal_kw, auxiliary_kws + flows.auxiliary_kw
        seat.outlet.settle(seat.second_us)
    (cable,) = seat.cables
    assert (battery_kws / 0.92 + auxiliary_kws) / 3.6 == pytest.approx(
        seat.outlet.register.delivered_wus / US_PER_HOUR, abs=0.01
    )
    assert cable.battery_wh == pytest.approx(battery_kws / 3.6, abs=0.01)
    assert 22_000 == pytest.approx(seat.outlet.sample().power_w, abs=1)
    assert seat.outlet.sample().at_us == 600 * US_PER_S


def test_vehicle_waits_for_a_free_outlet_and_takes_nothing_meanwhile():
    """Standing by; then it charges."""
    seat = Seat(limit_w=22_000, free_after=5)
    waiting = [seat.drive.advance() for _ in range(5)]
    assert not any(now.charging or now.ignition_on for now in waiting)
    assert all(now.flows.terminal_kw < 0 for now in waiting)
    assert seat.drive.advance().charging


def test_vehicle_leaves_when_it_has_enough_and_tells_the_charger():
    """A target of half a kilowatt-hour more, then back to the usual one."""
    seat = Seat(limit_w=22_000)
    seat.drive.charge_until_soc = seat.drive.soc + 0.5 / CAR.battery.energy_kwh
    for second in count(1):
        seat.second_us = second * US_PER_S
        if not seat.drive.advance().charging:
            break
    (cable,) = seat.cables
    assert cable.is_leaving
    assert 500.0 == pytest.approx(cable.battery_wh, rel=0.03)
    assert CHARGE_UNTIL_SOC == seat.drive.charge_until_soc


def test_vehicle_drives_on_when_the_charger_lets_go():
    """Somebody stopped the session from afar."""
    seat = Seat(limit_w=22_000)
    assert seat.drive.advance().charging
    seat.outlet.unplug()
    seat.drive.advance()
    assert seat.drive.advance().ignition_on


def test_no_power_is_offered_before_the_session_begins():
    """Authorization takes a moment."""
    seat = Seat(limit_w=0)
    assert not seat.drive.advance().charging
    assert 0 == seat.outlet.register.delivered_wus


def test_everything_an_operator_keeps_is_known():
    """Chargers stand at depots, vehicles have a VIN and a token of their own."""
    config = DepotConfig(target=Target(), buses=6, cars=4, chargers=12)
    known = assets(config)
    names = {site.name for site in sites()}
    chargers = [asset for asset in known if asset.kind == "charger"]
    vehicles = [asset for asset in known if asset.kind == "vehicle"]
    assert charger_ids(config) == [asset.device_id for asset in chargers]
    assert (12, 10) == (len(chargers), len(vehicles))
    assert all(asset.site in names for asset in known)
    assert all(asset.latitude_deg and asset.rated_power_kw and asset.connectors for asset in chargers)
    assert 10 == len({asset.vin for asset in vehicles}) == len({asset.id_tokens for asset in vehicles})
    assert {17} == {len(asset.vin or "") for asset in vehicles}
    assert {asset.site for asset in vehicles} <= {asset.site for asset in chargers}


def test_tokens_fit_into_1_6_and_vins_are_nobodys():
    """20 characters; 17 without I, O and Q."""
    assert len(token("bus-with-a-very-long-name")) == 20
    assert vin("bus-001") == vin("bus-001") != vin("bus-002")
    assert not set("IOQ") & set(vin("bus-001"))


def test_every_depot_of_the_lines_is_a_site():
    """Five places in three cities."""
    assert ["gothenburg", "gothenburg-2", "rotterdam", "munich", "munich-2"] == [site.name for site in sites()]
