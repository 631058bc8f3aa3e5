"""The single writer of a journal directory: group commit, one fdatasync for everybody who came meanwhile.

Two threads and one rule each. The event loop's thread collects appends and calls back; the commit thread encodes,
writes and syncs. At most one commit is on its way, so a slow disk makes commits larger, not more.

    loop:    append_nowait ... COMMIT_WINDOW_S or COMMIT_BYTES -> hand over
    thread:  1 encode  2 roll if full  3 write  4 fdatasync  5 publish the durable end
    loop:    on_durable of each append, in order

What the disk may do: fail a write for want of space (the commit is cut back, not acknowledged, the next one tries
again) or fail anything else (this writer never acknowledges again: the kernel may have dropped the pages).
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import msgspec

from gateway.core.errors import JournalBroken, JournalError, JournalFull
from gateway.core.failpoints import FailpointHook, no_failpoint
from gateway.core.ids import Offset
from gateway.core.limits import (
    COMMIT_BYTES,
    COMMIT_WINDOW_S,
    JOURNAL_REFUSE_BYTES,
    SEGMENT_BYTES_MAX,
)
from gateway.core.ports import OnDurable
from gateway.core.records import Route
from gateway.journal.committer import TEMPORARY, Committer, full
from gateway.journal.disk import Disk, OsDisk
from gateway.journal.segment import ENTRY_BYTES_MAX, Append


class Commit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One group commit, for whoever measures.

    Attributes:
        entries: Entries in it.
        payload_bytes: Their payload bytes.
        duration_s: Encoding, writing and syncing on the commit thread.
        error: Why nothing of it was acknowledged, or None.
    """

    entries: int
    payload_bytes: int
    duration_s: float
    error: JournalError | None


def ignore_commit(_commit: Commit) -> None:
    """Measure nothing."""


