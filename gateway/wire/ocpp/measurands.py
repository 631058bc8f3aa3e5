"""What a sampled value is: measurand, phase, location and unit to a column in base units, as one table.

From OCPP 1.6 edition 2 section 7 and OCPP 2.0.1 and 2.1 part 2 (MeasurandEnumType, SampledValueType, appendix 2).
Columns are watt hours, kilowatts, amperes, volts, degrees Celsius, percent and hertz. A value gets a column only where
the column says the same thing: a current or a voltage of one phase has columns of its own, energy and power of the
three phases may be added, and what the vehicle's inlet measures is not what the outlet does.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Final, NamedTuple

from gateway.wire.ocpp.versions import Version

UNKNOWN_MEASURAND: Final = "unknown_measurand"
UNKNOWN_UNIT: Final = "unknown_unit"
UNKNOWN_PHASE: Final = "unknown_phase"
UNKNOWN_LOCATION: Final = "unknown_location"

DEFAULT_MEASURAND: Final = "Energy.Active.Import.Register"
DEFAULT_CONTEXT: Final = "Sample.Periodic"
CONTEXTS: Final = frozenset(
    {
        "Interruption.Begin",
        "Interruption.End",
        "Other",
        "Sample.Clock",
        DEFAULT_CONTEXT,
        "Transaction.Begin",
        "Transaction.End",
        "Trigger",
    }
)

Conversion = Callable[[float], float]


class Place(NamedTuple):
    """Where a sampled value goes.

    Attributes:
        column: Column of `charger_meter`, None for a value that has none.
        convert: From the value's unit to the column's, None where they are the same.
        line: Phase L1, L2 or L3 of a quantity whose phases add up.
        total: Column that the sum of the three lines is, None for a quantity that does not add up.
        flags: What is not in the standard.
    """

    column: str | None
    convert: Conversion | None = None
    line: str | None = None
    total: str | None = None
    flags: tuple[str, ...] = ()


Key = tuple[str | None, str | None, str | None, str | None]
"""Measurand, phase, location and unit as sent; None where the message leaves it to the default."""


class _Quantity(NamedTuple):
    """Units of a quantity with their conversion to the column's; the first is what no unit stands for."""

    units: Mapping[str, Conversion | None]


def _times_1000(value: float) -> float:
    # Rounded where a nanowatt hour would be, or 1.001 kWh were 1000.9999999999999 Wh.
    return round(value * 1000.0, 9)


def _by_1000(value: float) -> float:
    return value / 1000.0


def _from_fahrenheit(value: float) -> float:
    return round((value - 32.0) * 5.0 / 9.0, 9)


def _from_kelvin(value: float) -> float:
    return round(value - 273.15, 9)


_ENERGY: Final = _Quantity({"Wh": None, "kWh": _times_1000})
_POWER: Final = _Quantity({"W": _by_1000, "kW": None})
_CURRENT: Final = _Quantity({"A": None})
_VOLTAGE: Final = _Quantity({"V": None})
_SHARE: Final = _Quantity({"Percent": None})
_TEMPERATURE: Final = _Quantity(
    {"Celsius": None, "Celcius": None, "Fahrenheit": _from_fahrenheit, "K": _from_kelvin}
)  # `Celcius` is how the schemas of 1.6 spell it.
_FREQUENCY_16: Final = _Quantity({"Hertz": None})
_FREQUENCY_2: Final = _Quantity({"Hz": None})
_RATIO: Final = _Quantity({"": None})

_LINES: Final = {"L1": "L1", "L2": "L2", "L3": "L3", "L1-N": "L1", "L2-N": "L2", "L3-N": "L3"}
_CURRENTS: Final = {phase: f"current_{line.lower()}_a" for phase, line in _LINES.items()}
_VOLTAGES: Final = {phase: f"voltage_{line.lower()}_v" for phase, line in _LINES.items()}
_OUTLET: Final = "Outlet"


