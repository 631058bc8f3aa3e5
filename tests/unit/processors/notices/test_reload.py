"""A new plan, and a restart: nobody is told twice, and who was told learns of the end."""

import pytest

from gateway.core.errors import CheckpointError
from processors.notices.config import Escalation, NoticePlan
from processors.notices.engine import Notices
from tests.unit.processors.notices.desk import START_US, Desk, plan, route, suppressed, us

HOUR = 3600.0


def reloaded(before: NoticePlan, after: NoticePlan, *, by_restart: bool) -> Desk:
    """Return a desk whose plan changed at 100 s, after alert `a` was told at 0 s."""
    desk = Desk(before)
    desk.fire(0, "a", severity="critical")
    desk.run(99)
    if by_restart:
        desk.restart(100, after)
    else:
        desk.plan = after
        desk.engine.reload(after, us(100))
    return desk


BOTH = pytest.mark.parametrize("by_restart", [False, True], ids=["reload", "restart"])


@BOTH
def test_group_of_a_route_that_stays_goes_on(by_restart: bool) -> None:
    """Other times and other routes before it do not make it another."""
    before = plan(route("chat", wait_s=0, repeat_s=None))
    after = plan(route("boss", match=["rule=z"], goes_on=True), route("chat", wait_s=0, repeat_s=HOUR))
    desk = reloaded(before, after, by_restart=by_restart)
    assert [(HOUR, "chat", "repeat", ["a.1"])] == desk.run(HOUR + 1)


@BOTH
def test_receiver_of_another_route_is_not_told_again(by_restart: bool) -> None:
    """The alert goes on in the group of the new route; a receiver that is new is told."""
    before = plan(route("chat", wait_s=0, group_by=("device",), repeat_s=HOUR))
    after = plan(route("chat", "mail", match=["severity=critical"], wait_s=10, group_by=("site",), repeat_s=HOUR))
    desk = reloaded(before, after, by_restart=by_restart)
    assert [(110, "mail", "firing", ["a.1"]), (HOUR, "chat", "repeat", ["a.1"])] == desk.run(HOUR + 1)
    assert {"tenant": "acme", "site": "nord"} == desk.notices[-1].group
    desk.resolve(HOUR + 300, "a")
    assert {("chat", "resolved"), ("mail", "resolved")} == {told[1:3] for told in desk.run(2 * HOUR)}


@BOTH
def test_receiver_that_is_no_longer_asked_is_told_of_the_end_alone(by_restart: bool) -> None:
    """What was opened is closed; nothing else is told there."""
    before = plan(route("chat", wait_s=0, repeat_s=HOUR))
    after = plan(route("mail", wait_s=0, repeat_s=None), receivers=["chat"])
    desk = reloaded(before, after, by_restart=by_restart)
    assert [(100, "mail", "firing", ["a.1"])] == desk.run(5 * HOUR)
    desk.ack(5 * HOUR, "a")
    assert [(5 * HOUR, "mail", "changed", ["a.2"])] == desk.run(6 * HOUR)
    desk.resolve(6 * HOUR, "a")
    assert {("chat", "resolved"), ("mail", "resolved")} == {told[1:3] for told in desk.run(7 * HOUR)}


@BOTH
def test_receiver_that_is_gone_is_told_nothing(by_restart: bool) -> None:
    """Its groups go with it."""
    desk = reloaded(plan(route("chat", wait_s=0)), plan(route("mail", wait_s=0)), by_restart=by_restart)
    desk.run(100)
    desk.resolve(HOUR, "a")
    assert ["mail"] == [receiver for _, receiver, _, _ in desk.run(2 * HOUR)]


@BOTH
def test_route_that_comes_back_is_as_it_was(by_restart: bool) -> None:
    """Taken out and put back, it repeats and does not begin anew."""
    before = plan(route("chat", wait_s=0, repeat_s=HOUR))
    desk = reloaded(before, plan(receivers=["chat"]), by_restart=by_restart)
    assert [] == desk.run(200)
    desk.engine.reload(before, us(200))
    assert [(HOUR, "chat", "repeat", ["a.1"])] == desk.run(HOUR)


