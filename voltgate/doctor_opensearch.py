"""Facts about the search cluster for `voltgate doctor`: only questions, nothing is written there."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.core.errors import SinkError
from gateway.core.settings import Settings
from gateway.core.text import peer_text
from processors.indexing.plan import DEVICES, IndexedTable
from processors.indexing.templates import conflicts
from processors.sinks.opensearch import OpenSearch
from processors.stages.chain import Chain
from processors.stores import index_plan_of
from voltgate.doctor_checks_stores import OpenSearchFacts

if TYPE_CHECKING:
    from processors.contracts.load import ContractSet

_TIMEOUT_S = 10.0


class _Examiner(OpenSearch):
    """The processors' client, which also asks what it may do."""

    async def refusals(self, tables: Sequence[IndexedTable]) -> list[str]:
        """Return what our role may not do: templates are only simulated."""
        found = []
        for what, method, path, body in (
            ("read the mappings of our indices", "GET", f"/{tables[0].pattern}/_mapping", None),
            ("search our indices", "POST", f"/{tables[0].pattern}/_search", {"size": 0, "terminate_after": 1}),
            ("use index templates", "POST", f"/_index_template/_simulate_index/{tables[0].index}", None),
        ):
            params = {} if "simulate" in path else {"ignore_unavailable": "true", "allow_no_indices": "true"}
            try:
                await self._ask(method, path, body, params=params, fine=(404,))  # type: ignore[arg-type]
            except SinkError as exc:
                if exc.status not in (401, 403):
                    raise
                found.append(f"our role may not {what}: {exc.detail}")
        return found

    async def conflicting(self, tables: Sequence[IndexedTable]) -> list[str]:
        """Return the fields of living indices that contracts have otherwise now."""
        found = []
        for table in tables:
            for index, held in sorted((await self._mappings(table)).items()):
                found += [f"{table.table}: index {index}: {peer_text(line)}" for line in conflicts(table, held)]
        return found


def opensearch_facts(settings: Settings, contracts: "ContractSet", *, end_offset: int) -> OpenSearchFacts:
    """Return how the cluster of an installation is. Raises: SinkError: A file of ours cannot be used."""
    tables = index_plan_of(settings, contracts, Chain(contracts))
    known_uuid, is_replaced, lag = _cursors(settings, tables, end_offset)
    given = settings.opensearch
    assert given.url is not None, "there is a cluster"

    async def examine() -> OpenSearchFacts:
        client = _Examiner(
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
                refused=tuple(refused),
                conflicts=() if refused else tuple(await client.conflicting(tables)),
                lag=lag,
            )
        except SinkError as exc:
            return OpenSearchFacts(url=given.url, error=exc.detail, mend=exc.mend, status=exc.status or 0)
        finally:
            await client.close()

    return asyncio.run(examine())


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
