"""Writes a fleet's messages into an ingest journal through the gateway's own writer: what replay reads.

    python -m tests.bench.journal_fill DIRECTORY DEVICES SECONDS UNIX_TIME

Messages come second by second, all devices in turn, received 100 ms after they were measured.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from gateway.core.errors import JournalError
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.ports import OnDurable
from gateway.core.records import Route
from gateway.journal.writer import SegmentWriter
from tests.bench.fleet import Fleet

NS_PER_S: Final = 1_000_000_000
DELAY_NS: Final = 100_000_000
PER_APPEND: Final = 50
"""Messages that arrive in one turn of the event loop; the writer's group commit makes frames of its own size."""


async def fill(directory: Path, *, devices: int, seconds: int, began_at_s: int) -> None:
    """Append `devices * seconds` messages. Raises: JournalError: The disk is full or broken."""
    fleet = Fleet(devices=devices, messages=seconds, began_at=datetime.fromtimestamp(began_at_s, UTC))
    routes = [Route(TenantId("default"), DeviceId(name), "mqtt", Channel("telemetry")) for name in fleet.ids]
    loop = asyncio.get_running_loop()
    writer = SegmentWriter.open(directory, loop=loop, now_ns=time.time_ns)
    for second in range(seconds):
        received_at_ns = (began_at_s + second) * NS_PER_S + DELAY_NS
        durable: list[asyncio.Future[None]] = []
        for first in range(0, devices, PER_APPEND):
            some = range(first, min(first + PER_APPEND, devices))
            payloads = [fleet.payload(device, second) for device in some]
            durable.append(loop.create_future())
            writer.append_nowait(received_at_ns, [routes[device] for device in some], payloads, _answer(durable[-1]))
        for each in durable:
            await each
    await writer.close()


def _answer(durable: "asyncio.Future[None]") -> OnDurable:
    def on_durable(error: JournalError | None) -> None:
        if error is None:
            durable.set_result(None)
        else:
            durable.set_exception(error)

    return on_durable


if __name__ == "__main__":
    uvloop.run(fill(Path(sys.argv[1]), devices=int(sys.argv[2]), seconds=int(sys.argv[3]), began_at_s=int(sys.argv[4])))
