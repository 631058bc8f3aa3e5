"""Facts about the search cluster for `voltgate doctor`: only questions, nothing is written there."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.core.errors import SinkError
from gateway.core.settings import Settings
from processors.indexing.plan import DEVICES, IndexedTable
from processors.sinks.index_answers import Conflict
from processors.sinks.opensearch import OpenSearch
from processors.stages.chain import Chain
from processors.stores import index_plan_of
from voltgate.doctor_checks_stores import OpenSearchFacts

if TYPE_CHECKING:
    from processors.contracts.load import ContractSet

_TIMEOUT_S = 10.0


def opensearch_facts(settings: Settings, contracts: "ContractSet", *, end_offset: int) -> OpenSearchFacts:
    """Return how the cluster of an installation is. Raises: SinkError: A file of ours cannot be used."""
    tables = index_plan_of(settings, contracts, Chain(contracts))
    known_uuid, is_replaced, lag = _cursors(settings, tables, end_offset)
    given = settings.opensearch
    assert given.url is not None, "there is a cluster"

    async def examine() -> OpenSearchFacts:
        client = OpenSearch(
            urls=given.urls,
            user=given.user,
            password=given.password,
            client_certificate=given.client_certificate_file,
            client_key=given.client_key_file,
            ca_file=given.ca_file,
            verify_tls=given.verify_tls,
            aws_region=given.aws_region,
            aws_service=given.aws_service,
            timeout_s=min(given.timeout_s, _TIMEOUT_S),
        )
        try:
            cluster = await client.cluster()
            refused = await client.refusals(tables)
            return OpenSearchFacts(
                url=given.url,
                version=f"{cluster.distribution} {cluster.version} ({cluster.name})",
                uuid=cluster.uuid,
                known_uuid=known_uuid,
                is_replaced=is_replaced,
                refused=refused,
                conflicts=() if refused else tuple(map(_line, await client.conflicts(tables))),
                lag=lag,
            )
        except SinkError as exc:
            return OpenSearchFacts(url=given.url, error=exc.detail, mend=exc.mend, status=exc.status or 0)
        finally:
            await client.close()

    return asyncio.run(examine())


def _line(conflict: Conflict) -> str:
    return f"{conflict.table}: index {conflict.index}: {'; '.join(conflict.problems)}"


def _cursors(
    settings: Settings, tables: Sequence[IndexedTable], end_offset: int
) -> tuple[str | None, bool, dict[str, int]]:
    """Return cluster, whether it is another one than before, and how far each table's index is behind the lake."""
    path = settings.data / "index.sqlite"
    cluster: tuple[Any, ...] | None = None
    cursors: dict[str, int] = {}
    if path.exists():
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database,
        ):
            cluster = database.execute("select uuid, is_other from cluster").fetchone()
            cursors = dict(database.execute("select lake_table, cursor from cursors").fetchall())
    lag = {}
    for table in tables:
        if table.table != DEVICES and table.table in cursors:
            lag[table.table] = max(0, _version(settings, table.table, end_offset) - cursors[table.table])
    return (None, False, lag) if cluster is None else (str(cluster[0]), bool(cluster[1]), lag)


def _version(settings: Settings, table: str, end_offset: int) -> int:
    """Return the end offset that a table of the lake holds."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    from processors.sinks.lake import APP_ID
    from processors.stores import storage_options

    try:
        handle = DeltaTable(f"{settings.lake_url.rstrip('/')}/{table}", storage_options=storage_options(settings))
        return handle.transaction_version(APP_ID) or 0
    except (DeltaError, OSError):
        return end_offset
