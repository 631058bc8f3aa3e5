"""A fleet over MQTT: every vehicle says where it is and how its battery does, once a second, and takes commands.

Half of the vehicles encode in JSON, half in MessagePack. Each has its own connection, buffer and clock phase; they lose
nothing while the server is away, as far as their buffers reach.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from simulators.faults import FaultRates, Faults
from simulators.message import Encoding, Message, Reading, encode, message
from simulators.moments import US_PER_S, iso
from simulators.scenarios.orders import VEHICLE_KINDS, FaultOrder, orders_of
from simulators.scenarios.vehicle_faults import VehicleFault, vehicle_fault
from simulators.target import OnProgress, Progress, SimulationError, Target, first_error, no_progress
from simulators.truth import TruthFile, one_reject
from simulators.uplink import Outgoing, Uplink, Will
from simulators.vehicles.drive import STEP_S, Drive, Plug, Snapshot
from simulators.vehicles.physics import BUS, CAR, HEALTHY, Model
from simulators.vehicles.readings import Character, battery, character, event, telemetry
from simulators.vehicles.routes import ROUTES, Route

REPORT_S = 1.0
BUFFER_MESSAGES = 7_200
"""An hour of readings; past that a vehicle throws the newest away, as a logger with a full disk does."""
TROUBLES_PER_HOUR = 0.2
"""Diagnostic trouble codes a vehicle reports."""
TROUBLE_CODES = ("P0A7F", "P0AA6", "U0293", "B1A2F", "C1527")


class VehiclesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which fleet.

    Attributes:
        target: Server and credentials.
        buses: Named `bus-001` and up.
        cars: Named `car-001` and up.
        seconds: How long to drive, real time, or None until stopped.
        seed: The same seed gives the same journeys and the same faults.
        pace: Simulated seconds per real second. Other than 1 it needs `seconds`, and the vehicles' clocks begin so far
            in the past that they end at the present.
        faults: What goes wrong with messages, and how often.
        scenarios: What goes wrong with vehicles, with whom and when.
        truth_file: Where to note what was sent and must come out (simulators.truth), or None.
        drain_s: How long to wait for outstanding acknowledgements at the end.
    """

    target: Target
    buses: int = 30
    cars: int = 10
    seconds: float | None = None
    seed: int = 1
    pace: float = 1.0
    faults: FaultRates = FaultRates()
    scenarios: tuple[FaultOrder, ...] = ()
    truth_file: Path | None = None
    drain_s: float = 10.0


class VehiclesSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the fleet did.

    Attributes:
        vehicles: How many.
        seconds: Real time.
        sent: Messages given to the network, resends not counted.
        acknowledged: Of those, acknowledged.
        resent: Repeated after a reconnect.
        dropped: Never sent, because a vehicle's buffer was full.
        connection_losses: Connections that ended before the vehicle closed them.
        commands: Received and answered.
        faults: Name -> messages that carried it.
    """

    vehicles: int
    seconds: float
    sent: int
    acknowledged: int
    resent: int
    dropped: int
    connection_losses: int
    commands: int
    faults: dict[str, int]


def vehicle_ids(config: VehiclesConfig) -> list[str]:
    """Return the ids that a run uses, so that they can be registered before it."""
    return [f"bus-{i:03d}" for i in range(1, config.buses + 1)] + [f"car-{i:03d}" for i in range(1, config.cars + 1)]


class Vehicle:
    """One vehicle: its journey, its faults, its connection.

    Args:
        device_id: Its name.
        index: Place in the fleet; decides depot, line and encoding.
        config: Of the fleet.
        truth: Where to note what it sends, or None.
        connect: Plugs it in at its depot (`Drive`), or None for depots that charge by themselves.
        plugged_soc: State of charge of a vehicle that begins at its depot's charger, None for one on its way.
        scenarios: What befalls it.
    """

    def __init__(
        self,
        device_id: str,
        index: int,
        config: VehiclesConfig,
        truth: TruthFile | None,
        *,
        connect: "Callable[[Vehicle], Plug | None] | None" = None,
        plugged_soc: float | None = None,
        scenarios: Sequence[FaultOrder] = (),
    ) -> None:
        self.device_id = device_id
        self.sent = self.acknowledged = self.dropped = self.commands = 0
        self.fault_counts: Counter[str] = Counter()
        self._random = random.Random(f"{config.seed}/{device_id}")
        self._config, self._target, self._truth = config, config.target, truth
        self._encoding: Encoding = "msgpack" if index % 2 else "json"
        self._model, route = model_and_route(device_id, index)
        self._character: Character = character(self._model, self._random)
        self._faults = Faults(config.faults, seed=f"{config.seed}/{device_id}/faults")
        soc = self._random.uniform(0.45, 0.95)
        self.drive_state = Drive(
            self._model,
            route,
            random_=self._random,
            soc=soc if plugged_soc is None else plugged_soc,
            odometer_km=self._random.uniform(2_000, 240_000),
            ambient_temp_c=6.0 + 4.0 * (index % len(ROUTES)),
            start_m=self._random.uniform(0.0, route.length_m * 0.9) if plugged_soc is None else route.length_m,
            connect=None if connect is None else lambda: connect(self),
            is_charging=plugged_soc is not None,
        )
        self._orders, self._ailing = list(scenarios), list[VehicleFault]()
        self._ignition_on: bool | None = None
        self.now_us = self._seq = 0
        self.uplink = Uplink(
            target=config.target,
            device_id=device_id,
            random_=self._random,
            on_acknowledged=self._acknowledge,
            buffer_max=BUFFER_MESSAGES,
            will=self._will(),
            command_filter=config.target.topic(device_id, "cmd/+"),
            on_command=self._command,
        )

    async def drive(self, began_us: int, began_s: float) -> None:
        """Drive and report until cancelled.

        Args:
            began_us: The fleet's first moment on the vehicles' clocks, UTC microseconds since 1970.
            began_s: The same moment on the monotonic clock.
        """
        phase_us = self._random.randrange(US_PER_S)
        tick = 0
        while True:
            elapsed_us = tick * int(STEP_S * US_PER_S) + phase_us
            await asyncio.sleep(began_s + elapsed_us / US_PER_S / self._config.pace - time.monotonic())
            self.now_us = began_us + elapsed_us
            now = self.drive_state.advance()
            self._fail(now, elapsed_us / US_PER_S)
            for honest in self._report(now):
                for out in self._faults.apply(honest):
                    self._send(out)
            tick += 1

    def finish(self) -> None:
        """Send what faults keep back."""
        for out in self._faults.flush():
            self._send(out)

    def _fail(self, now: Snapshot, elapsed_s: float) -> None:
        """Let the scenarios begin whose time has come, and go on."""
        for order in [order for order in self._orders if order.at_s <= elapsed_s]:
            self._orders.remove(order)
            cell = self._random.randint(1, self._model.battery.cells)
            self._ailing.append(
                vehicle_fault(order.kind, device_id=self.device_id, model=self._model, began_us=self.now_us, cell=cell)
            )
        for fault in self._ailing:
            if fault.pass_time(now, self.now_us) and self._truth is not None:
                self._truth.fault(fault.truth)

    def _report(self, now: Snapshot) -> list[Message]:
        """Return what the vehicle says about one second."""
        ts = iso(self.now_us)
        ailment = next((fault.ailment for fault in self._ailing if fault.ailment is not HEALTHY), HEALTHY)
        said = [
            ("telemetry", telemetry(self.device_id, ts, self._model, now)),
            ("battery", battery(self.device_id, ts, self._model, self._character, now, ailment)),
        ]
        if now.ignition_on is not self._ignition_on:
            self._ignition_on = now.ignition_on
            said.append(("event", event(self.device_id, ts, "ignition", active=now.ignition_on)))
        if self._random.random() < TROUBLES_PER_HOUR * STEP_S / 3600:
            code = self._random.choice(TROUBLE_CODES)
            said.append(("event", event(self.device_id, ts, "dtc", code=code, active=True)))
        self._seq += 1
        for fault in self._ailing:
            altered = [(channel, fault.said(channel, reading)) for channel, reading in said]
            said = [(channel, reading) for channel, reading in altered if reading is not None]
        return [message(channel, reading | {"seq": self._seq}, self._encoding) for channel, reading in said]

    def _send(self, out: Message) -> None:
        if not self.uplink.has_room:
            self.dropped += 1
            return
        tag = -1
        if self._truth is not None:
            tag = self._truth.sent(
                device_id=self.device_id,
                channel=out.channel,
                payload=out.payload,
                outcome=out.outcome,
                faults=out.faults,
            )
        self.uplink.put_nowait(self._target.topic(self.device_id, out.channel), out.payload, tag)
        self.sent += 1
        self.fault_counts.update(out.faults)

    def _acknowledge(self, outgoing: Outgoing) -> None:
        self.acknowledged += 1
        if self._truth is not None:
            self._truth.acknowledged(outgoing.tag)

    def _will(self) -> Will:
        said = event(self.device_id, None, "connectivity", code="offline", active=False)
        return Will(self._target.topic(self.device_id, "event"), encode(said, "json"))

    def _command(self, topic: str, payload: bytes) -> None:
        """Answer a command; its text is repeated, so that whoever sent it sees what arrived."""
        request_id = topic.rsplit("/", 1)[-1]
        answer: Reading = {
            "ts": iso(self.now_us),
            "device_id": self.device_id,
            "request_id": request_id,
            "status": "accepted",
            "received": payload.decode("utf-8", "backslashreplace")[:200],
        }
        self.commands += 1
        channel = f"cmd/{request_id}/response"
        # No contract reads answers, so the lake keeps them in `raw` and says so in `rejects`.
        reply = Message(
            channel=channel,
            encoding="json",
            reading=answer,
            payload=json.dumps(answer, separators=(",", ":")).encode(),
            outcome=one_reject("unknown_channel"),
        )
        self._send(reply)


def model_and_route(device_id: str, index: int) -> tuple[Model, Route]:
    """Return the type and the line of a vehicle: depots in turn, a depot's lines in turn."""
    depots = list(ROUTES.values())
    is_bus = device_id.startswith("bus")
    lines = [route for route in depots[index % len(depots)] if ("-bus-" in route.name) is is_bus]
    return (BUS if is_bus else CAR), lines[index // len(depots) % len(lines)]


class Fleet:
    """The vehicles of one run, and the truth they write, if any."""

    def __init__(self, vehicles: list[Vehicle], truth: TruthFile | None) -> None:
        self.vehicles, self._truth = vehicles, truth

    async def report(self, began_s: float, on_progress: OnProgress) -> None:
        """Report once a second."""
        while True:
            await asyncio.sleep(REPORT_S)
            if self._truth is not None:
                self._truth.flush()
            on_progress(
                Progress(
                    elapsed_s=time.monotonic() - began_s,
                    connected=sum(v.uplink.connected for v in self.vehicles),
                    sent=sum(v.sent for v in self.vehicles),
                    acknowledged=sum(v.acknowledged for v in self.vehicles),
                )
            )

    async def drained(self) -> None:
        """Wait until everything is acknowledged."""
        for vehicle in self.vehicles:
            await vehicle.uplink.drained()

    def summary(self, seconds: float) -> VehiclesSummary:
        """Return the sums over the vehicles."""
        faults: Counter[str] = Counter()
        for vehicle in self.vehicles:
            faults.update(vehicle.fault_counts)
        return VehiclesSummary(
            vehicles=len(self.vehicles),
            seconds=seconds,
            sent=sum(v.sent for v in self.vehicles),
            acknowledged=sum(v.acknowledged for v in self.vehicles),
            resent=sum(v.uplink.resent for v in self.vehicles),
            dropped=sum(v.dropped for v in self.vehicles),
            connection_losses=sum(v.uplink.connection_losses for v in self.vehicles),
            commands=sum(v.commands for v in self.vehicles),
            faults=dict(sorted(faults.items())),
        )


async def run_vehicles(
    config: VehiclesConfig,
    *,
    stop: asyncio.Event,
    on_progress: OnProgress = no_progress,
    now_ns: Callable[[], int] = time.time_ns,
) -> VehiclesSummary:
    """Drive until the time is up or `stop` is set, wait for what is outstanding, disconnect.

    Raises: SimulationError: The server refuses a vehicle, or the configuration makes no sense.
    """
    if config.pace != 1.0 and config.seconds is None:
        raise SimulationError(f"pace is {config.pace:g} and seconds is not given; give both or neither")
    if config.pace <= 0:
        raise SimulationError(f"pace is {config.pace:g}; give simulated seconds per second, such as 1")
    if config.buses + config.cars < 1:
        raise SimulationError("the fleet is empty; give buses or cars")
    scenarios = orders_of(config.scenarios, vehicle_ids(config), VEHICLE_KINDS)
    truth = TruthFile(config.truth_file) if config.truth_file else None
    vehicles = [
        Vehicle(name, i, config, truth, scenarios=scenarios.get(name, ())) for i, name in enumerate(vehicle_ids(config))
    ]
    fleet = Fleet(vehicles, truth)
    began_s, ahead_s = time.monotonic(), (config.pace - 1.0) * (config.seconds or 0.0)
    began_us = now_ns() // 1000 - int(ahead_s * US_PER_S)
    try:
        async with asyncio.TaskGroup() as tasks:
            uplinks = [tasks.create_task(v.uplink.run(), name=f"{v.device_id}-uplink") for v in fleet.vehicles]
            drives = [tasks.create_task(v.drive(began_us, began_s), name=v.device_id) for v in fleet.vehicles]
            report = tasks.create_task(fleet.report(began_s, on_progress), name="fleet-report")
            try:
                async with asyncio.timeout(config.seconds):
                    await stop.wait()
            except TimeoutError:
                pass  # the time is up, which is the usual end
            for task in drives:
                task.cancel()
            for vehicle in fleet.vehicles:
                vehicle.finish()
            try:
                async with asyncio.timeout(config.drain_s):
                    await fleet.drained()
            except TimeoutError:
                pass  # the summary shows what is not acknowledged
            for task in (*uplinks, report):
                task.cancel()
    except* SimulationError as group:
        raise first_error(group) from None
    finally:
        if truth is not None:
            truth.close()
    return fleet.summary(time.monotonic() - began_s)