@BOTH
def test_escalation_with_another_time_is_not_told_again(by_restart: bool) -> None:
    """Who was escalated to before knows; who was not is told by the new time."""
    before = plan(Escalation(after_s=60, to=("pager",)))
    after = plan(Escalation(after_s=300, to=("pager",)), Escalation(after_s=600, to=("boss",)))
    desk = reloaded(before, after, by_restart=by_restart)
    assert [(700, "boss", "escalation", ["a.1"])] == desk.run(HOUR)


def test_restart_makes_the_same_notices_under_the_same_names() -> None:
    """What the engine makes after it was restored is what it would have made."""

    def told(*, restarts: bool) -> list[tuple[str, str]]:
        notice_plan = plan(route("chat", wait_s=5, repeat_s=HOUR), Escalation(after_s=50, to=("boss",)))
        desk = Desk(notice_plan)
        steps = [
            (0, lambda at: desk.fire(at, "a", "b")),
            (20, lambda at: desk.silence(at, 400, "rule=b")),
            (310, lambda at: desk.ack(at, "a")),
            (5000, lambda at: desk.test(at, "boss")),
            (9000, lambda at: desk.resolve(at, "a", "b")),
        ]
        for at, step in steps:
            desk.run(at)
            step(at)
            if restarts:
                desk.restart(at)
        desk.run(3 * HOUR)
        return [(notice.notice_id, notice.reason) for notice in desk.notices]

    assert told(restarts=False) == told(restarts=True)
    assert len(told(restarts=True)) > 6


def test_alert_that_happened_after_the_state_was_kept_is_taken_in() -> None:
    """Whoever keeps newer revisions than the state need not take them in again."""
    desk = Desk(plan(route("chat", wait_s=0)))
    desk.fire(0, "a")
    desk.run(0)
    payload = desk.engine.to_bytes()
    desk.resolve(10, "a")
    engine = Notices.from_bytes(payload, plan=desk.plan, alerts=desk.alerts.values(), now_us=us(400))
    assert ["resolved"] == [notice.reason for notice in engine.due(us(400))]


def test_alert_without_a_record_is_forgotten_and_counted() -> None:
    """A restart that finds less than the state names goes on with the rest."""
    desk = Desk(plan(route("chat", wait_s=0)))
    desk.fire(0, "a", "b")
    desk.run(0)
    del desk.alerts["a"]
    desk.restart(10)
    assert {"lost": 1} == suppressed(desk)
    desk.resolve(HOUR, "b")
    assert [(HOUR, "chat", "resolved", ["b.2"])] == desk.run(2 * HOUR)


@pytest.mark.parametrize("payload", [b"", b"\x81", b"\xc0"], ids=["empty", "cut", "nothing"])
def test_damaged_state_is_refused(payload: bytes) -> None:
    """Whoever restores must know that everything is told anew."""
    with pytest.raises(CheckpointError, match="told anew"):
        Notices.from_bytes(payload, plan=plan(), alerts=(), now_us=START_US)


def test_state_of_another_version_is_refused() -> None:
    """A later layout is not guessed at."""
    payload = Notices(plan()).to_bytes().replace(b"version\x01", b"version\x02")
    with pytest.raises(CheckpointError, match="version 2"):
        Notices.from_bytes(payload, plan=plan(), alerts=(), now_us=START_US)


@BOTH
def test_groups_that_nothing_is_led_to_are_forgotten(by_restart: bool) -> None:
    """An alert that moves leaves nothing behind."""
    before, after = plan(route("chat", wait_s=0, group_by=("device",))), plan(route("chat", wait_s=0, group_by=()))
    desk = reloaded(before, after, by_restart=by_restart)
    desk.run(HOUR)
    assert {"alerts": 1, "groups": 1, "members": 1, "silences": 0} == desk.engine.sizes


def test_receiver_that_is_put_back_is_told_under_another_name() -> None:
    """What it forgot is told anew, and is not taken for what was sent before."""
    before = plan(route("chat", wait_s=0))
    desk = reloaded(before, plan(), by_restart=False)
    desk.run(400)
    desk.engine.reload(before, us(400))
    assert [(400, "chat", "firing", ["a.1"])] == desk.run(500)
    assert 2 == len({notice.notice_id for notice in desk.notices})
