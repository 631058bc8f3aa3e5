"""Episodes of one rule: pending while `when` holds, begun when it has held for `for`, ended by `clear`.

Per device (and part), reading by reading in order:

- **pending** since the first reading with `when` true. False ends it, null leaves it as it is. It *begins* at the first
  reading with `when` true at least `hold_s` after that one, which with `hold_s` 0 is the same.
- **open** from then on. It *ends* at the reading where `clear` (without one: not `when`) has been true for
  `clear_hold_s`; false starts that anew, null leaves it as it is. That reading begins nothing.
- A **gap**, two readings with a known condition further apart than `needs_s`, says nothing of the time between: what is
  pending restarts, and so does the time for which `clear` has held. An open episode stays open.

A **sequence** instead of `when`: its steps become true one after another, each at a later reading than the one before,
the last at most `within_s` after the first. Of several chains the one that started last counts. It ends by `clear`;
without, when the last step is not true.

Only devices where something is true or remembered are looked at; see `fold_episodes`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import polars as pl

from processors.contracts.rules import Rule
from processors.stages.findings import BEGINS, ENDS
from processors.stages.rule_rows import Rows, longer, scattered

US_PER_S: Final = 1_000_000
BEGINNING, ANY, ENDING = 0, 1, 2
"""Which readings of a device matter to a rule: those where its condition is true; all; those where `clear` is true."""
Start = tuple[int, int]
"""When something began to hold, in us, and the offset of that entry."""


class Episode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of a rule on one device. Nothing changes it.

    Attributes:
        since: Start of what is pending or open; None while only a sequence has begun.
        known_us: Time of the last reading with a known condition.
        is_open: Whether it has begun and not ended.
        clear_us: Since when `clear` holds, None if it does not.
        steps: Per step of a sequence the start of the latest chain that has come so far.
    """

    since: Start | None
    known_us: int
    is_open: bool = False
    clear_us: int | None = None
    steps: tuple[Start | None, ...] = ()

    @property
    def care(self) -> int:
        """Which readings can change it: while it is open and nothing speaks for its end, those that do."""
        return ENDING if self.is_open and self.clear_us is None else ANY


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An episode that begins or ends: the row of the reading, what it is, and since when."""

    row: int
    event: str
    since: Start


class Course:
    """The rule's clockwork, one reading at a time."""

    def __init__(self, rule: Rule) -> None:
        self._hold_us = round(rule.hold_s * US_PER_S)
        self._clear_hold_us = round(rule.clear_hold_s * US_PER_S)
        self._needs_us = None if rule.needs_s is None else round(rule.needs_s * US_PER_S)
        self._within_us = round((rule.within_s or 0.0) * US_PER_S)
        self._steps = len(rule.steps)

    def after(
        self, before: Episode | None, at_us: int, offset: int, *, holds: Sequence[bool | None], clear: bool | None
    ) -> tuple[Episode | None, str | None]:
        """Return what is remembered after a reading, and whether it begins or ends an episode.

        Args:
            before: What was remembered.
            at_us: Time of the reading.
            offset: Offset of its entry.
            holds: Whether `when` holds there, or each step of the sequence.
            clear: Whether what ends the episode holds there.
        """
        if before is not None and self._needs_us is not None and at_us - before.known_us > self._needs_us:
            before = msgspec.structs.replace(before, clear_us=None) if before.is_open else None
        if before is not None and before.is_open:
            return self._open(before, at_us, clear=clear)
        if self._steps:
            return self._chain(before, at_us, offset, holds)
        holding = holds[0]
        if holding is None:
            return before, None
        if not holding:
            return None, None
        since = (at_us, offset) if before is None or before.since is None else before.since
        reached = at_us - since[0] >= self._hold_us
        return Episode(since, at_us, is_open=reached), BEGINS if reached else None

    def _open(self, before: Episode, at_us: int, *, clear: bool | None) -> tuple[Episode | None, str | None]:
        if clear is None:
            return before, None
        if not clear:
            return Episode(before.since, at_us, is_open=True), None
        clear_us = at_us if before.clear_us is None else before.clear_us
        if at_us - clear_us >= self._clear_hold_us:
            return None, ENDS
        return Episode(before.since, at_us, is_open=True, clear_us=clear_us), None

    def _chain(
        self, before: Episode | None, at_us: int, offset: int, holds: Sequence[bool | None]
    ) -> tuple[Episode | None, str | None]:
        if all(step is None for step in holds):
            return before, None
        was = before.steps if before is not None else (None,) * self._steps
        oldest_us = at_us - self._within_us
        alive = [start if start is not None and start[0] >= oldest_us else None for start in was]
        now = [(at_us, offset) if holds[0] else alive[0]]
        now += [
            alive[place - 1] if holds[place] and alive[place - 1] is not None else alive[place]
            for place in range(1, self._steps)
        ]
        if now[-1] is not None:
            return Episode(now[-1], at_us, is_open=True), BEGINS
        if not any(now):
            return None, None
        return Episode(None, at_us, steps=tuple(now)), None


