"""Silences, maintenance windows and inhibition hold notices back, and let them go."""

import pytest

from processors.notices import quiet
from processors.notices.calendar import Maintenance
from processors.stages.alert_record import read_matchers
from tests.unit.processors.notices.desk import Desk, plan, route, suppressed

HOUR = 3600.0
AT_ONCE = plan(route("chat", group_by=("device",), wait_s=0, interval_s=60, repeat_s=HOUR))


def test_silenced_alert_is_told_when_the_silence_ends() -> None:
    """A silence holds back what it matches, until it ends, and nothing else."""
    desk = Desk(AT_ONCE)
    desk.silence(0, 500, "device=bus-1", "rule~a|c")
    desk.fire(10, "a")
    assert [] == desk.look(10)
    desk.fire(20, "b")
    assert [(20, "chat", "firing", ["b.1"])] == desk.run(20)
    desk.fire(30, "a2", rule="a", device_id="bus-2")
    assert [(30, "chat", "firing", ["a2.1"]), (500, "chat", "changed", ["a.1"])] == desk.run(1000)
    assert {"silence": 1} == suppressed(desk)


def test_silenced_alert_that_is_over_is_never_told() -> None:
    """What fired and ended in silence stays there."""
    desk = Desk(AT_ONCE)
    desk.silence(0, 500, "device=bus-1")
    desk.fire(10, "a")
    desk.run(10)
    desk.resolve(100, "a")
    assert [] == desk.run(HOUR)
    assert [] == desk.look(HOUR)
    assert 0 == desk.engine.sizes["silences"]


def test_end_is_told_in_silence_to_who_knows_of_the_beginning() -> None:
    """A silence does not leave an incident open at a receiver."""
    desk = Desk(AT_ONCE)
    desk.fire(0, "a")
    desk.run(0)
    desk.silence(10, HOUR, "device=bus-1")
    desk.resolve(100, "a")
    assert [(100, "chat", "resolved", ["a.2"])] == desk.run(200)


def test_silence_holds_back_repeats_and_acknowledgements() -> None:
    """When it ends, what was due meanwhile is told: once."""
    desk = Desk(AT_ONCE)
    desk.fire(0, "a", "b")
    desk.run(0)
    desk.silence(10, 3 * HOUR, "device=bus-1")
    desk.ack(100, "b")
    assert [] == desk.run(3 * HOUR - 1)
    told = [(3 * HOUR, "chat", "changed", ["b.2"]), (3 * HOUR + 60, "chat", "repeat", ["a.1"])]
    assert told == desk.run(3 * HOUR + 100)


def test_removed_silence_ends_at_once() -> None:
    """The newest word about a silence counts."""
    desk = Desk(AT_ONCE)
    desk.silence(0, HOUR, "device=bus-1")
    desk.fire(1, "a")
    assert [] == desk.run(2)
    desk.silence(50, HOUR, "device=bus-1", removed=True)
    assert [(50, "chat", "firing", ["a.1"])] == desk.run(60)


def test_silence_of_another_tenant_changes_nothing() -> None:
    """Who silences may do so for their own tenant only."""
    desk = Desk(AT_ONCE)
    desk.silence(0, HOUR, "device=bus-1", tenant="other")
    desk.fire(1, "a")
    assert [(1, "chat", "firing", ["a.1"])] == desk.run(2)


def test_silence_that_begins_later_counts_from_then_on() -> None:
    """An alert before its beginning is told, one after it is not."""
    desk = Desk(AT_ONCE)
    desk.silence(0, HOUR, "tenant=acme", starts_s=100)
    desk.fire(1, "a")
    desk.run(50)
    desk.fire(101, "b")
    assert [] == desk.run(200)
    assert ["a.1"] == [event.event_id for notice in desk.notices for event in notice.alerts]


