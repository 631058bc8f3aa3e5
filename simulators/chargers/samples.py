"""An outlet's sample as OCPP says it: sampled values with measurand, unit and phase. Pure."""

from collections.abc import Iterator

from simulators.chargers.meter import Sample

Value = tuple[str, float, str, str | None]
"""Measurand, number, unit, phase."""


def values(sample: Sample) -> Iterator[Value]:
    """Yield everything that is known, the register first; a charger does not say what it cannot know."""
    yield "Energy.Active.Import.Register", sample.energy_wh, "Wh", None
    yield "Power.Active.Import", sample.power_w, "W", None
    yield "Power.Offered", sample.offered_w, "W", None
    current_a = round(sample.current_a, 2)
    if sample.is_dc:
        yield "Current.Import", current_a, "A", None
        yield "Voltage", round(sample.voltage_v, 1), "V", None
    else:
        for phase in ("L1", "L2", "L3"):
            yield "Current.Import", current_a, "A", phase
        for phase in ("L1-N", "L2-N", "L3-N"):
            yield "Voltage", round(sample.voltage_v, 1), "V", phase
    if sample.soc_pct is not None:
        yield "SoC", round(sample.soc_pct, 1), "Percent", None
    if sample.temp_c is not None:
        yield "Temperature", round(sample.temp_c, 1), "Celsius", None


def register(sample: Sample) -> Iterator[Value]:
    """Yield the register alone: what stands at the beginning and the end of a transaction."""
    yield "Energy.Active.Import.Register", sample.energy_wh, "Wh", None


def text(number: float) -> str:
    """Return a number as 1.6 writes it."""
    return f"{number:g}" if abs(number) < 100_000 else str(round(number))
