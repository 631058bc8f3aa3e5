"""The life of alerts, one finding at a time: begin, come back, end, and what follows from that for rules together."""

import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
import polars as pl

from gateway.core.limits import ALERT_REOPEN_S
from processors.contracts.model import Contract
from processors.contracts.rules import Rule
from processors.stages.alert_orders import Order, take_order
from processors.stages.alert_record import AlertEvent, LifeEvent, ResolvedBy, alert_id_of
from processors.stages.alert_store import AlertStore, Device, Live, Past, Place
from processors.stages.findings import BEGINS

TOGETHER: Final = "together"
"""Detector of rules that fire while others do."""

UNKNOWN_RULE: Final = "finding_unknown_rule"
DEVICE_FULL: Final = "finding_device_full"
FULL: Final = "finding_full"
AGAIN: Final = "finding_again"
NO_ALERT: Final = "finding_without_alert"

_REOPEN_US: Final = ALERT_REOPEN_S * 1_000_000


class Finding(NamedTuple):
    """A row of findings; times in microseconds since 1970."""

    offset: int
    record: int
    received_at: int
    tenant: str
    device_id: str
    part: str | None
    stream: str
    rule: str
    event: str
    at: int
    since: int
    since_offset: int
    value: float | None
    limit: float | None
    unit: str | None
    evidence: str | None


def read_findings(frame: pl.DataFrame) -> list[Finding]:
    """Return the rows of a findings frame."""
    return [Finding(*row) for row in frame.select(pl.col(Finding._fields).to_physical()).iter_rows()]


class _Together(NamedTuple):
    """A rule that fires while all of `members` (`stream/rule`) do, on any part of the device."""

    rule: Rule
    members: tuple[str, ...]


class LiveRules:
    """The rules of a deployment that are switched on.

    Args:
        contracts: All of its contracts.
    """

    def __init__(self, contracts: Iterable[Contract]) -> None:
        rules = [rule for contract in contracts for rule in contract.rules if rule.enabled]
        self._rules = {(rule.stream, rule.name): rule for rule in rules}
        self._fingerprints = {at: rule.fingerprint() for at, rule in self._rules.items()}
        self.together = tuple(_Together(rule, _members(rule)) for rule in rules if rule.detector == TOGETHER)
        digest = hashlib.blake2b(digest_size=16)
        for (stream, name), fingerprint in sorted(self._fingerprints.items()):
            digest.update(msgspec.json.encode([stream, name, fingerprint]))
        self.digest: str = digest.hexdigest()

    def get(self, place: Place) -> Rule | None:
        """Return the rule of a place, None where there is none any more."""
        return self._rules.get((place.stream, place.rule))

    def fingerprint(self, place: Place) -> str | None:
        """Return what tells a rule from what it was before somebody changed it."""
        return self._fingerprints.get((place.stream, place.rule))


def _members(rule: Rule) -> tuple[str, ...]:
    names = str(rule.parameters["rules"]).split(",")
    return tuple(name.strip() if "/" in name else f"{rule.stream}/{name.strip()}" for name in names)


