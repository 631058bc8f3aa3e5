"""What must hold for any journal, any damage and any power loss, against a list that cannot be wrong."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.failpoints import no_failpoint
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import Route
from gateway.journal.committer import Committer
from gateway.journal.disk import Disk, segment_files
from gateway.journal.inspect import verify
from gateway.journal.reader import SegmentReader
from gateway.journal.segment import Append, encode_frames, gather, opening_frame
from tests.unit.gateway.journal.disks import LazyDisk, PowerCut, PowerLossDisk

"""Files on a shared disk take as long as they take."""
SEGMENT_BYTES = 500
"""Small, so that a handful of commits rolls."""

Row = tuple[int, Route, bytes]
Group = list[tuple[int, list[tuple[Route, bytes]]]]
Groups = list[Group]

routes = st.builds(
    Route,
    st.just(TenantId("t")),
    st.sampled_from([DeviceId("a"), DeviceId("b"), DeviceId("ü")]),
    st.just("mqtt"),
    st.sampled_from([Channel("telemetry"), Channel("event/x")]),
)
look_alike = bytes(opening_frame(Offset(3), marker=7, newest_at_ns=0))
payloads = st.one_of(st.binary(max_size=40), st.just(look_alike), st.just(look_alike[:20]))
messages = st.lists(st.tuples(routes, payloads), max_size=3)
appends = st.tuples(st.sampled_from([-(2**63), 0, 2**63 - 1]), messages)
commits = st.lists(st.lists(appends, min_size=1, max_size=2), min_size=1, max_size=4)


def to_append(received_at_ns: int, rows: list[tuple[Route, bytes]]) -> Append:
    return received_at_ns, [route for route, _ in rows], [payload for _, payload in rows], None, 0


def to_rows(group: Group) -> list[Row]:
    return [(at, route, payload) for at, rows in group for route, payload in rows]


@contextmanager
def opened(directory: Path, disk: Disk | None = None) -> Iterator[Committer]:
    committer = Committer(directory, disk or LazyDisk(), no_failpoint, SEGMENT_BYTES)
    try:
        yield committer
    finally:
        committer.close()


def read_all(directory: Path, *, rows_max: int = 1000, bytes_max: int = 10**6) -> dict[int, Row]:
    found: dict[int, Row] = {}
    reader, offset = SegmentReader(directory), Offset(0)
    while offset < reader.end_offset():
        batch = reader.read(offset, rows_max=rows_max, bytes_max=bytes_max)
        assert batch.end_offset > offset
        assert len(batch) <= rows_max
        assert sorted(set(batch.route_index)) == list(range(len(batch.routes)))
        for entry in batch.entries():
            envelope = entry.envelope
            assert entry.offset not in found
            found[entry.offset] = (envelope.received_at_ns, envelope.route, envelope.payload)
        offset = batch.end_offset
    reader.close()
    return found


def written(directory: Path, groups: Groups) -> list[Row]:
    rows: list[Row] = []
    with opened(directory) as committer:
        for group in groups:
            assert committer.commit([to_append(*append) for append in group]) is None
            rows += to_rows(group)
    return rows


@given(st.lists(commits, min_size=1, max_size=3), st.integers(1, 7), st.integers(1, 200))
def test_any_sequence_of_appends_and_reopens_equals_a_list(runs: list[Groups], rows_max: int, bytes_max: int) -> None:
    """Whatever was committed in however many runs comes back in order, whatever the cut of the batches."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        expected = [row for run in runs for row in written(directory, run)]
        found = read_all(directory, rows_max=rows_max, bytes_max=bytes_max)
        report = verify(directory)
    assert dict(enumerate(expected)) == found
    assert (True, 0, len(expected)) == (report.ok, report.torn_bytes, report.entries)


