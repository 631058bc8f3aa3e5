"""What the charger rules remember of chargers, and how they say what they found.

Facts that several detectors need stand in `Charger` and `Place`; what one detector counts stands in their `marks`,
`stretches` and `levels` under the id of its rule, so that a rule that changes loses what it counted and nothing else.
All times are us since 1970: `*_at_us` by the charger's clock, all others receipt.
"""

from collections.abc import Mapping
from copy import copy
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from gateway.core.limits import CHARGER_PLACES_MAX
from gateway.core.text import peer_text
from processors.contracts.rules import Rule
from processors.stages.findings import BEGINS, ENDS

US_PER_S: Final = 1_000_000
NEVER: Final = 2**62
AVAILABLE: Final = "Available"
CHARGER: Final = "0"
"""Connector that stands for the charger itself."""
_TEXT_CHARS_MAX: Final = 100
_MARKS_SHOWN_MAX: Final = 20

T = TypeVar("T")
Mark = tuple[int, int]
"""When something was received, and the offset of that entry."""
Key = tuple[str, str]
"""Tenant and device id of a charger."""


class Plug(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a connector says of itself: the newest status, and the entry that said it first without another between."""

    status: str
    at_us: int
    since_us: int
    since_offset: int


class Stay(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session that goes on: which, on which connector, since when, and the entry that told of it."""

    session_id: str
    transaction: str | None
    plug: str
    started_at_us: int
    since_us: int
    since_offset: int


class Stretch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run of samples that all say the same.

    Attributes:
        since_at_us, since_offset: The first of them.
        newest_at_us: The last of them.
        value: What a detector compares the next one with.
        history: (time us, value) of a few of them.
    """

    since_at_us: int
    since_offset: int
    newest_at_us: int
    value: float | None
    history: tuple[tuple[int, float], ...] = ()


class Register(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a register showed at the end of a session, when that was, and whether that session began at 0."""

    wh: float
    at_us: int
    began_at_zero: bool


class Level(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the sessions of a connector reached.

    Attributes:
        peak: The peak of this session so far.
        sessions: Earlier ones that counted.
        floor, ceiling: The least and the highest of their peaks.
        low: Sessions in a row that were too low to count.
    """

    peak: float = 0.0
    sessions: int = 0
    floor: float = 0.0
    ceiling: float = 0.0
    low: int = 0


class Episode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A rule that holds: since when, by which entry, and when it ends by itself (NEVER: only by a reading)."""

    since_us: int
    since_offset: int
    until_us: int


class Place(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """A connector, in 2.x an EVSE with its connectors. Whoever shares it clones it before changing it.

    Attributes:
        name: The connector's number, in 2.x the EVSE's.
        plugs: Connector -> what it says of itself.
        is_plug_free: Whether one of them says Available.
        state: What it does: in 1.6 its status, in 2.x the charging state of its transaction.
        state_at_us: When that was said.
        meter_at_us: Newest sample.
        offered_kw: Power that the charger allowed at last, the measured one where it does not say that.
        word_us, word_offset, word_at_us: Last sample or transaction event.
        stay: The session that goes on.
        ended_at_us, ended_offset: The latest end of a session.
        gaps_s: Times between its last sessions.
        elsewhere, elsewhere_at_us: How many sessions ended at other places of the charger since its own last one, and
            when the first of them did.
        registers: Connector -> its register after its last session. Some EVSEs of 2.x have one for each.
        marks, stretches, levels: Memory of the detectors, by rule.
    """

    name: str
    plugs: dict[str, Plug] = {}
    is_plug_free: bool = False
    state: str = ""
    state_at_us: int = 0
    meter_at_us: int = 0
    offered_kw: float = 0.0
    word_us: int = 0
    word_offset: int = 0
    word_at_us: int = 0
    stay: Stay | None = None
    ended_at_us: int = 0
    ended_offset: int = 0
    gaps_s: list[int] = []
    elsewhere: int = 0
    elsewhere_at_us: int = 0
    registers: dict[str, Register] = {}
    marks: dict[str, list[Mark]] = {}
    stretches: dict[str, Stretch] = {}
    levels: dict[str, Level] = {}

    def clone(self) -> "Place":
        """Return a copy that may be changed; what it holds is replaced, never changed."""
        return copy(self)

    @property
    def is_available(self) -> bool:
        """Whether every connector of it is known to be Available."""
        return self.is_plug_free and all(plug.status == AVAILABLE for plug in self.plugs.values())

    @property
    def available_since_us(self) -> int:
        """Since when, if it is."""
        return max((plug.since_us for plug in self.plugs.values()), default=0)


class Limit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A charging profile that a charger accepted.

    Attributes:
        place: For which place, `0` for all.
        number: Of the profile, None where it has none.
        until_us: Until when it may hold, NEVER for until it is cleared.
        is_of_session: Whether it ends with the session.
    """

    place: str
    number: int | None
    until_us: int
    is_of_session: bool


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A command about charging that the charger has not answered yet: what it sets, or what it clears."""

    request_id: str
    limit: Limit | None
    clears: tuple[str | None, int | None] | None


class Charger(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """A charger. Whoever shares it clones it before changing it.

    Attributes:
        tenant, device_id: Which.
        last_us, last_offset: Its last word.
        linked_offset: Offset of the last `connected`.
        generation: Number of its newest connection.
        away_us, away_offset: Its last word before it was gone, 0 while it is there.
        away_from_us: From when its absence counts: the disconnect, or the start of the gateway after it.
        away_why: `disconnected`, with the reason, or `unconfirmed`: nothing of it since the gateway started.
        rated_kw, connectors: As people state them.
        places: Name -> connector or EVSE.
        limits: Charging profiles that were accepted.
        orders: Commands that are not answered yet, the newest few.
        tries: Rule -> the attempt to charge that it waits for, if any.
        marks: Memory of the detectors, by rule.
        open: Rule and part -> what holds.
        due_us: Tick at which something may begin or end, or earlier.
        planned_us: For which it stands in the stage's plan.
        owned: Places that are copies; of use within one batch only.
    """

    tenant: str
    device_id: str
    last_us: int = 0
    last_offset: int = 0
    linked_offset: int = -1
    generation: int = 0
    away_us: int = 0
    away_offset: int = 0
    away_from_us: int = 0
    away_why: str = ""
    rated_kw: float | None = None
    connectors: int | None = None
    places: dict[str, Place] = {}
    limits: tuple[Limit, ...] = ()
    orders: tuple[Order, ...] = ()
    tries: dict[str, Mark] = {}
    marks: dict[str, list[Mark]] = {}
    open: dict[str, Episode] = {}
    due_us: int = NEVER
    planned_us: int = NEVER
    owned: list[str] = []

    def clone(self) -> "Charger":
        """Return a copy that may be changed; its places are shared until `place` copies them.

        Whatever else it holds is replaced, never changed: it changes seldom, and is copied with every batch.
        """
        clone = copy(self)
        clone.places, clone.owned = self.places.copy(), []
        return clone

    @property
    def key(self) -> Key:
        """Which it is."""
        return self.tenant, self.device_id

    def place(self, connector: str | None) -> Place | None:
        """Return the place of a connector, which may be changed; None for the charger itself and for one too many."""
        if connector is None or connector == CHARGER:
            return None
        name = connector.partition("/")[0]
        place = self.places.get(name)
        if place is None:
            if len(self.places) >= CHARGER_PLACES_MAX:
                return None
            place = self.places[name] = Place(name=name)
            self.owned.append(name)
        elif name not in self.owned:
            place = self.places[name] = place.clone()
            self.owned.append(name)
        return place

    def places_now(self) -> list[Place]:
        """Return all places; they may be changed."""
        return [place for name in list(self.places) if (place := self.place(name)) is not None]

    def is_limited(self, place: str, at_us: int) -> bool:
        """Return whether a charging profile that was set may hold the power of a place down."""
        return any(limit.place in {CHARGER, place} and at_us <= limit.until_us for limit in self.limits)

    def wake(self, at_us: int) -> None:
        """Have it looked at, at the first tick from then on."""
        self.due_us = min(self.due_us, at_us)

    def forget_rules(self, rules: frozenset[str]) -> None:
        """Drop what these rules counted, and what they told."""
        self.tries = {rule: one for rule, one in self.tries.items() if rule not in rules}
        self.marks = {rule: one for rule, one in self.marks.items() if rule not in rules}
        self.open = {name: one for name, one in self.open.items() if name.partition("\n")[0] not in rules}
        for place in self.places_now():
            place.marks = {rule: one for rule, one in place.marks.items() if rule not in rules}
            place.stretches = {rule: one for rule, one in place.stretches.items() if rule not in rules}
            place.levels = {name: one for name, one in place.levels.items() if name.partition("\n")[0] not in rules}


class Cause(msgspec.Struct, gc=False):
    """The entry that is looked at: its offset, the reading in it, when it was received, and event time."""

    offset: int = 0
    record: int = 0
    received_us: int = 0
    at_us: int = 0


class Findings:
    """The rows that a batch gives, and the entry that causes the next."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.cause = Cause()

    def begin(
        self,
        rule: Rule,
        charger: Charger,
        part: str | None,
        *,
        since: Mark,
        evidence: Mapping[str, Any],
        value: float | None = None,
        limit: float | None = None,
        unit: str = "",
        until_us: int = NEVER,
    ) -> None:
        """Say that a rule holds; where it already does, only its end moves.

        Args:
            rule: Which.
            charger: Whose.
            part: Connector, None for the charger.
            since: When it began to hold, event time, and by which entry.
            evidence: What a person wants to see.
            value: What was measured.
            limit: What it was held against.
            unit: Of both.
            until_us: The tick at which it ends unless it begins again before.
        """
        name = _name(rule, part)
        known = charger.open.get(name)
        if known is not None:
            longer = Episode(known.since_us, known.since_offset, max(known.until_us, until_us))
            charger.open = charger.open | {name: longer}
            return
        episode = Episode(since[0], since[1], until_us)
        charger.open = charger.open | {name: episode}
        self._add(rule, charger, part, BEGINS, episode, value, limit, unit, evidence)

    def end(
        self,
        rule: Rule,
        charger: Charger,
        part: str | None,
        *,
        evidence: Mapping[str, Any],
        value: float | None = None,
        limit: float | None = None,
        unit: str = "",
    ) -> None:
        """Say that a rule no longer holds, if it did."""
        name = _name(rule, part)
        known = charger.open.get(name)
        if known is not None:
            charger.open = without(charger.open, name)
            self._add(rule, charger, part, ENDS, known, value, limit, unit, evidence)

    def is_open(self, rule: Rule, charger: Charger, part: str | None) -> bool:
        """Return whether the rule holds."""
        return _name(rule, part) in charger.open

    def _add(
        self,
        rule: Rule,
        charger: Charger,
        part: str | None,
        event: str,
        episode: Episode,
        value: float | None,
        limit: float | None,
        unit: str,
        evidence: Mapping[str, Any],
    ) -> None:
        cause = self.cause
        self.rows.append(
            (
                *(cause.offset, cause.record, cause.received_us, charger.tenant, charger.device_id, part),
                *(rule.stream, rule.name, event, cause.at_us, episode.since_us, episode.since_offset),
                *(value, limit, unit or None, msgspec.json.encode(evidence).decode()),
            )
        )


def without(known: dict[str, T], name: str) -> dict[str, T]:
    """Return the dictionary without one of its names; itself where it is not there."""
    return {one: value for one, value in known.items() if one != name} if name in known else known


def _name(rule: Rule, part: str | None) -> str:
    return f"{rule.id}\n{part or ''}"


def part_of(name: str) -> tuple[str, str | None]:
    """Return the rule's id and the part of a key of `Charger.open`."""
    rule, _, part = name.partition("\n")
    return rule, part or None


def shown(text: str | None) -> str | None:
    """Return a peer's words as they may stand in evidence."""
    return None if text is None else peer_text(text, chars_max=_TEXT_CHARS_MAX)


def time_text(at_us: int) -> str:
    """Return a time as ISO 8601 in UTC, whole seconds."""
    return datetime.fromtimestamp(at_us // US_PER_S, UTC).isoformat()[:19] + "Z"


def marks_shown(marks: list[Mark]) -> list[str]:
    """Return the times of the newest few marks."""
    return [time_text(at_us) for at_us, _ in marks[-_MARKS_SHOWN_MAX:]]
