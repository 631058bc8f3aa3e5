"""A group of alerts at one receiver: what it was told, what is new, and when it may be told again."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from processors.notices.config import ESCALATION, Escalation, NoticePlan, Route
from processors.stages.alert_record import AlertEvent, LifeState, Matcher

Told = LifeState | Literal["leaving"]
"""State of an alert that the receiver knows; of one that is led elsewhere by now, only its end is still told."""
LEAVING: Final = "leaving"
_SECOND_US: Final = 1_000_000


class GroupKey(NamedTuple):
    """Name of a group.

    Attributes:
        way: Fingerprint of its route or escalation.
        receiver: Who is told.
        labels: (label, value) that its alerts share, the tenant first.
    """

    way: str
    receiver: str
    labels: tuple[tuple[str, str], ...]

    @property
    def is_escalation(self) -> bool:
        """Whether an escalation leads there."""
        return self.way.startswith(ESCALATION)


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """What routes and escalations have in common; times in microseconds."""

    fingerprint: str
    place: int
    matchers: tuple[Matcher, ...] = ()
    to: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    wait_us: int
    interval_us: int
    repeat_us: int | None = None
    goes_on: bool = True
    is_escalation: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether an alert with these labels goes this way."""
        return all(matcher.matches(labels) for matcher in self.matchers)

    def key(self, receiver: str, labels: Mapping[str, str], *, is_coarse: bool = False) -> GroupKey:
        """Return the group of an alert at a receiver; the coarse one shares the tenant alone."""
        names = () if is_coarse else self.group_by
        shared = {"tenant": labels["tenant"]} | {name: labels[name] for name in names}
        return GroupKey(self.fingerprint, receiver, tuple(shared.items()))


GONE: Final = Way(fingerprint="", place=1_000_000, wait_us=0, interval_us=300 * _SECOND_US)
"""Way of groups whose route was taken out of the plan: they are told of ends, with the usual times."""


def ways_of(plan: NoticePlan) -> tuple[Way, ...]:
    """Return the routes of a plan in their order, then the escalations."""
    routes = [_by_route(place, route) for place, route in enumerate(plan.routes)]
    return (*routes, *(_by_escalation(len(routes) + place, one) for place, one in enumerate(plan.escalations)))


def _by_route(place: int, route: Route) -> Way:
    return Way(
        fingerprint=route.fingerprint(),
        place=place,
        matchers=route.matchers,
        to=route.to,
        group_by=route.group_by,
        wait_us=_us(route.wait_s),
        interval_us=_us(route.interval_s),
        repeat_us=None if route.repeat_s is None else _us(route.repeat_s),
        goes_on=route.goes_on,
    )


def _by_escalation(place: int, escalation: Escalation) -> Way:
    return Way(
        fingerprint=escalation.fingerprint(),
        place=place,
        matchers=escalation.matchers,
        to=escalation.to,
        group_by=escalation.group_by,
        wait_us=_us(escalation.after_s),
        interval_us=_us(escalation.interval_s),
        is_escalation=True,
    )


def _us(span_s: float) -> int:
    return round(span_s * _SECOND_US)


class Group(msgspec.Struct, kw_only=True):
    """A group; times are the engine's own, in microseconds.

    Attributes:
        opened_us: When it came about.
        told: Alert id -> state that the receiver knows; never resolved, because that is the end of it.
        news: Alert id -> since when its state is another than the receiver knows.
        kept: Alert id -> why its news is held back; each was counted once.
        sent: Notices made.
        sent_us: When the newest was made.
        whole_us: When all that fires was told last: in the first notice, or a repeat.
    """

    key: GroupKey
    opened_us: int
    told: dict[str, Told] = {}
    news: dict[str, int] = {}
    kept: dict[str, str] = {}
    sent: int = 0
    sent_us: int | None = None
    whole_us: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the receiver knows of an alert that goes on, and is still led here."""
        return any(state != LEAVING for state in self.told.values())

    @property
    def is_empty(self) -> bool:
        """Whether no alert is in it."""
        return not self.told and not self.news

    def holds(self, alert_id: str) -> bool:
        """Return whether an alert is in it."""
        return alert_id in self.told or alert_id in self.news

    def join(self, alert_id: str, now_us: int) -> None:
        """Take in an alert that the receiver does not know."""
        self.news.setdefault(alert_id, now_us)

    def leave(self, alert_id: str) -> None:
        """Forget an alert."""
        self.told.pop(alert_id, None)
        self.news.pop(alert_id, None)
        self.kept.pop(alert_id, None)

    def turn(self, event: AlertEvent, now_us: int) -> None:
        """Take in that an alert's state changed."""
        told = self.told.get(event.alert_id)
        if told is None:
            if self.key.is_escalation and event.state == "resolved":
                self.leave(event.alert_id)
            elif self.key.is_escalation and event.state == "firing":
                # Unacknowledged from now on: the time begins anew.
                self.news[event.alert_id] = now_us
                self.kept.pop(event.alert_id, None)
        elif told == event.state or (told == LEAVING and event.is_open):
            self.news.pop(event.alert_id, None)
            self.kept.pop(event.alert_id, None)
        else:
            self.news.setdefault(event.alert_id, now_us)

    def stay(self, event: AlertEvent, now_us: int) -> None:
        """Lead an alert here again that was on its way to other receivers."""
        if self.told.get(event.alert_id) == LEAVING:
            self.told[event.alert_id] = "firing"
            self.turn(event, now_us)

    def tell(self, event: AlertEvent) -> None:
        """Note that the receiver knows an alert's state."""
        self.news.pop(event.alert_id, None)
        self.kept.pop(event.alert_id, None)
        if event.is_open:
            self.told[event.alert_id] = event.state
        else:
            self.told.pop(event.alert_id, None)

    def take_over(self, old: "Group", alert_id: str) -> None:
        """Take an alert out of another group of the same receiver, with all that the receiver knows of it."""
        self.leave(alert_id)
        if alert_id in old.told:
            self.told[alert_id] = old.told[alert_id]
        if alert_id in old.news:
            self.news[alert_id] = old.news[alert_id]
        if alert_id in old.kept:
            self.kept[alert_id] = old.kept[alert_id]
        old.leave(alert_id)
        self.sent_us = _later(self.sent_us, old.sent_us)
        self.whole_us = _later(self.whole_us, old.whole_us)

    def may_send_us(self, way: Way) -> int:
        """Return from when on a notice may be made."""
        return self.opened_us if self.sent_us is None else self.sent_us + way.interval_us

    def repeat_us(self, way: Way) -> int | None:
        """Return from when on what fires is told again, None for never."""
        if way.repeat_us is None or self.whole_us is None or not self.told:
            return None
        return max(self.whole_us + way.repeat_us, self.may_send_us(way))


def _later(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)
