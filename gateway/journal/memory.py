"""A journal in memory: the twin of SegmentWriter and SegmentReader for tests, held to the same contract tests.

It can be told to fail as a disk does. Without an event loop nothing is durable until `commit` is called, which makes a
test decide when; with one, an append is durable at the loop's next turn.
"""

import asyncio

from gateway.core.errors import JournalBroken, JournalError, JournalFull
from gateway.core.ids import Offset
from gateway.core.limits import JOURNAL_REFUSE_BYTES
from gateway.core.ports import OnDurable
from gateway.core.records import EntryBatch, Envelope, Route, to_batch
from gateway.journal.segment import Append


class MemoryJournal:
    """JournalWriter and JournalReader in one, unbounded, lost with the process.

    Args:
        loop: Commits by itself at each turn; None to commit by hand.
    """

    def __init__(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._kept: list[Envelope] = []
        self._start_offset = Offset(0)
        self._waiting: list[Append] = []
        self._in_flight_bytes = 0
        self._failure: JournalError | None = None

    @property
    def in_flight_bytes(self) -> int:
        """See JournalWriter."""
        return self._in_flight_bytes

    @property
    def failure(self) -> JournalError | None:
        """See JournalWriter."""
        return self._failure

    def append_nowait(
        self, received_at_ns: int, routes: list[Route], payloads: list[bytes], on_durable: OnDurable | None
    ) -> None:
        """See JournalWriter."""
        if isinstance(self._failure, JournalBroken):
            raise self._failure
        size = sum(map(len, payloads))
        if self._in_flight_bytes + size > JOURNAL_REFUSE_BYTES:
            raise JournalFull(f"{self._in_flight_bytes} bytes wait, limit {JOURNAL_REFUSE_BYTES}; send again later")
        if self._loop is not None and not self._waiting:
            self._loop.call_soon(self.commit)
        self._waiting.append((received_at_ns, routes, payloads, on_durable, size))
        self._in_flight_bytes += size

    def commit(self) -> None:
        """Make what waits durable, or refuse it if told to fail, and call back."""
        appends, self._waiting = self._waiting, []
        error = self._failure
        for received_at_ns, routes, payloads, on_durable, size in appends:
            self._in_flight_bytes -= size
            if error is None:
                self._kept += [
                    Envelope(received_at_ns=received_at_ns, route=route, payload=payload)
                    for route, payload in zip(routes, payloads, strict=True)
                ]
            if on_durable is not None:
                on_durable(error)

    def fail(self, error: JournalError | None) -> None:
        """Refuse from the next commit on: JournalFull until `fail(None)`, JournalBroken for ever."""
        assert not isinstance(self._failure, JournalBroken), "a broken journal stays broken"
        self._failure = error

    def lose_power(self) -> None:
        """Forget what is not durable, without calling back, and be a fresh journal over the rest."""
        self._waiting, self._in_flight_bytes, self._failure = [], 0, None

    def drop_before(self, offset: Offset) -> None:
        """Delete the oldest entries, as retention does."""
        gone = max(0, min(offset, self.end_offset()) - self._start_offset)
        del self._kept[:gone]
        self._start_offset = Offset(self._start_offset + gone)

    def read(self, offset: Offset, *, rows_max: int, bytes_max: int) -> EntryBatch:
        """See JournalReader."""
        start = max(offset, self._start_offset)
        rows: list[Envelope] = []
        size = 0
        for envelope in self._kept[start - self._start_offset : start - self._start_offset + max(0, rows_max)]:
            if size >= bytes_max:
                break
            rows.append(envelope)
            size += len(envelope.payload)
        return to_batch(Offset(start), rows)

    def start_offset(self) -> Offset:
        """See JournalReader."""
        return self._start_offset

    def end_offset(self) -> Offset:
        """See JournalReader."""
        return Offset(self._start_offset + len(self._kept))
