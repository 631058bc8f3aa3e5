"""Dashboards of things: vehicles, battery packs, chargers. What a panel shows is one call."""

from typing import Final

from dashboards.saved.opensearch_boards import BATTERY, METER, TELEMETRY, Board, chart
from dashboards.saved.opensearch_maps import positions
from dashboards.saved.opensearch_panels import (
    Rows,
    by,
    by_number,
    by_time,
    count,
    distinct,
    highest,
    lowest,
    mean,
    total,
    where,
    where_not,
)
from processors.indexing.plan import DEVICES, IndexedTable
from processors.stages.alerts import ALERTS

_STATUS: Final = "charger_status"
_EVENTS: Final = "vehicle_event"
_OPEN: Final = where("state", "firing", "acknowledged")


# ---- fleet -----------------------------------------------------------------------------------------------------------


def fleet_overview(devices: IndexedTable) -> Board:
    """Return the dashboard of vehicles; `devices` is where their newest values are."""
    vehicles = where("stream", "vehicle_telemetry")
    soc, reach = "value.vehicle_telemetry.soc_pct", "value.vehicle_telemetry.range_km"
    odometer = "value.vehicle_telemetry.odometer_km"
    heard = chart(
        "heard", "Vehicles heard", DEVICES, "metric", distinct("device_id", "vehicles"), mean(soc, "mean SoC, %"),
        vehicles,
        about="Vehicles that said something in the time shown, and the mean of their newest states of charge.",
    )  # fmt: skip
    driven = chart(
        "driven", "Driven and taken", TELEMETRY, "metric", total("distance_km", "km"), total("energy_kwh", "kWh"),
        about="Energy counts into the battery: below zero, more was taken out than charged.",
    )  # fmt: skip
    alerts = chart("open-alerts", "Open alerts", ALERTS, "metric", count("alerts"), _OPEN)
    socs = chart(
        "soc", "States of charge", DEVICES, "histogram", count("vehicles"), by_number(soc, "SoC, %", width=10),
        vehicles,
        about="Newest state of charge of each vehicle.",
    )  # fmt: skip
    distance = chart(
        "distance", "Distance an hour", TELEMETRY, "histogram", total("distance_km", "km"), by_time(every="h")
    )
    energy = chart(
        "energy", "Energy an hour", TELEMETRY, "histogram", total("energy_kwh", "kWh into the battery"),
        by_time(every="h"),
        about="Charging and braking less driving, of all vehicles.",
    )  # fmt: skip
    active = chart(
        "active", "Vehicles heard over time", TELEMETRY, "area", distinct("device_id", "vehicles"), by_time(),
    )  # fmt: skip
    speed = chart(
        "speed", "Speed", TELEMETRY, "line",
        mean("speed_kmh_mean", "mean, km/h"), highest("speed_kmh_max", "highest, km/h"), by_time(),
    )  # fmt: skip
    empty = chart(
        "lowest-soc", "Least charged", DEVICES, "table",
        lowest(soc, "SoC, %"), lowest(reach, "range, km"), highest(odometer, "odometer, km"),
        by("device_id", "vehicle", lowest_first=True), vehicles, where(soc),
    )  # fmt: skip
    events = chart(
        "events", "Events", _EVENTS, "histogram", count("events"), by_time(), by("kind", "kind"),
        about="Trouble codes, alarms, ignition, geofences and connections.",
    )  # fmt: skip
    return Board(
        name="fleet-overview",
        short_title="fleet overview",
        about="Who was heard, how full the batteries are, how far they went, and where they are now.",
        rows=(
            (8, ((heard, 16), (driven, 16), (alerts, 16))),
            (18, ((positions(devices), 30), (socs, 18))),
            (12, ((distance, 24), (energy, 24))),
            (12, ((active, 24), (speed, 24))),
            (14, ((empty, 24), (events, 24))),
        ),
    )


# ---- batteries -------------------------------------------------------------------------------------------------------


