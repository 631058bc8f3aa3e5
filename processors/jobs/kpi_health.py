"""Battery health per vehicle, from charging sessions that filled at least 20 points of the battery.

A session says `capacity = energy into the battery / (rise of state of charge)`. One estimate is rough (state of charge
is itself an estimate, in whole points on many vehicles), so the median of all counts, with their spread, and the slope
is that of Theil and Sen over the daily medians, which a few wrong sessions do not bend.
"""

from typing import Any, Final

import polars as pl

from processors.jobs.kpi_trips import TIME

SOC_RISE_MIN_PCT: Final = 20.0
"""An error of one point in the rise is then an error of 5 % in the estimate at most."""
SLOPE_DAYS_MIN: Final = 3
SLOPE_SPAN_DAYS_MIN: Final = 30
"""What is nearer together tells temperature and rounding, not age."""
SLOPE_DAYS_MAX: Final = 365
"""Newest days taken: all pairs of them are compared."""
_DAYS_PER_YEAR: Final = 365.25

HEALTH_SCHEMA: Final[dict[str, pl.DataType]] = {
    "day": pl.Date(),
    "tenant": pl.String(),
    "vehicle_id": pl.String(),
    "estimates": pl.Int64(),
    "capacity_kwh": pl.Float64(),
    "capacity_spread_kwh": pl.Float64(),
    "slope_kwh_per_year": pl.Float64(),
    "first_at": TIME,
    "last_at": TIME,
    "soh_reported_pct": pl.Float64(),
}
"""Columns of `battery_health`; `day` is the UTC day of what is newest in the row."""


def capacity_estimates(sessions: pl.DataFrame) -> pl.DataFrame:
    """Return one estimate per session that allows one: tenant, vehicle_id, ended_at, capacity_kwh.

    The vehicle's state of charge counts, the charger's where the vehicle told none.

    Args:
        sessions: As `kpi_charging.newest_sessions` returns them.
    """
    # Both ends from one side: the two sides do not show the same number.
    of_vehicle = pl.col("vehicle_soc_end_pct") - pl.col("vehicle_soc_start_pct")
    rise_pct = pl.coalesce(of_vehicle, pl.col("soc_end_pct") - pl.col("soc_start_pct"))
    return (
        sessions.filter(
            pl.col("status") == "completed",
            pl.col("vehicle_id").is_not_null(),
            pl.col("vehicle_energy_wh") > 0,
            rise_pct >= SOC_RISE_MIN_PCT,
        )
        .select(
            "tenant",
            "vehicle_id",
            pl.col("until").alias("ended_at"),
            (pl.col("vehicle_energy_wh") / rise_pct / 10).alias("capacity_kwh"),
        )
        .sort("tenant", "vehicle_id", "ended_at")
    )


def battery_health(sessions: pl.DataFrame, reported: pl.DataFrame) -> pl.DataFrame:
    """Return the health of each vehicle that has an estimate or reports one itself.

    Args:
        sessions: As `kpi_charging.newest_sessions` returns them, all there are.
        reported: tenant, vehicle_id, day, soh_last_pct, nulls among them, as `kpi_vehicle_day` has them.

    Returns: HEALTH_SCHEMA, sorted by vehicle.
    """
    vehicle = ["tenant", "vehicle_id"]
    estimates = capacity_estimates(sessions)
    quartiles = [pl.col("capacity_kwh").quantile(q, interpolation="linear") for q in (0.25, 0.75)]
    capacities = estimates.group_by(vehicle).agg(
        pl.len().cast(pl.Int64).alias("estimates"),
        pl.col("capacity_kwh").median(),
        (quartiles[1] - quartiles[0]).alias("capacity_spread_kwh"),
        pl.col("ended_at").min().alias("first_at"),
        pl.col("ended_at").max().alias("last_at"),
    )
    newest = (
        reported.filter(pl.col("soh_last_pct").is_not_null())
        .sort("day")
        .group_by(vehicle)
        .agg(pl.col("soh_last_pct").last().alias("soh_reported_pct"), pl.col("day").last().alias("reported_day"))
    )
    return (
        capacities.join(newest, on=vehicle, how="full", coalesce=True)
        .join(_slopes(estimates), on=vehicle, how="left")
        .with_columns(
            pl.col("estimates").fill_null(0),
            pl.max_horizontal(pl.col("last_at").dt.date(), "reported_day").alias("day"),
        )
        .sort(vehicle)
        .select(pl.col(name).cast(dtype) for name, dtype in HEALTH_SCHEMA.items())
    )


def _slopes(estimates: pl.DataFrame) -> pl.DataFrame:
    """Return tenant, vehicle_id, slope_kwh_per_year of the vehicles with enough days far enough apart."""
    daily = (
        estimates.group_by("tenant", "vehicle_id", pl.col("ended_at").dt.date().alias("day"))
        .agg(pl.col("capacity_kwh").median())
        .sort("tenant", "vehicle_id", "day")
    )
    found: list[tuple[Any, ...]] = []
    for (tenant, vehicle_id), days in daily.group_by("tenant", "vehicle_id", maintain_order=True):
        points = days.select(pl.col("day").to_physical().alias("x"), pl.col("capacity_kwh").alias("y"))
        points = points.tail(SLOPE_DAYS_MAX)
        x = points["x"]
        if points.height < SLOPE_DAYS_MIN or x[-1] - x[0] < SLOPE_SPAN_DAYS_MIN:
            continue
        pairs = points.join(points, how="cross", suffix="_2").filter(pl.col("x_2") > pl.col("x"))
        slope = pairs.select(((pl.col("y_2") - pl.col("y")) / (pl.col("x_2") - pl.col("x"))).median()).item()
        found.append((tenant, vehicle_id, slope * _DAYS_PER_YEAR))
    schema = {"tenant": pl.String(), "vehicle_id": pl.String(), "slope_kwh_per_year": pl.Float64()}
    return pl.DataFrame(found, schema=schema, orient="row")
