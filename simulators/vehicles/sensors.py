"""What a management system's sensors make of the truth: noise, resolution, offsets. Pure but for the given chance.

Resolutions are those of the field: 1 mV and 0.1 V, 0.1 A; temperatures in 1 degree (GB/T 32960) or 0.1; state of charge
in 1, 0.5 or 0.1 %; insulation monitors scatter by several percent and say whole kilo-ohms.
"""

import random

import msgspec

from simulators.message import Reading

_CURRENT_NOISE_A = 0.15
_CELL_NOISE_V = 0.0006
_TEMP_NOISE_K = 0.12
_ISOLATION_NOISE = 0.03
_MONITOR_MAX_KOHM = 5_000.0
"""Insulation monitors say no more than that: all above is as good."""


class Sensors(msgspec.Struct, frozen=True, kw_only=True):
    """The sensors of one vehicle.

    Attributes:
        current_offset_a: Of the shunt.
        temp_step_c: Resolution of temperatures.
        soc_step_pct: Resolution of the state of charge.
    """

    current_offset_a: float
    temp_step_c: float
    soc_step_pct: float

    def read(self, reading: Reading, random_: random.Random) -> Reading:
        """Return the reading as the vehicle's own electronics have it; what they do not measure stays."""
        seen = dict(reading)
        if "soc_pct" in seen:
            seen["soc_pct"] = _step(_number(seen, "soc_pct"), self.soc_step_pct)
        if "pack_voltage_v" in seen:
            self._read_pack(seen, random_)
        return seen

    def _read_pack(self, seen: Reading, random_: random.Random) -> None:
        gauss = random_.gauss
        volts = _step(_number(seen, "pack_voltage_v") + gauss(0.0, 0.1), 0.1)
        amperes = _step(_number(seen, "pack_current_a") + self.current_offset_a + gauss(0.0, _CURRENT_NOISE_A), 0.1)
        seen |= {
            "pack_voltage_v": volts,
            "pack_current_a": amperes,
            "pack_power_kw": round(volts * amperes / 1000, 2),
        }
        low, mean, high = (_number(seen, f"cell_voltage_{name}_v") for name in ("min", "mean", "max"))
        seen |= {
            # The lowest of many noisy cells is a little lower than the lowest cell; the mean of many has no noise left.
            "cell_voltage_min_v": _step(max(low - abs(gauss(0.0, _CELL_NOISE_V)), 0.0), 0.001),
            "cell_voltage_mean_v": _step(mean, 0.001),
            "cell_voltage_max_v": _step(high + abs(gauss(0.0, _CELL_NOISE_V)), 0.001),
        }
        for name in ("min", "mean", "max"):
            noise_k = 0.0 if name == "mean" else gauss(0.0, _TEMP_NOISE_K)
            seen[f"cell_temp_{name}_c"] = _step(_number(seen, f"cell_temp_{name}_c") + noise_k, self.temp_step_c)
        kohm = _number(seen, "isolation_kohm") * (1.0 + gauss(0.0, _ISOLATION_NOISE))
        seen["isolation_kohm"] = min(max(round(kohm), 0), _MONITOR_MAX_KOHM)


def sensors(random_: random.Random) -> Sensors:
    """Return the sensors of one vehicle of many."""
    return Sensors(
        current_offset_a=random_.gauss(0.0, 0.2),
        temp_step_c=random_.choice((0.1, 0.5, 1.0)),
        soc_step_pct=random_.choice((0.1, 0.5, 1.0)),
    )


def _number(reading: Reading, name: str) -> float:
    value = reading[name]
    assert isinstance(value, int | float)
    return value


def _step(value: float, step: float) -> float:
    """Return the nearest multiple of the step, without the digits that binary fractions add."""
    return round(round(value / step) * step, 4)
