"""From the results journal to the outbox, without threads or sockets: nothing lost, nothing made twice."""

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.errors import JournalError, SinkError
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import Route as JournalRoute
from gateway.journal.memory import MemoryJournal
from gateway.observe.logs import make_logger
from processors.notices.config import NoticePlan, Receiver, Route
from processors.sinks.notice_desk import COMMIT_INTERVAL_US, Desk
from processors.sinks.outbox import read_alerts, read_deliveries, read_silences
from processors.stages.alert_record import CHANNELS, LifeEvent, Matcher, SilenceEvent, TestOrder
from tests.unit.processors.sinks.made_notices import AT_US, alert

SECOND_US = 1_000_000


def plan(*names: str, wait_s: float = 0.0) -> NoticePlan:
    return NoticePlan(
        receivers={name: Receiver(name=name, kind="webhook") for name in names},
        routes=(Route(to=names, group_by=("device",), wait_s=wait_s, interval_s=0.0, repeat_s=None),) if names else (),
    )


def tell(journal: MemoryJournal, *events: LifeEvent) -> None:
    """Append as the results journal does."""
    for event in events:
        append(journal, CHANNELS[type(event)], msgspec.json.encode(event))


def append(journal: MemoryJournal, channel: str, payload: bytes) -> None:
    route = JournalRoute(TenantId("default"), DeviceId(""), "processors", Channel(channel))
    journal.append_nowait(AT_US * 1000, [route], [payload], None)
    journal.commit()


class Bench:
    """A desk over a journal in memory, with a clock and log that a test can see."""

    def __init__(self, path: Path, notice_plan: NoticePlan) -> None:
        self.journal, self.path, self.plan = MemoryJournal(), path, notice_plan
        self.now_us = AT_US
        self.lines = io.StringIO()
        self.desk = self.open()

    def open(self) -> Desk:
        return Desk(
            reader=self.journal,
            path=self.path,
            plan=self.plan,
            log=make_logger(stream=self.lines),
            now_us=lambda: self.now_us,
        )

    def restart(self) -> None:
        """Begin anew as after kill -9: nothing is closed in order."""
        self.desk = self.open()

    @property
    def logged(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.lines.getvalue().splitlines()]

    def queued(self) -> list[tuple[str, str]]:
        """Return receiver and title of what is queued, oldest first."""
        return [(d.receiver, d.title) for d in reversed(read_deliveries(self.path, state="queued"))]

    def ids(self) -> list[str]:
        return sorted(d.delivery_id for d in read_deliveries(self.path))


@pytest.fixture
def bench(tmp_path):
    """Return a desk that tells one receiver at once."""
    made = Bench(tmp_path / "notices.sqlite", plan("ops"))
    yield made
    made.desk.close()


def test_alert_becomes_a_stored_delivery(bench):
    """With its body, before anybody could have sent it."""
    tell(bench.journal, alert())
    assert frozenset({"ops"}) == bench.desk.advance().receivers
    [delivery] = read_deliveries(bench.path)
    assert ("firing", AT_US, AT_US) == (delivery.reason, delivery.event_at_us, delivery.created_at_us)
    assert delivery.notice_id == json.loads(delivery.body)["data"]["notice_id"]
    assert [alert()] == read_alerts(bench.path)
    assert 1 == bench.desk.cursor


def test_nothing_new_does_nothing(bench):
    """An idle desk writes nothing."""
    tell(bench.journal, alert())
    bench.desk.advance()
    written = bench.path.stat().st_mtime_ns, bench.path.with_name("notices.sqlite-wal").stat().st_size
    for _ in range(5):
        assert not bench.desk.advance().receivers
    assert written == (bench.path.stat().st_mtime_ns, bench.path.with_name("notices.sqlite-wal").stat().st_size)


def test_what_waits_is_due_later(tmp_path):
    """The engine is asked again when its time has come, without any new entry."""
    bench = Bench(tmp_path / "notices.sqlite", plan("ops", wait_s=30))
    tell(bench.journal, alert())
    assert not bench.desk.advance().receivers
    bench.now_us += 29 * SECOND_US
    assert not bench.desk.advance().receivers
    bench.now_us += 2 * SECOND_US
    assert frozenset({"ops"}) == bench.desk.advance().receivers
    bench.desk.close()