class _Measurand(NamedTuple):
    """Columns of a measurand.

    Attributes:
        quantity: Its units.
        column: Column of the value without a phase.
        phases: Columns of values with one.
        adds_up: Whether the values of L1, L2 and L3 add up to the column.
        anywhere: Whether it is the same wherever it is measured.
    """

    quantity: _Quantity
    column: str
    phases: Mapping[str, str] = {}
    adds_up: bool = False
    anywhere: bool = False


_COLUMNS: Final[Mapping[str, _Measurand]] = {
    DEFAULT_MEASURAND: _Measurand(_ENERGY, "energy_import_wh", adds_up=True),
    "Energy.Active.Export.Register": _Measurand(_ENERGY, "energy_export_wh", adds_up=True),
    "Energy.Active.Import.Interval": _Measurand(_ENERGY, "energy_import_interval_wh", adds_up=True),
    "Power.Active.Import": _Measurand(_POWER, "power_import_kw", adds_up=True),
    "Power.Active.Export": _Measurand(_POWER, "power_export_kw", adds_up=True),
    "Power.Offered": _Measurand(_POWER, "power_offered_kw", adds_up=True),
    "Power.Import.Offered": _Measurand(_POWER, "power_offered_kw", adds_up=True),
    "Current.Import": _Measurand(_CURRENT, "current_import_a", _CURRENTS),
    "Current.Offered": _Measurand(_CURRENT, "current_offered_a"),
    "Current.Import.Offered": _Measurand(_CURRENT, "current_offered_a"),
    "Voltage": _Measurand(_VOLTAGE, "voltage_v", _VOLTAGES),
    "SoC": _Measurand(_SHARE, "soc_pct", anywhere=True),
    "Temperature": _Measurand(_TEMPERATURE, "temperature_c", anywhere=True),
    "Frequency": _Measurand(_FREQUENCY_16, "frequency_hz"),
    "Power.Factor": _Measurand(_RATIO, "power_factor"),
}

_MEASURANDS_16: Final = (
    "Energy.Active.Export.Register Energy.Active.Import.Register Energy.Reactive.Export.Register "
    "Energy.Reactive.Import.Register Energy.Active.Export.Interval Energy.Active.Import.Interval "
    "Energy.Reactive.Export.Interval Energy.Reactive.Import.Interval Power.Active.Export Power.Active.Import "
    "Power.Offered Power.Reactive.Export Power.Reactive.Import Power.Factor Current.Import Current.Export "
    "Current.Offered Voltage Frequency Temperature SoC RPM"
)
_MEASURANDS_201: Final = (
    "Current.Export Current.Import Current.Offered Energy.Active.Export.Register Energy.Active.Import.Register "
    "Energy.Reactive.Export.Register Energy.Reactive.Import.Register Energy.Active.Export.Interval "
    "Energy.Active.Import.Interval Energy.Active.Net Energy.Reactive.Export.Interval Energy.Reactive.Import.Interval "
    "Energy.Reactive.Net Energy.Apparent.Net Energy.Apparent.Import Energy.Apparent.Export Frequency "
    "Power.Active.Export Power.Active.Import Power.Factor Power.Offered Power.Reactive.Export Power.Reactive.Import "
    "SoC Voltage"
)
_MEASURANDS_21: Final = (
    "Current.Export.Offered Current.Export.Minimum Current.Import.Offered Current.Import.Minimum Display.PresentSOC "
    "Display.MinimumSOC Display.TargetSOC Display.MaximumSOC Display.RemainingTimeToMinimumSOC "
    "Display.RemainingTimeToTargetSOC Display.RemainingTimeToMaximumSOC Display.ChargingComplete "
    "Display.BatteryEnergyCapacity Display.InletHot Energy.Active.Import.CableLoss "
    "Energy.Active.Import.LocalGeneration.Register Energy.Active.Setpoint.Interval EnergyRequest.Target "
    "EnergyRequest.Minimum EnergyRequest.Maximum EnergyRequest.Minimum.V2X EnergyRequest.Maximum.V2X "
    "EnergyRequest.Bulk Power.Active.Setpoint Power.Active.Residual Power.Export.Minimum Power.Export.Offered "
    "Power.Import.Offered Power.Import.Minimum Voltage.Minimum Voltage.Maximum"
)
KNOWN: Final[Mapping[Version, frozenset[str]]] = {
    Version.V16: frozenset(_MEASURANDS_16.split()),
    Version.V201: frozenset(_MEASURANDS_201.split()),
    Version.V21: frozenset((_MEASURANDS_201 + " " + _MEASURANDS_21).split()),
}
"""Measurands of each version."""

