"""Dashboards of what came of it: sessions, alerts, the quality of data. What a panel shows is one call."""

from typing import Final

from dashboards.saved.opensearch_boards import TELEMETRY, Board, chart
from dashboards.saved.opensearch_panels import (
    Rows,
    by,
    by_number,
    by_time,
    count,
    distinct,
    highest,
    mean,
    percentiles,
    total,
    where,
    where_not,
)
from processors.indexing.plan import DEVICES
from processors.stages.alerts import ALERTS
from processors.stages.chain import REJECTS
from processors.stages.sessions import SESSIONS

_STATUS: Final = "charger_status"
_EVENTS: Final = "vehicle_event"
_OPEN: Final = where("state", "firing", "acknowledged")


# ---- sessions --------------------------------------------------------------------------------------------------------


def sessions() -> Board:
    """Return the dashboard of charging sessions."""
    done = where("status", "completed")
    sums = chart(
        "sums", "Sessions", SESSIONS, "metric",
        count("sessions"), total("energy_kwh", "kWh"), mean("energy_kwh", "kWh each"),
        mean("duration_s", "mean duration"),
    )  # fmt: skip
    loss = chart(
        "loss", "Loss on the way into the battery", SESSIONS, "metric",
        mean("loss_pct", "mean, %"), highest("loss_pct", "highest, %"), where("loss_pct"),
        about="What the charger counted less what the vehicle counted, where the vehicle is known.",
    )  # fmt: skip
    started = chart(
        "started", "Sessions over time", SESSIONS, "histogram", count("sessions"), by_time(), by("status", "status")
    )
    energy = chart("energy", "Energy over time", SESSIONS, "histogram", total("energy_kwh", "kWh"), by_time())
    sizes = chart(
        "sizes", "Energy of a session", SESSIONS, "histogram",
        count("sessions"), by_number("energy_kwh", "kWh", width=5), done,
    )  # fmt: skip
    lengths = chart(
        "lengths", "Duration of a session", SESSIONS, "histogram",
        count("sessions"), by_number("duration_s", "duration", width=900), done,
        about="In steps of a quarter of an hour.",
    )  # fmt: skip
    reasons = chart(
        "reasons",
        "Why they stopped",
        SESSIONS,
        "pie",
        count("sessions"),
        by("stop_reason", "reason", none="untold"),
        done,
    )
    matches = chart(
        "matches",
        "How the vehicle was found",
        SESSIONS,
        "pie",
        count("sessions"),
        by("vehicle_match", "by", none="not found"),
    )
    flags = chart("flags", "What is odd about them", SESSIONS, "horizontal_bar", count("sessions"), by("flags", "flag"))
    chargers = chart(
        "chargers", "By charger", SESSIONS, "table",
        total("energy_kwh", "kWh"), count("sessions"), mean("mean_power_kw", "mean power, kW"),
        highest("peak_power_kw", "peak, kW"), mean("idle_after_full_s", "idle after full"), by("charger_id", "charger"),
    )  # fmt: skip
    newest = Rows(
        name="newest", title="Newest sessions", table=SESSIONS,
        columns=(
            "charger_id", "connector", "status", "duration_s", "energy_kwh", "peak_power_kw", "vehicle_id",
            "loss_pct", "stop_reason",
        ),
    )  # fmt: skip
    return Board(
        name="sessions",
        short_title="charging sessions",
        about="How many sessions, how long, how much energy, why they stopped, and what was lost on the way.",
        time_from="now-7d",
        rows=(
            (8, ((sums, 30), (loss, 18))),
            (12, ((started, 24), (energy, 24))),
            (12, ((sizes, 24), (lengths, 24))),
            (12, ((reasons, 16), (matches, 16), (flags, 16))),
            (14, ((chargers, 48),)),
            (16, ((newest, 48),)),
        ),
    )


# ---- alerts ----------------------------------------------------------------------------------------------------------


