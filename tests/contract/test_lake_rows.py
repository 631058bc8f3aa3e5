"""What reading a lake by offset promises, while the table is appended to, compacted, widened and cut."""

import socket
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import SinkError
from processors.jobs.compaction import compact
from processors.jobs.retention import delete_before
from processors.sinks.lake import Lake, LakeTable
from processors.sinks.lake_rows import LakeRows

SCHEMA: dict[str, pl.DataType] = {
    "offset": pl.Int64(),
    "received_at": pl.Datetime("us", "UTC"),
    "value": pl.Int64(),
}
COLUMNS = ("offset", "value")
START = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)


def rows(offsets: list[int]) -> pl.DataFrame:
    """Return a row for each offset; the value tells rows of one offset apart."""
    received = [START + timedelta(seconds=offset) for offset in offsets]
    return pl.DataFrame({"offset": offsets, "received_at": received, "value": list(range(len(offsets)))}, schema=SCHEMA)


def lake(directory: Path, schema: dict[str, pl.DataType] | None = None) -> Lake:
    """Open a lake of one table."""
    return Lake(directory, [LakeTable(name="a", schema=schema or SCHEMA)])


def write(directory: Path, *commits: list[int]) -> None:
    """Append each list of offsets as one commit."""
    with_table = lake(directory)
    for offsets in commits:
        with_table.write({"a": rows(offsets)}, end_offset=offsets[-1] + 1)
    with_table.close()


def chunks(reader: LakeRows, *, rows_max: int, begin: int = 0) -> list[list[int]]:
    """Return the offsets of chunk after chunk up to the table's end."""
    found = []
    while (chunk := reader.read("a", COLUMNS, begin, rows_max)).end > begin:
        assert list(COLUMNS) == chunk.rows.columns
        found.append(chunk.rows["offset"].to_list())
        begin = chunk.end
    return found


def test_a_table_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    """Before the processors wrote for the first time there is nothing to read, and that is no error."""
    reader = LakeRows(tmp_path, {"a": SCHEMA})
    assert 0 == reader.version("a")
    chunk = reader.read("a", COLUMNS, 0, 10)
    assert (0, 0, list(COLUMNS)) == (chunk.end, chunk.rows.height, chunk.rows.columns)


def test_chunks_have_all_rows_once_in_order(tmp_path: Path) -> None:
    """Every row comes in exactly one chunk, oldest first, over the files of two days."""
    write(tmp_path, list(range(50)), list(range(50, 120)))
    found = chunks(LakeRows(tmp_path, {"a": SCHEMA}), rows_max=40)
    assert [40, 40, 40] == [len(chunk) for chunk in found]
    assert list(range(120)) == [offset for chunk in found for offset in chunk]


def test_rows_of_one_offset_stay_together(tmp_path: Path) -> None:
    """An entry with more rows than a chunk should have is one chunk, and no other entry's rows are in it."""
    write(tmp_path, [1, 2, 2, 2, 2, 2, 3], [7, 7, 8])
    assert [[1], [2] * 5, [3], [7, 7], [8]] == chunks(LakeRows(tmp_path, {"a": SCHEMA}), rows_max=2)


def test_reading_goes_on_where_it_was_after_commits_and_compaction(tmp_path: Path) -> None:
    """Rows past the cursor are the same whichever files hold them, and newer commits come after them."""
    write(tmp_path, *([n, n + 1] for n in range(0, 80, 2)))
    reader = LakeRows(tmp_path, {"a": SCHEMA})
    first = reader.read("a", COLUMNS, 0, 30)
    written = lake(tmp_path)
    assert compact(written.handles["a"], writer=written.compacted_writer("a"), small_files_min=2) > 0
    written.write({"a": rows([80, 81])}, end_offset=82)
    rest = chunks(reader, rows_max=30, begin=first.end)
    assert list(range(82)) == first.rows["offset"].to_list() + [offset for chunk in rest for offset in chunk]


class _LateLook(LakeRows):
    """Looks at the log once before what another program then does."""

    late = True

    def _refreshed(self, table: str) -> DeltaTable | None:
        if self.late and (stale := self._handles.get(table)) is not None:
            self.late = False
            return stale
        return super()._refreshed(table)


