"""Which alert is in which group of which receiver, and what keeps it from being told; not when it is told."""

from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.core.limits import ALERTS_ROUTED_MAX, NOTICE_GROUPS_MAX, NOTICE_MEMBERS_MAX
from processors.notices.config import NoticePlan
from processors.notices.groups import GONE, LEAVING, Group, GroupKey, Way, ways_of
from processors.notices.quiet import Quiet, names
from processors.stages.alert_record import AlertEvent, SilenceEvent

SUPPRESSED_REASONS: Final = (
    "silence",
    "maintenance",
    "inhibited",
    "acknowledged",
    "resolved",
    "full",
    "lost",
    "unknown_receiver",
)
"""Why a notice was not made: held back (the first four; each is told later if its alert still fires then), over before
`wait` was, past a bound, not found after a restart, or a test of no receiver."""


class Routed(msgspec.Struct, kw_only=True):
    """An alert that is open, or over and not yet told.

    Attributes:
        event: Its newest revision.
        keys: Groups that it belongs to.
        silences, windows: What names it, see `Quiet.naming`.
    """

    event: AlertEvent
    keys: list[GroupKey] = []
    silences: tuple[str, ...] = ()
    windows: tuple[int, ...] = ()


class Routing:
    """Alerts, the groups that they are in, and what keeps them; changed in place.

    Args:
        plan: Receivers, routes, escalations, maintenance windows.
        silences: Silences known from before.

    Attributes:
        alerts: Alert id -> alert.
        groups: All groups.
        changed: Groups in which something changed; whoever looks at them clears it.
        members: Alerts in groups, each once for each group.
        quiet: Silences and maintenance windows.
        suppressed: Reason -> notices not made.
    """

    def __init__(self, plan: NoticePlan, silences: tuple[SilenceEvent, ...] = ()) -> None:
        self.alerts: dict[str, Routed] = {}
        self.groups: dict[GroupKey, Group] = {}
        self.changed: set[GroupKey] = set()
        self.members = 0
        self.suppressed: dict[str, int] = {}
        self._open: dict[tuple[str, str], dict[str, None]] = {}
        self._take_plan(plan, silences)

    def count(self, reason: str) -> None:
        """Count a notice that is not made."""
        assert reason in SUPPRESSED_REASONS, reason
        self.suppressed[reason] = self.suppressed.get(reason, 0) + 1

    def way(self, key: GroupKey) -> Way:
        """Return the route or escalation of a group."""
        return self._way_of.get((key.way, key.receiver), GONE)

    def keeps(self, routed: Routed, *, is_known: bool) -> str | None:
        """Return why an alert's state is not told now, None where nothing keeps it.

        Args:
            routed: The alert.
            is_known: Whether the receiver was told of it.
        """
        event = routed.event
        if not event.is_open:
            return None if is_known else "resolved"
        if event.state == "acknowledged" and not is_known:
            return "acknowledged"
        for other in self._open[event.tenant, event.device_id]:
            if other != event.alert_id and event.rule_id in self.alerts[other].event.inhibits:
                return "inhibited"
        if not routed.silences and not routed.windows:
            return None
        return self.quiet.reason(routed.silences, routed.windows)

    # ---- in ----------------------------------------------------------------------------------------------------------
    def take_alert(self, event: AlertEvent, now: int) -> None:
        """Take in a revision; one that is not newer than what is known is ignored."""
        routed = self.alerts.get(event.alert_id)
        if routed is None:
            if not event.is_open:
                return
            if len(self.alerts) >= ALERTS_ROUTED_MAX:
                self.count("full")
                return
            self._enter(event)
            self._stir(event)
            self._lead(self.alerts[event.alert_id], now)
            return
        before = routed.event
        if event.revision <= before.revision:
            return
        routed.event = event
        if before.labels != event.labels:
            routed.silences, routed.windows = self.quiet.naming(event)
        self._note_open(event)
        self.changed.update(routed.keys)
        if before.is_open != event.is_open or before.inhibits != event.inhibits:
            self._stir(before)
            self._stir(event)
        if before.state != event.state:
            self._turn(routed, now)
        if event.is_open and not before.is_open:
            self._lead(routed, now)
        self._forget_if_over(routed)

    def take_silence(self, event: SilenceEvent) -> None:
        """Take in a silence as it is from now on."""
        if not self.quiet.take(event):
            self.count("full")
            return
        for routed in self.alerts.values():
            was_named = event.silence_id in routed.silences
            is_named = not event.removed and names(event, routed.event.labels)
            if was_named or is_named:
                others = tuple(name for name in routed.silences if name != event.silence_id)
                routed.silences = (*others, event.silence_id) if is_named else others
                self.changed.update(routed.keys)

    def take_plan(self, plan: NoticePlan, now: int, now_us: int, *, is_same: bool) -> None:
        """Go on under another plan; `is_same` if it leads every alert where the one before did."""
        self._take_plan(plan, self.quiet.silences)
        self.quiet.advance(now_us)
        self.changed.update(self.groups)
        for routed in list(self.alerts.values()):
            routed.silences, routed.windows = self.quiet.naming(routed.event)
            if not is_same:
                self._lead_anew(routed, now)
                self._forget_if_over(routed)

    def restore(self, events: list[AlertEvent], groups: list[Group]) -> None:
        """Take in alerts and groups as they were."""
        for event in events:
            self._enter(event)
        for group in groups:
            for name in {*group.told, *group.news}:
                if name not in self.alerts:
                    group.leave(name)
                    continue
                self.alerts[name].keys.append(group.key)
                self.members += 1
            self.groups[group.key] = group
        self.changed.update(self.groups)
        for routed in list(self.alerts.values()):
            self._forget_if_over(routed)

    def left(self, routed: Routed, key: GroupKey) -> None:
        """Note that an alert is in a group no more; forget it if it is over and in none."""
        routed.keys.remove(key)
        self.members -= 1
        self._forget_if_over(routed)

    def _enter(self, event: AlertEvent) -> None:
        routed = self.alerts[event.alert_id] = Routed(event=event)
        routed.silences, routed.windows = self.quiet.naming(event)
        self._note_open(event)

    def _turn(self, routed: Routed, now: int) -> None:
        """Tell an alert's groups that its state changed."""
        event = routed.event
        by_route = [self.groups[key] for key in routed.keys if not key.is_escalation]
        known = {group.key.receiver for group in by_route if event.alert_id in group.told}
        for key in list(routed.keys):
            group = self.groups[key]
            if key.is_escalation and key.receiver in known and event.alert_id in group.told:
                # A route tells the same receiver: once is enough.
                group.tell(event)
            else:
                group.turn(event, now)
            if not group.holds(event.alert_id):
                self.left(routed, key)

    # ---- where to ----------------------------------------------------------------------------------------------------
    def _wanted(self, event: AlertEvent) -> Iterator[tuple[Way, str]]:
        """Yield where an alert is to be led: each receiver once by a route, and once by each escalation."""
        labels = event.labels
        taken: set[tuple[str, str]] = set()
        asks = True
        for way in self._ways:
            if not (way.is_escalation or asks) or not way.matches(labels):
                continue
            asks = asks and (way.goes_on or way.is_escalation)
            for receiver in way.to:
                by = (way.fingerprint if way.is_escalation else "", receiver)
                if by not in taken:
                    taken.add(by)
                    yield way, receiver

    def _lead(self, routed: Routed, now: int) -> None:
        """Let an alert join the groups that it is not in."""
        ways = {(key.way, key.receiver) for key in routed.keys}
        by_route = {key.receiver for key in routed.keys if not key.is_escalation}
        for way, receiver in self._wanted(routed.event):
            is_there = (way.fingerprint, receiver) in ways or (not way.is_escalation and receiver in by_route)
            if not is_there:
                self._join(routed, way, receiver, now)

    def _join(self, routed: Routed, way: Way, receiver: str, now: int) -> Group | None:
        if self.members >= NOTICE_MEMBERS_MAX:
            self.count("full")
            return None
        labels = routed.event.labels
        key = way.key(receiver, labels)
        if key not in self.groups and len(self.groups) >= NOTICE_GROUPS_MAX:
            key = way.key(receiver, labels, is_coarse=True)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key=key, opened_us=now)
        group.join(routed.event.alert_id, now)
        routed.keys.append(key)
        self.members += 1
        self.changed.add(key)
        return group

    def _lead_anew(self, routed: Routed, now: int) -> None:
        """Lead an alert by a new plan; what its receivers know stays known."""
        old = sorted(routed.keys)
        new: list[tuple[Way, str]] = []
        for way, receiver in list(self._wanted(routed.event)) if routed.event.is_open else ():
            same = next((key for key in old if (key.way, key.receiver) == (way.fingerprint, receiver)), None)
            if same is None:
                new.append((way, receiver))
            else:
                old.remove(same)
                self.groups[same].stay(routed.event, now)
        for way, receiver in new:
            like = (key for key in old if key.receiver == receiver and key.is_escalation == way.is_escalation)
            before = next(like, None)
            group = self._join(routed, way, receiver, now)
            if before is not None and group is not None:
                old.remove(before)
                group.take_over(self.groups[before], routed.event.alert_id)
                group.stay(routed.event, now)
                self.left(routed, before)
        for key in old:
            self._see_off(routed, key)

    def _see_off(self, routed: Routed, key: GroupKey) -> None:
        """Tell a receiver to whom an alert is no longer led of its end, if it knows of it."""
        group, alert_id = self.groups[key], routed.event.alert_id
        if alert_id in group.told and key.receiver in self._receivers:
            if routed.event.is_open:
                group.told[alert_id] = LEAVING
                group.news.pop(alert_id, None)
            return
        group.leave(alert_id)
        self.left(routed, key)

    # ---- what is held ------------------------------------------------------------------------------------------------
    def _take_plan(self, plan: NoticePlan, silences: tuple[SilenceEvent, ...]) -> None:
        self._receivers = frozenset(plan.receivers)
        self._ways = ways_of(plan)
        self._way_of = {(way.fingerprint, to): way for way in reversed(self._ways) for to in way.to}
        self.quiet = Quiet(plan.maintenance, silences)

    def _note_open(self, event: AlertEvent) -> None:
        device = (event.tenant, event.device_id)
        if event.is_open:
            self._open.setdefault(device, {})[event.alert_id] = None
        elif device in self._open:
            self._open[device].pop(event.alert_id, None)
            if not self._open[device]:
                del self._open[device]

    def _stir(self, event: AlertEvent) -> None:
        """Have all alerts of a device looked at again if one that inhibits others began or ended."""
        if event.inhibits:
            for other in self._open.get((event.tenant, event.device_id), ()):
                self.changed.update(self.alerts[other].keys)

    def _forget_if_over(self, routed: Routed) -> None:
        if not routed.event.is_open and not routed.keys:
            self.alerts.pop(routed.event.alert_id, None)
