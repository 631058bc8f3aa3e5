"""How many bulk requests are under way, and when one is tried again.

`Window` is pure and decides; `Lane` sends. A cluster that has room takes more requests at once, one that pushes back is
given half as many (additive increase, multiplicative decrease: Chiu and Jain, 1989; RFC 5681 section 3.1).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

import msgspec

from gateway.core.errors import SinkError
from gateway.core.limits import INDEX_FAULTS_MAX, INDEX_RETRY_AFTER_S_MAX, INDEX_RETRY_FIRST_S, INDEX_RETRY_S_MAX
from processors.indexing.documents import Bulk, Item
from processors.sinks.index_answers import BulkOutcome, Rejected

_DOUBLINGS_MAX: Final = 32
_SINK: Final = "opensearch"


class Window:
    """How many requests may be in flight, and until when none may start. Time and chance are arguments.

    Args:
        requests_max: Most at once, at least 1. It begins with one.
    """

    def __init__(self, *, requests_max: int) -> None:
        assert requests_max >= 1, f"a window of {requests_max} requests lets nothing through"
        self._max = requests_max
        self._size = 1.0
        self._failures = 0
        self._cut_at_s = float("-inf")
        self._not_before_s = float("-inf")

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return int(self._size)

    @property
    def failures(self) -> int:
        """Rounds in a row that were pushed back."""
        return self._failures

    def wait_s(self, now_s: float) -> float:
        """Return how long no request may start; 0.0 where one may."""
        return max(0.0, self._not_before_s - now_s)

    def succeeded(self) -> None:
        """Note a request that was taken as a whole: a window's worth of them makes it one larger."""
        self._failures = 0
        self._size = min(float(self._max), self._size + 1.0 / self.limit)

    def pushed_back(self, *, started_s: float, now_s: float, asked_s: float | None, chance: float) -> None:
        """Note a request that was not: half as many from now on, after a pause.

        What was in flight when the window was cut says nothing new, so a round of failures cuts once.

        Args:
            started_s: When the request began.
            now_s: Now; both of one monotonic clock.
            asked_s: How long the cluster asked to be left alone, or None.
            chance: A number in [0, 1).
        """
        if started_s > self._cut_at_s:
            self._failures += 1
            self._size = max(1.0, self._size / 2)
            self._cut_at_s = now_s
        bound_s = min(INDEX_RETRY_S_MAX, INDEX_RETRY_FIRST_S * 2.0 ** min(self._failures - 1, _DOUBLINGS_MAX))
        pause_s = max(chance * bound_s, min(asked_s or 0.0, INDEX_RETRY_AFTER_S_MAX))
        self._not_before_s = max(self._not_before_s, now_s + pause_s)


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A document that the index refuses for good, and the engine's word and sentence for why."""

    item: Item
    code: str
    reason: str


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of requests that were sent to their end: how many documents are done, and which were refused."""

    done: int
    refused: tuple[Refused, ...]


class Lane:
    """Sends bulk requests until every document is done or refused. All calls on one event loop, one `send` at a time.

    Whether a document on which the engine fails time and again is to blame or the cluster is, another document tells:
    the one that was taken last is sent once more, which changes nothing. Only if it is taken the faulty one is refused.

    Args:
        write: Sends one request once, in bounded time; never raises for what a cluster does.
        requests_max: Most requests in flight.
        now_s: Monotonic seconds.
        chance: Returns a number in [0, 1), for the jitter of pauses.
    """

    def __init__(
        self,
        *,
        write: Callable[[Bulk], Awaitable[BulkOutcome]],
        requests_max: int,
        now_s: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.window = Window(requests_max=requests_max)
        self.in_flight = 0
        self.requests = 0
        """Requests sent, tries again included."""
        self.retries = 0
        """Documents sent again."""
        self.why: str | None = None
        """Why the last request was not taken; None after one that was."""
        self._write, self._requests_max, self._now_s, self._chance = write, requests_max, now_s, chance
        self._changed = asyncio.Condition()
        self._taken: Bulk | None = None
        """One document that the cluster took."""

    async def send(self, bulks: Iterable[Bulk]) -> Sent:
        """Return when all is done or refused, however long the cluster is away. Safe to cancel, and to repeat.

        Raises: SinkError: Another cluster answers than the one that was prepared; nothing was written to it.
        """
        todo = iter(bulks)
        sending = _Sending()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._requests_max):
                tasks.create_task(self._work(todo, sending), name=f"index-{number}")
        if sending.is_other_cluster:
            raise SinkError(_SINK, sending.why)
        return Sent(done=sending.done, refused=tuple(sending.refused))

    async def _work(self, todo: Iterator[Bulk], sending: "_Sending") -> None:
        while not sending.is_other_cluster and (bulk := next(todo, None)) is not None:
            faults = 0
            while (outcome := await self._try(bulk, sending)) is not None:
                sending.add(bulk, outcome)
                if outcome.done:
                    self._taken = _taken(bulk, outcome)
                if not outcome.retry:
                    break
                faults = faults + 1 if len(outcome.faulty) == len(outcome.retry) else 0
                if faults >= INDEX_FAULTS_MAX and await self._takes_another(sending):
                    sending.refuse(bulk, outcome.faulty)
                    break
                self.retries += len(outcome.retry)
                if len(outcome.retry) < bulk.count:
                    bulk = bulk.pick(outcome.retry)

    async def _takes_another(self, sending: "_Sending") -> bool:
        """Return whether the cluster takes, right now, a document that it took before."""
        if self._taken is None:
            return False
        outcome = await self._try(self._taken, sending)
        return outcome is not None and outcome.done == self._taken.count

    async def _try(self, bulk: Bulk, sending: "_Sending") -> BulkOutcome | None:
        """Send once, when there is room and no pause; None where another cluster was met meanwhile."""
        async with self._changed:
            while self.in_flight >= self.window.limit or self.window.wait_s(self._now_s()) > 0:
                if sending.is_other_cluster:
                    return None
                await self._room()
            if sending.is_other_cluster:
                return None
            self.in_flight += 1
        started_s = self._now_s()
        try:
            self.requests += 1
            outcome = await self._write(bulk)
        finally:
            # Not under the condition: to wait for its lock could be cancelled, and the place be lost.
            self.in_flight -= 1
        self.why = outcome.why
        if outcome.is_other_cluster:
            self._taken = None
            sending.meet_other(outcome)
        if outcome.retry:
            self.window.pushed_back(
                started_s=started_s, now_s=self._now_s(), asked_s=outcome.after_s, chance=self._chance()
            )
        else:
            self.window.succeeded()
        async with self._changed:
            self._changed.notify_all()
        return outcome

    async def _room(self) -> None:
        """Wait until something changed, or the pause is over."""
        pause_s = self.window.wait_s(self._now_s())
        try:
            async with asyncio.timeout(pause_s or None):
                await self._changed.wait()
        except TimeoutError:
            return


class _Sending:
    """What became so far of what one `send` was given."""

    def __init__(self) -> None:
        self.done = 0
        self.refused: list[Refused] = []
        self.is_other_cluster = False
        self.why = ""

    def add(self, bulk: Bulk, outcome: BulkOutcome) -> None:
        self.done += outcome.done
        self.refuse(bulk, outcome.rejected)

    def refuse(self, bulk: Bulk, rejected: Iterable[Rejected]) -> None:
        self.refused += (Refused(item=bulk.item(one.position), code=one.code, reason=one.reason) for one in rejected)

    def meet_other(self, outcome: BulkOutcome) -> None:
        self.is_other_cluster, self.why = True, outcome.why or "another cluster answers"


def _taken(bulk: Bulk, outcome: BulkOutcome) -> Bulk | None:
    """Return a request of one document that was taken; None where that one was taken away."""
    others = {*outcome.retry, *(one.position for one in outcome.rejected)}
    position = next(position for position in range(bulk.count) if position not in others)
    return bulk.pick((position,)) if bulk.item(position).document else None
