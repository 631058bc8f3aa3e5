"""Conditions of alert rules are read, checked and converted."""

import pytest

from gateway.core.limits import RULE_TOKENS_MAX
from processors.contracts import parse_contract
from processors.contracts.condition_reader import read_condition, read_number
from processors.contracts.condition_values import RuleError
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
from processors.contracts.rule_resolve import both_hold
from processors.contracts.units import UNITS

CONTRACT = parse_contract(
    """
stream: sample
version: 1.0.0
time: {measured_at: {path: ts}}
fields:
  soc_pct: {type: float, unit: "%"}
  power_kw: {type: float, unit: kW}
  speed_kmh: {type: float, unit: km/h}
  speed_mps: {type: float, unit: m/s}
  temp_c: {type: float, unit: degC}
  volts_v: {type: float, unit: V}
  amps_a: {type: float, unit: A}
  leak_kohm: {type: float, unit: kohm}
  seq: {type: int}
  mode: {type: enum, values: {D: drive, N: neutral}}
  codes: {type: str}
  charging: {type: bool}
""",
    file="sample.yaml",
)
FIELDS = {field.name: field for field in CONTRACT.fields}
SOC, POWER, TEMP = FieldRef("soc_pct"), FieldRef("power_kw"), FieldRef("temp_c")
VOLTS, AMPS, LEAK, MODE = FieldRef("volts_v"), FieldRef("amps_a"), FieldRef("leak_kohm"), FieldRef("mode")


def read(text: str, sampling_s: float | None = None) -> Node:
    """Return the tree of a condition."""
    return read_condition(text, FIELDS, sampling_s=sampling_s).node


TREES: dict[str, Node] = {
    "soc_pct < 10": Comparison("<", SOC, Number(10.0), "%"),
    "soc_pct<10%": Comparison("<", SOC, Number(10.0), "%"),
    "-power_kw > 20 kW": Comparison(">", Negative(POWER), Number(20.0), "kW"),
    "power_kw > -1.5e3": Comparison(">", POWER, Number(-1500.0), "kW"),
    "charging": FieldRef("charging"),
    "charging == true": Comparison("==", FieldRef("charging"), Truth(True)),
    "not charging": Not(FieldRef("charging")),
    "mode == 'drive'": Comparison("==", MODE, Text("drive")),
    'codes != ""': Comparison("!=", FieldRef("codes"), Text("")),
    "seq > 3 or charging and soc_pct < 1": Any_(
        (
            Comparison(">", FieldRef("seq"), Number(3.0)),
            Every((FieldRef("charging"), Comparison("<", SOC, Number(1.0), "%"))),
        )
    ),
    "not (charging or soc_pct < 1)": Not(Any_((FieldRef("charging"), Comparison("<", SOC, Number(1.0), "%")))),
    "power_kw + 3 * 2 < 1": Comparison(
        "<", Arithmetic("+", POWER, Arithmetic("*", Number(3.0), Number(2.0))), Number(1.0), "kW"
    ),
    "rate(temp_c, 10 s) >= 1 degC/s": Comparison(">=", Call("rate", TEMP, 10.0), Number(1.0), "degC/s"),
    "lowest(soc_pct, 5 min) < 3": Comparison("<", Call("lowest", SOC, 300.0), Number(3.0), "%"),
    "abs(soc_pct - previous(soc_pct)) > 5": Comparison(
        ">", Call("abs", Arithmetic("-", SOC, Call("previous", SOC))), Number(5.0), "%"
    ),
    "previous(mode) == 'neutral'": Comparison("==", Call("previous", MODE), Text("neutral")),
    "volts_v < 0.75 * highest(volts_v, 60 s)": Comparison(
        "<", VOLTS, Arithmetic("*", Number(0.75), Call("highest", VOLTS, 60.0)), "V"
    ),
    # What is computed is converted into the unit of the other side.
    "rate(temp_c, 60 s) >= 5 degC/min": Comparison(
        ">=", Arithmetic("*", Call("rate", TEMP, 60.0), Number(60.0)), Number(5.0), "degC/min"
    ),
    "change(temp_c, 60 s) > 2 K": Comparison(">", Call("change", TEMP, 60.0), Number(2.0), "K"),
    "change(temp_c, 60 s) - 1 K > 9 degF": Comparison(
        ">",
        Arithmetic("*", Arithmetic("-", Call("change", TEMP, 60.0), Number(1.0)), Number(1.8)),
        Number(9.0),
        "degF",
    ),
    "leak_kohm / volts_v < 100 ohm/V": Comparison(
        "<", Arithmetic("*", Arithmetic("/", LEAK, VOLTS), Number(1000.0)), Number(100.0), "ohm/V"
    ),
    "volts_v * amps_a > 3 kW": Comparison(
        ">", Arithmetic("*", Arithmetic("*", VOLTS, AMPS), Number(0.001)), Number(3.0), "kW"
    ),
    "power_kw < volts_v * amps_a": Comparison(
        "<", POWER, Arithmetic("*", Arithmetic("*", VOLTS, AMPS), Number(0.001)), "kW"
    ),
    "rate(speed_mps, 5 s) < -4 m/s2": Comparison("<", Call("rate", FieldRef("speed_mps"), 5.0), Number(-4.0), "m/s2"),
    # Nobody knows what a bare number makes of a unit.
    "volts_v / 1000 > 1 kV": Comparison(">", Arithmetic("/", VOLTS, Number(1000.0)), Number(1.0), "kV"),
}