_PHASES: Final = frozenset({*_LINES, "N", "L1-L2", "L2-L3", "L3-L1"})
_LOCATIONS: Final = frozenset({"Body", "Cable", "EV", "Inlet", _OUTLET, "Upstream"})
_ALIASES: Final = {
    "wh": "Wh",
    "kwh": "kWh",
    "w": "W",
    "kw": "kW",
    "a": "A",
    "v": "V",
    "%": "Percent",
    "percent": "Percent",
    "c": "Celsius",
    "°c": "Celsius",
    "celsius": "Celsius",
    "f": "Fahrenheit",
    "fahrenheit": "Fahrenheit",
    "k": "K",
    "hz": "Hz",
    "hertz": "Hertz",
}
"""Units as chargers spell them, in lower case; they are understood and flagged."""


class Measurands(dict[Key, Place]):
    """The places of all sampled values of one version; a key of no standard has one too, worked out at each look.

    So nothing that a peer says makes it grow.
    """

    def __init__(self, version: Version) -> None:
        """Lay out the keys of the standard, a few thousand in 10 ms."""
        super().__init__()
        self._known = KNOWN[version]
        self._is_16 = version is Version.V16
        for measurand, phase, location in product(
            (None, *self._known), (None, *_PHASES), (None, _OUTLET, "EV", "Inlet", "Cable", "Body")
        ):
            quantity = self._quantity(measurand or DEFAULT_MEASURAND)
            for unit in (None, *(quantity.units if quantity else ())):
                self[measurand, phase, location, unit] = self._resolve(measurand, phase, location, unit)

    def __missing__(self, key: Key) -> Place:
        return self._resolve(*key)

    def _quantity(self, measurand: str) -> _Quantity | None:
        found = _COLUMNS.get(measurand)
        if found is None or (measurand not in self._known and measurand != "Temperature"):
            return None
        return _FREQUENCY_2 if found.quantity is _FREQUENCY_16 and not self._is_16 else found.quantity

    def _resolve(self, measurand: str | None, phase: str | None, location: str | None, unit: str | None) -> Place:
        name = measurand or DEFAULT_MEASURAND
        flags = list(self._strange(name, phase, location))
        quantity, columns = self._quantity(name), _COLUMNS.get(name)
        if quantity is None or columns is None:
            return Place(None, flags=tuple(flags))
        units = quantity.units
        written = next(iter(units)) if unit is None else unit
        if written not in units:
            flags.append(UNKNOWN_UNIT)
            meant = _ALIASES.get(written.strip().lower(), "")
            written = {"Hz": "Hertz", "Hertz": "Hz"}.get(meant, meant) if meant not in units else meant
            if written not in units or not meant:
                return Place(None, flags=tuple(flags))
        convert = units[written]
        if UNKNOWN_PHASE in flags or UNKNOWN_LOCATION in flags:
            return Place(None, flags=tuple(flags))
        if location not in {None, _OUTLET} and not columns.anywhere:
            return Place(None, flags=tuple(flags))
        if phase is None:
            return Place(columns.column, convert, flags=tuple(flags))
        if phase in columns.phases:
            return Place(columns.phases[phase], convert, flags=tuple(flags))
        line = _LINES.get(phase) if columns.adds_up else None
        return Place(None, convert, line, columns.column if line else None, tuple(flags))

    def _strange(self, measurand: str, phase: str | None, location: str | None) -> Iterable[str]:
        if measurand not in self._known:
            yield UNKNOWN_MEASURAND
        if phase is not None and phase not in _PHASES:
            yield UNKNOWN_PHASE
        if location is not None and location not in _LOCATIONS:
            yield UNKNOWN_LOCATION
