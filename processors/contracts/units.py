"""Units a contract may use: symbol, dimension, scale to the dimension's base, and what an integral over time becomes.

A table of ours instead of a unit library: a contract needs these and no arithmetic, and an unknown symbol must be an
error with the nearest known one, not a new unit.
"""

import math
import re
from typing import Final

import msgspec

from gateway.core.text import peer_text


class Unit(msgspec.Struct, frozen=True):
    """A unit: `value_in_base = value * scale + offset`; units convert into each other if their dimension is equal."""

    symbol: str
    dimension: str
    scale: float = 1.0
    offset: float = 0.0


class Integral(msgspec.Struct, frozen=True):
    """What a unit becomes when integrated over seconds: unit, column suffix, name of the quantity, and scale."""

    unit: str
    suffix: str
    quantity: str
    scale: float


_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_DAY: Final = 86400.0

UNITS: Final[dict[str, Unit]] = {
    unit.symbol: unit
    for unit in (
        Unit("1", "number"),
        Unit("%", "number", 0.01),
        Unit("ppm", "number", 1e-6),
        Unit("deg", "angle"),
        Unit("rad", "angle", 57.29577951308232),
        Unit("degC", "temperature"),
        Unit("degF", "temperature", 5 / 9, -160 / 9),
        Unit("K", "temperature", 1.0, -273.15),
        Unit("V", "voltage"),
        Unit("mV", "voltage", 1e-3),
        Unit("kV", "voltage", 1e3),
        Unit("A", "current"),
        Unit("mA", "current", 1e-3),
        Unit("Ah", "charge", _HOUR),
        Unit("mAh", "charge", _HOUR * 1e-3),
        Unit("ohm", "resistance"),
        Unit("mohm", "resistance", 1e-3),
        Unit("kohm", "resistance", 1e3),
        Unit("Mohm", "resistance", 1e6),
        Unit("W", "power"),
        Unit("kW", "power", 1e3),
        Unit("MW", "power", 1e6),
        Unit("J", "energy"),
        Unit("Wh", "energy", _HOUR),
        Unit("kWh", "energy", _HOUR * 1e3),
        Unit("MWh", "energy", _HOUR * 1e6),
        Unit("kWh/100km", "consumption", 36.0),
        Unit("Wh/km", "consumption", 3.6),
        Unit("m", "length"),
        Unit("mm", "length", 1e-3),
        Unit("cm", "length", 1e-2),
        Unit("km", "length", 1e3),
        Unit("mi", "length", 1609.344),
        Unit("m/s", "speed"),
        Unit("km/h", "speed", 1 / 3.6),
        Unit("mph", "speed", 0.44704),
        Unit("m/s2", "acceleration"),
        Unit("s", "time"),
        Unit("ms", "time", 1e-3),
        Unit("min", "time", _MINUTE),
        Unit("h", "time", _HOUR),
        Unit("d", "time", _DAY),
        Unit("Hz", "frequency"),
        Unit("rpm", "frequency", 1 / 60),
        Unit("Pa", "pressure"),
        Unit("hPa", "pressure", 1e2),
        Unit("kPa", "pressure", 1e3),
        Unit("bar", "pressure", 1e5),
        Unit("psi", "pressure", 6894.757293168),
        Unit("kg", "mass"),
        Unit("t", "mass", 1e3),
        Unit("N", "force"),
        Unit("Nm", "torque"),
        Unit("l", "volume", 1e-3),
        Unit("lx", "illuminance"),
        Unit("dBm", "signal"),
        Unit("B", "data"),
        Unit("KiB", "data", 1024.0),
        Unit("MiB", "data", 1048576.0),
    )
}

INTEGRALS: Final[dict[str, Integral]] = {
    "km/h": Integral("km", "km", "distance", 1 / _HOUR),
    "m/s": Integral("m", "m", "distance", 1.0),
    "mph": Integral("mi", "mi", "distance", 1 / _HOUR),
    "W": Integral("Wh", "wh", "energy", 1 / _HOUR),
    "kW": Integral("kWh", "kwh", "energy", 1 / _HOUR),
    "MW": Integral("MWh", "mwh", "energy", 1 / _HOUR),
    "A": Integral("Ah", "ah", "charge", 1 / _HOUR),
    "mA": Integral("mAh", "mah", "charge", 1 / _HOUR),
}

