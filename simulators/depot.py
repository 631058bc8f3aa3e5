"""Depots: vehicles over MQTT and the chargers they charge at over OCPP, in one process and one physical world.

A vehicle that comes home nearly empty plugs into a free connector there. What the charger's meter counts is what the
battery takes: outlet power = battery terminal power / efficiency + auxiliaries of the vehicle, second by second, with
the efficiency of the type of charger. So both sides of a session can be compared, and their difference is known.
"""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from simulators import assets as facts
from simulators.chargers import fleet as charging
from simulators.chargers.clock import Clock
from simulators.chargers.faults import ChargerFaultRates
from simulators.chargers.fleet import ChargersConfig, ChargersSummary
from simulators.chargers.hardware import Version
from simulators.chargers.link import CentralSystem
from simulators.chargers.meter import US_PER_HOUR, US_PER_S
from simulators.chargers.outlet import Guest, Outlet
from simulators.chargers.records import Records
from simulators.chargers.session import Token
from simulators.chargers.station import Station
from simulators.faults import FaultRates
from simulators.scenarios.orders import CHARGER_KINDS, VEHICLE_KINDS, FaultOrder, orders_of
from simulators.target import OnProgress, Progress, SimulationError, Target, first_error, no_progress
from simulators.truth import TruthFile
from simulators.vehicles.drive import STEP_S, Plug
from simulators.vehicles.fleet import Fleet, Vehicle, VehiclesConfig, VehiclesSummary, model_and_route, vehicle_ids
from simulators.vehicles.physics import Flows

SHORT_STAY_S = (20.0, 60.0)
"""What is left to charge for half of the vehicles that begin at a charger: somebody who watches sees whole sessions."""


class DepotConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which vehicles and chargers.

    Attributes:
        target: MQTT server and credentials.
        server: OCPP server and credentials.
        buses: Named `bus-001` and up.
        cars: Named `car-001` and up.
        chargers: Named `cp-001` and up, at the vehicles' depots.
        version: Of OCPP; `mixed`: all three in turn.
        seconds: How long, real time, or None until stopped.
        seed: The same seed gives the same journeys and faults.
        pace: Simulated seconds per real second. Other than 1 it needs `seconds`, and the clocks begin so far in the
            past that they end at the present.
        meter_interval_s: Between two meter values of a session, simulated.
        plugged: Part of the vehicles that begin at a charger: half of them need 20 to 60 s more, half have just begun.
        anonymous: Part of the sessions with a token that belongs to no vehicle.
        faults: What goes wrong with vehicles.
        scenarios: What goes wrong with vehicles and chargers, with whom and when.
        charger_dirt: Part of the meter values with what no schema allows.
        truth_file: Where to note what vehicles sent, or None.
        charger_truth_file: Where to note sessions, or None.
        acknowledged_file: Where to note the chargers' answered calls, or None.
        drain_s: How long to wait for outstanding answers at the end.
    """

    target: Target
    server: CentralSystem = CentralSystem()
    buses: int = 30
    cars: int = 10
    chargers: int = 12
    version: Version | Literal["mixed"] = "mixed"
    seconds: float | None = None
    seed: int = 1
    pace: float = 1.0
    meter_interval_s: int = 5
    plugged: float = 0.35
    anonymous: float = 0.15
    faults: FaultRates = FaultRates()
    scenarios: tuple[FaultOrder, ...] = ()
    charger_dirt: float = 0.0
    truth_file: Path | None = None
    charger_truth_file: Path | None = None
    acknowledged_file: Path | None = None
    drain_s: float = 10.0

    def of_vehicles(self) -> VehiclesConfig:
        """Return the vehicles' part."""
        return VehiclesConfig(
            target=self.target,
            buses=self.buses,
            cars=self.cars,
            seconds=self.seconds,
            seed=self.seed,
            pace=self.pace,
            faults=self.faults,
            scenarios=tuple(order for order in self.scenarios if order.kind in VEHICLE_KINDS),
            truth_file=self.truth_file,
        )

    def of_chargers(self) -> ChargersConfig:
        """Return the chargers' part."""
        return ChargersConfig(
            server=self.server,
            count=self.chargers,
            version=self.version,
            seconds=self.seconds,
            seed=self.seed,
            pace=self.pace,
            meter_interval_s=self.meter_interval_s,
            faults=ChargerFaultRates(dirt=self.charger_dirt),
            scenarios=tuple(order for order in self.scenarios if order.kind in CHARGER_KINDS),
        )


class DepotSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What both did."""

    vehicles: VehiclesSummary
    chargers: ChargersSummary

    @property
    def is_complete(self) -> bool:
        """Whether everything that was sent is acknowledged."""
        return self.vehicles.acknowledged == self.vehicles.sent and self.chargers.is_complete


def charger_ids(config: DepotConfig) -> list[str]:
    """Return the chargers' ids, so that they can be registered before the run."""
    return charging.charger_ids(config.of_chargers())


