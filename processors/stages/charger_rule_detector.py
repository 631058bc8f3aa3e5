"""What every detector of chargers is: a rule, its parameters, and what it does when a charger says something.

A hook is called after the facts in `Charger` and `Place` are those after the word. A detector begins and ends episodes
through `Findings`, keeps what it counts under its rule's id, and asks to be looked at by `Charger.wake`.
"""

from typing import ClassVar

from processors.contracts.rules import Rule
from processors.stages.charger_rule_record import NEVER, US_PER_S, Charger, Findings, Place
from processors.stages.charger_rule_words import EventWord, MeterWord, OrderWord, SessionWord, StatusWord


class Detector:
    """A detector of one rule.

    Args:
        rule: The rule; its parameters are durations in s, powers in kW and plain numbers.

    Attributes:
        name: As contracts name it.
        rule, id: The rule, and what is counted for it is kept under.
    """

    name: ClassVar[str]

    def __init__(self, rule: Rule) -> None:
        self.rule, self.id = rule, rule.id

    def number(self, parameter: str) -> float:
        """Return a parameter that is a number. Raises: KeyError: The rule has none of that name."""
        value = self.rule.parameters[parameter]
        assert not isinstance(value, str), f"{parameter} of {self.rule.id} is {value!r}"
        return float(value)

    def span_us(self, parameter: str) -> int:
        """Return a parameter that is a duration, in us."""
        return round(self.number(parameter) * US_PER_S)

    def gone(self, say: Findings, charger: Charger) -> None:
        """Take in that the charger is disconnected, or must show that it is there."""

    def back(self, say: Findings, charger: Charger) -> None:
        """Take in that the charger is there again; `away_us` still says since when it was not."""

    def event(self, say: Findings, charger: Charger, place: Place | None, word: EventWord) -> None:
        """Take in a transaction event."""

    def meter(self, say: Findings, charger: Charger, place: Place, word: MeterWord) -> None:
        """Take in a sample, none older than the newest of its place."""

    def status(self, say: Findings, charger: Charger, place: Place | None, word: StatusWord) -> None:
        """Take in a row of `charger_status`."""

    def state(self, say: Findings, charger: Charger, place: Place) -> None:
        """Take in that a place does something else now, or that one of its connectors said how it is."""

    def session(self, say: Findings, charger: Charger, place: Place | None, word: SessionWord) -> None:
        """Take in a session's revision, before the place knows of it; None for one without a connector."""

    def opened(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """Take in that a session begins, before the place knows of it."""

    def closed(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """Take in that the session of a place is over, before the place knows of it."""

    def order(self, say: Findings, charger: Charger, word: OrderWord) -> None:
        """Take in that the charger accepted a command about charging."""

    def look(self, say: Findings, charger: Charger, now_us: int) -> int:
        """Begin what is due now; return the time at which something may be due next, NEVER for none."""
        return NEVER
