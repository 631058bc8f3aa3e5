"""Samples to pane rows, pane rows to windows.

A pane is aggregated from all its samples at once, sorted by time, so the order of arrival leaves no trace in it. A pane
row holds *parts* (a sum, a count, an area ...) of which larger windows are plain merges; `finish` turns parts into the
contract's columns. Owns no time: it is told which panes and windows to compute.

Samples carry `_device` UInt32, `_pane` Int64 (pane number since 1970, start = `_pane * pane_s`), `_at` Int64 (us since
1970), `_offset` Int64, and the plan's fields. Names that begin with an underscore, or hold a colon, cannot be a
contract's.
"""

from collections.abc import Iterable
from typing import Final

import polars as pl

from processors.contracts.windows import AggregateKind, WindowPlan

US_PER_S: Final = 1_000_000

_PARTS: Final[dict[AggregateKind, tuple[str, ...]]] = {
    AggregateKind.FIRST: ("first",),
    AggregateKind.LAST: ("last",),
    AggregateKind.MIN: ("min",),
    AggregateKind.MAX: ("max",),
    AggregateKind.COUNT: ("count",),
    AggregateKind.SUM: ("sum", "count"),
    AggregateKind.MEAN: ("sum", "count"),
    AggregateKind.INTEGRAL: ("area", "covered"),
    AggregateKind.TIME_MEAN: ("area", "covered"),
}
"""What a window must keep of a field. `area` is value * seconds, `covered` the seconds the area stands for."""


def fields_of(plan: WindowPlan) -> list[str]:
    """Return the fields the plan reads, each once, in order of first use."""
    return list(dict.fromkeys(aggregate.field for aggregate in plan.aggregates))


def _parts_of(plan: WindowPlan) -> dict[str, dict[str, None]]:
    """Return field -> its parts (an ordered set)."""
    parts: dict[str, dict[str, None]] = {}
    for aggregate in plan.aggregates:
        parts.setdefault(aggregate.field, {}).update(dict.fromkeys(_PARTS[aggregate.kind]))
    return parts


def aggregate_panes(plan: WindowPlan, samples: pl.DataFrame) -> pl.DataFrame:
    """Return one row of parts per pane that has a sample.

    The integral of a field is the area under straight lines between its consecutive non-null samples in the pane no
    more than `gap_max_s` apart, plus its first sample held back to the pane's start and its last one held to the pane's
    end, each for at most the field's mean sample spacing in this pane and `gap_max_s`. It is a function of the pane's
    own samples, so that panes add up; a lone sample has no spacing and covers nothing.

    Args:
        plan: Windows of the stream.
        samples: All samples of each pane to compute; within a device in journal order.

    Returns: `_device`, `_pane`, `n` Int64, then parts `first:<field>` ..., sorted by device and pane.
    """
    # Ties in time keep the journal's order, because the sort is stable.
    ordered = samples.sort("_device", "_at", maintain_order=True)
    ordered = ordered.with_columns(_group=pl.struct("_device", "_pane").rle_id())
    step = _Steps(plan)
    columns, aggregates, edges = [], [], []
    for field, parts in _parts_of(plan).items():
        gappy = ordered[field].null_count() > 0
        if "area" in parts:
            columns += step.columns(field, gappy=gappy)
            aggregates += step.aggregates(field, gappy=gappy)
            edges += step.edges(field)
        aggregates += [_aggregate(field, part, gappy=gappy) for part in parts if part not in {"area", "covered"}]
    return (
        ordered.with_columns(columns)
        .group_by("_group", maintain_order=True)
        .agg(pl.col("_device", "_pane").first(), pl.len().cast(pl.Int64()).alias("n"), *aggregates)
        .with_columns(edges)
        .select("_device", "_pane", "n", *_part_columns(plan))
    )


def _part_columns(plan: WindowPlan) -> list[str]:
    return [f"{part}:{field}" for field, parts in _parts_of(plan).items() for part in parts]


def _aggregate(field: str, part: str, *, gappy: bool) -> pl.Expr:
    value = pl.col(field)
    match part:
        case "first":
            result = (value.drop_nulls() if gappy else value).first()
        case "last":
            result = (value.drop_nulls() if gappy else value).last()
        case "min":
            result = value.min()
        case "max":
            result = value.max()
        case "sum":
            result = value.cast(pl.Float64()).sum()
        case "count":
            result = value.count().cast(pl.Int64())
        case _:
            raise AssertionError(part)
    return result.alias(f"{part}:{field}")


