"""Units, their integrals, and spans of time."""

import pytest

from processors.contracts.units import INTEGRALS, UNITS, convert, duration_s, integral_column


@pytest.mark.parametrize(
    ("field", "unit", "column"),
    [
        ("speed_kmh", "km/h", "distance_km"),
        ("gps_speed_kmh", "km/h", "gps_distance_km"),
        ("wind_speed_ms", "m/s", "wind_distance_m"),
        ("power_kw", "kW", "energy_kwh"),
        ("pack_power_kw", "kW", "pack_energy_kwh"),
        ("pack_current_a", "A", "pack_charge_ah"),
        ("heater_w", "W", "heater_energy_wh"),
        ("speed", "km/h", "distance_km"),
    ],
)
def test_an_integral_is_named_after_what_it_is(field: str, unit: str, column: str) -> None:
    """Kilometres per hour over time are kilometres, and the name says so."""
    assert column == integral_column(field, INTEGRALS[unit])


@pytest.mark.parametrize("symbol", sorted(INTEGRALS))
def test_an_integral_over_an_hour_agrees_with_the_dimensions(symbol: str) -> None:
    """One unit for 3600 s times the scale is what the bases of both units say it is."""
    integral = INTEGRALS[symbol]
    base_seconds = UNITS[symbol].scale * 3600
    assert base_seconds / UNITS[integral.unit].scale == pytest.approx(3600 * integral.scale)


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [(1.0, "m/s", "km/h", 3.6), (32.0, "degF", "degC", 0.0), (0.0, "K", "degC", -273.15), (1.0, "bar", "kPa", 100.0)],
)
def test_values_convert_within_a_dimension(value: float, unit: str, to: str, expected: float) -> None:
    """Scales and offsets agree with the definitions."""
    assert expected == pytest.approx(convert(value, unit=UNITS[unit], to=UNITS[to]))


@pytest.mark.parametrize(
    ("text", "seconds"), [("5 min", 300.0), ("90 s", 90.0), ("730 d", 63_072_000.0), ("1.5h", 5400.0), ("20 ms", 0.02)]
)
def test_spans_of_time_are_seconds(text: str, seconds: float) -> None:
    """A number and a unit, with or without a space."""
    assert seconds == duration_s(text)


@pytest.mark.parametrize("text", ["", "5", "min", "-5 min", "5 minutes", "5  min", "1e3 s", "5 km", "inf s"])
def test_anything_else_is_no_span_of_time(text: str) -> None:
    """Guessing would hide a typing error."""
    with pytest.raises(ValueError, match="span of time"):
        duration_s(text)
