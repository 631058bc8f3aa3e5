"""What goes on inside one cell of a pack that fails: heat, self-heating, the loss of its voltage. Pure.

Own physics, with no threshold of any rule in it. Source of the course: Feng et al., Thermal runaway mechanism of
lithium ion battery for electric vehicles: a review, Energy Storage Materials 10 (2018) 246-267: a cell heats itself
from about 100 degC (0.02 K/min), its separator gives way around 150 degC and the voltage with it, from about 200 degC
on it heats by more than 1 K/s and ends hundreds of kelvins higher.
"""

from math import exp

ABSOLUTE_ZERO_C = -273.15
_RATE_KPS, _ACTIVATION_K = 9.2e12, 14_118.0
"""Arrhenius law through 0.02 K/min at 100 degC and 1 K/s at 200 degC."""
_RATE_MAX_KPS = 40.0
_REACTION_K = 550.0
"""By which a whole cell's reactions heat it."""
_HEAT_CAPACITY_JPK = 900.0
_COOLING_WPK = 1.0
"""To its neighbours and the plate."""
_SEPARATOR_C = 150.0
_COLLAPSE_S = 3.0
_SHORT_J, _SHORT_S = 200_000.0, 15.0
"""Without a separator a good part of what a cell holds (50 Ah, 3.7 V) becomes heat, and how fast."""
_SENSOR_S = 8.0
"""A thermistor sits on the busbar, not in the cell."""
SENSOR_MAX_C = 210.0
"""Where the range of GB/T 32960 ends, and that of common thermistors."""
_STEP_S = 0.1


class FailingCell:
    """A cell that something heats.

    Args:
        temp_c: Of the cell and of its sensor at the beginning.
    """

    def __init__(self, temp_c: float) -> None:
        self.temp_c = self.sensor_c = temp_c
        self.collapse = 0.0
        """Part of its voltage that is gone."""
        self.rate_kps = 0.0
        """How fast it heats."""
        self._reacted = self._shorted = 0.0

    def ignite(self, temp_c: float) -> None:
        """Heat the cell, not its sensor, at once: a nail, a crash."""
        self.temp_c = max(self.temp_c, temp_c)

    def pass_time(self, seconds: float, *, heat_w: float, around_c: float) -> None:
        """Let time pass.

        Args:
            seconds: How much.
            heat_w: Brought in by a short circuit.
            around_c: Temperature of the neighbours.
        """
        left_s = seconds
        while left_s > 1e-9:
            step_s = min(_STEP_S if self.temp_c > around_c + 40.0 else 1.0, left_s)
            self._step(step_s, heat_w=heat_w, around_c=around_c)
            left_s -= step_s

    def _step(self, step_s: float, *, heat_w: float, around_c: float) -> None:
        own_kps = _RATE_KPS * exp(-_ACTIVATION_K / (self.temp_c - ABSOLUTE_ZERO_C)) * (1.0 - self._reacted)
        own_kps = min(own_kps, _RATE_MAX_KPS)
        self._reacted = min(self._reacted + own_kps * step_s / _REACTION_K, 1.0)
        short_w = 0.0
        if self.collapse:
            short_w = _SHORT_J * (1.0 - self._shorted) / _SHORT_S
            self._shorted += (1.0 - self._shorted) * step_s / _SHORT_S
        net_w = heat_w * (1.0 - self.collapse) + short_w - _COOLING_WPK * (self.temp_c - around_c)
        self.rate_kps = own_kps + net_w / _HEAT_CAPACITY_JPK
        self.temp_c += self.rate_kps * step_s
        if self.temp_c > _SEPARATOR_C:
            self.collapse += (1.0 - self.collapse) * (1.0 - exp(-step_s / _COLLAPSE_S))
        self.sensor_c += (self.temp_c - self.sensor_c) * (1.0 - exp(-step_s / _SENSOR_S))
