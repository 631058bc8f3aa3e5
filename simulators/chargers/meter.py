"""The energy meter of an outlet, in whole watts and microseconds, so that power adds up to energy exactly. Pure."""

import msgspec

US_PER_S = 1_000_000
US_PER_HOUR = 3_600 * US_PER_S


class Register:
    """A counter that only rises, unless its electronics are replaced.

    Args:
        start_wh: What it has counted in its life before.
    """

    def __init__(self, start_wh: int) -> None:
        self._wus = start_wh * US_PER_HOUR
        self._delivered_wus = 0

    @property
    def wh(self) -> int:
        """What the display shows: whole watt-hours, rounded down."""
        return self._wus // US_PER_HOUR

    @property
    def delivered_wus(self) -> int:
        """Watt-microseconds since this object was made, resets or not."""
        return self._delivered_wus

    def add(self, drawn_wus: int) -> None:
        """Count energy in watt-microseconds, >= 0."""
        assert drawn_wus >= 0
        self._wus += drawn_wus
        self._delivered_wus += drawn_wus

    def reset(self) -> None:
        """Begin at 0 again: the fault that billing systems fall over."""
        self._wus = 0


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """An outlet at one moment.

    Attributes:
        at_us: UTC microseconds since 1970, true time.
        energy_wh: Register.
        power_w: Mean since the sample before.
        offered_w: What the charger would give.
        is_dc: Current and voltage are of the vehicle's battery, not of three phases.
        voltage_v: Of the battery, or of each phase.
        soc_pct: Of the vehicle, None where the charger cannot know it.
        temp_c: Of the outlet; None in 2.x, which has no word for it.
    """

    at_us: int
    energy_wh: int
    power_w: int
    offered_w: int
    is_dc: bool
    voltage_v: float
    soc_pct: float | None
    temp_c: float | None

    @property
    def current_a(self) -> float:
        """Of the battery, or of each of three phases; voltage x current is the power."""
        phases = 1 if self.is_dc else 3
        return self.power_w / self.voltage_v / phases if self.voltage_v else 0.0


def mean_w(drawn_wus: int, us: int) -> int:
    """Return the mean power of an interval, whole watts; 0 for an interval without length."""
    return round(drawn_wus / us) if us > 0 else 0
