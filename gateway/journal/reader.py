"""Reads a journal directory while somebody writes it: no lock, no shared state but the published durable end.

Nothing at or past the durable end is looked at, so a reader never sees a frame that a power loss could take back. Bytes
below it do not change any more; what is not a whole frame there is damage, and the reader goes on behind it.
"""

import os
from array import array
from pathlib import Path
from typing import Final

from gateway.core.errors import JournalError
from gateway.core.ids import Offset
from gateway.core.limits import MIB
from gateway.core.records import EntryBatch, Route
from gateway.journal.disk import read_durable, segment_files
from gateway.journal.segment import HEADER_BYTES, Frame, decode_frame, parse_header, resync, why_not

WINDOW_BYTES: Final = MIB
"""Read from the file at once: large enough that calls cost nothing, small enough for the processor's cache."""


class SegmentReader:
    """A JournalReader over segment files. Reading on from the last answer is fast; another offset walks frame headers.

    Args:
        directory: The journal's; may not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._segment: _Segment | None = None
        self._next_offset = Offset(0)
        self._frame: EntryBatch | None = None

    def read(self, offset: Offset, *, rows_max: int, bytes_max: int) -> EntryBatch:
        """See JournalReader.

        Raises:
            JournalError: The disk refuses to be read, or a newer program wrote the journal.
        """
        end = self.end_offset()
        merged = _Merge(offset)
        try:
            while merged.end_offset < end and merged.rows < rows_max and merged.payload_bytes < bytes_max:
                frame = self._frame_with(merged.end_offset, end)
                if frame is None or frame.base_offset > merged.end_offset:
                    # Entries are gone. What is before the gap is one answer, what is behind it another.
                    if merged.rows:
                        break
                    merged = _Merge(end if frame is None else frame.base_offset)
                    continue
                start = merged.end_offset - frame.base_offset
                merged.add(frame, start, min(len(frame), start + rows_max - merged.rows))
        except OSError as error:
            raise JournalError(
                f"cannot read {self._directory}: {error.strerror}; check its disk and permissions"
            ) from error
        return merged.batch()

    def start_offset(self) -> Offset:
        """See JournalReader."""
        files = segment_files(self._directory)
        return files[0][0] if files else Offset(0)

    def end_offset(self) -> Offset:
        """See JournalReader: the durable end, 0 before the first writer."""
        return read_durable(self._directory) or Offset(0)

    def close(self) -> None:
        """Give the open file back; reading opens it again."""
        if self._segment is not None:
            self._segment.close()
        self._segment = self._frame = None

    def _frame_with(self, offset: Offset, end: Offset) -> EntryBatch | None:
        """Return the first frame that ends above `offset`, None if no readable one begins below `end`."""
        kept = self._frame
        if kept is not None and kept.base_offset <= offset < kept.end_offset:
            return kept
        if self._segment is None or offset != self._next_offset:
            self.close()
            self._segment = self._open(offset, end)
        while self._segment is not None:
            batch = self._segment.next_batch(offset, end)
            if batch is not None:
                self._frame, self._next_offset = batch, batch.end_offset
                return batch
            following = self._open_after(self._segment.base_offset, end)
            if following is None:
                break
            self._segment.close()
            self._segment = following
        # Nothing is remembered, so the next call looks at the names again.
        self.close()
        return None

    def _open(self, offset: Offset, end: Offset) -> "_Segment | None":
        """Open the segment that `offset` belongs to, or the oldest kept one if that is gone."""
        files = segment_files(self._directory)
        older = [base for base, _ in files if base <= offset]
        return self._open_after(Offset(older[-1] - 1) if older else Offset(-1), end)

    def _open_after(self, base_offset: Offset, end: Offset) -> "_Segment | None":
        """Open the oldest segment whose base is above `base_offset` and below `end`."""
        for base, path in segment_files(self._directory):
            if base_offset < base < end:
                try:
                    return _Segment(path, base)
                except FileNotFoundError:
                    continue  # retention took it since the listing
        return None


class _Segment:
    """One open segment file and a position in it. The file may be unlinked meanwhile; its bytes stay readable."""

    def __init__(self, path: Path, base_offset: Offset) -> None:
        self.base_offset = base_offset
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._position = 0
        self._offset = base_offset
        self._sync: bytes | None = None
        # Read into again and again: fresh memory would cost a page fault per 4 KiB, as much as the copy itself.
        self._buffer = memoryview(bytearray(WINDOW_BYTES))
        self._window = self._buffer[:0]
        self._window_at = 0
        self._window_end = Offset(-1)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def next_batch(self, offset: Offset, end: Offset) -> EntryBatch | None:
        """Return the next frame from the position on that ends above `offset`, None if no durable one is left here."""
        if self._window_end != end:
            # What was read past an older durable end may have been cut back and written anew since.
            self._window, self._window_end = self._buffer[:0], end
        while self._offset < end:
            header = self._bytes(self._position, HEADER_BYTES)
            if not header:
                return None
            frame = parse_header(header, self._position)
            if isinstance(frame, str):
                self._skip()
                continue
            if frame.end_offset > end:
                return None
            batch: EntryBatch | str | None = None
            if frame.end_offset > offset or frame.sync != self._sync:
                batch = self._read(frame)
            if isinstance(batch, str):
                self._skip()
                continue
            self._position, self._offset, self._sync = frame.end, frame.end_offset, frame.sync
            if batch is not None and batch.end_offset > offset:
                return batch
        return None

    def _read(self, frame: Frame) -> EntryBatch | str:
        body = self._bytes(frame.position + HEADER_BYTES, frame.body_bytes)
        return why_not(frame, body, sync=self._sync, offset=self._offset) or decode_frame(frame, body)

    def _skip(self) -> None:
        """Move behind damage. Rare, so the rest of the file is read at once."""
        data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size - self._position, self._position)
        self._position += resync(data, 1, sync=self._sync, offset=self._offset)

    def _bytes(self, position: int, length: int) -> memoryview:
        """Return `length` bytes at `position`, fewer where the file ends."""
        at = position - self._window_at
        if at < 0 or at + length > len(self._window):
            if length > len(self._buffer):
                self._buffer = memoryview(bytearray(length))
            self._window = self._buffer[: os.preadv(self._descriptor, [self._buffer], position)]
            self._window_at, at = position, 0
        return self._window[at : at + length]


class _Merge:
    """Consecutive frames in one set of columns.

    Pieces are joined once at the end: growing a column frame by frame moves it through sixteen times its memory.
    """

    def __init__(self, base_offset: Offset) -> None:
        self.rows = 0
        self.payload_bytes = 0
        self._base_offset = base_offset
        self._routes: dict[Route, int] = {}
        self._route_index: list[array[int]] = []
        self._received_at_ns: list[array[int]] = []
        self._payloads: list[list[bytes]] = []

    @property
    def end_offset(self) -> Offset:
        return Offset(self._base_offset + self.rows)

    def add(self, frame: EntryBatch, start: int, stop: int) -> None:
        """Append rows `start` to `stop` of the frame, which begins where this ends."""
        routes, index = self._routes, frame.route_index
        payloads, times = frame.payloads, frame.received_at_ns
        used: range | dict[int, None] = range(len(frame.routes))
        if stop - start < len(frame):
            index, payloads, times = index[start:stop], payloads[start:stop], times[start:stop]
            used = dict.fromkeys(index)
        place = {old: routes.setdefault(frame.routes[old], len(routes)) for old in used}
        if any(old != new for old, new in place.items()):
            index = array("I", list(map(place.__getitem__, index)))
        self._route_index.append(index)
        self._received_at_ns.append(times)
        self._payloads.append(payloads)
        self.rows += len(payloads)
        self.payload_bytes += sum(map(len, payloads))

    def batch(self) -> EntryBatch:
        """Return the columns."""
        route_index: array[int] = array("I")
        route_index.frombytes(b"".join(self._route_index))
        received_at_ns: array[int] = array("q")
        received_at_ns.frombytes(b"".join(self._received_at_ns))
        payloads = [b""] * self.rows
        at = 0
        for piece in self._payloads:
            payloads[at : at + len(piece)] = piece
            at += len(piece)
        return EntryBatch(
            base_offset=self._base_offset,
            routes=list(self._routes),
            route_index=route_index,
            received_at_ns=received_at_ns,
            payloads=payloads,
        )
