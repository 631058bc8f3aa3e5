"""The notifier's database: one transaction for everything, order, bounds."""

import sqlite3
from pathlib import Path

import pytest

from gateway.core.errors import OutboxDamaged, SinkError
from processors.sinks.outbox import Outbox, read_alerts, read_deliveries, read_disabled, read_silences, retry
from processors.sinks.outbox_schema import DAMAGED, Draft
from processors.stages.alert_record import Matcher, SilenceEvent
from tests.unit.processors.sinks.made_notices import AT_US, alert, draft

SECOND_US = 1_000_000


@pytest.fixture
def path(tmp_path):
    """Return where an outbox may be."""
    return tmp_path / "notices.sqlite"


@pytest.fixture
def outbox(path):
    """Return an empty outbox."""
    opened = Outbox(path, now_us=AT_US)
    yield opened
    opened.close()


def put(outbox: Outbox, *drafts: Draft, cursor: int = 1) -> None:
    outbox.commit(cursor=cursor, engine=b"e", drafts=drafts, now_us=AT_US)


def due_ids(outbox: Outbox, *, now_us: int = AT_US, receiver: str = "ops", limit: int = 100) -> list[str]:
    return [delivery.delivery_id for delivery in outbox.due(receiver, now_us, limit=limit)]


def test_new_outbox_knows_no_progress(outbox):
    """A reader without a place begins at the journal's start."""
    assert outbox.load() is None


def test_everything_of_a_commit_is_there_after_opening_again(path, outbox):
    """Cursor, engine, deliveries and alerts come back as they were."""
    outbox.commit(cursor=7, engine=b"state", drafts=[draft(1)], alerts=[alert(1)], now_us=AT_US)
    outbox.close()
    again = Outbox(path, now_us=AT_US)
    assert (7, b"state") == again.load()
    assert ["d1"] == due_ids(again)
    assert [alert(1)] == again.alerts()
    again.close()


def test_failed_commit_changes_nothing(outbox):
    """A draft that cannot be stored takes cursor and alerts back with it."""
    put(outbox, draft(1), cursor=1)
    broken = draft(2, body=None)
    with pytest.raises(SinkError):
        outbox.commit(cursor=2, engine=b"f", drafts=[broken], alerts=[alert(1)], now_us=AT_US)
    assert (1, b"e") == outbox.load()
    assert [] == outbox.alerts()


def test_full_disk_refuses_and_keeps_what_was(outbox):
    """Nothing moves while there is no room, and the same commit succeeds when there is."""
    put(outbox, draft(1))
    pages = outbox._db.execute("pragma page_count").fetchone()[0]
    outbox._db.execute(f"pragma max_page_count={pages}")
    large = [draft(n, body=b"x" * 4096) for n in range(2, 12)]
    with pytest.raises(SinkError, match="full"):
        put(outbox, *large, cursor=9)
    assert (1, b"e") == outbox.load()
    outbox._db.execute("pragma max_page_count=1000000")
    put(outbox, *large, cursor=9)
    assert (9, b"e") == outbox.load()
    assert 11 == len(due_ids(outbox))


def test_known_id_is_not_stored_twice(outbox):
    """A notice that is made again after a crash is the delivery that is there."""
    put(outbox, draft(1, title="first"))
    stored = outbox.commit(cursor=2, engine=b"e", drafts=[draft(1, title="second"), draft(2)], now_us=AT_US)
    assert 1 == stored.added
    assert ["first", "title 2"] == [d.title for d in outbox.due("ops", AT_US, limit=9)]


def test_later_message_of_a_group_waits_for_the_earlier(outbox):
    """A resolution cannot overtake what it resolves, even while that waits for its next try."""
    put(outbox, draft(1, order_key="g"), draft(2, order_key="g"), draft(3))
    assert ["d1", "d3"] == due_ids(outbox)
    outbox.failed("d1", next_at_us=AT_US + SECOND_US, error="down", status=503)
    assert ["d3"] == due_ids(outbox)
    outbox.sent("d1", AT_US, status=200)
    assert ["d2", "d3"] == due_ids(outbox)


def test_dead_message_lets_the_next_of_its_group_go(outbox):
    """What was given up holds up nothing."""
    put(outbox, draft(1, order_key="g"), draft(2, order_key="g"))
    outbox.dead("d1", AT_US, error="gone", status=404)
    assert ["d2"] == due_ids(outbox)


def test_receivers_have_queues_of_their_own(outbox):
    """The same group at another receiver waits for nobody here."""
    put(outbox, draft(1, order_key="g"), draft(2, order_key="g", receiver="chat"))
    assert ["d1"] == due_ids(outbox)
    assert ["d2"] == due_ids(outbox, receiver="chat")


