"""Energy, power and time of one session from what its meter said.

**Register.** A step from one reading to the next is *sane* if it neither falls by more than 10 Wh (registers are
rounded to as much) nor gains more than the charger can give in that time plus 1 kWh (registers that count in kWh step
by as much). Energy is last minus first over each run of sane steps, added up, so for a sound register it is exactly
stop minus start. Where a step is not sane there are two stories: the odd reading is a glitch, or the register goes on
from it. The one that more of the later readings agree with is taken; of equals the glitch. Flags:

- `register_zero`: a reading of 0 that its neighbours disprove, the baseline of a start included;
- `register_fell`: a lower reading that its neighbours disprove, or that nothing follows;
- `register_reset`: the register went on from a lower reading; what ran between the two is not counted;
- `register_jumped`: it gained more than the charger can give; the gain is not counted.

A step away from exactly 0 must also be explained by the power that was measured, if any was. Without two readings in a
sane run the energy is that of the intervals, or the integral of the power, flagged `energy_estimated`.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import isnan
from typing import Final

import msgspec

from gateway.core.limits import SESSION_CURVE_POINTS_MAX

US_PER_S: Final = 1_000_000
_US_PER_H: Final = 3600 * US_PER_S
_ROUNDING_WH: Final = 10.0
_STEP_WH: Final = 1_000.0
_INSANE_MAX: Final = 16
"""Steps of one register that are looked into; one with more is a random number, and counts up to there."""
_POWER_SLACK: Final = 2.0
"""How far the measured peak may be from what a register gains in the same time, where that began at 0."""
_GAP_MAX_US: Final = 15 * 60 * US_PER_S
"""Longest time between two samples that says something about what lies between: the usual clock-aligned interval."""
_EDGE_MAX_US: Final = 5 * 60 * US_PER_S
_FLOWING_KW: Final = 0.05
"""Below this a connector keeps a vehicle's electronics awake and does not charge it (the rule for stuck sessions)."""


