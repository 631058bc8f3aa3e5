"""Detectors of how a charger is used: nobody can, sessions that nobody knows, sessions that do not end."""

from statistics import median
from typing import Any, ClassVar, Final

from processors.contracts.rules import Rule
from processors.stages.charger_rule_detector import Detector
from processors.stages.charger_rule_record import (
    AVAILABLE,
    NEVER,
    US_PER_S,
    Charger,
    Findings,
    Mark,
    Place,
    Plug,
    marks_shown,
    shown,
    time_text,
    without,
)
from processors.stages.charger_rule_words import STARTS, EventWord, MeterWord, OrderWord, SessionWord

_USABLE: Final = frozenset({AVAILABLE, "Preparing", "Occupied", "Finishing"})
_OUT_OF_USE: Final = frozenset({"Faulted", "Unavailable"})
_ELSEWHERE: Final = 3
"""Sessions at its neighbours that show that people come, and not to this place."""


class Unusable(Detector):
    """A connector that says Available, and nobody charges: for far longer than usual, or though people try.

    Where a charger has several places, one is told of by itself while people use the others; while nobody comes at all,
    the charger is told of, once it is too long for each of them.
    """

    name: ClassVar[str] = "unusable"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._gaps, self._gaps_least = self.number("gaps"), int(self.number("gaps_least"))
        self._least_us, self._within_us = self.span_us("least"), self.span_us("within")
        self._attempts = int(self.number("attempts"))

    # ---- people who try ----

    def event(self, say: Findings, charger: Charger, place: Place | None, word: EventWord) -> None:
        """Note that somebody showed a token, and that a session came of it."""
        if word.event == "start":
            charger.tries = without(charger.tries, self.id)
        elif word.event == "authorize":
            self._try(charger, word.received_us, word.offset)

    def order(self, say: Findings, charger: Charger, word: OrderWord) -> None:
        """Note that the charger agreed to start a session."""
        if word.action in STARTS:
            self._try(charger, word.received_us, word.offset)

    def _try(self, charger: Charger, received_us: int, offset: int) -> None:
        # Whoever shows a token while a session goes on may want to end it.
        is_free = all(place.stay is None for place in charger.places.values())
        if not is_free or charger.away_from_us or self.id in charger.tries:
            return
        if any(plug.status in _USABLE for place in charger.places.values() for plug in place.plugs.values()):
            charger.tries = charger.tries | {self.id: (received_us, offset)}
            charger.wake(received_us + self._within_us)

    def gone(self, say: Findings, charger: Charger) -> None:
        """Forget an attempt: nobody knows what becomes of it."""
        charger.tries = without(charger.tries, self.id)

    def closed(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """Count a session without energy as an attempt; one with energy ends everything."""
        for one in charger.places.values():
            self._wait(charger, one)  # for the next to come here, and for those who pass the others by
        if word.energy_wh is None:
            return
        if word.energy_wh > 0:
            place.marks = without(place.marks, self.id)
            charger.marks = without(charger.marks, self.id)
            if charger.open:
                evidence = {"session": word.session_id, "readings": {"energy_wh": word.energy_wh}}
                say.end(self.rule, charger, place.name, evidence=evidence)
                say.end(self.rule, charger, None, evidence=evidence)
        elif word.status == "completed":
            marks = [*place.marks.get(self.id, []), (word.received_us, word.offset)][-self._attempts :]
            place.marks = place.marks | {self.id: marks}
            self._begin_failing(say, charger, place.name, marks, "sessions without energy")

    def _begin_failing(self, say: Findings, charger: Charger, part: str | None, marks: list[Mark], what: str) -> None:
        if len(marks) < self._attempts or say.is_open(self.rule, charger, part):
            return
        evidence = {"limit": f"{self._attempts} {what} in a row", "attempts": marks_shown(marks)}
        say.begin(
            self.rule,
            charger,
            part,
            since=marks[0],
            value=float(len(marks)),
            limit=float(self._attempts),
            evidence=evidence,
        )

    # ---- nobody who comes ----

    def state(self, say: Findings, charger: Charger, place: Place) -> None:
        """End when it no longer says that it could be used; wait anew when it does."""
        if charger.open and any(plug.status in _OUT_OF_USE for plug in place.plugs.values()):
            evidence = {"readings": {name: shown(plug.status) for name, plug in place.plugs.items()}}
            say.end(self.rule, charger, place.name, evidence=evidence)
        elif place.is_available and place.stay is None:
            self._wait(charger, place)

    def opened(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """End the wait for a session."""
        if charger.open:
            evidence = {"session": word.session_id}
            if not place.marks.get(self.id):
                say.end(self.rule, charger, place.name, evidence=evidence)
            if not charger.marks.get(self.id):
                say.end(self.rule, charger, None, evidence=evidence)

    def back(self, say: Findings, charger: Charger) -> None:
        """Look at once: the wait may be over."""
        charger.wake(say.cause.received_us)

    def look(self, say: Findings, charger: Charger, now_us: int) -> int:
        """Judge the attempt that is waited for, and for how long nobody came."""
        if charger.away_from_us:
            return NEVER
        due_us = NEVER
        attempt = charger.tries.get(self.id)
        if attempt is not None:
            due_us = attempt[0] + self._within_us
            if now_us >= due_us:
                charger.tries = without(charger.tries, self.id)
                due_us = NEVER
                marks = [*charger.marks.get(self.id, []), attempt][-self._attempts :]
                charger.marks = charger.marks | {self.id: marks}
                self._begin_failing(say, charger, None, marks, "authorizations without a session")
        return min(due_us, self._look_at_places(say, charger, now_us))

    def _look_at_places(self, say: Findings, charger: Charger, now_us: int) -> int:
        known = [place for place in charger.places.values() if len(place.gaps_s) >= self._gaps_least]
        free = [place for place in known if place.stay is None and place.is_available]
        alone = free if len(known) == 1 else [place for place in free if place.elsewhere >= _ELSEWHERE]
        dues: list[tuple[int, Place, str | None]] = [
            (max(self._free_us(place), place.elsewhere_at_us) + self._patience_us(place), place, place.name)
            for place in alone
        ]
        if free and len(free) == len(known) and not alone:
            last = max(free, key=lambda place: self._free_us(place) + self._patience_us(place))
            dues.append((self._free_us(last) + self._patience_us(last), last, None))
        for due_us, place, part in dues:
            if due_us <= now_us:
                self._begin_waiting(say, charger, place, part, now_us)
        return min((due_us for due_us, _, _ in dues if due_us > now_us), default=NEVER)

    def _begin_waiting(self, say: Findings, charger: Charger, place: Place, part: str | None, now_us: int) -> None:
        if say.is_open(self.rule, charger, part):
            return
        patience_us, free_us = self._patience_us(place), self._free_us(place)
        evidence = {
            "limit": f"no session for {patience_us // US_PER_S} s",
            "usual_gap_s": median(place.gaps_s),
            "longest_gap_s": max(place.gaps_s),
            "last_session_ended_at": time_text(place.ended_at_us),
            "readings": {"status": AVAILABLE},
        }
        say.begin(
            self.rule,
            charger,
            part,
            since=(free_us, place.ended_offset),
            value=(now_us - free_us) / US_PER_S,
            limit=patience_us / US_PER_S,
            unit="s",
            evidence=evidence,
        )

    def _free_us(self, place: Place) -> int:
        """Return since when nobody came."""
        return max(place.ended_at_us, place.available_since_us)

    def _wait(self, charger: Charger, place: Place) -> None:
        """Look again when nobody has come for too long, if it is known what that is."""
        if len(place.gaps_s) >= self._gaps_least:
            charger.wake(self._free_us(place) + self._patience_us(place))

    def _patience_us(self, place: Place) -> int:
        """Return for how long nobody may come."""
        usual_s = max(median(place.gaps_s) * self._gaps, *place.gaps_s)
        return max(round(usual_s * US_PER_S), self._least_us)


class Ghost(Detector):
    """An end of a transaction of which nobody knows a start."""

    name: ClassVar[str] = "ghost"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._shown_us = self.span_us("shown")

    def session(self, say: Findings, charger: Charger, place: Place | None, word: SessionWord) -> None:
        """Begin with an orphan that has an end; the session stage has waited for its start."""
        if word.status != "orphan" or word.ended_at_us is None:
            return
        until_us = word.received_us + self._shown_us
        evidence = {
            "limit": "every end has a start",
            "transaction": shown(word.transaction_id),
            "session": word.session_id,
            "readings": {"energy_wh": word.energy_wh, "meter_stop_wh": word.meter_stop_wh},
            "why": shown(word.evidence),
        }
        part = None if place is None else place.name
        since = (word.ended_at_us, word.offset)
        say.begin(self.rule, charger, part, since=since, evidence=evidence, until_us=until_us)
        charger.wake(until_us)


class Zombie(Detector):
    """A session that goes on though its connector is Available, or of which nothing is heard though the charger is."""

    name: ClassVar[str] = "zombie"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._available_us, self._silent_us = self.span_us("available"), self.span_us("silent")

    def opened(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """Watch a session; of one before it nothing is said any more."""
        self._end(say, charger, place, "another session began")
        charger.wake(word.received_us + min(self._available_us, self._silent_us))

    def closed(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """End with the session."""
        self._end(say, charger, place, f"the session is {word.status}")

    def state(self, say: Findings, charger: Charger, place: Place) -> None:
        """End when the connector is in use again; look when it is free for too long."""
        self._check(say, charger, place)
        charger.wake(self._free_us(place))

    def event(self, say: Findings, charger: Charger, place: Place | None, word: EventWord) -> None:
        """End the silence."""
        if place is not None:
            self.state(say, charger, place)

    def meter(self, say: Findings, charger: Charger, place: Place, word: MeterWord) -> None:
        """End the silence."""
        if charger.open or (place.is_plug_free and place.stay is not None):
            self.state(say, charger, place)

    def back(self, say: Findings, charger: Charger) -> None:
        """Look at once: silence counts only while the charger is there."""
        charger.wake(say.cause.received_us)

    def look(self, say: Findings, charger: Charger, now_us: int) -> int:
        """Begin with what is due."""
        due_us = NEVER
        if charger.away_from_us:
            return due_us
        for place in charger.places.values():
            if place.stay is None or say.is_open(self.rule, charger, place.name):
                continue
            free_us, silent_us = self._free_us(place), place.word_us + self._silent_us
            if now_us < min(free_us, silent_us):
                due_us = min(due_us, free_us, silent_us)
                continue
            self._begin(say, charger, place, now_us, is_free=now_us >= free_us)
        return due_us

    def _begin(self, say: Findings, charger: Charger, place: Place, now_us: int, *, is_free: bool) -> None:
        stay, plug = place.stay, _plug_of(place)
        assert stay is not None
        limit_us = self._available_us if is_free else self._silent_us
        since = (place.word_us, place.word_offset)
        if is_free and plug is not None:
            since = (plug.since_us, plug.since_offset)
        why = "its connector is Available" if is_free else "nothing is heard of it while the charger is connected"
        evidence: dict[str, Any] = {
            "limit": f"{why} for {limit_us // US_PER_S} s",
            "session": stay.session_id,
            "transaction": shown(stay.transaction),
            "started_at": time_text(stay.started_at_us),
            "last_word": time_text(place.word_us),
            "readings": {"status": shown(plug.status) if plug else None},
        }
        say.begin(
            self.rule,
            charger,
            place.name,
            since=since,
            value=(now_us - since[0]) / US_PER_S,
            limit=limit_us / US_PER_S,
            unit="s",
            evidence=evidence,
        )

    def _check(self, say: Findings, charger: Charger, place: Place) -> None:
        """End if neither reason is left, now that something was said."""
        is_silent = say.cause.received_us >= place.word_us + self._silent_us
        if charger.open and not is_silent and self._free_us(place) == NEVER:
            self._end(say, charger, place, "it goes on")

    def _end(self, say: Findings, charger: Charger, place: Place, why: str) -> None:
        if charger.open:
            say.end(self.rule, charger, place.name, evidence={"why": why})

    def _free_us(self, place: Place) -> int:
        """Return from when on a connector that said Available after its session began contradicts it, else NEVER."""
        plug, stay = _plug_of(place), place.stay
        if stay is None or plug is None or plug.status != AVAILABLE or plug.at_us < stay.started_at_us:
            return NEVER
        # A charger that replays what it kept says Available first; words from before that are part of the replay.
        replayed_us = place.word_us if place.word_at_us < plug.at_us else 0
        return max(plug.since_us, stay.since_us, replayed_us) + self._available_us


def _plug_of(place: Place) -> Plug | None:
    """Return what the connector of the session says, None where it is not known which that is."""
    if place.stay is not None and place.stay.plug in place.plugs:
        return place.plugs[place.stay.plug]
    return next(iter(place.plugs.values())) if len(place.plugs) == 1 else None
