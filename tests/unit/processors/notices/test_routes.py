"""Which receivers an alert is led to, and how alerts are grouped."""

import pytest

from processors.notices import engine, routing
from processors.notices.config import NoticePlan, Route
from tests.unit.processors.notices.desk import Desk, alert, plan, route, suppressed


def receivers(notice_plan: NoticePlan, **fields: object) -> list[str]:
    """Return who is told of one alert."""
    desk = Desk(notice_plan)
    desk.fire(0, "a", **fields)
    return [receiver for _, receiver, _, _ in desk.run(1000)]


ROUTES = plan(
    route("on-call", "mail", match=["severity=critical"], goes_on=True),
    route("depot", match=["site~depot-.*", "rule!=silent"]),
    route("chat"),
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"severity": "critical"}, ["mail", "on-call", "chat"]),
        ({"severity": "critical", "site": "depot-nord"}, ["mail", "on-call", "depot"]),
        ({"site": "depot-nord"}, ["depot"]),
        ({"site": "depot-nord", "rule": "silent"}, ["chat"]),
        ({"site": "other-depot-1"}, ["chat"]),
        ({"site": None}, ["chat"]),
    ],
    ids=["goes on", "goes on to the depot", "first match", "one of two matchers", "whole value", "no site"],
)
def test_first_matching_route_is_the_last_unless_it_goes_on(fields: dict[str, object], expected: list[str]) -> None:
    """Routes are asked in order; expressions match whole values."""
    assert expected == receivers(ROUTES, **fields)


def test_receiver_of_two_routes_is_told_once() -> None:
    """The first route that names a receiver is the one by which it is told."""
    both = plan(route("chat", match=["severity=warning"], wait_s=0, goes_on=True), route("chat", "mail", wait_s=5))
    desk = Desk(both)
    desk.fire(0, "a")
    assert [(0, "chat", "firing", ["a.1"]), (5, "mail", "firing", ["a.1"])] == desk.run(100)


def test_like_routes_to_different_receivers_keep_their_own_times() -> None:
    """Two routes that differ in nothing but receiver and times are two routes."""
    desk = Desk(plan(route("chat", wait_s=5, goes_on=True), route("mail", wait_s=50)))
    desk.fire(0, "a")
    assert [(5, "chat", "firing", ["a.1"]), (50, "mail", "firing", ["a.1"])] == desk.run(100)


def test_tenants_never_share_a_notice() -> None:
    """A group by nothing is still one for each tenant."""
    desk = Desk(plan(route("chat", group_by=(), wait_s=0)))
    desk.fire(0, "a")
    desk.fire(0, "b", tenant="other")
    assert [{"tenant": "acme"}, {"tenant": "other"}] == [notice.group for notice in (desk.run(0), desk.notices)[1]]


def test_empty_plan_tells_nobody() -> None:
    """Without receivers alerts are followed and nothing is due."""
    desk = Desk(NoticePlan())
    desk.fire(0, "a")
    assert [] == desk.look(0)
    assert desk.engine.next_due_us() is None
    desk.resolve(1, "a")
    assert 0 == desk.engine.sizes["alerts"]


def test_site_that_changes_does_not_move_an_alert() -> None:
    """An alert stays in the group it fired in, so that its end is told where its beginning was."""
    desk = Desk(plan(route("chat", match=["site=nord"], group_by=("site",), wait_s=0, repeat_s=None)))
    desk.fire(0, "a", site="nord")
    desk.run(0)
    moved = alert("a", site="sued", revision=2, state="resolved")
    desk.engine.take(moved, moved.at_us)
    assert [("resolved", "nord")] == [(notice.reason, notice.group["site"]) for notice in desk.engine.due(2**51)]


def test_notice_holds_the_worst_and_the_rest_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound of one notice alerts are counted in it and told in the next."""
    monkeypatch.setattr(engine, "NOTICE_NEWS_MAX", 2)
    desk = Desk(plan(route("chat", group_by=("device",), wait_s=0, interval_s=60, repeat_s=None)))
    desk.fire(0, "a", "b", severity="info")
    desk.fire(0, "c", severity="critical")
    assert [(0, "chat", "firing", ["c.1", "a.1"]), (60, "chat", "changed", ["b.1"])] == desk.run(1000)
    assert [1, 2] == [notice.others for notice in desk.notices]


def test_too_many_groups_become_coarse_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound alerts of new groups share one for their tenant; none is missing."""
    monkeypatch.setattr(routing, "NOTICE_GROUPS_MAX", 2)
    desk = Desk(plan(route("chat", group_by=("device",), wait_s=0, repeat_s=None)))
    for n in range(5):
        desk.fire(0, f"a{n}", device_id=f"bus-{n}")
    told = desk.run(0)
    assert [["a2.1", "a3.1", "a4.1"], ["a0.1"], ["a1.1"]] == [names for _, _, _, names in told]
    assert {"tenant": "acme"} == desk.notices[0].group


def test_too_many_alerts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound an alert is not routed, and said to be."""
    monkeypatch.setattr(routing, "ALERTS_ROUTED_MAX", 1)
    desk = Desk(plan(route("chat", wait_s=0)))
    desk.fire(0, "a", "b")
    assert [(0, "chat", "firing", ["a.1"])] == desk.run(0)
    assert {"full": 1} == suppressed(desk)


def test_too_many_members_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound of memberships the receivers that come later in the file are not told."""
    monkeypatch.setattr(routing, "NOTICE_MEMBERS_MAX", 1)
    desk = Desk(plan(route("chat", "mail", wait_s=0)))
    desk.fire(0, "a")
    assert [(0, "chat", "firing", ["a.1"])] == desk.run(0)
    assert {"full": 1} == suppressed(desk)


def test_too_many_tests_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests past the bound are not made."""
    monkeypatch.setattr(engine, "TESTS_QUEUED_MAX", 1)
    desk = Desk(plan(Route(to=("chat",))))
    desk.test(0, "chat")
    desk.test(0, "chat")
    assert [(0, "chat", "test", [])] == desk.run(0)
    assert {"full": 1} == suppressed(desk)
