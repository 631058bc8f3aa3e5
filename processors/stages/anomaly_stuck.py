"""Stuck: a value that has not changed at all for a span, although another that it should follow has moved.

Alone a constant proves nothing: a parked vehicle is constant all over. So time counts only while the other value moves
at a pace that would take it through its tolerance within the span, and in all it must have moved by more than the
tolerance. A pause between samples begins anew: nobody knows what was in it.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from processors.stages.anomaly_findings import Found
from processors.stages.anomaly_samples import HISTORY_LAYOUT, Samples, history_of, remember, shown
from processors.stages.anomaly_table import Column, Flags, Table

LAYOUT: Final = {
    **HISTORY_LAYOUT,  # of the other value
    "value": Column("<f8", np.nan),
    "other": Column("<f8", np.nan),  # the other value, at the last sample
    "last_us": Column("<i8", 0),
    "since_us": Column("<i8", 0),  # first sample at which the other one moved and the value did not
    "since_offset": Column("<i8", 0),
    "active_us": Column("<i8", 0),  # time that the other one has moved since then, that sample's included
    "low": Column("<f8", np.nan),  # of the other value since then
    "high": Column("<f8", np.nan),
    "samples": Column("<i4", 0),
    "open": Column("?", 0),
}
_SAMPLES_MIN: Final = 3
"""Two equal samples are a coincidence."""


class StuckPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule asks for.

    Attributes:
        of, moving: The value, and the other one, in words.
        unit, moving_unit: Their units.
        span_us: For how long it must not have changed while the other one moved.
        tolerance: How much the other one must have moved since: its highest less its lowest.
        gap_us: A longer pause between samples begins anew.
    """

    of: str
    moving: str
    unit: str
    moving_unit: str
    span_us: int
    tolerance: float
    gap_us: int


def look(plan: StuckPlan, table: Table, samples: Samples) -> Iterator[Found]:
    """Yield what a round of samples begins and ends, and remember it.

    Args:
        plan: What to look for.
        table: Table of LAYOUT; it is changed.
        samples: At most one a device, quantities: the value, the other one.
    """
    rows = samples.codes
    remember(table, samples, 1)
    was_open = table["open"][rows]
    same = (samples.values[:, 0] == table["value"][rows]) & (~_is_gap(plan, table, samples) | was_open)
    for i in np.flatnonzero(was_open & ~same).tolist():
        yield _ended(plan, table, samples, i)
    _count(plan, table, samples, same)
    is_stuck = (table["active_us"][rows] >= plan.span_us) & (table["samples"][rows] >= _SAMPLES_MIN)
    is_stuck &= table["high"][rows] - table["low"][rows] > plan.tolerance
    table["open"][rows] = same & (was_open | is_stuck)
    for i in np.flatnonzero(is_stuck & same & ~was_open).tolist():
        yield _begun(plan, table, samples, i)


def _is_gap(plan: StuckPlan, table: Table, samples: Samples) -> Flags:
    return np.asarray(samples.at_us - table["last_us"][samples.codes] > plan.gap_us)


def _count(plan: StuckPlan, table: Table, samples: Samples, same: Flags) -> None:
    """Count the time that the other value has moved while the value has not."""
    rows, at_us, other = samples.codes, samples.at_us, samples.values[:, 1]
    before, pause_us = table["other"][rows], at_us - table["last_us"][rows]
    moves = same & (np.abs(other - before) * plan.span_us > plan.tolerance * pause_us)
    moves &= ~_is_gap(plan, table, samples)
    active_us = np.where(same, table["active_us"][rows], 0) + np.where(moves, pause_us, 0)
    goes_on = same & (table["active_us"][rows] > 0)
    first = moves & ~goes_on
    low = np.where(goes_on, table["low"][rows], np.where(first, before, other))
    high = np.where(goes_on, table["high"][rows], np.where(first, before, other))
    table["low"][rows], table["high"][rows] = np.minimum(low, other), np.maximum(high, other)
    table["samples"][rows] = np.where(goes_on, table["samples"][rows] + 1, 1)
    for name, now in (("since_us", at_us), ("since_offset", samples.offset)):
        table[name][rows] = np.where(goes_on, table[name][rows], now)
    table["active_us"][rows] = active_us
    table["value"][rows], table["other"][rows], table["last_us"][rows] = samples.values[:, 0], other, at_us


def _begun(plan: StuckPlan, table: Table, samples: Samples, i: int) -> Found:
    code = int(samples.codes[i])
    since_us, at_us = int(table["since_us"][code]), int(samples.at_us[i])
    active_s = int(table["active_us"][code]) // 1_000_000
    low, high = shown(table["low"][code]), shown(table["high"][code])
    return Found(
        code=code,
        begins=True,
        at_us=at_us,
        since_us=since_us,
        since_offset=int(table["since_offset"][code]),
        value=float(samples.values[i, 0]),
        limit=None,
        evidence={
            "readings": _readings(plan, samples, i),
            "limit": f"{plan.of} unchanged for {active_s} s in which {plan.moving} moved between {low}"
            f" and {high} {plan.moving_unit}, more than {plan.tolerance:g}",
            "samples": int(table["samples"][code]),
            "history": history_of(table, code),
        },
    )


def _ended(plan: StuckPlan, table: Table, samples: Samples, i: int) -> Found:
    code = int(samples.codes[i])
    return Found(
        code=code,
        begins=False,
        at_us=int(samples.at_us[i]),
        since_us=int(table["since_us"][code]),
        since_offset=int(table["since_offset"][code]),
        value=float(samples.values[i, 0]),
        limit=None,
        evidence={
            "readings": _readings(plan, samples, i),
            "limit": f"{plan.of} moves again: it was {shown(table['value'][code])} {plan.unit}".rstrip(),
            "history": history_of(table, code),
        },
    )


def _readings(plan: StuckPlan, samples: Samples, i: int) -> dict[str, float]:
    return {plan.of: shown(samples.values[i, 0]), plan.moving: shown(samples.values[i, 1])}