def test_too_many_silences_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One past the bound silences nothing; those that are there stay."""
    monkeypatch.setattr(quiet, "SILENCES_MAX", 1)
    desk = Desk(AT_ONCE)
    desk.silence(0, HOUR, "rule=a")
    desk.silence(0, HOUR, "rule=b", silence_id="s2")
    desk.fire(0, "a", "b")
    assert [(0, "chat", "firing", ["b.1"])] == desk.run(10)
    assert {"full": 1, "silence": 1} == suppressed(desk)


def test_silence_for_maintenance_is_counted_as_such() -> None:
    """Work on devices is no noise."""
    desk = Desk(AT_ONCE)
    desk.silence(0, HOUR, "rule=a", kind="maintenance")
    desk.fire(0, "a")
    assert [] == desk.run(10)
    assert {"maintenance": 1} == suppressed(desk)


def test_maintenance_window_holds_back_and_lets_go() -> None:
    """The window of Sunday 10:00 to 11:00 in Berlin, twice."""
    window = Maintenance(
        matchers=read_matchers(["site=nord"]), days=(6,), from_min=600, until_min=660, zone="Europe/Berlin"
    )
    desk = Desk(plan(route("chat", group_by=("device",), wait_s=0, repeat_s=None), maintenance=(window,)))
    begins, ends, week = HOUR, 2 * HOUR, 7 * 24 * HOUR  # 08:00 UTC is 09:00 in Berlin
    desk.fire(begins - 1, "a", device_id="bus-1")
    desk.fire(begins - 1, "d", device_id="bus-4", site="sued")
    desk.look(begins - 1)
    desk.fire(begins, "b", device_id="bus-2")
    assert [] == desk.run(ends - 1)
    assert (ends, "chat", "firing", ["b.1"]) == desk.run(ends)[0]
    assert {"maintenance": 1} == suppressed(desk)
    desk.resolve(ends, "a", "b", "d")
    desk.run(3 * HOUR)
    desk.fire(week + begins + 60, "e")
    assert [(week + ends, "chat", "firing", ["e.1"])] == desk.run(week + ends)


def test_inhibited_alert_is_told_when_the_inhibiting_one_ends() -> None:
    """A charger that is offline says all that there is to say about its connectors, and about no other charger."""
    desk = Desk(AT_ONCE)
    inhibits = ("charger_status/faulted",)
    desk.fire(0, "offline", device_id="c1", inhibits=inhibits)
    desk.fire(0, "faulted", device_id="c1", part="2", stream="charger_status")
    desk.fire(0, "other", device_id="c2", stream="charger_status", rule="faulted")
    desk.fire(0, "far", device_id="c1", tenant="other", stream="charger_status", rule="faulted")
    assert [["offline.1"], ["other.1"], ["far.1"]] == [names for _, _, _, names in desk.run(100)]
    assert {"inhibited": 1} == suppressed(desk)
    desk.ack(100, "offline")
    assert [["offline.2"]] == [names for _, _, _, names in desk.run(200)]
    desk.resolve(300, "offline")
    assert [(300, "chat", "changed", ["faulted.1", "offline.3"])] == desk.run(400)


def test_inhibiting_alert_that_comes_within_the_wait_is_in_time() -> None:
    """`wait` lets the cause arrive after its effect."""
    desk = Desk(plan(route("chat", group_by=("device",), wait_s=30, repeat_s=None)))
    desk.fire(0, "faulted")
    desk.fire(20, "offline", inhibits=("battery_pack/faulted",))
    assert [(50, "chat", "firing", ["offline.1"])] == desk.run(1000)


def test_rule_does_not_inhibit_its_own_alert() -> None:
    """A rule that names itself tells of one part while another fires, and not of its own."""
    desk = Desk(AT_ONCE)
    desk.fire(0, "a", inhibits=("battery_pack/a",))
    assert [(0, "chat", "firing", ["a.1"])] == desk.run(10)


def test_inhibition_reaches_groups_that_the_inhibiting_alert_is_not_in() -> None:
    """Its end lets go what other groups, and other receivers, were not told."""
    desk = Desk(plan(route("chat", match=["rule=offline"]), route("mail", group_by=("rule",), wait_s=0)))
    desk.fire(0, "offline", inhibits=("battery_pack/faulted",))
    desk.fire(0, "faulted")
    assert [] == desk.run(20)
    desk.resolve(20, "offline")
    assert [(20, "mail", "firing", ["faulted.1"])] == desk.run(100)
