"""Drift: a signal leaves what its own long history says is usual. The band and its score are in `band.py`.

An episode begins with a fresh excess above the threshold. The band goes on learning, so what stays long enough becomes
usual; the episode ends when its aspect was back inside the band of its beginning for a while, or after `settle`,
when what began as strange has become the new usual.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from processors.stages.anomaly_findings import Found
from processors.stages.anomaly_samples import HISTORY_LAYOUT, Samples, history_of, remember, shown
from processors.stages.anomaly_table import Column, Flags, Table
from processors.stages.band import ASPECTS, BAND_LAYOUT, EPISODE_LAYOUT, BandSettings, Outside, observe, tell_fresh

LAYOUT: Final = {
    **BAND_LAYOUT,
    **EPISODE_LAYOUT,
    **HISTORY_LAYOUT,
    "open": Column("?", 0),
    "aspect": Column("i1", 0),  # the one that was outside
    "low": Column("<f8", np.nan),  # its band at the beginning
    "high": Column("<f8", np.nan),
    "since_us": Column("<i8", 0),
    "since_offset": Column("<i8", 0),
    "inside": Column("<i4", 0),  # samples it has been back inside
}
_ASPECT_WORDS: Final = ("value", "mean", "change from sample to sample")


class DriftPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule asks for.

    Attributes:
        of: The signal in words.
        unit: Its unit.
        settings: Of the band.
        threshold: Excess above which an episode begins, in widths of the band.
        clear_samples: Samples that the aspect must be back inside.
        settle_us: Time after which an episode ends, inside or not.
    """

    of: str
    unit: str
    settings: BandSettings
    threshold: float
    clear_samples: int
    settle_us: int


def bytes_per_series() -> int:
    """Return how much is remembered of one signal of one device."""
    rows = 1_000
    return round(Table(LAYOUT, rows).nbytes / rows)


def look(plan: DriftPlan, table: Table, samples: Samples) -> Iterator[Found]:
    """Yield what a round of samples begins and ends, and make it part of the history.

    Args:
        plan: What to look for.
        table: Table of LAYOUT; it is changed.
        samples: At most one a device, with one quantity.
    """
    rows = samples.codes
    outside = observe(table, rows, samples.values[:, 0], plan.settings)
    is_fresh = tell_fresh(table, rows, outside.excess, quiet=plan.settings.quiet, rise=plan.settings.rise)
    remember(table, samples, 0)
    was_open = table["open"][rows]
    for i in np.flatnonzero(_ends(plan, table, samples, outside, was_open)).tolist():
        yield _ended(plan, table, samples, outside, i)
    for i in np.flatnonzero(is_fresh & (outside.excess > plan.threshold) & ~was_open).tolist():
        yield _begun(plan, table, samples, outside, i)


def _ends(plan: DriftPlan, table: Table, samples: Samples, outside: Outside, was_open: Flags) -> Flags:
    """Return which episodes end, and count how long their aspect is back inside."""
    ends = np.zeros(len(samples), np.bool_)
    places = np.flatnonzero(was_open)
    if not len(places):
        return ends
    rows = samples.codes[places]
    now = outside.aspects[places, table["aspect"][rows]]
    is_inside = (now >= table["low"][rows]) & (now <= table["high"][rows])
    inside = np.where(is_inside, table["inside"][rows] + 1, 0)
    table["inside"][rows] = inside
    is_usual = samples.at_us[places] - table["since_us"][rows] >= plan.settle_us
    ends[places] = (inside >= plan.clear_samples) | is_usual
    return ends


def _begun(plan: DriftPlan, table: Table, samples: Samples, outside: Outside, i: int) -> Found:
    code, aspect = int(samples.codes[i]), int(outside.aspect[i])
    low, high = float(outside.low[i]), float(outside.high[i])
    value = float(outside.aspects[i, aspect])
    table["open"][code], table["aspect"][code], table["inside"][code] = True, aspect, 0
    table["low"][code], table["high"][code] = low, high
    table["since_us"][code], table["since_offset"][code] = samples.at_us[i], samples.offset[i]
    return Found(
        code=code,
        begins=True,
        at_us=int(samples.at_us[i]),
        since_us=int(samples.at_us[i]),
        since_offset=int(samples.offset[i]),
        value=value,
        limit=high if value > high else low,
        evidence={
            **_evidence(plan, table, samples, i),
            "excess": shown(outside.excess[i]),
            "samples": int(table["seen"][code]) - 1,
        },
    )


def _ended(plan: DriftPlan, table: Table, samples: Samples, outside: Outside, i: int) -> Found:
    code = int(samples.codes[i])
    aspect = int(table["aspect"][code])
    value, low, high = float(outside.aspects[i, aspect]), float(table["low"][code]), float(table["high"][code])
    table["open"][code] = False
    is_back = int(table["inside"][code]) >= plan.clear_samples
    return Found(
        code=code,
        begins=False,
        at_us=int(samples.at_us[i]),
        since_us=int(table["since_us"][code]),
        since_offset=int(table["since_offset"][code]),
        value=value,
        limit=high if value > high or is_back else low,
        evidence={
            **_evidence(plan, table, samples, i),
            "ended": "back inside" if is_back else "has become usual",
        },
    )


def _evidence(plan: DriftPlan, table: Table, samples: Samples, i: int) -> dict[str, object]:
    code = int(samples.codes[i])
    aspect, low, high = int(table["aspect"][code]), shown(table["low"][code]), shown(table["high"][code])
    of = plan.of if aspect == 0 else f"{_ASPECT_WORDS[aspect]} of {plan.of}"
    share = plan.settings.share * 100
    return {
        "readings": {plan.of: shown(samples.values[i, 0])},
        "limit": f"{of} usually from {low} to {high} {plan.unit}".rstrip()
        + f" ({share:g} % to {100 - share:g} % of its own history)",
        "aspect": ASPECTS[aspect],
        "low": low,
        "high": high,
        "level": shown(table["level"][code]),
        "history": history_of(table, code),
    }