class Point(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One time of a session with what was known of it; NaN for nothing."""

    at_us: int
    register_wh: float
    power_kw: float
    soc_pct: float
    interval_wh: float


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """What a session's meter amounts to; see the columns of the same names.

    `mean_power_kw` is over the time of the session without that in which samples say that nothing flowed; `flow` is as
    of `flow_of`.
    """

    energy_wh: float | None = None
    energy_source: str | None = None
    meter_start_wh: float | None = None
    meter_stop_wh: float | None = None
    peak_power_kw: float | None = None
    mean_power_kw: float | None = None
    charging_s: float | None = None
    idle_after_full_s: float | None = None
    soc_start_pct: float | None = None
    soc_end_pct: float | None = None
    flow: tuple[tuple[int, int, float], ...] = ()
    flags: tuple[str, ...] = ()


class _Register(msgspec.Struct, frozen=True):
    energy_wh: float | None
    flags: frozenset[str]


def register_energy(readings: Sequence[tuple[int, float]], *, limit_kw: float, peak_kw: float | None) -> _Register:
    """Return the energy of a register, None if no sane step says any.

    Args:
        readings: (time us, Wh), sorted by time.
        limit_kw: Most that the charger can give.
        peak_kw: Highest power measured, None for not measured.
    """
    if len(readings) < 2:
        return _Register(None, frozenset())
    flags: set[str] = set()
    total, is_known, insane = 0.0, False, 0
    first = last = readings[0]
    steps = 0
    place = 1
    while place < len(readings) and insane <= _INSANE_MAX:
        here = readings[place]
        if _is_sane(last, here, limit_kw, peak_kw):
            last, place, steps = here, place + 1, steps + 1
            continue
        insane += 1
        rest = readings[place + 1 :]
        onward = [i for i, later in enumerate(rest) if _is_sane(last, later, limit_kw, peak_kw)]
        anew = sum(_is_sane(here, later, limit_kw, peak_kw) for later in rest)
        if onward and len(onward) >= anew:
            flags.add("register_zero" if here[1] == 0 else _way(last, here))
            place += 1 + onward[0]
            continue
        flags.add(_break(last, here, followed=anew > 0))
        if steps:
            total, is_known = total + last[1] - first[1], True
        first = last = here
        place, steps = place + 1, 0
    if steps:
        total, is_known = total + last[1] - first[1], True
    return _Register(max(total, 0.0) if is_known else None, frozenset(flags))


def _is_sane(one: tuple[int, float], other: tuple[int, float], limit_kw: float, peak_kw: float | None) -> bool:
    gain_wh = other[1] - one[1]
    if one[1] == 0 and peak_kw is not None:
        limit_kw = min(limit_kw, peak_kw * _POWER_SLACK)
    return -_ROUNDING_WH <= gain_wh <= limit_kw * 1000 * (other[0] - one[0]) / _US_PER_H + _STEP_WH


def _way(last: tuple[int, float], here: tuple[int, float]) -> str:
    return "register_fell" if here[1] < last[1] else "register_jumped"


def _break(last: tuple[int, float], here: tuple[int, float], *, followed: bool) -> str:
    if here[1] > last[1]:
        return "register_zero" if last[1] == 0 else "register_jumped"
    if followed:
        return "register_reset"
    return "register_zero" if here[1] == 0 else "register_fell"


def _integral(flow: Sequence[tuple[int, int, float]]) -> float:
    """Return Wh; nothing flows, for all we know, between samples more than 15 min apart."""
    area = sum(kw * (to_us - at_us) for at_us, to_us, kw in flow if to_us - at_us <= _GAP_MAX_US)
    return max(area * 1000 / _US_PER_H, 0.0)


def measure(
    points: Sequence[Point],
    *,
    start_us: int,
    end_us: int | None,
    meter_start_wh: float | None,
    meter_stop_wh: float | None,
    peak_kw: float | None,
    limit_kw: float,
    suspended_us: int | None,
) -> Energy:
    """Return what the samples and the two registers amount to.

    Args:
        points: Samples of the session, sorted by time, none after its end.
        start_us: Start.
        end_us: End, None while it goes on.
        meter_start_wh: Register that the start told.
        meter_stop_wh: Register that the end told.
        peak_kw: Highest power measured.
        limit_kw: Most that the charger can give.
        suspended_us: Since when the vehicle has taken nothing, as the charger's state says; None if it charges.
    """
    readings = [(p.at_us, p.register_wh) for p in points if not isnan(p.register_wh)]
    if meter_start_wh is not None:
        readings.insert(0, (start_us, meter_start_wh))
    last_us = points[-1].at_us if points else start_us
    if meter_stop_wh is not None:
        readings.append((end_us if end_us is not None else last_us, meter_stop_wh))
    register = register_energy(readings, limit_kw=limit_kw, peak_kw=peak_kw)
    flags = set(register.flags)
    until_us = end_us if end_us is not None else last_us
    flow = flow_of(points, readings, start_us, until_us)
    powers = sum(not isnan(p.power_kw) for p in points)
    energy_wh, source = register.energy_wh, "register"
    if energy_wh is None:
        intervals = [p.interval_wh for p in points if not isnan(p.interval_wh)]
        if intervals:
            energy_wh, source = float(sum(intervals)), "interval"
        elif powers >= 2:
            energy_wh, source = _integral(flow), "power"
        if energy_wh is not None:
            flags.add("energy_estimated")
    charging_s, resting_s = _charging(flow)
    stopped_us = _stopped_us(flow, suspended_us)
    time_s = (until_us - start_us) / US_PER_S - resting_s
    idle_s = None if stopped_us is None else _idle_s(stopped_us, until_us, points, is_told=suspended_us is not None)
    socs = [p.soc_pct for p in points if not isnan(p.soc_pct)]
    return Energy(
        energy_wh=energy_wh,
        energy_source=source if energy_wh is not None else None,
        meter_start_wh=readings[0][1] if readings else None,
        meter_stop_wh=meter_stop_wh if meter_stop_wh is not None else _last(readings) if end_us is not None else None,
        peak_power_kw=peak_kw if peak_kw is not None else _peak_of(readings, limit_kw),
        mean_power_kw=_mean_kw(energy_wh, time_s),
        charging_s=charging_s,
        idle_after_full_s=idle_s,
        soc_start_pct=socs[0] if socs else None,
        soc_end_pct=socs[-1] if socs else None,
        flow=tuple(flow),
        flags=tuple(sorted(flags)),
    )


def _mean_kw(energy_wh: float | None, time_s: float) -> float | None:
    if energy_wh == 0:
        return 0.0
    return None if energy_wh is None or time_s <= 0 else round(energy_wh * 3.6 / time_s, 6)


def _idle_s(stopped_us: int, until_us: int, points: Sequence[Point], *, is_told: bool) -> float:
    """Return for how long nothing flowed at the end; what is shorter than the samples' spacing is none."""
    idle_us = max(until_us - stopped_us, 0)
    spacing_us = (points[-1].at_us - points[0].at_us) // (len(points) - 1) if len(points) > 1 else 0
    return 0.0 if not is_told and idle_us <= spacing_us else idle_us / US_PER_S


def _last(readings: Sequence[tuple[int, float]]) -> float | None:
    return readings[-1][1] if readings else None


def _rates(readings: Sequence[tuple[int, float]]) -> list[tuple[int, int, float]]:
    """Return (from, to, kW) between neighbouring registers."""
    return [
        (at_us, then_us, (then_wh - wh) / 1000 * _US_PER_H / (then_us - at_us))
        for (at_us, wh), (then_us, then_wh) in pairwise(readings)
        if then_us > at_us
    ]


def _peak_of(readings: Sequence[tuple[int, float]], limit_kw: float) -> float | None:
    """Return the highest mean power between two registers at least 30 s apart."""
    sane = [kw for at_us, to_us, kw in _rates(readings) if to_us - at_us >= 30 * US_PER_S and 0 <= kw <= limit_kw]
    return max(sane, default=None)


def flow_of(
    points: Sequence[Point], readings: Sequence[tuple[int, float]], start_us: int, end_us: int
) -> list[tuple[int, int, float]]:
    """Return (from us, to us, kW) of the time that the samples tell of.

    From power where there are two samples of it, the first and last held for up to 5 min to both ends; else from the
    register.

    Args:
        points: Samples, sorted by time.
        readings: The register, with those of start and end.
        start_us: Start of the session.
        end_us: Its end, or the last word of it.
    """
    powers = [(p.at_us, p.power_kw) for p in points if not isnan(p.power_kw)]
    if len(powers) < 2:
        return _rates(readings)
    (first_us, first_kw), (last_us, last_kw) = powers[0], powers[-1]
    flow = [(at_us, then_us, (kw + then_kw) / 2) for (at_us, kw), (then_us, then_kw) in pairwise(powers)]
    if start_us < first_us:
        flow.insert(0, (max(start_us, first_us - _EDGE_MAX_US), first_us, first_kw))
    if last_us < end_us:
        flow.append((last_us, min(end_us, last_us + _EDGE_MAX_US), last_kw))
    return flow


def _charging(flow: Sequence[tuple[int, int, float]]) -> tuple[float | None, float]:
    """Return for how many seconds power flowed, None for unknown, and for how many it is known that none did.

    Between samples more than 15 min apart it may have flowed for any part of that time, which then counts for neither.
    """
    known = [(to_us - at_us, kw) for at_us, to_us, kw in flow if to_us - at_us <= _GAP_MAX_US]
    if not known:
        return None, 0.0
    charging_us = sum(span_us for span_us, kw in known if kw > _FLOWING_KW)
    return charging_us / US_PER_S, (sum(span_us for span_us, _ in known) - charging_us) / US_PER_S


def _stopped_us(flow: Sequence[tuple[int, int, float]], suspended_us: int | None) -> int | None:
    """Return since when no power flows, None if it never did, or if samples are too far apart to tell.

    A state is exact, samples only to their spacing.
    """
    if suspended_us is not None:
        return suspended_us
    last = max(((to_us, at_us) for at_us, to_us, kw in flow if kw > _FLOWING_KW), default=None)
    return None if last is None or last[0] - last[1] > _GAP_MAX_US else last[0]


def curve_of(points: Sequence[Point], start_us: int, first_wh: float | None) -> tuple[tuple[float | None, ...], ...]:
    """Return up to SESSION_CURVE_POINTS_MAX points (s since start, kW, SoC, Wh) evenly over the samples.

    Power is as measured, else what the register gained since the point before; Wh since `first_wh`, or since the first
    register of the points.
    """
    places = spread(len(points), SESSION_CURVE_POINTS_MAX)
    if first_wh is None:
        first_wh = next((p.register_wh for p in points if not isnan(p.register_wh)), None)
    shown: list[tuple[float | None, ...]] = []
    before: Point | None = None
    for place in places:
        p = points[place]
        kw = _known(p.power_kw, 3)
        if kw is None and before is not None and not isnan(p.register_wh) and p.at_us > before.at_us:
            kw = round((p.register_wh - before.register_wh) / 1000 * _US_PER_H / (p.at_us - before.at_us), 3)
        wh = None if first_wh is None or isnan(p.register_wh) else round(p.register_wh - first_wh, 3)
        shown.append((round((p.at_us - start_us) / US_PER_S, 1), kw, _known(p.soc_pct, 2), wh))
        if not isnan(p.register_wh):
            before = p
    return tuple(shown)


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the places 0 .. count - 1, evenly, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _known(value: float, digits: int) -> float | None:
    return None if isnan(value) else round(value, digits)
