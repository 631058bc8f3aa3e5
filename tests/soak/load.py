"""A fleet that measures once a second of its own clock and says so, whatever the gateway does: an open loop.

python -m tests.soak.load '{"port": 1883, "devices": 500, "seconds": 600, "speed": 10, "began_at": "2026-11-23T10:00Z"}'

Each device publishes `speed` messages a second with QoS 1, measured a second apart; their moments are spread over that
time. On the standard output it says `connected`, and at the end what became of the messages, as JSON.
"""

import asyncio
import sys
from datetime import datetime
from typing import Final, cast

import msgspec
import uvloop

from simulators import packets
from simulators.target import Target
from tests.bench.fleet import Fleet
from tests.bench.harness import raise_file_limit

TURNS_PER_S: Final = 50
"""In each turn a share of the devices publishes."""
CONNECTING_MAX: Final = 100
DRAIN_S: Final = 60.0
"""How long the last acknowledgements may take."""


class LoadConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who publishes how long.

    Attributes:
        port: MQTT port on the loopback.
        devices: Connections, one each.
        seconds: How long.
        speed: How fast the fleet's clock goes, and so how many messages a second each device publishes.
        began_at: Measured time of the first one.
    """

    port: int
    devices: int
    seconds: int
    speed: int
    began_at: datetime


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the messages.

    Attributes:
        published: Messages that were written.
        acknowledged: Of those.
        late_s: Longest time that a turn came too late, so how far from an open loop it was.
        waiting_max: Most messages of the fleet that waited for their acknowledgement at once.
    """

    published: int
    acknowledged: int
    late_s: float
    waiting_max: int


class _Device(asyncio.Protocol):
    def __init__(self, load: "_Load", index: int) -> None:
        name = load.fleet.ids[index]
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._load, self._index, self._rest = load, index, b""
        self._connect = packets.connect(name, None, keep_alive_s=0)
        self._head = packets.publish_head(Target().topic(name, "telemetry"), load.fleet.payload_bytes)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.transport.write(self._connect)

    def publish(self, number: int) -> None:
        packet_id = packets.packet_ids()[number % packets.PACKET_IDS]
        self.transport.write(self._head + packet_id + self._load.fleet.payload(self._index, number))

    def data_received(self, data: bytes) -> None:
        found, self._rest = packets.split(self._rest + data)
        for kind, body in found:
            if kind == packets.PUBACK:
                self._load.acknowledged += 1
            elif kind == packets.CONNACK and not body[-1]:
                self.ready.set_result(None)
            else:
                self._load.fail(f"unexpected packet of type {kind}, {body.hex()}")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._load.is_over:
            self._load.fail(f"the gateway closed a connection: {exc}")


class _Load:
    def __init__(self, config: LoadConfig) -> None:
        self._messages = config.seconds * config.speed
        self.fleet = Fleet(devices=config.devices, messages=self._messages, began_at=config.began_at)
        self.acknowledged = 0
        self.is_over = False
        self._config = config
        self._failure: str | None = None

    def fail(self, why: str) -> None:
        self._failure = self._failure or why

    async def run(self) -> LoadResult:
        """Publish everything. Raises: RuntimeError: The gateway refused something or went away."""
        loop, config = asyncio.get_running_loop(), self._config
        devices = [_Device(self, index) for index in range(config.devices)]
        for first in range(0, len(devices), CONNECTING_MAX):
            for device in devices[first : first + CONNECTING_MAX]:
                await loop.create_connection(lambda device=device: device, "127.0.0.1", config.port)  # type: ignore[misc]  # lambda
            await asyncio.wait([device.ready for device in devices[first : first + CONNECTING_MAX]], timeout=DRAIN_S)
        self._check()
        print("connected", flush=True)
        published, late_s, waiting_max, began_s = 0, 0.0, 0, loop.time()
        turns = max(1, TURNS_PER_S // config.speed)
        for number in range(self._messages):
            for turn in range(turns):
                due_s = began_s + (number + turn / turns) / config.speed
                late_s = max(late_s, loop.time() - due_s)
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                for device in devices[turn::turns]:
                    device.publish(number)
                    published += 1
                waiting_max = max(waiting_max, published - self.acknowledged)
            self._check()
        deadline_s = loop.time() + DRAIN_S
        while self.acknowledged < published and loop.time() < deadline_s:
            await asyncio.sleep(0.05)
            self._check()
        self.is_over = True
        for device in devices:
            device.transport.write(packets.DISCONNECT)
            device.transport.close()
        return LoadResult(
            published=published, acknowledged=self.acknowledged, late_s=round(late_s, 3), waiting_max=waiting_max
        )

    def _check(self) -> None:
        if self._failure is not None:
            raise RuntimeError(self._failure)


def main() -> int:
    """Run what the argument says."""
    config = msgspec.json.decode(sys.argv[1], type=LoadConfig)
    raise_file_limit(config.devices + 100)
    print(msgspec.json.encode(uvloop.run(_Load(config).run())).decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
