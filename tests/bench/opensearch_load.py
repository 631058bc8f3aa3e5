"""Bring rows of a table of windows into OpenSearch in one of three ways; print the time that it took.

python -m tests.bench.opensearch_load HOW URL ROWS, where HOW is `voltgate`, `streaming` or `naive`.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from gateway.core.limits import INDEX_CHUNK_ROWS_MAX, MIB
from processors.contracts.load import load_contracts
from processors.indexing.plan import IndexedTable, index_plan
from processors.stages.chain import Chain, windows_table

STREAM: Final = "vehicle_telemetry"
DEVICES: Final = 2_000
BULK_BYTES: Final = 5 * MIB
REQUESTS: Final = 4
NAIVE_CHUNK: Final = 500
_BEGIN: Final = datetime(2026, 11, 22, tzinfo=UTC)
_US: Final = 1_000_000


def a_table(prefix: str) -> tuple[IndexedTable, dict[str, pl.DataType]]:
    """Return what is indexed of the windows of vehicles, and the columns of that table."""
    contracts = load_contracts([])
    schemas = Chain(contracts).schemas
    name = windows_table(STREAM)
    (table,) = (table for table in index_plan(contracts, schemas, prefix=prefix) if table.table == name)
    return table, dict(schemas[name])


def make_rows(schema: dict[str, pl.DataType], count: int) -> pl.DataFrame:
    """Return windows of a minute of many vehicles: every aggregate there, with all its digits."""
    numbers = random.Random(42)
    made: dict[str, pl.Series] = {}
    for name, dtype in schema.items():
        values: list[object]
        if isinstance(dtype, pl.Datetime):
            values = [_BEGIN + timedelta(minutes=n // DEVICES) for n in range(count)]
        elif name == "device_id":
            values = [f"ev-{n % DEVICES:05}" for n in range(count)]
        elif dtype.is_integer():
            values = list(range(count)) if name == "offset" else [60] * count
        elif dtype.is_float():
            values = [numbers.uniform(0, 90) for _ in range(count)]
        else:
            values = [True] * count if dtype == pl.Boolean() else ["default"] * count
        made[name] = pl.Series(name, values, dtype=dtype)
    return pl.DataFrame(made)


class Clock:
    """CPU and wall time of this process since it was made."""

    def __init__(self) -> None:
        self._cpu_s, self._wall_s = time.process_time(), time.monotonic()

    def read(self) -> dict[str, float]:
        """Return both."""
        return {"cpu_s": time.process_time() - self._cpu_s, "elapsed_s": time.monotonic() - self._wall_s}


async def by_voltgate(url: str, table: IndexedTable, rows: pl.DataFrame) -> dict[str, float]:
    """Take the indexer's own path: rows, bodies, requests, answers."""
    from processors.indexing.documents import to_bulks
    from processors.sinks.index_lane import Lane
    from processors.sinks.opensearch import OpenSearch

    driver = OpenSearch(urls=[url])
    try:
        await driver.bootstrap([table])
        lane = Lane(
            write=driver.bulk,
            requests_max=REQUESTS,
            now_s=asyncio.get_running_loop().time,
            chance=random.random,
        )
        clock = Clock()
        for chunk in rows.iter_slices(INDEX_CHUNK_ROWS_MAX):
            sent = await lane.send(to_bulks(table, chunk, bytes_max=BULK_BYTES))
            assert not sent.refused, sent.refused[0]
        return clock.read()
    finally:
        await driver.close()


def actions(table: IndexedTable, rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield what the helpers of the client take: a dictionary a document, with the same index, id and version."""
    for row in rows.iter_rows(named=True):
        start = row["window_start"]
        yield {
            "_op_type": "index",
            "_index": f"{table.index}-{start:%Y.%m.%d}",
            "_id": f"{row['tenant']}/{row['device_id']}/{row['window_s']}/{round(start.timestamp()) * _US}",
            "version": row["offset"],
            "version_type": "external_gte",
            "_source": row,
        }


async def by_streaming(url: str, table: IndexedTable, rows: pl.DataFrame) -> dict[str, float]:
    """Use the asynchronous helper of opensearch-py, as its defaults are."""
    from opensearchpy import AsyncOpenSearch
    from opensearchpy.helpers import async_streaming_bulk

    async with AsyncOpenSearch([url]) as client:
        clock = Clock()
        async for is_good, result in async_streaming_bulk(client, actions(table, rows)):
            assert is_good, result
        return clock.read()


async def by_naive(url: str, table: IndexedTable, rows: pl.DataFrame) -> dict[str, float]:
    """Use the blocking helper, 500 documents a request, one request at a time."""
    from opensearchpy import OpenSearch
    from opensearchpy.helpers import bulk

    with OpenSearch([url]) as client:
        clock = Clock()
        bulk(client, actions(table, rows), chunk_size=NAIVE_CHUNK)
        return clock.read()


WAYS: Final[dict[str, Callable[..., Any]]] = {"voltgate": by_voltgate, "streaming": by_streaming, "naive": by_naive}


def main(how: str, url: str, count: int) -> None:
    """Make the rows, bring them in, and say how long that took."""
    table, schema = a_table("bench")
    rows = make_rows(schema, count)
    took = asyncio.run(WAYS[how](url, table, rows))
    print(json.dumps({**took, "pattern": table.pattern}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