@pytest.mark.parametrize("text", TREES)
def test_condition_becomes_a_tree(text: str) -> None:
    """Precedence, functions, units."""
    assert TREES[text] == read(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("soc < 10", "there is no field 'soc'"),
        ("speed_kmh > 10 m/s", "compares km/h with m/s"),
        ("10 m/s < speed_kmh", "compares m/s with km/h"),
        ("speed_kmh > speed_mps", "compares km/h with m/s"),
        ("speed_kmh > 10 V", "compares km/h with V"),
        ("power_kw + speed_kmh > 1", "compares kW with km/h"),
        ("rate(temp_c, 10 s) > 1 degC", "compares degC/s with degC"),
        ("leak_kohm / volts_v < 100 ohm", "compares kohm/V with ohm"),
        # A temperature and a change of it are a temperature, and that has a zero of its own in each unit.
        ("temp_c + change(temp_c, 60 s) > 100 degF", "compares degC with degF"),
        ("temp_c - change(temp_c, 60 s) > 300 K", "compares degC with K"),
        ("temp_c - 3 degC > 100 degF", "compares degC with degF"),
        ("soc_pct <", "ends where a value is expected"),
        ("soc_pct < and 3", "there is no field 'and'"),
        ("(soc_pct < 3", "a '(' is not closed"),
        ("soc_pct < 3 4", "'4' does not belong there"),
        ("soc_pct < 3 knots", "unknown unit 'knots'"),
        ("soc_pct = 3", "' = 3' cannot be read"),
        ("soc_pct < 1e999", "1e999 is too large"),
        ("", "ends where a value is expected"),
        (")", "')' stands where a value is expected"),
        ("(" * 50 + "1" + ")" * 50, "is nested too deep"),
        ("-" * 50 + "soc_pct < 1", "is nested too deep"),
        ("soc_pct < 1" + " + 1" * RULE_TOKENS_MAX, f"has more than {RULE_TOKENS_MAX} words"),
        ("__import__('os')", "there is no function '__import__'"),
        ("rte(soc_pct, 10 s) > 1", "there is no function 'rte'"),
        ("rate > 1", "'rate' is a function"),
        ("rate(soc_pct) > 1", "'rate' has no span of time"),
        ("rate(soc_pct, 10) > 1", "the span of 'rate' is '10'"),
        ("rate(soc_pct, 10 km) > 1", "the span of 'rate' is '10 km'"),
        ("rate(soc_pct, seq) > 1", "the span of 'rate' is 'seq'"),
        ("rate(soc_pct, ", "the span of 'rate' is nothing"),
        ("rate(soc_pct, 0 s) > 1", "the span of 'rate' is 0 s, and is at most 3600 s"),
        ("rate(soc_pct, 61 min) > 1", "the span of 'rate' is 61 min, and is at most 3600 s"),
        ("rate(soc_pct, 10 s, 3) > 1", "',' does not belong into 'rate'"),
        ("abs(soc_pct, 10 s) > 1", "',' does not belong into 'abs'"),
        ("abs(rate(change(soc_pct, 10 s), 10 s)) > 1", "'change' stands inside 'rate': the past of a past is not kept"),
        ("rate(3, 10 s) > soc_pct", "'rate' of something that never changes"),
        ("rate(mode, 10 s) > 1", "'mode' (enum) is no number to take 'rate' of"),
        ("mode > 3", "compares 'mode' (enum) with a number"),
        ("mode == true", "compares 'mode' (enum) with a condition"),
        ("charging == 'yes'", "compares 'charging' (bool) with the word 'yes'"),
        ("mode == 'driving'", "'mode' is never 'driving'"),
        ("previous(mode) == 'driving'", "'mode' is never 'driving'"),
        ("'driving' != mode", "'mode' is never 'driving'"),
        ("mode > 'drive'", "'>' between words or conditions"),
        ("mode + 1 > 2", "'mode' (enum) is no number to use with '+'"),
        ("-mode == 2", "'mode' (enum) is no number to use with '-'"),
        ("soc_pct", "'soc_pct' (float) stands where a condition is expected"),
        ("soc_pct and charging", "'soc_pct' (float) stands where a condition is expected"),
        ("not soc_pct", "'soc_pct' (float) stands where a condition is expected"),
        ("1 < 2", "reads no field"),
        ("true", "reads no field"),
    ],
)
def test_what_is_no_condition_is_named(text: str, what: str) -> None:
    """One sentence, never another exception."""
    with pytest.raises(RuleError) as caught:
        read(text)
    assert what == caught.value.what


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("soc < 10", "write 'soc_pct'"),
        ("rte(soc_pct, 10 s) > 1", "write 'rate'"),
        ("mode == 'driv'", "write 'drive'"),
        ("speed_kmh > 10 m/s", "write the value in km/h: 1 m/s is 3.6 km/h"),
        ("10 m/s < speed_kmh", "write the value in km/h: 1 m/s is 3.6 km/h"),
        ("speed_kmh > 10 V", "speed and voltage do not compare"),
        ("soc_pct < 3 kwh", "write 'kWh'"),
        ("rate(soc_pct) > 1", "write rate(FIELD, 10 s)"),
    ],
)
def test_mend_says_what_to_write(text: str, mend: str) -> None:
    """The nearest known word, or the conversion."""
    with pytest.raises(RuleError) as caught:
        read(text)
    assert mend == caught.value.mend


