"""Cursors of tables in the index: who may move them, and what a damaged file costs."""

from pathlib import Path

import pytest

from gateway.core.errors import SinkError
from processors.sinks.index_store import FILE, Cursor, IndexStore


@pytest.fixture
def store(tmp_path):
    """Return a new file of cursors."""
    made = IndexStore(tmp_path / FILE, now_us=1)
    yield made
    made.close()


def again(tmp_path: Path, now_us: int = 2) -> IndexStore:
    """Open the file once more, as a restart or a command line does."""
    return IndexStore(tmp_path / FILE, now_us=now_us)


def test_a_cursor_moves_and_stays_over_a_restart(store, tmp_path):
    """The offset and the counts of a generation add up."""
    assert store.advance(Cursor(table="alerts"), 10, done=4, rejected=1)
    assert store.advance(store.cursors()["alerts"], 25, done=2, rejected=0)
    store.close()
    other = again(tmp_path)
    assert {"alerts": Cursor(table="alerts", offset=25, done=6, rejected=1)} == other.cursors()
    other.close()


def test_a_chunk_under_way_does_not_undo_a_reindex(store, tmp_path):
    """Who asked for a reindex meanwhile wins over the indexer that had read its rows before."""
    store.advance(Cursor(table="alerts"), 10, done=4, rejected=0)
    seen = store.cursors()["alerts"]
    command = again(tmp_path)
    command.set_back(["alerts", "rejects"], drop=True)
    command.close()
    assert not store.advance(seen, 20, done=1, rejected=0)
    assert {
        "alerts": Cursor(table="alerts", generation=1, is_drop_due=True),
        "rejects": Cursor(table="rejects", generation=1, is_drop_due=True),
    } == store.cursors()


def test_a_cursor_never_goes_back_by_itself(store):
    """Two indexers, for the moment of a restart, may end chunks in any order."""
    store.advance(Cursor(table="alerts"), 10, done=4, rejected=0)
    store.advance(Cursor(table="alerts"), 5, done=0, rejected=0)
    assert 10 == store.cursors()["alerts"].offset


def test_a_drop_is_due_once_and_again_when_asked_again(store):
    """A second reindex while the first drop is under way leaves its own drop due."""
    store.set_back(["alerts"], drop=True)
    seen = store.cursors()["alerts"]
    store.set_back(["alerts"], drop=False)
    assert store.cursors()["alerts"].is_drop_due
    assert not store.dropped(seen)
    assert store.dropped(store.cursors()["alerts"])
    assert not store.cursors()["alerts"].is_drop_due


def test_another_cluster_is_known_until_everything_was_set_back(store):
    """`status` says that a cluster is empty as long as nobody had it filled."""
    assert None is store.cluster()
    assert [False, False, True, False] == [store.meet_cluster(uuid) for uuid in ("a", "a", "b", "b")]
    assert ("b", True) == store.cluster()
    store.refilled()
    assert ("b", False) == store.cluster()


@pytest.mark.parametrize(
    "content", [b"no database, but long enough to be looked at" * 30, b"SQLite format 3\0" + b"x" * 500]
)
def test_a_damaged_file_is_moved_aside_and_everything_begins_at_0(tmp_path, content):
    """What it knew is in the index already or made again from the lake."""
    (tmp_path / FILE).write_bytes(content)
    store = again(tmp_path)
    assert store.moved_aside
    assert {} == store.cursors()
    assert [content] == [path.read_bytes() for path in tmp_path.glob(f"{FILE}.damaged-*")]
    store.close()


def test_a_file_that_cannot_be_made_is_refused_by_name(tmp_path):
    """A data directory that is a file is no reason to crash."""
    (tmp_path / "data").write_text("")
    with pytest.raises(SinkError, match="index cursors: "):
        IndexStore(tmp_path / "data" / FILE, now_us=1)
