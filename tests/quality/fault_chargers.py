"""Chargers that are visited for days and sometimes fail, through the chain: in simulated time, without a network."""

import asyncio
import json
import random
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from processors.contracts.load import load_contracts
from simulators.chargers.clock import Clock
from simulators.chargers.fleet import ChargersConfig, assets, charger_ids, describe, make_stations
from simulators.chargers.hardware import Version
from simulators.chargers.link import Link, LinkCounts, Outgoing
from simulators.chargers.records import Records
from simulators.chargers.replay_sessions import ReplaySessionsConfig, _Station
from simulators.chargers.visits import Recorded, read_sessions
from simulators.moments import iso
from simulators.scenarios.orders import FaultOrder
from simulators.truth import FaultTruth
from simulators.vehicles.life import DAY_S, Delivery
from tests.quality.fault_journal import MIDNIGHT_US, US_PER_S, Alert, Journal, to_us
from tests.quality.fault_vehicles import FleetResult

PROTOCOLS: dict[Version, str] = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"}
LATENCY_US = 120_000
OUTAGES_PER_DAY = 1.5
OUTAGE_S = (3.0, 90.0)
"""A router restarts, a mobile network forgets; the charger keeps what must not be lost and says it afterwards."""
AFTER_S = 900
SHUT_S = 2.5 * 86_400
"""Between the longest pause of one plug while the other one is used, 2.1 days, and the shortest of both, 2.8."""
BLOCK_S = 1_800

Put = Callable[[Delivery], None]


class ChargersPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Chargers to simulate; see `FleetPlan`."""

    name: str
    seed: int
    days: float
    healthy: int
    faults: tuple[str, ...]
    meter_interval_s: int = 30
    gap_s: float = 2_400.0


class _SimulatedTime(selectors.SelectSelector):
    """Waits for nothing: what would be waiting moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Let the time pass that the loop has nothing to do."""
        self.now_s += timeout or 0.0
        return []


def in_simulated_time(live: Callable[[Clock], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine in a loop whose time passes as fast as the computer can; it is given a clock of that time."""
    selector = _SimulatedTime()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now_s  # type: ignore[method-assign]
    try:
        loop.run_until_complete(live(Clock(began_us=MIDNIGHT_US, pace=1.0, monotonic_s=loop.time)))
    finally:
        loop.close()


class JournalLink(Link):
    """A connection to a central system that answers at once and writes down what it is told."""

    def __init__(self, *, put: Put, clock: Clock, seed: str, **given: Any) -> None:
        # Nothing of the connection it stands for is made, so `Link.__init__` has nothing to do.
        self._charger_id, self._protocol = given["charger_id"], PROTOCOLS[given["version"]]
        self._boot, self._on_ready = given["boot"], given["on_ready"]
        self._put, self._clock = put, clock
        self._chance = random.Random(f"{seed}/{self._charger_id}/link")
        self.counts, self.is_ready = LinkCounts(), False
        self._kept: list[Outgoing] = []
        self._transactions = self._generation = self._messages = 0

    def put_nowait(self, out: Outgoing) -> bool:
        """Say a call now, or keep it until there is a connection."""
        if not self.is_ready:
            if out.keep:
                self._kept.append(out)
            return out.keep
        self._say(out)
        return True

    def break_(self, *, half_open_s: float = 0.0) -> None:
        """Nothing breaks here but by itself."""

    async def run(self) -> None:
        """Connect; now and then lose the connection for a while."""
        while True:
            self._generation += 1
            self._write("ocpp/connected", self._connection("connected", ""))
            if (boot := self._boot()) is not None:
                self._say(boot)
            self.is_ready = True
            self._on_ready()
            kept, self._kept = self._kept, []
            for out in kept:
                self._say(out)
            await asyncio.sleep(self._chance.expovariate(OUTAGES_PER_DAY / DAY_S))
            self.is_ready = False
            self._write("ocpp/disconnected", self._connection("disconnected", "connection_lost"))
            await asyncio.sleep(self._chance.uniform(*OUTAGE_S))

    def _say(self, out: Outgoing) -> None:
        payload = out.build()
        self._messages += 1
        message_id = f"{self._charger_id}-{self._messages}"
        if out.action != "Heartbeat":  # which the gateway answers and forgets
            frame = json.dumps([2, message_id, out.action, payload], separators=(",", ":"))
            self._write(f"{self._protocol}/{out.action}", frame.encode())
        answer = self._answer(out.action)
        if out.action == "StartTransaction":
            said = json.dumps([3, message_id, answer], separators=(",", ":"))
            self._write(f"{self._protocol}/StartTransaction.conf", said.encode())
        if out.on_answer is not None:
            asyncio.get_running_loop().call_soon(out.on_answer, answer)

    def _answer(self, action: str) -> dict[str, Any]:
        match action:
            case "BootNotification":
                return {"status": "Accepted", "interval": 300}
            case "StartTransaction":
                self._transactions += 1
                number = self._transactions * 1_000 + int(self._charger_id.rsplit("-", 1)[1])
                return {"transactionId": number, "idTagInfo": {"status": "Accepted"}}
            case "Authorize":
                name = "idTagInfo" if self._protocol == "ocpp1.6" else "idTokenInfo"
                return {name: {"status": "Accepted"}}
        return {}

    def _connection(self, event: str, reason: str) -> bytes:
        said = {
            "event": event,
            "version": self._protocol,
            "address": "192.0.2.7",
            "reason": reason,
            "generation": self._generation,
        }
        return json.dumps(said).encode()

    def _write(self, channel: str, payload: bytes) -> None:
        self._put(Delivery(self._clock.now_us() + LATENCY_US, self._charger_id, channel, payload))