def test_failed_try_is_due_at_its_time(outbox):
    """Attempts, doubts and the reason are kept, and the next try comes when it was said."""
    put(outbox, draft(1))
    outbox.failed("d1", next_at_us=AT_US + SECOND_US, error="answered 404", status=404, is_doubt=True)
    assert AT_US + SECOND_US == outbox.next_at_us("ops")
    assert [] == due_ids(outbox, now_us=AT_US + SECOND_US - 1)
    [delivery] = outbox.due("ops", AT_US + SECOND_US, limit=1)
    assert (1, 1, "answered 404", 404) == (
        delivery.attempts,
        delivery.doubts,
        delivery.last_error,
        delivery.last_status,
    )


def test_clock_that_jumps_back_does_not_hold_messages(outbox):
    """A next try that is farther off than any pause is due now."""
    put(outbox, draft(1))
    outbox.failed("d1", next_at_us=AT_US, error="down", status=None)
    assert ["d1"] == due_ids(outbox, now_us=AT_US - 365 * 86_400 * SECOND_US)


def test_hastened_messages_are_due_now(outbox):
    """What waits for its next try goes when the receiver answers again; other receivers' do not."""
    put(outbox, draft(1), draft(2, receiver="chat"))
    for name in ("d1", "d2"):
        outbox.failed(name, next_at_us=AT_US + SECOND_US, error="down", status=None)
    outbox.hasten("ops", AT_US)
    assert ["d1"] == due_ids(outbox)
    assert [] == due_ids(outbox, receiver="chat")


def test_too_old_messages_become_dead_letters(path, outbox):
    """A message that could not be delivered in time says how often it was tried and why it failed last."""
    outbox.commit(cursor=1, engine=b"", drafts=[draft(1), draft(2)], now_us=AT_US, ttl_s=60)
    outbox.sent("d2", AT_US, status=200)
    outbox.failed("d1", next_at_us=AT_US, error="down", status=503)
    assert {} == outbox.expire(AT_US + 59 * SECOND_US)
    assert {"ops": 1} == outbox.expire(AT_US + 60 * SECOND_US)
    [dead] = read_deliveries(path, state="dead")
    assert ("d1", "expired after 1 tries; the last: down") == (dead.delivery_id, dead.last_error)


def test_full_queue_pushes_out_the_oldest(path):
    """People need the newest state; what had to go is a visible dead letter and counted."""
    outbox = Outbox(path, now_us=AT_US, queued_max=2)
    put(outbox, draft(1), draft(2), draft(9, receiver="chat"))
    stored = outbox.commit(cursor=2, engine=b"", drafts=[draft(3)], now_us=AT_US)
    assert {"ops": 1} == stored.pushed_out
    assert ["d2", "d3"] == due_ids(outbox)
    assert ["d1"] == [d.delivery_id for d in read_deliveries(path, state="dead")]
    outbox.close()


def test_oldest_sent_messages_are_forgotten_first(path):
    """Sent and dead ones are bounded apart, queued ones are left alone."""
    outbox = Outbox(path, now_us=AT_US, sent_kept=10, dead_kept=5)
    put(outbox, *(draft(n) for n in range(300)))
    for n in range(100):
        outbox.dead(f"d{n}", AT_US, error="no", status=404)
    for n in range(100, 299):
        outbox.sent(f"d{n}", AT_US, status=200)
    counts = outbox.counts()
    assert 1 == counts["ops", "queued"]
    assert 10 <= counts["ops", "sent"] <= 10 + 100
    assert 5 == counts["ops", "dead"]
    assert "d298" == read_deliveries(path, state="sent", limit=1)[0].delivery_id
    outbox.close()


def test_other_connection_is_noticed_once(path, outbox):
    """A command line's change is seen, and one's own is not."""
    put(outbox, draft(1))
    outbox.dead("d1", AT_US, error="no", status=None, disable="ops")
    assert not outbox.is_changed_elsewhere()
    retry(path, [], now_us=AT_US)
    assert outbox.is_changed_elsewhere()
    assert not outbox.is_changed_elsewhere()


# ---- command lines ---------------------------------------------------------------------------------------------------
def test_readers_see_nothing_before_the_first_start(path):
    """Commands work before the notifier ever ran."""
    assert [] == read_alerts(path)
    assert [] == read_silences(path)
    assert [] == read_deliveries(path)
    assert {} == read_disabled(path)
    assert [] == retry(path, [], now_us=AT_US)
    assert not path.exists()


