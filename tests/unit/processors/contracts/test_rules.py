"""Conditions of alert rules are read and checked."""

import pytest

from processors.contracts.rules import RuleError, condition_fields
from processors.contracts.units import UNITS

FIELDS = {"soc_pct": UNITS["%"], "power_kw": UNITS["kW"], "speed_kmh": UNITS["km/h"], "mode": None, "charging": None}


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("soc_pct < 10", {"soc_pct"}),
        ("soc_pct<10%", {"soc_pct"}),
        ("-power_kw > 20 kW and mode == 'drive'", {"power_kw", "mode"}),
        ("not charging or (soc_pct >= 99.5 and power_kw > 0)", {"charging", "soc_pct", "power_kw"}),
        ("power_kw / speed_kmh > 2", {"power_kw", "speed_kmh"}),
        ("charging == true", {"charging"}),
        ("power_kw + 3 < 1.5e3", {"power_kw"}),
    ],
)
def test_condition_reads_fields(text: str, fields: set[str]) -> None:
    """Comparisons, arithmetic, words and numbers with units."""
    assert fields == condition_fields(text, FIELDS)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("soc < 10", "there is no field 'soc'"),
        ("speed_kmh > 10 m/s", "compares km/h with m/s"),
        ("speed_kmh > 10 V", "compares km/h with V"),
        ("power_kw + speed_kmh > 1", "compares kW with km/h"),
        ("soc_pct <", "ends where a value is expected"),
        ("soc_pct < and 3", "there is no field 'and'"),
        ("(soc_pct < 3", "a '(' is not closed"),
        ("soc_pct < 3 4", "'4' does not belong there"),
        ("soc_pct = 3", "' = 3' cannot be read"),
        ("", "ends where a value is expected"),
        (")", "')' stands where a value is expected"),
        ("(" * 50 + "1" + ")" * 50, "is nested too deep"),
        ("__import__('os')", "there is no field '__import__'"),
    ],
)
def test_what_is_no_condition_is_named(text: str, what: str) -> None:
    """One sentence, never another exception."""
    with pytest.raises(RuleError) as caught:
        condition_fields(text, FIELDS)
    assert what == caught.value.what
