"""Who is told as well when nobody acknowledges."""

from processors.notices.config import Escalation
from processors.stages.alert_record import read_matchers
from tests.unit.processors.notices.desk import Desk, plan, route, suppressed

MINUTE = 60.0
CRITICAL = read_matchers(["severity=critical"])
PLAN = plan(
    route("on-call", group_by=("device",), wait_s=0, interval_s=MINUTE, repeat_s=None),
    Escalation(matchers=CRITICAL, after_s=10 * MINUTE, to=("pager",), group_by=("device",)),
    Escalation(matchers=CRITICAL, after_s=30 * MINUTE, to=("boss", "on-call"), group_by=("device",)),
)


def test_unacknowledged_alert_is_escalated_once_at_each_step() -> None:
    """Each escalation tells its receivers once; the end is told to all who know, and to none twice."""
    desk = Desk(PLAN)
    desk.fire(0, "a", severity="critical")
    desk.fire(0, "b", severity="warning")
    expected = [
        (0, "on-call", "firing", ["a.1", "b.1"]),
        (10 * MINUTE, "pager", "escalation", ["a.1"]),
        (30 * MINUTE, "boss", "escalation", ["a.1"]),
        (30 * MINUTE, "on-call", "escalation", ["a.1"]),
    ]
    assert expected == desk.run(500 * MINUTE)
    desk.resolve(500 * MINUTE, "a")
    expected = [
        (500 * MINUTE, "on-call", "changed", ["a.2"]),
        (500 * MINUTE, "pager", "resolved", ["a.2"]),
        (500 * MINUTE, "boss", "resolved", ["a.2"]),
    ]
    assert expected == desk.run(600 * MINUTE)


def test_acknowledged_alert_is_not_escalated() -> None:
    """An acknowledgement in time spares the others; taken back, the time begins anew."""
    desk = Desk(PLAN)
    desk.fire(0, "a", severity="critical")
    desk.run(1)
    desk.ack(9 * MINUTE, "a")
    assert [(9 * MINUTE, "on-call", "changed", ["a.2"])] == desk.run(100 * MINUTE)
    desk.unack(100 * MINUTE, "a")
    told = [(at, receiver) for at, receiver, reason, _ in desk.run(200 * MINUTE) if reason == "escalation"]
    assert [(110 * MINUTE, "pager"), (130 * MINUTE, "boss"), (130 * MINUTE, "on-call")] == told


def test_escalated_alert_that_is_acknowledged_is_not_escalated_again() -> None:
    """Who was told learns that somebody cares, and is not asked a second time."""
    desk = Desk(PLAN)
    desk.fire(0, "a", severity="critical")
    desk.run(11 * MINUTE)
    desk.ack(20 * MINUTE, "a")
    assert {("on-call", "changed"), ("pager", "changed")} == {told[1:3] for told in desk.run(29 * MINUTE)}
    desk.unack(40 * MINUTE, "a")
    told = [receiver for _, receiver, reason, _ in desk.run(200 * MINUTE) if reason == "escalation"]
    assert ["boss", "on-call"] == told


def test_silenced_alert_is_escalated_after_the_silence() -> None:
    """An escalation that was due in silence happens at its end."""
    desk = Desk(PLAN)
    desk.fire(0, "a", severity="critical")
    desk.run(1)
    desk.silence(5 * MINUTE, 20 * MINUTE, "rule=a")
    assert [(20 * MINUTE, "pager", "escalation", ["a.1"])] == desk.run(25 * MINUTE)
    assert {"silence": 1} == suppressed(desk)


def test_alert_that_ends_in_time_is_not_escalated() -> None:
    """Coming back, its time begins anew, and nothing is counted as held back."""
    desk = Desk(PLAN)
    desk.fire(0, "a", severity="critical")
    desk.run(1)
    desk.resolve(9 * MINUTE, "a")
    desk.run(11 * MINUTE)
    desk.fire(12 * MINUTE, "a", severity="critical")
    escalated = [(at, receiver) for at, receiver, reason, _ in desk.run(23 * MINUTE) if reason == "escalation"]
    assert [(22 * MINUTE, "pager")] == escalated
    assert {} == suppressed(desk)


def test_alerts_escalated_at_one_time_share_a_notice() -> None:
    """Those that are due later follow, an interval after it."""
    desk = Desk(plan(Escalation(after_s=10 * MINUTE, to=("pager",), group_by=("device",), interval_s=5 * MINUTE)))
    desk.fire(0, "a", "b")
    desk.fire(1, "c")
    expected = [
        (10 * MINUTE, "pager", "escalation", ["a.1", "b.1"]),
        (15 * MINUTE, "pager", "escalation", ["c.1"]),
    ]
    assert expected == desk.run(100 * MINUTE)
