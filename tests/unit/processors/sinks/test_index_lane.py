"""The window of bulk requests, and the lane that sends through it, on a clock of its own."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import polars as pl
import pytest

from gateway.core.errors import SinkError
from gateway.core.limits import INDEX_FAULTS_MAX, INDEX_RETRY_AFTER_S_MAX, INDEX_RETRY_FIRST_S, INDEX_RETRY_S_MAX
from processors.indexing.documents import Bulk
from processors.sinks.index_answers import BulkOutcome, Rejected, all_again
from processors.sinks.index_lane import Lane, Sent, Window
from tests.unit.processors.sinks.virtual_time import run


def push_back(window: Window, now_s: float, *, started_s: float | None = None, asked_s: float | None = None) -> None:
    """Note a failure with the longest pause that chance may give."""
    window.pushed_back(started_s=now_s if started_s is None else started_s, now_s=now_s, asked_s=asked_s, chance=1.0)


def grown(requests_max: int = 8, successes: int = 1000) -> Window:
    """Return a window after a long good time."""
    window = Window(requests_max=requests_max)
    for _ in range(successes):
        window.succeeded()
    return window


def test_window_grows_by_one_for_each_windowful_and_stops_at_its_bound() -> None:
    """1 success makes 2, 2 more make 3, 3 more make 4, and then it stays."""
    window = Window(requests_max=4)
    limits = []
    for _ in range(9):
        limits.append(window.limit)
        window.succeeded()
    assert [1, 2, 2, 3, 3, 3, 4, 4, 4] == limits
    assert 4 == grown(4).limit


def test_round_of_failures_halves_the_window_once() -> None:
    """Requests that were in flight when it was cut say nothing new; one that began later does."""
    window = grown()
    for _ in range(5):
        push_back(window, 10.0, started_s=9.0)
    assert (4, 1) == (window.limit, window.failures)
    push_back(window, 12.0, started_s=11.0)
    assert (2, 2) == (window.limit, window.failures)


def test_window_never_closes() -> None:
    """However long the cluster is away, one request may ask."""
    window = grown()
    for now_s in range(1, 100):
        push_back(window, float(now_s))
    assert 1 == window.limit


def test_pauses_double_up_to_a_bound_and_end_with_a_success() -> None:
    """The longest pause is bounded, so that a cluster that is back is noticed within seconds."""
    window = Window(requests_max=1)
    pauses, now_s = [], 0.0
    for _ in range(7):
        now_s += 1000
        push_back(window, now_s)
        pauses.append(window.wait_s(now_s))
    first = INDEX_RETRY_FIRST_S
    assert [first, 2 * first, 4 * first, 8 * first, *[INDEX_RETRY_S_MAX] * 3] == pauses
    window.succeeded()
    push_back(window, now_s + 1000)
    assert first == window.wait_s(now_s + 1000)


@pytest.mark.parametrize(
    ("asked_s", "expected_s"), [(7.0, 7.0), (1e9, INDEX_RETRY_AFTER_S_MAX)], ids=["asked", "for-ever"]
)
def test_pause_is_as_long_as_asked_within_reason(asked_s: float, expected_s: float) -> None:
    """Retry-After is heeded, and no server can silence us."""
    window = Window(requests_max=1)
    push_back(window, 0.0, asked_s=asked_s)
    assert expected_s == window.wait_s(0.0)


# ---- the lane --------------------------------------------------------------------------------------------------------


def bulk_of(*names: str) -> Bulk:
    """Return a request whose documents are these names."""
    lines = [(f'{{"index":{{"_id":"{name}"}}}}\n', f'"{name}"\n') for name in names]
    begins, at = [], 0
    for head, tail in lines:
        begins.append((at, at + len(head), at + len(head) + len(tail)))
        at += len(head) + len(tail)
    places = pl.DataFrame(
        {
            "index": ["i"] * len(names),
            "id": list(names),
            "offset": range(len(names)),
            "begin": [begin for begin, _, _ in begins],
            "middle": [middle for _, middle, _ in begins],
            "end": [end for _, _, end in begins],
        }
    )
    body = "".join(head + tail for head, tail in lines).encode()
    return Bulk(body=body, indices=("i",), count=len(names), places=places)


class Cluster:
    """Answers as told, then takes everything; remembers what came and when."""

    def __init__(self, *outcomes: Callable[[Bulk], BulkOutcome], takes_s: float = 0.1) -> None:
        self.seen: list[tuple[float, tuple[str, ...]]] = []
        self.most = 0
        self._outcomes, self._takes_s, self._now = list(outcomes), takes_s, 0

    async def write(self, bulk: Bulk) -> BulkOutcome:
        """Take as long as a request takes."""
        self.seen.append((asyncio.get_running_loop().time(), tuple(bulk.places["id"])))
        self._now += 1
        self.most = max(self.most, self._now)
        outcome = self._outcomes.pop(0)(bulk) if self._outcomes else BulkOutcome(done=bulk.count)
        await asyncio.sleep(self._takes_s)
        self._now -= 1
        return outcome


def a_lane(cluster: Cluster, *, requests_max: int = 4) -> Lane:
    """Return a lane whose chance always says the longest pause."""
    now_s = asyncio.get_running_loop().time
    return Lane(write=cluster.write, requests_max=requests_max, now_s=now_s, chance=lambda: 1.0)


def test_only_what_was_pushed_back_is_sent_again_after_a_pause() -> None:
    """Of three documents the middle one was too much; it alone comes again."""
    cluster = Cluster(lambda _: BulkOutcome(done=2, retry=(1,), status=429, why="busy"))

    async def use() -> tuple[Sent, Lane]:
        lane = a_lane(cluster)
        return await lane.send([bulk_of("a", "b", "c")]), lane

    sent, lane = run(use())
    assert [(0.0, ("a", "b", "c")), (pytest.approx(0.1 + INDEX_RETRY_FIRST_S), ("b",))] == cluster.seen
    assert (Sent(done=3, refused=()), 2, 1, None) == (sent, lane.requests, lane.retries, lane.why)


def test_outage_is_sat_out_and_loses_nothing() -> None:
    """Twenty tries without an answer end with every document in the index, none of them twice at once."""
    cluster = Cluster(*[lambda bulk: all_again(bulk.count, "cannot connect")] * 20)

    async def use() -> Sent:
        return await a_lane(cluster).send([bulk_of("a"), bulk_of("b", "c")])

    assert 3 == run(use()).done
    assert 22 == len(cluster.seen)
    assert 1 == cluster.most


def test_requests_in_flight_grow_to_the_bound_and_not_past_it() -> None:
    """A cluster that takes everything gets as many at once as the setting says."""
    cluster = Cluster()

    async def use() -> Sent:
        return await a_lane(cluster, requests_max=3).send(bulk_of(f"d{number}") for number in range(50))

    assert 50 == run(use()).done
    assert 3 == cluster.most


def test_refused_documents_come_back_with_what_they_were() -> None:
    """A reject names document, code and reason, also after the request was cut down to what is sent again."""
    cluster = Cluster(
        lambda _: BulkOutcome(done=1, retry=(1, 2), status=503, why="shard"),
        lambda _: BulkOutcome(done=1, rejected=(Rejected(position=1, code="mapper", reason="no"),)),
    )

    async def use() -> Sent:
        return await a_lane(cluster).send([bulk_of("a", "b", "c")])

    sent = run(use())
    (refused,) = sent.refused
    found = (sent.done, refused.item.document_id, refused.item.document, refused.code, refused.reason)
    assert (2, "c", b'"c"', "mapper", "no") == found


FAULT: Final = Rejected(position=0, code="null_pointer_exception", reason="a bug of theirs")


def faulty(name: str, *others_take: bool) -> Callable[[Bulk], BulkOutcome]:
    """Return answers of an engine that fails on one document, and on others too while `others_take` says False."""
    turns = list(others_take)

    def answer(bulk: Bulk) -> BulkOutcome:
        names = list(bulk.places["id"])
        if name not in names:
            return BulkOutcome(done=bulk.count) if not turns or turns.pop(0) else all_again(bulk.count, "broken")
        at = names.index(name)
        fault = msgspec.structs.replace(FAULT, position=at)
        return BulkOutcome(done=len(names) - 1, retry=(at,), faulty=(fault,), status=500, why="a bug")

    return answer


def test_document_on_which_the_engine_always_fails_is_refused_when_another_one_is_taken() -> None:
    """Its neighbours are done at once; after five tries it comes back with the engine's reason."""
    cluster = Cluster(*[faulty("b")] * INDEX_FAULTS_MAX)

    async def use() -> Sent:
        return await a_lane(cluster).send([bulk_of("a", "b", "c"), bulk_of("d")])

    sent = run(use())
    (refused,) = sent.refused
    assert (3, "b", "null_pointer_exception") == (sent.done, refused.item.document_id, refused.code)
    names = [names for _, names in cluster.seen]
    assert [("a", "b", "c"), *[("b",)] * (INDEX_FAULTS_MAX - 1), ("a",), ("d",)] == names