def assets(config: DepotConfig) -> list[facts.Asset]:
    """Return what is known about each charger and each vehicle."""
    vehicles = [
        facts.Asset(
            device_id=name,
            kind="vehicle",
            site=facts.site_at(model_and_route(name, i)[1].position(0.0)).name,
            rated_power_kw=model_and_route(name, i)[0].battery.charge_max_kw,
            vin=facts.vin(name),
            id_tokens=(facts.token(name),),
        )
        for i, name in enumerate(vehicle_ids(config.of_vehicles()))
    ]
    return [*charging.assets(config.of_chargers()), *vehicles]


class Cable:
    """Between one vehicle and one outlet, for one session: a `Plug` to the vehicle, a `Load` to the charger.

    Args:
        outlet: Where.
        efficiency: Battery terminals over outlet.
        now_us: The vehicle's clock.
        soc: Of the vehicle.
        wanted_kw: What its battery would take.
    """

    def __init__(
        self, outlet: Outlet, *, efficiency: float, now_us: Callable[[], int], soc: float, wanted_kw: float
    ) -> None:
        self.limit_w = 0
        self._outlet, self._efficiency, self._now_us = outlet, efficiency, now_us
        self._soc, self._wanted_kw, self._voltage_v = soc, wanted_kw, 0.0
        self._measured_us = now_us()
        self._drawn_wus = self._battery_wus = 0
        self._is_leaving = False

    # ---- the vehicle's end -------------------------------------------------------------------------------------------

    def offer_kw(self, *, wanted_kw: float, auxiliary_kw: float) -> float:
        """Return the most that may go into the battery's terminals, 0 for nothing."""
        self._wanted_kw = wanted_kw / self._efficiency + auxiliary_kw
        return max(self.limit_w / 1000 - auxiliary_kw, 0.0) * self._efficiency

    def took(self, flows: Flows, *, soc: float, voltage_v: float) -> None:
        """Count a second at both ends."""
        self._measured_us, self._soc, self._voltage_v = self._now_us(), soc, voltage_v
        if flows.charger_kw > 0:
            us = STEP_S * US_PER_S
            self._drawn_wus += round((flows.terminal_kw / self._efficiency + flows.auxiliary_kw) * 1000 * us)
            self._battery_wus += round(flows.terminal_kw * 1000 * us)

    @property
    def is_over(self) -> bool:
        """Whether the charger has let go."""
        return self._outlet.guest is None or self._outlet.guest.load is not self

    def leave(self) -> None:
        """Ask the charger to end the session."""
        self._is_leaving, self._wanted_kw = True, 0.0
        self._outlet.wake()

    # ---- the charger's end -------------------------------------------------------------------------------------------

    def draw(self, to_us: int) -> int:
        """Return what the vehicle took since the last call; its seconds, not the charger's, decide when."""
        drawn_wus, self._drawn_wus = self._drawn_wus, 0
        return drawn_wus

    @property
    def measured_us(self) -> int:
        """End of the vehicle's last second."""
        return self._measured_us

    @property
    def wanted_w(self) -> int:
        """What the battery would take now, at the outlet."""
        return round(self._wanted_kw * 1000)

    @property
    def soc(self) -> float:
        """Of the vehicle."""
        return self._soc

    @property
    def voltage_v(self) -> float:
        """Of the vehicle's battery."""
        return self._voltage_v

    @property
    def is_leaving(self) -> bool:
        """Whether the vehicle is done."""
        return self._is_leaving

    @property
    def battery_wh(self) -> float | None:
        """What went into the battery."""
        return self._battery_wus / US_PER_HOUR


class World:
    """Which charger stands where, and who plugs in.

    Args:
        config: Of the run.
        stations: Its chargers.
    """

    def __init__(self, config: DepotConfig, stations: list[Station]) -> None:
        self._random = random.Random(f"{config.seed}/depot")
        self._anonymous = config.anonymous
        self._at: dict[str, list[Station]] = {}
        for station, described in zip(stations, charging.describe(config.of_chargers()), strict=True):
            self._at.setdefault(described.site, []).append(station)
        self._short_stays: dict[str, float] = {}

    def begin(self, device_id: str, plugged: float) -> float | None:
        """Return the state of charge of a vehicle that begins at a charger, None for one that does not."""
        if self._random.random() >= plugged:
            return None
        if self._random.random() < 0.5:
            self._short_stays[device_id] = self._random.uniform(*SHORT_STAY_S)
            return self._random.uniform(0.55, 0.75)
        return self._random.uniform(0.1, 0.3)

    def connect(self, vehicle: Vehicle) -> Plug | None:
        """Plug a vehicle in where it stands: buses at the strongest free outlet, cars at the weakest."""
        drive = vehicle.drive_state
        free = [
            (station, outlet)
            for station in self._at.get(facts.site_at(drive.position).name, [])
            for outlet in station.outlets
            if station.is_usable(outlet) and outlet.reserved_at(vehicle.now_us) is None
        ]
        if not free:
            return None
        is_bus = drive.model.name == "bus"
        station, outlet = sorted(free, key=lambda pair: pair[1].hardware.outlet_w, reverse=is_bus)[0]
        battery = drive.model.battery
        cable = Cable(
            outlet,
            efficiency=station.hardware.efficiency,
            now_us=lambda: vehicle.now_us,
            soc=drive.soc,
            wanted_kw=battery.charge_max_kw,
        )
        if (stay_s := self._short_stays.pop(vehicle.device_id, None)) is not None:
            kw = min(battery.charge_max_kw, station.hardware.outlet_w / 1000)
            drive.charge_until_soc = drive.soc + kw * stay_s / 3600 / battery.energy_kwh
        outlet.plug_in(
            Guest(load=cable, token=self._token(vehicle.device_id), vehicle=vehicle.device_id), vehicle.now_us
        )
        return cable

    def _token(self, device_id: str) -> Token:
        if self._random.random() < self._anonymous:
            return Token(text=f"RFID{self._random.randrange(16**8):08X}")
        return facts.vehicle_token(device_id, with_vin=self._random.random() < 0.5)