def test_a_file_that_vanished_is_read_from_the_next_snapshot(tmp_path: Path) -> None:
    """Compaction and vacuum may fall between the look at the log and the read of a file."""
    write(tmp_path, *([n] for n in range(40)))
    reader = _LateLook(tmp_path, {"a": SCHEMA})
    assert 40 == reader.version("a")
    written = lake(tmp_path)
    handle = written.handles["a"]
    compact(handle, writer=written.compacted_writer("a"), small_files_min=2)
    gone = handle.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert len(gone) == 40
    assert [list(range(40))] == chunks(reader, rows_max=100)
    assert not reader.late


def test_a_lake_that_lost_a_file_is_refused_by_name(tmp_path: Path) -> None:
    """No snapshot has the rows of a file that somebody deleted, and rows are never passed over in silence."""
    write(tmp_path, [1, 2])
    next((tmp_path / "a").rglob("*.parquet")).unlink()
    with pytest.raises(SinkError, match="lake table a: "):
        LakeRows(tmp_path, {"a": SCHEMA}).read("a", COLUMNS, 0, 10)


def test_what_retention_deleted_is_gone_and_stops_nothing(tmp_path: Path) -> None:
    """Rows of deleted days are passed over; the end is the table's all the same."""
    write(tmp_path, list(range(120)))
    written = lake(tmp_path)
    delete_before(written.handles["a"], date(2026, 11, 23))
    assert [list(range(60, 120))] == chunks(LakeRows(tmp_path, {"a": SCHEMA}), rows_max=100)


def test_a_column_that_is_newer_than_a_file_reads_as_null(tmp_path: Path) -> None:
    """A contract that grew does not rewrite the lake."""
    write(tmp_path, [1, 2])
    wider = SCHEMA | {"added": pl.Float64()}
    written = lake(tmp_path, wider)
    written.write({"a": rows([3]).with_columns(added=pl.lit(0.5))}, end_offset=4)
    chunk = LakeRows(tmp_path, {"a": wider}).read("a", ("offset", "added"), 0, 10)
    assert [(1, None), (2, None), (3, 0.5)] == chunk.rows.rows()


def test_a_reindex_reads_the_same_again(tmp_path: Path) -> None:
    """Back at 0 the chunks are those of the first time, though the reader remembers where others ended."""
    write(tmp_path, list(range(100)))
    reader = LakeRows(tmp_path, {"a": SCHEMA})
    assert chunks(reader, rows_max=7) == chunks(reader, rows_max=7)
    assert [list(range(50, 57))] == chunks(reader, rows_max=7, begin=50)[:1]


@settings(max_examples=30)
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=40),
    cut=st.integers(1, 39),
    rows_max=st.integers(1, 12),
)
def test_any_rows_in_any_chunks(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], cut: int, rows_max: int
) -> None:
    """Whatever entries caused: all rows come once, in order, uncut, and a chunk is full or one entry's alone."""
    directory = tmp_path_factory.mktemp("rows")
    offsets = [offset for offset, n in enumerate(counts) for _ in range(n)]
    parts = [part for part in (offsets[:cut], [o for o in offsets[cut:] if o >= offsets[:cut][-1] + 1]) if part]
    write(directory, *parts)
    wanted = [offset for part in parts for offset in part]
    found = chunks(LakeRows(directory, {"a": SCHEMA}), rows_max=rows_max)
    assert wanted == [offset for chunk in found for offset in chunk]
    for chunk in found:
        assert len(chunk) <= rows_max or len(set(chunk)) == 1
    for before, after in pairwise(found):
        assert not set(before) & set(after)
        assert len(before) + after.count(after[0]) > rows_max, "a chunk took less than it could"


def test_an_object_store_that_is_away_is_asked_few_times():
    """Who reads comes again by itself, and must not be kept from stopping by a client that tries for seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again when the block ends
    options = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "x", "AWS_ALLOW_HTTP": "true"}
    options |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    reader = LakeRows("s3://bucket/lake", {"a": SCHEMA}, options)
    with pytest.raises(SinkError) as refused:
        reader.version("a")
    assert "after 1 retries" in str(refused.value.__cause__)
    with pytest.raises(OSError, match="after 1 retries"):
        reader._scan("a", pl.DataFrame({"path": ["x.parquet"]})).collect()
