"""Transaction ids of OCPP 1.6: a central system gives them, and no two transactions may ever have the same.

Ids are reserved in blocks: the end of a block is on disk before its first id is given, so a crash wastes the rest of a
block and repeats nothing. Should the file be lost, or an old backup of it come back, ids go on from the seconds since
2025: as long as a fleet begins less than one transaction a second over its life, those are past every id given.
"""

from collections.abc import Callable
from typing import Final

from gateway.core.errors import JournalError, JournalFull
from gateway.core.ids import Offset
from gateway.core.limits import TRANSACTION_ID_MAX, TRANSACTION_IDS_BLOCK
from gateway.core.ports import CursorStore
from gateway.core.records import Checkpoint

NAME: Final = "ocpp-transactions"
_EPOCH_S: Final = 1_735_689_600
"""2025-01-01T00:00:00Z."""
_NS: Final = 1_000_000_000


class TransactionIds:
    """Gives ids, each once. Used on one thread; a call blocks for a disk write once in a block.

    Args:
        store: Keeps the end of the reserved block under `NAME`; a store of its own, since the others keep offsets.
        now_ns: UTC nanoseconds.
        block: Ids reserved by one write.

    Raises:
        CheckpointError: The stored end is unreadable; giving ids all the same could repeat one.
    """

    def __init__(self, store: CursorStore, *, now_ns: Callable[[], int], block: int = TRANSACTION_IDS_BLOCK) -> None:
        self._store, self._block = store, block
        stored = store.load(NAME)
        since_epoch_s = max(0, now_ns() // _NS - _EPOCH_S)
        self._next = self._end = max(stored.offset if stored else 1, since_epoch_s, 1)

    def next(self) -> int:
        """Return a positive id that was never returned before, by this or any earlier process.

        Raises: JournalError: No more ids can be reserved; the transaction must not be confirmed.
        """
        if self._next >= self._end:
            self._reserve()
        given = self._next
        self._next += 1
        return given

    def _reserve(self) -> None:
        end = min(self._next + self._block, TRANSACTION_ID_MAX + 1)
        if end <= self._next:
            raise JournalError(
                f"all {TRANSACTION_ID_MAX} transaction ids of OCPP 1.6 were given; begin a new data directory"
            )
        try:
            self._store.store(Checkpoint(cursor=NAME, offset=Offset(end), state=b""))
        except OSError as exc:
            raise JournalFull(f"transaction ids cannot be reserved: {exc}; free space in the data directory") from exc
        self._end = end
