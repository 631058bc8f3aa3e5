"""The notifier: from the results journal to people, beside the pump and never in its way.

    thread `notifier`   an event loop: one lane for each receiver, each waiting for nobody but its own
    thread `outbox`     everything that blocks: journal, engine, SQLite

A notice is stored, with its id and body, before it is sent, and marked after its 2xx. Killed in between, it is sent
again under the same id: at least once, and the receiver can tell.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from gateway.core.errors import JournalError, SinkError
from gateway.core.limits import NOTICE_TTL_S
from gateway.core.ports import JournalReader
from gateway.observe.logs import Logger
from processors.notices.bodies import EVENT_SOURCE
from processors.notices.config import Kind, NoticePlan, Receiver
from processors.sinks.lane import Lane, Sender, Stopping
from processors.sinks.notice_desk import Advance, Desk
from processors.sinks.outbox import Outbox
from processors.sinks.outbox_schema import Delivery

T = TypeVar("T")
POLL_S: Final = 0.05
"""How often an idle notifier looks whether the results journal has grown, or something is due: two system calls."""
CHORES_S: Final = 1.0
"""How often it looks whether a command line changed the outbox."""
EXPIRE_CHORES: Final = 30
COUNT_CHORES: Final = 5
"""Rounds of chores between two looks for deliveries that are too old, and between two counts of all of them."""
STORE_RETRY_S: Final = 1.0
DRAIN_S: Final = 1.0
"""At a stop, how long what is under way may take; the rest stays queued."""
CLOSE_S: Final = 10.0

_FIRING: Final = "firing"


class NotifierNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """What metrics show, since the start unless said otherwise.

    Attributes:
        deliveries: (receiver, outcome) -> tries that ended so: `sent`, `failed` (again later), `dead`; and `expired`,
            `pushed_out` of those given up without a try.
        suppressed: Reason -> notices held back by the engine.
        journal: What happened to entries, see `Desk.counts`.
        kept: (receiver, state) -> deliveries in the outbox now, a few seconds old.
        circuits: Receiver -> 0 closed, 1 half-open, 2 open, 3 disabled, now.
        last_errors: Receiver -> why its newest failed try failed.
        cursor: Next entry of the results journal.
    """

    deliveries: dict[tuple[str, str], int]
    suppressed: dict[str, int]
    journal: dict[str, int]
    kept: dict[tuple[str, str], int]
    circuits: dict[str, int]
    last_errors: dict[str, str]
    cursor: int


class Notifier:
    """Tells receivers of alerts. Make one, `start` it once, `close` it; `reload` and the numbers from any thread.

    Args:
        reader: The results journal; belongs to the notifier from here on.
        path: File of the outbox.
        plan: Whom to tell.
        senders: How each kind of receiver is reached; all kinds of the plan.
        log: Diagnostics.
        now_us: UTC microseconds.
        chance: Returns a number in [0, 1), for the jitter of pauses.
        latency: Observes, for each notice of new alerts that was taken, the seconds since the newest was received.
        source: `source` of CloudEvents.
        ttl_s: How long a notice may be tried.
    """

    def __init__(
        self,
        *,
        reader: JournalReader,
        path: Path,
        plan: NoticePlan,
        senders: Mapping[Kind, Sender],
        log: Logger,
        now_us: Callable[[], int],
        chance: Callable[[], float] = random.random,
        latency: Callable[[float], None] | None = None,
        source: str = EVENT_SOURCE,
        ttl_s: float = NOTICE_TTL_S,
    ) -> None:
        self._plan, self._senders, self._log, self._now_us, self._chance = plan, senders, log, now_us, chance
        self._latency = latency
        self._desk = Desk(reader=reader, path=path, plan=plan, log=log, now_us=now_us, source=source, ttl_s=ttl_s)
        self._lanes: dict[str, Lane] = {}
        self._past: dict[tuple[str, str], int] = {}
        self._expired: dict[str, int] = {}
        self._kept: dict[tuple[str, str], int] = {}
        self._new_plan: NoticePlan | None = None
        self._error: str | None = None
        self._journal_error: str | None = None
        self._is_stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._store = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._ended: Future[BaseException | None] | None = None

    # ---- from any thread ---------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Run in a thread of its own."""
        assert self._ended is None, "started twice"
        ended = self._ended = Future[BaseException | None]()
        # A daemon: a process that ends without `close` must not wait for it; what is queued stays queued.
        threading.Thread(target=self._work, args=(ended,), name="notifier", daemon=True).start()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Read what is durable, end what is under way within `DRAIN_S`, and return; what is queued stays queued.

        Raises: Exception: What ended the notifier before, if it was a fault of ours.
        """
        self._is_stopping.set()
        self._nudge()
        try:
            if self._ended is not None and (crash := self._ended.result(timeout_s)):
                raise crash
        finally:
            self._store.shutdown(wait=False)

    def reload(self, plan: NoticePlan) -> None:
        """Go on under another plan, soon; receivers that were gone or left alone are tried again."""
        self._new_plan = plan
        self._nudge()

    def check_live(self) -> str | None:
        """Return None, or why only a restart helps."""
        if self._ended is None or not self._ended.done() or self._is_stopping.is_set():
            return None
        return f"the notifier ended: {self._ended.result()!r}"

    def check_ready(self) -> str | None:
        """Return None, or why nothing can be told at the moment."""
        return self._journal_error or self._error

    def numbers(self) -> NotifierNumbers:
        """Return what metrics show."""
        lanes = list(self._lanes.items())
        deliveries = self._past.copy()
        for name, lane in lanes:
            for outcome, n in lane.counts.copy().items():
                deliveries[name, outcome] = deliveries.get((name, outcome), 0) + n
        deliveries |= {(name, "expired"): n for name, n in self._expired.copy().items()}
        deliveries |= {(name, "pushed_out"): n for name, n in self._desk.pushed_out.copy().items()}
        return NotifierNumbers(
            deliveries=deliveries,
            suppressed=self._desk.suppressed,
            journal=self._desk.counts.counts(),
            kept=self._kept,
            circuits={name: lane.level for name, lane in lanes},
            last_errors={name: lane.last_error for name, lane in lanes if lane.last_error},
            cursor=self._desk.cursor,
        )

    # ---- on the loop -------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Notify until `close`; `start` does this in a thread."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                with suppress(Stopping):
                    await self._make_lanes(group)
                chores = group.create_task(self._chores(), name="chores")
                await self._tail(group)
                chores.cancel()
                await self._drain()
        finally:
            await self._loop.run_in_executor(self._store, self._desk.close)
            self._loop = None

    def _work(self, ended: "Future[BaseException | None]") -> None:
        ended.set_result(asyncio.run(self._run_watched()))

    async def _run_watched(self) -> BaseException | None:
        """Run, and return what ended it where that was not `close`."""
        task = asyncio.get_running_loop().create_task(self.run(), name="notifier")
        await asyncio.wait({task})
        return task.exception()

    async def _tail(self, group: asyncio.TaskGroup) -> None:
        """Advance until asked to stop, and once more then."""
        while not self._is_stopping.is_set():
            if self._new_plan is not None:
                await self._reload(group)
            step = await self._advance()
            if step is None:
                await self._pause(STORE_RETRY_S)
            elif not step.is_behind:
                await self._pause(POLL_S)
        await self._advance()

    async def _advance(self) -> Advance | None:
        """Take one step and wake the receivers that are owed something; None where it could not be taken."""
        assert self._loop is not None
        try:
            step = await self._loop.run_in_executor(self._store, self._desk.advance)
        except JournalError as error:
            if self._journal_error is None:
                self._log.error("results_unreadable", detail=str(error))
            self._journal_error = str(error)
            return None
        except SinkError as error:
            self._refused(error)
            return None
        self._journal_error = None
        self._accepted()
        for name in step.receivers:
            if lane := self._lanes.get(name):
                lane.wake()
        return step

    async def _make_lanes(self, group: asyncio.TaskGroup) -> None:
        """Have one lane for each receiver of the plan; one whose receiver is as it was goes on."""
        wanted = self._plan.receivers
        for name, lane in list(self._lanes.items()):
            if wanted.get(name) != lane.receiver:
                lane.stop()
                lane.abandon()
                self._keep_counts(name, lane)
                del self._lanes[name]
        for name, receiver in wanted.items():
            if name not in self._lanes:
                lane = self._lanes[name] = self._lane(receiver)
                group.create_task(lane.run(), name=f"lane {name}")
        await self._refresh()

    def _lane(self, receiver: Receiver) -> Lane:
        return Lane(
            receiver,
            sender=self._senders[receiver.kind],
            store=self._stored,
            now_us=self._now_us,
            chance=self._chance,
            log=self._log,
            sent=self._sent,
        )

    async def _reload(self, group: asyncio.TaskGroup) -> None:
        plan, self._new_plan = self._new_plan, None
        assert plan is not None
        self._plan = plan
        try:
            await self._stored(lambda _outbox: self._desk.reload(plan))
            await self._make_lanes(group)
        except Stopping:
            return
        self._log.info("notices_reloaded", receivers=len(plan.receivers), routes=len(plan.routes))

    async def _chores(self) -> None:
        """See what command lines changed, give up what is too old, count what is kept."""
        turn = 0
        while True:
            await asyncio.sleep(CHORES_S)
            turn += 1
            try:
                if await self._stored(Outbox.is_changed_elsewhere):
                    await self._refresh()
                if turn % EXPIRE_CHORES == 0:
                    expired = await self._stored(lambda outbox: outbox.expire(self._now_us()))
                    for name, n in expired.items():
                        self._expired[name] = self._expired.get(name, 0) + n
                        self._log.error("notices_expired", receiver=name, notices=n)
                if turn % COUNT_CHORES == 1:
                    self._kept = await self._stored(Outbox.counts)
            except Stopping:
                return

    async def _refresh(self) -> None:
        """Learn which receivers are disabled, and have every lane look what is due."""
        disabled = await self._stored(Outbox.disabled)
        for name, lane in self._lanes.items():
            lane.disabled = disabled.get(name)
            lane.wake()

    async def _drain(self) -> None:
        """Let lanes end what is under way, for a moment."""
        for lane in self._lanes.values():
            lane.stop()
        give_up_at_s = asyncio.get_running_loop().time() + DRAIN_S
        while any(lane.is_sending for lane in self._lanes.values()):
            if asyncio.get_running_loop().time() >= give_up_at_s:
                break
            await asyncio.sleep(POLL_S / 5)
        for lane in self._lanes.values():
            lane.abandon()

    async def _stored(self, call: Callable[[Outbox], T]) -> T:
        """Run a call on the outbox until it is done. Raises: Stopping: The notifier ends, and it is not done."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                done = await loop.run_in_executor(self._store, partial(self._desk.run, call))
            except SinkError as error:
                self._refused(error)
            else:
                self._accepted()
                return done
            if self._is_stopping.is_set():
                raise Stopping
            await self._pause(STORE_RETRY_S)

    async def _pause(self, pause_s: float) -> None:
        """Wait, or less if the notifier is asked for something."""
        self._changed.clear()
        if self._is_stopping.is_set():
            return
        try:
            async with asyncio.timeout(pause_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def _nudge(self) -> None:
        if (loop := self._loop) is not None:
            with suppress(RuntimeError):  # it ended meanwhile
                loop.call_soon_threadsafe(self._changed.set)

    def _sent(self, delivery: Delivery, now_us: int) -> None:
        if self._latency is not None and delivery.reason == _FIRING:
            self._latency(max(0, now_us - delivery.event_at_us) / 1_000_000)

    def _refused(self, error: SinkError) -> None:
        if self._error is None:
            self._log.error("outbox_refuses", detail=str(error))
        self._error = str(error)

    def _accepted(self) -> None:
        if self._error is not None:
            self._log.info("outbox_takes_again")
            self._error = None

    def _keep_counts(self, name: str, lane: Lane) -> None:
        for outcome, n in lane.counts.items():
            self._past[name, outcome] = self._past.get((name, outcome), 0) + n
