"""What the command line says about a journal. Reads only; a writer may be at work meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.ids import Offset
from gateway.core.limits import MIB
from gateway.core.records import Entry, Route
from gateway.journal.disk import read_durable, segment_files
from gateway.journal.reader import SegmentReader
from gateway.journal.recovery import QUARANTINE_NAME
from gateway.journal.segment import HEADER_BYTES, Damage, Frame, decode_frame, scan

ROWS: Final = 8192


class Corruption(msgspec.Struct, frozen=True, kw_only=True):
    """Damaged bytes: segment file, from where to where, and what does not match."""

    file: str
    position: int
    end: int
    why: str


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a full read of the journal found.

    Attributes:
        segments: Segment files.
        frames: Whole frames that hold entries.
        entries: Entries in them.
        start_offset: Offset of the oldest segment.
        end_offset: Offset after the last whole frame.
        durable_offset: What the writer published, None if that is unreadable.
        torn_bytes: Bytes after the last whole frame: a write on its way, or what the next start cuts.
        missing: Offsets below the end that no frame holds: damaged, or skipped after a loss.
        corrupt: Each damaged place.
        quarantined: Files in `quarantine/`.
    """

    segments: int
    frames: int
    entries: int
    start_offset: Offset
    end_offset: Offset
    durable_offset: Offset | None
    torn_bytes: int
    missing: int
    corrupt: list[Corruption]
    quarantined: int

    @property
    def ok(self) -> bool:
        """True if everything that was acknowledged and not deleted by retention is there."""
        return not self.corrupt and not self.missing


class JournalStats(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is.

    Attributes:
        segments: Segment files.
        bytes: Their bytes.
        entries: Entries kept.
        start_offset: Offset of the oldest.
        end_offset: Durable end.
        oldest_at_ns: When the oldest was received, UTC; None if empty.
        newest_at_ns: The same for the newest.
        by_channel: Entries by (source, channel); None unless asked for.
    """

    segments: int
    bytes: int
    entries: int
    start_offset: Offset
    end_offset: Offset
    oldest_at_ns: int | None
    newest_at_ns: int | None
    by_channel: dict[tuple[str, str], int] | None


def verify(directory: Path) -> VerifyReport:
    """Check every byte of every segment."""
    # Read first: whatever is below it must be found by what follows.
    durable_offset = read_durable(directory)
    files = segment_files(directory)
    frames = entries = missing = torn_bytes = 0
    start_offset = end_offset = files[0][0] if files else Offset(0)
    corrupt: list[Corruption] = []
    for base_offset, path in files:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # retention took it since the listing
        missing += max(0, base_offset - end_offset)
        end_offset = max(end_offset, base_offset)
        for found in _check(data, base_offset):
            if isinstance(found, Damage):
                if found.end == len(data) and path == files[-1][1]:
                    torn_bytes = found.end - found.position
                else:
                    corrupt.append(Corruption(file=path.name, position=found.position, end=found.end, why=found.why))
            elif found.count:
                missing += found.base_offset - end_offset
                frames, entries, end_offset = frames + 1, entries + found.count, found.end_offset
    missing += max(0, (durable_offset or 0) - end_offset)
    quarantine = directory / QUARANTINE_NAME
    return VerifyReport(
        segments=len(files),
        frames=frames,
        entries=entries,
        start_offset=start_offset,
        end_offset=end_offset,
        durable_offset=durable_offset,
        torn_bytes=torn_bytes,
        missing=missing,
        corrupt=corrupt,
        quarantined=sum(1 for _ in quarantine.glob("*.bin")) if quarantine.is_dir() else 0,
    )


def stats(directory: Path, *, by_channel: bool = False) -> JournalStats:
    """Return how much the journal holds. Reads two batches, or all of it `by_channel`."""
    reader = SegmentReader(directory)
    files = segment_files(directory)
    start_offset, end_offset = reader.start_offset(), reader.end_offset()
    entries, oldest_at_ns, newest_at_ns = end_offset - start_offset, None, None
    channels: dict[tuple[str, str], int] = {}
    if by_channel:
        entries = 0
        for route in _routes(reader, start_offset):
            key = (route.source, str(route.channel))
            channels[key] = channels.get(key, 0) + 1
            entries += 1
    if entries > 0:
        first = reader.read(start_offset, rows_max=1, bytes_max=MIB)
        last = reader.read(Offset(end_offset - 1), rows_max=1, bytes_max=MIB)
        oldest_at_ns = first.received_at_ns[0] if first else None
        newest_at_ns = last.received_at_ns[0] if last else None
    reader.close()
    return JournalStats(
        segments=len(files),
        bytes=sum(map(_size, files)),
        entries=max(0, entries),
        start_offset=start_offset,
        end_offset=end_offset,
        oldest_at_ns=oldest_at_ns,
        newest_at_ns=newest_at_ns,
        by_channel=channels if by_channel else None,
    )


def dump(directory: Path, *, offset: Offset, limit: int) -> Iterator[Entry]:
    """Yield at most `limit` entries from `offset` on; gaps are skipped, their offsets tell."""
    reader = SegmentReader(directory)
    try:
        while limit > 0:
            batch = reader.read(offset, rows_max=min(limit, ROWS), bytes_max=MIB)
            if batch.end_offset == offset:
                return
            yield from batch.entries()
            offset, limit = batch.end_offset, limit - len(batch)
    finally:
        reader.close()


def _size(file: tuple[Offset, Path]) -> int:
    try:
        return file[1].stat().st_size
    except FileNotFoundError:
        return 0  # retention took it since the listing


def _check(data: bytes, base_offset: Offset) -> Iterator[Frame | Damage]:
    view = memoryview(data)
    for found in scan(data, base_offset=base_offset):
        if isinstance(found, Frame):
            batch = decode_frame(found, view[found.position + HEADER_BYTES : found.end])
            if isinstance(batch, str):
                yield Damage(position=found.position, end=found.end, why=batch)
                continue
        yield found


def _routes(reader: SegmentReader, offset: Offset) -> Iterator[Route]:
    while True:
        batch = reader.read(offset, rows_max=ROWS, bytes_max=64 * MIB)
        if batch.end_offset == offset:
            return
        yield from map(batch.routes.__getitem__, batch.route_index)
        offset = batch.end_offset