def test_document_is_not_blamed_while_the_cluster_fails_on_every_one() -> None:
    """While the disk is broken nothing is refused for good; only the third look finds that others are taken."""
    answer = faulty("b", False, False)
    cluster = Cluster(*[answer] * (INDEX_FAULTS_MAX + 4))

    async def use() -> Sent:
        return await a_lane(cluster).send([bulk_of("a", "b")])

    assert ("b", 1) == (run(use()).refused[0].item.document_id, cluster.most)
    assert 3 == [names for _, names in cluster.seen].count(("a",))


def test_document_without_a_neighbour_waits_for_one_to_be_taken() -> None:
    """As long as the cluster took nothing at all, nothing is known against the document."""
    cluster = Cluster(*[faulty("b")] * (3 * INDEX_FAULTS_MAX))

    async def use() -> Sent:
        return await a_lane(cluster).send([bulk_of("b")])

    assert Sent(done=1, refused=()) == run(use())
    assert 3 * INDEX_FAULTS_MAX + 1 == len(cluster.seen)


def test_another_cluster_ends_the_sending() -> None:
    """Nothing is tried again where nobody prepared anything; who called must do that first."""
    cluster = Cluster(
        lambda bulk: BulkOutcome(done=0, retry=tuple(range(bulk.count)), is_other_cluster=True, why="emptied")
    )

    async def use() -> None:
        await a_lane(cluster).send(bulk_of(f"d{number}") for number in range(10))

    with pytest.raises(SinkError, match="emptied"):
        run(use())
    assert 1 == len(cluster.seen)


def test_cancelled_lane_can_send_again() -> None:
    """Ending in the middle of a request gives its place back."""
    cluster = Cluster(takes_s=10.0)

    async def use() -> tuple[int, Sent]:
        lane = a_lane(cluster)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await lane.send([bulk_of("a")])
        return lane.in_flight, await lane.send([bulk_of("a")])

    assert (0, Sent(done=1, refused=())) == run(use())
