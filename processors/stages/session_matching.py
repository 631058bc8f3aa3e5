"""Which vehicle a session charged, and what its battery says of it.

In this order, the first that names a vehicle:

1. **vin**, confidence 1.0: the charger told a vehicle identification number that is stated of a vehicle, or is the
   name of one.
2. **id_token**, 0.95: the id token is stated of a vehicle, or is the name of one. If that vehicle did not charge in
   this time but another one's power fits, it is that one, flagged `vehicle_mismatch`.
3. **power**: the vehicle whose power fits, with `confidence = 0.9 * place * agreement * overlap`:

   - *place*: 1 if it stood within 150 m of the charger in an hour of the session, 0.7 if either position is unknown,
     0 if it stood elsewhere;
   - *agreement*: of the 10 s in which both said a power (the charger at least 0.5 kW), the part in which the battery
     took 0.80 to 1.02 of what the charger gave; with fewer than six of them 0.8 if the energies agree so, else 0;
   - *overlap*: time in which the vehicle charged within the session / the longer of the time in which the charger gave
     power and the time in which the vehicle charged from 10 min before to 10 min after.

   It is none below 0.5, and none if the next best has more than 0.8 of its confidence (`vehicle_ambiguous`): buses that
   charge side by side look alike.

One vehicle charges at one place: of two sessions at a time that match it, the more confident has it, of equals the one
that began earlier.

The vehicle's energy is the area under its power within the session.
"""

from collections.abc import Iterable
from math import asin, cos, radians, sin, sqrt
from typing import Final

import msgspec
import polars as pl

from gateway.core.limits import (
    SESSION_CURVE_POINTS_MAX,
    SESSION_JOINS_MAX,
    SESSION_REVISION_S,
    VEHICLE_TRACK_S,
)
from processors.stages.session_assets import Assets
from processors.stages.session_energy import US_PER_S, spread
from processors.stages.session_fold import Fold
from processors.stages.session_record import Joined, Session
from processors.stages.session_rows import Measured, measure_session
from processors.stages.session_track import BUCKET_MS, Charge, Charges, Track

_VIN: Final = 1.0
_ID_TOKEN: Final = 0.95
_POWER: Final = 0.9
_NEAR_M: Final = 150.0
_PLACE_UNKNOWN: Final = 0.7
_EFFICIENCY: Final = (0.80, 1.02)
_COMPARED_KW_MIN: Final = 0.5
_COMPARED_MIN: Final = 6
_AROUND_US: Final = 600 * US_PER_S
_CONFIDENCE_MIN: Final = 0.5
_ALIKE: Final = 0.8
_CANDIDATES_MAX: Final = 8
"""Vehicles whose power is looked at closely: those whose energy is nearest."""
_CANDIDATE_ENERGY: Final = (0.5, 1.5)
_JOIN_SHARE: Final = 8
_EARTH_M: Final = 6_371_000.0
_CLOCK_AHEAD_US: Final = 600 * US_PER_S
"""No time of a charger is further ahead of its receipt: its contracts set it back from 5 min on."""
_LATE_US: Final = VEHICLE_TRACK_S * US_PER_S


class _Span(msgspec.Struct, frozen=True):
    """Time of a session that the track still knows."""

    first_us: int
    last_us: int


def mark_stale(fold: Fold, track: Track, fresh: pl.DataFrame, now_us: int) -> None:
    """Mark ended sessions in whose time a vehicle turns out to have charged after all."""
    ranges: dict[str, list[tuple[int, int, str]]] = {}
    found = fresh.group_by("_device").agg(low=pl.col("bucket").min(), high=pl.col("bucket").max())
    for code, low, high in found.rows():
        tenant, vehicle_id = track.devices.row(code)
        ranges.setdefault(tenant, []).append((low * BUCKET_MS * 1000, (high + 1) * BUCKET_MS * 1000, vehicle_id))
    for some in ranges.values():
        some.sort()
    stale = []
    for session in fold.store.sessions.values():
        some = ranges.get(session.tenant, [])
        # Mostly vehicles speak of now, and no session that ended before is looked at further.
        if not some or session.join_stale or session.received_us + _CLOCK_AHEAD_US < some[0][0]:
            continue
        ended_us = session.ended_us
        if ended_us is not None and now_us - ended_us <= _LATE_US and _touches(session, ended_us, some):
            stale.append(session.session_id)
    for session_id in stale:
        fold.store.open(session_id).join_stale = True