def test_readers_see_what_is_committed_while_the_notifier_runs(path, outbox):
    """Newest revisions, open ones first, then the newest."""
    over = alert(3, state="resolved", revision=2)
    outbox.commit(cursor=1, engine=b"", alerts=[alert(1), over, alert(2)], now_us=AT_US)
    outbox.commit(cursor=2, engine=b"", alerts=[alert(1, revision=2, state="acknowledged")], now_us=AT_US)
    assert [("bus-2", 1), ("bus-1", 2), ("bus-3", 2)] == [(a.device_id, a.revision) for a in read_alerts(path)]
    assert ["bus-2", "bus-1"] == [a.device_id for a in read_alerts(path, open_only=True)]


def test_silences_are_kept_as_they_are_now(path, outbox):
    """The newest event of a silence replaces the older one."""
    silence = SilenceEvent(
        offset=3,
        received_at_us=AT_US,
        silence_id="s3",
        tenant="default",
        matchers=(Matcher(label="device", op="=", value="bus-1"),),
        starts_at_us=AT_US,
        ends_at_us=AT_US + SECOND_US,
        by="anna",
        why="work",
    )
    outbox.commit(cursor=1, engine=b"", silences=[silence], now_us=AT_US)
    assert [silence] == read_silences(path)


def test_retried_message_is_queued_again_under_its_id(path, outbox):
    """A dead letter gets its tries and its time again, and its receiver is enabled."""
    put(outbox, draft(1), draft(2))
    outbox.dead("d1", AT_US, error="answered 410", status=410, disable="ops")
    outbox.sent("d2", AT_US, status=200)
    assert {"ops": "answered 410"} == read_disabled(path) == outbox.disabled()
    later_us = AT_US + 100 * 86_400 * SECOND_US
    assert ["d1"] == retry(path, ["n1", "d2", "unknown"], now_us=later_us)
    assert {} == outbox.disabled()
    assert {} == outbox.expire(later_us)
    [again] = outbox.due("ops", later_us, limit=9)
    assert ("d1", 0, "queued") == (again.delivery_id, again.attempts, again.state)


def test_all_dead_letters_are_retried_where_none_is_named(path, outbox):
    """Nothing that was sent is sent again."""
    put(outbox, draft(1), draft(2), draft(3))
    outbox.dead("d1", AT_US, error="no", status=None)
    outbox.dead("d2", AT_US, error="no", status=None)
    outbox.sent("d3", AT_US, status=200)
    assert ["d1", "d2"] == retry(path, [], now_us=AT_US)


# ---- damage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content", [b"not a database at all" * 400, b"SQLite format 3\0" + b"\xff" * 8192], ids=str)
def test_file_that_is_no_database_is_moved_aside(path, content):
    """The notifier begins anew, says why, and the file can be looked at."""
    path.write_bytes(content)
    outbox = Outbox(path, now_us=AT_US)
    assert outbox.moved_aside
    assert outbox.load() is None
    [aside] = path.parent.glob(f"*{DAMAGED}*")
    assert content == aside.read_bytes()
    outbox.close()


def test_database_of_another_program_is_moved_aside(path):
    """A sound database that is not ours is not written into."""
    with sqlite3.connect(path) as other:
        other.execute("create table theirs (a)")
    other.close()
    outbox = Outbox(path, now_us=AT_US)
    assert "is of application 0x0" in outbox.moved_aside
    outbox.close()


def test_damage_inside_is_found_at_opening(path, outbox):
    """A page of garbage in the middle is found before anything is sent from it."""
    put(outbox, *(draft(n, body=b"y" * 3000) for n in range(50)))
    outbox.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 30] = b"\xa5" * (4096 * 28)
    path.write_bytes(content)
    again = Outbox(path, now_us=AT_US)
    assert again.moved_aside
    assert again.load() is None
    again.close()


def test_readers_say_that_a_database_is_damaged(path):
    """A command line moves nothing; it says what is wrong."""
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(OutboxDamaged, match=r"notices\.sqlite"):
        read_alerts(path)
    assert [path] == list(path.parent.iterdir())


def test_only_the_newest_damaged_databases_are_kept(path):
    """A disk that damages again and again is not filled with what it damaged."""
    for n in range(4):
        path.write_bytes(b"garbage" * 1000)
        Outbox(path, now_us=AT_US + n).close()
    kept = sorted(p.name for p in path.parent.glob(f"*{DAMAGED}*"))
    assert [f"{path.name}{DAMAGED}{AT_US + n:020}" for n in (2, 3)] == kept


def test_file_that_cannot_be_opened_is_refused_for_now(tmp_path):
    """A directory in its place is no damage that a new file mends."""
    (tmp_path / "notices.sqlite").mkdir()
    with pytest.raises(SinkError):
        Outbox(tmp_path / "notices.sqlite", now_us=AT_US)


def test_outbox_is_its_owners_alone(path, outbox):
    """What people are told of their vehicles is nobody else's business."""
    assert 0o600 == Path(path).stat().st_mode & 0o777
