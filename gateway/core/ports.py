"""What the parts expect of each other.

A docstring here is the contract, and one test file runs against all implementations.
"""

from collections.abc import Callable
from typing import Protocol

from gateway.core.errors import JournalError
from gateway.core.ids import Offset
from gateway.core.records import Checkpoint, EntryBatch, Route

OnDurable = Callable[[JournalError | None], None]


class JournalWriter(Protocol):
    """The single writer of one journal. All calls on the event loop's thread; none blocks."""

    def append_nowait(
        self, received_at_ns: int, routes: list[Route], payloads: list[bytes], on_durable: OnDurable | None
    ) -> None:
        """Take messages received at one moment, in order; `routes[i]` belongs to `payloads[i]`.

        `on_durable(None)` is called on the loop once all are on disk (after fdatasync), `on_durable(error)` once
        it is certain that they must not be acknowledged. Calls come in append order, each exactly once. The lists
        belong to the writer from here on.
        Raises: JournalFull or JournalBroken: Nothing was taken and `on_durable` will not be called.
        """
        ...

    @property
    def in_flight_bytes(self) -> int:
        """Payload bytes taken and not yet durable; listeners pause above `JOURNAL_IN_FLIGHT_BYTES_MAX`."""
        ...

    @property
    def failure(self) -> JournalError | None:
        """Why nothing is acknowledged at the moment, or None."""
        ...


class JournalReader(Protocol):
    """Reads a journal while it is written, without locks. Synchronous, one thread per reader."""

    def read(self, offset: Offset, *, rows_max: int, bytes_max: int) -> EntryBatch:
        """Return the entries from `offset` on, at most `rows_max` and about `bytes_max`; empty at the tail.

        Only whole, checked and durable frames are seen. Where entries are gone (retention, quarantine) `base_offset` of
        the answer is higher than asked, even where it is empty: go on from its `end_offset`, and count the gap.
        """
        ...

    def start_offset(self) -> Offset:
        """Return the offset of the oldest entry kept."""
        ...

    def end_offset(self) -> Offset:
        """Return the offset that the next append will get."""
        ...


class CursorStore(Protocol):
    """Keeps one checkpoint per reader; replacing is atomic and durable."""

    def load(self, cursor: str) -> Checkpoint | None:
        """Return the last stored checkpoint, or None. Raises: CheckpointError: It is unreadable."""
        ...

    def store(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint of `checkpoint.cursor`; on return it survives a power loss."""
        ...

    def slowest(self) -> Offset | None:
        """Return the lowest stored offset, below which the journal may be deleted; None without readers."""
        ...


class Counter(Protocol):
    """Counts events by a bounded set of reasons."""

    def __call__(self, reason: str, n: int = 1) -> None:
        """Add `n` under `reason`."""
        ...
