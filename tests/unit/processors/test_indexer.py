"""What the indexer makes of a lake and of a cluster's moods; its thread is in tests/integration/test_indexer.py."""

import asyncio
import io
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from gateway.core.errors import SinkError
from gateway.observe.logs import make_logger
from processors.contracts.load import load_contracts
from processors.indexer import RETENTION_FIRST_S, RETENTION_S, Indexer
from processors.indexing.plan import index_plan
from processors.sinks.index_desk import IndexDesk, sources_of
from processors.sinks.index_lane import Lane
from processors.sinks.index_rejects import INDEX_REJECTS, IndexRejects
from processors.sinks.index_store import FILE, IndexStore
from processors.sinks.lake import Lake, LakeTable
from processors.sinks.lake_rows import LakeRows
from processors.stages.chain import Chain, Outputs
from processors.stages.ledger import Ledger
from tests.unit.processors.memory_opensearch import MemoryOpenSearch
from tests.unit.processors.sinks import virtual_time

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOW_US = int(AT.timestamp()) * 1_000_000
CONTRACTS = load_contracts([])
CHAIN = Chain(CONTRACTS)
PLAN = index_plan(CONTRACTS, CHAIN.schemas, prefix="v")
TABLE = "rejects"


class Installed:
    """A lake with rejects, an index in memory, and an indexer between them that is stepped by hand."""

    def __init__(self, directory):
        self.directory, self.cluster, self.said = directory, MemoryOpenSearch(), io.StringIO()
        self.lake = Lake(directory / "lake", [LakeTable(name=TABLE, schema=CHAIN.schemas[TABLE])], threads=1)
        self.indexer, self.desk = self.begin()

    def begin(self, rows_max=4):
        """Return an indexer as a new process has it."""
        desk = IndexDesk(
            path=self.directory / FILE,
            rows=LakeRows(self.directory / "lake", CHAIN.schemas),
            rejects=IndexRejects(self.directory / "lake"),
            retention_days=30,
            now_us=lambda: NOW_US,
            log=make_logger(stream=self.said),
            bytes_max=1000,
            rows_max=rows_max,
        )
        indexer = Indexer(
            connect=lambda: self.cluster,
            desk=desk,
            sources=sources_of(PLAN, tuple(CONTRACTS)),
            log=make_logger(stream=self.said),
            now_us=lambda: NOW_US,
            requests_max=2,
            chance=lambda: 0.0,
        )
        return indexer, desk

    def write(self, *offsets, at=AT):
        """Append a reject for each offset."""
        frame = pl.DataFrame(
            {"offset": offsets, "record": 0, "received_at": at, "stage": "decode", "code": "bad"},
            schema_overrides={"offset": pl.Int64(), "record": CHAIN.schemas[TABLE]["record"]},
        )
        frame = frame.with_columns(
            pl.lit(None, dtype).alias(name) for name, dtype in CHAIN.schemas[TABLE].items() if name not in frame.columns
        ).select(pl.col(name).cast(dtype) for name, dtype in CHAIN.schemas[TABLE].items())
        self.lake.write({TABLE: frame}, end_offset=max(offsets) + 1)
        return Outputs(tables={TABLE: frame}, counts=Ledger(), end_offset=max(offsets) + 1)

    def step(self, rounds=20):
        """Prepare the cluster if need be, and index until nothing is new."""

        async def stepped():
            indexer = self.indexer
            lane = Lane(
                write=lambda bulk: indexer._write(self.cluster, bulk),
                requests_max=2,
                now_s=asyncio.get_running_loop().time,
                chance=lambda: 0.0,
            )
            indexer._lane = lane
            for _ in range(rounds):
                if not indexer._is_prepared:
                    await indexer._prepare(self.cluster)
                if not await indexer._round(self.cluster, lane):
                    return

        asyncio.run(stepped())

    def restart(self):
        """End the indexer and begin another one."""
        self.close()
        self.indexer, self.desk = self.begin()

    def close(self):
        """End the indexer's thread and its file."""
        self.desk.close()
        self.indexer.close()

    def cursor(self, table=TABLE):
        """Return where a table is."""
        return self.desk.run(IndexStore.cursors)[table]

    def offsets(self):
        """Return the offsets of all documents."""
        return sorted(version for version, _ in self.cluster.documents.values())


