"""What the command line is told about a journal."""

from pathlib import Path

import pytest

from gateway.core.failpoints import no_failpoint
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import Route
from gateway.journal.committer import Committer
from gateway.journal.disk import segment_files
from gateway.journal.inspect import JournalStats, dump, stats, verify
from tests.unit.gateway.journal.disks import LazyDisk

BUS = Route(TenantId("t"), DeviceId("bus"), "mqtt", Channel("telemetry"))
CHARGER = Route(TenantId("t"), DeviceId("c1"), "ocpp", Channel("MeterValues"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two segments, four frames, eight entries."""
    committer = Committer(tmp_path, LazyDisk(), no_failpoint, 500)
    for n in range(4):
        assert committer.commit([(n, [BUS, CHARGER], [bytes([n]) * 80, b"x"], None, 0)]) is None
    committer.close()
    assert len(segment_files(tmp_path)) == 2
    return tmp_path


def test_a_sound_journal_verifies(directory: Path) -> None:
    """Every count, and ok."""
    report = verify(directory)
    assert (report.segments, report.frames, report.entries, report.ok) == (2, 4, 8, True)
    assert (report.start_offset, report.end_offset, report.durable_offset) == (0, 8, 8)
    assert (report.torn_bytes, report.missing, report.corrupt, report.quarantined) == (0, 0, [], 0)


def test_an_empty_directory_verifies(tmp_path: Path) -> None:
    """Nothing there is nothing wrong."""
    assert (verify(tmp_path).ok, verify(tmp_path / "not there").entries) == (True, 0)


def test_a_flipped_bit_is_named_by_file_and_position(directory: Path) -> None:
    """Where, why, and how many entries are missing; the rest is counted."""
    path = segment_files(directory)[0][1]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    report = verify(directory)
    assert [(c.file, c.position, c.why) for c in report.corrupt] == [
        (path.name, 48, "the body's checksum does not match")
    ]
    assert (report.ok, report.entries, report.missing) == (False, 6, 2)


def test_a_torn_tail_of_unacknowledged_bytes_is_sound(directory: Path) -> None:
    """A write on its way, or one that a power loss ended: counted, not wrong."""
    with segment_files(directory)[-1][1].open("ab") as file:
        file.write(b"half a frame")
    assert (verify(directory).ok, verify(directory).torn_bytes) == (True, 12)


def test_a_tail_that_was_acknowledged_is_missed(directory: Path) -> None:
    """The durable end says more than the segments hold."""
    path = segment_files(directory)[-1][1]
    path.write_bytes(path.read_bytes()[:-1])
    report = verify(directory)
    assert (report.ok, report.missing, report.end_offset) == (False, 2, 6)


def test_a_segment_that_is_gone_from_the_middle_is_missed(directory: Path) -> None:
    """Retention takes from the start only."""
    committer = Committer(directory, LazyDisk(), no_failpoint, 100)
    for _ in range(2):
        committer.commit([(9, [BUS], [b"x"], None, 0)])
    committer.close()
    segment_files(directory)[1][1].unlink()
    assert verify(directory).missing == 4
    segment_files(directory)[0][1].unlink()
    assert verify(directory).ok


def test_quarantined_damage_is_counted_and_copied_once(directory: Path) -> None:
    """The writer copies damage of its last segment aside at open; opening again adds nothing."""
    path = segment_files(directory)[-1][1]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    found = []
    for _ in range(2):
        committer = Committer(directory, LazyDisk(), no_failpoint, 500)
        found.append(len(committer.recovery.corrupt))
        committer.close()
    copies = list((directory / "quarantine").glob("*.bin"))
    assert (found, verify(directory).quarantined, len(copies)) == ([1, 0], 1, 1)
    assert copies[0].read_bytes() in bytes(data)


def test_stats_say_how_much_there_is(directory: Path) -> None:
    """Sizes, offsets, times, and by channel if asked."""
    expected = JournalStats(
        segments=2,
        bytes=sum(path.stat().st_size for _, path in segment_files(directory)),
        entries=8,
        start_offset=Offset(0),
        end_offset=Offset(8),
        oldest_at_ns=0,
        newest_at_ns=3,
        by_channel={("mqtt", "telemetry"): 4, ("ocpp", "MeterValues"): 4},
    )
    assert stats(directory, by_channel=True) == expected
    assert stats(directory).by_channel is None


def test_stats_of_nothing(tmp_path: Path) -> None:
    """An empty journal has no times."""
    assert (stats(tmp_path).entries, stats(tmp_path).oldest_at_ns) == (0, None)


def test_dump_yields_entries_from_an_offset(directory: Path) -> None:
    """As many as asked for, with their offsets."""
    entries = list(dump(directory, offset=Offset(3), limit=3))
    assert [(e.offset, e.envelope.route, e.envelope.payload) for e in entries] == [
        (3, CHARGER, b"x"),
        (4, BUS, b"\2" * 80),
        (5, CHARGER, b"x"),
    ]
    assert [e.offset for e in dump(directory, offset=Offset(6), limit=100)] == [6, 7]
