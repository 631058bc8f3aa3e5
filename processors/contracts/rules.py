"""Alert rules as the program uses them: everything resolved, nothing to look up twice."""

import hashlib
from typing import Literal

import msgspec

from processors.contracts.conditions import Node

Severity = Literal["info", "warning", "critical"]
Parameters = dict[str, float | str | bool]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One alert rule of a stream. It has one of `when`, `steps` and `detector`.

    Attributes:
        stream: Stream whose readings it looks at.
        name: Name within the stream.
        title: What is wrong, for people.
        severity: How much it matters.
        check: What a person should look at first.
        source: Where the limit comes from.
        hold_s: How long `when` must hold first.
        clear_hold_s: How long `clear` must hold before it ends.
        needs_s: Readings further apart than this say nothing of the time between; None for no such bound.
        when: Condition under which it begins, or None.
        clear: Condition under which it ends, or None for the opposite of `when`.
        when_text: `when` as written, empty without one.
        clear_text: `clear` as written, empty without one.
        steps: Conditions that must come true one after another.
        step_texts: They as written.
        within_s: Longest time from the first step to the last, 0 without steps.
        detector: Name of a detector, or None.
        parameters: Parameters of the detector, defaults filled in: durations in s, powers in kW, quantities in the unit
            of what they are held against, lists joined by commas.
        expressions: Of a detector: parameter -> the number that it computes of fields.
        inhibits: Rules (`stream/rule`) that are not worth a notice on the same device while this one fires.
        fields: Fields that it reads, in alphabetical order.
        unit: Unit of the value that is shown, empty if it has none or that depends on which comparison holds.
        enabled: Whether it is looked at.
    """

    stream: str
    name: str
    title: str
    severity: Severity
    check: str
    source: str
    hold_s: float
    clear_hold_s: float
    needs_s: float | None
    when: Node | None
    clear: Node | None
    when_text: str
    clear_text: str
    steps: tuple[Node, ...]
    step_texts: tuple[str, ...]
    within_s: float
    detector: str | None
    parameters: Parameters
    inhibits: tuple[str, ...]
    fields: tuple[str, ...]
    unit: str
    enabled: bool
    expressions: dict[str, Node] = {}

    @property
    def id(self) -> str:
        """`stream/rule`, as `inhibits` and `alerts.yaml` name it."""
        return f"{self.stream}/{self.name}"

    def fingerprint(self) -> str:
        """Return what tells apart rules that do not hold at the same times; words for people are no part of it."""
        decides = (
            (self.stream, self.name, self.when, self.clear, self.hold_s, self.clear_hold_s, self.needs_s),
            (self.steps, self.within_s, self.detector, sorted(self.parameters.items()), self.unit),
            sorted(self.expressions.items()),
        )
        return hashlib.blake2b(msgspec.json.encode(decides), digest_size=8).hexdigest()