class Episodes(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is remembered of a rule. A value: nothing changes it.

    Attributes:
        of: Device code -> what is pending or open.
        care: Device code -> which readings matter to it, UInt8: BEGINNING, ANY or ENDING. Devices past the end have
            nothing pending or open.
    """

    of: Mapping[int, Episode] = {}
    care: pl.Series = pl.Series([], dtype=pl.UInt8())

    @classmethod
    def of_devices(cls, known: Mapping[int, Episode]) -> "Episodes":
        """Return what is remembered of these devices."""
        return cls().with_changes(known, dict.fromkeys(known))

    def with_changes(self, of: Mapping[int, Episode], changed: Mapping[int, object]) -> "Episodes":
        """Return `of` as remembered; `changed` has at least the devices where it differs from this."""
        if not of:
            return Episodes()
        codes = [*changed]
        care = [BEGINNING if (one := of.get(code)) is None else one.care for code in codes]
        known = longer(self.care, max(codes) + 1, BEGINNING)
        return Episodes(
            of=of, care=scattered(known, pl.Series(codes, dtype=pl.UInt32()), pl.Series(care, dtype=pl.UInt8()))
        )


def fold_episodes(
    course: Course, known: Episodes, rows: Rows, holds: Sequence[pl.Series], clear: pl.Series | None
) -> tuple[Episodes, list[Change]]:
    """Return what is remembered after these rows, and what begins and ends in them.

    Args:
        course: The rule's.
        known: What is remembered before them.
        rows: In-order readings.
        holds: Per row whether `when` holds, or for a sequence one series for each step.
        clear: Per row whether what ends an episode holds, None for the opposite of the last of `holds`.
    """
    clear = ~holds[-1] if clear is None else clear
    places = _places(known, rows, holds[0], clear)
    if not places.len():
        return known, []
    given = [series[places].to_list() for series in (clear, *holds)]
    read = (
        series.to_list() for series in (places, rows.device[places], rows.at[places], rows.column("offset")[places])
    )
    after = dict(known.of)
    changed: dict[int, None] = {}
    changes: list[Change] = []
    for row, device, at_us, offset, clear_holds, *held in zip(*read, *given, strict=True):
        was = after.get(device)
        now, event = course.after(was, at_us, offset, holds=held, clear=clear_holds)
        if event is not None:
            whose = now if event == BEGINS else was
            assert whose is not None, "an episode begins or ends out of nothing"
            assert whose.since is not None, "an episode has no start"
            changes.append(Change(row, event, whose.since))
        if now is was:
            continue
        changed[device] = None
        if now is None:
            del after[device]
        else:
            after[device] = now
    return known.with_changes(after, changed) if changed else known, changes


def _places(known: Episodes, rows: Rows, begins: pl.Series, ends: pl.Series) -> pl.Series:
    """Return all rows of the devices that have a row which matters."""
    device = rows.device
    if not known.of:
        matters = begins
    else:
        highest = device.max()
        assert isinstance(highest, int), "there are no rows"
        care = longer(known.care, highest + 1, BEGINNING)[device]
        matters = ((care == BEGINNING) & begins) | (care == ANY) | ((care == ENDING) & ends)
    if not matters.any():
        return device.head(0)
    if rows.ends is None:
        return matters.arg_true()
    return device.is_in(device.filter(matters).unique().implode()).arg_true()
