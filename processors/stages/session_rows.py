"""A session's facts to its row of `charging_session_revisions`.

A pure function of the session, of what its connector said of itself, and of the most its charger can give.

Flags that come and go with the facts: `seq_gap` (2.x numbers are missing, or the first is not 0), `no_start`, `faulted`
(the connector, within the session), `zero_energy`, `ends_differ` (ends of several times; the earliest counts),
`clock_jumped` (times before the start, which do not count, or a start a month before all else), `long_session` (over 31
days), `samples_thinned` (an open session with too many), `energy_partial` (intervals, of which some are gone), those of
session_energy.py and of session_matching.py, and `merged`: an orphan that turned out to be another session, without
energy from then on. Flags that stay: `late_start`, `late_stop`, `resumed` (it had been told otherwise before),
`transaction_reused`, and of its rows `clock_absent`, `clock_clamped`, `clock_unset`, `no_transaction`, `no_zone`.
"""

from collections.abc import Sequence
from math import isnan
from typing import Any, Final

import msgspec
import polars as pl

from gateway.core.limits import CHARGE_POWER_MAX_KW
from processors.stages.session_energy import US_PER_S, Energy, Point, curve_of, measure
from processors.stages.session_record import CLOCK_JUMP_US, Session
from processors.stages.session_store import Connector

_TIME: Final = pl.Datetime("us", "UTC")
_TRAILING_US: Final = 120 * US_PER_S
"""A last sample may come this much after an end that told no register itself."""
_DURATION_MAX_US: Final = 31 * 24 * 3600 * US_PER_S

SESSIONS_SCHEMA: Final[dict[str, pl.DataType]] = {
    "session_id": pl.String(),
    "tenant": pl.String(),
    "charger_id": pl.String(),
    "connector": pl.String(),
    "evse_id": pl.Int64(),
    "connector_id": pl.Int64(),
    "ocpp_version": pl.String(),
    "transaction_id": pl.String(),
    "id_token": pl.String(),
    "id_token_type": pl.String(),
    "status": pl.String(),
    "started_at": _TIME,
    "ended_at": _TIME,
    "duration_s": pl.Float64(),
    "energy_wh": pl.Float64(),
    "energy_source": pl.String(),
    "meter_start_wh": pl.Float64(),
    "meter_stop_wh": pl.Float64(),
    "peak_power_kw": pl.Float64(),
    "mean_power_kw": pl.Float64(),
    "charging_s": pl.Float64(),
    "idle_after_full_s": pl.Float64(),
    "soc_start_pct": pl.Float64(),
    "soc_end_pct": pl.Float64(),
    "curve": pl.String(),
    "stop_reason": pl.String(),
    "flags": pl.String(),
    "evidence": pl.String(),
    "events": pl.Int64(),
    "meter_rows": pl.Int64(),
    "last_event_at": _TIME,
    "vehicle_id": pl.String(),
    "vehicle_match": pl.String(),
    "vehicle_confidence": pl.Float64(),
    "vehicle_energy_wh": pl.Float64(),
    "loss_pct": pl.Float64(),
    "vehicle_soc_start_pct": pl.Float64(),
    "vehicle_soc_end_pct": pl.Float64(),
    "battery_temp_min_c": pl.Float64(),
    "battery_temp_max_c": pl.Float64(),
    "vehicle_curve": pl.String(),
    "revision": pl.Int32(),
    "offset": pl.Int64(),
    "received_at": _TIME,
}
"""Columns of the table; times are in the charger's clock, `received_at` and `offset` those of the causing entry."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A session's samples within its time, and what they amount to.

    Attributes:
        points: Samples from its start to its end.
        energy: What they amount to.
        flags: What was wrong with their times.
        states: (time, status) of the connector within its time.
    """

    points: tuple[Point, ...]
    energy: Energy
    flags: tuple[str, ...]
    states: tuple[tuple[int, str], ...]


def measure_session(session: Session, connector: Connector | None, rated_kw: float | None) -> Measured:
    """Return what the meter said within the session.

    Args:
        session: The session.
        connector: What its connector said of itself, None for nothing.
        rated_kw: Rated power of the charger, None for unknown.
    """
    started_us, ended_us = session.started_us, session.ended_us
    end = session.end
    meter_stop_wh = end.meter_wh if end is not None else None
    flags = set()
    if session.start is not None and session.is_clock_wrong_at_start:
        flags.add("clock_jumped")
    if any(one.at_us < started_us for one in session.ends):
        flags.add("clock_jumped")
    until_us = ended_us
    if ended_us is not None and meter_stop_wh is None and session.ends:
        until_us = ended_us + _TRAILING_US
    samples = session.samples
    points = []
    for i, at_us in enumerate(samples.at_us):
        if at_us < started_us - CLOCK_JUMP_US:
            flags.add("clock_jumped")
        elif until_us is None or at_us <= until_us:
            points.append(
                Point(at_us, samples.register_wh[i], samples.power_kw[i], samples.soc_pct[i], samples.interval_wh[i])
            )
    known = {*session.states, *(connector.states if connector else ())}
    states = tuple(sorted(one for one in known if started_us <= one[0] <= (ended_us or one[0])))
    peaks = [point.power_kw for point in points if not isnan(point.power_kw)]
    # Of a thinned session the peak may be of a sample that is gone.
    peak_kw = samples.peak_kw if samples.width_us and peaks else max(peaks, default=None)
    energy = measure(
        points,
        start_us=started_us,
        end_us=ended_us,
        meter_start_wh=session.start.meter_wh if session.start is not None else None,
        meter_stop_wh=meter_stop_wh,
        peak_kw=peak_kw,
        limit_kw=CHARGE_POWER_MAX_KW if rated_kw is None else rated_kw * 1.25,
        suspended_us=_suspended_us(states),
    )
    if samples.width_us and energy.energy_source == "interval":
        flags.add("energy_partial")
    return Measured(points=tuple(points), energy=energy, flags=tuple(flags), states=states)


