"""When a group tells its receiver: wait, interval, repeat."""

from tests.unit.processors.notices.desk import Desk, plan, route, suppressed

HOUR = 3600.0


def test_first_notice_waits_for_company() -> None:
    """What fires within `wait` of the first alert is told with it, the worst first."""
    desk = Desk(plan(route("chat", group_by=("device",), wait_s=30, repeat_s=None)))
    desk.fire(0, "a")
    desk.fire(10, "b", severity="critical")
    desk.fire(29, "other", device_id="bus-2")
    assert [(30, "chat", "firing", ["b.1", "a.1"]), (59, "chat", "firing", ["other.1"])] == desk.run(HOUR)
    assert [{"tenant": "acme", "device": "bus-1"}, {"tenant": "acme", "device": "bus-2"}] == [
        notice.group for notice in desk.notices
    ]


def test_no_wait_tells_at_once() -> None:
    """A route without `wait` tells in the moment of the event."""
    desk = Desk(plan(route("pager", wait_s=0)))
    desk.fire(5, "a")
    assert [(5, "pager", "firing", ["a.1"])] == desk.run(5)


def test_news_of_a_group_comes_an_interval_after_the_last_notice() -> None:
    """What comes soon after a notice is told together, `interval` after it; what comes late waits `wait` alone."""
    desk = Desk(plan(route("chat", group_by=("device",), wait_s=30, interval_s=300, repeat_s=None)))
    desk.fire(0, "a")
    desk.run(40)
    desk.fire(41, "b")
    desk.fire(200, "c")
    assert [(330, "chat", "changed", ["b.1", "c.1"])] == desk.run(1000)
    desk.fire(1000, "d")
    assert [(1030, "chat", "changed", ["d.1"])] == desk.run(2000)
    assert [0, 1, 3] == [notice.others for notice in desk.notices]


def test_end_is_told_once_to_who_knows_of_the_beginning() -> None:
    """The last end of a group is `resolved`; an earlier one is `changed`, and tells how many go on."""
    desk = Desk(plan(route("chat", group_by=("device",), wait_s=0, interval_s=60, repeat_s=None)))
    desk.fire(0, "a", "b")
    desk.run(0)
    desk.resolve(10, "a")
    assert [(60, "chat", "changed", ["a.2"])] == desk.run(99)
    assert 1 == desk.notices[-1].others
    desk.resolve(100, "b")
    assert [(120, "chat", "resolved", ["b.2"])] == desk.run(HOUR)
    assert {"alerts": 0, "groups": 0, "members": 0, "silences": 0} == desk.engine.sizes
    assert desk.engine.next_due_us() is None


def test_what_is_over_before_it_was_told_is_never_told() -> None:
    """An alert shorter than `wait` is counted, and neither its beginning nor its end is told."""
    desk = Desk(plan(route("chat", wait_s=30)))
    desk.fire(0, "a")
    desk.run(10)
    desk.resolve(10, "a")
    assert [] == desk.run(HOUR)
    assert {"resolved": 1} == suppressed(desk)
    assert 0 == desk.engine.sizes["alerts"]


def test_flapping_does_not_put_off_the_first_notice() -> None:
    """`wait` begins with the first of several short stays."""
    desk = Desk(plan(route("chat", wait_s=30)))
    for at in (0, 8, 16, 24):
        desk.fire(at, "a")
        desk.run(at)
        desk.resolve(at + 4, "a")
        desk.run(at + 4)
    desk.fire(29, "a")
    assert [(30, "chat", "firing", ["a.9"])] == desk.run(40)


def test_stay_that_comes_back_within_the_interval_is_no_news() -> None:
    """Who knows that it fires need not know that it did not for a moment."""
    desk = Desk(plan(route("chat", wait_s=0, interval_s=60, repeat_s=None)))
    desk.fire(0, "a")
    desk.run(0)
    desk.resolve(10, "a")
    desk.run(10)
    desk.fire(20, "a")
    assert [] == desk.run(HOUR)
    desk.resolve(HOUR, "a")
    assert [(HOUR, "chat", "resolved", ["a.4"])] == desk.run(2 * HOUR)


def test_end_and_new_beginning_are_an_interval_apart() -> None:
    """A group that ended keeps its interval, so that a loose contact cannot send faster."""
    desk = Desk(plan(route("chat", wait_s=0, interval_s=60, repeat_s=None)))
    desk.fire(0, "a")
    desk.resolve(0.5, "a")
    desk.fire(1, "a")
    desk.run(1)
    desk.resolve(2, "a")
    assert [(61, "chat", "resolved", ["a.4"])] == desk.run(62)
    desk.fire(63, "a")
    assert [(121, "chat", "firing", ["a.5"])] == desk.run(HOUR)


