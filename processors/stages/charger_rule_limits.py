"""Charging profiles that people set: while one may hold, less power is no fault of the charger."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from processors.stages.charger_rule_record import CHARGER, NEVER, US_PER_S, Charger, Limit, Order
from processors.stages.charger_rule_words import PROFILE_CLEARED, PROFILE_SET, STARTS, OrderWord

_ORDERS_MAX: Final = 16
_LIMITS_MAX: Final = 32
"""Per charger; past it the oldest are forgotten. A charger takes few for each connector."""
_PROFILE_KEYS: Final = ("csChargingProfiles", "chargingProfile")
_PLACE_KEYS: Final = ("connectorId", "evseId")
_NUMBER_KEYS: Final = ("chargingProfileId", "id")


def with_order(charger: Charger, word: OrderWord) -> None:
    """Take in a step of a command about charging."""
    if word.event == "submitted":
        order = _order(word)
        if order is not None:
            charger.orders = (*charger.orders, order)[-_ORDERS_MAX:]
        return
    if word.event != "accepted":
        return
    known = [order for order in charger.orders if order.request_id == word.request_id]
    charger.orders = tuple(order for order in charger.orders if order.request_id != word.request_id)
    for order in known:
        if order.limit is not None:
            charger.limits = (*charger.limits, order.limit)[-_LIMITS_MAX:]
        if order.clears is not None:
            place, number = order.clears
            charger.limits = tuple(limit for limit in charger.limits if not _is_cleared(limit, place, number))


def without_session_limits(charger: Charger, place: str) -> None:
    """Forget what held for the session of a place."""
    if charger.limits:
        charger.limits = tuple(limit for limit in charger.limits if not (limit.is_of_session and limit.place == place))


def _is_cleared(limit: Limit, place: str | None, number: int | None) -> bool:
    if number is not None:
        return limit.number == number
    return place is None or limit.place == place


def _order(word: OrderWord) -> Order | None:
    """Return what a command sets or clears, None for neither."""
    try:
        payload = msgspec.json.decode(word.payload or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
    place = _first(payload, _PLACE_KEYS)
    if word.action == PROFILE_CLEARED:
        criteria = payload.get("chargingProfileCriteria")
        if place is None and isinstance(criteria, dict):
            place = criteria.get("evseId")
        return Order(word.request_id, None, (None if place is None else str(place), _first(payload, _NUMBER_KEYS)))
    profile = _first(payload, _PROFILE_KEYS, dict)
    if word.action not in {PROFILE_SET, *STARTS} or profile is None:
        return None
    limit = Limit(
        CHARGER if place is None else str(place),
        _first(profile, _NUMBER_KEYS),
        _until_us(profile, word.at_us),
        profile.get("chargingProfilePurpose") == "TxProfile" or word.action in STARTS,
    )
    return Order(word.request_id, limit, None)


def _first(payload: dict[str, Any], names: tuple[str, ...], kind: type = int) -> Any:
    """Return the first value of that type under one of the names, None for none."""
    return next((payload[name] for name in names if isinstance(payload.get(name), kind)), None)


def _until_us(profile: dict[str, Any], set_us: int) -> int:
    """Return until when a profile may hold: to the end of its validity, or of a schedule that begins when it is set."""
    valid_to = profile.get("validTo")
    if isinstance(valid_to, str):
        try:
            at = datetime.fromisoformat(valid_to)
        except ValueError:
            return NEVER
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * US_PER_S)
    schedule = profile.get("chargingSchedule")
    if isinstance(schedule, list):
        schedule = schedule[0] if len(schedule) == 1 else None
    if profile.get("chargingProfileKind") == "Relative" or not isinstance(schedule, dict):
        return NEVER
    duration = schedule.get("duration")
    if profile.get("chargingProfileKind") != "Absolute" or not isinstance(duration, int) or "startSchedule" in schedule:
        return NEVER
    return set_us + min(duration, 10**9) * US_PER_S
