"""Deletes whole old segments. What no reader has behind it yet stays, unless the disk itself would overflow."""

from pathlib import Path

import msgspec

from gateway.core.failpoints import Failpoint, FailpointHook, no_failpoint
from gateway.core.ids import Offset
from gateway.journal.disk import Disk, OsDisk, segment_files
from gateway.journal.segment import HEADER_BYTES, parse_header


class Retained(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of retention did.

    Attributes:
        segments: Segments deleted.
        bytes: Their bytes.
        entries_unread: Entries among them that the slowest reader had not read: lost to it, and to be alerted.
        start_offset: Offset of the oldest entry now kept.
    """

    segments: int
    bytes: int
    entries_unread: int
    start_offset: Offset


def apply_retention(
    directory: Path,
    *,
    read_up_to: Offset,
    now_ns: int,
    age_s_max: float,
    bytes_max: int,
    hard_bytes_max: int,
    disk: Disk | None = None,
    failpoint: FailpointHook = no_failpoint,
) -> Retained:
    """Delete the oldest segments that are past a limit, never the one being written. Safe to repeat and to interrupt.

    Safe beside a writer and readers: they never look back, and an unlinked file stays readable to who has it open.

    Args:
        directory: The journal's.
        read_up_to: The slowest cursor as it is on disk; 0 where a reader is expected that has stored none yet.
        now_ns: UTC nanoseconds.
        age_s_max: A segment goes when its newest entry is older.
        bytes_max: The oldest go until the journal is not larger.
        hard_bytes_max: The same, even where `read_up_to` forbids.
        disk: Stand-in for the operating system in tests.
        failpoint: Called before each deletion.

    Raises:
        OSError: The disk refuses; what is deleted so far is deleted.
    """
    disk = disk or OsDisk()
    files = segment_files(directory)
    sizes = [path.stat().st_size for _, path in files]
    total, deleted, freed, unread = sum(sizes), 0, 0, 0
    for (base_offset, path), size, (end_offset, following) in zip(files, sizes, files[1:], strict=False):
        newest_at_ns = _newest_before(following)
        too_old = newest_at_ns is not None and now_ns - newest_at_ns > age_s_max * 1e9
        wanted = (too_old or total > bytes_max) and end_offset <= read_up_to
        if not wanted and total <= hard_bytes_max:
            break
        failpoint(Failpoint.JOURNAL_BEFORE_UNLINK)
        disk.unlink(path)
        total, freed, deleted = total - size, freed + size, deleted + 1
        unread += max(0, end_offset - max(base_offset, read_up_to))
    if deleted:
        disk.fsync_directory(directory)
    start_offset = files[deleted][0] if files else Offset(0)
    return Retained(segments=deleted, bytes=freed, entries_unread=unread, start_offset=start_offset)


def _newest_before(following: Path) -> int | None:
    """Return the newest receipt before this segment, which its opening frame carries; None if that is unreadable."""
    with following.open("rb") as file:
        frame = parse_header(memoryview(file.read(HEADER_BYTES)), 0)
    return None if isinstance(frame, str) else frame.newest_at_ns