def _touches(session: Session, ended_us: int, ranges: Iterable[tuple[int, int, str]]) -> bool:
    started_us, vehicle_id = session.started_us, session.joined.vehicle_id
    for low_us, high_us, name in ranges:
        if low_us > ended_us:
            return False
        if high_us >= started_us and vehicle_id in {None, name}:
            return True
    return False


def join_vehicles(fold: Fold, track: Track, assets: Assets, now_us: int) -> None:
    """Compare the sessions that are due with what vehicles said; a session whose vehicle changed has news."""
    due = [session for session in fold.store.sessions.values() if _is_due(session, now_us)]
    # Ended ones first, then those that have waited longest.
    due = sorted(due, key=lambda one: (one.is_open, one.join_due_us, one.session_id))[:SESSION_JOINS_MAX]
    if not due:
        return
    spans = {session.session_id: _span(session, now_us) for session in due}
    first_us = min(span.first_us for span in spans.values()) - _AROUND_US
    last_us = max(span.last_us for span in spans.values()) + _AROUND_US
    matcher = _Matcher(track, track.charging_between(max(first_us, now_us - _LATE_US), last_us), assets)
    holders = _holders(fold)
    for known in due:
        session = fold.store.open(known.session_id)
        connector = fold.store.connector_of(session)
        asset = assets.get(session.tenant, session.charger_id)
        measured = measure_session(session, connector, asset.rated_kw if asset else None)
        joined = matcher.match(session, measured, spans[session.session_id])
        joined = _alone(fold, holders, session, joined)
        session.join_stale = False
        pause_us = max(SESSION_REVISION_S * US_PER_S, (now_us - session.started_us) // _JOIN_SHARE)
        session.join_due_us = now_us + pause_us
        if joined != session.joined:
            session.joined = joined
            session.has_news = True
        if joined.vehicle_id is not None:
            holders.setdefault((session.tenant, joined.vehicle_id), set()).add(session.session_id)


def _is_due(session: Session, now_us: int) -> bool:
    if session.start is None and not session.revision:
        return False
    if session.is_open:
        return session.join_due_us <= now_us
    return session.join_stale


def _span(session: Session, now_us: int) -> _Span:
    first_us = max(session.started_us, now_us - _LATE_US + _AROUND_US)
    ended_us = session.ended_us
    return _Span(first_us, max(now_us if ended_us is None else ended_us, first_us))


def _holders(fold: Fold) -> dict[tuple[str, str], set[str]]:
    """Return vehicle -> sessions that have it."""
    holders: dict[tuple[str, str], set[str]] = {}
    for session in fold.store.sessions.values():
        if session.joined.vehicle_id is not None:
            holders.setdefault((session.tenant, session.joined.vehicle_id), set()).add(session.session_id)
    return holders


def _alone(fold: Fold, holders: dict[tuple[str, str], set[str]], session: Session, joined: Joined) -> Joined:
    """Return the match if no other session of the time has a better right to the vehicle; take it from those others."""
    if joined.vehicle_id is None:
        return joined
    held = holders.get((session.tenant, joined.vehicle_id), set())
    for session_id in sorted(held - {session.session_id}):
        other = fold.store.sessions.get(session_id)
        if other is None or not _overlap(session, other):
            continue
        ours = (joined.confidence or 0.0, -session.started_us, session.session_id)
        if ours < (other.joined.confidence or 0.0, -other.started_us, other.session_id):
            return Joined(flags=("vehicle_taken",))
        loser = fold.store.open(session_id)
        loser.joined = Joined(flags=("vehicle_taken",))
        loser.has_news = True
        held.discard(session_id)
    return joined


def _overlap(one: Session, other: Session) -> bool:
    far = 2**62
    return one.started_us < (other.ended_us or far) and other.started_us < (one.ended_us or far)


class _Matcher:
    """Finds the vehicle of one session after another."""

    def __init__(self, track: Track, charges: Charges, assets: Assets) -> None:
        self._track, self._charges, self._assets = track, charges, assets

    def match(self, session: Session, measured: Measured, span: _Span) -> Joined:
        """Return the vehicle of the session and what its battery says."""
        tenant = session.tenant
        named, how, confidence = self._named(session)
        if named is not None and how == "vin":
            return self._joined(tenant, named, how, confidence, span)
        if named is not None and _energy_wh(self._charges.of(tenant, named), span) > 0:
            return self._joined(tenant, named, how, confidence, span)
        fitting, fit, flags = self._fitting(session, measured, span)
        if named is None:
            if fitting is None:
                return Joined(flags=flags)
            return self._joined(tenant, fitting, "power", fit, span)
        if fitting is not None and fitting != named:
            return self._joined(tenant, fitting, "power", fit, span, flags=("vehicle_mismatch",))
        return self._joined(tenant, named, how, confidence, span)

    def _named(self, session: Session) -> tuple[str | None, str, float]:
        tenant = session.tenant
        if session.vin is not None:
            vin = session.vin[1]
            found = self._assets.vehicle_of_vin(tenant, vin) or self._vehicle_called(tenant, vin)
            if found is not None:
                return found, "vin", _VIN
        if session.token is not None:
            token = session.token.token
            found = self._assets.vehicle_of_token(tenant, token) or self._vehicle_called(tenant, token)
            if found is not None:
                return found, "id_token", _ID_TOKEN
        return None, "", 0.0

    def _vehicle_called(self, tenant: str, name: str) -> str | None:
        asset = self._assets.get(tenant, name)
        is_one = asset.kind == "vehicle" if asset is not None else self._track.knows((tenant, name))
        return name if is_one else None

    def _fitting(self, session: Session, measured: Measured, span: _Span) -> tuple[str | None, float, tuple[str, ...]]:
        """Return the vehicle whose power fits, its confidence, and flags."""
        energy_wh = measured.energy.energy_wh
        if not energy_wh:
            return None, 0.0, ()
        tenant = session.tenant
        near = [
            (abs(wh / energy_wh - 0.92), vehicle_id)
            for vehicle_id, wh in self._charges.energies(tenant, span.first_us, span.last_us).items()
            if _CANDIDATE_ENERGY[0] <= wh / energy_wh <= _CANDIDATE_ENERGY[1]
        ]
        scored = sorted(
            (
                (self._confidence(session, vehicle_id, measured, span), vehicle_id)
                for _, vehicle_id in sorted(near)[:_CANDIDATES_MAX]
            ),
            reverse=True,
        )
        scored = [(confidence, vehicle_id) for confidence, vehicle_id in scored if confidence >= _CONFIDENCE_MIN]
        if not scored:
            return None, 0.0, ()
        if len(scored) > 1 and scored[1][0] > _ALIKE * scored[0][0]:
            return None, 0.0, ("vehicle_ambiguous",)
        return scored[0][1], scored[0][0], ()

    def _confidence(self, session: Session, vehicle_id: str, measured: Measured, span: _Span) -> float:
        charge = self._charges.of(session.tenant, vehicle_id)
        assert charge is not None, vehicle_id
        place = self._place(session, vehicle_id, span)
        inside_s = _charging_s(charge, span)
        around_s = _charging_s(charge, _Span(span.first_us - _AROUND_US, span.last_us + _AROUND_US))
        charging_s = measured.energy.charging_s
        if charging_s is None:
            charging_s = (span.last_us - span.first_us) / US_PER_S
        longest_s = max(around_s, charging_s)
        overlap = inside_s / longest_s if longest_s else 0.0
        ratio = _energy_wh(charge, span) / (measured.energy.energy_wh or 1.0)
        agreement = _agreement(charge, measured, span, energies_agree=_EFFICIENCY[0] <= ratio <= _EFFICIENCY[1])
        return round(_POWER * place * agreement * overlap, 3)

    def _place(self, session: Session, vehicle_id: str, span: _Span) -> float:
        asset = self._assets.get(session.tenant, session.charger_id)
        if asset is None or asset.position is None:
            return _PLACE_UNKNOWN
        stood = self._track.places_of((session.tenant, vehicle_id), span.first_us, span.last_us)
        if not stood:
            return _PLACE_UNKNOWN
        return 1.0 if min(distance_m(asset.position, place) for place in stood) <= _NEAR_M else 0.0

    def _joined(
        self, tenant: str, vehicle_id: str, how: str, confidence: float, span: _Span, flags: tuple[str, ...] = ()
    ) -> Joined:
        charge = self._charges.of(tenant, vehicle_id)
        looks = [] if charge is None else [one for one in charge.looks if span.first_us <= one[1] <= span.last_us]
        if charge is None or not looks:
            return Joined(vehicle_id=vehicle_id, match=how, confidence=confidence, flags=flags)
        socs = [soc for at_us, soc in charge.socs if span.first_us <= at_us <= span.last_us]
        lows = [one[4] for one in looks if one[4] is not None]
        highs = [one[5] for one in looks if one[5] is not None]
        curve = tuple(
            (
                round((looks[place][1] - span.first_us) / US_PER_S, 1),
                round(looks[place][2] / 1000, 3),
                looks[place][3],
                looks[place][5],
            )
            for place in spread(len(looks), SESSION_CURVE_POINTS_MAX)
        )
        return Joined(
            vehicle_id=vehicle_id,
            match=how,
            confidence=confidence,
            energy_wh=round(_energy_wh(charge, span), 3),
            soc_start_pct=socs[0] if socs else None,
            soc_end_pct=socs[-1] if socs else None,
            temp_min_c=min(lows, default=None),
            temp_max_c=max(highs, default=None),
            curve=curve,
            flags=flags,
        )


def _energy_wh(charge: Charge | None, span: _Span) -> float:
    if charge is None:
        return 0.0
    area = 0.0
    for segment in charge.segments:
        inside_us = min(segment.to_us, span.last_us) - max(segment.from_us, span.first_us)
        if inside_us > 0:
            area += segment.power_w * inside_us
    return area / 3600 / US_PER_S


def _charging_s(charge: Charge, span: _Span) -> float:
    inside = (min(one.to_us, span.last_us) - max(one.from_us, span.first_us) for one in charge.segments)
    return sum(us for us in inside if us > 0) / US_PER_S


def _agreement(charge: Charge, measured: Measured, span: _Span, *, energies_agree: bool) -> float:
    """Return in what part of the time both powers agree."""
    flow = measured.energy.flow
    compared = agreeing = 0
    place = 0
    for look in charge.looks:
        middle_us = (look[0] + look[1]) // 2
        if not span.first_us <= middle_us <= span.last_us:
            continue
        while place < len(flow) and flow[place][1] < middle_us:
            place += 1
        if place == len(flow):
            break
        from_us, _, kw = flow[place]
        if from_us > middle_us or kw < _COMPARED_KW_MIN:
            continue
        compared += 1
        agreeing += _EFFICIENCY[0] <= look[2] / 1000 / kw <= _EFFICIENCY[1]
    if compared < _COMPARED_MIN:
        return 0.8 if energies_agree else 0.0
    return agreeing / compared


def distance_m(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the distance of two positions (latitude, longitude) on a sphere (haversine)."""
    lat_a, lon_a, lat_b, lon_b = map(radians, (*one, *other))
    chord = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin((lon_b - lon_a) / 2) ** 2
    return 2 * _EARTH_M * asin(min(sqrt(chord), 1.0))
