"""Detectors of the charger itself: is it there, does it restart, is it attacked, is its clock right."""

from typing import Any, ClassVar, Final

from processors.contracts.rules import Rule
from processors.stages.charger_rule_detector import Detector
from processors.stages.charger_rule_record import (
    NEVER,
    US_PER_S,
    Charger,
    Findings,
    Mark,
    Place,
    marks_shown,
    shown,
    time_text,
    without,
)
from processors.stages.charger_rule_words import EventWord, StatusWord


class Offline(Detector):
    """A charger that was disconnected and did not come back, or was not seen since the gateway started."""

    name: ClassVar[str] = "offline"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._grace_us = round(
            (self.number("intervals") * self.number("heartbeat") + self.number("grace")) * US_PER_S,
        )

    def gone(self, say: Findings, charger: Charger) -> None:
        """Wait for as long as a charger that reconnects may take."""
        charger.wake(charger.away_from_us + self._grace_us)

    def look(self, say: Findings, charger: Charger, now_us: int) -> int:
        """Begin once it is away for too long."""
        if not charger.away_from_us or say.is_open(self.rule, charger, None):
            return NEVER
        due_us = charger.away_from_us + self._grace_us
        if now_us < due_us:
            return due_us
        evidence: dict[str, Any] = {
            "limit": f"not back within {self._grace_us // US_PER_S} s",
            "last_word": time_text(charger.last_us) if charger.last_us else None,
            "why": charger.away_why,
        }
        if charger.away_from_us != charger.away_us:
            evidence["waited_from"] = time_text(charger.away_from_us)
        say.begin(
            self.rule,
            charger,
            None,
            since=(charger.away_us, charger.away_offset),
            value=(now_us - charger.away_us) / US_PER_S,
            limit=self._grace_us / US_PER_S,
            unit="s",
            evidence=evidence,
        )
        return NEVER

    def back(self, say: Findings, charger: Charger) -> None:
        """End with its next word."""
        away_s = (say.cause.received_us - charger.away_us) / US_PER_S
        evidence = {"away_since": time_text(charger.away_us), "back_at": time_text(say.cause.received_us)}
        say.end(self.rule, charger, None, value=away_s, limit=self._grace_us / US_PER_S, unit="s", evidence=evidence)


class Reboots(Detector):
    """A charger that boots again and again."""

    name: ClassVar[str] = "reboots"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._most, self._span_us = int(self.number("boots")), self.span_us("span")

    def status(self, say: Findings, charger: Charger, place: Place | None, word: StatusWord) -> None:
        """Count boots; one that we asked to hear of again is none."""
        if word.kind != "boot" or word.reason == "Triggered":
            return
        marks = _counted(self, charger, word.received_us, word.offset, self._most + 1, self._span_us)
        if len(marks) > self._most:
            evidence = {
                "limit": f"more than {self._most} boots in {self._span_us // US_PER_S} s",
                "boots": marks_shown(marks),
                "reason": shown(word.reason),
            }
            say.begin(
                self.rule,
                charger,
                None,
                since=marks[0],
                value=float(len(marks)),
                limit=float(self._most),
                evidence=evidence,
                until_us=marks[0][0] + self._span_us,
            )
            charger.wake(marks[0][0] + self._span_us)


class AuthFailures(Detector):
    """Failed authentications one after another: a wrong password after a change, or somebody who tries."""

    name: ClassVar[str] = "auth_failures"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._most, self._span_us = int(self.number("failures")), self.span_us("span")

    def status(self, say: Findings, charger: Charger, place: Place | None, word: StatusWord) -> None:
        """Count what chargers and the gateway say of it."""
        if word.kind != "security" or word.security_event not in _AUTHENTICATION:
            return
        marks = _counted(self, charger, word.received_us, word.offset, self._most, self._span_us)
        if len(marks) >= self._most:
            evidence = {
                "limit": f"{self._most} in {self._span_us // US_PER_S} s",
                "failures": marks_shown(marks),
                "readings": {"security_event": word.security_event, "info": shown(word.info)},
            }
            say.begin(
                self.rule,
                charger,
                None,
                since=marks[0],
                value=float(len(marks)),
                limit=float(self._most),
                evidence=evidence,
                until_us=marks[0][0] + self._span_us,
            )
            charger.wake(marks[0][0] + self._span_us)


