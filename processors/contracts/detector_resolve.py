"""The parameters of a detector, from what a person wrote to what a rule has."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from gateway.core.text import peer_text
from processors.contracts.condition_reader import read_number
from processors.contracts.condition_values import RuleError
from processors.contracts.conditions import Node
from processors.contracts.detectors import DetectorForm, Parameter
from processors.contracts.file import Scalar, nearest
from processors.contracts.model import Field
from processors.contracts.rules import Parameters
from processors.contracts.units import UNITS, Unit, duration_s, read_unit

Written = Scalar | list[str]

_NUMBER: Final = re.compile(r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*(\S*)")
_WORD: Final = re.compile(r"[^\s,]{1,200}")
_LIKE_MAX: Final = 4
_FIRST: Final = "expression"
"""Kind that others take their unit from."""


class Detector(msgspec.Struct, frozen=True, kw_only=True):
    """A detector as a rule has it; see `Rule` for the attributes."""

    parameters: Parameters
    expressions: dict[str, Node]
    fields: frozenset[str]
    unit: str


class ParameterError(Exception):
    """A parameter that cannot be used: which one, None for all of them together, and why."""

    def __init__(self, name: str | None, why: RuleError) -> None:
        super().__init__(name, why)
        self.name, self.why = name, why


def read_detector(
    form: DetectorForm,
    written: Mapping[str, Written],
    *,
    stream: str,
    fields: Mapping[str, Field],
    sampling_s: float | None,
) -> Detector:
    """Return the detector of a rule.

    Args:
        form: Which one.
        written: Its parameters as written.
        stream: Stream of the rule.
        fields: Every field of the stream.
        sampling_s: How often a device usually sends, or None.
    Raises: ParameterError: One is unknown, missing or unusable.
    """
    for name in written:
        if name not in form.parameters:
            mend = nearest(name, list(form.parameters))
            raise ParameterError(name, RuleError(f"there is no parameter '{peer_text(name)}'", mend))
    reader = _Reader(form, stream, fields, sampling_s)
    for name in sorted(form.parameters, key=lambda name: form.parameters[name].kind != _FIRST):
        default = form.parameters[name].default
        if name not in written and default is None:
            raise ParameterError(None, RuleError(f"'{name}' is missing", f"add '{name}': {form.parameters[name].what}"))
        try:
            reader.take(name, written.get(name))
        except RuleError as exc:
            raise ParameterError(name, exc) from exc
    unit = reader.units.get("of")
    return Detector(
        parameters={name: reader.values[name] for name in form.parameters},
        expressions=reader.expressions,
        fields=frozenset(reader.fields),
        unit=unit.symbol if unit else "",
    )


class _Reader:
    """Reads one parameter after another; a quantity after what it has its unit from."""

    def __init__(self, form: DetectorForm, stream: str, fields: Mapping[str, Field], sampling_s: float | None) -> None:
        self._form, self._stream, self._fields, self._sampling_s = form, stream, fields, sampling_s
        self.values: Parameters = {}
        self.units: dict[str, Unit | None] = {}
        self.fields: set[str] = set()
        self.expressions: dict[str, Node] = {}

    def take(self, name: str, written: Written | None) -> None:
        """Read one parameter, None for its default. Raises: RuleError: It cannot be used."""
        parameter = self._form.parameters[name]
        if written is None:
            assert parameter.default is not None
            self.values[name] = value = parameter.default
        else:
            self.values[name] = value = self._read(name, parameter, written)
        if not isinstance(value, float):
            return
        if not parameter.least <= value <= parameter.most:
            shown = f"{value:g} s" if parameter.kind == "duration" else f"{value:g}"
            raise RuleError(f"{shown} is out of bounds", f"write {parameter.least:g} to {parameter.most:g}")
        if parameter.is_span and self._sampling_s is not None and 0 < value < self._sampling_s:
            what = f"{value:g} s is shorter than {self._sampling_s:g} s, in which a reading comes ('sampling')"
            raise RuleError(what, f"write {self._sampling_s:g} s or more, or correct 'sampling'")

    def _read(self, name: str, parameter: Parameter, written: Written) -> float | str:
        kinds: dict[str, Callable[[str, Parameter, Written], float | str]] = {
            "duration": self._duration,
            "expression": self._expression,
            "like": self._like,
            "words": self._list,
            "rules": self._list,
        }
        return kinds.get(parameter.kind, self._number)(name, parameter, written)

    def _duration(self, _name: str, _parameter: Parameter, written: Written) -> float:
        try:
            return duration_s(_text(written))
        except ValueError as exc:
            raise RuleError(f"'{peer_text(str(written))}' is not a span of time", "write it as in '5 min'") from exc

    def _number(self, _name: str, parameter: Parameter, written: Written) -> float:
        if isinstance(written, bool | list):
            raise RuleError(f"{peer_text(repr(written))} is no number", "write a number")
        found = _NUMBER.fullmatch(str(written).strip())
        value = float(found[1]) if found else math.nan
        if found is None or not math.isfinite(value):
            raise RuleError(f"'{peer_text(str(written))}' is no number", "write a number")
        value *= self._factor(parameter, found[2]) if found[2] else 1.0
        if parameter.kind == "whole" and not value.is_integer():
            raise RuleError(f"{value:g} is no whole number", "write a whole number")
        return value

    def _factor(self, parameter: Parameter, symbol: str) -> float:
        """Return what a number in a unit is multiplied with; of temperatures it is a difference."""
        to = self._unit(parameter)
        unit = _unit_of(symbol)
        if to is None:
            raise RuleError(f"has the unit {symbol}", "write a number without a unit")
        if unit.dimension != to.dimension:
            raise RuleError(f"is in {symbol}", f"write it in {to.symbol}, which is {to.dimension}")
        return unit.scale / to.scale

    def _unit(self, parameter: Parameter) -> Unit | None:
        match parameter.kind:
            case "percent":
                return UNITS["%"]
            case "power":
                return UNITS["kW"]
            case "quantity":
                return self.units[parameter.unit_of]
            case _:
                return None

    def _expression(self, name: str, _parameter: Parameter, written: Written) -> str:
        text = _text(written)
        number, self.units[name] = read_number(text, self._fields)
        self.fields |= number.fields
        self.expressions[name] = number.node
        return text

    def _like(self, _name: str, _parameter: Parameter, written: Written) -> str:
        parts = [part.strip() for part in (written if isinstance(written, list) else _text(written).split(","))]
        if len(parts) > _LIKE_MAX:
            raise RuleError(f"names {len(parts)} fields, and may name {_LIKE_MAX}", "leave some out")
        read = []
        for part in parts:
            name, _, step = part.partition(" ")
            field = self._known(name)
            found = _NUMBER.fullmatch(step.strip())
            value = float(found[1]) if found else 0.0
            if found is None or not 0.0 < value < math.inf:
                mend = "write each field with its step, as in 'soc_pct 10, ambient_temp_c 5'"
                raise RuleError(f"'{peer_text(part)}' has no step", mend)
            if found[2]:
                unit = _unit_of(found[2])
                if field.unit is None or unit.dimension != field.unit.dimension:
                    mend = f"write it in {field.unit_symbol}" if field.unit else "write a number without a unit"
                    raise RuleError(f"the step of '{name}' is in {found[2]}", mend)
                value *= unit.scale / field.unit.scale
            read.append(f"{name} {value:.12g}")
        if len({part.split()[0] for part in read}) != len(read):
            raise RuleError("names a field twice", "write each field once")
        return ", ".join(read)

    def _list(self, _name: str, parameter: Parameter, written: Written) -> str:
        parts = [part.strip() for part in (written if isinstance(written, list) else _text(written).split(","))]
        for part in parts:
            if not _WORD.fullmatch(part):
                raise RuleError(f"'{peer_text(part)}' is no word", "write a list, as in [one, two]")
        if parameter.kind == "rules":
            parts = [part if "/" in part else f"{self._stream}/{part}" for part in parts]
        return ",".join(dict.fromkeys(parts))

    def _known(self, name: str) -> Field:
        numbers = [field.name for field in self._fields.values() if field.is_number]
        if name not in numbers:
            raise RuleError(f"there is no field '{peer_text(name)}' that is a number", nearest(name, numbers))
        self.fields.add(name)
        return self._fields[name]


def _text(written: Written) -> str:
    if not isinstance(written, str):
        raise RuleError(f"{peer_text(repr(written))} is no text", "write a text, and durations as in '5 min'")
    return written


def _unit_of(symbol: str) -> Unit:
    try:
        return read_unit(symbol)
    except KeyError as exc:
        raise RuleError(f"unknown unit '{peer_text(symbol)}'", nearest(symbol, list(UNITS))) from exc
