"""`detect: silent`: a device that says nothing for longer than it usually does. All in the gateway's time.

A *receipt* is an entry with readings of the device; what it holds and how old that is does not matter. The usual
interval is learnt from the second receipt on, of intervals that end in another minute than they began: at most one a
minute, so a burst counts as little as the time that it takes, and of a device that sends once an hour all. Each moves
the usual interval by an eighth of the difference; at first by more, as in a mean. After three an interval counts as at
most four times the usual, and at least a quarter, so that one long silence teaches little.

    limit = max(at_least, intervals * usual + grace)

A device is silent from the first tick received more than `limit` after its last receipt, or after the start of the
gateway where that is later: until then devices could not reach it. It ends with its next receipt. A device with fewer
than RECEIPTS_MIN receipts is never silent. The episode is named by the last receipt before the silence.

State per device: 5 integers, 40 bytes.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import polars as pl

from processors.contracts.rules import Rule
from processors.stages.findings import BEGINS, ENDS
from processors.stages.rule_columns import full
from processors.stages.rule_episodes import US_PER_S, Start
from processors.stages.rule_rows import NEVER, Rows, before, longer, scattered
from processors.stages.runs import from_ipc, to_ipc

RECEIPTS_MIN: Final = 5
_MINUTE_US: Final = 60 * US_PER_S
_LEARNT: Final = 8
"""Intervals after which the usual one moves by an eighth of the difference."""
_FREE: Final = 3
"""Intervals after which outliers count less."""
_OUTLIER: Final = 4
_SHORTEST_US: Final = 1_000

_NONE: Final = pl.Series([], dtype=pl.Int64())


class Heard(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known of the receipts of all devices, by code; devices past the end have none. Nothing changes it.

    Attributes:
        receipts: How many there were.
        learnt: Intervals learnt from.
        usual: The usual interval, us; 0 before the first lesson.
        received: When the last was, us; NEVER before one.
        offset: Its offset.
    """

    receipts: pl.Series = _NONE
    learnt: pl.Series = _NONE
    usual: pl.Series = _NONE
    received: pl.Series = _NONE
    offset: pl.Series = _NONE

    def grown(self, devices: int) -> "Heard":
        """Return it with room for so many devices."""
        return Heard(
            receipts=longer(self.receipts, devices, 0),
            learnt=longer(self.learnt, devices, 0),
            usual=longer(self.usual, devices, 0),
            received=longer(self.received, devices, NEVER),
            offset=longer(self.offset, devices, NEVER),
        )

    def to_frame(self) -> pl.DataFrame:
        """Return it as columns."""
        return pl.DataFrame([getattr(self, name).alias(name) for name in self.__struct_fields__])

    @classmethod
    def of_frame(cls, frame: pl.DataFrame) -> "Heard":
        """Invert `to_frame`."""
        return cls(**{name: frame[name] for name in cls.__struct_fields__})


class SilenceState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known of the receipts of one stream. A value: nothing changes it.

    Attributes:
        heard: Receipts.
        silent: Rule -> device code -> last receipt before its silence.
    """

    heard: Heard = Heard()
    silent: Mapping[str, Mapping[int, Start]] = {}

    def to_parts(self) -> tuple[bytes, dict[str, dict[int, Start]]]:
        """Return it as an Arrow IPC file and what is silent."""
        return to_ipc(self.heard.to_frame()), {rule: dict(found) for rule, found in self.silent.items()}

    @classmethod
    def from_parts(cls, heard: bytes, silent: Mapping[str, Mapping[int, Start]]) -> "SilenceState":
        """Invert `to_parts`."""
        frame = from_ipc(heard)
        assert frame is not None
        return cls(heard=Heard.of_frame(frame), silent=silent)

    def of_devices(self, codes: pl.Series, devices: int) -> "SilenceState":
        """Return that of some of the devices, in their order."""
        place = {code: place for place, code in enumerate(codes)}
        return SilenceState(
            heard=Heard.of_frame(self.heard.grown(devices).to_frame()[codes]),
            silent={
                rule: {place[code]: start for code, start in found.items() if code in place}
                for rule, found in self.silent.items()
            },
        )


class Ticks(NamedTuple):
    """Ticks of a batch, in order: offsets, when they were received (us), and the gateway's last start by then."""

    offsets: list[int]
    received_us: list[int]
    started_us: list[int]


class Silence(msgspec.Struct, frozen=True, array_like=True):
    """A silence that begins or ends: the rule, device, what it is, the entry that decided, and the last receipt.

    `silent_us` is how long it had been silent, `limit_us` what was allowed, `usual_us` its usual interval.
    """

    rule: str
    device: int
    event: str
    offset: int
    record: int
    received_us: int
    since: Start
    silent_us: int
    limit_us: int
    usual_us: int


