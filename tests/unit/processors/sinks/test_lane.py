"""One receiver's worker on a clock of its own: order, pauses, circuit, rate, and what becomes of each outcome."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.core.limits import CIRCUIT_FAILURES, NOTICE_DOUBTS_MAX
from gateway.observe.logs import make_logger
from processors.notices.config import Receiver
from processors.sinks.lane import Lane
from processors.sinks.outbox import Outbox, read_deliveries
from processors.sinks.outbox_schema import Delivery, Draft
from processors.sinks.outcome import Outcome, doubt, retry
from tests.unit.processors.sinks.made_notices import AT_US, draft
from tests.unit.processors.sinks.virtual_time import run

T = TypeVar("T")
DONE = Outcome(verdict="done", status=200)
DOWN = retry("answered 503", status=503)


class Bench:
    """A lane over a real outbox, a sender that does as told, and everything that happened with its time."""

    def __init__(self, path: Path, *, per_minute: float = 6000.0, chance: float = 0.5) -> None:
        self.path = path
        self.outbox = Outbox(path, now_us=AT_US)
        self.receiver = Receiver(name="ops", kind="webhook", rate_per_minute=per_minute)
        self.tried: list[tuple[float, str]] = []
        self.answers: list[Outcome] = []
        self.then = DONE
        self.takes_s = 0.0
        self.at_once = self.most_at_once = 0
        self.sent: list[str] = []
        self._chance = chance

    def put(self, *drafts: Draft) -> None:
        self.outbox.commit(cursor=1, engine=b"", drafts=drafts, now_us=AT_US)

    async def send(self, delivery: Delivery, _receiver: Receiver) -> Outcome:
        self.tried.append((round(asyncio.get_running_loop().time(), 3), delivery.delivery_id))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        return self.answers.pop(0) if self.answers else self.then

    async def store(self, call: Callable[[Outbox], T]) -> T:
        return call(self.outbox)

    def now_us(self) -> int:
        return AT_US + round(asyncio.get_running_loop().time() * 1_000_000)

    def lane(self) -> Lane:
        """Return a lane; on a loop."""
        return Lane(
            self.receiver,
            sender=self,
            store=self.store,
            now_us=self.now_us,
            chance=lambda: self._chance,
            log=make_logger(stream=io.StringIO()),
            sent=lambda delivery, _now_us: self.sent.append(delivery.delivery_id),
        )

    def run(self, for_s: float, *, after: Callable[[Lane], None] | None = None) -> Lane:
        """Run the lane for so many seconds of its own time; `after` is called then, before it is stopped."""

        async def main() -> Lane:
            lane = self.lane()
            async with asyncio.TaskGroup() as group:
                group.create_task(lane.run())
                await asyncio.sleep(for_s)
                if after is not None:
                    after(lane)
                lane.stop()
            return lane

        return run(main())

    def state(self, delivery_id: str) -> Delivery:
        return next(d for d in read_deliveries(self.path) if d.delivery_id == delivery_id)


@pytest.fixture
def bench(tmp_path):
    """Return a lane's bench."""
    made = Bench(tmp_path / "notices.sqlite")
    yield made
    made.outbox.close()


def test_delivery_is_sent_once_and_marked(bench):
    """With its status, and whoever watches hears of it."""
    bench.put(draft(1))
    lane = bench.run(60)
    assert [(0.0, "d1")] == bench.tried
    assert ("sent", 1, 200) == (bench.state("d1").state, bench.state("d1").attempts, bench.state("d1").last_status)
    assert (["d1"], {"sent": 1}) == (bench.sent, lane.counts)


def test_failed_try_comes_again_after_its_pause(bench):
    """With half of the jitter: 1, 2, 4 seconds; the same id each time."""
    bench.put(draft(1))
    bench.answers = [DOWN, DOWN, DOWN, DONE]
    lane = bench.run(60)
    assert [(0.0, "d1"), (1.0, "d1"), (3.0, "d1"), (7.0, "d1")] == bench.tried
    assert ("sent", 4) == (bench.state("d1").state, bench.state("d1").attempts)
    assert {"failed": 3, "sent": 1} == lane.counts
    assert "answered 503" == lane.last_error


def test_messages_of_a_group_keep_their_order(bench):
    """What fails is tried again before what follows it goes."""
    bench.put(draft(1, order_key="g"), draft(2, order_key="g"))
    bench.answers = [DOWN, DONE, DONE]
    bench.run(60)
    assert ["d1", "d1", "d2"] == [name for _, name in bench.tried]


def test_some_go_at_once_and_not_all(bench):
    """A burst does not wait for each answer, nor does it flood a receiver."""
    bench.put(*(draft(n) for n in range(10)))
    bench.takes_s = 1.0
    bench.run(60)
    assert (4, 10) == (bench.most_at_once, len(bench.sent))


def test_rate_is_kept(tmp_path):
    """Six a minute: one at once, then one every ten seconds."""
    bench = Bench(tmp_path / "notices.sqlite", per_minute=6)
    bench.put(*(draft(n) for n in range(4)))
    bench.run(35)
    assert [0.0, 10.0, 20.0, 30.0] == [pytest.approx(at_s, abs=0.01) for at_s, _ in bench.tried]
    bench.outbox.close()


