"""Trips of vehicles: from the readings of speed, odometer, power and state of charge, vectorised.

A trip begins with moving (|speed| > 1 km/h) and ends before 5 min of standing, or before a gap of 10 min. The reading
at standstill next to either end, if it is within 30 s, is taken in, because the vehicle moved beside it: the last one
before the start counts for the figures, the first one after the last movement is the end.

A step between two readings of one quantity counts when they are at most 30 s apart; what is longer is a `gap` and adds
nothing, except to the odometer. Missing is missing: a quantity nobody measured is null, not 0.
"""

from hashlib import blake2b
from typing import Final

import polars as pl

US_PER_S: Final = 1_000_000
MOVING_KMH: Final = 1.0
STANDING_S: Final = 300
GAP_S: Final = 600
STEP_S: Final = 30
"""Readings further apart than this say nothing about the time between them."""
CONSUMPTION_KM_MIN: Final = 0.1
"""A consumption per distance is not given for shorter trips: starting and manoeuvring, not driving."""
_ODOMETER_BACK_KM: Final = 0.001
"""Falling by less is rounding."""
_ODOMETER_KMH_MAX: Final = 250.0
_ODOMETER_STEP_KM: Final = 1.0
"""Odometers count in whole kilometres at the coarsest; a step over this and over 250 km/h is a jump."""
_ID_BYTES: Final = 10

TIME: Final = pl.Datetime("us", "UTC")

READING_COLUMNS: Final[dict[str, pl.DataType]] = {
    "tenant": pl.String(),
    "device_id": pl.String(),
    "measured_at": TIME,
    "speed_kmh": pl.Float64(),
    "odometer_km": pl.Float64(),
    "soc_pct": pl.Float64(),
    "power_kw": pl.Float64(),
}
"""What is read of a stream; `power_kw` is positive into the battery, as in `vehicle_telemetry`."""

TRIPS_SCHEMA: Final[dict[str, pl.DataType]] = {
    "day": pl.Date(),
    "tenant": pl.String(),
    "device_id": pl.String(),
    "stream": pl.String(),
    "trip_id": pl.String(),
    "started_at": TIME,
    "ended_at": TIME,
    "duration_s": pl.Float64(),
    "moving_s": pl.Float64(),
    "distance_km": pl.Float64(),
    "distance_source": pl.String(),
    "energy_out_kwh": pl.Float64(),
    "energy_in_kwh": pl.Float64(),
    "energy_kwh": pl.Float64(),
    "kwh_per_100km": pl.Float64(),
    "regen_share": pl.Float64(),
    "soc_start_pct": pl.Float64(),
    "soc_end_pct": pl.Float64(),
    "speed_max_kmh": pl.Float64(),
    "flags": pl.String(),
}
"""Columns of the table `trips`; `day` is the UTC day of `started_at`."""


def find_trips(readings: pl.DataFrame, *, stream: str) -> pl.DataFrame:
    """Return the trips of all vehicles in the readings.

    Args:
        readings: READING_COLUMNS in any order of rows; a column of nulls is a quantity that the stream has not.
        stream: Whose readings they are.

    Returns: TRIPS_SCHEMA, sorted by device and start.
    """
    rows = _numbered(readings)
    trips = _bounds(rows)
    if not trips.height:
        return pl.DataFrame(schema=TRIPS_SCHEMA)
    inside = rows.join_asof(
        trips.select("vehicle", "trip", "lead_us", "end_us"),
        left_on="at_us",
        right_on="lead_us",
        by="vehicle",
        strategy="backward",
        check_sortedness=False,  # `_numbered` sorted them.
    ).filter(pl.col("at_us") <= pl.col("end_us"))
    for figures in (_motion(inside), _odometer(inside), _energy(inside), _charge(inside)):
        trips = trips.join(figures, on="trip", how="left", maintain_order="left")
    return _table(trips, stream)


def _numbered(readings: pl.DataFrame) -> pl.DataFrame:
    """Return the readings by `vehicle`, a number, and `at_us`; sorting by numbers is several times faster."""
    names = readings.select("tenant", "device_id").unique().sort("tenant", "device_id").with_row_index("vehicle")
    return (
        readings.join(names, on=["tenant", "device_id"])
        .with_columns(pl.col("measured_at").dt.epoch("us").alias("at_us"), pl.col("speed_kmh").abs())
        .drop("measured_at")
        .sort("vehicle", "at_us")
    )