class Limits(msgspec.Struct, frozen=True):
    """A rule's limit: `max(at_least, intervals * usual + grace)`, in whole us and thousandths of an interval."""

    per_mille: int
    grace_us: int
    at_least_us: int

    @classmethod
    def of(cls, rule: Rule) -> "Limits":
        """Return the limit of a rule with `detect: silent`."""
        intervals, grace_s, at_least_s = (float(rule.parameters[name]) for name in ("intervals", "grace", "at_least"))
        return cls(round(intervals * 1000), round(grace_s * US_PER_S), round(at_least_s * US_PER_S))

    def us(self, usual_us: int) -> int:
        """Return the limit for a usual interval."""
        return max(self.at_least_us, usual_us * self.per_mille // 1000 + self.grace_us)

    def column(self, usual_us: pl.Series) -> pl.Series:
        """Return the same for a column."""
        limit = usual_us * self.per_mille // 1000 + self.grace_us
        least = pl.Series([self.at_least_us]).new_from_index(0, limit.len())
        return limit.zip_with(limit > self.at_least_us, least)


def find_silences(
    state: SilenceState, limits: Mapping[str, Limits], rows: Rows | None, ticks: Ticks, devices: int
) -> tuple[list[Silence], SilenceState]:
    """Return the silences that begin and end in a batch, and the state after it.

    Args:
        state: The state after all earlier entries.
        limits: Rule -> its limit.
        rows: Readings, late ones included; None for none.
        ticks: Ticks of the batch.
        devices: How many devices are known; each code is below.
    """
    known_before = state.heard.grown(devices)
    receipts, after = (None, known_before) if rows is None else _with_receipts(known_before, rows)
    found: list[Silence] = []
    silent: dict[str, Mapping[int, Start]] = {}
    for rule, limit in limits.items():
        known = state.silent.get(rule, {})
        asked = _candidates(known_before, limit, known, receipts, ticks)
        if asked:
            events, known = _replay(rule, limit, known, asked, _Courses(known_before, receipts, asked), ticks)
            found += events
        silent[rule] = known
    return found, SilenceState(heard=after, silent=silent)


class Receipts(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Receipts of a batch, sorted by device, within a device in journal order.

    Attributes:
        rows: The readings.
        places: Of each receipt its first reading.
        device, received: Device code and time in us.
        nth: The how manieth of its device it is.
        taught: Places among the receipts of those that taught something, and the usual interval after each.
    """

    rows: Rows
    places: pl.Series | None
    device: pl.Series
    received: pl.Series
    nth: pl.Series
    taught: tuple[pl.Series, pl.Series]

    def of(self, devices: list[int]) -> list[tuple[int, int, int, int, int, int | None]]:
        """Return device, offset, record, time, number and usual interval, if it taught one, of some devices."""
        asked = self.device.is_in(pl.Series(devices, dtype=self.device.dtype).implode()).arg_true()
        readings = asked if self.places is None else self.places[asked]
        usual = dict(zip(*self.taught, strict=True))
        read = (
            self.device[asked],
            self.rows.column("offset")[readings],
            self.rows.column("record")[readings],
            self.received[asked],
            self.nth[asked],
            [usual.get(place) for place in asked],
        )
        return [*zip(*read, strict=True)]


def _with_receipts(known: Heard, rows: Rows) -> tuple[Receipts, Heard]:
    """Return the receipts of a batch, and what is known after them."""
    received, offset = rows.column("received_at").cast(pl.Int64()), rows.column("offset")
    device, places = rows.device, None
    nth, last_us = known.receipts[device] + 1, known.received[device]
    if rows.ends is not None:
        places = (rows.first | (offset != before(offset))).arg_true()
        device, received, offset = device[places], received[places], offset[places]
        first = rows.first[places]
        place = pl.int_range(places.len(), eager=True)
        begins = place.zip_with(first, full(None, pl.Int64(), place.len())).forward_fill()
        nth = nth[places] + place - begins
        last_us = last_us[places].zip_with(first, before(received))
    # NEVER is in no minute, but the first of all receipts has no interval that could be learnt from.
    learns = ((nth == 2) | (last_us - last_us % _MINUTE_US != received - received % _MINUTE_US)) & (nth > 1)
    usual, learnt = known.usual, known.learnt
    taught = (_NONE, _NONE)
    if learns.any():
        lessons = learns.arg_true()
        intervals = (received - last_us)[lessons]
        usual, learnt, after = _learn(usual, learnt, device[lessons], intervals)
        taught = (lessons, after)
    ends = device.slice(1) != device.head(device.len() - 1)
    ends = pl.concat([ends, pl.Series([True])], rechunk=True)
    code = device.filter(ends)
    after_all = Heard(
        receipts=scattered(known.receipts, code, nth.filter(ends)),
        learnt=learnt,
        usual=usual,
        received=scattered(known.received, code, received.filter(ends)),
        offset=scattered(known.offset, code, offset.filter(ends)),
    )
    receipts = Receipts(rows=rows, places=places, device=device, received=received, nth=nth, taught=taught)
    return receipts, after_all


def _learn(
    usual: pl.Series, learnt: pl.Series, device: pl.Series, intervals: pl.Series
) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Return usual interval and lessons learnt of all devices, and the usual interval after each lesson.

    One lesson after the other: a device that sends often learns once a minute.
    """
    codes = device.unique()
    known = dict(zip(codes, zip(usual[codes], learnt[codes], strict=True), strict=True))
    after = []
    for code, taken_us in zip(device.to_list(), intervals.to_list(), strict=True):
        usual_us, lessons = known[code]
        usual_us = _after_lesson(usual_us, lessons, max(taken_us, _SHORTEST_US))
        known[code] = usual_us, lessons + 1
        after.append(usual_us)
    taught = [known[code] for code in codes]
    return (
        scattered(usual, codes, pl.Series([usual_us for usual_us, _ in taught], dtype=pl.Int64())),
        scattered(learnt, codes, pl.Series([lessons for _, lessons in taught], dtype=pl.Int64())),
        pl.Series(after, dtype=pl.Int64()),
    )


def _after_lesson(usual_us: int, lessons: int, taken_us: int) -> int:
    if not lessons:
        return taken_us
    if lessons >= _FREE:
        taken_us = min(max(taken_us, usual_us // _OUTLIER), usual_us * _OUTLIER)
    return usual_us + (taken_us - usual_us) // min(lessons + 1, _LEARNT)


def _candidates(
    known: Heard, limit: Limits, silent: Mapping[int, Start], receipts: Receipts | None, ticks: Ticks
) -> list[int]:
    """Return the devices of which a silence may begin or end: all that do, and a few more."""
    asked: set[int] = set()
    if silent and receipts is not None:
        asked.update(silent.keys() & set(receipts.device.to_list()))
    if ticks.offsets:
        latest_us = max(ticks.received_us)
        late = (known.received + limit.column(known.usual) < latest_us) & (known.receipts >= RECEIPTS_MIN)
        if late.any():
            asked.update(device for device in late.arg_true().to_list() if device not in silent)
        if receipts is not None:
            asked.update(receipts.device.filter(receipts.received < latest_us - limit.at_least_us).to_list())
    return sorted(asked)


class _Receipt(NamedTuple):
    offset: int
    record: int
    received_us: int
    nth: int
    usual_us: int


class _Courses:
    """Receipts of a few devices: the last before the batch, and those of the batch."""

    def __init__(self, known: Heard, receipts: Receipts | None, devices: list[int]) -> None:
        codes = pl.Series(devices, dtype=pl.UInt32())
        self._of: dict[int, list[_Receipt]] = {}
        for device, nth, _, usual_us, received_us, offset in zip(devices, *known.to_frame()[codes], strict=True):
            self._of[device] = [_Receipt(offset, 0, received_us, nth, usual_us)] if nth else []
        self.known = {device for device in devices if self._of[device]}
        for device, offset, record, received_us, nth, taught_us in receipts.of(devices) if receipts else ():
            of = self._of[device]
            # Between lessons the usual interval stays as it is.
            usual_us = taught_us if taught_us is not None else of[-1].usual_us if of else 0
            of.append(_Receipt(offset, record, received_us, nth, usual_us))

    def of(self, device: int) -> list[_Receipt]:
        """Return the receipts of a device in order."""
        return self._of[device]


def _replay(
    rule: str, limit: Limits, silent: Mapping[int, Start], devices: list[int], courses: _Courses, ticks: Ticks
) -> tuple[list[Silence], dict[int, Start]]:
    """Return what begins and ends, and who is silent after the batch."""
    now = dict(silent)
    found: list[Silence] = []
    for device in devices:
        receipts = courses.of(device)
        for place, receipt in enumerate(receipts):
            fresh = place > 0 or device not in courses.known
            start = now.pop(device, None) if fresh else now.get(device)
            if fresh and start is not None:
                usual_us = receipts[place - 1].usual_us
                spent_us = receipt.received_us - start[0]
                found.append(
                    Silence(
                        rule,
                        device,
                        ENDS,
                        receipt.offset,
                        receipt.record,
                        receipt.received_us,
                        start,
                        spent_us,
                        limit.us(usual_us),
                        usual_us,
                    )
                )
            if (not fresh and start is not None) or receipt.nth < RECEIPTS_MIN:
                continue
            until = receipts[place + 1].offset if place + 1 < len(receipts) else None
            low = bisect_left(ticks.offsets, receipt.offset)
            high = len(ticks.offsets) if until is None else bisect_left(ticks.offsets, until)
            limit_us = limit.us(receipt.usual_us)
            for tick in range(low, high):
                at_us = ticks.received_us[tick]
                if at_us - max(receipt.received_us, ticks.started_us[tick]) > limit_us:
                    start = (receipt.received_us, receipt.offset)
                    now[device] = start
                    found.append(
                        Silence(
                            rule,
                            device,
                            BEGINS,
                            ticks.offsets[tick],
                            0,
                            at_us,
                            start,
                            at_us - start[0],
                            limit_us,
                            receipt.usual_us,
                        )
                    )
                    break
    return found, now