class SecurityEvents(Detector):
    """A security event that somebody must look at; a second of another type is an episode of its own."""

    name: ClassVar[str] = "security_event"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._shown_us = self.span_us("shown")
        self._types = frozenset(word.strip() for word in str(rule.parameters["types"]).split(",") if word.strip())

    def status(self, say: Findings, charger: Charger, place: Place | None, word: StatusWord) -> None:
        """Begin with each event, and let go after a while: nothing says that it is over."""
        if word.kind != "security" or word.security_event not in self._types:
            return
        # The mark's second number is the type here.
        before = charger.marks.get(self.id)
        kind = sorted(self._types).index(word.security_event)
        if before and before[0][1] != kind:
            say.end(self.rule, charger, None, evidence={"next": word.security_event})
        charger.marks = charger.marks | {self.id: [(word.received_us, kind)]}
        evidence = {
            "limit": f"any of {', '.join(sorted(self._types))}",
            "readings": {"security_event": word.security_event, "info": shown(word.info)},
            "happened_at": time_text(word.at_us),
        }
        until_us = word.received_us + self._shown_us
        say.begin(self.rule, charger, None, since=(word.at_us, word.offset), evidence=evidence, until_us=until_us)
        charger.wake(until_us)


class WrongClock(Detector):
    """A charger whose clock is off: each of several messages one after another says so."""

    name: ClassVar[str] = "wrong_clock"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._most_us, self._span_us = self.span_us("off"), self.span_us("span")
        self._messages = int(self.number("messages"))

    def status(self, say: Findings, charger: Charger, place: Place | None, word: StatusWord) -> None:
        """Judge a StatusNotification; what else chargers say has no time, or may have waited."""
        if word.kind == "status":
            self._judge(say, charger, word)

    def event(self, say: Findings, charger: Charger, place: Place | None, word: EventWord) -> None:
        """Judge a transaction event that did not wait while the charger was offline."""
        if word.event != "start_answer" and not word.offline:
            self._judge(say, charger, word)

    def _judge(self, say: Findings, charger: Charger, word: StatusWord | EventWord) -> None:
        flags = word.flags or ""
        # A lag of nothing at all is a message without a time: it counts as measured when it was received.
        lag_us = word.received_us - word.at_us
        is_unset = "clock_unset" in flags or "clock_clamped" in flags
        if not is_unset and (lag_us == 0 or "clock_absent" in flags):
            return
        if not is_unset and abs(lag_us) <= self._most_us:
            if self.id in charger.marks:
                charger.marks = without(charger.marks, self.id)
                evidence: dict[str, Any] = {"readings": {"lag_s": lag_us / US_PER_S}}
                say.end(self.rule, charger, None, value=lag_us / US_PER_S, unit="s", evidence=evidence)
            return
        marks = charger.marks.get(self.id, [])
        if len(marks) < self._messages:
            marks = [*marks, (word.received_us, word.offset)]
            charger.marks = charger.marks | {self.id: marks}
        if len(marks) < self._messages or word.received_us - marks[0][0] < self._span_us:
            return
        if say.is_open(self.rule, charger, None):
            return
        evidence = {
            "limit": f"{self._messages} messages over {self._span_us // US_PER_S} s, each off by more than"
            f" {self._most_us // US_PER_S} s",
            "readings": {"lag_s": None if is_unset else lag_us / US_PER_S, "flags": word.flags},
        }
        say.begin(
            self.rule,
            charger,
            None,
            since=marks[0],
            value=None if is_unset else lag_us / US_PER_S,
            limit=self._most_us / US_PER_S,
            unit="s",
            evidence=evidence,
        )


_AUTHENTICATION: Final = frozenset(
    {
        "FailedToAuthenticateAtCsms",
        "FailedToAuthenticateAtCentralSystem",
        "CsmsFailedToAuthenticate",
        "CentralSystemFailedToAuthenticate",
        "MaintenanceLoginFailed",
        "duplicate_identity",
    }
)
"""Types of OCPP's list of security events (2.0.1 part 2 appendices; 1.6 names the central system otherwise), and what
the gateway itself saw: a second live connection with this charger's identity."""


def _counted(detector: Detector, charger: Charger, at_us: int, offset: int, most: int, span_us: int) -> list[Mark]:
    """Note that something happened; return when it did within the span, at most the newest `most`."""
    before = charger.marks.get(detector.rule.id, [])
    marks = [mark for mark in before if at_us - mark[0] <= span_us]
    marks = [*marks, (at_us, offset)][-most:]
    charger.marks = charger.marks | {detector.rule.id: marks}
    return marks