def alerts() -> Board:
    """Return the dashboard of alerts."""
    acknowledged, resolved = where("acknowledged_at"), where("resolved_at")
    numbers = chart("numbers", "Alerts", ALERTS, "metric", count("alerts"), distinct("device_id", "devices"))
    still = chart("open", "Open", ALERTS, "metric", count("alerts"), by("severity", "severity"), _OPEN)
    reaction = chart(
        "reaction", "Time to acknowledge", ALERTS, "metric",
        mean("time_to_acknowledge_s", "mean"), percentiles("time_to_acknowledge_s", "percentile", 50, 90), acknowledged,
        about="From firing to the first acknowledgement, of alerts that were acknowledged.",
    )  # fmt: skip
    severities = chart(
        "severities", "Alerts by severity", ALERTS, "histogram", count("alerts"), by_time(), by("severity", "severity")
    )
    states = chart("states", "States", ALERTS, "pie", count("alerts"), by("state", "state"))
    rules = chart("rules", "Alerts by rule", ALERTS, "horizontal_bar", count("alerts"), by("rule", "rule"))
    sites = chart("sites", "Alerts by site", ALERTS, "pie", count("alerts"), by("site", "site", none="no site"))
    devices = chart(
        "devices", "Devices with the most alerts", ALERTS, "table", count("alerts"), highest("fired_at", "last"),
        by("device_id", "device"), by("rule", "rule", size=3),
    )  # fmt: skip
    mending = chart(
        "times", "Times by rule", ALERTS, "table",
        count("alerts"), mean("time_to_acknowledge_s", "mean time to acknowledge"),
        mean("time_to_resolve_s", "mean time to end"),
        by("severity", "severity"), by("rule", "rule"),
    )  # fmt: skip
    ends = chart(
        "ends", "Time until an alert ends", ALERTS, "line",
        percentiles("time_to_resolve_s", "percentile", 50, 95), by_time(), resolved,
    )  # fmt: skip
    waiting = Rows(
        name="waiting", title="Open alerts", table=ALERTS,
        columns=("severity", "state", "device_id", "site", "title", "value", "limit", "unit", "check"),
        filters=(_OPEN,),
    )  # fmt: skip
    return Board(
        name="alerts",
        short_title="alerts",
        about="What is open, what fires most, where, and how soon somebody answers.",
        time_from="now-7d",
        rows=(
            (8, ((numbers, 14), (still, 16), (reaction, 18))),
            (16, ((waiting, 48),)),
            (12, ((severities, 32), (states, 16))),
            (14, ((rules, 32), (sites, 16))),
            (14, ((devices, 24), (mending, 24))),
            (12, ((ends, 48),)),
        ),
    )


# ---- data quality ----------------------------------------------------------------------------------------------------


def data_quality() -> Board:
    """Return the dashboard of what was refused, late or wrong."""
    late = where_not("revision", 0)
    numbers = chart(
        "rejects",
        "Rejects",
        REJECTS,
        "metric",
        count("rejects"),
        distinct("device_id", "devices"),
        distinct("code", "codes"),
    )
    readings = chart(
        "readings",
        "Readings in windows",
        TELEMETRY,
        "metric",
        total("n", "readings"),
        distinct("device_id", "vehicles"),
    )
    codes = chart("codes", "Rejects by code", REJECTS, "histogram", count("rejects"), by_time(), by("code", "code"))
    streams = chart(
        "streams", "Rejects by channel", REJECTS, "horizontal_bar", count("rejects"), by("channel", "channel"),
        by("code", "code"),
    )  # fmt: skip
    stages = chart("stages", "Where they were refused", REJECTS, "pie", count("rejects"), by("stage", "stage"))
    reasons = chart(
        "reasons", "Why they were refused", REJECTS, "table", count("rejects"), distinct("device_id", "devices"),
        by("code", "code"), by("path", "field", none="message"), by("expected", "expected", none="-"),
        by("got", "got", size=3, none="-"),
    )  # fmt: skip
    senders = chart(
        "senders", "Devices with the most rejects", REJECTS, "table", count("rejects"), highest("received_at", "last"),
        by("device_id", "device"),
    )  # fmt: skip
    rate = chart("rate", "Readings over time", TELEMETRY, "area", total("n", "readings"), by_time())
    revised = chart(
        "late", "Windows that late readings changed", TELEMETRY, "histogram", count("windows"), by_time(), late,
        about="Windows of a minute that were said again, because a reading came after they had ended.",
    )  # fmt: skip
    lag = chart(
        "lag", "Lag of events", _EVENTS, "line", percentiles("lag_s", "percentile", 50, 95), by_time(),
        about="From the vehicle's clock to receipt; below zero, its clock is ahead.",
    )  # fmt: skip
    charger_lag = chart(
        "charger-lag", "Lag of chargers", _STATUS, "line", percentiles("lag_s", "percentile", 50, 95), by_time(),
        about="From the charger's clock to receipt; below zero, its clock is ahead.",
    )  # fmt: skip
    slowest = chart(
        "slowest", "Slowest devices", DEVICES, "table",
        highest("lag_s", "lag of the newest reading"), total("readings", "readings"), by("device_id", "device"),
        by("stream", "stream"),
    )  # fmt: skip
    flags = chart(
        "flags",
        "Values that were set aside",
        _EVENTS,
        "table",
        count("rows"),
        by("flags", "flag"),
        by("device_id", "device"),
    )
    charger_flags = chart(
        "charger-flags",
        "The same of chargers",
        _STATUS,
        "table",
        count("rows"),
        by("flags", "flag"),
        by("device_id", "device"),
    )
    newest = Rows(
        name="newest", title="Newest rejects", table=REJECTS,
        columns=("device_id", "channel", "stage", "code", "path", "expected", "got", "offset"),
    )  # fmt: skip
    return Board(
        name="data-quality",
        short_title="data quality",
        about="What was refused and why, what came late, and whose clock is wrong.",
        rows=(
            (8, ((numbers, 24), (readings, 24))),
            (12, ((codes, 32), (stages, 16))),
            (14, ((reasons, 32), (senders, 16))),
            (12, ((streams, 24), (rate, 24))),
            (12, ((revised, 16), (lag, 16), (charger_lag, 16))),
            (14, ((slowest, 20), (flags, 14), (charger_flags, 14))),
            (16, ((newest, 48),)),
        ),
    )
