"""What every sink of frames promises, checked on the Delta lake and on its twin in memory."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from gateway.core.failpoints import Failpoint, FailpointHook, no_failpoint
from processors.sinks.lake import Lake, LakeTable
from processors.sinks.memory import MemorySink

SCHEMA: dict[str, pl.DataType] = {
    "offset": pl.Int64(),
    "received_at": pl.Datetime("us", "UTC"),
    "device_id": pl.String(),
    "value": pl.Float64(),
}
TABLES = ("a", "b", "rejects")


class CrashError(Exception):
    """Stands for the end of the process at a failpoint."""


class Store:
    """One kind of sink: how to open it (again) and how to read what it holds."""

    def __init__(self, kind: str, directory: Path, threads: int) -> None:
        self.kind, self.directory, self.threads = kind, directory, threads
        self._memory: MemorySink | None = None

    def open(self, failpoint: FailpointHook = no_failpoint) -> Lake | MemorySink:
        if self.kind == "lake":
            tables = [LakeTable(name=name, schema=SCHEMA) for name in TABLES]
            return Lake(self.directory, tables, failpoint=failpoint, threads=self.threads)
        if self._memory is None:
            self._memory = MemorySink(dict.fromkeys(TABLES, SCHEMA))
        self._memory._failpoint = failpoint
        return self._memory

    def offsets(self, table: str) -> list[int]:
        if self.kind == "lake":
            frame = pl.scan_delta(str(self.directory / table)).select("offset").collect()
        else:
            assert self._memory is not None
            frame = self._memory.frame(table)
        return sorted(frame["offset"].to_list())


@pytest.fixture(params=["memory", "lake", "lake-threads"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind of sink, empty."""
    return Store(request.param.partition("-")[0], tmp_path, threads=2 if request.param == "lake-threads" else 1)


def rows(start: int, end: int, step: int = 1) -> pl.DataFrame:
    """Return one row for every `step`-th offset, received in one second each."""
    offsets = list(range(start, end, step))
    received = [datetime.fromtimestamp(1_790_000_000 + offset, tz=UTC) for offset in offsets]
    return pl.DataFrame(
        {"offset": offsets, "received_at": received, "device_id": ["ev"] * len(offsets), "value": [0.5] * len(offsets)},
        schema=pl.Schema(SCHEMA),
    )


def killing(at: int) -> Callable[[Failpoint], None]:
    """Return a failpoint hook that raises the `at`-th time it is asked."""
    calls = 0

    def failpoint(_name: Failpoint) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise CrashError

    return failpoint


def test_rows_come_out_as_they_went_in(store: Store) -> None:
    """A written batch is there, under the version that ends it."""
    sink = store.open()
    assert {"a": 10, "b": 5} == sink.write({"a": rows(0, 10), "b": rows(0, 10, 2)}, end_offset=10)
    assert list(range(10)) == store.offsets("a")
    assert [0, 2, 4, 6, 8] == store.offsets("b")
    assert (10, 10, 0) == tuple(sink.version(name) for name in TABLES)


def test_repeated_batch_adds_nothing(store: Store) -> None:
    """The same batch through a fresh handle leaves the tables unchanged."""
    store.open().write({"a": rows(0, 10)}, end_offset=10)
    assert {"a": 0} == store.open().write({"a": rows(0, 10)}, end_offset=10)
    assert list(range(10)) == store.offsets("a")


def test_batches_cut_otherwise_add_only_what_is_new(store: Store) -> None:
    """A replay whose batches straddle the version appends the rows beyond it and no other."""
    store.open().write({"a": rows(0, 10)}, end_offset=10)
    sink = store.open()
    for start, end in ((0, 4), (4, 13), (13, 15)):
        sink.write({"a": rows(start, end)}, end_offset=end)
    assert list(range(15)) == store.offsets("a")


def test_table_without_rows_keeps_its_version(store: Store) -> None:
    """An empty frame makes no commit, so a quiet stream costs nothing."""
    sink = store.open()
    sink.write({"a": rows(0, 3), "b": rows(0, 0)}, end_offset=3)
    assert (3, 0) == (sink.version("a"), sink.version("b"))


@pytest.mark.parametrize("at", [1, 2])
def test_crash_between_tables_is_mended_by_a_replay(store: Store, at: int) -> None:
    """Whatever tables a crash left behind, writing the batch again completes it without a duplicate."""
    batch = {"a": rows(0, 10), "b": rows(0, 10, 3), "rejects": rows(1, 10, 4)}
    with pytest.raises(CrashError):
        store.open(killing(at)).write(batch, end_offset=10)
    store.open().write(batch, end_offset=10)
    assert [list(range(10)), [0, 3, 6, 9], [1, 5, 9]] == [store.offsets(name) for name in TABLES]


def test_failpoint_is_called_between_tables_only(store: Store) -> None:
    """Two tables have one moment between them, a single table none."""
    seen: list[Failpoint] = []
    sink = store.open(seen.append)
    sink.write({"a": rows(0, 1)}, end_offset=1)
    assert [] == seen
    sink.write({"a": rows(1, 2), "b": rows(1, 2)}, end_offset=2)
    assert [Failpoint.LAKE_BETWEEN_TABLES] == seen


def test_frame_of_another_shape_is_refused(store: Store) -> None:
    """A frame that is not the contract's is a mistake of ours and never reaches a table."""
    with pytest.raises(AssertionError):
        store.open().write({"a": rows(0, 1).drop("value")}, end_offset=1)
