"""Charging profiles: what a central system lets an outlet draw. Pure.

Both versions' profiles, in the snake case of the `ocpp` package. Source: OCPP 1.6 section 3.13, OCPP 2.0.1 part 2 K.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from simulators.chargers.hardware import AC_PHASE_V, AC_PHASES
from simulators.chargers.meter import US_PER_S

Profile = Mapping[str, Any]
_CEILING = ("ChargePointMaxProfile", "ChargingStationMaxProfile", "ChargingStationExternalConstraints")
_WEEK_S, _DAY_S = 7 * 86_400, 86_400
PROFILES_MAX = 16
"""A station says how many it keeps; more are refused."""


class Profiles:
    """The profiles of one station by (where, profile id): a connector in 1.6, an EVSE in 2.x, 0 the whole station."""

    def __init__(self) -> None:
        self._profiles: dict[tuple[int, int], Profile] = {}

    def __len__(self) -> int:
        return len(self._profiles)

    def put(self, outlet: int, profile: Profile) -> bool:
        """Keep a profile; one with the same id, or with the same purpose and stack level there, is replaced.

        Returns: False when it makes no sense or there is no room.
        """
        if _schedule(profile) is None:
            return False
        same = (profile["charging_profile_purpose"], profile["stack_level"])
        number = _number(profile)
        kept = {
            key: other
            for key, other in self._profiles.items()
            if key[1] != number
            and not (key[0] == outlet and (other["charging_profile_purpose"], other["stack_level"]) == same)
        }
        if len(kept) >= PROFILES_MAX:
            return False
        self._profiles = kept | {(outlet, number): profile}
        return True

    def clear(self, *, number: int | None, outlet: int | None, purpose: str | None, stack_level: int | None) -> int:
        """Remove what matches everything that is given, and return how many that were."""
        gone = [
            key
            for key, profile in self._profiles.items()
            if number in (None, key[1])
            and outlet in (None, key[0])
            and purpose in (None, profile["charging_profile_purpose"])
            and stack_level in (None, profile["stack_level"])
        ]
        for key in gone:
            del self._profiles[key]
        return len(gone)

    def end_transaction(self, outlet: int) -> None:
        """Remove the profiles that held for this transaction only."""
        self.clear(number=None, outlet=outlet, purpose="TxProfile", stack_level=None)

    def found(self) -> list[tuple[int, Profile]]:
        """Return (where, profile) of all."""
        return [(outlet, profile) for (outlet, _), profile in self._profiles.items()]

    def limit_w(self, outlet: int, *, at_us: int, began_us: int) -> int | None:
        """Return the most an outlet may draw, None without a limit.

        TxProfile overrides TxDefaultProfile, a higher stack level a lower one; a station's maximum is a ceiling over
        both.
        A profile of the whole station's maximum holds for each outlet here.

        Args:
            outlet: Connector in 1.6, EVSE in 2.x, from 1.
            at_us: Now.
            began_us: Start of the transaction.
        """
        ceilings: list[int] = []
        asked: list[tuple[int, int, int]] = []
        for (where, _), profile in self._profiles.items():
            if where not in (0, outlet):
                continue
            if (limit := _limit_w(profile, at_us=at_us, began_us=began_us)) is None:
                continue
            if profile["charging_profile_purpose"] in _CEILING:
                ceilings.append(limit)
            else:
                is_tx = profile["charging_profile_purpose"] == "TxProfile"
                asked.append((int(is_tx), profile["stack_level"], limit))
        if asked:
            ceilings.append(max(asked)[2])
        return min(ceilings, default=None)


def _number(profile: Profile) -> int:
    number: int = profile.get("charging_profile_id", profile.get("id"))
    return number


def _schedule(profile: Profile) -> Mapping[str, Any] | None:
    """Return the first schedule: one object in 1.6, a list of at most three in 2.x."""
    schedule: Any = profile.get("charging_schedule")
    if isinstance(schedule, Sequence):
        schedule = schedule[0] if schedule else None
    return schedule if schedule and schedule.get("charging_schedule_period") else None


def _limit_w(profile: Profile, *, at_us: int, began_us: int) -> int | None:
    """Return the limit of one profile now, None where it does not hold."""
    schedule = _schedule(profile)
    assert schedule is not None
    if not _us(profile.get("valid_from"), 0) <= at_us <= _us(profile.get("valid_to"), at_us):
        return None
    start_us = _us(schedule.get("start_schedule"), began_us)
    if profile["charging_profile_kind"] == "Relative":
        start_us = began_us
    into_s = (at_us - start_us) / US_PER_S
    if profile["charging_profile_kind"] == "Recurring":
        into_s %= _WEEK_S if profile.get("recurrency_kind") == "Weekly" else _DAY_S
    duration_s = schedule.get("duration")
    if into_s < 0 or (duration_s is not None and into_s >= duration_s):
        return None
    limit: float | None = None
    phases = AC_PHASES
    for period in schedule["charging_schedule_period"]:
        if period["start_period"] <= into_s:
            limit, phases = period.get("limit"), period.get("number_phases", AC_PHASES)
    if limit is None:
        return None
    limit = float(limit)  # the package makes 1.6's a Decimal
    return max(round(limit if schedule["charging_rate_unit"] == "W" else limit * AC_PHASE_V * phases), 0)


def _us(text: str | None, otherwise: int) -> int:
    return otherwise if text is None else int(datetime.fromisoformat(text).timestamp() * US_PER_S)
