"""A fleet of chargers over OCPP: all kinds, all versions, visited by vehicles of a real data set, taking commands."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from simulators.assets import Asset, sites
from simulators.chargers.clock import Clock
from simulators.chargers.commands_v2 import handlers_v2
from simulators.chargers.commands_v16 import handlers_v16
from simulators.chargers.faults import ChargerFaultRates
from simulators.chargers.hardware import HARDWARE, VERSIONS, Hardware, Version
from simulators.chargers.link import CentralSystem, Link
from simulators.chargers.meter import US_PER_S
from simulators.chargers.outlet import places
from simulators.chargers.records import Records
from simulators.chargers.station import Station
from simulators.chargers.visits import Visitors, read_sessions
from simulators.scenarios.orders import CHARGER_KINDS, FaultOrder, orders_of
from simulators.target import OnProgress, Progress, SimulationError, first_error, no_progress

REPORT_S = 1.0
METER_INTERVAL_S_MAX = 86_400


class ChargersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which fleet.

    Attributes:
        server: URL and credentials.
        count: Chargers, named `prefix` and a number from 001.
        prefix: Of the names.
        version: One for all, or `mixed`: all three in turn.
        seconds: How long, real time, or None until stopped.
        seed: The same seed gives the same visits and the same faults.
        pace: Simulated seconds per real second. Other than 1 it needs `seconds`, and the chargers' clocks begin so far
            in the past that they end at the present.
        meter_interval_s: Between two meter values of a session, simulated.
        gap_s: Mean time that an outlet stays free, simulated.
        sessions: The DESL data set to draw visits from, or None for the built-in table made from it.
        faults: What goes wrong with messages and sessions, and how often.
        scenarios: What goes wrong with chargers, with which and when.
        truth_file: Where to note sessions (simulators.chargers.truth), or None.
        acknowledged_file: Where to note answered calls, or None.
        drain_s: How long to wait for outstanding answers at the end.
    """

    server: CentralSystem = CentralSystem()
    count: int = 12
    prefix: str = "cp-"
    version: Version | Literal["mixed"] = "mixed"
    seconds: float | None = None
    seed: int = 1
    pace: float = 1.0
    meter_interval_s: int = 10
    gap_s: float = 300.0
    sessions: Path | None = None
    faults: ChargerFaultRates = ChargerFaultRates()
    scenarios: tuple[FaultOrder, ...] = ()
    truth_file: Path | None = None
    acknowledged_file: Path | None = None
    drain_s: float = 10.0


class ChargersSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the fleet did.

    Attributes:
        chargers: How many.
        seconds: Real time.
        sessions: Begun.
        sessions_ended: Whose end was answered.
        energy_wh: Of those, as sent.
        sent: Calls given to the network, repeats not counted.
        answered: Of those, answered by a result.
        refused: Of those, answered by an error for good.
        errors: Error answers, of which most are followed by a repeat.
        resent: Repeated after a reconnect or an error.
        waiting: Calls that must not be lost and are unanswered at the end.
        dropped: Never sent, because they mattered on a connection only that was not there.
        invalid_answers: Results that the `ocpp` package finds wrong.
        connections: Made.
        connection_losses: That ended before the charger wanted it.
        commands: Answered, by action.
    """

    chargers: int
    seconds: float
    sessions: int
    sessions_ended: int
    energy_wh: int
    sent: int
    answered: int
    refused: int
    errors: int
    resent: int
    waiting: int
    dropped: int
    invalid_answers: int
    connections: int
    connection_losses: int
    commands: dict[str, int]

    @property
    def is_complete(self) -> bool:
        """Whether every call that needs an answer was answered, and rightly."""
        return not (self.waiting or self.refused or self.invalid_answers)


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A charger before it is made."""

    charger_id: str
    version: Version
    hardware: Hardware
    site: str


