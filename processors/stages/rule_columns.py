"""Conditions of rules as columns, in three-valued logic: what is missing is missing, never false or zero.

A comparison is null where a side is; `and`, `or` and `not` follow Kleene (null and false is false, null or true is
true). A number that is not finite is null: a division by zero, an overflow, a NaN from a device.

Columns are computed one operation at a time, not as expressions: a batch has some hundred rows and a stream some
twenty conditions, and an expression costs about 25 us to plan where the operation takes 3 us. What several rules have
in common is computed once.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Final, assert_never

import polars as pl

from processors.contracts.conditions import (
    Any_,
    Arithmetic,
    Call,
    Comparison,
    Every,
    FieldRef,
    Negative,
    Node,
    Not,
    Number,
    Text,
    Truth,
)
from processors.stages.rule_words import ABSOLUTE

Value = pl.Series | float | str | bool | None
"""A column, or what is the same in every row."""

_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class Columns:
    """Values of conditions at some rows.

    Args:
        height: How many rows.
        field: Name -> the field's column as sent.
        past: Call -> the column of its value.
    """

    def __init__(self, height: int, field: Callable[[str], pl.Series], past: Mapping[Call, pl.Series]) -> None:
        self._height, self._field, self._past = height, field, past
        self._known: dict[Node, Value] = {}

    def value(self, node: Node) -> Value:
        """Return the node's value: Float64, String or Boolean."""
        if node in self._known:
            return self._known[node]
        found = self._value(node)
        self._known[node] = found
        return found

    def sent(self, name: str) -> pl.Series:
        """Return a field as it was sent."""
        return self._field(name)

    def column(self, node: Node) -> pl.Series:
        """Return the same as a column of full height."""
        return self._as_column(self.value(node))

    def numbers(self, node: Node) -> pl.Series:
        """Return the node's value as Float64, null if it is no number."""
        found = self.column(node)
        return found if found.dtype == pl.Float64() else full(None, pl.Float64(), self._height)

    def _as_column(self, value: Value) -> pl.Series:
        if isinstance(value, pl.Series):
            return value
        dtype = pl.Boolean() if value is None or isinstance(value, bool) else None
        return full(float(value) if isinstance(value, int) and dtype is None else value, dtype, self._height)

    def _value(self, node: Node) -> Value:
        match node:
            case Number() | Text() | Truth():
                return node.value
            case FieldRef():
                return as_read(self._field(node.name))
            case Call():
                return self._absolute(node) if node.function == ABSOLUTE else self._past[node]
            case Negative():
                number = self.value(node.node)
                return 0.0 - number if isinstance(number, pl.Series | float) else None
            case Arithmetic():
                return self._calculated(node)
            case Comparison():
                left, right = self.value(node.left), self.value(node.right)
                if left is None or right is None:
                    return None
                made: Value = _COMPARISONS[node.operator](left, right)
                return made
            case Not():
                truth = self.value(node.node)
                return ~truth if isinstance(truth, pl.Series) else None if truth is None else not truth
            case Every():
                return reduce(operator.and_, self._parts(node.nodes))
            case Any_():
                return reduce(operator.or_, self._parts(node.nodes))
            case _:
                assert_never(node)

    def _parts(self, nodes: Sequence[Node]) -> list[pl.Series]:
        return [self.column(node) for node in nodes]

    def _absolute(self, node: Call) -> Value:
        number = self.value(node.argument)
        if isinstance(number, pl.Series):
            return number.zip_with(number >= 0, 0.0 - number)
        return abs(number) if isinstance(number, float) else None

    def _calculated(self, node: Arithmetic) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        if left is None or right is None or (node.operator == "/" and isinstance(right, float) and right == 0):
            return None
        made = _ARITHMETIC[node.operator](left, right)
        if isinstance(made, pl.Series):
            return finite(made)
        return made if math.isfinite(made) else None


def as_read(field: pl.Series) -> pl.Series:
    """Return a field as conditions read it: a number as finite Float64, a text or truth as it is."""
    if field.dtype.is_integer():
        return field.cast(pl.Float64())
    return finite(field) if field.dtype.is_float() else field


def finite(numbers: pl.Series) -> pl.Series:
    """Return the numbers, null where they are NaN or infinite."""
    # What is not finite differs from itself by NaN.
    is_finite = (numbers - numbers) == 0
    if is_finite.all():
        return numbers
    return numbers.zip_with(is_finite, full(None, numbers.dtype, numbers.len()))


def full(value: object, dtype: pl.DataType | None, height: int) -> pl.Series:
    """Return a column of one value."""
    return pl.Series([value], dtype=dtype).new_from_index(0, height)