def battery_health() -> Board:
    """Return the dashboard of battery packs."""
    packs, value = where("stream", "battery_pack"), "value.battery_pack."
    heard = chart(
        "heard", "Packs heard", DEVICES, "metric",
        distinct("device_id", "packs"), lowest(f"{value}soh_pct", "lowest SoH, %"),
        lowest(f"{value}isolation_kohm", "lowest isolation, kohm"), packs,
    )  # fmt: skip
    extremes = chart(
        "extremes", "Hottest cell and widest spread now", DEVICES, "metric",
        highest(f"{value}cell_temp_max_c", "hottest cell, degC"),
        highest("cell_voltage_spread_v", "widest spread, V"), packs,
    )  # fmt: skip
    temps = chart(
        "temperatures", "Cell temperatures", BATTERY, "line",
        highest("cell_temp_max_c_max", "hottest, degC"), mean("cell_temp_mean_c_time_mean", "mean, degC"),
        lowest("cell_temp_min_c_min", "coldest, degC"), by_time(),
    )  # fmt: skip
    volts = chart(
        "voltages", "Cell voltages", BATTERY, "line",
        highest("cell_voltage_max_v_max", "highest, V"), lowest("cell_voltage_min_v_min", "lowest, V"), by_time(),
    )  # fmt: skip
    heat = chart(
        "heat", "Hottest cell of each vehicle", BATTERY, "heatmap",
        highest("cell_temp_max_c_max", "hottest cell, degC"), by_time(), by("device_id", "vehicle"),
        about="The 20 vehicles that were hottest.",
    )  # fmt: skip
    spread = chart(
        "spread", "Widest cell spread", DEVICES, "table",
        highest("cell_voltage_spread_v", "cell voltages, V"), highest("cell_temp_spread_c", "cell temperatures, K"),
        highest(f"{value}soc_pct", "SoC, %"), by("device_id", "vehicle"), packs, where(f"{value}cell_voltage_max_v"),
        about="Newest difference between the highest and the lowest cell of each pack.",
    )  # fmt: skip
    health = chart(
        "soh", "States of health", DEVICES, "histogram",
        count("packs"), by_number(f"{value}soh_pct", "SoH, %", width=1), packs,
    )  # fmt: skip
    weakest = chart(
        "weakest", "Lowest isolation", DEVICES, "table",
        lowest(f"{value}isolation_kohm", "isolation, kohm"), lowest(f"{value}soh_pct", "SoH, %"),
        by("device_id", "vehicle", lowest_first=True), packs, where(f"{value}isolation_kohm"),
    )  # fmt: skip
    isolation = chart(
        "isolation", "Lowest isolation over time", BATTERY, "line", lowest("isolation_kohm_min", "kohm"), by_time()
    )
    states = chart("bms", "What the packs do", DEVICES, "pie", count("packs"), by(f"{value}bms_state", "state"), packs)
    power = chart(
        "power", "Power of a pack", BATTERY, "line",
        highest("pack_power_kw_max", "highest into it, kW"), lowest("pack_power_kw_min", "highest out of it, kW"),
        by_time(),
        about="The most that any one pack took or gave; what it gives is below zero.",
    )  # fmt: skip
    return Board(
        name="battery-health",
        short_title="battery health",
        about="Which packs are hot, uneven, worn or badly isolated.",
        rows=(
            (8, ((heard, 28), (extremes, 20))),
            (12, ((temps, 24), (volts, 24))),
            (14, ((heat, 28), (states, 20))),
            (14, ((spread, 24), (weakest, 24))),
            (12, ((health, 16), (isolation, 16), (power, 16))),
        ),
    )


# ---- chargers --------------------------------------------------------------------------------------------------------


def charging_infrastructure() -> Board:
    """Return the dashboard of chargers."""
    status, value = where("stream", _STATUS), "value.charger_status."
    connectors = where("part")
    heard = chart("heard", "Chargers heard", DEVICES, "metric", distinct("device_id", "chargers"), status)
    faulted = chart(
        "faulted", "Connectors that cannot charge", DEVICES, "metric", count("connectors"),
        status, connectors, where(f"{value}status", "Faulted", "Unavailable"),
    )  # fmt: skip
    delivered = chart(
        "delivered", "Energy", METER, "metric",
        total("import_energy_kwh", "kWh"), highest("power_import_kw_max", "highest power of a connector, kW"),
    )  # fmt: skip
    now = chart(
        "status",
        "Connectors now",
        DEVICES,
        "pie",
        count("connectors"),
        by(f"{value}status", "status"),
        status,
        connectors,
    )
    each = chart(
        "connectors", "Status of each connector", DEVICES, "table", highest("measured_at", "since"),
        by("device_id", "charger", size=100, metric=None), by("part", "connector", metric=None),
        by(f"{value}status", "status", metric=None), status, connectors,
    )  # fmt: skip
    power = chart(
        "power", "Power of chargers", METER, "line",
        highest("power_import_kw_max", "kW"), by_time(), by("device_id", "charger", size=10),
        about="Highest power of a connector; the ten chargers with the most.",
    )  # fmt: skip
    energy = chart(
        "energy", "Energy an hour", METER, "histogram",
        total("import_energy_kwh", "kWh"), by_time(every="h"), by("device_id", "charger", size=10),
        about="Of an hour, kWh are also the mean power in kW.",
    )  # fmt: skip
    changes = chart(
        "changes", "Changes of status", _STATUS, "histogram",
        count("messages"), by_time(), by("status", "status"), where("kind", "status"),
    )  # fmt: skip
    wrong = (where("error_code"), where_not("error_code", "NoError"))
    errors = chart(
        "errors", "Errors", _STATUS, "table", count("messages"), highest("measured_at", "last"),
        by("device_id", "charger"), by("connector", "connector", none="charger"), by("error_code", "error"),
        by("vendor_error_code", "vendor's code", none="none"), *wrong,
    )  # fmt: skip
    errors_in_time = chart(
        "errors-over-time", "Errors over time", _STATUS, "histogram",
        count("messages"), by_time(), by("error_code", "error"), *wrong,
    )  # fmt: skip
    models = chart(
        "models", "Makes and firmware", DEVICES, "table", distinct("device_id", "chargers"),
        by(f"{value}vendor", "vendor"), by(f"{value}model", "model"),
        by(f"{value}firmware_version", "firmware", none="untold"),
        status,
    )  # fmt: skip
    newest = Rows(
        name="messages", title="Newest messages about status", table=_STATUS,
        columns=("device_id", "connector", "kind", "status", "error_code", "info"),
    )  # fmt: skip
    return Board(
        name="charging-infrastructure",
        short_title="charging infrastructure",
        about="Which connectors work, what they deliver, and what is wrong with those that do not.",
        rows=(
            (8, ((heard, 12), (faulted, 14), (delivered, 22))),
            (14, ((now, 18), (each, 30))),
            (12, ((power, 24), (energy, 24))),
            (12, ((changes, 24), (errors_in_time, 24))),
            (14, ((errors, 28), (models, 20))),
            (16, ((newest, 48),)),
        ),
    )
