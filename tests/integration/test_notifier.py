"""The notifier with real journals, a real database and real receivers: nobody waits for another, nothing is lost."""

import io
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from gateway.journal.reader import SegmentReader
from gateway.observe.logs import make_logger
from processors.notices.config import NoticePlan, Receiver, Route
from processors.notifier import Notifier
from processors.sinks.outbox import read_deliveries, retry
from processors.sinks.results import ResultsJournal
from processors.sinks.webhook_guard import Lookups
from processors.sinks.webhooks import WebhookSender
from processors.stages.alert_record import TestOrder
from tests.integration.receivers import SECRET, HttpReceiver, Request, Trouble, answer, webhook
from tests.unit.processors.sinks.made_notices import alert

pytestmark = pytest.mark.integration
WAIT_S = 20.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; a test that waits in vain fails."""
    give_up_at_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at_s, "it never happened"
        time.sleep(0.005)


@pytest.fixture
def results(tmp_path):
    """Return the writer of a results journal."""
    journal = ResultsJournal(tmp_path / "results", now_ns=time.time_ns)
    yield journal
    journal.close()


def plan_for(*receivers: Receiver) -> NoticePlan:
    route = Route(
        to=tuple(receiver.name for receiver in receivers),
        group_by=("device",), wait_s=0.0, interval_s=0.0, repeat_s=None,
    )  # fmt: skip
    return NoticePlan(receivers={receiver.name: receiver for receiver in receivers}, routes=(route,))


@contextmanager
def notifying(data: Path, *receivers: Receiver, latency: Callable[[float], None] | None = None) -> Iterator[Notifier]:
    """Run a notifier over the journal of a data directory."""
    notifier = Notifier(
        reader=SegmentReader(data / "results"),
        path=data / "notices.sqlite",
        plan=plan_for(*receivers),
        senders={"webhook": WebhookSender(lookups=Lookups(), now_s=time.time)},
        log=make_logger(stream=io.StringIO()),
        now_us=lambda: time.time_ns() // 1000,
        chance=lambda: 0.01,
        latency=latency,
    )
    notifier.start()
    try:
        yield notifier
    finally:
        notifier.close()


def device(request: Request) -> str:
    [told] = json.loads(request.body)["data"]["alerts"]
    return str(told["device"])


def test_alert_arrives_signed_within_a_second(tmp_path, results):
    """From the durable journal to a receiver that verifies it."""
    latencies: list[float] = []
    with HttpReceiver() as http, notifying(tmp_path, webhook(http.url()), latency=latencies.append) as notifier:
        results.append([alert(1, received_at_us=time.time_ns() // 1000)])
        request = http.next()
        Webhook(SECRET).verify(request.body, request.headers)
        assert "bus-1" == device(request)
        until(lambda: notifier.numbers().deliveries == {("ops", "sent"): 1})
    [latency_s] = latencies
    assert latency_s < 1.0


def test_receiver_that_hangs_delays_nobody(tmp_path, results):
    """All of the other's notices arrive while the first is still waited for."""
    with HttpReceiver(then=b"") as good, HttpReceiver(*[Trouble.HANG] * 100) as hanging:
        good.then = answer(200)
        slow = webhook(hanging.url(), name="slow", timeout_s=60.0)
        with notifying(tmp_path, slow, webhook(good.url(), name="good")) as notifier:
            results.append([alert(1)])
            hanging.next()
            results.append([alert(n) for n in range(2, 12)])
            assert {f"bus-{n}" for n in range(1, 12)} == {device(good.next()) for _ in range(11)}
            assert ("slow", "sent") not in notifier.numbers().deliveries
            begun_s = time.monotonic()
        assert time.monotonic() - begun_s < 5.0, "a stop does not wait for it either"
    queued = read_deliveries(tmp_path / "notices.sqlite", state="queued")
    assert ({"slow"}, 11) == ({d.receiver for d in queued}, len(queued))