TIME_UNITS: Final = {symbol: unit for symbol, unit in UNITS.items() if unit.dimension == "time"}
"""Units that a span of time may be written in."""

_QUOTIENTS: Final = {
    ("length", "time"): "speed",
    ("speed", "time"): "acceleration",
    ("energy", "time"): "power",
    ("charge", "time"): "current",
    ("voltage", "current"): "resistance",
    ("voltage", "resistance"): "current",
    ("power", "voltage"): "current",
    ("power", "current"): "voltage",
    ("energy", "length"): "consumption",
    ("energy", "power"): "time",
    ("length", "speed"): "time",
}
_PRODUCTS: Final = {
    frozenset({"voltage", "current"}): "power",
    frozenset({"resistance", "current"}): "voltage",
    frozenset({"current", "time"}): "charge",
    frozenset({"power", "time"}): "energy",
    frozenset({"speed", "time"}): "length",
    frozenset({"acceleration", "time"}): "speed",
    frozenset({"consumption", "length"}): "energy",
}
"""Dimensions whose quotients and products have a dimension in UNITS, of the same base; others get a name of both."""

_RATE_WORDS: Final = frozenset({"speed", "velocity", "power", "current"})
_UNIT_SUFFIXES: Final = frozenset({"kmh", "ms", "mph", "w", "kw", "mw", "a", "ma", "mps"})


def integral_column(field: str, integral: Integral) -> str:
    """Return the column name of a field's integral: `speed_kmh` -> `distance_km`, `pack_power_kw` -> `pack_energy_kwh`.

    The unit suffix and the word for the rate are replaced; what else the name says is kept.
    """
    words = field.split("_")
    if len(words) > 1 and words[-1] in _UNIT_SUFFIXES:
        words.pop()
    kept = [word for word in words if word not in _RATE_WORDS]
    return "_".join([*kept, integral.quantity, integral.suffix])


def convert(value: float, *, unit: Unit, to: Unit) -> float:
    """Return `value` of `unit` in `to`; both have one dimension."""
    assert unit.dimension == to.dimension
    return (value * unit.scale + unit.offset - to.offset) / to.scale


def read_unit(text: str) -> Unit:
    """Return the unit that is written as a symbol, or as two joined by a slash, as in `degC/s` or `ohm/V`.

    Raises: KeyError: There is no such unit.
    """
    if text in UNITS:
        return UNITS[text]
    left, _, right = text.rpartition("/")
    return msgspec.structs.replace(quotient_unit(UNITS[left], UNITS[right]), symbol=text)


def quotient_unit(left: Unit, right: Unit) -> Unit:
    """Return the unit of a quotient. A temperature in it is a difference."""
    scale = left.scale / right.scale
    if left.dimension == right.dimension:
        return _named("number", scale, f"{left.symbol}/{right.symbol}")
    pair = left.dimension, right.dimension
    dimension = left.dimension if right.dimension == "number" else _QUOTIENTS.get(pair, "/".join(pair))
    return _named(dimension, scale, f"{left.symbol}/{right.symbol}")


def product_unit(left: Unit, right: Unit) -> Unit:
    """Return the unit of a product. A temperature in it is a difference."""
    scale = left.scale * right.scale
    if "number" in (left.dimension, right.dimension):
        dimension = left.dimension if right.dimension == "number" else right.dimension
    else:
        pair = frozenset({left.dimension, right.dimension})
        dimension = _PRODUCTS.get(pair, "*".join(sorted((left.dimension, right.dimension))))
    return _named(dimension, scale, f"{left.symbol}*{right.symbol}")


def rate_unit(unit: Unit) -> Unit:
    """Return the unit of a change per second."""
    return quotient_unit(unit, UNITS["s"])


def _named(dimension: str, scale: float, symbol: str) -> Unit:
    """Return the unit of that dimension and scale under its own symbol, if it has one."""
    for unit in UNITS.values():
        if unit.dimension == dimension and not unit.offset and math.isclose(unit.scale, scale, rel_tol=1e-9):
            return unit
    return Unit(symbol, dimension, scale)


_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|min|h|d)")


def duration_s(text: str) -> float:
    """Return the seconds of a span such as `5 min`, `90 s`, `730 d`.

    Raises: ValueError: It is not a number followed by ms, s, min, h or d.
    """
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(
            f"'{peer_text(text)}' is not a span of time; write a number and ms, s, min, h or d, as in '5 min'"
        )
    return float(found[1]) * UNITS[found[2]].scale
