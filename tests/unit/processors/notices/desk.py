"""A desk at which alerts come in at set times, for timelines that read like a story."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from processors.notices.config import Escalation, NoticePlan, Receiver, Route
from processors.notices.engine import Notice, Notices
from processors.stages.alert_record import AlertEvent, LifeState, SilenceEvent, TestOrder, read_matchers

START_US = 1_772_352_000_000_000
"""2026-03-01 08:00 UTC, a Sunday; times of a desk are seconds after it."""

Told = tuple[float, str, str, list[str]]
"""When, whom, why, and which alerts."""


def alert(name: str, **fields: Any) -> AlertEvent:
    """Return the first revision of an alert; `name` is its id and, if nothing else is said, its rule."""
    usual: dict[str, Any] = {
        "offset": 1,
        "received_at_us": START_US,
        "revision": 1,
        "tenant": "acme",
        "device_id": "bus-1",
        "part": None,
        "site": "nord",
        "stream": "battery_pack",
        "rule": name,
        "severity": "warning",
        "state": "firing",
        "title": name,
        "at_us": START_US,
        "since_us": START_US,
        "fired_at_us": START_US,
        "value": None,
        "limit": None,
        "unit": "",
        "evidence": {},
        "source": "",
        "check": "",
        "inhibits": (),
    }
    return AlertEvent(alert_id=name, **(usual | fields))


def plan(*entries: Route | Escalation, receivers: Iterable[str] = (), **rest: Any) -> NoticePlan:
    """Return a plan of routes and escalations, whose receivers exist."""
    names = {name for entry in entries for name in entry.to} | set(receivers)
    return NoticePlan(
        receivers={name: Receiver(name=name, kind="webhook") for name in sorted(names)},
        routes=tuple(entry for entry in entries if isinstance(entry, Route)),
        escalations=tuple(entry for entry in entries if isinstance(entry, Escalation)),
        **rest,
    )


def route(*to: str, match: Iterable[str] = (), **rest: Any) -> Route:
    """Return a route."""
    return Route(matchers=read_matchers(list(match)) if match else (), to=to, **rest)


class Desk:
    """An engine, the newest revision of every alert, and all that was told so far."""

    def __init__(self, notice_plan: NoticePlan) -> None:
        self.plan = notice_plan
        self.engine = Notices(notice_plan)
        self.alerts: dict[str, AlertEvent] = {}
        self.notices: list[Notice] = []

    def fire(self, at_s: float, *names: str, **fields: Any) -> None:
        """Let alerts fire that are new, or over."""
        for name in names:
            known = self.alerts.get(name)
            revision = 1 if known is None else known.revision + 1
            self._take(at_s, alert(name, **(fields | {"revision": revision})))

    def ack(self, at_s: float, name: str) -> None:
        """Acknowledge an alert."""
        self._turn(at_s, name, "acknowledged")

    def unack(self, at_s: float, name: str) -> None:
        """Take an acknowledgement back."""
        self._turn(at_s, name, "firing")

    def resolve(self, at_s: float, *names: str) -> None:
        """Let alerts end."""
        for name in names:
            self._turn(at_s, name, "resolved")

    def silence(self, at_s: float, until_s: float, *match: str, starts_s: float | None = None, **fields: Any) -> None:
        """Silence what matches."""
        event = SilenceEvent(
            offset=2,
            received_at_us=us(at_s),
            silence_id=fields.pop("silence_id", "s1"),
            tenant=fields.pop("tenant", "acme"),
            matchers=read_matchers(list(match)),
            starts_at_us=us(at_s if starts_s is None else starts_s),
            ends_at_us=us(until_s),
            by="anna",
            why="noise",
            **fields,
        )
        self.engine.take(event, us(at_s))

    def test(self, at_s: float, receiver: str) -> None:
        """Order a test."""
        self.engine.take(TestOrder(offset=7, tenant="acme", receiver=receiver, by="anna"), us(at_s))

    def run(self, until_s: float) -> list[Told]:
        """Run as a notifier would, waking up when the engine asks; return what was told since the last call."""
        told: list[Told] = []
        for _ in range(10_000):
            at_us = self.engine.next_due_us()
            if at_us is None or at_us > us(until_s):
                return told
            told += self.look(seconds(at_us))
        raise AssertionError("the engine asks to be woken for ever")

    def look(self, at_s: float) -> list[Told]:
        """Ask once what is due at that moment."""
        notices = self.engine.due(us(at_s))
        self.notices += notices
        return [(at_s, one.receiver, one.reason, [event.event_id for event in one.alerts]) for one in notices]

    def restart(self, at_s: float, notice_plan: NoticePlan | None = None) -> None:
        """Go on from bytes, perhaps under another plan."""
        self.plan = notice_plan or self.plan
        payload = self.engine.to_bytes()
        self.engine = Notices.from_bytes(payload, plan=self.plan, alerts=self.alerts.values(), now_us=us(at_s))

    def _turn(self, at_s: float, name: str, state: LifeState) -> None:
        known = self.alerts[name]
        self._take(at_s, msgspec.structs.replace(known, revision=known.revision + 1, state=state))

    def _take(self, at_s: float, event: AlertEvent) -> None:
        self.alerts[event.alert_id] = event
        self.engine.take(event, us(at_s))


def us(at_s: float) -> int:
    """Return a desk's time as microseconds since 1970."""
    return START_US + round(at_s * 1_000_000)


def seconds(at_us: int) -> float:
    """Invert `us`."""
    return (at_us - START_US) / 1_000_000


def suppressed(desk: Desk) -> Mapping[str, int]:
    """Return the engine's counts."""
    return desk.engine.suppressed
