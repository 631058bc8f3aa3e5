"""What vehicles, charger ports, sites and fleets did in a UTC day, added up from trips, sessions, uptime and alerts.

Ratios of a roll-up are made again from the sums, never averaged: a site's uptime is that of all its ports' seconds.
"""

from collections.abc import Sequence
from datetime import date
from typing import Final

import polars as pl

from processors.jobs.kpi_charging import PORT
from processors.jobs.kpi_trips import CONSUMPTION_KM_MIN

SEVERITIES: Final = ("info", "warning", "critical")
_ALERTS: Final = tuple(f"alerts_{severity}" for severity in SEVERITIES)

VEHICLE_SCHEMA: Final[dict[str, pl.DataType]] = {
    "day": pl.Date(),
    "tenant": pl.String(),
    "vehicle_id": pl.String(),
    "site": pl.String(),
    "trips": pl.Int64(),
    "distance_km": pl.Float64(),
    "energy_km": pl.Float64(),
    "drive_s": pl.Float64(),
    "moving_s": pl.Float64(),
    "energy_out_kwh": pl.Float64(),
    "energy_in_kwh": pl.Float64(),
    "energy_kwh": pl.Float64(),
    "kwh_per_100km": pl.Float64(),
    "regen_share": pl.Float64(),
    "charges": pl.Int64(),
    "charged_kwh": pl.Float64(),
    "soc_min_pct": pl.Float64(),
    "soc_max_pct": pl.Float64(),
    "soh_last_pct": pl.Float64(),
    **dict.fromkeys(_ALERTS, pl.Int64()),
}
"""Columns of `kpi_vehicle_day`."""

CHARGER_SCHEMA: Final[dict[str, pl.DataType]] = {
    "day": pl.Date(),
    "tenant": pl.String(),
    "charger_id": pl.String(),
    "port": pl.String(),
    "site": pl.String(),
    "sessions": pl.Int64(),
    "ended": pl.Int64(),
    "succeeded": pl.Int64(),
    "success_rate": pl.Float64(),
    "energy_kwh": pl.Float64(),
    "peak_kw": pl.Float64(),
    "connected_s": pl.Float64(),
    "charging_s": pl.Float64(),
    "idle_after_full_s": pl.Float64(),
    "connected_share": pl.Float64(),
    "charging_share": pl.Float64(),
    "observed_s": pl.Int64(),
    "outage_s": pl.Int64(),
    "excluded_s": pl.Int64(),
    "uptime": pl.Float64(),
}
"""Columns of `kpi_charger_day`, one row per port and day."""

_PORT_SUMS: Final = (
    *("sessions", "ended", "succeeded", "energy_kwh", "connected_s", "charging_s", "idle_after_full_s"),
    *("observed_s", "outage_s", "excluded_s"),
)
_VEHICLE_SUMS: Final = (
    *("trips", "distance_km", "energy_km", "drive_s", "moving_s", "energy_out_kwh", "energy_in_kwh", "trip_energy_kwh"),
    *("charges", "charged_kwh", *_ALERTS),
)
_VEHICLE_FIGURES: Final = tuple(
    name for name in VEHICLE_SCHEMA if name in _VEHICLE_SUMS or name in ("kwh_per_100km", "regen_share")
)
_FIGURES: Final[dict[str, pl.DataType]] = {
    "ports": pl.Int64(),
    **{name: dtype for name, dtype in CHARGER_SCHEMA.items() if name not in ("day", *PORT, "site")},
    "vehicles": pl.Int64(),
    **{name: VEHICLE_SCHEMA[name] for name in _VEHICLE_FIGURES},
    "trip_energy_kwh": pl.Float64(),
}
"""In a roll-up energy at the chargers is `energy_kwh`, that of the trips `trip_energy_kwh`."""

SITE_SCHEMA: Final = {"day": pl.Date(), "tenant": pl.String(), "site": pl.String(), **_FIGURES}
"""Columns of `kpi_site_day`."""
FLEET_SCHEMA: Final = {"day": pl.Date(), "tenant": pl.String(), **_FIGURES}
"""Columns of `kpi_fleet_day`, one row per tenant and day."""


# ---- vehicles --------------------------------------------------------------------------------------------------------
def vehicle_days(
    trips: pl.DataFrame,
    *,
    sessions: pl.DataFrame,
    charge: pl.DataFrame,
    health: pl.DataFrame,
    alerts: pl.DataFrame,
    sites: pl.DataFrame,
    days: Sequence[date],
) -> pl.DataFrame:
    """Return one row per vehicle and day with anything known of it.

    Args:
        trips: TRIPS_SCHEMA; they count on the day they began.
        sessions: As `kpi_charging.newest_sessions` returns them; they count on the day they began.
        charge: day, tenant, vehicle_id, soc_min_pct, soc_max_pct.
        health: day, tenant, vehicle_id, soh_last_pct.
        alerts: day, tenant, vehicle_id, severity, one row per alert that fired.
        sites: tenant, device_id, site.
        days: UTC days wanted.

    Returns: VEHICLE_SCHEMA, sorted; counts of what did not happen are 0, quantities nobody measured null.
    """
    key = ["day", "tenant", "vehicle_id"]
    charges = (
        sessions.filter(pl.col("vehicle_id").is_not_null())
        .group_by(pl.col("started_at").dt.date().alias("day"), "tenant", "vehicle_id")
        .agg(pl.len().cast(pl.Int64).alias("charges"), (_known_sum("energy_wh") / 1000).alias("charged_kwh"))
    )
    fired = alerts.group_by(key).agg(
        (pl.col("severity") == severity).sum().cast(pl.Int64).alias(name)
        for severity, name in zip(SEVERITIES, _ALERTS, strict=True)
    )
    table = _driven(trips)
    for other in (charges, charge, health, fired):
        table = table.join(other, on=key, how="full", coalesce=True)
    return (
        table.filter(pl.col("day").is_in(list(days)))
        .with_columns(pl.col("trips", "charges", *_ALERTS).fill_null(0), *_consumption("energy_kwh"))
        .join(sites.rename({"device_id": "vehicle_id"}), on=["tenant", "vehicle_id"], how="left")
        .sort(key)
        .select(pl.col(name).cast(dtype) for name, dtype in VEHICLE_SCHEMA.items())
    )