async def run_depot(
    config: DepotConfig,
    *,
    stop: asyncio.Event,
    on_progress: OnProgress = no_progress,
    now_ns: Callable[[], int] = time.time_ns,
) -> DepotSummary:
    """Drive and charge until the time is up or `stop` is set, end the sessions, wait for what is outstanding.

    Raises: SimulationError: A server refuses a device, or the configuration makes no sense.
    """
    charging.check(config.of_chargers())
    if config.buses + config.cars < 1:
        raise SimulationError("the fleet is empty; give buses or cars")
    scenarios = orders_of(config.of_vehicles().scenarios, vehicle_ids(config.of_vehicles()), VEHICLE_KINDS)
    began_s = time.monotonic()
    began_us = charging.began_us(now_ns(), pace=config.pace, seconds=config.seconds)
    clock = Clock(began_us=began_us, pace=config.pace)
    truth = TruthFile(config.truth_file) if config.truth_file else None
    with Records(config.charger_truth_file, config.acknowledged_file) as records:
        stations = charging.make_stations(config.of_chargers(), clock=clock, records=records, has_visitors=False)
        world, vehicles_config = World(config, stations), config.of_vehicles()
        vehicles = [
            Vehicle(
                name,
                i,
                vehicles_config,
                truth,
                connect=world.connect,
                plugged_soc=world.begin(name, config.plugged),
                scenarios=scenarios.get(name, ()),
            )
            for i, name in enumerate(vehicle_ids(vehicles_config))
        ]
        fleet = Fleet(vehicles, truth)
        try:
            await _run(config, stations, fleet, stop, on_progress, began_us=began_us)
        finally:
            for station in stations:
                station.close()
            if truth is not None:
                truth.close()
    seconds = time.monotonic() - began_s
    links = [station.link for station in stations]
    return DepotSummary(
        vehicles=fleet.summary(seconds),
        chargers=charging.summarize(links, records, sessions=sum(s.telling.begun for s in stations), seconds=seconds),
    )


async def _run(
    config: DepotConfig,
    stations: list[Station],
    fleet: Fleet,
    stop: asyncio.Event,
    on_progress: OnProgress,
    *,
    began_us: int,
) -> None:
    """Run all tasks; vehicles stop before chargers, so that the meters count to the end."""
    began_s = time.monotonic()

    def progress(vehicles: Progress) -> None:
        counts = [station.link.counts for station in stations]
        on_progress(
            Progress(
                elapsed_s=vehicles.elapsed_s,
                connected=vehicles.connected + sum(station.link.is_ready for station in stations),
                sent=vehicles.sent + sum(one.sent for one in counts),
                acknowledged=vehicles.acknowledged + sum(one.answered for one in counts),
            )
        )

    try:
        async with asyncio.TaskGroup() as tasks:
            ties = [tasks.create_task(v.uplink.run(), name=f"{v.device_id}-uplink") for v in fleet.vehicles]
            ties += [tasks.create_task(s.connect(), name=f"{s.charger_id}-link") for s in stations]
            ties.append(tasks.create_task(fleet.report(began_s, progress), name="depot-report"))
            lives = [tasks.create_task(v.drive(began_us, began_s), name=v.device_id) for v in fleet.vehicles]
            lives += [tasks.create_task(s.live(), name=s.charger_id) for s in stations]
            try:
                async with asyncio.timeout(config.seconds):
                    await stop.wait()
            except TimeoutError:
                pass  # the time is up, which is the usual end
            for task in lives:
                task.cancel()
            await asyncio.wait(lives)  # else one of them begins a session that nobody ends
            for vehicle in fleet.vehicles:
                vehicle.finish()
            for station in stations:
                station.finish()
            try:
                async with asyncio.timeout(config.drain_s):
                    await fleet.drained()
                    await charging.drain([station.link for station in stations], config.drain_s)
            except TimeoutError:
                pass  # the summary shows what is not acknowledged
            for task in ties:
                task.cancel()
    except* SimulationError as group:
        raise first_error(group) from None