@pytest.fixture
def installed(tmp_path):
    """Return an installation without any row."""
    made = Installed(tmp_path)
    yield made
    made.close()
    made.lake.close()


def test_what_the_lake_holds_becomes_documents_chunk_by_chunk(installed):
    """Ten rows in chunks of four are ten documents, and the cursor is the lake's version."""
    installed.write(*range(10))
    installed.step()
    assert list(range(10)) == installed.offsets()
    assert (10, 10, 0) == (installed.cursor().offset, installed.cursor().done, installed.cursor().rejected)


def test_commits_are_followed_without_asking_the_lake(installed):
    """The pump says what it wrote; an indexer that only looked now and then would be a minute late."""
    installed.write(1)
    installed.step()
    outputs = installed.write(5)
    installed.step()
    assert [1] == installed.offsets()
    installed.indexer.committed(outputs, CHAIN.empty_state())
    installed.step()
    assert [1, 5] == installed.offsets()


def test_what_nobody_said_is_found_at_the_next_look_into_the_lake(installed):
    """Another program may add to the lake; once a minute its tables are asked themselves."""
    installed.write(1)
    installed.step()
    installed.write(5)
    installed.step()
    assert [1] == installed.offsets()
    installed.indexer._look_at_s = 0.0
    installed.step()
    assert [1, 5] == installed.offsets()


def test_what_is_too_old_is_deleted_soon_after_the_start_and_then_every_hour(installed):
    """A failure is said and left to the next time; before a cluster is prepared nothing is asked of it."""
    installed.write(1, at=AT)
    installed.step()
    old = (f"v-rejects-{AT - timedelta(days=31):%Y.%m.%d}", "old")
    installed.cluster.documents[old] = (0, {})
    cluster, times = installed.cluster, []

    class Refusing(MemoryOpenSearch):
        async def delete_older(self, tables, *, before):
            times.append((asyncio.get_running_loop().time(), before))
            if len(times) == 1:
                raise SinkError("opensearch", "busy")
            return await cluster.delete_older(tables, before=before)

    async def hours():
        task = asyncio.get_running_loop().create_task(installed.indexer._retain(Refusing()))
        await asyncio.sleep(RETENTION_FIRST_S + RETENTION_S + 1)
        task.cancel()

    virtual_time.run(hours())
    before = AT - timedelta(days=90)
    assert [(RETENTION_FIRST_S, before), (RETENTION_FIRST_S + RETENTION_S, before)] == times
    assert "index_retention_failed" in installed.said.getvalue()
    assert old in cluster.documents, "it is younger than the retention"
    assert ["delete_older"] == [call for call in cluster.log if call == "delete_older"]


def test_a_commit_that_added_nothing_is_asked_for_once(installed):
    """After a crash the pump hands over batches that the lake has already: nothing is to come, and nothing lags."""
    installed.write(1)
    installed.step()
    nothing = installed.write(1)
    installed.indexer.committed(Outputs(tables=nothing.tables, counts=Ledger(), end_offset=9), CHAIN.empty_state())
    installed.step(rounds=3)
    assert 2 == installed.cursor().offset
    assert {TABLE: 9} == installed.indexer._nothing
    shown = installed.indexer.numbers()
    assert (0, 0.0) == (shown.lag_entries[TABLE], shown.lag_s[TABLE])


def test_a_second_run_from_0_changes_no_document(installed):
    """A reindex sends everything again, and the index says that it has it."""
    installed.write(*range(10))
    installed.step()
    before = installed.cluster.documents.copy()
    installed.desk.run(lambda store: store.set_back([TABLE], drop=False))
    installed.restart()
    installed.step()
    assert before == installed.cluster.documents
    assert (1, 10, 10) == (installed.cursor().generation, installed.cursor().offset, installed.cursor().done)


@pytest.mark.parametrize("trouble", ["away", "lost_answer", "busy", "forbidden"])
def test_no_trouble_loses_or_refuses_a_document(installed, trouble):
    """What a cluster does not take, or may have taken, is sent again; none of it says anything against a document."""
    installed.write(*range(6))
    asyncio.run(installed.indexer._prepare(installed.cluster))
    installed.cluster.troubles = [trouble] * 3
    installed.step()
    assert list(range(6)) == installed.offsets()
    assert 0 == installed.cursor().rejected
    numbers = installed.indexer.numbers()
    assert (True, 3) == (numbers.is_connected, numbers.requests["again"])
    assert 1 == installed.said.getvalue().count("index_refuses")


