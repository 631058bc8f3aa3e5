"""What the journal costs: `python -m tests.bench.journal_micro [directory]`. Not a test; the figures are for people."""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.limits import JOURNAL_IN_FLIGHT_BYTES_MAX
from gateway.core.records import Route
from gateway.journal.reader import SegmentReader
from gateway.journal.writer import Commit, SegmentWriter

PAYLOAD_BYTES = 300
MESSAGES = 1_000_000


async def write(directory: Path, *, messages: int, per_append: int, devices: int) -> None:
    """Append as fast as the writer takes it and print CPU and wall clock per message."""
    commits: list[Commit] = []
    writer = SegmentWriter.open(
        directory, loop=asyncio.get_running_loop(), now_ns=time.time_ns, on_commit=commits.append
    )
    routes = [Route(TenantId("t"), DeviceId(f"bus-{i:05d}"), "mqtt", Channel("telemetry")) for i in range(devices)]
    pool = [os.urandom(PAYLOAD_BYTES) for _ in range(5000)]
    wall, cpu = time.perf_counter(), time.process_time()
    for n in range(messages // per_append):
        at = n * per_append % (len(pool) - per_append)
        writer.append_nowait(
            1_700_000_000_000_000_000 + n, [routes[n % devices]] * per_append, pool[at : at + per_append], None
        )
        if n % 40 == 0:
            await asyncio.sleep(0)
        while writer.in_flight_bytes > JOURNAL_IN_FLIGHT_BYTES_MAX // 16:
            await asyncio.sleep(0.001)
    await writer.close()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"write, {per_append:3d} per append, {devices:4d} devices: {cpu / messages * 1e6:.3f} us CPU/message, "
        f"{messages / wall / 1e3:.0f} k messages/s, {len(commits)} commits of {messages // len(commits)}"
    )


async def latency(directory: Path) -> None:
    """Append one at a time and print what waiting for the disk costs, without the group commit's window."""
    commits: list[Commit] = []
    writer = SegmentWriter.open(
        directory,
        loop=asyncio.get_running_loop(),
        now_ns=time.time_ns,
        commit_window_s=0.0,
        on_commit=commits.append,
    )
    route = Route(TenantId("t"), DeviceId("bus"), "mqtt", Channel("telemetry"))
    for _ in range(1000):
        await writer.append(route, b"x" * PAYLOAD_BYTES)
    await writer.close()
    spans = sorted(commit.duration_s for commit in commits)
    print(f"append + fdatasync: median {spans[500] * 1e3:.2f} ms, p99 {spans[990] * 1e3:.2f} ms")


def replay(directory: Path) -> None:
    """Read everything in pump-sized batches."""
    reader, offset, batches = SegmentReader(directory), Offset(0), 0
    wall, cpu = time.perf_counter(), time.process_time()
    while batch := reader.read(offset, rows_max=131_072, bytes_max=64 * 1024 * 1024):
        offset, batches = batch.end_offset, batches + 1
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"replay: {offset} entries in {batches} batches, {offset / wall / 1e6:.2f} M messages/s, "
        f"{cpu / offset * 1e6:.3f} us CPU/message"
    )


def main() -> None:
    """Run all of it below the directory given, or below the temporary one."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        root = Path(name)
        uvloop.run(latency(root / "latency"))
        for per_append, devices in ((1, 1000), (20, 50), (20, 1000)):
            directory = root / f"{per_append}-{devices}"
            uvloop.run(write(directory, messages=MESSAGES, per_append=per_append, devices=devices))
            replay(directory)


if __name__ == "__main__":
    main()