def test_alert_without_notice_is_shown_soon(tmp_path):
    """Command lines see alerts that nobody is told of, at most half a second late."""
    bench = Bench(tmp_path / "notices.sqlite", NoticePlan())
    tell(bench.journal, alert(1))
    bench.desk.advance()
    tell(bench.journal, alert(2))
    bench.desk.advance()
    bench.now_us += COMMIT_INTERVAL_US
    bench.desk.advance()
    assert 2 == len(read_alerts(bench.path))
    bench.desk.close()


def test_restart_makes_no_second_id(bench):
    """Killed after the commit, the same alerts are not told again, under this id or another."""
    tell(bench.journal, alert(1), alert(2))
    bench.desk.advance()
    ids = bench.ids()
    assert 2 == len(ids)
    bench.restart()
    bench.now_us += SECOND_US
    bench.desk.advance()
    assert ids == bench.ids()
    tell(bench.journal, alert(1, revision=2, state="resolved", resolved_by="condition"))
    bench.desk.advance()
    assert ("ops", "RESOLVED (critical): Cell voltage deviates, bus-1 at depot-north") == bench.queued()[-1]


def test_failed_commit_moves_nothing_and_is_made_again(bench, monkeypatch):
    """A full disk keeps the alert in the journal; afterwards it is told once."""
    bench.desk.advance()
    outbox = bench.desk._outbox
    pages = outbox._db.execute("pragma page_count").fetchone()[0]
    outbox._db.execute(f"pragma max_page_count={pages}")
    tell(bench.journal, *(alert(n) for n in range(30)))
    for _ in range(3):
        with pytest.raises(SinkError, match="full"):
            bench.desk.advance()
    assert [] == bench.queued()
    outbox._db.execute("pragma max_page_count=1000000")
    bench.desk.advance()
    assert 30 == len(bench.queued()) == len(set(bench.ids()))


def test_damaged_database_is_rebuilt_from_the_journal(bench):
    """Alerts that still fire are told again under the same ids; those that ended meanwhile wake nobody."""
    tell(bench.journal, alert(1), alert(2))
    bench.desk.advance()
    ids = {d.delivery_id: d.title for d in read_deliveries(bench.path)}
    tell(bench.journal, alert(1, revision=2, state="resolved", resolved_by="condition"))
    bench.desk.advance()
    bench.desk.close()
    bench.path.write_bytes(b"garbage" * 5000)
    bench.restart()
    bench.desk.advance()
    [(receiver, title)] = bench.queued()
    assert ("ops", "FIRING (critical): Cell voltage deviates, bus-2 at depot-north") == (receiver, title)
    assert set(bench.ids()) <= ids.keys()
    assert 1 == bench.desk.counts["rebuilt"]
    assert ["outbox_made_anew"] == bench.logged


def test_damage_while_running_is_mended(bench):
    """The step that meets it fails, the next one begins anew."""
    tell(bench.journal, alert(1))
    bench.desk.advance()
    for pragma in ("wal_checkpoint(truncate)", "shrink_memory"):
        bench.desk._outbox._db.execute(f"pragma {pragma}").fetchall()
    bench.path.write_bytes(b"\xa5" * bench.path.stat().st_size)
    tell(bench.journal, alert(2))
    with pytest.raises(SinkError, match="damaged"):
        bench.desk.advance()
    bench.desk.advance()
    assert 2 == len(bench.queued())
    assert ["outbox_damaged", "outbox_made_anew"] == bench.logged


def test_entry_that_cannot_be_read_is_counted_and_passed(bench):
    """One entry of another release does not stop all that follow."""
    append(bench.journal, "alert", b"{}")
    append(bench.journal, "weather", b"{}")
    append(bench.journal, "alert", b"\xff\xfe")
    tell(bench.journal, alert())
    bench.desk.advance()
    assert 3 == bench.desk.counts["unreadable"]
    assert 1 == len(bench.queued())


def test_entries_that_are_gone_are_counted(bench):
    """Retention went past the cursor: said, and the rest is told."""
    tell(bench.journal, alert(1), alert(2), alert(3))
    bench.journal.drop_before(Offset(2))
    bench.desk._cursor = Offset(0)
    bench.desk.advance()
    assert 1 == len(bench.queued())