def test_a_refused_document_is_a_reject_and_stops_nobody(installed, tmp_path):
    """Its neighbours are indexed, the cursor moves, and the lake knows why it is not there."""
    installed.write(*range(6))
    installed.cluster.refused = {"3/0/decode"}
    installed.step()
    assert [0, 1, 2, 4, 5] == installed.offsets()
    assert (6, 5, 1) == (installed.cursor().offset, installed.cursor().done, installed.cursor().rejected)
    rejects = pl.read_delta(str(tmp_path / "lake" / INDEX_REJECTS))
    assert [(3, TABLE, "mapper_parsing_exception")] == rejects.select("offset", "table", "code").rows()
    assert {(TABLE, "done"): 5, (TABLE, "rejected"): 1} == installed.indexer.numbers().documents


def test_another_cluster_is_prepared_first_and_said(installed):
    """A node that came back with an empty disk gets templates before documents, and a person is told to reindex."""
    installed.write(1)
    installed.step()
    installed.cluster.uuid = "u2"
    installed.cluster.documents.clear()
    installed.indexer.committed(installed.write(5), CHAIN.empty_state())
    with pytest.raises(SinkError, match="another cluster"):
        installed.step()
    assert {} == installed.cluster.documents
    installed.step()
    assert [5] == installed.offsets()
    assert 1 == installed.indexer.numbers().other_clusters
    assert ("u2", True) == installed.desk.run(IndexStore.cluster)
    assert "voltgate opensearch reindex" in installed.said.getvalue()


def test_a_conflict_holds_up_its_table_until_it_is_dropped(installed):
    """Documents wait in the lake while an index cannot take them; a drop deletes it and fills it anew."""
    installed.write(*range(3))
    installed.cluster.conflicts = {TABLE}
    installed.step()
    assert [] == installed.offsets()
    assert installed.said.getvalue().count("index_conflict") == 1
    installed.desk.run(lambda store: store.set_back([TABLE], drop=True))
    installed.step()
    assert [0, 1, 2] == installed.offsets()
    assert ["bootstrap", "delete v-rejects-*", "bootstrap"] == installed.cluster.log
    assert not installed.cursor().is_drop_due


def test_rows_that_retention_would_delete_are_passed_over(installed):
    """A device that lost its clock does not make an index for a day of years ago."""
    installed.write(1, at=AT - timedelta(days=400))
    installed.write(2)
    installed.step()
    assert [2] == installed.offsets()
    assert 3 == installed.cursor().offset


def test_a_damaged_file_of_cursors_costs_time_only(installed, tmp_path):
    """Everything is sent again, and the index stays as it is."""
    installed.write(*range(6))
    installed.step()
    before = installed.cluster.documents.copy()
    installed.close()
    (tmp_path / FILE).write_bytes(b"nonsense" * 1000)
    installed.indexer, installed.desk = installed.begin()
    installed.step()
    assert before == installed.cluster.documents
    assert (6, 1) == (installed.cursor().offset, installed.desk.begun_anew)


def test_lag_counts_from_the_first_commit_that_waits(installed):
    """Entries and seconds are those of what is in the lake and not in the index."""
    installed.write(*range(6))
    with pytest.raises(SinkError):
        installed.cluster.troubles = ["away"]
        installed.step()
    assert 0 == installed.indexer.numbers().lag_entries[TABLE]  # nobody looked yet
    installed.cluster.conflicts = {TABLE}
    installed.step()
    installed.indexer._now_us = lambda: NOW_US + 7_000_000
    numbers = installed.indexer.numbers()
    assert (6, 7.0) == (numbers.lag_entries[TABLE], numbers.lag_s[TABLE])


def test_alerts_and_sessions_come_before_all_else():
    """What somebody waits for is not behind millions of windows."""
    names = [source.name for source in sources_of(PLAN, tuple(CONTRACTS))]
    assert {"alert_revisions", "charging_session_revisions"} == set(names[:2])
    assert all(name.startswith("devices/") for name in names[-len(tuple(CONTRACTS)) :])
