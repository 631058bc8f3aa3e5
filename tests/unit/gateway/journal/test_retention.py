"""What retention deletes, what it must not, and in which order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.failpoints import Failpoint, no_failpoint
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import Route
from gateway.journal.committer import Committer
from gateway.journal.disk import segment_files
from gateway.journal.retention import Retained, apply_retention
from tests.unit.gateway.journal.disks import FaultyDisk, LazyDisk, PowerCut

BUS = Route(TenantId("t"), DeviceId("bus"), "mqtt", Channel("telemetry"))
S = 10**9
Retain = Callable[..., Retained]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Four segments of two entries each; entry n was received at n seconds."""
    committer = Committer(tmp_path, LazyDisk(), no_failpoint, 500)
    for n in range(8):
        assert committer.commit([(n * S, [BUS], [bytes(100)], None, 100)]) is None
    committer.close()
    assert bases(tmp_path) == [0, 2, 4, 6]
    return tmp_path


def bases(directory: Path) -> list[int]:
    return [base for base, _ in segment_files(directory)]


def size(directory: Path) -> int:
    return sum(path.stat().st_size for _, path in segment_files(directory))


def retain(directory: Path, **changes: Any) -> Retained:
    """Apply limits that delete nothing, but for the changes."""
    limits: dict[str, Any] = {
        "read_up_to": Offset(8),
        "now_ns": 10 * S,
        "age_s_max": 1e9,
        "bytes_max": 10**9,
        "hard_bytes_max": 10**9,
    }
    return apply_retention(directory, **(limits | changes))


def test_within_the_limits_nothing_is_deleted(directory: Path) -> None:
    """And the report says so."""
    assert retain(directory) == Retained(segments=0, bytes=0, entries_unread=0, start_offset=Offset(0))
    assert bases(directory) == [0, 2, 4, 6]


def test_segments_go_when_their_newest_entry_is_too_old(directory: Path) -> None:
    """Entries 1 and 3 are the newest of the first two segments; at 10 s and an age of 6.5 s both are past it."""
    before = size(directory)
    retained = retain(directory, age_s_max=6.5)
    assert bases(directory) == [4, 6]
    assert retained == Retained(segments=2, bytes=before - size(directory), entries_unread=0, start_offset=Offset(4))


def test_the_oldest_go_until_the_journal_is_small_enough(directory: Path) -> None:
    """As many whole segments as needed and no more."""
    retained = retain(directory, bytes_max=size(directory) - 1)
    assert (bases(directory), retained.segments) == ([2, 4, 6], 1)


def test_the_segment_being_written_stays(directory: Path) -> None:
    """Its name carries the next offset, so it is never deleted."""
    retain(directory, age_s_max=0.0, bytes_max=0, hard_bytes_max=0)
    assert bases(directory) == [6]


def test_what_the_slowest_reader_has_not_read_stays(directory: Path) -> None:
    """A segment with one unread entry is kept, and everything behind it."""
    retained = retain(directory, age_s_max=0.0, bytes_max=0, read_up_to=Offset(3))
    assert (bases(directory), retained.entries_unread) == ([2, 4, 6], 0)


def test_the_hard_limit_deletes_unread_entries_and_counts_them(directory: Path) -> None:
    """The disk comes before the reader, but not silently."""
    retained = retain(directory, hard_bytes_max=size(directory) // 2, read_up_to=Offset(1))
    assert (bases(directory), retained.entries_unread) == ([4, 6], 3)


def test_a_damaged_opening_frame_keeps_a_segment_from_ageing_only(directory: Path) -> None:
    """Where the age is unknown, size still decides."""
    path = segment_files(directory)[1][1]
    path.write_bytes(b"\0" * 48 + path.read_bytes()[48:])
    retain(directory, age_s_max=0.0)
    assert bases(directory) == [0, 2, 4, 6]
    retain(directory, bytes_max=size(directory) - 1)
    assert bases(directory) == [2, 4, 6]


def test_deletions_go_from_old_to_new_and_are_synced_once(directory: Path) -> None:
    """Ended before any deletion, what is left is a whole journal without a hole."""
    left: list[list[int]] = []

    def failpoint(name: Failpoint) -> None:
        assert name is Failpoint.JOURNAL_BEFORE_UNLINK
        left.append(bases(directory))
        if len(left) == 3:
            raise PowerCut

    with pytest.raises(PowerCut):
        retain(directory, age_s_max=0.0, failpoint=failpoint)
    assert left == [[0, 2, 4, 6], [2, 4, 6], [4, 6]]
    disk = FaultyDisk()
    retain(directory, age_s_max=0.0, disk=disk)
    assert disk.calls.count("fsync_directory") == 1


def test_an_empty_directory_has_nothing_to_delete(tmp_path: Path) -> None:
    """Before the first writer."""
    assert retain(tmp_path) == Retained(segments=0, bytes=0, entries_unread=0, start_offset=Offset(0))
