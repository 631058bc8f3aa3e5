"""What the meter said during one session, bounded, and the same whatever the order in which it arrived.

Merging is a semilattice: samples of one time join (the larger of each value), and once there are too many, only the
first of each stretch of `width_us` is kept, and the newest. Stretches double, so that what was dropped at one width
would also be dropped at the next: any order, repetition and cut leaves the same samples.
"""

from array import array
from bisect import bisect_left
from math import isnan, nan
from typing import Any, Final

import msgspec

from gateway.core.limits import SESSION_SAMPLES_MAX

_FIRST_WIDTH_US: Final = 1_000_000
_COLUMNS: Final = ("at_us", "register_wh", "power_kw", "soc_pct", "interval_wh")


class Sample(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One time at which a meter said something; NaN where it said nothing.

    Attributes:
        at_us: When it was measured, UTC.
        register_wh: Energy register.
        power_kw: Power to the vehicle.
        soc_pct: State of charge as the charger knows it.
        interval_wh: Energy since the sample before.
    """

    at_us: int
    register_wh: float = nan
    power_kw: float = nan
    soc_pct: float = nan
    interval_wh: float = nan


def _numbers() -> "array[float]":
    return array("d")


def _times() -> "array[int]":
    return array("q")


class Samples(msgspec.Struct, kw_only=True, eq=False):
    """Samples of one session in order of time. Whoever shares it clones it before adding.

    Attributes:
        at_us: Times, ascending, each once.
        register_wh, power_kw, soc_pct, interval_wh: Values beside them, NaN for none.
        width_us: 0 while every sample is kept, else the stretch of which the first is.
        peak_kw: Highest power of all samples, kept or not; NaN before the first.
        dropped: Samples that were not kept.
    """

    at_us: array = msgspec.field(default_factory=_times)  # type: ignore[type-arg]  # decoded by its class
    register_wh: array = msgspec.field(default_factory=_numbers)  # type: ignore[type-arg]  # decoded by its class
    power_kw: array = msgspec.field(default_factory=_numbers)  # type: ignore[type-arg]  # decoded by its class
    soc_pct: array = msgspec.field(default_factory=_numbers)  # type: ignore[type-arg]  # decoded by its class
    interval_wh: array = msgspec.field(default_factory=_numbers)  # type: ignore[type-arg]  # decoded by its class
    width_us: int = 0
    peak_kw: float = nan
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.at_us)

    def clone(self) -> "Samples":
        """Return a copy that may be added to."""
        return Samples(
            at_us=self.at_us[:],
            register_wh=self.register_wh[:],
            power_kw=self.power_kw[:],
            soc_pct=self.soc_pct[:],
            interval_wh=self.interval_wh[:],
            width_us=self.width_us,
            peak_kw=self.peak_kw,
            dropped=self.dropped,
        )

    def __getitem__(self, place: int) -> Sample:
        return Sample(
            self.at_us[place],
            self.register_wh[place],
            self.power_kw[place],
            self.soc_pct[place],
            self.interval_wh[place],
        )

    def add(self, sample: Sample) -> None:
        """Take a sample in. Repeating it changes nothing."""
        self.peak_kw = _larger(self.peak_kw, sample.power_kw)
        at_us = sample.at_us
        place = bisect_left(self.at_us, at_us)
        if place < len(self.at_us) and self.at_us[place] == at_us:
            for column, value in self._values(sample):
                column[place] = _larger(column[place], value)
            return
        self._insert(place, sample)
        if self.width_us:
            self._thin_around(place)
        if len(self.at_us) > SESSION_SAMPLES_MAX:
            self.thin(SESSION_SAMPLES_MAX)

    def merge(self, other: "Samples") -> None:
        """Take in all samples of another session."""
        if other.width_us > self.width_us:
            self._widen(other.width_us)
        for place in range(len(other)):
            self.add(other[place])
        self.peak_kw = _larger(self.peak_kw, other.peak_kw)
        self.dropped += other.dropped

    def thin(self, most: int) -> None:
        """Keep at most so many samples, evenly over time; the first and the newest stay."""
        while len(self.at_us) > most:
            self._widen(max(2 * self.width_us, _FIRST_WIDTH_US))

    def _values(self, sample: Sample) -> "tuple[tuple[array[float], float], ...]":
        return (
            (self.register_wh, sample.register_wh),
            (self.power_kw, sample.power_kw),
            (self.soc_pct, sample.soc_pct),
            (self.interval_wh, sample.interval_wh),
        )

    def _insert(self, place: int, sample: Sample) -> None:
        self.at_us.insert(place, sample.at_us)
        for column, value in self._values(sample):
            column.insert(place, value)

    def _delete(self, place: int) -> None:
        for name in _COLUMNS:
            del getattr(self, name)[place]
        self.dropped += 1

    def _is_repeat(self, place: int) -> bool:
        """Return whether the sample is neither the first of its stretch nor the newest."""
        return (
            0 < place < len(self.at_us) - 1
            and self.at_us[place] // self.width_us == self.at_us[place - 1] // self.width_us
        )

    def _thin_around(self, place: int) -> None:
        for near in (place + 1, place, place - 1):
            if self._is_repeat(near):
                self._delete(near)

    def _widen(self, width_us: int) -> None:
        self.width_us = width_us
        last = len(self.at_us) - 1
        kept = [
            place
            for place, at_us in enumerate(self.at_us)
            if place in {0, last} or at_us // width_us != self.at_us[place - 1] // width_us
        ]
        self.dropped += len(self.at_us) - len(kept)
        for name in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, array(column.typecode, [column[place] for place in kept]))


def _larger(one: float, other: float) -> float:
    if isnan(one):
        return other
    return one if isnan(other) or one >= other else other


def pack_array(value: object) -> object:
    """Return an array as what MessagePack knows; an `enc_hook`."""
    if isinstance(value, array):
        return [value.typecode, value.tobytes()]
    raise NotImplementedError(f"{type(value)} is no part of a session")


def unpack_array(kind: type, value: object) -> object:
    """Invert `pack_array`; a `dec_hook`."""
    assert kind is array
    assert isinstance(value, list)
    values: Any = array(value[0])
    values.frombytes(value[1])
    return values