def to_row(session: Session, measured: Measured, *, offset: int, received_us: int) -> tuple[Any, ...]:
    """Return the session as values in the order of SESSIONS_SCHEMA; times in us."""
    energy, joined = measured.energy, session.joined
    start_us, ended_us = session.started_us, session.ended_us
    is_merged = session.abandoned is not None and session.abandoned.why == "merged"
    energy_wh = None if is_merged else energy.energy_wh
    duration_s = None if ended_us is None else (ended_us - start_us) / US_PER_S
    end, place, token = session.end, session.place, session.token
    values = {
        "session_id": session.session_id,
        "tenant": session.tenant,
        "charger_id": session.charger_id,
        "connector": place.connector if place else None,
        "evse_id": place.evse_id if place else None,
        "connector_id": place.connector_id if place else None,
        "ocpp_version": session.ocpp_version,
        "transaction_id": ",".join(session.transactions) or None,
        "id_token": token.token if token else None,
        "id_token_type": token.kind if token else None,
        "status": session.status,
        "started_at": start_us,
        "ended_at": ended_us,
        "duration_s": duration_s,
        "energy_wh": energy_wh,
        "energy_source": energy.energy_source,
        "meter_start_wh": energy.meter_start_wh,
        "meter_stop_wh": energy.meter_stop_wh,
        "peak_power_kw": energy.peak_power_kw,
        "mean_power_kw": energy.mean_power_kw,
        "charging_s": energy.charging_s,
        "idle_after_full_s": energy.idle_after_full_s,
        "soc_start_pct": energy.soc_start_pct,
        "soc_end_pct": energy.soc_end_pct,
        "curve": to_json(curve_of(measured.points, start_us, _first_wh(energy))),
        "stop_reason": end.reason if end else None,
        "flags": ",".join(_flags(session, measured, energy_wh, is_merged=is_merged)) or None,
        "evidence": _evidence(session),
        "events": session.events,
        "meter_rows": len(measured.points) + session.samples.dropped,
        "last_event_at": max(session.last_word_at_us, measured.points[-1].at_us if measured.points else 0),
        "vehicle_id": joined.vehicle_id,
        "vehicle_match": joined.match,
        "vehicle_confidence": joined.confidence,
        "vehicle_energy_wh": joined.energy_wh,
        # The two sides may be of different spans until they are compared again.
        "loss_pct": None if session.join_stale else loss_pct(joined.energy_wh, energy_wh),
        "vehicle_soc_start_pct": joined.soc_start_pct,
        "vehicle_soc_end_pct": joined.soc_end_pct,
        "battery_temp_min_c": joined.temp_min_c,
        "battery_temp_max_c": joined.temp_max_c,
        "vehicle_curve": to_json(joined.curve),
        "revision": session.revision,
        "offset": offset,
        "received_at": received_us,
    }
    return tuple(values[name] for name in SESSIONS_SCHEMA)


def to_json(curve: Sequence[Sequence[float | None]]) -> str | None:
    """Return the points as JSON text, None where there are none."""
    return msgspec.json.encode(curve).decode() if curve else None


def loss_pct(vehicle_wh: float | None, charger_wh: float | None) -> float | None:
    """Return what part of the charger's energy did not arrive in the battery, in percent; None where unknown."""
    if vehicle_wh is None or not charger_wh:
        return None
    return round((1 - vehicle_wh / charger_wh) * 100, 3)


def _first_wh(energy: Energy) -> float | None:
    """Return the register from which a curve counts, None where the first one is not to be believed."""
    return None if any(code.startswith("register_") for code in energy.flags) else energy.meter_start_wh


def _suspended_us(states: Sequence[tuple[int, str]]) -> int | None:
    """Return since when the vehicle has taken nothing, by the connector's last states; None if it charges."""
    since: int | None = None
    for at_us, state in states:
        if state == "Charging":
            since = None
        elif state == "SuspendedEV" and since is None:
            since = at_us
    return since


def _flags(session: Session, measured: Measured, energy_wh: float | None, *, is_merged: bool) -> list[str]:
    ended_us = session.ended_us
    found = {
        "seq_gap": session.has_gap,
        "no_start": session.start is None,
        "merged": is_merged,
        "faulted": any(state == "Faulted" for _, state in measured.states),
        "zero_energy": energy_wh == 0 and ended_us is not None,
        "ends_differ": len({one.at_us for one in session.ends}) > 1,
        "long_session": ended_us is not None and ended_us - session.started_us > _DURATION_MAX_US,
        "samples_thinned": session.samples.width_us > 0 and session.is_open,
    }
    computed = {code for code, is_so in found.items() if is_so}
    return sorted({*session.flags, *measured.flags, *measured.energy.flags, *session.joined.flags, *computed})


def _evidence(session: Session) -> str | None:
    if session.abandoned is not None and not (session.ends and session.abandoned.why != "merged"):
        return session.abandoned.evidence
    if session.start is None:
        names = ",".join(session.transactions) or "without id"
        said = "its end" if session.ends else "meter values and updates"
        return f"no start of transaction {names} is known, only {said}"
    return None