def describe(config: ChargersConfig) -> list[Described]:
    """Return the chargers of a run: types, versions and depots in turn, so that all combinations occur."""
    depots = sites()
    return [
        Described(
            charger_id=f"{config.prefix}{i + 1:03d}",
            version=VERSIONS[i % len(VERSIONS)] if config.version == "mixed" else config.version,
            hardware=HARDWARE[(i + i // len(HARDWARE)) % len(HARDWARE)],
            site=depots[i % len(depots)].name,
        )
        for i in range(config.count)
    ]


def charger_ids(config: ChargersConfig) -> list[str]:
    """Return the ids that a run uses, so that they can be registered before it."""
    return [charger.charger_id for charger in describe(config)]


def assets(config: ChargersConfig) -> list[Asset]:
    """Return what is known about each charger."""
    depots = {site.name: site for site in sites()}
    return [
        Asset(
            device_id=charger.charger_id,
            kind="charger",
            site=charger.site,
            latitude_deg=depots[charger.site].latitude_deg,
            longitude_deg=depots[charger.site].longitude_deg,
            rated_power_kw=charger.hardware.rated_kw,
            connectors=len(places(charger.hardware, charger.version)),
        )
        for charger in describe(config)
    ]


def make_stations(
    config: ChargersConfig, *, clock: Clock, records: Records, has_visitors: bool, make_link: Callable[..., Link] = Link
) -> list[Station]:
    """Return the chargers of a run, not yet connected.

    Args:
        config: Of the fleet.
        clock: Simulated time.
        records: Where truth goes.
        has_visitors: Whether anonymous vehicles come by themselves.
        make_link: Makes their connections.
    Raises: SimulationError: The data set cannot be read, or a scenario is for no charger of these.
    """
    scenarios = orders_of(config.scenarios, charger_ids(config), CHARGER_KINDS)
    recorded = read_sessions(config.sessions) if config.sessions is not None else []

    def visitors(random_: random.Random) -> Visitors:
        return Visitors(random_, recorded, mean_gap_s=config.gap_s)

    return [
        Station(
            charger_id=charger.charger_id,
            version=charger.version,
            hardware=charger.hardware,
            server=config.server,
            clock=clock,
            seed=config.seed,
            rates=config.faults,
            records=records,
            handlers=handlers_v16 if charger.version == "1.6" else handlers_v2,
            meter_interval_s=config.meter_interval_s,
            visitors=visitors if has_visitors else None,
            scenarios=scenarios.get(charger.charger_id, ()),
            make_link=make_link,
        )
        for charger in describe(config)
    ]


def summarize(links: Sequence[Link], records: Records, *, sessions: int, seconds: float) -> ChargersSummary:
    """Return the sums over the chargers; `sessions` were begun in `seconds` of real time."""
    counts = [link.counts for link in links]
    commands: Counter[str] = Counter()
    for one in counts:
        commands.update(one.commands)
    return ChargersSummary(
        chargers=len(links),
        seconds=seconds,
        sessions=sessions,
        sessions_ended=records.sessions_ended,
        energy_wh=records.energy_wh,
        sent=sum(one.sent for one in counts),
        answered=sum(one.answered for one in counts),
        refused=sum(one.refused for one in counts),
        errors=sum(one.errors for one in counts),
        resent=sum(one.resent for one in counts),
        waiting=sum(link.pending for link in links),
        dropped=sum(one.dropped for one in counts),
        invalid_answers=sum(one.invalid_answers for one in counts),
        connections=sum(one.connections for one in counts),
        connection_losses=sum(one.connection_losses for one in counts),
        commands=dict(sorted(commands.items())),
    )


def check(config: ChargersConfig) -> None:
    """Refuse a run that makes no sense. Raises: SimulationError."""
    if config.pace != 1.0 and config.seconds is None:
        raise SimulationError(f"pace is {config.pace:g} and seconds is not given; give both or neither")
    if config.pace <= 0:
        raise SimulationError(f"pace is {config.pace:g}; give simulated seconds per second, such as 1")
    if config.count < 1:
        raise SimulationError(f"count is {config.count}; give at least one charger")
    if not 1 <= config.meter_interval_s <= METER_INTERVAL_S_MAX:
        raise SimulationError(f"meter_interval_s is {config.meter_interval_s}; give 1 to {METER_INTERVAL_S_MAX}")
    if config.gap_s < 0:
        raise SimulationError(f"gap_s is {config.gap_s:g}; give at least 0")


def began_us(now_ns: int, *, pace: float, seconds: float | None) -> int:
    """Return the first simulated moment of a run, so that it ends at the present."""
    return now_ns // 1000 - int((pace - 1.0) * (seconds or 0.0) * US_PER_S)


async def drain(links: Sequence[Link], drain_s: float) -> None:
    """Wait for outstanding answers, not for ever."""
    try:
        async with asyncio.timeout(drain_s):
            for link in links:
                await link.drained()
    except TimeoutError:
        pass  # the summary shows what is not answered


async def report(stations: Sequence[Station], on_progress: OnProgress) -> None:
    """Report once a second until cancelled."""
    began_s = time.monotonic()
    while True:
        await asyncio.sleep(REPORT_S)
        on_progress(
            Progress(
                elapsed_s=time.monotonic() - began_s,
                connected=sum(station.link.is_ready for station in stations),
                sent=sum(station.link.counts.sent for station in stations),
                acknowledged=sum(station.link.counts.answered for station in stations),
            )
        )


async def run_chargers(
    config: ChargersConfig,
    *,
    stop: asyncio.Event,
    on_progress: OnProgress = no_progress,
    now_ns: Callable[[], int] = time.time_ns,
) -> ChargersSummary:
    """Charge until the time is up or `stop` is set, end the sessions, wait for what is outstanding, disconnect.

    Raises: SimulationError: The server refuses a charger, or the configuration makes no sense.
    """
    check(config)
    clock = Clock(began_us=began_us(now_ns(), pace=config.pace, seconds=config.seconds), pace=config.pace)
    began_s = time.monotonic()
    with Records(config.truth_file, config.acknowledged_file) as records:
        stations = make_stations(config, clock=clock, records=records, has_visitors=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                links = [tasks.create_task(s.connect(), name=f"{s.charger_id}-link") for s in stations]
                lives = [tasks.create_task(s.live(), name=s.charger_id) for s in stations]
                reporter = tasks.create_task(report(stations, on_progress), name="chargers-report")
                try:
                    async with asyncio.timeout(config.seconds):
                        await stop.wait()
                except TimeoutError:
                    pass  # the time is up, which is the usual end
                for task in lives:
                    task.cancel()
                await asyncio.wait(lives)  # else one of them begins a session that nobody ends
                for station in stations:
                    station.finish()
                await drain([station.link for station in stations], config.drain_s)
                for task in (*links, reporter):
                    task.cancel()
        except* SimulationError as group:
            raise first_error(group) from None
        finally:
            for station in stations:
                station.close()
    return summarize(
        [station.link for station in stations],
        records,
        sessions=sum(station.telling.begun for station in stations),
        seconds=time.monotonic() - began_s,
    )