def _bounds(rows: pl.DataFrame) -> pl.DataFrame:
    """Return where trips are: vehicle, trip (a number), lead_us, start_us, end_us, sorted."""
    at, gap_s, moving = pl.col("at_us"), pl.col("gap_s"), pl.col("moving")
    is_first = pl.col("vehicle").ne_missing(pl.col("vehicle").shift(1))
    is_last = pl.col("vehicle").ne_missing(pl.col("vehicle").shift(-1))
    speeds = rows.filter(pl.col("speed_kmh").is_not_null()).select(
        *("tenant", "device_id", "vehicle", "at_us"),
        (pl.col("speed_kmh") > MOVING_KMH).alias("moving"),
        pl.when(~is_first).then((at - at.shift(1)) / US_PER_S).alias("gap_s"),
        pl.when(~is_last).then((at.shift(-1) - at) / US_PER_S).alias("next_s"),
    )
    stood_before = gap_s.is_not_null() & ~moving.shift(1)
    stood_after = pl.col("next_s").is_not_null() & ~moving.shift(-1)
    begins_standing = ~moving & (gap_s.is_null() | moving.shift(1))
    marked = speeds.with_columns(
        # Rises at each gap and each vehicle, so two movements with the same number have neither between them.
        (gap_s.is_null() | (gap_s >= GAP_S)).cum_sum().alias("stretch"),
        pl.when(begins_standing).then(at).forward_fill().alias("stands_us"),
        pl.when(stood_before & (gap_s <= STEP_S)).then(at.shift(1)).otherwise(at).alias("lead_us"),
        pl.when(stood_after & (pl.col("next_s") <= STEP_S)).then(at.shift(-1)).otherwise(at).alias("end_us"),
        (stood_before & moving).fill_null(value=False).alias("departs"),
    ).filter(moving)
    stood_long = pl.col("departs") & (at - pl.col("stands_us") >= STANDING_S * US_PER_S)
    is_new = pl.col("stretch").ne_missing(pl.col("stretch").shift(1)) | stood_long
    return (
        marked.with_columns(is_new.cum_sum().alias("trip"))
        .group_by("trip", maintain_order=True)
        .agg(
            pl.col("vehicle", "tenant", "device_id", "lead_us").first(),
            pl.col("at_us").first().alias("start_us"),
            pl.col("end_us").last(),
        )
    )


