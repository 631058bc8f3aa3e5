"""Publishes a fleet's messages over MQTT, a given number of them, as fast as they are acknowledged.

python -m tests.bench.feed '{"port": 1883, "devices": 200, "first": 0, "end": 2000, "began_at": "2026-11-23T10:00:00Z"}'
"""

import asyncio
import sys
from datetime import datetime
from typing import cast

import msgspec
import uvloop

from simulators import packets
from simulators.target import Target
from tests.bench.fleet import Fleet
from tests.bench.harness import raise_file_limit


class FeedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to publish.

    Attributes:
        port: MQTT port on the loopback.
        devices: Connections, one each.
        first: Number of the first message of each device.
        end: Number after the last one.
        began_at: Measured time of message 0.
        window: Unacknowledged messages per connection.
    """

    port: int
    devices: int
    first: int
    end: int
    began_at: datetime
    window: int = 20


class FeedDevice(asyncio.Protocol):
    """One device of the fleet; `done` resolves when its last message is acknowledged."""

    def __init__(self, config: FeedConfig, fleet: Fleet, index: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fleet, self._index, self._window = fleet, index, config.window
        self._next, self._acknowledged, self._end = config.first, config.first, config.end
        self._connected = False
        name = fleet.ids[index]
        self._connect = packets.connect(name, None, keep_alive_s=0)
        self._head = packets.publish_head(Target().topic(name, "telemetry"), fleet.payload_bytes)
        self._transport: asyncio.Transport
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce the device."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._transport.write(self._connect)

    def data_received(self, data: bytes) -> None:
        """Count acknowledgements and send as many new messages."""
        try:
            found, self._rest = packets.split(self._rest + data)
            for kind, body in found:
                self._receive(kind, body)
        except ValueError as exc:
            self.done.set_exception(exc)
            self._transport.abort()
            return
        if self._acknowledged == self._end:
            self._transport.write(packets.DISCONNECT)
            self._transport.close()
            self.done.set_result(None)
        else:
            self._fill()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail unless everything was acknowledged."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("server closed the connection"))

    def _receive(self, kind: int, body: bytes) -> None:
        if kind == packets.PUBACK:
            self._acknowledged += 1
        elif kind != packets.CONNACK or body[-1]:
            raise ValueError(f"unexpected packet of type {kind}, {body.hex()}")

    def _fill(self) -> None:
        until = min(self._end, self._acknowledged + self._window)
        ids, fleet, index, head = packets.packet_ids(), self._fleet, self._index, self._head
        batch = [head + ids[n % packets.PACKET_IDS] + fleet.payload(index, n) for n in range(self._next, until)]
        self._next = until
        if batch:
            self._transport.write(b"".join(batch))


async def feed(config: FeedConfig) -> None:
    """Publish everything. Raises: OSError, ValueError: The server went away or said something else."""
    fleet = Fleet(devices=config.devices, messages=config.end, began_at=config.began_at)
    devices = [FeedDevice(config, fleet, index) for index in range(config.devices)]
    loop = asyncio.get_running_loop()
    for device in devices:
        await loop.create_connection(lambda device=device: device, "127.0.0.1", config.port)  # type: ignore[misc]  # lambda
    for device in devices:
        await device.done


def main() -> int:
    """Run what the argument says."""
    config = msgspec.json.decode(sys.argv[1], type=FeedConfig)
    raise_file_limit(config.devices + 100)
    uvloop.run(feed(config))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
