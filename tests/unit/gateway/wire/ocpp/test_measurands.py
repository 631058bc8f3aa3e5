"""A sampled value has one place, and only where the column says the same thing."""

import json
from pathlib import Path

import ocpp  # type: ignore[import-untyped]
import pytest

from gateway.wire.ocpp.measurands import KNOWN, Measurands
from gateway.wire.ocpp.versions import Version

SCHEMAS = Path(ocpp.__file__).parent
V16, V201, V21 = (Measurands(version) for version in Version)


@pytest.mark.parametrize(
    ("version", "file"),
    [
        (Version.V16, "v16/schemas/MeterValues.json"),
        (Version.V201, "v201/schemas/MeterValuesRequest.json"),
        (Version.V21, "v21/schemas/MeterValuesRequest.json"),
    ],
)
def test_known_measurands_are_those_of_the_schemas(version: Version, file: str) -> None:
    """What is flagged as unknown is what the standard's own schema does not have."""
    schema = json.loads((SCHEMAS / file).read_text("utf-8-sig"))
    if version is Version.V16:
        sample = schema["properties"]["meterValue"]["items"]["properties"]["sampledValue"]["items"]["properties"]
        expected = sample["measurand"]["enum"]
    else:
        expected = schema["definitions"]["MeasurandEnumType"]["enum"]
    assert set(expected) == KNOWN[version]


def test_nothing_said_is_the_import_register_in_watt_hours() -> None:
    """The standard's defaults: Energy.Active.Import.Register, Wh, Outlet, no phase."""
    place = V16[None, None, None, None]
    assert ("energy_import_wh", None, ()) == (place.column, place.convert, place.flags)


@pytest.mark.parametrize(
    ("measurands", "measurand", "unit", "value", "expected"),
    [
        (V16, "Energy.Active.Import.Register", "kWh", 1.001, 1001.0),
        (V16, "Energy.Active.Export.Register", "Wh", 7.0, 7.0),
        (V16, "Power.Active.Import", "W", 11_040.0, 11.04),
        (V16, "Power.Active.Import", None, 11_040.0, 11.04),
        (V16, "Power.Offered", "kW", 22.0, 22.0),
        (V16, "Temperature", "Fahrenheit", 212.0, 100.0),
        (V16, "Temperature", "Celcius", 21.5, 21.5),
        (V16, "Temperature", "K", 300.0, 26.85),
        (V16, "Frequency", "Hertz", 50.0, 50.0),
        (V201, "Frequency", "Hz", 50.0, 50.0),
        (V21, "Power.Import.Offered", "kW", 150.0, 150.0),
        (V21, "Current.Import.Offered", "A", 32.0, 32.0),
    ],
)
def test_units_become_those_of_the_column(
    measurands: Measurands, measurand: str, unit: str | None, value: float, expected: float
) -> None:
    """Watt hours, kilowatts, degrees Celsius; without noise in the last digits."""
    place = measurands[measurand, None, None, unit]
    assert place.flags == ()
    assert expected == (place.convert(value) if place.convert else value)


@pytest.mark.parametrize(
    ("measurand", "phase", "column"),
    [
        ("Current.Import", "L1", "current_l1_a"),
        ("Current.Import", "L3-N", "current_l3_a"),
        ("Current.Import", "N", None),
        ("Voltage", "L2-N", "voltage_l2_v"),
        ("Voltage", "L1-L2", None),
        ("Voltage", None, "voltage_v"),
        ("Frequency", "L1", None),
    ],
)
def test_phase_has_a_column_only_where_it_is_one_quantity(
    measurand: str, phase: str | None, column: str | None
) -> None:
    """400 V between two phases is not the voltage of either; the neutral's current is nobody's."""
    assert column == V16[measurand, phase, None, None].column


@pytest.mark.parametrize(("phase", "line"), [("L1", "L1"), ("L2-N", "L2"), ("L1-L2", None), ("N", None)])
def test_power_of_a_phase_adds_to_a_total(phase: str, line: str | None) -> None:
    """Power and energy of the phases add up; those between two phases and of the neutral do not."""
    place = V16["Power.Active.Import", phase, None, "kW"]
    assert (None, line, "power_import_kw" if line else None) == (place.column, place.line, place.total)


@pytest.mark.parametrize(
    ("measurand", "location", "column"),
    [
        ("Power.Active.Import", "Outlet", "power_import_kw"),
        ("Power.Active.Import", "Inlet", None),
        ("Voltage", "EV", None),
        ("Current.Import", "Cable", None),
        ("SoC", "EV", "soc_pct"),
        ("Temperature", "Body", "temperature_c"),
    ],
)
def test_only_the_outlet_is_the_chargers_own(measurand: str, location: str, column: str | None) -> None:
    """State of charge is the vehicle's by nature, and a temperature is one wherever it is."""
    assert column == V16[measurand, None, location, None].column


@pytest.mark.parametrize(
    ("measurand", "unit", "column", "flags"),
    [
        ("Frequency", "Hz", "frequency_hz", ("unknown_unit",)),
        ("SoC", "%", "soc_pct", ("unknown_unit",)),
        ("Power.Active.Import", "KW", "power_import_kw", ("unknown_unit",)),
        ("Current.Import", "mA", None, ("unknown_unit",)),
        ("Current.Import", "", None, ("unknown_unit",)),
        ("Power.Active.Import", "Wh", None, ("unknown_unit",)),
        ("Power.Factor", "%", None, ("unknown_unit",)),
        ("Energy.Active.Import.Total", "Wh", None, ("unknown_measurand",)),
        ("Energy.Active.Net", "Wh", None, ("unknown_measurand",)),
        ("Power.Reactive.Import", "kvar", None, ()),
    ],
)
def test_dirt_is_understood_where_it_can_be_and_flagged(
    measurand: str, unit: str, column: str | None, flags: tuple[str, ...]
) -> None:
    """A unit under another name is still that unit; one of another quantity is none."""
    place = V16[measurand, None, None, unit]
    assert (column, flags) == (place.column, place.flags)


def test_unknown_phase_and_location_keep_a_value_out_of_its_column() -> None:
    """Where it was measured nobody can say."""
    assert (None, ("unknown_phase",)) == V16["Voltage", "L4", None, "V"][::4]
    assert (None, ("unknown_location",)) == V16["Voltage", None, "Roof", "V"][::4]