def test_span_is_no_shorter_than_the_sampling() -> None:
    """A span in which no second reading comes says nothing."""
    assert read("rate(soc_pct, 10 s) > 1", 10.0) == read("rate(soc_pct, 10 s) > 1")
    with pytest.raises(RuleError, match="a reading comes every 10 s"):
        read("rate(soc_pct, 9 s) > 1", 10.0)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("soc_pct < 10", "%"),
        ("soc_pct < 10 and temp_c > 3", "%"),
        ("(soc_pct < 10 or soc_pct > 90) and temp_c > 3", "%"),
        ("soc_pct < 10 or temp_c > 3", ""),
        ("mode == 'drive' and soc_pct < 10", ""),
        ("charging", ""),
        ("rate(temp_c, 60 s) > 5 degC/min", "degC/min"),
    ],
)
def test_shown_unit_is_that_of_the_comparison_that_holds(text: str, unit: str) -> None:
    """Where it is not always the same comparison, there is none."""
    assert unit == read_condition(text, FIELDS).unit


def test_number_of_fields_has_no_past() -> None:
    """What detectors watch is arithmetic over one reading."""
    number, unit = read_number("volts_v * amps_a - 3 W", FIELDS)
    expected = Arithmetic("-", Arithmetic("*", VOLTS, AMPS), Number(3.0))
    assert expected == number.node
    assert number.fields == {"volts_v", "amps_a"}
    assert UNITS["W"] == unit
    for text, what in (
        ("rate(soc_pct, 10 s)", "asks for the past"),
        ("soc_pct < 3", "is no number"),
        ("3", "no field"),
    ):
        with pytest.raises(RuleError, match=what):
            read_number(text, FIELDS)


@pytest.mark.parametrize(
    ("when", "clear", "expected"),
    [
        ("soc_pct < 10", "soc_pct < 15", True),
        ("soc_pct < 10", "soc_pct > 5", True),
        ("soc_pct < 10", "soc_pct > 15", False),
        ("soc_pct < 10", "soc_pct >= 10", False),
        ("soc_pct <= 10", "soc_pct >= 10", True),
        ("10 > soc_pct", "15 > soc_pct", True),
        ("soc_pct < 10", "soc_pct != 10", True),
        ("soc_pct == 10", "soc_pct != 10", False),
        ("soc_pct != 10", "soc_pct != 11", True),
        ("soc_pct < 10", "temp_c < 15", False),
        ("soc_pct < 10 and charging", "soc_pct < 15", False),
        ("mode == 'drive'", "mode == 'drive'", True),
        ("mode == 'drive'", "mode != 'neutral'", True),
        ("mode == 'drive'", "mode != 'drive'", False),
        ("charging == true", "charging == false", False),
        ("temp_c - 3 > 10", "temp_c - 3 > 5", True),
    ],
)
def test_two_bounds_of_one_value_are_compared(when: str, clear: str, expected: object) -> None:
    """Only where both are bounds of the same thing is anything known."""
    assert expected == both_hold(read(when), read(clear))