class _Steps:
    """Expressions for area and covered seconds over samples sorted by group and time."""

    def __init__(self, plan: WindowPlan) -> None:
        self._gap_max_us = round(plan.gap_max_s * US_PER_S)
        self._pane_us = plan.pane_s * US_PER_S

    def columns(self, field: str, *, gappy: bool) -> list[pl.Expr]:
        """Return per sample the seconds since the field's previous sample, where trusted, and the area over them."""
        value, at, group = pl.col(field).cast(pl.Float64()), pl.col("_at"), pl.col("_group")
        before, at_before, group_before = value, at, group
        if gappy:
            # Sorted as they are, the previous non-null sample is the last one filled forward; one that was filled
            # across the border of a group is told by its group.
            present = value.is_not_null()
            before = value.forward_fill()
            at_before = pl.when(present).then(at).forward_fill()
            group_before = pl.when(present).then(group).forward_fill()
        gap_us = at - at_before.shift(1)
        trusted = (group_before.shift(1) == group) & (gap_us <= self._gap_max_us)
        if gappy:
            trusted = trusted & present
        seconds = pl.when(trusted).then(gap_us / US_PER_S)
        return [
            seconds.alias(f"_seconds:{field}"),
            (seconds * (value + before.shift(1)) / 2).alias(f"_area:{field}"),
        ]

    def aggregates(self, field: str, *, gappy: bool) -> list[pl.Expr]:
        """Return per pane the sums, and the field's first and last sample for the edges."""
        value, at = pl.col(field).cast(pl.Float64()), pl.col("_at")
        if gappy:
            at = at.filter(value.is_not_null())
            value = value.drop_nulls()
        return [
            pl.col(f"_seconds:{field}").sum(),
            pl.col(f"_area:{field}").sum(),
            value.first().alias(f"_head:{field}"),
            value.last().alias(f"_tail:{field}"),
            at.first().alias(f"_head_at:{field}"),
            at.last().alias(f"_tail_at:{field}"),
            pl.col(field).count().cast(pl.Int64()).alias(f"_steps:{field}") - 1,
        ]

    def edges(self, field: str) -> list[pl.Expr]:
        """Return per pane area and covered seconds with the two edges added."""
        head_at, tail_at, steps = pl.col(f"_head_at:{field}"), pl.col(f"_tail_at:{field}"), pl.col(f"_steps:{field}")
        start = pl.col("_pane") * self._pane_us
        spacing_us = pl.when(steps > 0).then((tail_at - head_at) / steps).otherwise(0.0)
        held = pl.min_horizontal(spacing_us, pl.lit(float(self._gap_max_us)))
        lead_s = pl.min_horizontal((head_at - start).cast(pl.Float64()), held) / US_PER_S
        trail_s = pl.min_horizontal((start + self._pane_us - tail_at).cast(pl.Float64()), held) / US_PER_S
        ends = pl.col(f"_head:{field}") * lead_s + pl.col(f"_tail:{field}") * trail_s
        return [
            (pl.col(f"_area:{field}") + ends.fill_null(0.0)).alias(f"area:{field}"),
            (pl.col(f"_seconds:{field}") + (lead_s + trail_s).fill_null(0.0)).alias(f"covered:{field}"),
        ]


def merge_panes(plan: WindowPlan, panes: pl.DataFrame) -> pl.DataFrame:
    """Return the larger windows that consist of these panes.

    Args:
        plan: Windows of the stream.
        panes: Pane rows with `_start`, the number of the window's first pane; all panes of each window, one row a pane.

    Returns: `_device`, `_start`, `n` and the parts, one row per window.
    """
    # Sorted, so that floating point sums do not depend on the order in which panes were computed.
    return (
        panes.sort("_device", "_pane")
        .group_by("_device", "_start", maintain_order=True)
        .agg(pl.col("n").sum(), *[_merge(column) for column in _part_columns(plan)])
    )


def _merge(column: str) -> pl.Expr:
    part = pl.col(column)
    match column.partition(":")[0]:
        case "first":
            return part.drop_nulls().first()
        case "last":
            return part.drop_nulls().last()
        case "min":
            return part.min()
        case "max":
            return part.max()
        case _:
            return part.sum()


def finish(plan: WindowPlan) -> Iterable[pl.Expr]:
    """Yield the contract's columns from parts; null where a field has no sample, or covers no time."""
    for aggregate in plan.aggregates:
        field = aggregate.field
        total, count = pl.col(f"sum:{field}"), pl.col(f"count:{field}")
        area, covered = pl.col(f"area:{field}"), pl.col(f"covered:{field}")
        value: pl.Expr
        match aggregate.kind:
            case AggregateKind.SUM:
                value = pl.when(count > 0).then(total)
            case AggregateKind.MEAN:
                value = pl.when(count > 0).then(total / count)
            case AggregateKind.INTEGRAL:
                value = pl.when(covered > 0).then(area * aggregate.scale)
            case AggregateKind.TIME_MEAN:
                value = pl.when(covered > 0).then(area / covered)
            case kind:
                value = pl.col(f"{kind.value}:{field}")
        yield value.alias(aggregate.column)
