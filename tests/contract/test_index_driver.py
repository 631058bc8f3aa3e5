"""What every search cluster does, the real one and the one in memory that the indexer is tested with."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import polars as pl
import pytest

from processors.indexing.documents import Bulk, to_bulks
from processors.indexing.plan import IndexedTable, IndexField
from processors.sinks.index_port import IndexDriver
from processors.sinks.opensearch import OpenSearch
from tests.services.opensearch import Node
from tests.unit.processors.memory_opensearch import MemoryOpenSearch

pytestmark = pytest.mark.xdist_group("opensearch")

T = TypeVar("T")
DAY: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
GONE: Final = "gone"
FIELDS: Final = (
    IndexField(name="name", type="keyword", columns=("name",)),
    IndexField(name="at", type="date", columns=("at",)),
    IndexField(name="received_at", type="date", columns=("received_at",)),
    IndexField(name="soc_pct", type="double", columns=("soc_pct",)),
    IndexField(name="flags", type="keyword", columns=("flags",), is_list=True),
    IndexField(name="offset", type="long", columns=("offset",)),
)
_PREFIXES = itertools.count()


class Cluster:
    """A cluster under test, and a look into it that is none of the driver's."""

    def __init__(self, node: Node | None) -> None:
        self._node = node
        self._memory = MemoryOpenSearch()
        number = next(_PREFIXES)
        self.daily = a_table(f"contract{number}-daily", day_column="at")
        self.single = a_table(f"contract{number}-single", day_column=None)

    def use(self, call: Callable[[IndexDriver], Awaitable[T]]) -> T:
        """Return what a call on the prepared cluster gives."""

        async def used() -> T:
            driver: IndexDriver = self._memory if self._node is None else OpenSearch(urls=[self._node.url])
            try:
                made = await driver.bootstrap((self.daily, self.single))
                assert () == made.conflicts
                return await call(driver)
            finally:
                await driver.close()

        return asyncio.run(used())

    def held(self) -> dict[tuple[str, str], tuple[int, float]]:
        """Return (index, id) -> version and state of charge of all documents."""
        prefix = self.daily.index.removesuffix("daily")
        if self._node is None:
            return {place: (version, one["soc_pct"]) for place, (version, one) in self._memory.documents.items()}
        self._node.request("POST", f"/{prefix}*/_refresh")
        found = self._node.request("POST", f"/{prefix}*/_search", {"size": 100, "version": True})["hits"]["hits"]
        return {(hit["_index"], hit["_id"]): (hit["_version"], hit["_source"]["soc_pct"]) for hit in found}


@pytest.fixture(params=["memory", pytest.param("node", marks=pytest.mark.integration)])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Return each kind of cluster."""
    yield Cluster(request.getfixturevalue("opensearch_node") if request.param == "node" else None)


def a_table(index: str, *, day_column: str | None) -> IndexedTable:
    """Return a table with one document a name."""
    return IndexedTable(
        table="readings",
        index=index,
        day_column=day_column,
        id_columns=("name",),
        latest_only=True,
        fields=FIELDS,
        time_field="received_at",
        columns=tuple(field.name for field in FIELDS),
        gone_flag=GONE,
    )


def bulk_of(table: IndexedTable, *rows: tuple[str, int, float], at: datetime = DAY, flags: str | None = None) -> Bulk:
    """Return the request for rows of name, offset and state of charge."""
    frame = pl.DataFrame(
        list(rows), schema={"name": pl.String(), "offset": pl.Int64(), "soc_pct": pl.Float64()}, orient="row"
    )
    literals: dict[str, Any] = {"at": at, "received_at": at, "flags": pl.lit(flags, pl.String())}
    (bulk,) = to_bulks(table, frame.with_columns(**literals), bytes_max=5_000_000)
    return bulk


def test_a_request_that_is_repeated_changes_nothing(cluster: Cluster) -> None:
    """Both times every document is done, and there is one of each."""
    bulk = bulk_of(cluster.daily, ("a", 1, 80.0), ("b", 2, 70.0))
    outcomes = [cluster.use(lambda driver: driver.bulk(bulk)) for _ in range(2)]
    assert [(2, (), ())] * 2 == [(one.done, one.retry, one.rejected) for one in outcomes]
    index = f"{cluster.daily.index}-2026.11.22"
    assert {(index, "a"): (1, 80.0), (index, "b"): (2, 70.0)} == cluster.held()


@pytest.mark.parametrize("order", [(1, 5), (5, 1)])
def test_the_newest_revision_stays_whichever_comes_last(cluster: Cluster, order: tuple[int, int]) -> None:
    """An older one is done, too: the index has something newer."""
    for offset in order:
        outcome = cluster.use(lambda driver, offset=offset: driver.bulk(bulk_of(cluster.single, ("a", offset, offset))))
        assert 1 == outcome.done
    assert {(cluster.single.index, "a"): (5, 5.0)} == cluster.held()


def test_a_document_that_was_taken_away_does_not_come_back(cluster: Cluster) -> None:
    """What is older than its end is done and not there."""
    for bulk in (
        bulk_of(cluster.single, ("a", 1, 80.0)),
        bulk_of(cluster.single, ("a", 5, 80.0), flags=GONE),
        bulk_of(cluster.single, ("a", 3, 80.0)),
    ):
        assert 1 == cluster.use(lambda driver, bulk=bulk: driver.bulk(bulk)).done
    assert {} == cluster.held()


def test_indices_are_deleted_by_pattern_and_named(cluster: Cluster) -> None:
    """Other tables keep theirs."""
    cluster.use(lambda driver: driver.bulk(bulk_of(cluster.daily, ("a", 1, 80.0))))
    cluster.use(lambda driver: driver.bulk(bulk_of(cluster.daily, ("b", 2, 80.0), at=DAY + timedelta(days=1))))
    cluster.use(lambda driver: driver.bulk(bulk_of(cluster.single, ("c", 3, 80.0))))
    gone = cluster.use(lambda driver: driver.delete_indices(cluster.daily.pattern))
    assert (f"{cluster.daily.index}-2026.11.22", f"{cluster.daily.index}-2026.11.23") == gone
    assert {(cluster.single.index, "c"): (3, 80.0)} == cluster.held()


def test_what_is_older_is_deleted_by_day_and_by_document(cluster: Cluster) -> None:
    """A day goes when it has ended, a document of an index without days by its own time."""
    for offset, at in ((1, DAY - timedelta(days=2)), (2, DAY)):
        for table in (cluster.daily, cluster.single):
            bulk = bulk_of(table, (f"n{offset}", offset, 50.0), at=at)
            cluster.use(lambda driver, bulk=bulk: driver.bulk(bulk))
    assert 4 == len(cluster.held())
    tables = (cluster.daily, cluster.single)
    gone = cluster.use(lambda driver: driver.delete_older(tables, before=DAY - timedelta(days=1)))
    assert ((f"{cluster.daily.index}-2026.11.20",), 1) == (gone.indices, gone.documents)
    left = {(f"{cluster.daily.index}-2026.11.22", "n2"), (cluster.single.index, "n2")}
    assert left == cluster.held().keys()