def test_refused_message_is_given_up_after_a_few_tries(bench):
    """A 404 may be a deployment under way; five of them are not."""
    bench.put(draft(1))
    bench.then = doubt("answered 404", status=404)
    bench.run(3600)
    assert NOTICE_DOUBTS_MAX == len(bench.tried)
    assert ("dead", "answered 404") == (bench.state("d1").state, bench.state("d1").last_error)


def test_outage_does_not_use_up_the_tries_of_a_refusal(bench):
    """After an hour of 503 the first 404 is still the first."""
    bench.put(draft(1))
    bench.answers = [DOWN] * 8 + [doubt("answered 404", status=404), DONE]
    bench.run(3600)
    assert "sent" == bench.state("d1").state


def test_redirect_ends_it_at_once(bench):
    """What no later try can mend is a dead letter now, and the next message goes."""
    bench.put(draft(1, order_key="g"), draft(2, order_key="g"))
    bench.answers = [Outcome(verdict="refused", why="answered 302", status=302)]
    bench.run(60)
    assert [("dead", 1), ("sent", 1)] == [(bench.state(d).state, bench.state(d).attempts) for d in ("d1", "d2")]


def test_receiver_that_is_gone_gets_nothing_more(bench):
    """The rest stays queued and is not lost; the reason can be seen."""
    bench.put(draft(1, order_key="g"), draft(2, order_key="g"))
    bench.answers = [Outcome(verdict="gone", why="answered 410", status=410)]
    lane = bench.run(3600)
    assert [(0.0, "d1")] == bench.tried
    assert ["dead", "queued"] == [bench.state(d).state for d in ("d1", "d2")]
    assert ({"ops": "answered 410"}, 3) == (bench.outbox.disabled(), lane.level)


def test_receiver_that_answers_again_gets_what_waits_at_once(tmp_path):
    """A message with a pause of minutes goes as soon as another one was taken."""
    bench = Bench(tmp_path / "notices.sqlite", chance=0.999)
    bench.put(draft(1))
    bench.answers = [DOWN] * 8

    def arrive(lane: Lane) -> None:
        assert 8 == len(bench.tried)
        bench.put(draft(2))
        lane.wake()

    async def main() -> None:
        lane = bench.lane()
        async with asyncio.TaskGroup() as group:
            group.create_task(lane.run())
            await asyncio.sleep(400)
            arrive(lane)
            await asyncio.sleep(1)
            lane.stop()

    run(main())
    assert [(400.0, "d2"), (400.0, "d1")] == bench.tried[8:]
    bench.outbox.close()


def test_open_circuit_tries_nothing(tmp_path):
    """Between the fifth failure and the probe there is silence, and the probe is one message."""
    bench = Bench(tmp_path / "notices.sqlite", chance=0.0)
    bench.put(*(draft(n) for n in range(1, 20)))
    bench.then = DOWN
    bench.run(14.9)
    at_once = [at_s for at_s, _ in bench.tried if at_s < 1.0]
    probes = [at_s for at_s, _ in bench.tried if at_s >= 1.0]
    assert CIRCUIT_FAILURES <= len(at_once) <= 2 * 4
    assert [5.0] == probes
    bench.outbox.close()


def test_asked_for_pause_is_kept_for_all_messages(bench):
    """429 with Retry-After is about the receiver."""
    bench.put(draft(1, order_key="g"), draft(2, order_key="g"))
    bench.answers = [retry("answered 429", status=429, after_s=30.0)]
    bench.run(60)
    assert [(0.0, "d1"), (30.0, "d1"), (30.0, "d2")] == bench.tried


def test_new_delivery_is_sent_when_the_lane_is_woken(bench):
    """An idle lane does not wait for its own look."""

    async def main() -> None:
        lane = bench.lane()
        async with asyncio.TaskGroup() as group:
            group.create_task(lane.run())
            await asyncio.sleep(10)
            bench.put(draft(1))
            lane.wake()
            await asyncio.sleep(1)
            lane.stop()

    run(main())
    assert [(10.0, "d1")] == bench.tried


def test_stop_lets_end_what_is_under_way(bench):
    """What was taken is marked, and nothing new is begun."""
    bench.put(draft(1, order_key="g"), draft(2, order_key="g"))
    bench.takes_s = 5.0
    bench.run(1.0)
    assert ["sent", "queued"] == [bench.state(d).state for d in ("d1", "d2")]


def test_abandoned_try_stays_queued(bench):
    """A receiver that hangs does not hold up a stop, and its message goes again under its id."""
    bench.put(draft(1))
    bench.takes_s = 3600.0
    bench.run(1.0, after=Lane.abandon)
    delivery = bench.state("d1")
    assert ("queued", 0) == (delivery.state, delivery.attempts)


def test_message_for_another_kind_of_receiver_is_given_up(bench):
    """A name that became a chat gets no signed CloudEvent; what follows is sent."""
    bench.put(draft(1, kind="slack", order_key="g"), draft(2, order_key="g"))
    bench.run(60)
    assert ["d2"] == [name for _, name in bench.tried]
    assert "was made for a receiver of kind slack, which is webhook now" == bench.state("d1").last_error
