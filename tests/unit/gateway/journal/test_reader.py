"""The reader beside a writer: rolls, retention, damage, and the durable end."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.errors import JournalError
from gateway.core.failpoints import no_failpoint
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import EntryBatch, Route
from gateway.journal.committer import Committer
from gateway.journal.disk import DURABLE_NAME, segment_files
from gateway.journal.reader import WINDOW_BYTES, SegmentReader
from gateway.journal.segment import Frame, decode_frame, pack_durable
from gateway.journal.writer import SegmentWriter
from tests.unit.gateway.journal.disks import LazyDisk

BUS = Route(TenantId("t"), DeviceId("bus"), "mqtt", Channel("telemetry"))
MUCH = 10**9


@pytest.fixture
def committer(tmp_path: Path) -> Iterator[Committer]:
    """Segments of two commits of a 100-byte payload each."""
    made = Committer(tmp_path, LazyDisk(), no_failpoint, 500)
    yield made
    made.close()


def commit(committer: Committer, *payloads: bytes) -> None:
    assert committer.commit([(1, [BUS] * len(payloads), list(payloads), None, 0)]) is None


def block(n: int) -> bytes:
    return bytes([n]) * 100


def test_a_reader_follows_rolls(tmp_path: Path, committer: Committer) -> None:
    """Reading on goes from segment to segment, at the tail too."""
    reader, seen = SegmentReader(tmp_path), []
    for n in range(7):
        commit(committer, block(n))
        seen += reader.read(Offset(n), rows_max=10, bytes_max=MUCH).payloads
    assert seen == [block(n) for n in range(7)]
    assert len(segment_files(tmp_path)) == 4


def test_a_reader_keeps_reading_a_segment_that_is_deleted_under_it(tmp_path: Path, committer: Committer) -> None:
    """Retention unlinks names; what is open stays readable, and reading goes on in the next segment."""
    for n in range(6):
        commit(committer, block(n))
    reader = SegmentReader(tmp_path)
    first = reader.read(Offset(0), rows_max=1, bytes_max=MUCH)
    segment_files(tmp_path)[0][1].unlink()
    rest = reader.read(first.end_offset, rows_max=10, bytes_max=MUCH)
    assert [*first.payloads, *rest.payloads] == [block(n) for n in range(6)]


def test_what_retention_took_is_a_higher_base_offset(tmp_path: Path, committer: Committer) -> None:
    """A reader that comes too late starts at the oldest entry kept, and can tell how many it missed."""
    for n in range(6):
        commit(committer, block(n))
    for _, path in segment_files(tmp_path)[:2]:
        path.unlink()
    reader = SegmentReader(tmp_path)
    batch = reader.read(Offset(1), rows_max=10, bytes_max=MUCH)
    assert (batch.base_offset, batch.payloads) == (4, [block(4), block(5)])
    assert reader.start_offset() == 4


def test_nothing_past_the_durable_end_is_read(tmp_path: Path, committer: Committer) -> None:
    """Whole frames that are not published yet do not exist for a reader."""
    commit(committer, b"a")
    commit(committer, b"b")
    (tmp_path / DURABLE_NAME).write_bytes(pack_durable(Offset(1)))
    reader = SegmentReader(tmp_path)
    assert reader.read(Offset(0), rows_max=10, bytes_max=MUCH).payloads == [b"a"]
    (tmp_path / DURABLE_NAME).write_bytes(pack_durable(Offset(2)))
    assert reader.read(Offset(1), rows_max=10, bytes_max=MUCH).payloads == [b"b"]


def test_bytes_seen_before_they_were_durable_are_read_again(tmp_path: Path, committer: Committer) -> None:
    """A frame that was cut back and written anew after the reader had fetched its bytes is read as it is now."""
    commit(committer, b"a")
    size = segment_files(tmp_path)[0][1].stat().st_size
    commit(committer, b"never durable")
    (tmp_path / DURABLE_NAME).write_bytes(pack_durable(Offset(1)))
    reader = SegmentReader(tmp_path)
    assert reader.read(Offset(0), rows_max=10, bytes_max=MUCH).payloads == [b"a"]
    with segment_files(tmp_path)[0][1].open("r+b") as file:
        file.truncate(size)
    committer.close()
    again = Committer(tmp_path, LazyDisk(), no_failpoint, 500)
    commit(again, b"b in its place")
    assert reader.read(Offset(1), rows_max=10, bytes_max=MUCH).payloads == [b"b in its place"]
    again.close()
    committer._opened = again._opened


def test_damage_ends_one_answer_and_begins_the_next(tmp_path: Path, committer: Committer) -> None:
    """Entries before the damage come first; the next answer starts behind it."""
    for n in range(6):
        commit(committer, block(n))
    path = segment_files(tmp_path)[1][1]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    reader = SegmentReader(tmp_path)
    before = reader.read(Offset(0), rows_max=10, bytes_max=MUCH)
    behind = reader.read(before.end_offset, rows_max=10, bytes_max=MUCH)
    assert (before.base_offset, before.payloads) == (0, [block(0), block(1)])
    assert (behind.base_offset, behind.payloads) == (3, [block(3), block(4), block(5)])


def test_a_lost_tail_is_passed_over(tmp_path: Path, committer: Committer) -> None:
    """Acknowledged entries that are gone from the end: an empty answer behind them, and reading goes on from there."""
    for n in range(3):
        commit(committer, block(n))
    committer.close()
    path = segment_files(tmp_path)[-1][1]
    path.write_bytes(path.read_bytes()[:-1])
    again = Committer(tmp_path, LazyDisk(), no_failpoint, 500)
    reader = SegmentReader(tmp_path)
    batch = reader.read(Offset(2), rows_max=10, bytes_max=MUCH)
    assert (batch.base_offset, len(batch), again.recovery.lost) == (3, 0, 1)
    commit(again, block(9))
    assert reader.read(batch.end_offset, rows_max=10, bytes_max=MUCH).payloads == [block(9)]
    again.close()
    committer._opened = again._opened


def test_a_frame_longer_than_the_window_is_read(tmp_path: Path, committer: Committer) -> None:
    """The window grows to what a frame needs."""
    large = b"x" * (2 * WINDOW_BYTES)
    commit(committer, b"small")
    commit(committer, large, b"after")
    assert SegmentReader(tmp_path).read(Offset(0), rows_max=10, bytes_max=MUCH).payloads == [b"small", large, b"after"]


def test_rows_one_at_a_time_decode_a_frame_once(
    tmp_path: Path, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large frame read row by row must not cost its square."""
    commit(committer, *[bytes([n]) for n in range(200)])
    decoded: list[Frame] = []

    def counting(frame: Frame, body: memoryview) -> EntryBatch | str:
        decoded.append(frame)
        return decode_frame(frame, body)

    monkeypatch.setattr("gateway.journal.reader.decode_frame", counting)
    reader = SegmentReader(tmp_path)
    seen = [reader.read(Offset(n), rows_max=1, bytes_max=MUCH).payloads[0] for n in range(200)]
    assert seen == [bytes([n]) for n in range(200)]
    assert [frame.count for frame in decoded if frame.count] == [200]