def test_receiver_that_recovers_gets_what_it_missed_under_its_id(tmp_path, results):
    """500, reset, garbage, then 200: one notice, one id."""
    with HttpReceiver(answer(500), Trouble.RESET, Trouble.GARBAGE) as http, notifying(tmp_path, webhook(http.url())):
        results.append([alert(1)])
        requests = [http.next() for _ in range(4)]
        until(lambda: "sent" == read_deliveries(tmp_path / "notices.sqlite")[0].state)
    assert 1 == len({request.headers["webhook-id"] for request in requests})
    assert 1 == len({request.body for request in requests})
    assert 4 == read_deliveries(tmp_path / "notices.sqlite")[0].attempts


def test_states_of_an_alert_arrive_in_order(tmp_path, results):
    """The end waits for the beginning, which is refused twice."""
    with HttpReceiver(answer(503), answer(503)) as http, notifying(tmp_path, webhook(http.url())):
        results.append([alert(1)])
        http.next()
        results.append([alert(1, offset=2, revision=2, state="resolved", resolved_by="condition")])
        reasons = [json.loads(http.next().body)["data"]["reason"] for _ in range(3)]
    assert ["firing", "firing", "resolved"] == reasons


def test_gone_receiver_is_left_alone_until_a_retry(tmp_path, results):
    """410 ends it; `retry` begins anew, also for what came meanwhile."""
    path = tmp_path / "notices.sqlite"
    with HttpReceiver(answer(410)) as http, notifying(tmp_path, webhook(http.url())) as notifier:
        results.append([alert(1)])
        first = http.next()
        until(lambda: 3 == notifier.numbers().circuits["ops"])
        results.append([alert(2)])
        until(lambda: 2 == len(read_deliveries(path)))
        assert ["queued", "dead"] == [d.state for d in read_deliveries(path)]
        assert 1 == len(http.seen)
        assert [first.headers["webhook-id"]] == retry(path, [], now_us=time.time_ns() // 1000)
        assert {"bus-1", "bus-2"} == {device(http.next()), device(http.next())}


def test_test_order_reaches_its_receiver(tmp_path, results):
    """What `voltgate alerts test` orders."""
    with HttpReceiver() as http, notifying(tmp_path, webhook(http.url())):
        results.append([TestOrder(offset=1, tenant="default", receiver="ops", by="anna")])
        told = json.loads(http.next().body)
    assert ("voltgate.alert.test.v1", "anna") == (told["type"], told["data"]["by"])


# ---- kill -9 ---------------------------------------------------------------------------------------------------------
KILLS = 4
ALERTS_PER_ROUND = 8


@contextmanager
def child(data: Path, url: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a notifier in a process that is killed at the end, if it was not before."""
    arguments = [sys.executable, "-m", "tests.integration.notifier_process", str(data), url, SECRET]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def test_killed_notifier_loses_no_notice_and_gives_none_a_second_id(tmp_path, results):
    """Killed with requests under way, and at random moments after an alert: at least once, always the same id."""
    chance = random.Random(7)
    count = 0
    with HttpReceiver() as http:
        for kill in range(KILLS):
            # In every other round the receiver takes requests and does not answer, so that none can be marked.
            http.then = Trouble.HANG if kill % 2 else answer(200)
            seen = len(http.seen)
            with child(tmp_path, http.url()) as process:
                results.append([alert(n, offset=n) for n in range(count + 1, count + 1 + ALERTS_PER_ROUND)])
                count += ALERTS_PER_ROUND
                if kill % 2:
                    until(lambda seen=seen: len(http.seen) > seen)
                else:
                    time.sleep(chance.uniform(0.0, 0.15))
                process.kill()
        http.then = answer(200)
        with child(tmp_path, http.url()):
            until(lambda: {"sent"} == {d.state for d in read_deliveries(tmp_path / "notices.sqlite")})
            until(lambda: count == len({device(request) for request in http.seen}))
    ids: dict[str, set[str]] = {}
    for request in http.seen:
        Webhook(SECRET).verify(request.body, request.headers)
        ids.setdefault(device(request), set()).add(request.headers["webhook-id"])
    assert {f"bus-{n}" for n in range(1, count + 1)} == ids.keys()
    assert {1} == {len(names) for names in ids.values()}
    assert len(ids) == len(set.union(*ids.values()))
    times = Counter(request.headers["webhook-id"] for request in http.seen)
    assert max(times.values()) > 1, "no notice was sent again: nothing was tested"
