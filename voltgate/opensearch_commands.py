"""`voltgate opensearch`: prepare a cluster, see how far it is, and have it filled again from the lake.

Only the processors send documents. These commands ask the cluster, and read and set back cursors.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from gateway.core.errors import SinkError
from gateway.core.settings import Settings
from processors.indexing.plan import IndexedTable
from processors.sinks.index_answers import Cluster, Conflict
from processors.sinks.index_desk import Source, sources_of
from processors.sinks.index_store import FILE, Cursor, IndexDamaged, IndexStore
from processors.sinks.lake_rows import LakeRows
from processors.sinks.opensearch import OpenSearch
from processors.stages.chain import Chain
from processors.stores import INDEX_POLICY, connect_opensearch, contracts_of, index_plan_of, storage_options
from voltgate.output import Exit, cell, fail, print_json, print_rows, say
from voltgate.status import read_run_file

T = TypeVar("T")
POLL_S: Final = 0.5
SILENCE_S: Final = 600.0
"""How long `--wait` waits without any progress."""
COLUMNS: Final = ["table", "cursor", "lake", "behind", "done", "rejected", "documents"]


class _Installed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    plan: tuple[IndexedTable, ...]
    sources: list[Source]
    rows: LakeRows


def _installed(settings: Settings) -> _Installed:
    """Return what is indexed here. Raises: SystemExit: Nothing is."""
    if not settings.opensearch.urls:
        fail("no search cluster is configured; write its address as opensearch.url", Exit.CONFIG)
    contracts = contracts_of(settings)
    chain = Chain(contracts)
    plan = index_plan_of(settings, contracts, chain)
    rows = LakeRows(settings.lake_url, chain.schemas, storage_options(settings))
    return _Installed(plan=plan, sources=sources_of(plan, tuple(contracts)), rows=rows)


def _on_cluster(settings: Settings, ask: Callable[[OpenSearch], Awaitable[T]]) -> T:
    """Return what a cluster answers. Raises: SinkError."""

    async def asked() -> T:
        cluster = connect_opensearch(settings)
        try:
            return await ask(cluster)
        finally:
            await cluster.close()

    return asyncio.run(asked())


def _on_cursors(settings: Settings, call: Callable[[IndexStore], T]) -> T:
    """Return what a call on the cursors gives. Raises: SystemExit: The file cannot be used."""
    path = settings.data / FILE
    if not settings.data.is_dir():
        fail(f"{settings.data} holds no data yet; `voltgate run --data {settings.data}` makes it", Exit.NOT_FOUND)
    try:
        store = IndexStore(path, now_us=time.time_ns() // 1000)
        try:
            return call(store)
        finally:
            store.close()
    except (SinkError, IndexDamaged) as error:
        fail(f"{path} cannot be used: {error}")


def init(settings: Settings, *, as_json: bool) -> int:
    """Prepare the cluster and say what was made."""
    installed, given = _installed(settings), settings.opensearch

    def prepare(cluster: OpenSearch) -> Awaitable[Any]:
        return cluster.bootstrap(
            installed.plan,
            shards=given.shards,
            replicas=given.replicas,
            policy=INDEX_POLICY,
            retention_days=given.retention_days,
        )

    try:
        made = _on_cluster(settings, prepare)
    except SinkError as error:
        fail(_said(error), Exit.OFFLINE)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        print(_title(made.cluster))
        print(f"{len(made.templates)} templates, {len(made.widened)} indices with new fields")
        print(f"old indices are deleted by {f'policy {made.policy}' if made.policy else 'the processors'}")
    for conflict in made.conflicts:
        say(f"voltgate: {conflict}")
    return Exit.FINDINGS if made.conflicts else Exit.OK


def show_status(settings: Settings, *, as_json: bool) -> int:
    """Print which cluster answers and how far each table is; the exit code says whether all is well."""
    installed = _installed(settings)
    cursors = _on_cursors(settings, IndexStore.cursors)
    known = _on_cursors(settings, IndexStore.cluster)

    async def ask(cluster: OpenSearch) -> tuple[Cluster, tuple[Conflict, ...], dict[str, int]]:
        found, in_the_way = await cluster.cluster(), await cluster.conflicts(installed.plan)
        return found, in_the_way, {table.table: await cluster.count(table.pattern) for table in installed.plan}

    problems: list[str] = []
    found, conflicts, counts = None, tuple[Conflict, ...](), dict[str, int]()
    try:
        found, conflicts, counts = _on_cluster(settings, ask)
    except SinkError as error:
        problems.append(_said(error))
    if found is not None and known is not None and (known[1] or known[0] != found.uuid):
        problems.append(
            "this cluster took the place of another one, or was emptied; `voltgate opensearch reindex` fills it again"
        )
    problems += map(str, conflicts)
    rows = [_row(installed, one, cursors, counts) for one in installed.sources]
    if as_json:
        cluster = None if found is None else msgspec.to_builtins(found)
        tables = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        print_json({"ok": not problems, "cluster": cluster, "problems": problems, "tables": tables})
    else:
        print(_title(found) if found is not None else f"{settings.opensearch.url} does not answer")
        print_rows(COLUMNS, rows, as_json=False)
        if read_run_file(settings, "processors") is None:
            say("the processors do not run, so nothing is indexed now")
        for problem in problems:
            say(f"voltgate: {problem}")
    return Exit.OK if not problems else Exit.OFFLINE if found is None else Exit.FINDINGS


def _row(installed: _Installed, source: Source, cursors: dict[str, Cursor], counts: dict[str, int]) -> list[Any]:
    cursor = cursors.get(source.name) or Cursor(table=source.name)
    # Newest values of devices are in the memory of the processors: how far these are is not known here.
    version = _version(installed, source)
    behind = None if version is None else max(0, version - cursor.offset)
    documents = counts.get(source.table.table)
    return [source.name, cursor.offset, version, behind, cursor.done, cursor.rejected, documents]


def _version(installed: _Installed, source: Source) -> int | None:
    if source.contract is not None:
        return None
    try:
        return installed.rows.version(source.name)
    except SinkError as error:
        fail(str(error))


def reindex(settings: Settings, tables: Sequence[str], *, drop: bool, wait: bool) -> int:
    """Set cursors back to 0; the processors do the rest."""
    installed = _installed(settings)
    known = {source.table.table for source in installed.sources}
    if unknown := [name for name in tables if name not in known]:
        say(f"voltgate: {', '.join(map(cell, unknown))} is not indexed; what is: {', '.join(sorted(known))}")
        return Exit.NOT_FOUND
    chosen = [source for source in installed.sources if not tables or source.table.table in tables]

    def set_back(store: IndexStore) -> None:
        store.set_back([source.name for source in chosen], drop=drop)
        if not tables:
            store.refilled()

    _on_cursors(settings, set_back)
    names = ", ".join(dict.fromkeys(source.table.table for source in chosen))
    said = f"{names}: {'indices are deleted and ' if drop else ''}documents are sent from the beginning"
    if read_run_file(settings, "processors") is None:
        say(f"{said} as soon as the processors run (`voltgate run`)")
        return Exit.OFFLINE if wait else Exit.OK
    say(said)
    return _await_caught_up(settings, installed, chosen) if wait else Exit.OK


def _await_caught_up(settings: Settings, installed: _Installed, chosen: Sequence[Source]) -> int:
    """Show progress until every table is where the lake was when this was asked."""
    device_end = _device_end(settings)
    ends = {one.name: device_end if (end := _version(installed, one)) is None else end for one in chosen}
    before, progress_at_s = -1, time.monotonic()
    while True:
        cursors = _on_cursors(settings, IndexStore.cursors)
        behind = [name for name, end in ends.items() if cursors[name].offset < end or cursors[name].is_drop_due]
        done = sum(cursors[name].done for name in ends)
        if not behind:
            say(f"{done} documents are indexed, {sum(cursors[name].rejected for name in ends)} were refused")
            return Exit.OK
        if done != before:
            before, progress_at_s = done, time.monotonic()
            say(f"{done} documents are indexed; behind: {', '.join(sorted(behind))}")
        if time.monotonic() - progress_at_s > SILENCE_S or read_run_file(settings, "processors") is None:
            say("voltgate: nothing moves; see `voltgate opensearch status` and the log of the processors")
            return Exit.TIMEOUT
        time.sleep(POLL_S)


def _device_end(settings: Settings) -> int:
    """Return up to which offset newest values of devices were known when the processors last said so."""
    run_file = read_run_file(settings, "processors")
    return int(run_file["offset"]) if run_file is not None else 0


def _title(cluster: Cluster) -> str:
    return f"{cluster.distribution} {cluster.version}, cluster {cluster.name} ({cluster.uuid})"


def _said(error: SinkError) -> str:
    return f"{error.detail}; {error.mend}" if error.mend else error.detail