def test_a_reader_in_another_thread_sees_exactly_what_is_appended(tmp_path: Path) -> None:
    """A writer on a loop that rolls every few commits, a reader that polls beside it: same entries, same order."""
    count = 1000

    def follow() -> list[bytes]:
        reader, offset, seen = SegmentReader(tmp_path), Offset(0), list[bytes]()
        while len(seen) < count:
            batch = reader.read(offset, rows_max=50, bytes_max=MUCH)
            assert batch.base_offset == offset
            seen += batch.payloads
            offset = batch.end_offset
        return seen

    async def body() -> list[bytes]:
        writer = SegmentWriter.open(
            tmp_path,
            loop=asyncio.get_running_loop(),
            now_ns=lambda: 7,
            disk=LazyDisk(),
            segment_bytes_max=3000,
            commit_window_s=0.0,
        )
        following = asyncio.ensure_future(asyncio.to_thread(follow))
        for n in range(count):
            if n % 50 == 49:
                await writer.append(BUS, b"%d" % n)
            else:
                writer.append_nowait(1, [BUS], [b"%d" % n], None)
        seen = await following
        await writer.close()
        return seen

    assert asyncio.run(body()) == [b"%d" % n for n in range(count)]
    assert len(segment_files(tmp_path)) > 2


def test_a_directory_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    """Processors may start before the gateway."""
    reader = SegmentReader(tmp_path / "later")
    assert (reader.start_offset(), reader.end_offset(), len(reader.read(Offset(0), rows_max=1, bytes_max=1))) == (
        0,
        0,
        0,
    )
    made = Committer(tmp_path / "later", LazyDisk(), no_failpoint, 500)
    commit(made, b"x")
    made.close()
    assert reader.read(Offset(0), rows_max=1, bytes_max=1).payloads == [b"x"]


def test_a_segment_that_cannot_be_opened_is_an_error_that_says_so(tmp_path: Path, committer: Committer) -> None:
    """Not silence and not a gap: the entries are there."""
    commit(committer, b"x")
    path = segment_files(tmp_path)[0][1]
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(JournalError, match="cannot read"):
        SegmentReader(tmp_path).read(Offset(0), rows_max=1, bytes_max=1)