class FaultRecords(Records):
    """Keeps what is true of faults."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.faults: list[FaultTruth] = []

    def fault(self, truth: FaultTruth) -> None:
        """Keep it."""
        self.faults.append(truth)


def run_chargers(plan: ChargersPlan) -> FleetResult:
    """Simulate chargers and process what they say."""
    cpu_s = time.process_time()
    random_ = random.Random(f"{plan.seed}/{plan.name}")
    config = ChargersConfig(
        count=plan.healthy + len(plan.faults),
        prefix=f"cp{plan.name}-",
        seed=plan.seed,
        meter_interval_s=plan.meter_interval_s,
        gap_s=plan.gap_s,
    )
    names = charger_ids(config)
    orders = tuple(
        FaultOrder(kind=kind, device_id=name, at_s=_fault_s(plan, random_)) for kind, name in _dealt(plan, config)
    )
    config = msgspec.structs.replace(config, scenarios=orders)
    journal, records = Journal(load_contracts([])), FaultRecords()
    journal.put(_asset(one.device_id, one) for one in assets(config))
    in_simulated_time(lambda clock: _live(plan, config, journal, records, clock))
    began_s = {order.device_id: order.at_s for order in orders}
    return FleetResult(
        alerts=_in_service(journal.alerts, records.faults),
        faults=records.faults,
        holes=[],
        vehicle_days=sum(min(began_s.get(name, plan.days * DAY_S) / DAY_S, plan.days) for name in names),
        messages=journal.messages,
        rejected=journal.rejected,
        cpu_s=time.process_time() - cpu_s,
    )


def _dealt(plan: ChargersPlan, config: ChargersConfig) -> list[tuple[str, str]]:
    """Return which charger has which fault.

    None of those whose outlets share their power is derated: what such an outlet offers depends on its neighbours and
    on what vehicles want, so a weak one cannot be told from a busy one.
    """
    fit = [one.charger_id for one in describe(config) if one.hardware.cabinet_w is None]
    others = [one.charger_id for one in describe(config) if one.hardware.cabinet_w is not None]
    fit, others = fit[::-1], others[::-1]
    return [(kind, (fit if kind == "derating" or not others else others).pop(0)) for kind in plan.faults]


def _fault_s(plan: ChargersPlan, random_: random.Random) -> float:
    """Return a moment in the busy hours of a day, of the last but one if there is one."""
    day = random_.randrange(1, int(plan.days)) if plan.days >= 2 else 0
    return day * DAY_S + random_.uniform(9.0, 14.0) * 3_600


async def _live(
    plan: ChargersPlan,
    config: ChargersConfig,
    journal: Journal,
    records: FaultRecords,
    clock: Clock,
) -> None:
    link = partial(JournalLink, put=lambda one: journal.put([one]), clock=clock, seed=str(plan.seed))
    stations = make_stations(config, clock=clock, records=records, has_visitors=True, make_link=link)
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(station.connect(), name=station.charger_id) for station in stations]
        work += [tasks.create_task(station.live(), name=station.charger_id) for station in stations]
        for second in range(BLOCK_S, int(plan.days * DAY_S) + 1, BLOCK_S):
            until_us = MIDNIGHT_US + second * US_PER_S
            await asyncio.sleep(clock.real_s(until_us))
            journal.run_until(until_us)
        for task in work:
            task.cancel()


def _in_service(alerts: list[Alert], faults: list[FaultTruth]) -> list[Alert]:
    """Return the alerts of chargers that nobody has come to mend yet."""
    mended_us = {fault.device_id: to_us(str(fault.deadline_at)) + AFTER_S * US_PER_S for fault in faults}
    return [one for one in alerts if one.fired_us < mended_us.get(one.device_id, one.fired_us + 1)]


def _asset(device_id: str, fact: Any) -> Delivery:
    said = {"kind": fact.kind, "site": fact.site, "rated_power_kw": fact.rated_power_kw, "connectors": fact.connectors}
    return Delivery(MIDNIGHT_US, device_id, "asset", json.dumps(said).encode())


# ---- recorded sessions -----------------------------------------------------------------------------------------------


def run_recorded(file: Path, limit: int) -> FleetResult:
    """Process recorded charging sessions as if each call had arrived when it was made."""
    cpu_s = time.process_time()
    sessions = read_sessions(file)[:limit]
    config = ReplaySessionsConfig(file=file, limit=limit)
    journal = Journal(load_contracts([]), tick_s=60.0)
    station = _Station("desl-01", config, sessions, Records(None, None))
    began_us, ended_us = sessions[0].arrival_us - US_PER_S, sessions[-1].departure_us
    connected = {"event": "connected", "version": "ocpp1.6", "address": "192.0.2.7", "reason": "", "generation": 1}
    journal.put([Delivery(began_us, "desl-01", "ocpp/connected", json.dumps(connected).encode())])
    journal.put(_calls(station, sessions))
    for at_us in range(began_us + DAY_S * US_PER_S, ended_us + 2 * DAY_S * US_PER_S, DAY_S * US_PER_S):
        journal.run_until(at_us)
    return FleetResult(
        alerts=journal.alerts,
        faults=[],
        holes=_pauses(sessions),
        vehicle_days=(ended_us - began_us) / US_PER_S / DAY_S,
        messages=journal.messages,
        rejected=journal.rejected,
        cpu_s=time.process_time() - cpu_s,
    )


def _pauses(sessions: list[Recorded]) -> list[FaultTruth]:
    """Return when nobody charged at either plug for days: with an hour or two as usual, the station was shut."""
    found, until_us = [], sessions[0].departure_us
    for session in sessions:
        if session.arrival_us - until_us > SHUT_S * US_PER_S:
            began_at, ended_at = iso(until_us), iso(session.arrival_us)
            rules = ("charger_status/unusable",)
            found.append(
                FaultTruth(device_id="desl-01", kind="shut", began_at=began_at, ended_at=ended_at, rules=rules)
            )
        until_us = max(until_us, session.departure_us)
    return found


def _calls(station: _Station, sessions: list[Recorded]) -> Iterator[Delivery]:
    """Yield the calls in order of time, each answered at once."""
    for number, (at_us, out) in enumerate(merge(*map(station._session, sessions), key=itemgetter(0))):
        message_id, received_us = f"m{number}", at_us + LATENCY_US
        frame = json.dumps([2, message_id, out.action, out.build()], separators=(",", ":")).encode()
        yield Delivery(received_us, "desl-01", f"ocpp1.6/{out.action}", frame)
        answer: dict[str, Any] = {}
        if out.action == "StartTransaction":
            answer = {"transactionId": number + 1, "idTagInfo": {"status": "Accepted"}}
            said = json.dumps([3, message_id, answer], separators=(",", ":")).encode()
            yield Delivery(received_us + 1, "desl-01", "ocpp1.6/StartTransaction.conf", said)
        if out.on_answer is not None:
            out.on_answer(answer)
