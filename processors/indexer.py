"""The indexer: from the lake to OpenSearch, beside the pump and never in its way.

    thread `indexer`   an event loop: requests to the cluster, one chunk of one table at a time, tables in turn
    thread `index`     everything that blocks: lake, cursors, rejects, the making of documents

A chunk is 1 read from the lake  2 sent until every document is done or refused  3 its refused documents become rows of
the lake  4 its cursor moves. Killed in between it is sent again, which changes nothing in the index. While the cluster
is away one chunk waits; all else waits in the lake.
"""

import asyncio
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

import msgspec

from gateway.core.errors import SinkError
from gateway.core.limits import INDEX_LAG_MARKS_MAX, INDEX_RETRY_FIRST_S, INDEX_RETRY_S_MAX
from gateway.observe.logs import Logger
from processors.indexing.documents import Bulk
from processors.sinks.index_answers import BulkOutcome
from processors.sinks.index_desk import Devices, IndexDesk, Source, Work, frames_of
from processors.sinks.index_lane import Lane, Sent
from processors.sinks.index_numbers import IndexNumbers
from processors.sinks.index_port import IndexDriver
from processors.sinks.index_store import Cursor, IndexStore
from processors.stages.chain import ChainState, Outputs

T = TypeVar("T")
POLL_S: Final = 0.5
"""How often an idle indexer looks whether a command line set a cursor back; commits of the pump wake it at once."""
LOOK_S: Final = 60.0
"""How often it asks the lake itself how far its tables are, besides what the pump says."""
RETENTION_FIRST_S: Final = 30.0
RETENTION_S: Final = 3600.0
DRAIN_S: Final = 1.0
"""At a stop, how long the chunk that is under way may take; the rest stays in the lake."""
CLOSE_S: Final = 10.0