def _driven(trips: pl.DataFrame) -> pl.DataFrame:
    return trips.group_by("day", "tenant", pl.col("device_id").alias("vehicle_id")).agg(
        pl.len().cast(pl.Int64).alias("trips"),
        pl.col("duration_s").sum().alias("drive_s"),
        *(
            _known_sum(name).alias(name)
            for name in ("distance_km", "moving_s", "energy_out_kwh", "energy_in_kwh", "energy_kwh")
        ),
        pl.when(pl.col("energy_kwh").is_not_null().any())
        .then(pl.col("distance_km").filter(pl.col("energy_kwh").is_not_null()).sum())
        .alias("energy_km"),
    )


def _consumption(energy: str) -> tuple[pl.Expr, pl.Expr]:
    """Return consumption over the distance of which the energy is known, and what share of it came back."""
    return (
        pl.when(pl.col("energy_km") >= CONSUMPTION_KM_MIN)
        .then(pl.col(energy) / pl.col("energy_km") * 100)
        .alias("kwh_per_100km"),
        pl.when(pl.col("energy_out_kwh") > 0)
        .then(pl.col("energy_in_kwh") / pl.col("energy_out_kwh"))
        .alias("regen_share"),
    )


# ---- chargers --------------------------------------------------------------------------------------------------------
def charger_days(charging: pl.DataFrame, uptime: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """Return one row per port and day with anything known of it.

    Args:
        charging: As `kpi_charging.charging_by_port` returns it.
        uptime: As `kpi_uptime.uptime_by_port` returns it.
        sites: tenant, device_id, site.

    Returns: CHARGER_SCHEMA, sorted.
    """
    key = [*PORT, "day"]
    return (
        charging.join(uptime, on=key, how="full", coalesce=True, nulls_equal=True)
        .join(sites.rename({"device_id": "charger_id"}), on=["tenant", "charger_id"], how="left")
        .with_columns(
            pl.col("sessions", "ended", "succeeded", "observed_s", "outage_s", "excluded_s").fill_null(0),
            pl.col("connected_s").fill_null(0.0),
        )
        .with_columns(*_port_ratios())
        .sort("day", *PORT)
        .select(pl.col(name).cast(dtype) for name, dtype in CHARGER_SCHEMA.items())
    )


def _port_ratios() -> tuple[pl.Expr, ...]:
    ended, observed_s = pl.col("ended"), pl.col("observed_s")
    up_s = observed_s - (pl.col("outage_s") - pl.col("excluded_s"))
    return (
        pl.when(ended > 0).then(pl.col("succeeded") / ended).alias("success_rate"),
        pl.when(observed_s > 0).then(pl.col("connected_s") / observed_s).alias("connected_share"),
        pl.when(observed_s > 0).then(pl.col("charging_s") / observed_s).alias("charging_share"),
        pl.when(observed_s > 0).then(up_s / observed_s).alias("uptime"),
    )


# ---- sites and fleets ------------------------------------------------------------------------------------------------
def site_days(chargers: pl.DataFrame, vehicles: pl.DataFrame) -> pl.DataFrame:
    """Return one row per site and day, SITE_SCHEMA, of CHARGER_SCHEMA and VEHICLE_SCHEMA rows that have a site."""
    is_placed = pl.col("site").is_not_null()
    return _rolled(chargers.filter(is_placed), vehicles.filter(is_placed), SITE_SCHEMA, ["day", "tenant", "site"])


def fleet_days(chargers: pl.DataFrame, vehicles: pl.DataFrame) -> pl.DataFrame:
    """Return one row per tenant and day, FLEET_SCHEMA, of all CHARGER_SCHEMA and VEHICLE_SCHEMA rows."""
    return _rolled(chargers, vehicles, FLEET_SCHEMA, ["day", "tenant"])


def _rolled(
    chargers: pl.DataFrame, vehicles: pl.DataFrame, schema: dict[str, pl.DataType], key: list[str]
) -> pl.DataFrame:
    of_ports = chargers.group_by(key).agg(
        pl.len().cast(pl.Int64).alias("ports"), pl.col("peak_kw").max(), *(_known_sum(name) for name in _PORT_SUMS)
    )
    of_vehicles = (
        vehicles.rename({"energy_kwh": "trip_energy_kwh"})
        .group_by(key)
        .agg(pl.len().cast(pl.Int64).alias("vehicles"), *(_known_sum(name) for name in _VEHICLE_SUMS))
    )
    counts = ("ports", "vehicles", "sessions", "ended", "succeeded", "trips", "charges", *_ALERTS)
    return (
        of_ports.join(of_vehicles, on=key, how="full", coalesce=True)
        .with_columns(pl.col(counts).fill_null(0), *_port_ratios(), *_consumption("trip_energy_kwh"))
        .sort(key)
        .select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    )


def _known_sum(name: str) -> pl.Expr:
    """Return the sum, null where no value is known."""
    return pl.when(pl.col(name).is_not_null().any()).then(pl.col(name).sum()).alias(name)
