"""A slow, plain second opinion on windows: one entry at a time, no tables, nothing forgotten."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from processors.contracts.windows import AggregateKind, WindowPlan

S = 1_000_000
"""Microseconds in a second; all times are integers of them."""


class Reading(NamedTuple):
    offset: int
    record: int
    received: int
    device: str
    at: int
    values: dict[str, Any]


class Tick(NamedTuple):
    offset: int
    received: int


class Said(NamedTuple):
    """The last word about a window."""

    revision: int
    offset: int
    received: int
    n: int
    values: dict[str, object]


Key = tuple[str, int, int]
"""Device, window_s, window start in microseconds."""


def say_windows(plan: WindowPlan, entries: Iterable[Reading | Tick]) -> tuple[dict[Key, Said], list[int]]:
    """Return the last word about each window, and `late` of each reading."""
    newest: dict[str, int] = {}
    heard: dict[str, int] = {}
    merged: dict[str, list[Reading]] = defaultdict(list)
    dirty: set[Key] = set()
    said: dict[Key, Said] = {}
    lates = []

    def say(key: Key, offset: int, received: int) -> None:
        device, size_s, start = key
        inside = [r for r in merged[device] if start <= r.at < start + size_s * S]
        revision = said[key].revision + 1 if key in said else 0
        said[key] = Said(revision, offset, received, len(inside), compute(plan, inside))
        dirty.discard(key)

    for entry in entries:
        if isinstance(entry, Tick):
            for key in sorted(dirty):
                if entry.received >= heard[key[0]] + plan.idle_s * S:
                    say(key, entry.offset, entry.received)
            continue
        device = entry.device
        watermark = newest.get(device, -math.inf) - plan.disorder_s * S
        pane_end = (entry.at // (plan.pane_s * S) + 1) * plan.pane_s * S
        late = 0 if pane_end > watermark else 1 if pane_end + plan.lateness_s * S > watermark else 2
        lates.append(late)
        if late < 2:
            merged[device].append(entry)
            for size_s in plan.sizes_s:
                start = entry.at // (size_s * S) * size_s * S
                dirty.add((device, size_s, start))
                if start + size_s * S <= watermark:
                    say((device, size_s, start), entry.offset, entry.received)
        heard[device] = entry.received
        newest[device] = max(newest.get(device, entry.at), entry.at)
        for key in sorted(dirty):
            if key[0] == device and key[2] + key[1] * S <= newest[device] - plan.disorder_s * S:
                say(key, entry.offset, entry.received)
    return said, lates


def compute(plan: WindowPlan, readings: list[Reading]) -> dict[str, object]:
    """Return the plan's columns of a window that holds these readings."""
    panes: dict[int, list[Reading]] = defaultdict(list)
    for reading in sorted(readings, key=lambda r: (r.at, r.offset, r.record)):
        panes[reading.at // (plan.pane_s * S)].append(reading)
    columns: dict[str, object] = {}
    for aggregate in plan.aggregates:
        field = aggregate.field
        values = [r.values[field] for pane in sorted(panes) for r in panes[pane] if r.values[field] is not None]
        areas = [(0.0, 0.0)]
        if aggregate.kind in {AggregateKind.INTEGRAL, AggregateKind.TIME_MEAN}:
            areas = [area(plan, pane, [(r.at, r.values[field]) for r in rows]) for pane, rows in panes.items()]
        covered = sum(seconds for _, seconds in areas)
        columns[aggregate.column] = _one(aggregate.kind, aggregate.scale, values, sum(a for a, _ in areas), covered)
    return columns


def _one(kind: AggregateKind, scale: float, values: list[Any], whole: float, covered: float) -> object:
    match kind:
        case AggregateKind.COUNT:
            return len(values)
        case AggregateKind.INTEGRAL:
            return whole * scale if covered else None
        case AggregateKind.TIME_MEAN:
            return whole / covered if covered else None
    if not values:
        return None
    match kind:
        case AggregateKind.FIRST:
            return values[0]
        case AggregateKind.LAST:
            return values[-1]
        case AggregateKind.MIN:
            return min(values)
        case AggregateKind.MAX:
            return max(values)
        case AggregateKind.SUM:
            return float(sum(values))
    assert kind is AggregateKind.MEAN
    return sum(values) / len(values)


def area(plan: WindowPlan, pane: int, samples: list[tuple[int, float | None]]) -> tuple[float, float]:
    """Return value * seconds under the samples of one pane, and the seconds that stands for."""
    known = [(at - pane * plan.pane_s * S, value) for at, value in samples if value is not None]
    if not known:
        return 0.0, 0.0
    gap_max = plan.gap_max_s * S
    steps = [(b - a, (v + w) / 2) for (a, v), (b, w) in itertools.pairwise(known) if b - a <= gap_max]
    spacing = (known[-1][0] - known[0][0]) / (len(known) - 1) if len(known) > 1 else 0
    steps.append((min(known[0][0], spacing, gap_max), known[0][1]))
    steps.append((min(plan.pane_s * S - known[-1][0], spacing, gap_max), known[-1][1]))
    return sum(us / S * value for us, value in steps), sum(us / S for us, _ in steps)
