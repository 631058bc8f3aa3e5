"""The writer's own duties: what it does when the disk fails, fills up, is taken, or ends a segment."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import JournalBroken, JournalError, JournalFull, JournalLocked
from gateway.core.failpoints import Failpoint
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.limits import FRAME_BYTES_MAX
from gateway.core.records import Route
from gateway.journal.disk import OsDisk, read_durable, segment_files
from gateway.journal.inspect import verify
from gateway.journal.reader import SegmentReader
from gateway.journal.writer import Commit, SegmentWriter
from tests.unit.gateway.journal.disks import FaultyDisk, LazyDisk, SmallDisk

BUS = Route(TenantId("t"), DeviceId("bus"), "mqtt", Channel("telemetry"))


def with_writer(directory: Path, body: Callable[[SegmentWriter], Awaitable[Any]], **options: Any) -> Any:
    """Open a writer, run the body, close the writer."""

    async def run() -> Any:
        writer = SegmentWriter.open(directory, loop=asyncio.get_running_loop(), now_ns=lambda: 7, **options)
        try:
            return await body(writer)
        finally:
            await writer.close()

    return asyncio.run(run())


def payloads(directory: Path) -> list[bytes]:
    return SegmentReader(directory).read(Offset(0), rows_max=10**6, bytes_max=10**9).payloads


async def outcome(writer: SegmentWriter, payload: bytes) -> type[JournalError] | int:
    """Return the offset of an append, or the class of its error."""
    try:
        return await writer.append(BUS, payload)
    except JournalError as error:
        return type(error)


def test_append_returns_the_offset(tmp_path: Path) -> None:
    """Offsets count entries, across commits and runs."""

    async def body(writer: SegmentWriter) -> list[int]:
        return list(await asyncio.gather(*[writer.append(BUS, b"x") for _ in range(3)]))

    assert with_writer(tmp_path, body) == [0, 1, 2]
    assert with_writer(tmp_path, body) == [3, 4, 5]


def test_appends_of_one_window_share_one_sync(tmp_path: Path) -> None:
    """Group commit: ten appends in one turn cost one frame and one fdatasync."""
    disk, commits = FaultyDisk(), list[Commit]()

    async def body(writer: SegmentWriter) -> int:
        before = disk.calls.count("fdatasync")
        for _ in range(10):
            writer.append_nowait(1, [BUS], [b"abc"], None)
        await writer.append(BUS, b"d")
        return disk.calls.count("fdatasync") - before

    assert with_writer(tmp_path, body, disk=disk, on_commit=commits.append) == 1
    assert commits == [Commit(entries=11, payload_bytes=31, duration_s=0.0, error=None)]


def test_enough_bytes_end_the_window_at_once(tmp_path: Path) -> None:
    """A commit starts when `commit_bytes` wait, whatever the window."""

    async def body(writer: SegmentWriter) -> int:
        return await writer.append(BUS, b"x" * 100)

    assert with_writer(tmp_path, body, commit_bytes=100, commit_window_s=3600.0) == 0


def test_close_commits_what_waits(tmp_path: Path) -> None:
    """Close does not wait for the window and loses nothing."""
    called: list[JournalError | None] = []

    async def body(writer: SegmentWriter) -> None:
        writer.append_nowait(1, [BUS], [b"x"], called.append)

    with_writer(tmp_path, body, commit_window_s=3600.0)
    assert called == [None]
    assert payloads(tmp_path) == [b"x"]


def test_an_append_after_close_is_refused(tmp_path: Path) -> None:
    """A closed writer raises and takes nothing; closing twice is harmless."""

    async def body(writer: SegmentWriter) -> None:
        await writer.close()
        with pytest.raises(JournalBroken, match="closed"):
            writer.append_nowait(1, [BUS], [b"x"], None)

    with_writer(tmp_path, body)
    assert payloads(tmp_path) == []


def test_a_failed_fdatasync_ends_acknowledging_for_good(tmp_path: Path) -> None:
    """No callback says durable from then on, the descriptor is not synced again, and a restart goes on cleanly."""
    disk = FaultyDisk()

    async def body(writer: SegmentWriter) -> list[Any]:
        answers: list[Any] = [await outcome(writer, b"kept")]
        disk.fail("fdatasync", errno.EIO)
        waiting: list[JournalError | None] = []
        first = asyncio.ensure_future(outcome(writer, b"lost"))
        await asyncio.sleep(0)
        answers.append(await first)
        syncs = disk.calls.count("fdatasync")
        disk.heal()
        with pytest.raises(JournalBroken, match="fdatasync"):
            writer.append_nowait(1, [BUS], [b"refused"], waiting.append)
        assert isinstance(writer.failure, JournalBroken)
        return [*answers, waiting, disk.calls.count("fdatasync") - syncs]

    assert with_writer(tmp_path, body, disk=disk) == [0, JournalBroken, [], 0]
    assert disk.failed("fdatasync") == 1
    assert payloads(tmp_path) == [b"kept"]

    async def again(writer: SegmentWriter) -> int:
        return await writer.append(BUS, b"after")

    assert with_writer(tmp_path, again) == 1
    assert payloads(tmp_path) == [b"kept", b"after"]


def test_what_waits_behind_a_failed_fdatasync_fails_with_it(tmp_path: Path) -> None:
    """Appends taken while the failing commit is on its way are told, in order, in flight goes to zero."""
    disk = FaultyDisk()

    async def body(writer: SegmentWriter) -> tuple[list[tuple[int, type | None]], int]:
        called: list[tuple[int, type | None]] = []
        disk.fail("fdatasync", errno.EIO)
        writer.append_nowait(1, [BUS], [b"a" * 10], lambda error: called.append((0, type(error))))
        writer.append_nowait(1, [BUS], [b"b"], lambda error: called.append((1, type(error))))
        await writer.close()
        return called, writer.in_flight_bytes

    result = with_writer(tmp_path, body, disk=disk, commit_bytes=10, commit_window_s=3600.0)
    assert result == ([(0, JournalBroken), (1, JournalBroken)], 0)
    assert disk.failed("fdatasync") == 1


@pytest.mark.parametrize("call", ["fdatasync", "fsync_directory"])
def test_a_roll_that_cannot_be_made_durable_breaks_the_journal(tmp_path: Path, call: str) -> None:
    """A segment whose existence is not certain must not hold acknowledged entries."""
    disk = FaultyDisk()

    async def body(writer: SegmentWriter) -> list[Any]:
        answers = [await outcome(writer, b"x" * 100)]
        disk.fail(call, errno.EIO)
        return [*answers, await outcome(writer, b"y" * 100)]

    assert with_writer(tmp_path, body, disk=disk, segment_bytes_max=200) == [0, JournalBroken]
    assert disk.failed(call) == 1
    assert payloads(tmp_path) == [b"x" * 100]


def test_a_full_disk_refuses_and_resumes_by_itself(tmp_path: Path) -> None:
    """No space: not acknowledged and visible; space again: acknowledged, offsets without a hole."""
    disk = SmallDisk(1000)

    async def body(writer: SegmentWriter) -> list[Any]:
        answers: list[Any] = [await outcome(writer, b"a" * 100)]
        answers.append(await outcome(writer, b"b" * 2000))
        answers.append(type(writer.failure))
        answers.append(await outcome(writer, b"c" * 2000))
        disk.free += 10_000
        answers.append(await outcome(writer, b"d" * 2000))
        answers.append(writer.failure)
        return answers

    assert with_writer(tmp_path, body, disk=disk) == [0, JournalFull, JournalFull, JournalFull, 1, None]
    assert disk.refused == 2
    assert payloads(tmp_path) == [b"a" * 100, b"d" * 2000]
    assert verify(tmp_path).ok


def test_a_full_disk_at_a_roll_refuses_and_resumes(tmp_path: Path) -> None:
    """The new segment needs space too; until it is there, the old one stays the last."""
    disk = SmallDisk(600)

    async def body(writer: SegmentWriter) -> list[Any]:
        answers: list[Any] = [await outcome(writer, b"a" * 100)]
        disk.free = 20
        answers.append(await outcome(writer, b"b" * 100))
        disk.free = 1000
        return [*answers, await outcome(writer, b"c" * 100)]

    assert with_writer(tmp_path, body, disk=disk, segment_bytes_max=200) == [0, JournalFull, 1]
    assert payloads(tmp_path) == [b"a" * 100, b"c" * 100]
    assert [base for base, _ in segment_files(tmp_path)] == [0, 1]


def test_a_limit_on_file_length_starts_a_new_segment(tmp_path: Path) -> None:
    """EFBIG: this batch is refused, the next one goes into a new file."""
    disk = FaultyDisk()

    async def body(writer: SegmentWriter) -> list[Any]:
        answers: list[Any] = [await outcome(writer, b"a")]
        disk.fail("write", errno.EFBIG)
        return [*answers, await outcome(writer, b"b"), await outcome(writer, b"c")]

    assert with_writer(tmp_path, body, disk=disk) == [0, JournalFull, 1]
    assert [base for base, _ in segment_files(tmp_path)] == [0, 1]
    assert payloads(tmp_path) == [b"a", b"c"]


def test_a_failed_write_that_is_not_about_space_breaks_the_journal(tmp_path: Path) -> None:
    """EIO on write is no reason to try again."""
    disk = FaultyDisk()

    async def body(writer: SegmentWriter) -> list[Any]:
        disk.fail("write", errno.EIO)
        return [await outcome(writer, b"a"), await outcome(writer, b"b")]

    assert with_writer(tmp_path, body, disk=disk) == [JournalBroken, JournalBroken]
    assert disk.failed("write") == 1


def test_a_write_that_cannot_be_cut_back_breaks_the_journal(tmp_path: Path) -> None:
    """Half a frame that stays would be followed by others, so nothing may follow."""
    disk = FaultyDisk()

    async def body(writer: SegmentWriter) -> list[Any]:
        disk.fail("write", errno.ENOSPC)
        disk.fail("truncate", errno.EIO)
        return [await outcome(writer, b"a"), await outcome(writer, b"b")]

    assert with_writer(tmp_path, body, disk=disk) == [JournalBroken, JournalBroken]
    assert disk.failed("truncate") == 1


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("call", ["open", "write", "fdatasync", "truncate", "fsync_directory"])
def test_an_error_at_any_call_loses_nothing_acknowledged(tmp_path: Path, call: str, n: int) -> None:
    """Whichever call fails, at open or later: what was acknowledged is there, then and after a restart."""
    disk = FaultyDisk()
    disk.fail(call, errno.EIO, at=n)
    acknowledged: dict[int, bytes] = {}

    async def body(writer: SegmentWriter) -> None:
        for i in range(6):
            payload = bytes([i]) * 60
            answer = await outcome(writer, payload)
            if isinstance(answer, int):
                acknowledged[answer] = payload

    try:
        with_writer(tmp_path, body, disk=disk, segment_bytes_max=300)
    except JournalError:
        assert acknowledged == {}
    found = dict(enumerate(payloads(tmp_path)))
    assert acknowledged == found
    assert disk.failed(call) == min(1, disk.calls.count(call) // n)
    with_writer(tmp_path, body)
    assert acknowledged.items() <= dict(enumerate(payloads(tmp_path))).items()


def test_partial_writes_are_completed(tmp_path: Path) -> None:
    """A disk that takes seven bytes at a time gets there."""

    class SlowDisk(LazyDisk):
        calls = 0

        def write(self, descriptor: int, data: memoryview, position: int) -> int:
            self.calls += 1
            return super().write(descriptor, data[:7], position)

    disk = SlowDisk()

    async def body(writer: SegmentWriter) -> int:
        return await writer.append(BUS, b"x" * 100)

    assert with_writer(tmp_path, body, disk=disk) == 0
    assert disk.calls > 20
    assert payloads(tmp_path) == [b"x" * 100]


def test_a_commit_longer_than_a_frame_is_split(tmp_path: Path) -> None:
    """Forty megabytes in one append become several frames and one callback."""
    block = b"x" * (1024 * 1024)

    async def body(writer: SegmentWriter) -> None:
        called: asyncio.Future[JournalError | None] = asyncio.get_running_loop().create_future()
        writer.append_nowait(1, [BUS] * 40, [block] * 40, called.set_result)
        assert await called is None

    with_writer(tmp_path, body, disk=LazyDisk())
    report = verify(tmp_path)
    assert (report.entries, report.frames, report.ok) == (40, 4, True)
    assert payloads(tmp_path) == [block] * 40


def test_a_payload_longer_than_a_frame_is_our_mistake(tmp_path: Path) -> None:
    """Listeners bound payloads, so this is an error of the caller and harms nobody else."""

    async def body(writer: SegmentWriter) -> int:
        with pytest.raises(ValueError, match="limit"):
            writer.append_nowait(1, [BUS], [b"x" * FRAME_BYTES_MAX], None)
        return await writer.append(BUS, b"fine")

    assert with_writer(tmp_path, body, disk=LazyDisk()) == 0


def test_a_callback_with_a_bug_costs_nobody_else_the_answer(tmp_path: Path) -> None:
    """The loop reports the exception; appends before and after are called back."""
    reported: list[str] = []

    def fail(error: JournalError | None) -> None:
        raise RuntimeError("bug")

    async def body(writer: SegmentWriter) -> list[int]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
        order: list[int] = []
        writer.append_nowait(1, [BUS], [b"a"], lambda _: order.append(1))
        writer.append_nowait(1, [BUS], [b"b"], fail)
        writer.append_nowait(1, [BUS], [b"c"], lambda _: order.append(2))
        assert await writer.append(BUS, b"d") == 3
        return order

    assert with_writer(tmp_path, body) == [1, 2]
    assert reported == ["bug"]


def test_a_second_writer_is_told_who_has_the_directory(tmp_path: Path) -> None:
    """The lock names the process; it is free again after close."""

    async def body(writer: SegmentWriter) -> None:
        with pytest.raises(JournalLocked, match=f"process {os.getpid()};"):
            SegmentWriter.open(tmp_path, loop=asyncio.get_running_loop(), now_ns=lambda: 7)

    with_writer(tmp_path, body)
    with_writer(tmp_path, lambda writer: writer.append(BUS, b"x"))
    assert payloads(tmp_path) == [b"x"]


def test_segments_roll_and_are_read_as_one(tmp_path: Path) -> None:
    """A segment ends before it passes its bound; names carry the first offset."""

    async def body(writer: SegmentWriter) -> None:
        for n in range(6):
            await writer.append(BUS, bytes([n]) * 100)

    with_writer(tmp_path, body, segment_bytes_max=500)
    files = segment_files(tmp_path)
    assert [base for base, _ in files] == [0, 2, 4]
    assert max(path.stat().st_size for _, path in files) <= 500
    assert payloads(tmp_path) == [bytes([n]) * 100 for n in range(6)]


def test_the_durable_end_is_published_at_open_and_after_each_commit(tmp_path: Path) -> None:
    """Readers learn the end from a file, and a restart restores one that got lost."""

    async def body(writer: SegmentWriter) -> list[int | None]:
        ends = [read_durable(tmp_path)]
        await writer.append(BUS, b"x")
        return [*ends, read_durable(tmp_path)]

    assert with_writer(tmp_path, body) == [0, 1]
    (tmp_path / "durable").unlink()
    assert with_writer(tmp_path, body) == [1, 2]


def test_failpoints_are_passed_in_the_order_of_the_promise(tmp_path: Path) -> None:
    """Write, sync, acknowledge; a roll comes before its first write."""
    passed: list[str] = []

    async def body(writer: SegmentWriter) -> None:
        await writer.append(BUS, b"x" * 100)
        await writer.append(BUS, b"y" * 100)

    with_writer(tmp_path, body, segment_bytes_max=300, failpoint=passed.append)
    commit = [Failpoint.JOURNAL_BEFORE_WRITE, Failpoint.JOURNAL_BEFORE_SYNC, Failpoint.JOURNAL_BEFORE_ACK]
    assert passed == [*commit, Failpoint.JOURNAL_ROLLED, *commit]


def test_a_real_disk_that_is_full_is_survived(tmp_path: Path) -> None:
    """The operating system's own EFBIG, through a limit on file length in this process."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def body(writer: SegmentWriter) -> list[Any]:
        answers: list[Any] = [await outcome(writer, b"a" * 1000)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            answers += [await outcome(writer, b"b" * 3000), await outcome(writer, b"c" * 1000)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return answers

    assert with_writer(tmp_path, body, disk=OsDisk()) == [0, JournalFull, 1]
    assert payloads(tmp_path) == [b"a" * 1000, b"c" * 1000]