def _steps(inside: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the steps between readings of a quantity within each trip: trip, step_s, before, after."""
    is_same = pl.col("trip") == pl.col("trip").shift(1)
    return (
        inside.filter(pl.col(name).is_not_null())
        .select(
            "trip",
            ((pl.col("at_us") - pl.col("at_us").shift(1)) / US_PER_S).alias("step_s"),
            pl.when(is_same).then(pl.col(name).shift(1)).alias("before"),
            pl.col(name).alias("after"),
        )
        .filter(pl.col("before").is_not_null())
    )


def _mean_of(expression_before: pl.Expr, expression_after: pl.Expr) -> pl.Expr:
    return (expression_before + expression_after) / 2


def _motion(inside: pl.DataFrame) -> pl.DataFrame:
    before, after, step_s = pl.col("before"), pl.col("after"), pl.col("step_s")
    is_short = step_s <= STEP_S
    moving = _mean_of((before > MOVING_KMH).cast(pl.Float64), (after > MOVING_KMH).cast(pl.Float64))
    steps = (
        _steps(inside, "speed_kmh")
        .group_by("trip")
        .agg(
            pl.when(is_short.any()).then((_mean_of(before, after) * step_s / 3600).filter(is_short).sum()).alias("km"),
            pl.when(is_short.any()).then((moving * step_s).filter(is_short).sum()).alias("moving_s"),
            (~is_short).any().alias("has_speed_gap"),
        )
    )
    return (
        inside.group_by("trip").agg(pl.col("speed_kmh").max().alias("speed_max_kmh")).join(steps, on="trip", how="left")
    )


def _odometer(inside: pl.DataFrame) -> pl.DataFrame:
    step_km = pl.col("after") - pl.col("before")
    fastest_km = pl.max_horizontal(pl.lit(_ODOMETER_STEP_KM), pl.col("step_s") / 3600 * _ODOMETER_KMH_MAX)
    is_wrong = (step_km < -_ODOMETER_BACK_KM) | (step_km > fastest_km)
    return (
        _steps(inside, "odometer_km")
        .group_by("trip")
        .agg(step_km.sum().alias("odometer_km"), is_wrong.any().alias("has_reset"))
    )


def _energy(inside: pl.DataFrame) -> pl.DataFrame:
    before, after, is_short = pl.col("before"), pl.col("after"), pl.col("step_s") <= STEP_S

    def energy_kwh(sign: int) -> pl.Expr:
        mean_kw = _mean_of((before * sign).clip(lower_bound=0.0), (after * sign).clip(lower_bound=0.0))
        return pl.when(is_short.any()).then((mean_kw * pl.col("step_s") / 3600).filter(is_short).sum())

    return (
        _steps(inside, "power_kw")
        .group_by("trip")
        .agg(
            energy_kwh(-1).alias("energy_out_kwh"),
            energy_kwh(1).alias("energy_in_kwh"),
            (~is_short).any().alias("has_power_gap"),
        )
    )


def _charge(inside: pl.DataFrame) -> pl.DataFrame:
    known = inside.filter(pl.col("soc_pct").is_not_null())
    return known.group_by("trip", maintain_order=True).agg(
        pl.col("soc_pct").first().alias("soc_start_pct"), pl.col("soc_pct").last().alias("soc_end_pct")
    )


def _table(trips: pl.DataFrame, stream: str) -> pl.DataFrame:
    by_odometer = (pl.col("odometer_km") > 0) & ~pl.col("has_reset")
    distance, energy = pl.col("distance_km"), pl.col("energy_kwh")
    flags = {
        "gap": pl.col("has_speed_gap") | pl.col("has_power_gap").fill_null(value=False),
        "no_power": pl.col("energy_out_kwh").is_null(),
        "odometer_reset": pl.col("has_reset"),
    }
    figures = trips.with_columns(
        pl.when(by_odometer).then("odometer_km").otherwise("km").alias("distance_km"),
        pl.when(by_odometer).then(pl.lit("odometer")).when(pl.col("km").is_not_null()).then(pl.lit("speed"))
        .alias("distance_source"),
        (pl.col("energy_out_kwh") - pl.col("energy_in_kwh")).alias("energy_kwh"),
        pl.from_epoch("start_us", "us").dt.replace_time_zone("UTC").alias("started_at"),
        pl.from_epoch("end_us", "us").dt.replace_time_zone("UTC").alias("ended_at"),
        pl.concat_str([pl.when(is_so).then(pl.lit(code)) for code, is_so in flags.items()], separator=",",
                      ignore_nulls=True).alias("flags"),
    )  # fmt: skip
    return (
        figures.with_columns(
            pl.col("started_at").dt.date().alias("day"),
            pl.lit(stream).alias("stream"),
            ((pl.col("end_us") - pl.col("start_us")) / US_PER_S).alias("duration_s"),
            pl.when(distance >= CONSUMPTION_KM_MIN).then(energy / distance * 100).alias("kwh_per_100km"),
            pl.when(pl.col("energy_out_kwh") > 0)
            .then(pl.col("energy_in_kwh") / pl.col("energy_out_kwh"))
            .alias("regen_share"),
            pl.when(pl.col("flags") != "").then("flags").alias("flags"),
            _trip_ids(figures, stream),
        )
        .sort("tenant", "device_id", "started_at")
        .select(pl.col(name).cast(dtype) for name, dtype in TRIPS_SCHEMA.items())
    )


def _trip_ids(trips: pl.DataFrame, stream: str) -> pl.Series:
    """Return names that depend on whose trip it is and when it began, and on nothing else."""
    keys = trips.select("tenant", "device_id", "start_us").iter_rows()
    names = ["\0".join((tenant, device, stream, str(start_us))) for tenant, device, start_us in keys]
    return pl.Series("trip_id", [blake2b(name.encode(), digest_size=_ID_BYTES).hexdigest() for name in names])