def test_gap_behind_the_cursor_is_counted(bench):
    """The same for a notifier that was stopped for too long."""
    tell(bench.journal, alert(1))
    bench.desk.advance()
    tell(bench.journal, alert(2), alert(3))
    bench.journal.drop_before(Offset(2))
    bench.desk.advance()
    assert 1 == bench.desk.counts["gap"]
    assert "results_gap" in bench.logged


def test_another_journal_is_read_from_its_start(bench):
    """Whoever deletes the results journal must not silence what comes after."""
    tell(bench.journal, alert(1), alert(2), alert(3))
    bench.desk.advance()
    bench.desk.close()
    bench.journal = MemoryJournal()
    tell(bench.journal, alert(7))
    bench.restart()
    bench.desk.advance()
    assert "FIRING (critical): Cell voltage deviates, bus-7 at depot-north" in [title for _, title in bench.queued()]
    assert "results_are_others" in bench.logged


def test_unreadable_journal_is_the_callers_matter(bench, monkeypatch):
    """Nothing is lost by it: the next step reads on."""
    tell(bench.journal, alert())

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise JournalError("cannot read")

    with monkeypatch.context() as patch:
        patch.setattr(bench.journal, "read", broken)
        with pytest.raises(JournalError):
            bench.desk.advance()
    bench.desk.advance()
    assert 1 == len(bench.queued())


def test_engine_of_another_release_begins_anew(bench):
    """A state that cannot be read costs reading the journal again, under the same ids."""
    tell(bench.journal, alert(1))
    bench.desk.advance()
    ids = bench.ids()
    bench.desk.run(lambda outbox: outbox.commit(cursor=1, engine=b"garbage", now_us=bench.now_us))
    bench.restart()
    bench.desk.advance()
    assert ids == bench.ids()
    assert "notices_unreadable" in bench.logged


def test_silence_holds_back_and_is_shown(bench):
    """The engine decides; command lines see it."""
    silence = SilenceEvent(
        offset=1,
        received_at_us=AT_US,
        silence_id="s1",
        tenant="default",
        matchers=(Matcher(label="device", op="=", value="bus-1"),),
        starts_at_us=AT_US,
        ends_at_us=AT_US + 3600 * SECOND_US,
        by="anna",
        why="workshop",
    )
    tell(bench.journal, silence, alert(1), alert(2))
    bench.desk.advance()
    assert ["FIRING (critical): Cell voltage deviates, bus-2 at depot-north"] == [t for _, t in bench.queued()]
    assert [silence] == read_silences(bench.path)
    assert 1 == bench.desk.suppressed["silence"]


def test_test_order_is_a_delivery(bench):
    """To the receiver that was named, and nobody else."""
    tell(bench.journal, TestOrder(offset=1, tenant="default", receiver="ops", by="anna"))
    bench.desk.advance()
    [(receiver, title)] = bench.queued()
    assert ("ops", True) == (receiver, title.startswith("TEST"))


def test_reload_leads_new_alerts_elsewhere(bench):
    """Under the new plan, with receivers that were gone enabled."""
    tell(bench.journal, alert(1))
    bench.desk.advance()
    [sent] = bench.ids()
    bench.desk.run(lambda outbox: outbox.dead(sent, bench.now_us, error="answered 410", status=410, disable="ops"))
    bench.desk.reload(plan("chat"))
    assert {} == bench.desk.run(lambda outbox: outbox.disabled())
    tell(bench.journal, alert(2))
    bench.desk.advance()
    assert ("chat", "FIRING (critical): Cell voltage deviates, bus-2 at depot-north") in bench.queued()


def test_backlog_is_read_whole_before_anybody_is_told(bench, monkeypatch):
    """What ended while nobody read is not told as if it had just begun."""
    monkeypatch.setattr("processors.sinks.notice_desk.RESULTS_ROWS_MAX", 2)
    events = [alert(1), alert(2), alert(3), alert(1, revision=2, state="resolved", resolved_by="condition")]
    tell(bench.journal, *events)
    assert bench.desk.advance().is_behind
    assert not bench.desk.advance().is_behind
    assert 2 == len(bench.queued())
