"""Values inside a condition while it is read: what is known of their types and units, and which of them compare."""

from typing import Final, Literal

import msgspec

from gateway.core.text import peer_text
from processors.contracts.conditions import Arithmetic, FieldRef, Node, Number, Text, Truth
from processors.contracts.file import nearest
from processors.contracts.model import Field
from processors.contracts.units import Unit, convert

EXAMPLE: Final = "write comparisons such as 'soc_pct < 10'"


class RuleError(ValueError):
    """A condition that cannot be used: what is wrong, and what to write."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what, mend)
        self.what, self.mend = what, mend


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A node and what is known of its value.

    Attributes:
        kind: What it is.
        unit: Unit of a number; None where it has none to compare.
        is_computed: Whether nobody chose the unit, so that it may be changed; of a temperature, whether it is a change.
        field: The field that a text is read from.
    """

    node: Node
    kind: Literal["number", "text", "truth"]
    unit: Unit | None = None
    is_computed: bool = False
    field: Field | None = None

    @property
    def is_literal(self) -> bool:
        """Whether it is written out."""
        return isinstance(self.node, Number | Text | Truth)


def _shown(value: Value) -> str:
    """Return how an error calls a value."""
    if isinstance(value.node, FieldRef):
        kind = value.field.type if value.field else value.kind
        return f"'{value.node.name}' ({kind})"
    if isinstance(value.node, Text):
        return f"the word '{peer_text(value.node.value)}'"
    return {"number": "a number", "text": "a word", "truth": "a condition"}[value.kind]


def want_truth(value: Value) -> None:
    """Raise RuleError if the value is no condition."""
    if value.kind != "truth":
        raise RuleError(f"{_shown(value)} stands where a condition is expected", EXAMPLE)


def want_number(value: Value, what: str) -> None:
    """Raise RuleError if the value is no number; `what` says which one is missing."""
    if value.kind != "number":
        raise RuleError(f"{_shown(value)} {what}", "write a field that is a number")


def in_one_unit(left: Value, right: Value) -> tuple[Value, Value, Unit | None]:
    """Return two numbers in a common unit, and that; a bare number takes the other's."""
    if left.unit is None or right.unit is None:
        return left, right, left.unit or right.unit
    if left.unit.symbol == right.unit.symbol:
        return left, right, left.unit
    if left.unit.dimension == right.unit.dimension:
        if left.is_computed:
            return _converted(left, right.unit), right, right.unit
        if right.is_computed:
            return left, _converted(right, left.unit), left.unit
        there, here = left.unit, right.unit
        if left.is_literal and not right.is_literal:
            there, here = here, there
        factor = convert(1.0, unit=here, to=there)
        mend = f"write the value in {there.symbol}: 1 {here.symbol} is {factor:.6g} {there.symbol}"
        raise RuleError(f"compares {left.unit.symbol} with {right.unit.symbol}", mend)
    raise RuleError(
        f"compares {left.unit.symbol} with {right.unit.symbol}",
        f"{left.unit.dimension} and {right.unit.dimension} do not compare",
    )


def _converted(value: Value, to: Unit) -> Value:
    assert value.unit is not None
    factor = float(f"{value.unit.scale / to.scale:.12g}")  # 1.8, not 1.7999999999999998
    if factor == 1.0:
        return msgspec.structs.replace(value, unit=to)
    if isinstance(value.node, Number):
        return msgspec.structs.replace(value, node=Number(value.node.value * factor), unit=to)
    return msgspec.structs.replace(value, node=Arithmetic("*", value.node, Number(factor)), unit=to)


def compare_words(left: Value, right: Value, operator: str) -> None:
    """Check a comparison of which a side is no number."""
    if left.kind != right.kind:
        mend = "compare words with quoted words, numbers with numbers, conditions with true or false"
        raise RuleError(f"compares {_shown(left)} with {_shown(right)}", mend)
    if operator not in {"==", "!="}:
        raise RuleError(f"'{operator}' between words or conditions", "write == or !=")
    for one, other in ((left, right), (right, left)):
        if one.field is None or not isinstance(other.node, Text) or one.field.values is None:
            continue
        names = list(dict.fromkeys(one.field.values.values()))
        if other.node.value not in names:
            what = f"'{one.field.name}' is never '{peer_text(other.node.value)}'"
            raise RuleError(what, nearest(other.node.value, names))