class Fold:
    """Work on one batch: events and counts that grow while what happened is taken in, in order of the journal."""

    def __init__(self, rules: LiveRules, store: AlertStore) -> None:
        self._rules, self._store = rules, store
        self.events: list[LifeEvent] = []
        self.counts: dict[str, int] = {}

    def finding(self, finding: Finding) -> None:
        """Take in what a detector says."""
        device, place = (finding.tenant, finding.device_id), Place(finding.part, finding.stream, finding.rule)
        if finding.event == BEGINS:
            self._begin(finding, device, place)
            return
        alert = self._store.get(device, place)
        if alert is None or alert.since_offset != finding.since_offset:
            # Past a bound, of a rule that changed, or ended by its rule before.
            self._count(NO_ALERT)
            return
        self._end(alert, finding, "condition")

    def order(self, order: Order) -> None:
        """Take in what an operator wants."""
        result = take_order(order, self._store)
        if isinstance(result, str):
            self._count(result)
        else:
            self.events.append(result)

    def site(self, device: Device, site: str) -> None:
        """Take in where a device belongs, from now on."""
        self._store.set_site(device, site)

    def rules_changed(self, offset: int, received_us: int) -> None:
        """End the alerts of rules that are gone or decide otherwise now, and begin what holds together since then."""
        devices = self._store.devices
        for device in devices:
            for alert in self._store.of_device(device):
                if self._rules.fingerprint(alert.place) != alert.fingerprint:
                    cause = _cause(alert, offset, received_us)
                    self._end(alert, cause, "rule")
        for device in devices:
            for together in self._rules.together:
                self._hold_together(together, device, _nothing(device, offset, received_us))

    # ---- begin and end -----------------------------------------------------------------------------------------------
    def _begin(self, finding: Finding, device: Device, place: Place) -> None:
        rule, fingerprint = self._rules.get(place), self._rules.fingerprint(place)
        if rule is None or fingerprint is None:
            self._count(UNKNOWN_RULE)
            return
        alert = self._store.get(device, place)
        if alert is not None and _is_over(alert, finding, fingerprint):
            self._end(alert, _cause(alert, finding.offset, finding.received_at), "rule")
            alert = None
        if alert is not None:
            # Its detector lost its memory: the same trouble goes on under a new number.
            self._count(AGAIN)
            self._store.put(msgspec.structs.replace(alert, since_offset=finding.since_offset))
            return
        if not self._has_room(device, rule):
            return
        alert_id = alert_id_of(*device, place.part, place.stream, place.rule, finding.since_offset)
        past = self._store.past(device, place)
        if past is not None and not _is_back(past, alert_id, finding.received_at):
            past = None
        flaps = 0 if past is None else past.flaps + 1
        event = AlertEvent(
            offset=finding.offset,
            received_at_us=finding.received_at,
            alert_id=alert_id if past is None else past.alert_id,
            revision=1 if past is None else past.revision + 1,
            tenant=finding.tenant,
            device_id=finding.device_id,
            part=finding.part,
            site=self._store.site(device),
            stream=finding.stream,
            rule=finding.rule,
            severity=rule.severity,
            state="firing",
            title=rule.title,
            at_us=finding.at,
            since_us=finding.since,
            fired_at_us=finding.received_at if past is None else past.fired_at_us,
            value=finding.value,
            limit=finding.limit,
            unit=finding.unit or "",
            evidence=_evidence(finding) | ({"flaps": flaps} if flaps else {}),
            source=rule.source,
            check=rule.check,
            inhibits=rule.inhibits,
        )
        self._tell(Live(event=event, since_offset=finding.since_offset, fingerprint=fingerprint, flaps=flaps))
        self._follow(finding, device, place)

    def _has_room(self, device: Device, rule: Rule) -> bool:
        if not self._store.has_room(device):
            self._count(DEVICE_FULL)
            return False
        if not self._store.has_room_for_all(rule.severity):
            self._count(FULL)
            return False
        return True

    def _end(self, alert: Live, cause: Finding, resolved_by: ResolvedBy) -> None:
        if alert.event.is_open:
            ended = _evidence(cause) | {"value": cause.value} if resolved_by == "condition" else {}
            alert = msgspec.structs.replace(
                alert,
                event=msgspec.structs.replace(
                    alert.event,
                    offset=cause.offset,
                    received_at_us=cause.received_at,
                    revision=alert.event.revision + 1,
                    site=self._store.site(alert.device),
                    state="resolved",
                    at_us=cause.at,
                    evidence=alert.event.evidence | ({"ended": ended} if ended else {}),
                    by=None,
                    note=None,
                    resolved_by=resolved_by,
                    resolved_at_us=cause.received_at,
                ),
            )
            self._tell(alert)
        self._store.end(alert, cause.received_at)
        self._follow(cause, alert.device, alert.place, resolved_by)

    def _tell(self, alert: Live) -> None:
        self._store.put(alert)
        self.events.append(alert.event)

    # ---- rules together ----------------------------------------------------------------------------------------------
    def _follow(self, cause: Finding, device: Device, place: Place, resolved_by: ResolvedBy = "condition") -> None:
        """Let the rules that name a place's rule begin or end."""
        rule_id = f"{place.stream}/{place.rule}"
        for together in self._rules.together:
            if rule_id in together.members:
                self._hold_together(together, device, cause, resolved_by)

    def _hold_together(
        self, together: _Together, device: Device, cause: Finding, resolved_by: ResolvedBy = "condition"
    ) -> None:
        place = Place(None, together.rule.stream, together.rule.name)
        alert = self._store.get(device, place)
        firing: dict[str, Live] = {}
        for live in self._store.of_device(device):
            firing.setdefault(live.event.rule_id, live)
        holds = all(member in firing for member in together.members)
        if holds is (alert is not None):
            return
        if alert is not None:
            self._end(alert, _without_numbers(cause, alert.place, alert.since_offset), resolved_by)
            return
        members = [_member(firing[member].event) for member in together.members]
        evidence = {"limit": f"all at once: {', '.join(together.members)}", "members": members}
        begun = _without_numbers(cause, place, cause.offset)._replace(
            event=BEGINS, evidence=msgspec.json.encode(evidence).decode()
        )
        self._begin(begun, device, place)

    def _count(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1


def _is_over(alert: Live, finding: Finding, fingerprint: str) -> bool:
    """Return whether an alert cannot be the one of an episode that begins, though nobody said that its own ended.

    One that an operator resolved must not hide a new episode.
    """
    is_hidden = not alert.event.is_open and alert.since_offset != finding.since_offset
    return is_hidden or alert.fingerprint != fingerprint


def _is_back(past: Past, alert_id: str, now_us: int) -> bool:
    """Return whether an episode belongs to an alert that was over.

    One with the same name always does: both began inside one message, a batch of a device that was offline.
    """
    is_soon = abs(now_us - past.ended_at_us) <= _REOPEN_US
    return past.alert_id == alert_id or (past.resolved_by == "condition" and is_soon)


def _evidence(finding: Finding) -> dict[str, Any]:
    return msgspec.json.decode(finding.evidence, type=dict[str, Any]) if finding.evidence else {}


def _member(event: AlertEvent) -> dict[str, Any]:
    return {"rule": event.rule_id, "alert_id": event.alert_id, "value": event.value, "unit": event.unit}


def _cause(alert: Live, offset: int, received_us: int) -> Finding:
    """Return what ends an alert whose detector says nothing more about it."""
    return _without_numbers(_nothing(alert.device, offset, received_us), alert.place, alert.since_offset)


def _nothing(device: Device, offset: int, received_us: int) -> Finding:
    """Return that something was noticed about a device, and nothing of what."""
    return Finding(
        *(offset, 0, received_us, *device, None, "", "", "", received_us, received_us, offset, None, None, None, None)
    )


def _without_numbers(cause: Finding, place: Place, since_offset: int) -> Finding:
    """Return the cause as one of another place: when, and no more."""
    return cause._replace(
        part=place.part,
        stream=place.stream,
        rule=place.rule,
        since=cause.at,
        since_offset=since_offset,
        value=None,
        limit=None,
        unit=None,
        evidence=None,
    )
