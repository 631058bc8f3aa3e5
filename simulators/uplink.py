"""A device's connection over aiomqtt: QoS 1, in order, nothing lost when the server goes away.

Owns the connection, the window and the buffer; knows nothing of vehicles or files. Messages leave in the order they
were put; after a reconnect the unacknowledged ones leave first, byte for byte the same, as duplicates have to be.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable

import aiomqtt
import msgspec

from simulators.target import SimulationError, Target

ACK_TIMEOUT_S = 30.0
"""No acknowledgement for so long: the connection is taken for dead and made anew."""
RECONNECT_FIRST_S, RECONNECT_MAX_S = 0.1, 5.0
_REFUSED = (0x86, 0x87)
"""CONNACK codes that no later try mends: bad credentials, not authorised (paho gives MQTT 5's for 4 and 5)."""


class Will(msgspec.Struct, frozen=True):
    """What the server says for a device that went away without a word."""

    topic: str
    payload: bytes


class Outgoing(msgspec.Struct, frozen=True, eq=False):
    """A message on its way.

    Attributes:
        topic: Where to.
        payload: What.
        tag: For whoever put it, handed back with the acknowledgement.
    """

    topic: str
    payload: bytes
    tag: int


class Uplink:
    """One device's messages on their way to the server.

    Args:
        target: Server and credentials.
        device_id: Also the client id.
        random_: Source of the jitter.
        on_acknowledged: Called once for each message, with it.
        window: Messages unacknowledged at most.
        buffer_max: Messages unacknowledged or unsent at most.
        will: Last will, or None.
        command_filter: Topic filter of the device's commands, or None for a device that takes none.
        on_command: Called with (topic, payload) of each command.
    """

    def __init__(
        self,
        *,
        target: Target,
        device_id: str,
        random_: random.Random,
        on_acknowledged: Callable[[Outgoing], None],
        window: int = 20,
        buffer_max: int = 3600,
        will: Will | None = None,
        command_filter: str | None = None,
        on_command: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._target, self._device_id, self._random = target, device_id, random_
        self._on_acknowledged, self._window, self._buffer_max = on_acknowledged, window, buffer_max
        self._will, self._command_filter, self._on_command = will, command_filter, on_command
        self.connected = False
        self.acknowledged = self.resent = self.connection_losses = 0
        self._waiting: deque[Outgoing] = deque()
        self._in_flight: dict[Outgoing, None] = {}  # keeps its order
        self._available = asyncio.Semaphore(0)  # counts _waiting
        self._has_room, self._is_empty = asyncio.Event(), asyncio.Event()
        self._is_empty.set()

    @property
    def pending(self) -> int:
        """Messages unsent or unacknowledged."""
        return len(self._waiting) + len(self._in_flight)

    @property
    def has_room(self) -> bool:
        """Whether `put_nowait` would take a message."""
        return self.pending < self._buffer_max

    def put_nowait(self, topic: str, payload: bytes, tag: int) -> bool:
        """Take a message, or return False because the buffer is full."""
        if not self.has_room:
            return False
        self._waiting.append(Outgoing(topic, payload, tag))
        self._is_empty.clear()
        self._available.release()
        return True

    async def put(self, topic: str, payload: bytes, tag: int) -> None:
        """Take a message as soon as there is room for it."""
        while not self.put_nowait(topic, payload, tag):
            self._has_room.clear()
            await self._has_room.wait()

    async def drained(self) -> None:
        """Wait until everything that was put is acknowledged."""
        await self._is_empty.wait()

    async def run(self) -> None:
        """Connect and send until cancelled; reconnect with jittered back-off.

        Raises: SimulationError: The server refuses this device.
        """
        delay_s = RECONNECT_FIRST_S
        while True:
            try:
                async with self._client() as client:
                    self.connected, delay_s = True, RECONNECT_FIRST_S
                    await self._serve(client)
            except* aiomqtt.MqttError as group:
                self.connection_losses += self.connected
                self._judge(group)
            finally:
                self.connected = False
            await asyncio.sleep(self._random.uniform(delay_s / 2, delay_s))
            delay_s = min(delay_s * 2, RECONNECT_MAX_S)

    def _client(self) -> aiomqtt.Client:
        username, password = self._target.credentials.get(self._device_id, (None, None))
        client = aiomqtt.Client(
            self._target.host,
            self._target.port,
            identifier=self._device_id,
            username=username,
            password=password,
            clean_session=False,
            max_inflight_messages=self._window,
            will=None if self._will is None else aiomqtt.Will(self._will.topic, self._will.payload, qos=1),
        )
        client.pending_calls_threshold = self._window  # more than that it would log, not refuse
        return client

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Send and receive on one connection until it fails."""
        self.resent += len(self._in_flight)
        self._waiting.extendleft(reversed(self._in_flight))
        for _ in range(len(self._in_flight)):
            self._available.release()
        self._in_flight.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive(client), name=f"{self._device_id}-receive")
            for i in range(self._window):
                tasks.create_task(self._send(client), name=f"{self._device_id}-send-{i}")

    async def _send(self, client: aiomqtt.Client) -> None:
        """One slot of the window. `publish` hands over before it first waits, so the slots together keep the order."""
        while True:
            await self._available.acquire()
            outgoing = self._waiting.popleft()
            self._in_flight[outgoing] = None
            await client.publish(outgoing.topic, outgoing.payload, qos=1, timeout=ACK_TIMEOUT_S)
            del self._in_flight[outgoing]
            self.acknowledged += 1
            self._has_room.set()
            if not self.pending:
                self._is_empty.set()
            self._on_acknowledged(outgoing)

    async def _receive(self, client: aiomqtt.Client) -> None:
        """Take commands; also notices that the connection is lost while there is nothing to send."""
        if self._command_filter is not None:
            await client.subscribe(self._command_filter, qos=1)
        async for message in client.messages:
            if self._on_command is not None and isinstance(message.payload, bytes):
                self._on_command(message.topic.value, message.payload)

    def _judge(self, group: BaseExceptionGroup[aiomqtt.MqttError]) -> None:
        """Raise if a later try cannot mend what went wrong."""
        for exc in group.exceptions:
            if isinstance(exc, BaseExceptionGroup):
                self._judge(exc)
            elif isinstance(exc, aiomqtt.exceptions.MqttConnectError) and getattr(exc.rc, "value", 0) in _REFUSED:
                where = f"{self._target.host}:{self._target.port}"
                raise SimulationError(f"{where} refuses {self._device_id!r}: {exc}; give its credentials") from exc