def test_repeat_tells_all_that_still_fires() -> None:
    """`repeat` after the first notice everything that fires is told again, whatever was told between."""
    desk = Desk(plan(route("chat", group_by=("device",), wait_s=0, interval_s=60, repeat_s=HOUR)))
    desk.fire(0, "a", "c")
    desk.run(0)
    desk.fire(1800, "b")
    desk.run(1800)
    desk.resolve(1900, "c")
    desk.run(1900)
    assert [(HOUR, "chat", "repeat", ["a.1", "b.1"])] == desk.run(HOUR)
    assert [(2 * HOUR, "chat", "repeat", ["a.1", "b.1"])] == desk.run(3 * HOUR - 1)
    assert 5 == len({notice.notice_id for notice in desk.notices})


def test_acknowledged_alerts_are_told_as_such_and_not_repeated() -> None:
    """Others learn that somebody cares; then there is silence, until somebody does not any more."""
    desk = Desk(plan(route("chat", wait_s=0, interval_s=60, repeat_s=HOUR)))
    desk.fire(0, "a")
    desk.run(0)
    desk.ack(100, "a")
    assert [(100, "chat", "changed", ["a.2"])] == desk.run(10 * HOUR)
    desk.unack(10 * HOUR, "a")
    assert [(10 * HOUR, "chat", "changed", ["a.3"]), (10 * HOUR + 60, "chat", "repeat", ["a.3"])] == desk.run(
        10 * HOUR + 70
    )


def test_acknowledged_before_it_was_told_is_not_told() -> None:
    """Somebody cares already; it is told if they give it back."""
    desk = Desk(plan(route("chat", wait_s=30)))
    desk.fire(0, "a")
    desk.ack(10, "a")
    assert [] == desk.run(100)
    assert {"acknowledged": 1} == suppressed(desk)
    desk.unack(100, "a")
    assert [(100, "chat", "firing", ["a.3"])] == desk.run(110)


def test_old_revision_is_ignored() -> None:
    """What was read before changes nothing."""
    desk = Desk(plan(route("chat", wait_s=0)))
    desk.fire(0, "a")
    first = desk.alerts["a"]
    desk.resolve(1, "a")
    desk.engine.take(first, desk.notices[-1].created_at_us if desk.notices else 1_772_352_002_000_000)
    assert [] == desk.run(10)
    assert {"resolved": 1} == suppressed(desk)


def test_clock_that_goes_back_delays_nothing() -> None:
    """Spans go on from where they were, however far the clock jumps."""
    desk = Desk(plan(route("chat", wait_s=30)))
    desk.fire(0, "a")
    assert [] == desk.look(10)
    assert [] == desk.look(-50 * HOUR)
    assert [] == desk.look(-50 * HOUR + 19)
    assert [(-50 * HOUR + 20, "chat", "firing", ["a.1"])] == desk.run(-50 * HOUR + 21)


def test_test_notice_goes_out_at_once() -> None:
    """It names who ordered it and no alert; a receiver that does not exist is counted."""
    desk = Desk(plan(route("chat")))
    desk.test(3, "chat")
    desk.test(3, "nobody")
    assert [(3, "chat", "test", [])] == desk.run(4)
    assert "anna" == desk.notices[0].by
    assert {"unknown_receiver": 1} == suppressed(desk)


def test_second_turn_does_not_put_off_the_first() -> None:
    """`wait` begins with the first turn that the receiver does not know of."""
    desk = Desk(plan(route("chat", wait_s=30, repeat_s=None)))
    desk.fire(0, "a")
    desk.run(400)
    desk.ack(400, "a")
    desk.run(420)
    desk.resolve(420, "a")
    assert [(430, "chat", "resolved", ["a.3"])] == desk.run(HOUR)


def test_clock_that_went_back_before_a_restart_delays_nothing() -> None:
    """The engine's own time is kept."""
    desk = Desk(plan(route("chat", wait_s=30)))
    desk.fire(0, "a")
    desk.look(10)
    desk.look(-50 * HOUR)
    desk.restart(-50 * HOUR + 5)
    assert [(-50 * HOUR + 20, "chat", "firing", ["a.1"])] == desk.run(-50 * HOUR + 21)
