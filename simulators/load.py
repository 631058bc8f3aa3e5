"""Load generator: many MQTT connections from one process, every message unique and valid.

Each connection is one device that publishes `vehicle_telemetry` with QoS 1 and keeps at most `window` messages
unacknowledged. Closed loop: a new message for every acknowledgement. Open loop: a fixed rate, whatever the server does.

Measured against a sink that only counts and acknowledges: 0.6 to 1.2 million messages a second from one core. With
1,024 or more ready sockets libuv serves sockets up to 48 rounds before timers, so a saturating run may last seconds
longer than asked; `LoadSummary.seconds` is what it really took.
"""

import asyncio
import random
import time
from functools import partial
from pathlib import Path

import msgspec

from simulators import packets
from simulators.acknowledged import AcknowledgedFile
from simulators.latency import LatencyHistogram
from simulators.load_device import LoadDevice
from simulators.target import OnProgress, Progress, SimulationError, Target, first_error, no_progress

TICK_S = 0.005
"""Open loop: how often due messages are sent; also the longest an acknowledged id waits to be flushed."""
RECONNECT_FIRST_S, RECONNECT_MAX_S = 0.05, 1.0
CLOSE_TIMEOUT_S = 2.0
_RANDOM_SEED = 1


class LoadConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to send.

    Attributes:
        target: Server and credentials; device ids are `{device_prefix}-00000` and up.
        connections: Devices, each with a connection of its own.
        window: Unacknowledged messages per connection, 1 .. 65535.
        refill: Closed loop: top the window up once there is room for so many messages; 0 for a quarter of the window.
            At 1 every acknowledgement costs a write of its own, and this process becomes the bottleneck.
        rate_per_s: Messages per second of all connections together, or None for as fast as the windows allow.
        seconds: How long to send, or None until stopped.
        device_prefix: Beginning of every device id.
        idle: Connect and hold, send nothing but keep-alives.
        survive: Reconnect for ever and resend what is unacknowledged when the server goes away.
        acknowledged_file: Where to note every acknowledged message (simulators.acknowledged), or None.
        connecting_max: Connections on their way at the same time; servers bound theirs.
        keep_alive_s: Keep alive of the CONNECT packet, 0 for none.
        drain_s: How long to wait for outstanding acknowledgements at the end.
    """

    target: Target
    connections: int = 50
    window: int = 20
    refill: int = 0
    rate_per_s: float | None = None
    seconds: float | None = 10.0
    device_prefix: str = "load"
    idle: bool = False
    survive: bool = False
    acknowledged_file: Path | None = None
    connecting_max: int = 100
    keep_alive_s: int = 60
    drain_s: float = 10.0


class LoadSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent and what the server said.

    Attributes:
        connections: Devices.
        seconds: From the first publish to the end of sending.
        sent: Distinct messages; `resent` are not in it.
        acknowledged: Of those, acknowledged before the end, waiting for outstanding ones included.
        unacknowledged: The rest.
        resent: Repeated after a reconnect.
        rate_per_s: Acknowledged during `seconds`, per second.
        latency_p50_ms: From write to acknowledgement, one probe at a time per connection; resent ones are not measured.
        latency_p99_ms: The same.
        latency_max_ms: The same.
        connection_losses: Connections that ended before we closed them.
        behind_max: Open loop: most messages that were due and could not be sent because all windows were full.
        cpu_s: Processor time of this process while sending; near `seconds` means that the generator is the bottleneck.
    """

    connections: int
    seconds: float
    sent: int
    acknowledged: int
    unacknowledged: int
    resent: int
    rate_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    connection_losses: int
    behind_max: int
    cpu_s: float


