"""Alert rules as a contract states them: read, checked against the fields and their units, kept as data.

condition  = conjunction, {"or", conjunction}          sum     = product, {("+" | "-"), product}
conjunction = negation, {"and", negation}              product = factor, {("*" | "/"), factor}
negation   = ["not"], comparison                       factor  = number [unit] | field | quoted word
comparison = sum, [("<" | "<=" | ...), sum]                    | "-", factor | "(", condition, ")"
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.core.text import peer_text
from processors.contracts.file import nearest
from processors.contracts.units import UNITS, Unit, convert


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One alert rule of a stream.

    Attributes:
        name: Name within the stream.
        when: Condition under which it begins, as written.
        clear: Condition under which it ends, or None for the opposite of `when`.
        hold_s: How long `when` must hold first.
        severity: `info`, `warning` or `critical`.
        check: What a person should look at.
        source: Where the threshold comes from.
        fields: Fields that the conditions read, in alphabetical order.
    """

    name: str
    when: str
    clear: str | None
    hold_s: float
    severity: str
    check: str
    source: str
    fields: tuple[str, ...]


class RuleError(ValueError):
    """A condition that cannot be used: what is wrong, and what to write."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what, mend)
        self.what, self.mend = what, mend


_SYMBOLS: Final = "|".join(re.escape(symbol) for symbol in sorted(UNITS, key=len, reverse=True) if symbol != "1")
_TOKEN: Final = re.compile(
    rf"""\s*(?:
      (?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?:\s*(?P<unit>{_SYMBOLS})(?![\w/]))?
    | (?P<word>[A-Za-z_]\w*)
    | '(?P<single>[^']*)' | "(?P<double>[^"]*)"
    | (?P<operator><=|>=|==|!=|[-+*/()<>])
    )""",
    re.VERBOSE,
)
_COMPARISONS: Final = frozenset({"<", "<=", ">", ">=", "==", "!="})
_DEPTH_MAX: Final = 32


def condition_fields(text: str, units: Mapping[str, Unit | None]) -> set[str]:
    """Return the fields that a condition reads.

    Args:
        text: The condition.
        units: Every field of the stream with its unit.
    Raises: RuleError: It is not a condition, names an unknown field, or compares different units.
    """
    reader = _Reader(text, units)
    reader.condition()
    reader.end()
    return reader.fields


class _Reader:
    """Recursive descent over one condition; a value is known by its unit, None where it has none to compare."""

    def __init__(self, text: str, units: Mapping[str, Unit | None]) -> None:
        self._tokens = _tokens(text)
        self._units = units
        self._at = 0
        self._depth = 0
        self.fields: set[str] = set()

    def condition(self) -> Unit | None:
        unit = self._conjunction()
        while self._take("or"):
            unit = self._conjunction() and None
        return unit

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise RuleError(f"'{self._shown()}' does not belong there", "join conditions with 'and' or 'or'")

    def _conjunction(self) -> Unit | None:
        unit = self._negation()
        while self._take("and"):
            unit = self._negation() and None
        return unit

    def _negation(self) -> Unit | None:
        while self._take("not"):
            pass
        return self._comparison()

    def _comparison(self) -> Unit | None:
        left = self._sum()
        if not self._take(*_COMPARISONS):
            return left
        _same(left, self._sum())
        return None

    def _sum(self) -> Unit | None:
        unit = self._product()
        while self._take("+", "-"):
            unit = _same(unit, self._product())
        return unit

    def _product(self) -> Unit | None:
        unit = self._factor()
        while self._take("*", "/"):
            self._factor()
            unit = None
        return unit

    def _factor(self) -> Unit | None:
        if self._at >= len(self._tokens):
            raise RuleError("ends where a value is expected", "write a field or a number")
        if self._take("-"):
            return self._factor()
        if self._take("("):
            self._depth += 1
            if self._depth > _DEPTH_MAX:
                raise RuleError("is nested too deep", "split it into several rules")
            unit = self.condition()
            self._depth -= 1
            if not self._take(")"):
                raise RuleError("a '(' is not closed", "add ')'")
            return unit
        token = self._tokens[self._at]
        self._at += 1
        if token["word"]:
            return self._field(token["word"])
        if token["operator"]:
            raise RuleError(f"'{token['operator']}' stands where a value is expected", "write a field or a number")
        return UNITS[token["unit"]] if token["unit"] else None

    def _field(self, name: str) -> Unit | None:
        if name in {"true", "false"}:
            return None
        if name not in self._units:
            raise RuleError(f"there is no field '{peer_text(name)}'", nearest(name, list(self._units)))
        self.fields.add(name)
        return self._units[name]

    def _take(self, *texts: str) -> bool:
        if self._at < len(self._tokens) and self._shown() in texts and not self._tokens[self._at]["single"]:
            self._at += 1
            return True
        return False

    def _shown(self) -> str:
        return self._tokens[self._at][0].strip()


def _tokens(text: str) -> list[re.Match[str]]:
    tokens: list[re.Match[str]] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if not token:
            raise RuleError(
                f"'{peer_text(text[at : at + 20])}' cannot be read", "write comparisons such as 'soc_pct < 10'"
            )
        tokens.append(token)
        at = token.end()
    return tokens


def _same(left: Unit | None, right: Unit | None) -> Unit | None:
    """Return the common unit of two values; a bare number takes the other's."""
    if left is None or right is None:
        return left or right
    if left.symbol == right.symbol:
        return left
    if left.dimension == right.dimension:
        factor = convert(1.0, unit=right, to=left)
        mend = f"write the value in {left.symbol}: 1 {right.symbol} is {factor:.6g} {left.symbol}"
        raise RuleError(f"compares {left.symbol} with {right.symbol}", mend)
    raise RuleError(
        f"compares {left.symbol} with {right.symbol}", f"{left.dimension} and {right.dimension} do not compare"
    )