class Indexer:
    """Keeps the index what the lake is. Make one, `start` it once, `close` it; `committed` and numbers from any thread.

    Args:
        connect: Returns the cluster; called on the indexer's own loop, until it does not raise `SinkError`.
        desk: Lake and cursors; belongs to the indexer from here on.
        sources: What is indexed, in the order of its turn.
        log: Diagnostics.
        now_us: UTC microseconds.
        requests_max: Most bulk requests in flight.
        shards: Primary shards of each index.
        replicas: Copies of each shard besides.
        policy: Name of the life time policy, where the cluster has the plugin for it.
        retention_days: How long documents are kept.
        chance: Returns a number in [0, 1), for the jitter of pauses.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], IndexDriver],
        desk: IndexDesk,
        sources: Sequence[Source],
        log: Logger,
        now_us: Callable[[], int],
        requests_max: int,
        shards: int = 1,
        replicas: int = 0,
        policy: str | None = None,
        retention_days: int = 90,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._connect, self._desk, self._sources, self._log, self._now_us = connect, desk, sources, log, now_us
        self._tables = tuple({one.table.table: one.table for one in sources}.values())
        self._requests_max, self._chance = requests_max, chance
        self._shards, self._replicas, self._policy = shards, replicas, policy
        self._retention_days = retention_days
        self._told: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._nothing: dict[str, int] = {}
        self._devices: Devices | None = None
        self._cursors: dict[str, Cursor] = {}
        self._marks: dict[str, deque[tuple[int, int]]] = {one.name: deque() for one in sources}
        self._since_us: dict[str, int | None] = {}
        self._documents: dict[tuple[str, str], int] = {}
        self._requests: dict[str, int] = {}
        self._other_clusters = 0
        self._failures = 0
        self._error: str | None = None
        self._blocked: frozenset[str] = frozenset()
        self._is_prepared = False
        self._look_at_s = 0.0
        self._lane: Lane | None = None
        self._is_stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._blocking_thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._ended: Future[BaseException | None] | None = None

    # ---- from any thread ---------------------------------------------------------------------------------------------
    def start(self, state: ChainState) -> None:
        """Run in a thread of its own.

        Args:
            state: What is in the lake already, for the newest values of devices.
        """
        assert self._ended is None, "started twice"
        self._devices = _devices_of(state)
        ended = self._ended = Future[BaseException | None]()
        # A daemon: a process that ends without `close` must not wait for it; what is not indexed is in the lake.
        threading.Thread(target=self._work, args=(ended,), name="indexer", daemon=True).start()

    def committed(self, outputs: Outputs, state: ChainState) -> None:
        """Learn what the lake has taken; cheap, never blocks."""
        end = int(outputs.end_offset)
        self._told.update((name, end) for name, frame in outputs.tables.items() if frame.height)
        self._devices = _devices_of(state)
        self._nudge(self._changed)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """End the chunk that is under way within `DRAIN_S`, and return; the rest stays in the lake.

        Raises: Exception: What ended the indexer before, if it was a fault of ours.
        """
        self._is_stopping.set()
        self._nudge(self._changed)
        self._nudge(self._stopped)
        try:
            if self._ended is not None and (crash := self._ended.result(timeout_s)):
                raise crash
        finally:
            self._blocking_thread.shutdown(wait=False)

    def check_live(self) -> str | None:
        """Return None, or why only a restart helps. A cluster that is away is no reason."""
        if self._ended is None or not self._ended.done() or self._is_stopping.is_set():
            return None
        return f"the indexer ended: {self._ended.result()!r}"

    def numbers(self) -> IndexNumbers:
        """Return what metrics show."""
        lane, cursors, now_us = self._lane, self._cursors, self._now_us()
        lag_entries: dict[str, int] = {}
        lag_s: dict[str, float] = {}
        for source in self._sources:
            lag = max(0, self._version(source) - _cursor(cursors, source).offset)
            since_us = self._since_us.get(source.name)
            waiting_us = now_us - since_us if lag and since_us is not None else 0
            # Of the devices' streams, which share an index, the one that is farthest behind.
            name = source.table.table
            lag_entries[name] = max(lag, lag_entries.get(name, 0))
            lag_s[name] = max(waiting_us / 1_000_000, lag_s.get(name, 0.0))
        return IndexNumbers(
            documents=self._documents.copy(),
            requests=self._requests.copy(),
            retries=lane.retries if lane is not None else 0,
            lag_entries=lag_entries,
            lag_s=lag_s,
            in_flight=lane.in_flight if lane is not None else 0,
            window=lane.window.limit if lane is not None else 0,
            is_connected=self._is_prepared and self._error is None,
            other_clusters=self._other_clusters,
            error=self._error,
        )

    # ---- on the loop -------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Index until `close`; `start` does this in a thread."""
        loop = self._loop = asyncio.get_running_loop()
        if self._is_stopping.is_set():  # before there was a loop to be told
            self._stopped.set()
        driver: IndexDriver | None = None
        try:
            driver = await self._connected()
            if driver is None:
                return
            write = partial(self._write, driver)
            lane = Lane(write=write, requests_max=self._requests_max, now_s=loop.time, chance=self._chance)
            self._lane = lane
            async with asyncio.TaskGroup() as group:
                follow = group.create_task(self._follow(driver, lane), name="follow")
                retain = group.create_task(self._retain(driver), name="retain")
                await self._stopped.wait()
                retain.cancel()
                await asyncio.wait({follow}, timeout=DRAIN_S)
                follow.cancel()
        finally:
            if driver is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_S):
                        await driver.close()
            await loop.run_in_executor(self._blocking_thread, self._desk.close)
            self._loop = None

    def _work(self, ended: "Future[BaseException | None]") -> None:
        ended.set_result(asyncio.run(self._run_watched()))

    async def _run_watched(self) -> BaseException | None:
        """Run, and return what ended it where that was not `close`."""
        task = asyncio.get_running_loop().create_task(self.run(), name="indexer")
        await asyncio.wait({task})
        if (crash := task.exception()) is not None:
            self._error = f"the indexer ended: {crash!r}"
            self._log.error("indexer_crashed", exc_info=crash)
        return crash

    async def _connected(self) -> IndexDriver | None:
        """Return the cluster, however long its files (certificates) cannot be read; None where a stop came first."""
        while not self._is_stopping.is_set():
            try:
                return self._connect()
            except SinkError as error:
                self._refused(error)
                await self._pause(self._retry_s(error))
        return None

    async def _follow(self, driver: IndexDriver, lane: Lane) -> None:
        """Index what is new, table by table, until asked to stop."""
        while not self._is_stopping.is_set():
            try:
                if not self._is_prepared:
                    await self._prepare(driver)
                is_busy = await self._round(driver, lane)
            except SinkError as error:
                self._refused(error)
                await self._pause(self._retry_s(error))
            else:
                self._failures = 0
                if not is_busy:
                    await self._pause(POLL_S)

    async def _prepare(self, driver: IndexDriver) -> None:
        """See who answers and have it ready for our documents. Raises: SinkError."""
        made = await driver.bootstrap(
            self._tables,
            shards=self._shards,
            replicas=self._replicas,
            policy=self._policy,
            retention_days=self._retention_days,
        )
        if await self._stored(lambda store: store.meet_cluster(made.cluster.uuid)):
            self._other_clusters += 1
            self._log.error(
                "index_other_cluster",
                cluster_uuid=made.cluster.uuid,
                detail="another cluster answers, or it was emptied; fill it with `voltgate opensearch reindex`",
            )
        self._blocked = frozenset(one.table for one in made.conflicts)
        for one in made.conflicts:
            self._log.error("index_conflict", table=one.table, detail=str(one))
        self._is_prepared = True
        self._accepted()
        self._log.info("index_ready", cluster=made.cluster.name, version=made.cluster.version, policy=made.policy)

    async def _round(self, driver: IndexDriver, lane: Lane) -> bool:
        """Give every table its turn; return whether anything was new. Raises: SinkError."""
        await self._look()
        self._cursors = await self._stored(IndexStore.cursors)
        if await self._drop(driver):
            return True
        is_busy = False
        for source in self._sources:
            self._mark(source)
            if source.table.table not in self._blocked and not self._is_stopping.is_set():
                is_busy = await self._index(source, lane) or is_busy
        return is_busy

    async def _index(self, source: Source, lane: Lane) -> bool:
        """Index the next chunk of a table; return whether there was one. Raises: SinkError."""
        cursor, version = _cursor(self._cursors, source), self._version(source)
        if version <= cursor.offset:
            return False
        work = await self._blocking(partial(self._desk.next, source, cursor, self._devices))
        if work.end <= cursor.offset:
            self._nothing[source.name] = version
            return False
        sent = await self._send(work, lane)
        finish = partial(self._desk.finish, work, done=sent.done, refused=sent.refused)
        if not await self._blocking(finish):
            return True  # set back meanwhile; the next round begins at 0
        self._cursors[source.name] = msgspec.structs.replace(cursor, offset=work.end)
        self._count(source.table.table, "done", sent.done)
        self._count(source.table.table, "rejected", len(sent.refused))
        self._mark(source)
        self._accepted()
        return True

    async def _send(self, work: Work, lane: Lane) -> Sent:
        """Send a chunk to its end. Raises: SinkError: Another cluster answers than the one that was prepared."""
        if not work.bulks:
            return Sent(done=0, refused=())
        try:
            return await lane.send(work.bulks)
        except SinkError:
            self._is_prepared = False
            raise

    async def _write(self, driver: IndexDriver, bulk: Bulk) -> BulkOutcome:
        """Send one request, count it, and say once that the cluster does not take it."""
        outcome = await driver.bulk(bulk)
        what = "again" if outcome.retry else "rejected" if outcome.rejected else "done"
        self._requests[what] = self._requests.get(what, 0) + 1
        if outcome.why is None:
            self._accepted()
        elif self._error is None:
            self._error = outcome.why
            self._log.error("index_refuses", detail=outcome.why, status=outcome.status)
        return outcome

    async def _drop(self, driver: IndexDriver) -> bool:
        """Delete the indices that somebody wants made anew; return whether there were any. Raises: SinkError."""
        due = [one for one in self._sources if _cursor(self._cursors, one).is_drop_due]
        for table in {one.table.table: one.table for one in due}.values():
            gone = await driver.delete_indices(table.pattern)
            self._log.info("index_dropped", table=table.table, indices=len(gone))
        if due:
            # What is dropped may have been in the way of a new mapping; templates and single indices are made again.
            self._is_prepared = False
            await self._prepare(driver)
        for one in due:
            await self._stored(partial(IndexStore.dropped, cursor=self._cursors[one.name]))
        return bool(due)

    async def _look(self) -> None:
        """Ask the lake how far its tables are, now and then. Raises: SinkError."""
        now_s = asyncio.get_running_loop().time()
        if self._held and now_s < self._look_at_s:
            return
        self._held = await self._blocking(partial(self._desk.versions, self._sources))
        self._look_at_s = now_s + LOOK_S

    async def _retain(self, driver: IndexDriver) -> None:
        """Delete what is too old, once an hour; what fails is left to the next time."""
        await asyncio.sleep(RETENTION_FIRST_S)
        while True:
            if self._is_prepared:
                now = datetime.fromtimestamp(self._now_us() / 1_000_000, UTC)
                try:
                    gone = await driver.delete_older(self._tables, before=now - timedelta(days=self._retention_days))
                except SinkError as error:
                    self._log.warning("index_retention_failed", detail=str(error))
                else:
                    if gone.indices or gone.documents:
                        self._log.info("index_retained", deleted=len(gone.indices), documents=gone.documents)
            await asyncio.sleep(RETENTION_S)

    async def _blocking(self, call: Callable[[], T]) -> T:
        """Return what a call gives that blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._blocking_thread, call)

    async def _stored(self, call: Callable[[IndexStore], T]) -> T:
        """Return what a call on the cursors gives. Raises: SinkError."""
        return await self._blocking(partial(self._desk.run, call))

    async def _pause(self, pause_s: float) -> None:
        """Wait, or less if something was committed or a stop is asked for."""
        self._changed.clear()
        if self._is_stopping.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await (self._stopped if self._failures else self._changed).wait()

    def _retry_s(self, error: SinkError) -> float:
        """Return how long to wait after a refusal: exponential, with full jitter, never less than asked."""
        self._failures += 1
        bound_s = min(INDEX_RETRY_S_MAX, INDEX_RETRY_FIRST_S * 2.0 ** min(self._failures, 10))
        return max(bound_s * self._chance(), min(error.retry_after_s, INDEX_RETRY_S_MAX))

    def _nudge(self, event: asyncio.Event) -> None:
        if (loop := self._loop) is not None:
            with suppress(RuntimeError):  # it ended meanwhile
                loop.call_soon_threadsafe(event.set)

    # ---- what is known -----------------------------------------------------------------------------------------------
    def _version(self, source: Source) -> int:
        """Return up to which offset there is something of a source to be indexed."""
        if source.contract is not None:
            return self._devices.offset if self._devices is not None else 0
        # Rows that are computed again after a crash are in the lake under a lower version; nothing is to come then.
        told = self._told.get(source.name, 0)
        return max(0 if told == self._nothing.get(source.name) else told, self._held.get(source.name, 0))

    def _mark(self, source: Source) -> None:
        """Remember since when what is not indexed has been waiting."""
        marks, version, cursor = self._marks[source.name], self._version(source), _cursor(self._cursors, source)
        while marks and marks[0][0] <= cursor.offset:
            marks.popleft()
        if version > cursor.offset and not (marks and marks[-1][0] >= version):
            at_us = marks.pop()[1] if len(marks) >= INDEX_LAG_MARKS_MAX else self._now_us()
            marks.append((version, at_us))
        self._since_us[source.name] = marks[0][1] if marks else None

    def _count(self, table: str, outcome: str, n: int) -> None:
        self._documents[table, outcome] = self._documents.get((table, outcome), 0) + n

    def _refused(self, error: SinkError) -> None:
        if self._error is None:
            self._log.error("index_refuses", detail=str(error), status=error.status)
        self._error = str(error)

    def _accepted(self) -> None:
        if self._error is not None:
            self._log.info("index_takes_again")
            self._error = None


def _cursor(cursors: dict[str, Cursor], source: Source) -> Cursor:
    return cursors.get(source.name) or Cursor(table=source.name)


def _devices_of(state: ChainState) -> Devices:
    return frames_of({name: one.devices.frame for name, one in state.streams.items()}, state.next_offset)
