"""What the notifier is to its process, with its threads: it starts, reloads, says how it is, and ends."""

import io
import json
import queue
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.errors import JournalError
from gateway.journal.memory import MemoryJournal
from gateway.observe.logs import make_logger
from processors.notices.config import NoticePlan, Receiver
from processors.notifier import Notifier
from processors.sinks.outbox import read_deliveries, retry
from processors.sinks.outbox_schema import Delivery
from processors.sinks.outcome import Outcome
from tests.unit.processors.sinks.made_notices import AT_US, alert
from tests.unit.processors.sinks.test_notice_desk import plan, tell

pytestmark = pytest.mark.integration
WAIT_S = 10.0
"""How long a test waits for an event of another thread before it fails."""


class Recorder:
    """A sender that takes everything, or answers as told."""

    def __init__(self) -> None:
        self.sent: queue.Queue[tuple[str, str]] = queue.Queue()
        self.then = Outcome(verdict="done", status=200)

    async def send(self, delivery: Delivery, receiver: Receiver) -> Outcome:
        self.sent.put((receiver.name, delivery.delivery_id))
        return self.then

    def next(self) -> tuple[str, str]:
        return self.sent.get(timeout=WAIT_S)


class Bench:
    """A notifier over a journal in memory."""

    def __init__(self, path: Path, notice_plan: NoticePlan) -> None:
        self.path, self.journal, self.sender, self.lines = path, MemoryJournal(), Recorder(), io.StringIO()
        self.latencies: list[float] = []
        self.notifier = Notifier(
            reader=self.journal,
            path=path,
            plan=notice_plan,
            senders={"webhook": self.sender},
            log=make_logger(stream=self.lines),
            now_us=lambda: AT_US + 250_000,
            chance=lambda: 0.5,
            latency=self.latencies.append,
        )

    @property
    def logged(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.lines.getvalue().splitlines()]


@pytest.fixture
def bench(tmp_path):
    """Return a bench whose notifier tells one receiver at once."""
    made = Bench(tmp_path / "notices.sqlite", plan("ops"))
    yield made
    made.notifier.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; a test that waits in vain fails."""
    give_up_at_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at_s, "it never happened"
        time.sleep(0.005)


def test_alert_reaches_its_receiver_and_is_counted(bench):
    """From the journal to a mark in the outbox, with its latency."""
    bench.notifier.start()
    tell(bench.journal, alert())
    assert "ops" == bench.sender.next()[0]
    until(lambda: ("ops", "sent") in bench.notifier.numbers().deliveries)
    numbers = bench.notifier.numbers()
    assert ({("ops", "sent"): 1}, 1, {"ops": 0}) == (numbers.deliveries, numbers.cursor, numbers.circuits)
    assert {"events": 1, "notices": 1} == numbers.journal
    assert [0.25] == bench.latencies
    assert None is bench.notifier.check_live()
    assert None is bench.notifier.check_ready()


def test_what_is_in_the_journal_at_a_stop_is_stored(bench):
    """Not sent, maybe, but owed: the next start sends it."""
    bench.sender.then = Outcome(verdict="retry", why="down")
    bench.notifier.start()
    tell(bench.journal, *(alert(n) for n in range(20)))
    bench.notifier.close()
    assert 20 == len(read_deliveries(bench.path))


def test_closing_what_never_started_is_nothing(bench):
    """A process that fails to start closes its parts."""
    bench.notifier.close()
    assert not bench.path.exists()


def test_closing_right_after_starting_ends(bench):
    """Before the loop runs, while it starts, or after."""
    bench.notifier.start()
    bench.notifier.close()


def test_reload_reaches_the_new_receiver(bench):
    """And the one that is not in the plan any more is sent nothing."""
    bench.notifier.start()
    tell(bench.journal, alert(1))
    assert "ops" == bench.sender.next()[0]
    bench.notifier.reload(plan("chat"))
    until(lambda: "notices_reloaded" in bench.logged)
    tell(bench.journal, alert(2))
    assert "chat" == bench.sender.next()[0]
    until(lambda: ("chat", "sent") in bench.notifier.numbers().deliveries)
    assert {("ops", "sent"): 1, ("chat", "sent"): 1} == bench.notifier.numbers().deliveries


def test_retry_of_a_command_line_is_seen(bench):
    """A receiver that was gone is tried again when somebody says so, without a restart."""
    bench.sender.then = Outcome(verdict="gone", why="answered 410", status=410)
    bench.notifier.start()
    tell(bench.journal, alert(1))
    first = bench.sender.next()
    until(lambda: 1 == bench.notifier.numbers().deliveries.get(("ops", "dead")))
    assert 3 == bench.notifier.numbers().circuits["ops"]
    assert {"ops": "answered 410"} == bench.notifier.numbers().last_errors
    bench.sender.then = Outcome(verdict="done", status=200)
    assert [first[1]] == retry(bench.path, [], now_us=AT_US)
    assert first == bench.sender.next()
    until(lambda: 0 == bench.notifier.numbers().circuits["ops"])


def test_unreadable_journal_is_said_once_and_read_again(bench, monkeypatch):
    """The notifier is not ready meanwhile, and lives."""
    real = bench.journal.read
    failures: list[int] = []

    def sick(*args, **kwargs):
        if len(failures) < 2:
            failures.append(1)
            raise JournalError("cannot read: input/output error")
        return real(*args, **kwargs)

    monkeypatch.setattr("processors.notifier.STORE_RETRY_S", 0.01)
    monkeypatch.setattr(bench.journal, "read", sick)
    tell(bench.journal, alert())
    bench.notifier.start()
    assert "ops" == bench.sender.next()[0]
    assert 1 == bench.logged.count("results_unreadable")
    until(lambda: bench.notifier.check_ready() is None)


def test_store_that_cannot_be_opened_is_said_and_tried_again(tmp_path, monkeypatch):
    """A directory in the outbox's place: not ready, alive, and well again when it is gone."""
    monkeypatch.setattr("processors.notifier.STORE_RETRY_S", 0.01)
    bench = Bench(tmp_path / "notices.sqlite", plan("ops"))
    bench.path.mkdir()
    bench.notifier.start()
    tell(bench.journal, alert())
    until(lambda: bench.notifier.check_ready() is not None)
    assert None is bench.notifier.check_live()
    bench.path.rmdir()
    assert "ops" == bench.sender.next()[0]
    assert ["outbox_refuses", "outbox_takes_again"] == bench.logged
    bench.notifier.close()


def test_stop_does_not_wait_for_a_store_that_refuses(tmp_path):
    """What is not stored is still in the journal."""
    bench = Bench(tmp_path / "notices.sqlite", plan("ops"))
    bench.path.mkdir()
    bench.notifier.start()
    until(lambda: bench.notifier.check_ready() is not None)
    bench.notifier.close()


def test_fault_of_ours_is_not_hidden(bench, monkeypatch):
    """A crash ends the notifier, is what liveness says, and comes out of `close`."""

    def broken(*_args, **_kwargs):
        raise AssertionError("an invariant of ours")

    monkeypatch.setattr(bench.journal, "read", broken)
    tell(bench.journal, alert())
    bench.notifier.start()
    until(lambda: bench.notifier.check_live() is not None)
    with pytest.raises(BaseExceptionGroup, match="unhandled errors"):
        bench.notifier.close()
    bench.notifier._ended = None
