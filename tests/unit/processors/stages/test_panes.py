"""What a window says of a field: edges, gaps, nulls and the sums of larger windows."""

import random

import polars as pl
import pytest

from processors.contracts.windows import AggregateKind as Kind
from processors.stages.panes import aggregate_panes
from processors.stages.windows import WindowState, advance
from tests.unit.processors.stages.window_frames import plan_of, readings_of, ticks_of

AREAS = (("speed_kmh", Kind.INTEGRAL), ("speed_kmh", Kind.TIME_MEAN))


def minutes(samples: list[tuple[float, float | None]], *aggregates: tuple[str, Kind], size_s: int = 60) -> pl.DataFrame:
    """Return the windows of one size of device "a" that reports (second, speed)."""
    plan = plan_of(*aggregates)
    readings = readings_of(*((i, "a", at_s, speed) for i, (at_s, speed) in enumerate([*samples, (10_000.0, None)])))
    windows = advance(plan, WindowState.empty(plan), readings, ticks_of()).windows
    return windows.filter(pl.col("window_s") == size_s).sort("window_start")


def test_constant_speed_at_one_hertz_covers_the_whole_minute() -> None:
    """36 km/h for a minute is 0.6 km, the second after the last sample included."""
    (row,) = minutes([(s, 36.0) for s in range(60)], *AREAS).rows(named=True)
    assert (pytest.approx(row["integral"]), pytest.approx(row["time_mean"])) == (0.6, 36.0)


def test_pane_is_the_same_to_the_last_bit_alone_and_among_others() -> None:
    """A restart computes panes in other company, and that must not show in the digits."""
    chance = random.Random(1)
    samples = pl.DataFrame(
        [(0, pane, pane * 60_000_000 + at, chance.uniform(0.0, 100.0))
         for pane in range(100) for at in sorted(chance.sample(range(60_000_000), 3))],
        schema={"_device": pl.UInt32(), "_pane": pl.Int64(), "_at": pl.Int64(), "speed_kmh": pl.Float64()},
        orient="row",
    )  # fmt: skip
    together = aggregate_panes(plan_of(*AREAS), samples)
    alone = [aggregate_panes(plan_of(*AREAS), pane) for pane in samples.partition_by("_pane")]
    assert together.rows() == pl.concat(alone).rows()


def test_minutes_add_up_to_the_trip() -> None:
    """Five minutes of a ramp sampled every 7 s hold its distance within the area of one sample."""
    samples = [(s, s / 3) for s in range(0, 300, 7)]
    (row,) = minutes(samples, *AREAS, size_s=300).rows(named=True)
    assert pytest.approx(row["integral"], rel=0.01) == 300**2 / 6 / 3600
    assert sum(minutes(samples, *AREAS)["integral"]) == pytest.approx(row["integral"])


def test_gap_longer_than_trusted_is_not_bridged() -> None:
    """Between 10 s and 50 s nothing is known; each side keeps its own seconds."""
    (row,) = minutes([(8, 60.0), (9, 60.0), (10, 60.0), (50, 60.0), (51, 60.0), (52, 60.0)], *AREAS).rows(named=True)
    spacing_s = (52 - 8) / 5
    covered_s = 2 + 2 + min(8, spacing_s) + min(8, spacing_s)
    assert 60 * covered_s / 3600 == pytest.approx(row["integral"])
    assert pytest.approx(row["time_mean"]) == 60.0


def test_edge_is_held_no_longer_than_the_samples_are_apart() -> None:
    """A trip that ends at 20 s with samples a second apart covers 21 s and not the minute."""
    (row,) = minutes([(s, 36.0) for s in range(21)], *AREAS).rows(named=True)
    assert pytest.approx(row["integral"]) == 36 * 21 / 3600


def test_lone_sample_has_no_area_rather_than_none_travelled() -> None:
    """One sample says nothing about time, so distance and time mean are missing, not zero."""
    (row,) = minutes([(30, 36.0)], *AREAS, ("speed_kmh", Kind.MEAN)).rows(named=True)
    assert (row["integral"], row["time_mean"], row["mean"]) == (None, None, 36.0)


def test_time_mean_weighs_by_time_and_mean_by_samples() -> None:
    """Ten fast samples in one second do not outweigh the minute."""
    samples = [(0.0, 0.0), (29.0, 0.0), *((29.1 + i / 10, 90.0) for i in range(10)), (30.1, 0.0), (59.0, 0.0)]
    (row,) = minutes(samples, ("speed_kmh", Kind.TIME_MEAN), ("speed_kmh", Kind.MEAN)).rows(named=True)
    assert row["time_mean"] < 2.0
    assert pytest.approx(row["mean"]) == 900 / 14


def test_nulls_are_neither_samples_nor_zeros() -> None:
    """A field is aggregated over its own samples, and lines are drawn across its nulls."""
    kinds = (Kind.FIRST, Kind.LAST, Kind.MIN, Kind.MAX, Kind.SUM, Kind.COUNT, Kind.MEAN, Kind.INTEGRAL)
    samples = [(0, None), (10, 36.0), (15, None), (20, 72.0), (30, None)]
    (row,) = minutes(samples, *(("speed_kmh", kind) for kind in kinds)).rows(named=True)
    assert tuple(row[k] for k in ("n", *(k.value for k in kinds[:-1]))) == (5, 36.0, 72.0, 36.0, 72.0, 108.0, 2, 54.0)
    assert pytest.approx(row["integral"]) == (36 * 10 + 54 * 10 + 72 * 10) / 3600


def test_field_without_samples_is_null_and_counts_zero() -> None:
    """A window whose readings lack the field says so in every kind."""
    kinds = (Kind.FIRST, Kind.LAST, Kind.MIN, Kind.MAX, Kind.SUM, Kind.MEAN, Kind.INTEGRAL, Kind.TIME_MEAN)
    for size_s in (60, 300):
        (row,) = minutes([(1, None), (2, None)], *(("speed_kmh", k) for k in (*kinds, Kind.COUNT)), size_s=size_s).rows(
            named=True
        )
        assert [None] * len(kinds) == [row[kind.value] for kind in kinds]
        assert (row["n"], row["count"]) == (2, 0)


def test_first_and_last_follow_the_time_of_measurement() -> None:
    """Arrival does not count, and of two samples of one instant the journal's order does."""
    samples = [(40, 4.0), (38, 3.0), (40, 5.0), (36, 1.0), (36, 2.0)]
    (row,) = minutes(samples, ("speed_kmh", Kind.FIRST), ("speed_kmh", Kind.LAST)).rows(named=True)
    assert (row["first"], row["last"]) == (1.0, 5.0)


def test_text_has_a_first_and_a_last() -> None:
    """Fields that are no numbers have the aggregates that make sense of them."""
    plan = plan_of(("mode", Kind.FIRST), ("mode", Kind.LAST), ("mode", Kind.COUNT))
    readings = readings_of((1, "a", 1, None), (2, "a", 2, None), (3, "a", 3, None), (4, "a", 400, None))
    readings = readings.with_columns(mode=pl.Series([None, "neutral", "drive", None]))
    windows = advance(plan, WindowState.empty(plan), readings, ticks_of()).windows
    assert windows.select("first", "last", "count").rows() == [("neutral", "drive", 2)] * 2