class SegmentWriter:
    """A JournalWriter over segment files. Make one with `open`; all public calls on the event loop's thread.

    Attributes:
        recovery: What was found at open: torn bytes, corruption, the first offset.
    """

    def __init__(
        self,
        committer: Committer,
        *,
        loop: asyncio.AbstractEventLoop,
        commit_window_s: float,
        commit_bytes: int,
        now_ns: Callable[[], int],
        on_commit: Callable[[Commit], None],
    ) -> None:
        self.recovery = committer.recovery
        self._committer = committer
        self._loop = loop
        self._commit_window_s = commit_window_s
        self._commit_bytes = commit_bytes
        self._now_ns = now_ns
        self._on_commit = on_commit
        self._waiting: list[Append] = []
        self._waiting_bytes = 0
        self._in_flight_bytes = 0
        self._committing = False
        self._due = False
        self._called_back = committer.recovery.end_offset
        self._failure: JournalError | None = None
        self._refusal: JournalBroken | None = None
        self._closed = False
        self._window: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._work: queue.SimpleQueue[list[Append] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-commit", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        loop: asyncio.AbstractEventLoop,
        now_ns: Callable[[], int],
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        commit_window_s: float = COMMIT_WINDOW_S,
        commit_bytes: int = COMMIT_BYTES,
        disk: Disk | None = None,
        failpoint: FailpointHook = no_failpoint,
        on_commit: Callable[[Commit], None] = ignore_commit,
    ) -> Self:
        """Take the directory (made if missing), recover it and be ready to append. Blocks while one segment is read.

        Args:
            directory: Of this journal alone.
            loop: The event loop whose thread appends.
            now_ns: UTC nanoseconds, for `append` and for the duration of commits.
            segment_bytes_max: A segment is closed before it passes this, unless a single commit does.
            commit_window_s: How long the first append of a commit waits for company.
            commit_bytes: Payload bytes that end the wait.
            disk: Stand-in for the operating system in tests.
            failpoint: Called between the steps whose order the promise depends on.
            on_commit: Called on the loop after each commit.

        Raises:
            JournalLocked: Another writer has the directory.
            JournalFull: No space to start a segment.
            JournalError: The disk refuses, or a newer program wrote the journal.
        """
        try:
            committer = Committer(directory, disk or OsDisk(), failpoint, segment_bytes_max)
        except OSError as error:
            if error.errno in TEMPORARY:
                raise full(directory, error) from error
            raise JournalError(f"cannot open {directory}: {error.strerror}; check its disk and permissions") from error
        return cls(
            committer,
            loop=loop,
            commit_window_s=commit_window_s,
            commit_bytes=commit_bytes,
            now_ns=now_ns,
            on_commit=on_commit,
        )

    @property
    def in_flight_bytes(self) -> int:
        """Payload bytes taken and not yet called back."""
        return self._in_flight_bytes

    @property
    def failure(self) -> JournalError | None:
        """Why nothing is acknowledged at the moment, or None. JournalFull goes away with the next commit that works."""
        return self._failure

    def append_nowait(
        self, received_at_ns: int, routes: list[Route], payloads: list[bytes], on_durable: OnDurable | None
    ) -> None:
        """See JournalWriter. The hot path: one sum and one list append."""
        size = sum(map(len, payloads))
        if self._refusal is not None:
            raise self._refusal
        if self._in_flight_bytes + size > JOURNAL_REFUSE_BYTES:
            raise JournalFull(
                f"{self._in_flight_bytes} bytes wait for the disk, limit {JOURNAL_REFUSE_BYTES}; send again later"
            )
        if size > ENTRY_BYTES_MAX and max(map(len, payloads)) > ENTRY_BYTES_MAX:
            raise ValueError(f"a payload of {max(map(len, payloads))} bytes, the limit is {ENTRY_BYTES_MAX}")
        self._in_flight_bytes += size
        self._waiting_bytes += size
        if not self._waiting:
            self._window = self._loop.call_later(self._commit_window_s, self._end_window)
        self._waiting.append((received_at_ns, routes, payloads, on_durable, size))
        if self._waiting_bytes >= self._commit_bytes and not self._committing:
            self._hand_over()

    async def append(self, route: Route, payload: bytes) -> Offset:
        """Append one message received now and return its offset once it is durable.

        Cancelling the wait does not take the message back.

        Raises:
            JournalFull: Not taken; worth a later try.
            JournalBroken: Not taken, and no other will be.
        """
        placed: asyncio.Future[Offset] = self._loop.create_future()

        def on_durable(error: JournalError | None) -> None:
            if placed.done():
                return
            if error is None:
                placed.set_result(Offset(self._called_back - 1))
            else:
                placed.set_exception(error)

        self.append_nowait(self._now_ns(), [route], [payload], on_durable)
        return await placed

    async def close(self) -> None:
        """Refuse further appends, commit and call back what was taken, give the directory up. Safe to repeat."""
        if self._refusal is None:
            self._refusal = JournalBroken("the journal is closed; appends belong before close")
        while self._waiting or self._committing:
            self._end_window()
            self._drained = self._loop.create_future()
            await self._drained
        if not self._closed:
            self._closed = True
            self._work.put(None)
            self._thread.join()
            self._committer.close()

    def _end_window(self) -> None:
        if self._committing:
            self._due = True
        elif self._waiting:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._window is not None:
            self._window.cancel()
        appends, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._committing, self._due = True, False
        self._work.put(appends)

    def _run(self) -> None:
        """Commit what is handed over, on the thread, until None comes."""
        appends = self._work.get()
        while appends is not None:
            # Stands when commit() raises, which is a bug of ours: nobody may wait for a thread that is gone.
            error: JournalError | None = JournalBroken("the commit thread ended with an error; see the log and restart")
            started_at_ns = self._now_ns()
            try:
                error = self._committer.commit(appends)
            finally:
                duration_s = (self._now_ns() - started_at_ns) / 1e9
                self._loop.call_soon_threadsafe(self._committed, appends, error, duration_s)
            appends = self._work.get()

    def _committed(self, appends: list[Append], error: JournalError | None, duration_s: float) -> None:
        if isinstance(error, JournalBroken):
            self._refusal = error
            appends += self._waiting
            self._waiting, self._waiting_bytes = [], 0
        self._failure = error
        self._committing = False
        size = sum(append[4] for append in appends)
        self._in_flight_bytes -= size
        entries = sum(len(append[2]) for append in appends)
        commit = Commit(entries=entries, payload_bytes=size, duration_s=duration_s, error=error)
        if self._waiting and (self._due or self._waiting_bytes >= self._commit_bytes):
            self._hand_over()
        try:
            self._call_back(iter(appends), error)
            self._on_commit(commit)
        finally:
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)

    def _call_back(self, appends: Iterator[Append], error: JournalError | None) -> None:
        try:
            for _, _, payloads, on_durable, _ in appends:
                if error is None:
                    self._called_back = Offset(self._called_back + len(payloads))
                if on_durable is not None:
                    on_durable(error)
        except BaseException:
            # A callback with a bug must not cost the others their answer; the loop reports the bug.
            self._loop.call_soon(self._call_back, appends, error)
            raise
