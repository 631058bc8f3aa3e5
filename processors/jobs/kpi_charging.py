"""Charging per port and UTC day: a pure function of the newest revision of each session.

A port is what charges one vehicle at a time: the EVSE in OCPP 2.x, the connector in 1.6. Counts, energy and peak stand
on the day a session began. Time is split at midnight: `connected_s` is the union of the port's sessions, the idle time
after full is the end of its session, and `charging_s` is spread evenly over what comes before.

A session succeeded when it is `completed`, delivered at least 100 Wh, and did not stop for an abnormal reason. The rate
is of the sessions that are over; an `orphan`, of which nobody saw the beginning, counts in neither.
"""

from collections.abc import Sequence
from datetime import date
from typing import Final

import polars as pl

from processors.jobs.kpi_trips import TIME

SUCCESS_WH_MIN: Final = 100.0
ABNORMAL_REASONS: Final = frozenset(
    {
        *("EmergencyStop", "PowerLoss", "Reboot"),  # OCPP 1.6 and 2.x
        *("HardReset", "SoftReset"),  # 1.6
        *("GroundFault", "ImmediateReset", "OvercurrentFault", "PowerQuality", "Timeout"),  # 2.0.1
        "ReqEnergyTransferRejected",  # 2.1
    }
)
"""Stop reasons of which neither the driver nor the vehicle nor an operator is the cause."""

SESSION_COLUMNS: Final[dict[str, pl.DataType]] = {
    "session_id": pl.String(),
    "revision": pl.Int32(),
    "tenant": pl.String(),
    "charger_id": pl.String(),
    "connector": pl.String(),
    "evse_id": pl.Int64(),
    "status": pl.String(),
    "started_at": TIME,
    "ended_at": TIME,
    "last_event_at": TIME,
    "energy_wh": pl.Float64(),
    "peak_power_kw": pl.Float64(),
    "charging_s": pl.Float64(),
    "idle_after_full_s": pl.Float64(),
    "soc_start_pct": pl.Float64(),
    "soc_end_pct": pl.Float64(),
    "stop_reason": pl.String(),
    "flags": pl.String(),
    "vehicle_id": pl.String(),
    "vehicle_energy_wh": pl.Float64(),
    "vehicle_soc_start_pct": pl.Float64(),
    "vehicle_soc_end_pct": pl.Float64(),
}
"""What is read of `charging_session_revisions`."""

PORT: Final = ("tenant", "charger_id", "port")
_S_PER_US: Final = 1e-6


def port_of() -> pl.Expr:
    """Return the port of a row with `evse_id` and `connector`."""
    return pl.coalesce(pl.col("evse_id").cast(pl.String), pl.col("connector")).alias("port")


def newest_sessions(revisions: pl.LazyFrame) -> pl.DataFrame:
    """Return the newest revision of each session with its `port` and `until`, without those merged into another.

    Args:
        revisions: SESSION_COLUMNS.
    """
    newest = revisions.sort("revision").group_by("session_id").last().collect()
    is_merged = pl.col("flags").fill_null("").str.split(",").list.contains("merged")
    # What goes on, or was given up, lasted as long as something was heard of it.
    until = pl.max_horizontal("started_at", pl.coalesce("ended_at", "last_event_at"))
    return (
        newest.filter(~is_merged & pl.col("started_at").is_not_null())
        .with_columns(port_of(), until.alias("until"))
        .sort("session_id")
    )


def charging_by_port(sessions: pl.DataFrame, *, days: Sequence[date]) -> pl.DataFrame:
    """Return what each port did on the days.

    Args:
        sessions: As `newest_sessions` returns them.
        days: UTC days wanted.

    Returns: One row per port and day with something to tell: PORT, day, sessions, ended, succeeded, energy_kwh,
        peak_kw, connected_s, charging_s, idle_after_full_s; a figure that no session has is null.
    """
    wanted = pl.DataFrame({"day": list(days)}, schema={"day": pl.Date()}).unique()
    times = _times_by_day(sessions, wanted)
    counts = _counts(sessions).join(wanted, on="day", how="semi")
    key = [*PORT, "day"]
    joined = times.join(counts, on=key, how="full", coalesce=True, nulls_equal=True)
    return joined.with_columns(
        pl.col("sessions", "ended", "succeeded").fill_null(0), pl.col("connected_s").fill_null(0.0)
    ).sort(key)


def _counts(sessions: pl.DataFrame) -> pl.DataFrame:
    is_seen, is_over = pl.col("status") != "orphan", pl.col("status").is_in(["completed", "abandoned"])
    is_good = (
        (pl.col("status") == "completed")
        & (pl.col("energy_wh") >= SUCCESS_WH_MIN)
        & ~pl.col("stop_reason").fill_null("").is_in(list(ABNORMAL_REASONS))
    )
    return sessions.group_by(*PORT, pl.col("started_at").dt.date().alias("day")).agg(
        is_seen.sum().cast(pl.Int64).alias("sessions"),
        is_over.sum().cast(pl.Int64).alias("ended"),
        is_good.sum().cast(pl.Int64).alias("succeeded"),
        (_known_sum("energy_wh") / 1000).alias("energy_kwh"),
        pl.col("peak_power_kw").max().alias("peak_kw"),
    )


def _known_sum(name: str) -> pl.Expr:
    """Return the sum, null where no value is known."""
    return pl.when(pl.col(name).is_not_null().any()).then(pl.col(name).sum())


def _times_by_day(sessions: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    start, until = pl.col("started_at"), pl.col("until")
    split = (
        sessions.with_columns(
            pl.date_ranges(start.dt.date(), until.dt.date()).alias("day"),
            pl.max_horizontal(start, until - pl.duration(microseconds=_us(pl.col("idle_after_full_s").fill_null(0.0))))
            .alias("full_at"),
        )
        .explode("day")
        .join(wanted, on="day", how="semi")
    )  # fmt: skip
    day_start = pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    clipped = split.with_columns(
        pl.max_horizontal(start, day_start).alias("from"),
        pl.min_horizontal(until, day_start + pl.duration(days=1)).alias("to"),
    )
    before_full_s = _span_s(start, pl.col("full_at"))
    is_first = start.dt.date() == pl.col("day")
    share = (
        pl.when(before_full_s > 0)
        .then(_span_s(pl.col("from"), pl.min_horizontal("to", "full_at")) / before_full_s)
        .otherwise(is_first.cast(pl.Float64))
    )
    idle_s = _span_s(pl.max_horizontal("from", "full_at"), pl.col("to"))
    timed = clipped.sort(*PORT, "day", "from").with_columns(
        (pl.col("charging_s") * share).alias("charging_s"),
        pl.when(pl.col("idle_after_full_s").is_not_null()).then(idle_s).alias("idle_after_full_s"),
        pl.col("to").cum_max().shift(1).over(*PORT, "day").alias("covered_to"),
    )
    return timed.group_by(*PORT, "day").agg(
        _span_s(pl.max_horizontal("from", "covered_to"), pl.col("to")).sum().alias("connected_s"),
        _known_sum("charging_s").alias("charging_s"),
        _known_sum("idle_after_full_s").alias("idle_after_full_s"),
    )


def _span_s(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Return the seconds from `start` to `end`, 0 where that is before it."""
    return ((end - start).dt.total_microseconds() * _S_PER_US).clip(lower_bound=0.0)


def _us(seconds: pl.Expr) -> pl.Expr:
    return (seconds * 1e6).round().cast(pl.Int64)
