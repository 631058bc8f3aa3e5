"""From the text of a condition to its tree, checked against the fields of the stream, their types and their units.

condition   = conjunction, {"or", conjunction}         sum     = product, {("+" | "-"), product}
conjunction = negation, {"and", negation}              product = factor, {("*" | "/"), factor}
negation    = {"not"}, comparison                      factor  = number [unit] | quoted word | field | call
comparison  = sum, [("<" | "<=" | ...), sum]                   | "-", factor | "(", condition, ")"
call        = function, "(", sum, [",", number, unit of time], ")"

A number without a unit is in the unit of what it is held against. A field is compared in its own unit, so that a rule
says the numbers that are in the table. What is computed (a rate, a change, a difference, a product) has no unit that
somebody chose: it is converted into that of the other side.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, get_args

import msgspec

from gateway.core.limits import RULE_SPAN_S_MAX, RULE_TOKENS_MAX
from gateway.core.text import peer_text
from processors.contracts.condition_values import (
    EXAMPLE,
    RuleError,
    Value,
    compare_words,
    in_one_unit,
    want_number,
    want_truth,
)
from processors.contracts.conditions import (
    Any_,
    Arithmetic,
    Call,
    Comparison,
    Every,
    FieldRef,
    Function,
    Negative,
    Node,
    Not,
    Number,
    Text,
    Truth,
)
from processors.contracts.file import nearest
from processors.contracts.model import Field, FieldType
from processors.contracts.units import (
    TIME_UNITS,
    UNITS,
    Unit,
    product_unit,
    quotient_unit,
    rate_unit,
    read_unit,
)

FUNCTIONS: Final[tuple[Function, ...]] = get_args(Function)
SPANNED: Final[frozenset[Function]] = frozenset({"rate", "change", "lowest", "highest"})
"""Functions with a span."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A condition or a number, read.

    Attributes:
        node: Its tree.
        fields: Fields that it reads.
        unit: Unit of the value that is shown of it; empty where it has none, or not always the same.
    """

    node: Node
    fields: frozenset[str]
    unit: str


def read_condition(text: str, fields: Mapping[str, Field], *, sampling_s: float | None = None) -> Condition:
    """Return the condition in a text.

    Args:
        text: The condition.
        fields: Every field of the stream.
        sampling_s: How often a device usually sends, or None.
    Raises: RuleError: It is no condition, names what there is not, or compares what does not compare.
    """
    reader = _Reader(text, fields, sampling_s)
    value = reader.whole()
    want_truth(value)
    if not reader.fields:
        raise RuleError("reads no field", "compare a field, as in 'soc_pct < 10'")
    return Condition(node=value.node, fields=frozenset(reader.fields), unit=_shown_unit(value.node))


def read_number(text: str, fields: Mapping[str, Field]) -> tuple[Condition, Unit | None]:
    """Return the number that a text computes from fields, without functions of the past, and its unit.

    Raises: RuleError: It is no number, reads no field, or asks for the past.
    """
    reader = _Reader(text, fields, None)
    value = reader.whole()
    want_number(value, "is no number")
    if not reader.fields:
        raise RuleError("reads no field", "name a field, as in 'cell_voltage_max_v - cell_voltage_min_v'")
    if reader.has_past:
        raise RuleError("asks for the past, which the detector does itself", "write fields and arithmetic alone")
    symbol = value.unit.symbol if value.unit else ""
    return Condition(node=value.node, fields=frozenset(reader.fields), unit=symbol), value.unit


# ---- tokens ----------------------------------------------------------------------------------------------------------
_SYMBOLS: Final = "|".join(re.escape(symbol) for symbol in sorted(UNITS, key=len, reverse=True) if symbol != "1")
_TOKEN: Final = re.compile(
    rf"""\s*(?:
      (?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?:\s*(?P<unit>(?:{_SYMBOLS})(?:/(?:{_SYMBOLS}))?)(?![\w/]))?
    | (?P<word>[A-Za-z_]\w*)
    | '(?P<single>[^']*)' | "(?P<double>[^"]*)"
    | (?P<operator><=|>=|==|!=|[-+*/()<>,])
    )""",
    re.VERBOSE,
)
_COMPARISONS: Final = ("<", "<=", ">", ">=", "==", "!=")
_KEYWORDS: Final = frozenset({"and", "or", "not"})
_TRUTHS: Final = frozenset({"true", "false"})
_DEPTH_MAX: Final = 32


def _tokens(text: str) -> list[re.Match[str]]:
    tokens: list[re.Match[str]] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if not token:
            raise RuleError(f"'{peer_text(text[at : at + 20])}' cannot be read", EXAMPLE)
        if len(tokens) == RULE_TOKENS_MAX:
            raise RuleError(f"has more than {RULE_TOKENS_MAX} words", "split it into several rules")
        tokens.append(token)
        at = token.end()
    return tokens


# ---- the reader ------------------------------------------------------------------------------------------------------
class _Reader:
    """Recursive descent over one condition."""

    def __init__(self, text: str, fields: Mapping[str, Field], sampling_s: float | None) -> None:
        self._tokens = _tokens(text)
        self._known = fields
        self._sampling_s = sampling_s
        self._at = 0
        self._depth = 0
        self._past: str | None = None
        self.fields: set[str] = set()
        self.has_past = False

    def whole(self) -> Value:
        """Return the value of the whole text."""
        value = self._condition()
        if self._at < len(self._tokens):
            self._refuse_rest()
        return value

    # ---- conditions ----
    def _condition(self) -> Value:
        return self._joined("or", self._conjunction, Any_)

    def _conjunction(self) -> Value:
        return self._joined("and", self._negation, Every)

    def _joined(self, word: str, read: Callable[[], Value], make: type[Any_ | Every]) -> Value:
        values = [read()]
        while self._take(word):
            values.append(read())
        if len(values) == 1:
            return values[0]
        for value in values:
            want_truth(value)
        return Value(node=make(tuple(value.node for value in values)), kind="truth")

    def _negation(self) -> Value:
        if not self._take("not"):
            return self._comparison()
        value = self._deeper(self._negation)
        want_truth(value)
        return Value(node=Not(value.node), kind="truth")

    def _comparison(self) -> Value:
        left = self._sum()
        operator = self._take(*_COMPARISONS)
        if operator is None:
            return left
        right = self._sum()
        if left.kind == right.kind == "number":
            left, right, unit = in_one_unit(left, right)
            symbol = unit.symbol if unit else ""
        else:
            compare_words(left, right, operator)
            symbol = ""
        node = Comparison(operator, left.node, right.node, symbol)  # type: ignore[arg-type]  # one of _COMPARISONS
        return Value(node=node, kind="truth")

    # ---- numbers ----
    def _sum(self) -> Value:
        left = self._product()
        while operator := self._take("+", "-"):
            right = self._product()
            for value in (left, right):
                want_number(value, f"is no number to use with '{operator}'")
            left, right, unit = in_one_unit(left, right)
            is_computed = _is_computed(operator, left, right)
            if is_computed and unit is not None:
                unit = msgspec.structs.replace(unit, offset=0.0)
            left = Value(
                node=Arithmetic(operator, left.node, right.node),  # type: ignore[arg-type]  # "+" or "-"
                kind="number",
                unit=unit,
                is_computed=is_computed,
            )
        return left

    def _product(self) -> Value:
        left = self._factor()
        while operator := self._take("*", "/"):
            right = self._factor()
            for value in (left, right):
                want_number(value, f"is no number to use with '{operator}'")
            unit = None
            # A bare number may count anything, so nobody knows what it makes of a unit.
            if left.unit is not None and right.unit is not None:
                unit = (product_unit if operator == "*" else quotient_unit)(left.unit, right.unit)
            left = Value(
                node=Arithmetic(operator, left.node, right.node),  # type: ignore[arg-type]  # "*" or "/"
                kind="number",
                unit=unit,
                is_computed=True,
            )
        return left

    def _factor(self) -> Value:
        if self._at >= len(self._tokens):
            raise RuleError("ends where a value is expected", "write a field or a number")
        if self._take("-"):
            return self._negative(self._deeper(self._factor))
        if self._take("("):
            value = self._deeper(self._condition)
            self._close()
            return value
        token = self._tokens[self._at]
        self._at += 1
        if token["word"]:
            return self._call(token["word"]) if self._take("(") else self._field(token["word"])
        if token["operator"]:
            raise RuleError(f"'{token['operator']}' stands where a value is expected", "write a field or a number")
        if token["number"]:
            return self._number(token)
        return Value(node=Text(token["single"] if token["single"] is not None else token["double"]), kind="text")

    def _negative(self, value: Value) -> Value:
        want_number(value, "is no number to use with '-'")
        node = Number(-value.node.value) if isinstance(value.node, Number) else Negative(value.node)
        return msgspec.structs.replace(value, node=node)

    def _number(self, token: re.Match[str]) -> Value:
        value = float(token["number"])
        if not math.isfinite(value):
            raise RuleError(f"{peer_text(token['number'])} is too large", "write a smaller number")
        return Value(node=Number(value), kind="number", unit=read_unit(token["unit"]) if token["unit"] else None)

    def _field(self, name: str) -> Value:
        if name in _TRUTHS:
            return Value(node=Truth(name == "true"), kind="truth")
        if name not in self._known:
            if name in FUNCTIONS:
                raise RuleError(f"'{name}' is a function", f"write {_call_text(name)}")
            raise RuleError(f"there is no field '{peer_text(name)}'", nearest(name, list(self._known)))
        self.fields.add(name)
        field = self._known[name]
        kind: Literal["number", "text", "truth"] = "text"
        if field.is_number:
            kind = "number"
        elif field.type is FieldType.BOOL:
            kind = "truth"
        return Value(node=FieldRef(name), kind=kind, unit=field.unit, field=field)

    # ---- functions ----
    def _call(self, name: str) -> Value:
        function = _function(name)
        asks_past = function != "abs"
        if asks_past and self._past:
            what = f"'{name}' stands inside '{self._past}': the past of a past is not kept"
            raise RuleError(what, "compute with fields inside a function, and with functions outside")
        before, self._past = self._past, function if asks_past else self._past
        argument = self._deeper(self._sum)
        self._past = before
        span_s = self._span(function) if function in SPANNED else None
        self._close(argument_of=function)
        self.has_past = self.has_past or asks_past
        if function != "previous":
            want_number(argument, f"is no number to take '{name}' of")
        if asks_past and not any(isinstance(part, FieldRef) for part in _leaves(argument.node)):
            raise RuleError(f"'{name}' of something that never changes", "name a field in it")
        unit, is_computed = argument.unit, argument.is_computed
        if unit is not None and function in {"rate", "change"}:
            unit = rate_unit(unit) if function == "rate" else msgspec.structs.replace(unit, offset=0.0)
            is_computed = True
        node = Call(function, argument.node, span_s)
        return Value(node=node, kind=argument.kind, unit=unit, is_computed=is_computed, field=argument.field)

    def _span(self, function: Function) -> float:
        if not self._take(","):
            raise RuleError(f"'{function}' has no span of time", f"write {_call_text(function)}")
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        unit = TIME_UNITS.get(token["unit"] or "") if token is not None else None
        if token is None or unit is None:
            shown = "nothing" if token is None else f"'{peer_text(token[0].strip())}'"
            raise RuleError(f"the span of '{function}' is {shown}", f"write {_call_text(function)}")
        self._at += 1
        span_s = float(token["number"]) * unit.scale
        if not 0 < span_s <= RULE_SPAN_S_MAX:
            what = f"the span of '{function}' is {token[0].strip()}, and is at most {RULE_SPAN_S_MAX:g} s"
            raise RuleError(what, "write a shorter span, or a detector such as drift for what is slow")
        if self._sampling_s is not None and span_s < self._sampling_s:
            what = f"the span of '{function}' is {token[0].strip()}, and a reading comes every {self._sampling_s:g} s"
            raise RuleError(what, f"write a span of {self._sampling_s:g} s or more, or correct 'sampling'")
        return span_s

    # ---- small parts ----
    def _deeper(self, read: Callable[[], Value]) -> Value:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise RuleError("is nested too deep", "split it into several rules")
        value = read()
        self._depth -= 1
        return value

    def _close(self, *, argument_of: str | None = None) -> None:
        if self._take(")"):
            return
        if self._at >= len(self._tokens):
            raise RuleError("a '(' is not closed", "add ')'")
        if argument_of is not None:
            mend = f"write {_call_text(argument_of)}"
            raise RuleError(f"'{peer_text(self._here())}' does not belong into '{argument_of}'", mend)
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        shown = self._here()
        before = self._tokens[self._at - 1] if self._at else None
        token = self._tokens[self._at]
        if before is not None and before["number"] and not before["unit"] and token["word"] and shown not in _KEYWORDS:
            raise RuleError(f"unknown unit '{peer_text(shown)}'", nearest(shown, list(UNITS)))
        raise RuleError(f"'{peer_text(shown)}' does not belong there", "join conditions with 'and' or 'or'")

    def _take(self, *texts: str) -> str | None:
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            if (token["word"] or token["operator"]) in texts:
                self._at += 1
                return token["word"] or token["operator"]
        return None

    def _here(self) -> str:
        return self._tokens[self._at][0].strip()


def _is_computed(operator: str, left: Value, right: Value) -> bool:
    """Return whether a sum or difference is a change, which has no zero to get wrong when it is converted.

    20 degC less 15 degC are 5 K; 20 degC and a change of 5 K are 25 degC, and so they stay in degC.
    """
    if left.is_literal or right.is_literal:
        return (right if left.is_literal else left).is_computed
    if operator == "-":
        return left.is_computed == right.is_computed
    return left.is_computed and right.is_computed


def _function(name: str) -> Function:
    for function in FUNCTIONS:
        if function == name:
            return function
    raise RuleError(f"there is no function '{peer_text(name)}'", nearest(name, list(FUNCTIONS)))


def _call_text(function: str) -> str:
    return f"{function}(FIELD, 10 s)" if function in SPANNED else f"{function}(FIELD)"


def _leaves(node: Node) -> Iterable[Node]:
    match node:
        case Call():
            yield from _leaves(node.argument)
        case Negative():
            yield from _leaves(node.node)
        case Arithmetic():
            yield from _leaves(node.left)
            yield from _leaves(node.right)
        case _:
            yield node


def _shown_unit(node: Node) -> str:
    """Return the unit of the first comparison that holds, empty if that depends on which it is."""
    units = {comparison.unit for comparison in _comparisons(node.nodes[0] if isinstance(node, Every) else node)}
    return units.pop() if len(units) == 1 else ""


def _comparisons(node: Node) -> Iterable[Comparison]:
    match node:
        case Comparison():
            yield node
        case Not():
            yield from _comparisons(node.node)
        case Every() | Any_():
            for part in node.nodes:
                yield from _comparisons(part)
