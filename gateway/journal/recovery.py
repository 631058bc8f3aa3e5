"""What a writer finds when it opens a directory, and how it makes the last segment fit to go on.

Only the last segment is read: a roll syncs the one before. A torn tail (bytes after the last whole frame, nothing of it
acknowledged) is cut. Anything else that is damaged stays where it is, is copied to `quarantine/` once, and readers step
over it. Offsets never go back: the next one is at least the durable end that was published.
"""

import mmap
import os
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.ids import Offset
from gateway.journal.disk import Disk, read_durable, segment_files, write_all
from gateway.journal.segment import Damage, Frame, scan

QUARANTINE_NAME: Final = "quarantine"


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What was found at open.

    Attributes:
        segment: The segment to go on with; None if there is none or its end is damaged, so that a new one starts at
            `end_offset`.
        size: Its bytes after the cut.
        marker: Its marker.
        end_offset: Offset of the next append.
        newest_at_ns: Newest `received_at_ns` seen, 0 if none.
        torn_bytes: Bytes cut from the tail.
        corrupt: Damage found now for the first time; what lies behind it stays readable.
        lost: Acknowledged entries at the end that are not there any more.
    """

    segment: Path | None
    size: int
    marker: int
    end_offset: Offset
    newest_at_ns: int
    torn_bytes: int
    corrupt: list[Damage]
    lost: int


def recover(directory: Path, disk: Disk) -> Recovery:
    """Read the last segment, cut a torn tail, quarantine damage; safe to repeat.

    Raises:
        OSError: The disk refuses; nothing was acknowledged since.
        JournalError: A newer program wrote the journal.
    """
    durable = read_durable(directory) or Offset(0)
    files = segment_files(directory)
    if not files:
        return Recovery(
            segment=None, size=0, marker=0, end_offset=durable, newest_at_ns=0, torn_bytes=0, corrupt=[], lost=0
        )
    base_offset, path = files[-1]
    frames, damages = _read(path, base_offset)
    end_offset = frames[-1].end_offset if frames else base_offset
    lost = max(0, durable - end_offset)
    size = path.stat().st_size
    torn_bytes = 0
    if damages and damages[-1].end == size and not lost:
        torn_bytes = size - damages[-1].position
        size = damages.pop().position
    # Behind a damaged end no frame may follow: a header that still holds would lead readers across it.
    usable = bool(frames) and not (damages and damages[-1].end == size)
    fresh = [damage for damage in damages if _quarantine(directory, path, damage, disk)]
    if usable:
        _cut(path, size, disk)
    return Recovery(
        segment=path if usable else None,
        size=size,
        marker=int.from_bytes(frames[0].sync[8:], "little") if frames else 0,
        end_offset=Offset(end_offset + lost),
        newest_at_ns=max((frame.newest_at_ns for frame in frames), default=0),
        torn_bytes=torn_bytes,
        corrupt=fresh,
        lost=lost,
    )


def _cut(path: Path, size: int, disk: Disk) -> None:
    """Cut the segment and sync it: a killed writer may have left frames that are only in the page cache."""
    descriptor = disk.open(path)
    try:
        disk.truncate(descriptor, size)
        disk.fdatasync(descriptor)
    finally:
        disk.close(descriptor)


def _read(path: Path, base_offset: Offset) -> tuple[list[Frame], list[Damage]]:
    frames: list[Frame] = []
    damages: list[Damage] = []
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return frames, damages
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for found in scan(data, base_offset=base_offset):
                if isinstance(found, Frame):
                    frames.append(found)
                else:
                    damages.append(found)
    return frames, damages


def _quarantine(directory: Path, path: Path, damage: Damage, disk: Disk) -> bool:
    """Copy the damaged bytes aside; False if an earlier open has done so.

    The original stays in the segment, so a copy that fails (a full disk) stops nothing; the next open tries again.
    """
    target = directory / QUARANTINE_NAME / f"{path.stem}-{damage.position}-{damage.end}.bin"
    if target.exists():
        return False
    try:
        target.parent.mkdir(exist_ok=True)
        with path.open("rb") as file:
            file.seek(damage.position)
            data = file.read(damage.end - damage.position)
        copy = target.with_suffix(".tmp")
        descriptor = disk.open(copy)
        try:
            disk.truncate(descriptor, 0)
            write_all(disk, descriptor, data, 0)
            disk.fdatasync(descriptor)
        finally:
            disk.close(descriptor)
        disk.rename(copy, target)
        disk.fsync_directory(target.parent)
    except OSError:
        return True
    return True
