"""Chargers in the middle of calls that lose their server and all come back at once.

    python -m tests.bench.ocpp_outage_client CONFIG_FILE

Each station calls MeterValues again and again, all from the moment when all are connected. When its connection ends it
connects again, resends the call that was not answered, under the same id, and is content with the answer. Prints
`{"running": n}` once all stations call, and a `Reunion` when all are content. Then it stays, answering every call of
the server with Accepted, until it is stopped.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final, cast

import msgspec
import uvloop

from tests.bench import ocpp_wire as wire
from tests.bench.harness import raise_file_limit
from tests.bench.ocpp_load import METER_VALUES, SUBPROTOCOL, identity

RETRY_S: Final = (0.1, 0.3)
"""A station waits a random time between two attempts; it does not back off, which is worse than the field."""
HANDSHAKE_TIMEOUT_S: Final = 30.0
CONNECTING_MAX: Final = 200
"""Only of the first connections; after the outage all come at once."""


class OutageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The stations.

    Attributes:
        port: OCPP port on the loopback, the same after the outage.
        passwords: One per station, or None for no authorization.
        path: Path of the server, without the identity.
    """

    port: int
    passwords: list[str | None]
    path: str = "/ocpp"


class Reunion(msgspec.Struct, frozen=True, kw_only=True):
    """How the stations came back; times are monotonic seconds, which all processes of a machine share.

    Attributes:
        lost_at_s: The first connection ended.
        accepted_at_s: The last handshake was accepted.
        answered_at_s: The last call was answered.
        acknowledged: Calls answered, by station; ids count from 1, so these are all ids up to it.
        refusals: Refused handshakes after the outage by status line; failed connections under "connection".
    """

    lost_at_s: float
    accepted_at_s: float
    answered_at_s: float
    acknowledged: list[int]
    refusals: dict[str, int]


class Fleet:
    """What the stations share."""

    def __init__(self, config: OutageConfig) -> None:
        self.config = config
        self.is_calling = False
        self.lost_at_s: float | None = None
        self.accepted_at_s = self.answered_at_s = 0.0
        self.refusals: Counter[str] = Counter()
        self.random = random.Random(1)


class Link(asyncio.Protocol):
    """One connection of a station; `ended` resolves when it is over."""

    def __init__(self, station: "Station") -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._station, self._rest = station, b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.transport.write(self._station.upgrade)

    def data_received(self, data: bytes) -> None:
        """Take the handshake, then answers."""
        self._rest += data
        if not self.opened.done():
            response, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            if (why := wire.refusal(response)) is not None:
                self._station.refused(why)
                self.transport.abort()
                return
            self._rest = rest
            self.opened.set_result(None)
            self._station.accepted(self)
        frames, self._rest = wire.split(self._rest)
        for first_byte, payload in frames:
            opcode = first_byte & 0x0F
            if opcode == wire.TEXT:
                self._station.receive(wire.text_of(first_byte, payload), self)
            elif opcode == wire.PING:
                self.transport.write(wire.frame(payload, opcode=wire.PONG))
            elif opcode == wire.CLOSE:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.ended.set_result(None)
        self._station.lost()


class Station:
    """One charger through the outage; `content` resolves when the call it lost is answered."""

    def __init__(self, fleet: Fleet, index: int) -> None:
        loop = asyncio.get_running_loop()
        self.running: asyncio.Future[None] = loop.create_future()
        self.content: asyncio.Future[None] = loop.create_future()
        config = fleet.config
        self.acknowledged = 0
        self.upgrade = wire.upgrade(
            f"{config.path}/{identity(index)}",
            port=config.port,
            subprotocol=SUBPROTOCOL,
            password=config.passwords[index],
            deflate=True,
        )
        self._fleet = fleet
        self._is_back = False
        self._link: Link | None = None

    def accepted(self, link: Link) -> None:
        """Wait for the others, or send the call that was lost."""
        self._link = link
        if self._fleet.lost_at_s is not None:
            self._is_back = True
            self._fleet.accepted_at_s = time.monotonic()
            self.call()
        elif not self.running.done():
            self.running.set_result(None)

    def call(self) -> None:
        """Send the next call."""
        assert self._link is not None
        self._link.transport.write(METER_VALUES.frame(self.acknowledged + 1))

    def receive(self, text: bytes, link: Link) -> None:
        """Take the answer to the outstanding call and send the next one, unless this one was lost before."""
        if text.startswith(b"[2,"):
            message_id = msgspec.json.decode(text)[1]
            link.transport.write(wire.frame(b'[3,%s,{"status":"Accepted"}]' % msgspec.json.encode(message_id)))
            return
        if not text.startswith(b'[3,"%08d"' % (self.acknowledged + 1)):
            self._fleet.refusals[text[:120].decode(errors="replace")] += 1
            return
        self.acknowledged += 1
        if self._is_back:
            self._fleet.answered_at_s = time.monotonic()
            if not self.content.done():
                self.content.set_result(None)
            return
        self.call()

    def refused(self, why: str) -> None:
        """Count a refusal."""
        self._fleet.refusals[why] += 1

    def lost(self) -> None:
        """Note the beginning of the outage."""
        if self._fleet.is_calling and self._fleet.lost_at_s is None:
            self._fleet.lost_at_s = time.monotonic()

    async def live(self, slots: asyncio.Semaphore) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            if self._fleet.lost_at_s is None:
                async with slots:
                    link = await self._connect()
            else:
                link = await self._connect()
            if link is not None:
                await link.ended
            await asyncio.sleep(self._fleet.random.uniform(*RETRY_S))

    async def _connect(self) -> Link | None:
        loop, config = asyncio.get_running_loop(), self._fleet.config
        link: Link | None = None
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                _, link = await loop.create_connection(lambda: Link(self), "127.0.0.1", config.port)
                await asyncio.wait({link.opened, link.ended}, return_when=asyncio.FIRST_COMPLETED)
        except OSError:  # a time-out is one too
            # One that came in this very moment is a connection all the same.
            if link is None or not link.opened.done():
                self._fleet.refusals["connection"] += 1
                if link is not None:
                    link.transport.abort()
                return None
        return link


async def endure(config: OutageConfig) -> None:
    """Run the stations through one outage, print, and keep them until killed."""
    fleet = Fleet(config)
    stations = [Station(fleet, index) for index in range(len(config.passwords))]
    slots = asyncio.Semaphore(CONNECTING_MAX)
    async with asyncio.TaskGroup() as group:
        for station in stations:
            group.create_task(station.live(slots))
        await asyncio.gather(*(station.running for station in stations))
        fleet.is_calling = True
        fleet.refusals.clear()
        for station in stations:
            station.call()
        print(f'{{"running": {len(stations)}}}', flush=True)
        await asyncio.gather(*(station.content for station in stations))
        assert fleet.lost_at_s is not None
        reunion = Reunion(
            lost_at_s=fleet.lost_at_s,
            accepted_at_s=fleet.accepted_at_s,
            answered_at_s=fleet.answered_at_s,
            acknowledged=[station.acknowledged for station in stations],
            refusals=dict(fleet.refusals),
        )
        print(msgspec.json.encode(reunion).decode(), flush=True)


def main() -> int:
    """Run what the file says."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=OutageConfig)
    raise_file_limit(len(config.passwords) + 100)
    uvloop.run(endure(config))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
