"""Samples: what the detectors look at instead of every reading, one a device and rule in each stretch of event time.

A sample is the first reading of its bucket (`floor(measured_at / every)`) in which nothing that the rule asks for is
missing, if the device has had no sample of a later bucket. Which readings those are does not depend on batches.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from gateway.core.limits import ANOMALY_ROUNDS_MAX, ANOMALY_SAMPLES_MAX
from processors.stages.anomaly_table import Column, Flags, Floats, Ints, Table

HISTORY: Final = 20
"""Samples of a series that a finding shows."""
HISTORY_LAYOUT: Final = {
    "past_at": Column("<u4", 0, (HISTORY,)),  # seconds since 1970
    "past": Column("<f4", np.nan, (HISTORY,)),
    "taken": Column("<i4", 0),  # samples ever; the newest is in place (taken - 1) % HISTORY
}
BUCKET_BLANK: Final = np.iinfo(np.int64).min
_US_PER_S: Final = 1_000_000
_DIGITS: Final = 6


class Samples(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Samples of one rule in order of the journal.

    Attributes:
        codes: Device of each.
        at_us: When it was measured.
        offset: Journal offset of its message.
        values: What the rule asks for, shape (n, quantities), finite.
    """

    codes: Ints
    at_us: Ints
    offset: Ints
    values: Floats

    def __len__(self) -> int:
        """How many there are."""
        return len(self.codes)

    def take(self, rows: Ints | Flags | slice) -> "Samples":
        """Return some of the samples."""
        return Samples(
            codes=self.codes[rows], at_us=self.at_us[rows], offset=self.offset[rows], values=self.values[rows]
        )


def join_samples(parts: Sequence[Samples]) -> Samples:
    """Return the samples of all parts, at least one, as one."""
    if len(parts) == 1:
        return parts[0]
    return Samples(
        codes=np.concatenate([part.codes for part in parts]),
        at_us=np.concatenate([part.at_us for part in parts]),
        offset=np.concatenate([part.offset for part in parts]),
        values=np.concatenate([part.values for part in parts]),
    )


def take_samples(readings: Samples, buckets: Ints, every_us: int, room: int) -> tuple[Samples | None, Ints]:
    """Return the samples among readings, None for none, and the newest bucket of each device after them.

    Args:
        readings: In order of the journal; NaN is missing.
        buckets: Device code -> bucket of its last sample, BUCKET_BLANK before the first; it is left as it is.
        every_us: Width of a bucket.
        room: How many samples there may be; later ones are not taken.
    """
    bucket = readings.at_us // every_us
    rows = np.flatnonzero((bucket > buckets[readings.codes]) & np.isfinite(readings.values).all(axis=1))
    if len(rows) > 1:
        rows = _firsts(rows, readings.codes[rows], bucket[rows])
    rows = rows[: max(room, 0)]
    if not len(rows):
        return None, buckets
    buckets = buckets.copy()
    # Of one device the buckets ascend, so the last of several assignments is the newest.
    buckets[readings.codes[rows]] = bucket[rows]
    return readings.take(rows), buckets


def room_for(waiting: Sequence[Samples]) -> int:
    """Return how many more samples may wait."""
    return ANOMALY_SAMPLES_MAX - sum(map(len, waiting))


def _firsts(rows: Ints, codes: Ints, bucket: Ints) -> Ints:
    """Return the rows whose bucket is above all earlier ones of the same device."""
    order = np.argsort(codes, kind="stable")
    device = np.cumsum(np.diff(codes[order], prepend=codes[order[0]]) != 0)
    low = int(bucket.min())
    # One number that grows from device to device, so that the running maximum begins anew with each.
    place = device * (int(bucket.max()) - low + 1) + (bucket[order] - low)
    highest = np.maximum.accumulate(place)
    is_first = np.ones(len(rows), np.bool_)
    is_first[1:] = (place[1:] > highest[:-1]) | (device[1:] != device[:-1])
    return np.sort(rows[order[is_first]])


def split_rounds(samples: Samples) -> tuple[list[Samples], Samples | None]:
    """Return the samples so that each round has at most one a device, and what is left for another time.

    Rounds follow each other as a device's samples do. Past ANOMALY_ROUNDS_MAX of one device, as when it tells of weeks
    at once, the others wait.
    """
    order = np.argsort(samples.codes, kind="stable")
    codes = samples.codes[order]
    begins = np.flatnonzero(np.diff(codes, prepend=-1) != 0)
    number = np.arange(len(codes)) - np.repeat(begins, np.diff(begins, append=len(codes)))
    highest = int(number.max())
    if not highest:
        return [samples], None
    numbers = np.empty_like(number)
    numbers[order] = number
    rest = samples.take(numbers >= ANOMALY_ROUNDS_MAX) if highest >= ANOMALY_ROUNDS_MAX else None
    return list(_rounds(samples, numbers, min(highest + 1, ANOMALY_ROUNDS_MAX))), rest


def _rounds(samples: Samples, numbers: Ints, count: int) -> Iterator[Samples]:
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(count), side="right")
    begin = 0
    for end in ends.tolist():
        yield samples.take(order[begin:end])
        begin = end


def remember(table: Table, samples: Samples, quantity: int) -> None:
    """Note one quantity of a round of samples in the table's history."""
    place = table["taken"][samples.codes] % HISTORY
    with np.errstate(over="ignore"):
        table["past"][samples.codes, place] = samples.values[:, quantity].astype(np.float32)
    table["past_at"][samples.codes, place] = samples.at_us // _US_PER_S
    table["taken"][samples.codes] += 1


def history_of(table: Table, code: int) -> list[tuple[int, float]]:
    """Return (seconds since 1970, value) of the last samples of a device, oldest first."""
    taken = int(table["taken"][code])
    places = [place % HISTORY for place in range(max(taken - HISTORY, 0), taken)]
    at, past = table["past_at"][code], table["past"][code]
    return [(int(at[place]), shown(past[place])) for place in places]


def shown(value: float) -> float:
    """Return a number with the digits that a person reads."""
    return float(f"{float(value):.{_DIGITS}g}")
