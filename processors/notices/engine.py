"""Who is told what, when: a function of what is taken in. The same calls give the same notices under the same names.

An alert is led to receivers by routes and escalations when it fires, and in each of them belongs to one group of alerts
with like labels. A group tells its receiver what is *new* to it: alerts whose state is another than it was told.

    news is told         once the oldest of it waited `wait`, `interval` after the group's last notice
    news is held back    while a silence, a maintenance window or an inhibiting alert covers the alert, and while
                         somebody acknowledged it before the receiver knew of it
    an end is told       to who was told of the beginning, and never held back: it closes what was opened

Silences and windows follow the clock; spans are measured on a clock of the engine's own, which never goes back.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.core.errors import CheckpointError
from gateway.core.limits import NOTICE_NEWS_MAX, TESTS_QUEUED_MAX
from processors.notices.config import NoticePlan
from processors.notices.groups import LEAVING, Group, GroupKey, Way
from processors.notices.notice import Notice, Reason, name_of, test_notice, worst_first
from processors.notices.routing import SUPPRESSED_REASONS, Routing
from processors.stages.alert_record import AlertEvent, LifeEvent, LifeState, SilenceEvent, TestOrder

__all__ = ["SUPPRESSED_REASONS", "Notice", "Notices"]

_VERSION: Final = 1


class _Packed(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    digest: str
    now_us: int
    ahead_us: int
    alerts: list[tuple[str, int, LifeState]]
    groups: list[Group]
    silences: list[SilenceEvent]
    tests: list[TestOrder]


class Notices:
    """The engine. Not safe to share between threads.

    Args:
        plan: Receivers, routes, escalations, maintenance windows.
    """

    def __init__(self, plan: NoticePlan) -> None:
        self._plan = plan
        self._routing = Routing(plan)
        self._next: dict[GroupKey, int] = {}
        self._tests: list[TestOrder] = []
        self._now_us = 0
        self._ahead_us = 0

    @property
    def suppressed(self) -> dict[str, int]:
        """Reason (of SUPPRESSED_REASONS) -> notices not made since this object was."""
        return dict(self._routing.suppressed)

    @property
    def sizes(self) -> dict[str, int]:
        """What is held: alerts, groups, members of groups, silences."""
        routing = self._routing
        return {
            "alerts": len(routing.alerts),
            "groups": len(routing.groups),
            "members": routing.members,
            "silences": len(routing.quiet.silences),
        }

    # ---- in ----------------------------------------------------------------------------------------------------------
    def take(self, event: LifeEvent, now_us: int) -> None:
        """Take in what happened; `due` says what follows. A revision that is not newer than the known one is ignored.

        Args:
            event: An entry of the results journal.
            now_us: The time, UTC microseconds.
        """
        now = self._advance(now_us)
        match event:
            case AlertEvent():
                self._routing.take_alert(event, now)
            case SilenceEvent():
                self._routing.take_silence(event)
            case TestOrder():
                if len(self._tests) >= TESTS_QUEUED_MAX:
                    self._routing.count("full")
                elif event.receiver not in self._plan.receivers:
                    self._routing.count("unknown_receiver")
                else:
                    self._tests.append(event)

    def reload(self, plan: NoticePlan, now_us: int) -> None:
        """Go on under another plan: nobody is told again what they know, and who is no longer asked is told of ends."""
        now = self._advance(now_us)
        is_same = plan.digest() == self._plan.digest()
        self._plan = plan
        self._routing.take_plan(plan, now, now_us, is_same=is_same)

    # ---- out ---------------------------------------------------------------------------------------------------------
    def due(self, now_us: int) -> list[Notice]:
        """Return the notices that are to be sent now, each once.

        Args:
            now_us: The time, UTC microseconds.
        """
        now = self._advance(now_us)
        notices = [test_notice(order, now_us) for order in self._tests if order.receiver in self._plan.receivers]
        self._tests.clear()
        ripe = self._routing.changed.union(key for key, at in self._next.items() if at <= now)
        self._routing.changed.clear()
        for key in sorted(ripe & self._routing.groups.keys(), key=self._order):
            notices += self._look(self._routing.groups[key], now, now_us)
        return notices

    def next_due_us(self) -> int | None:
        """Return when `due` has something to do; None where it has not, the time of the last call if right now."""
        if self._routing.changed or self._tests:
            return self._now_us - self._ahead_us
        moments = [at - self._ahead_us for at in self._next.values()]
        if self._routing.quiet.next_us is not None and self._routing.groups:
            moments.append(self._routing.quiet.next_us)
        return min(moments, default=None)

    def _look(self, group: Group, now: int, now_us: int) -> list[Notice]:
        """Make the notice that a group owes its receiver, if any; note when to look again."""
        way = self._routing.way(group.key)
        notices: list[Notice] = []
        ready, ripe_us, again_us = self._sort_out(group, way, now)
        may_us = group.may_send_us(way)
        moments = [again_us]
        if ready and max(ripe_us, may_us) <= now:
            notices.append(self._news(group, ready, now, now_us))
            may_us = group.may_send_us(way)
            moments.append(may_us if group.news else None)
        elif ready:
            moments.append(max(ripe_us, may_us))
        repeat_us = group.repeat_us(way)
        if repeat_us is not None and repeat_us <= now:
            notices += self._repeat(group, now, now_us)
            repeat_us = group.repeat_us(way)
        moments.append(repeat_us if repeat_us is not None and repeat_us > now else None)
        if group.is_empty:
            # It stays as long as the next notice would have to wait, so that what comes back cannot hurry it.
            moments.append(group.may_send_us(way))
        self._plan_look(group, [at for at in moments if at is not None], now)
        return notices

    def _plan_look(self, group: Group, moments: list[int], now: int) -> None:
        at = min(moments, default=None)
        if group.is_empty and (at is None or at <= now):
            del self._routing.groups[group.key]
            at = None
        if at is None:
            self._next.pop(group.key, None)
        else:
            self._next[group.key] = at

    def _sort_out(self, group: Group, way: Way, now: int) -> tuple[list[AlertEvent], int, int | None]:
        """Return the news that may be told, since when it could have been, and when to look for more."""
        ready: list[AlertEvent] = []
        ripe_us = now
        later: list[int] = []
        for alert_id, since in list(group.news.items()):
            routed = self._routing.alerts[alert_id]
            event, is_known = routed.event, alert_id in group.told
            at = since + (0 if is_known and way.is_escalation else way.wait_us)
            keeps = self._routing.keeps(routed, is_known=is_known)
            if keeps is None and (now >= at or not way.is_escalation):
                group.kept.pop(alert_id, None)
                ripe_us = min(ripe_us, at) if ready else at
                ready.append(event)
            elif now < at:
                later.append(at)
            elif keeps == "resolved":
                self._routing.count(keeps)
                group.leave(alert_id)
                self._routing.left(routed, group.key)
            elif keeps is not None and group.kept.get(alert_id) != keeps:
                self._routing.count(keeps)
                group.kept[alert_id] = keeps
        return ready, ripe_us, min(later, default=None)

    def _news(self, group: Group, ready: list[AlertEvent], now: int, now_us: int) -> Notice:
        told = sorted(ready, key=worst_first)[:NOTICE_NEWS_MAX]
        is_first = any(event.alert_id not in group.told for event in told)
        had_open = group.is_open
        for event in told:
            group.tell(event)
        reason: Reason = "changed" if had_open else "firing"
        if not group.is_open:
            reason = "resolved"
        elif group.key.is_escalation and is_first:
            reason = "escalation"
        if not had_open:
            group.whole_us = now
        notice = self._notice(group, reason, told, len(ready) - len(told), now, now_us)
        for event in told:
            if not event.is_open:
                self._routing.left(self._routing.alerts[event.alert_id], group.key)
        return notice

    def _repeat(self, group: Group, now: int, now_us: int) -> list[Notice]:
        """Tell again all that fires and that nobody acknowledged or silenced."""
        known = [self._routing.alerts[alert_id] for alert_id, state in group.told.items() if state == "firing"]
        firing = [
            one.event for one in known if one.event.state == "firing" and not self._routing.keeps(one, is_known=True)
        ]
        if not firing:
            return []
        told = sorted(firing, key=worst_first)[:NOTICE_NEWS_MAX]
        group.whole_us = now
        return [self._notice(group, "repeat", told, 0, now, now_us)]

    def _notice(self, group: Group, reason: Reason, told: list[AlertEvent], left: int, now: int, now_us: int) -> Notice:
        key = group.key
        listed = {event.alert_id for event in told}
        others = sum(state != LEAVING and alert_id not in listed for alert_id, state in group.told.items())
        names = [event.event_id for event in told]
        notice = Notice(
            notice_id=name_of(*key, group.opened_us, group.sent, reason, names),
            receiver=key.receiver,
            reason=reason,
            group=dict(key.labels),
            group_id=name_of(*key),
            alerts=tuple(told),
            others=others + left,
            created_at_us=now_us,
        )
        group.sent += 1
        group.sent_us = now
        return notice

    # ---- kept on disk ------------------------------------------------------------------------------------------------
    def to_bytes(self) -> bytes:
        """Return the state, but for the records of alerts: whoever keeps it keeps the newest revision of each, too."""
        packed = _Packed(
            version=_VERSION,
            digest=self._plan.digest(),
            now_us=self._now_us,
            ahead_us=self._ahead_us,
            alerts=[(name, one.event.revision, one.event.state) for name, one in self._routing.alerts.items()],
            groups=list(self._routing.groups.values()),
            silences=list(self._routing.quiet.silences),
            tests=self._tests,
        )
        return msgspec.msgpack.encode(packed)

    @classmethod
    def from_bytes(cls, payload: bytes, *, plan: NoticePlan, alerts: Iterable[AlertEvent], now_us: int) -> "Notices":
        """Invert `to_bytes`, and go on under `plan`, as after `reload`.

        Args:
            payload: What `to_bytes` gave.
            plan: The plan of today.
            alerts: Newest revision of each alert taken so far; those that are open and those resolved last suffice.
                One that is not among them is forgotten and counted as `lost`.
            now_us: The time, UTC microseconds.

        Raises: CheckpointError: The payload is damaged, or of another version.
        """
        try:
            packed = msgspec.msgpack.decode(payload, type=_Packed)
        except msgspec.MsgspecError as exc:
            raise CheckpointError(f"state of notices is unreadable: {exc}; alerts will be told anew") from exc
        if packed.version != _VERSION:
            raise CheckpointError(f"state of notices is version {packed.version}, not {_VERSION}; told anew")
        engine = cls(plan)
        engine._restore(packed, {event.alert_id: event for event in alerts}, now_us)
        return engine

    def _restore(self, packed: _Packed, events: dict[str, AlertEvent], now_us: int) -> None:
        self._now_us, self._ahead_us, self._tests = packed.now_us, packed.ahead_us, packed.tests
        routing = self._routing = Routing(self._plan, tuple(packed.silences))
        now = self._advance(now_us)
        known = [(events.get(name), revision, state) for name, revision, state in packed.alerts]
        then = [
            msgspec.structs.replace(event, revision=revision, state=state)
            for event, revision, state in known
            if event is not None
        ]
        for _ in range(len(known) - len(then)):
            routing.count("lost")
        routing.restore(then, packed.groups)
        if packed.digest != self._plan.digest():
            routing.take_plan(self._plan, now, now_us, is_same=False)
        # What happened after the state was kept, if anything.
        for event in then:
            routing.take_alert(events[event.alert_id], now)

    # ---- time --------------------------------------------------------------------------------------------------------
    def _advance(self, now_us: int) -> int:
        """Return the engine's own time: the clock's, but where that goes back it goes on from where it was."""
        now = now_us + self._ahead_us
        if now < self._now_us:
            self._ahead_us += self._now_us - now
            now = self._now_us
        self._now_us = now
        if self._routing.quiet.advance(now_us):
            self._routing.changed.update(self._routing.groups)
        return now

    def _order(self, key: GroupKey) -> tuple[int, GroupKey]:
        return self._routing.way(key).place, key
