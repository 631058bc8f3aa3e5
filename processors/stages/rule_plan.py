"""The rules of one stream, made ready once: expressions, columns, and what must be remembered for them."""

from typing import Final

import msgspec
import polars as pl

from gateway.core.limits import RULE_PREVIOUS_S
from processors.contracts.conditions import Call, Comparison, FieldRef, Node
from processors.contracts.model import Contract
from processors.contracts.rules import Rule
from processors.stages.roster import owner_of
from processors.stages.rule_episodes import US_PER_S, Course
from processors.stages.rule_past import Look
from processors.stages.rule_silence import Limits
from processors.stages.rule_words import comparisons, past_calls, sides_of, to_text

SILENT: Final = "silent"
PREVIOUS: Final = "previous"
_EXTREMES: Final = frozenset({"lowest", "highest"})


class Shown(msgspec.Struct, frozen=True):
    """A comparison as a person is shown it: what is measured, what it is held against, and the unit of both."""

    comparison: Comparison
    value: Node
    limit: Node
    unit: str


class RulePlan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A rule with `when` or `sequence`.

    Attributes:
        rule: The rule.
        key: Name and fingerprint: what is remembered under it is of this very definition.
        course: Its clockwork.
        holds: `when`, or each step.
        calls: Functions of the past that it calls, in words.
        previous_us: How long ago a previous value may be; None if it asks for none.
        shown: Comparisons of `when`, or of the last step.
        look: Words of the series whose samples are shown as history, None without one.
    """

    rule: Rule
    key: str
    course: Course
    holds: tuple[Node, ...]
    calls: dict[str, Call]
    previous_us: int | None
    shown: tuple[Shown, ...]
    look: str | None


class StreamPlan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The rules of a stream that are enabled, and what they need.

    Attributes:
        stream: The stream.
        owner: Columns that say whose a reading is.
        looks: Words of argument and span -> series, those with extremes first.
        arguments: The same -> argument.
        calls: Functions of series: what is called -> words of the series.
        befores: Words of an argument of `previous` -> argument and its type.
        rules: Rules with `when` or `sequence`.
        silences: Key of a rule with `detect: silent` -> its limit.
        silent_rules: The same -> the rule.
        has_senders: Whether silence needs codes of its own, because it is of devices and conditions of their parts.
        keys: Keys of all rules: what is remembered under another is of no use.
    """

    stream: str
    owner: tuple[str, ...]
    looks: dict[str, Look]
    arguments: dict[str, Node]
    calls: dict[Call, str]
    befores: dict[str, tuple[Node, pl.DataType]]
    rules: tuple[RulePlan, ...]
    silences: dict[str, Limits]
    silent_rules: dict[str, Rule]
    has_senders: bool
    keys: frozenset[str]


def plan_stream(contract: Contract) -> StreamPlan | None:
    """Return the plan of a stream, None if this stage has nothing to do there."""
    enabled = [rule for rule in contract.rules if rule.enabled]
    silent = {_key(rule): rule for rule in enabled if rule.detector == SILENT}
    rules = [_plan(contract, rule) for rule in enabled if rule.when is not None or rule.steps]
    if not rules and not silent:
        return None
    calls = {call: series_of(call) for rule in rules for call in rule.calls.values() if call.function != PREVIOUS}
    extremes = {words for call, words in calls.items() if call.function in _EXTREMES}
    ordered = sorted(calls.items(), key=lambda item: (item[1] not in extremes, item[1]))
    befores = [call.argument for rule in rules for call in rule.calls.values() if call.function == PREVIOUS]
    return StreamPlan(
        stream=contract.stream,
        owner=owner_of(contract.part),
        looks={words: Look(span_us=_span_us(call), has_extremes=words in extremes) for call, words in ordered},
        arguments={words: call.argument for call, words in ordered},
        calls=calls,
        befores={to_text(node): (node, _dtype(contract, node)) for node in befores},
        rules=tuple(rules),
        silences={key: Limits.of(rule) for key, rule in silent.items()},
        silent_rules=silent,
        has_senders=bool(silent) and contract.part is not None,
        keys=frozenset({rule.key for rule in rules} | silent.keys()),
    )


def series_of(call: Call) -> str:
    """Return the words of the series that a function looks at."""
    return f"{to_text(call.argument)}:{_span_us(call)}"


def _span_us(call: Call) -> int:
    assert call.span_s is not None, f"{call.function} has no span"
    return round(call.span_s * US_PER_S)


def _key(rule: Rule) -> str:
    return f"{rule.name}:{rule.fingerprint()}"


def _plan(contract: Contract, rule: Rule) -> RulePlan:
    holds = rule.steps if rule.when is None else (rule.when,)
    nodes = holds if rule.clear is None else (*holds, rule.clear)
    calls = {to_text(call): call for node in nodes for call in past_calls(node)}
    looks = [series_of(call) for call in calls.values() if call.function != PREVIOUS]
    has_previous = any(call.function == PREVIOUS for call in calls.values())
    shown = []
    for comparison in comparisons(holds[-1]):
        value, limit = sides_of(comparison)
        shown.append(Shown(comparison, value, limit, comparison.unit))
    return RulePlan(
        rule=rule,
        key=_key(rule),
        course=Course(rule),
        holds=holds,
        calls=calls,
        previous_us=round((rule.needs_s or RULE_PREVIOUS_S) * US_PER_S) if has_previous else None,
        shown=tuple(shown),
        look=looks[0] if looks else None,
    )


def _dtype(contract: Contract, node: Node) -> pl.DataType:
    field = contract.field(node.name) if isinstance(node, FieldRef) else None
    return pl.Float64() if field is None or field.is_number else field.dtype