@given(commits, st.integers(0, 20))
def test_reading_from_any_offset_equals_reading_on(groups: Groups, offset: int) -> None:
    """A reader that starts in the middle sees what one that read up to there sees."""
    with tempfile.TemporaryDirectory() as name:
        expected = [payload for _, _, payload in written(Path(name), groups)][offset:]
        batch = SegmentReader(Path(name)).read(Offset(offset), rows_max=1000, bytes_max=10**6)
    assert expected == batch.payloads
    assert offset == batch.base_offset


@given(commits, commits, st.data())
def test_any_torn_tail_is_cut_and_nothing_acknowledged_with_it(
    groups: Groups,
    later: Groups,
    data: st.DataObject,
) -> None:
    """Part of a frame behind the acknowledged ones goes away at open, and writing goes on at the next offset."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        expected = written(directory, groups)
        _, path = segment_files(directory)[-1]
        marker = int.from_bytes(path.read_bytes()[8:16], "little")
        frame = bytearray()
        torn = gather(Offset(len(expected)), [to_append(0, [(TELEMETRY, b"never acknowledged")])])
        encode_frames(torn, marker=marker, buffer=frame)
        tail = bytes(frame[: data.draw(st.integers(0, len(frame) - 1))])
        with path.open("ab") as file:
            file.write(tail)
        with opened(directory) as committer:
            assert len(tail) == committer.recovery.torn_bytes
        expected += written(directory, later)
        found, report = read_all(directory), verify(directory)
    assert dict(enumerate(expected)) == found
    assert report.ok


TELEMETRY = Route(TenantId("t"), DeviceId("a"), "mqtt", Channel("telemetry"))


@given(commits, commits, st.data())
def test_any_damage_costs_only_what_it_hits(
    groups: Groups,
    later: Groups,
    data: st.DataObject,
) -> None:
    """After a bit flip or a cut anywhere: nothing wrong is read, what lies before is whole, no offset is used twice."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        before = dict(enumerate(written(directory, groups)))
        path = data.draw(st.sampled_from([path for path in sorted(directory.iterdir()) if path.is_file()]))
        content = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[position] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del content[position:]
        path.write_bytes(content)
        untouched = {
            offset
            for base, other in segment_files(directory)
            for offset in _held(other, base)
            if other.name != path.name
        }
        for _ in range(2):
            # Before and after the writer has seen it; `durable` itself may be what was hit.
            found = read_all(directory)
            assert found.items() <= before.items()
            with opened(directory) as committer:
                end = committer.recovery.end_offset
                assert end == len(before)
        assert untouched <= found.keys()
        after = {len(before) + n: row for n, row in enumerate(written(directory, later))}
        found = read_all(directory)
    assert after == {offset: row for offset, row in found.items() if offset >= len(before)}
    assert found.items() <= (before | after).items()
    assert untouched <= found.keys()


def _held(path: Path, base: Offset) -> range:
    following = [other for other, _ in segment_files(path.parent) if other > base]
    held = SegmentReader(path.parent).read(base, rows_max=1000, bytes_max=10**6)
    return range(base, following[0] if following else held.end_offset)


@given(commits, st.integers(0, 60), st.integers())
def test_a_power_loss_anywhere_keeps_every_acknowledged_entry(groups: Groups, calls: int, seed: int) -> None:
    """What was acknowledged or seen by a reader before the cut is there after it, at the same offset."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        disk = PowerLossDisk(calls=calls)
        acknowledged: list[Row] = []
        seen: dict[int, Row] = {}
        try:
            with opened(directory, disk) as committer:
                for group in groups:
                    assert committer.commit([to_append(*append) for append in group]) is None
                    acknowledged += to_rows(group)
                    seen = read_all(directory)
        except PowerCut:
            seen |= read_all(directory)
        disk.lose_power(random.Random(seed))
        with opened(directory) as committer:
            found = read_all(directory)
            end = committer.recovery.end_offset
        later = [(1, [(TELEMETRY, b"after")])]
        expected_later = {end + n: row for n, row in enumerate(written(directory, [later]))}
        again = read_all(directory)
    assert dict(enumerate(acknowledged)).items() <= found.items()
    assert seen.items() <= found.items()
    assert found | expected_later == again