class _Load:
    """One run: the devices, the clock of the open loop, and what is counted across devices."""

    def __init__(self, config: LoadConfig, file: AcknowledgedFile | None, on_progress: OnProgress) -> None:
        self.config, self._file, self._on_progress = config, file, on_progress
        self.latency = LatencyHistogram()
        self.connection_losses = self.behind_max = 0
        self.all_connected = asyncio.Event()
        self.ended = asyncio.Event()
        self._connecting = asyncio.Semaphore(config.connecting_max)
        self._random = random.Random(_RANDOM_SEED)
        self._next_device = 0
        self._not_yet_connected = config.connections
        self.devices = [self._device(i, name) for i, name in enumerate(load_device_ids(config))]

    def _device(self, index: int, device_id: str) -> LoadDevice:
        config, file = self.config, self._file
        return LoadDevice(
            device_id=device_id,
            topic=config.target.topic(device_id, "telemetry"),
            window=config.window,
            connect=packets.connect(
                device_id,
                config.target.credentials.get(device_id),
                keep_alive_s=config.keep_alive_s,
                clean_session=not config.survive,
            ),
            refill=(config.refill or max(1, config.window // 4)) if config.rate_per_s is None else None,
            latency=self.latency,
            on_acknowledged=None if file is None else lambda seq, payloads: file.add(index, seq, payloads),
        )

    @property
    def connected(self) -> int:
        """Devices whose connection is up; counted on demand, because it is asked about once a second."""
        return sum(device.connected for device in self.devices)

    @property
    def sent(self) -> int:
        return sum(device.sent for device in self.devices)

    @property
    def acknowledged(self) -> int:
        return sum(device.acknowledged for device in self.devices)

    async def release_when(self, stop: asyncio.Event) -> None:
        """Let a run that still waits for its connections end."""
        await stop.wait()
        self.all_connected.set()

    def close(self) -> None:
        """Disconnect every device."""
        self.ended.set()
        for device in self.devices:
            device.close()

    async def hold(self, device: LoadDevice) -> None:
        """Keep one device connected until the run has ended.

        Raises: SimulationError: The server refused it, broke the protocol, or went away without `survive`.
        """
        target, delay_s, first = self.config.target, RECONNECT_FIRST_S, True
        connector = partial(asyncio.get_running_loop().create_connection, host=target.host, port=target.port)
        while not self.ended.is_set():
            try:
                async with self._connecting:
                    lost = await device.open(connector)
            except (OSError, TimeoutError) as exc:
                if not self.config.survive:
                    where = f"{target.host}:{target.port}"
                    raise SimulationError(
                        f"no connection to {where} for {device.device_id!r}: {exc!r}; is it running?"
                    ) from exc
                await asyncio.sleep(self._random.uniform(delay_s / 2, delay_s))
                delay_s = min(delay_s * 2, RECONNECT_MAX_S)
                continue
            delay_s = RECONNECT_FIRST_S
            if first:
                first = False
                self._not_yet_connected -= 1
                if not self._not_yet_connected:
                    self.all_connected.set()
            device.fill()
            await lost
            self._judge_loss(device)

    def _judge_loss(self, device: LoadDevice) -> None:
        if device.failure is not None:
            raise SimulationError(device.failure)
        if self.ended.is_set():
            return
        self.connection_losses += 1
        if not self.config.survive:
            outstanding = device.sent - device.acknowledged
            raise SimulationError(
                f"server closed the connection of {device.device_id!r} with {outstanding} messages unacknowledged; "
                "use --survive to reconnect and resend"
            )

    def send_due(self, due: int) -> int:
        """Send up to `due` messages, beginning with the device after the last one; return how many found no room."""
        devices = self.devices
        share = -(-due // len(devices))
        for _ in range(len(devices)):
            if due <= 0:
                break
            device = devices[self._next_device]
            self._next_device = (self._next_device + 1) % len(devices)
            if (count := min(share, device.room, due)) > 0:
                device.publish(count)
                due -= count
        return due

    async def send(self) -> None:
        """Send as the windows allow, or at the rate until cancelled; what could not be sent in time stays due."""
        rate_per_s = self.config.rate_per_s
        if self.config.idle:
            return
        if rate_per_s is None:
            for device in self.devices:
                device.start()
            return
        began_s, given = time.perf_counter(), 0
        while True:
            due = int((time.perf_counter() - began_s) * rate_per_s) - given
            left = self.send_due(due)
            given += due - left
            self.behind_max = max(self.behind_max, left)
            await asyncio.sleep(TICK_S)

    async def flush(self) -> None:
        """Keep the file of acknowledged ids no more than a tick behind."""
        while self._file is not None:
            self._file.flush()
            await asyncio.sleep(TICK_S)

    async def keep_alive(self) -> None:
        """Ping silent connections, twice per keep alive; the servers' patience is one and a half of it."""
        while self.config.keep_alive_s:
            await asyncio.sleep(self.config.keep_alive_s / 2)
            for device in self.devices:
                device.ping()

    async def report(self, began_s: float) -> None:
        """Report once a second."""
        while True:
            await asyncio.sleep(1.0)
            self._on_progress(
                Progress(
                    elapsed_s=time.perf_counter() - began_s,
                    connected=self.connected,
                    sent=self.sent,
                    acknowledged=self.acknowledged,
                )
            )

    async def drain(self) -> None:
        """Wait for outstanding acknowledgements, at most `drain_s`."""
        for _ in range(int(self.config.drain_s / TICK_S)):
            if self.acknowledged == self.sent:
                break
            await asyncio.sleep(TICK_S)


def load_device_ids(config: LoadConfig) -> list[str]:
    """Return the ids that a run uses, so that they can be registered before it."""
    return [f"{config.device_prefix}-{i:05d}" for i in range(config.connections)]


async def run_load(config: LoadConfig, *, stop: asyncio.Event, on_progress: OnProgress = no_progress) -> LoadSummary:
    """Connect, send until the time is up or `stop` is set, wait for what is outstanding, disconnect.

    Raises: SimulationError: A device was refused, the server broke the protocol, or it went away without `survive`.
    """
    if not 1 <= config.window <= packets.PACKET_IDS:
        raise SimulationError(f"window is {config.window}; give 1 to {packets.PACKET_IDS}")
    if config.connections < 1:
        raise SimulationError(f"connections is {config.connections}; give at least 1")
    if config.rate_per_s is not None and config.rate_per_s <= 0:
        raise SimulationError(f"rate is {config.rate_per_s:g}; give messages per second, or none for no limit")
    file = AcknowledgedFile(config.acknowledged_file, load_device_ids(config)) if config.acknowledged_file else None
    try:
        return await _run(_Load(config, file, on_progress), stop)
    except* SimulationError as group:
        raise first_error(group) from None
    finally:
        if file is not None:
            file.close()


async def _run(load: _Load, stop: asyncio.Event) -> LoadSummary:
    config = load.config
    async with asyncio.TaskGroup() as tasks:
        holders = [tasks.create_task(load.hold(d), name=f"hold-{d.device_id}") for d in load.devices]
        services = [tasks.create_task(load.release_when(stop), name="load-stop")]
        await load.all_connected.wait()
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        services += [
            tasks.create_task(load.report(began_s), name="load-report"),
            tasks.create_task(load.flush(), name="load-flush"),
            tasks.create_task(load.keep_alive(), name="load-keep-alive"),
        ]
        sender = tasks.create_task(load.send(), name="load-send")
        try:
            async with asyncio.timeout(config.seconds):
                await stop.wait()
        except TimeoutError:
            pass  # the time is up, which is the usual end
        seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
        acknowledged_in_time = load.acknowledged
        sender.cancel()
        for device in load.devices:
            device.sending = False
        await load.drain()
        load.close()
        await asyncio.wait(holders, timeout=CLOSE_TIMEOUT_S)
        for task in (*holders, *services):
            task.cancel()
    return LoadSummary(
        connections=config.connections,
        seconds=seconds,
        sent=load.sent,
        acknowledged=load.acknowledged,
        unacknowledged=load.sent - load.acknowledged,
        resent=sum(device.resent for device in load.devices),
        rate_per_s=acknowledged_in_time / seconds,
        latency_p50_ms=load.latency.percentile_s(50) * 1e3,
        latency_p99_ms=load.latency.percentile_s(99) * 1e3,
        latency_max_ms=load.latency.max_s * 1e3,
        connection_losses=load.connection_losses,
        behind_max=load.behind_max,
        cpu_s=cpu_s,
    )
