"""Transaction ids are never given twice."""

from pathlib import Path

import pytest

from gateway.core.errors import CheckpointError, JournalError, JournalFull
from gateway.core.ids import Offset
from gateway.core.limits import TRANSACTION_ID_MAX
from gateway.core.records import Checkpoint
from gateway.edge.transaction_ids import NAME, TransactionIds
from gateway.journal.cursors import FileCursors

EPOCH_NS = 1_735_689_600 * 10**9


def ids(directory: Path, *, now_ns: int = EPOCH_NS, block: int = 4) -> TransactionIds:
    """Return the ids of a data directory, as a process just started has them."""
    return TransactionIds(FileCursors(directory), now_ns=lambda: now_ns, block=block)


def test_ids_count_up_and_go_on_after_a_crash_past_the_reserved_block(tmp_path: Path) -> None:
    """What a killed process had reserved is wasted, never given again."""
    first = ids(tmp_path)
    given = [first.next() for _ in range(6)]
    later = [ids(tmp_path).next() for _ in range(1)]
    assert [1, 2, 3, 4, 5, 6] == given
    assert [9] == later


def test_a_lost_file_does_not_bring_old_ids_back(tmp_path: Path) -> None:
    """Without the file ids begin at the seconds since 2025, which outruns a fleet's transactions."""
    before = ids(tmp_path / "a", now_ns=EPOCH_NS + 1000 * 10**9).next()
    after = ids(tmp_path / "b", now_ns=EPOCH_NS + 2000 * 10**9).next()
    assert (1000, 2000) == (before, after)


def test_a_clock_that_went_back_does_not_bring_old_ids_back(tmp_path: Path) -> None:
    """What is on disk counts more than the clock."""
    assert 5000 == ids(tmp_path, now_ns=EPOCH_NS + 5000 * 10**9).next()
    assert 5004 == ids(tmp_path, now_ns=EPOCH_NS).next()


def test_no_id_is_given_that_is_not_reserved_on_disk(tmp_path: Path) -> None:
    """A disk that takes no block means no id, and the next call tries again."""

    class Full(FileCursors):
        room = False

        def store(self, checkpoint: Checkpoint) -> None:
            if not self.room:
                raise OSError(28, "No space left on device")
            super().store(checkpoint)

    store = Full(tmp_path)
    given = TransactionIds(store, now_ns=lambda: EPOCH_NS)
    with pytest.raises(JournalFull, match="cannot be reserved"):
        given.next()
    store.room = True
    assert 1 == given.next()


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """Guessing could repeat an id."""
    ids(tmp_path).next()
    (tmp_path / f"{NAME}.cursor").write_bytes(b"torn")
    with pytest.raises(CheckpointError):
        ids(tmp_path)


def test_the_last_id_is_a_signed_32_bit_one(tmp_path: Path) -> None:
    """OCPP 1.6 knows integers, and chargers keep them in 32 bits."""
    FileCursors(tmp_path).store(Checkpoint(cursor=NAME, offset=Offset(TRANSACTION_ID_MAX), state=b""))
    last = ids(tmp_path)
    assert 2**31 - 1 == last.next()
    with pytest.raises(JournalError, match="were given"):
        last.next()
