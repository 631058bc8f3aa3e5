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
_S_PER_US: Final = 1 / US_PER_S
"""Multiplied with, because Polars divides a column by a number with its inverse but a lone row truly: the last bit of a
window would depend on how many others were computed with it."""

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
_AREA: Final = frozenset({"area", "covered"})


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
    parts_of = _parts_of(plan)
    rows = ordered.group_by("_group", maintain_order=True).agg(
        pl.col("_device", "_pane").first(),
        pl.len().cast(pl.Int64()).alias("n"),
        *[_aggregate(field, part) for field, parts in parts_of.items() for part in parts if part not in _AREA],
    )
    for field, parts in parts_of.items():
        if "area" in parts:
            areas = _areas(plan, ordered.filter(pl.col(field).is_not_null()), field)
            rows = rows.join(areas, on="_group", how="left", maintain_order="left")
    return rows.select("_device", "_pane", "n", *_part_columns(plan))


def _part_columns(plan: WindowPlan) -> list[str]:
    return [f"{part}:{field}" for field, parts in _parts_of(plan).items() for part in parts]


def _aggregate(field: str, part: str) -> pl.Expr:
    value = pl.col(field)
    match part:
        case "first":
            result = value.drop_nulls().first()
        case "last":
            result = value.drop_nulls().last()
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


def _areas(plan: WindowPlan, present: pl.DataFrame, field: str) -> pl.DataFrame:
    """Return `_group`, area and covered seconds of the panes in which the field has a sample.

    Args:
        plan: Windows of the stream.
        present: Samples with a value in the field, sorted by `_group` and time.
        field: A field of numbers.
    """
    gap_max_us, pane_us = float(round(plan.gap_max_s * US_PER_S)), plan.pane_s * US_PER_S
    value, at = pl.col(field).cast(pl.Float64()), pl.col("_at")
    step_us = at - at.shift(1)
    trusted = (pl.col("_group") == pl.col("_group").shift(1)) & (step_us <= gap_max_us)
    into_us, out_of_us = pl.col("_first_at") - pl.col("_start"), pl.col("_end") - pl.col("_last_at")
    spacing_us = pl.when(pl.col("_n") > 1).then((pl.col("_last_at") - pl.col("_first_at")) / (pl.col("_n") - 1))
    held_us = pl.min_horizontal(spacing_us.fill_null(0.0), pl.lit(gap_max_us))
    lead_s, trail_s = (pl.min_horizontal(edge.cast(pl.Float64()), held_us) * _S_PER_US for edge in (into_us, out_of_us))
    return (
        present.select("_group", "_pane", "_at", field, _step_s=pl.when(trusted).then(step_us * _S_PER_US))
        .with_columns(_step_area=pl.col("_step_s") * (value + value.shift(1)) / 2)
        .group_by("_group", maintain_order=True)
        .agg(
            pl.col("_step_s", "_step_area").sum(),
            value.first().alias("_first"),
            value.last().alias("_last"),
            at.first().alias("_first_at"),
            at.last().alias("_last_at"),
            (pl.col("_pane").first() * pane_us).alias("_start"),
            (pl.col("_pane").first() * pane_us + pane_us).alias("_end"),
            pl.len().cast(pl.Int64()).alias("_n"),
        )
        .select(
            "_group",
            (pl.col("_step_area") + pl.col("_first") * lead_s + pl.col("_last") * trail_s).alias(f"area:{field}"),
            (pl.col("_step_s") + lead_s + trail_s).alias(f"covered:{field}"),
        )
    )


def merge_panes(plan: WindowPlan, panes: pl.DataFrame) -> pl.DataFrame:
    """Return the larger windows that consist of these panes.

    Args:
        plan: Windows of the stream.
        panes: Pane rows with `_panes` and `_start`, length and first pane of the window they go into; all panes of each
            window, one row a pane.

    Returns: `_device`, `_panes`, `_start`, `n` and the parts, one row per window.
    """
    # Sorted, so that floating point sums do not depend on the order in which panes were computed.
    return (
        panes.sort("_device", "_panes", "_pane")
        .group_by("_device", "_panes", "_start", maintain_order=True)
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
