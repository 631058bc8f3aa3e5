"""Refused documents in the lake: each once, whatever is repeated."""

from datetime import UTC, datetime

import polars as pl
import pytest

from gateway.core.failpoints import Failpoint
from gateway.core.limits import INDEX_REJECT_BYTES_MAX
from processors.jobs.compaction import SMALL_FILES_MIN
from processors.jobs.upkeep import KeptTable, Upkeep
from processors.sinks.index_rejects import INDEX_REJECTS, IndexReject, IndexRejects

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def rejects(tmp_path):
    """Return the rejects of an empty lake."""
    return IndexRejects(tmp_path)


def reject(offset: int, document: bytes = b'{"a":1}') -> IndexReject:
    """Return a reject of the row at an offset."""
    return IndexReject(
        offset=offset, index="v-a", document_id=f"{offset}-0", code="bad", reason="it is", document=document
    )


def held(tmp_path) -> pl.DataFrame:
    """Return what the lake holds."""
    return pl.read_delta(str(tmp_path / INDEX_REJECTS)).sort("generation", "offset")


def test_no_rejects_make_no_table(rejects, tmp_path):
    """Most installations never see one."""
    assert 0 == rejects.write("a", [], generation=0, end=10, rejected_at=NOW)
    assert [] == list(tmp_path.iterdir())


def test_a_repeated_chunk_adds_nothing(rejects, tmp_path):
    """Killed between its rejects and its cursor a chunk comes again, from a new process and maybe longer."""
    assert 2 == rejects.write("a", [reject(3), reject(9)], generation=0, end=10, rejected_at=NOW)
    fresh = IndexRejects(tmp_path)
    assert 0 == fresh.write("a", [reject(3), reject(9)], generation=0, end=10, rejected_at=NOW)
    assert 1 == fresh.write("a", [reject(3), reject(9), reject(12)], generation=0, end=20, rejected_at=NOW)
    assert [3, 9, 12] == held(tmp_path)["offset"].to_list()


def test_another_generation_and_another_table_are_told_apart(rejects, tmp_path):
    """After a reindex the same refusal is a fact of its own."""
    for table, generation in (("a", 0), ("b", 0), ("a", 1)):
        assert 1 == rejects.write(table, [reject(3)], generation=generation, end=10, rejected_at=NOW)
    assert [("a", 0), ("b", 0), ("a", 1)] == held(tmp_path).sort("generation", "table").select(
        "table", "generation"
    ).rows()


def test_a_row_says_all_there_is_to_know(rejects, tmp_path):
    """Reason, place and document are there, and a document that is too long is left to the lake."""
    rejects.write(
        "a", [reject(3), reject(4, b"x" * (INDEX_REJECT_BYTES_MAX + 1))], generation=2, end=10, rejected_at=NOW
    )
    first, second = held(tmp_path).rows(named=True)
    assert {
        "offset": 3,
        "table": "a",
        "index": "v-a",
        "document_id": "3-0",
        "code": "bad",
        "reason": "it is",
        "document": '{"a":1}',
        "rejected_at": NOW,
        "generation": 2,
        "received_date": NOW.date(),
    } == first
    assert (4, None) == (second["offset"], second["document"])


def test_upkeep_from_another_handle_takes_nothing_away_and_stops_nobody(rejects, tmp_path):
    """Compaction, retention and vacuum run in the thread of the pump while the indexer adds rejects of its own."""
    written, jobs, between = [], [], []

    def write():
        written.append(len(written))
        rejects.write("a", [reject(written[-1])], generation=0, end=len(written), rejected_at=NOW)

    def while_compacting(failpoint):
        between.append(failpoint)
        write()  # the compaction has read the table, and does not know of this one

    table = KeptTable(
        name=INDEX_REJECTS,
        handle=rejects.open_handle(),
        writer=IndexRejects.compacted_writer(),
        keep_s=30 * 86_400.0,
    )
    upkeep = Upkeep(
        [table],
        compact_interval_s=10,
        vacuum_after_hours=1,
        done=lambda job, _, files: jobs.append((job, files)),
        failpoint=while_compacting,
    )
    for turn in range(3):
        for _ in range(SMALL_FILES_MIN):
            write()
        while upkeep.is_due(turn * 90_000.0):
            upkeep.run_next(NOW.date())
    assert written == held(tmp_path)["offset"].to_list()
    assert {"compact", "retain", "vacuum"} == {job for job, _ in jobs}
    assert [Failpoint.LAKE_BEFORE_COMPACT, Failpoint.LAKE_AFTER_COMPACT] * (len(between) // 2) == between != []
