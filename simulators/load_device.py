"""One device of the load generator: a connection, a window of unacknowledged messages, and a counter.

A raw `asyncio.Protocol` that writes prebuilt packets, because it has to outrun the servers it measures.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from simulators import packets
from simulators.latency import LatencyHistogram
from simulators.target import SimulationError
from simulators.vehicles.readings import sample_telemetry

CONNECT_TIMEOUT_S = 20.0
"""Longer than a server's own limit, so that it is the server that decides; 10,000 password hashes take a while."""
US_PER_S = 1_000_000

Connector = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]


class LoadDevice(asyncio.Protocol):
    """One device: its connection, its window and its message counter, which outlives the connection.

    Args:
        device_id: Also the client id.
        topic: Where it publishes.
        window: Unacknowledged messages at most.
        connect: The CONNECT packet.
        refill: Closed loop: room at which acknowledgements top the window up. Open loop: None.
        latency: Where probes are counted.
        on_acknowledged: Called with (first sequence number, payloads), or None.
    """

    def __init__(
        self,
        *,
        device_id: str,
        topic: str,
        window: int,
        connect: bytes,
        refill: int | None,
        latency: LatencyHistogram,
        on_acknowledged: Callable[[int, list[bytes]], None] | None,
    ) -> None:
        self.device_id = device_id
        self.sent = self.acknowledged = self.resent = 0
        self.sending = False
        self.touched = False
        self.failure: str | None = None
        self._window, self._connect, self._refill = window, connect, refill
        self._latency, self._on_acknowledged = latency, on_acknowledged
        self._transport: asyncio.Transport | None = None
        self._accepted: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] | None = None
        self._rest = b""
        self._unacknowledged: deque[bytes] = deque()
        self._ids, self._pubacks = packets.packet_ids(), packets.pubacks()
        self._head, self._tail, self._payload_at = _templates(device_id, topic)
        self._template, self._template_second, self._last_us = b"", -1, 0
        self._probe_seq, self._probe_at_s = -1, 0.0

    async def open(self, connector: Connector) -> Awaitable[None]:
        """Connect, resend what is unacknowledged, and return an awaitable that is done when the connection is lost.

        Args:
            connector: Makes the connection for a protocol factory, such as a loop's `create_connection` to an address.

        Raises: SimulationError: The server refused this device. OSError, TimeoutError: It could not be reached.
        """
        loop = asyncio.get_running_loop()
        self._accepted, self._lost, self._rest, self._probe_seq = loop.create_future(), loop.create_future(), b"", -1
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connector(lambda: self)
                await self._accepted
        except TimeoutError:
            self._abort()
            raise
        return self._lost

    @property
    def connected(self) -> bool:
        """Whether the server has accepted the connection and it is still up."""
        return self._transport is not None and self._accepted is not None and self._accepted.done()

    def close(self) -> None:
        """Say goodbye and close."""
        self.sending = False
        if self._transport is not None:
            self._transport.write(packets.DISCONNECT)
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce the device."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._transport.write(self._connect)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._transport = None
        assert self._accepted is not None
        assert self._lost is not None
        if not self._accepted.done():
            self._accepted.set_exception(exc or ConnectionResetError("server closed before it answered CONNECT"))
        if not self._lost.done():
            self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Count acknowledgements; anything but the next ones in order takes the slow way."""
        n = len(data)
        if (
            not n & 3
            and n >> 2 <= len(self._unacknowledged)
            and not self._rest
            and self._pubacks.startswith(data, self.acknowledged % packets.PACKET_IDS * 4)
        ):
            self._acknowledge(n >> 2)
            return
        try:
            found, self._rest = packets.split(self._rest + data)
            for kind, body in found:
                self._receive(kind, body)
        except ValueError as exc:
            self._fail(str(exc))

    def _receive(self, kind: int, body: bytes) -> None:
        assert self._accepted is not None
        if kind == packets.PUBACK:
            expected = self._ids[self.acknowledged % packets.PACKET_IDS]
            if body != expected or not self._unacknowledged:
                raise ValueError(
                    f"server acknowledged packet {body.hex()}, expected {expected.hex()}: MQTT-4.6.0-2 wants the order"
                )
            self._acknowledge(1)
        elif kind == packets.CONNACK and not self._accepted.done():
            if body[-1]:
                raise ValueError(f"server refused {self.device_id!r} with CONNACK {body[-1]}; give its credentials")
            self._resend()
            self._accepted.set_result(None)
        elif kind != packets.PINGRESP:
            raise ValueError(f"unexpected packet of type {kind}")

    def _fail(self, why: str) -> None:
        self.failure = why
        assert self._accepted is not None
        if not self._accepted.done():
            self._accepted.set_exception(SimulationError(why))
        self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    @property
    def room(self) -> int:
        """How many messages may be sent now."""
        return self._window - len(self._unacknowledged) if self.connected else 0

    def start(self) -> None:
        """Fill the window; in closed loop acknowledgements keep it full from here on."""
        self.sending = True
        self.fill()

    def fill(self) -> None:
        """Send as many messages as there is room for, unless that is too few to be worth a write."""
        if self.sending and self._refill is not None and (room := self.room) >= self._refill:
            self.publish(room)

    def publish(self, count: int) -> None:
        """Send `count` new messages, which the caller knows there is room for."""
        assert self._transport is not None
        measured_us = max(time.time_ns() // 1000, self._last_us + 1)
        second, us = divmod(measured_us, US_PER_S)
        count_now = min(count, US_PER_S - us)
        if second != self._template_second:
            self._template_second = second
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
            self._template = self._head + stamp + self._tail
        template, seq = self._template, self.sent
        start = seq % packets.PACKET_IDS
        batch = [
            template % (packet_id, number, microsecond)
            for packet_id, number, microsecond in zip(
                self._ids[start : start + count_now],
                range(seq, seq + count_now),
                range(us, us + count_now),
                strict=True,
            )
        ]
        self._last_us = measured_us + count_now - 1
        self.sent += count_now
        self._unacknowledged.extend(batch)
        self._transport.write(b"".join(batch))
        self.touched = True
        if self._probe_seq < 0:
            self._probe_seq, self._probe_at_s = self.sent - 1, time.perf_counter()
        if count > count_now:
            self.publish(count - count_now)

    def ping(self) -> None:
        """Keep the connection alive if nothing was sent since the last call."""
        if self._transport is not None and not self.touched:
            self._transport.write(packets.PINGREQ)
        self.touched = False

    def _resend(self) -> None:
        if self._unacknowledged:
            assert self._transport is not None
            self._transport.write(b"".join(packets.as_resent(p) for p in self._unacknowledged))
            self.resent += len(self._unacknowledged)

    def _acknowledge(self, count: int) -> None:
        pop = self._unacknowledged.popleft
        done = [pop() for _ in range(count)]
        if self._on_acknowledged is not None:
            at = self._payload_at
            self._on_acknowledged(self.acknowledged, [packet[at:] for packet in done])
        self.acknowledged += count
        if 0 <= self._probe_seq < self.acknowledged:
            self._latency.add(time.perf_counter() - self._probe_at_s)
            self._probe_seq = -1
        self.fill()


def _templates(device_id: str, topic: str) -> tuple[bytes, bytes, int]:
    """Return the PUBLISH before and after the date and second, and where its payload begins.

    Joined around `2026-11-22T10:00:00` they are a format for (packet id, seq, microsecond), always of the same length.
    """
    head = b'{"seq":%10d,"ts":"'
    reading = json.dumps(sample_telemetry(device_id), separators=(",", ":")).encode()
    tail = b'.%06dZ",' + reading[1:].replace(b"%", b"%%")
    example = (head + b"2026-11-22T10:00:00" + tail) % (0, 0)
    packet_head = packets.publish_head(topic, len(example))
    return packet_head.replace(b"%", b"%%") + b"%b" + head, tail, len(packet_head) + 2
