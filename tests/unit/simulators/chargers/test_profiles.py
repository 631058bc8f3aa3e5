"""Charging profiles limit as the standard says: purpose, stack level, kind, time, unit."""

from decimal import Decimal
from typing import Any

import pytest

from simulators.chargers.meter import US_PER_S
from simulators.chargers.profiles import PROFILES_MAX, Profiles

NOON_US = 1_700_000_000 * US_PER_S


def profile(number: int = 1, *, limit: float | Decimal = 11_000.0, unit: str = "W", **changes: Any) -> dict[str, Any]:
    schedule = {"charging_rate_unit": unit, "charging_schedule_period": [{"start_period": 0, "limit": limit}]}
    schedule |= changes.pop("schedule", {})
    return {
        "charging_profile_id": number,
        "stack_level": 0,
        "charging_profile_purpose": "TxDefaultProfile",
        "charging_profile_kind": "Relative",
        "charging_schedule": schedule,
    } | changes


def limit_w(*profiles: tuple[int, dict[str, Any]], at_s: float = 0.0, outlet: int = 1) -> int | None:
    kept = Profiles()
    for where, one in profiles:
        assert kept.put(where, one)
    return kept.limit_w(outlet, at_us=NOON_US + int(at_s * US_PER_S), began_us=NOON_US)


def test_without_a_profile_there_is_no_limit():
    """None, not 0."""
    assert limit_w() is None


def test_amperes_are_of_each_of_three_phases():
    """16 A are 11,040 W, and 3,680 W on one phase."""
    assert 11_040 == limit_w((1, profile(limit=16.0, unit="A")))
    assert 11_040 == limit_w((1, profile(limit=Decimal("16.0"), unit="A")))
    one_phase = {"charging_schedule_period": [{"start_period": 0, "limit": 16.0, "number_phases": 1}]}
    assert 3_680 == limit_w((1, profile(unit="A", schedule=one_phase)))


def test_profile_of_the_station_holds_for_each_outlet_and_that_of_another_outlet_does_not():
    """0 is the station."""
    assert 11_000 == limit_w((0, profile()), outlet=3)
    assert limit_w((2, profile()), outlet=3) is None


def test_transaction_profile_overrides_the_default_and_a_higher_level_a_lower_one():
    """A default of 5 kW, a transaction's 20 and, above it, 30."""
    default = profile(1, limit=5_000.0, stack_level=9)
    of_tx = profile(2, limit=20_000.0, charging_profile_purpose="TxProfile")
    higher = profile(3, limit=30_000.0, charging_profile_purpose="TxProfile", stack_level=1)
    assert 20_000 == limit_w((1, default), (1, of_tx))
    assert 30_000 == limit_w((1, default), (1, of_tx), (1, higher))


def test_maximum_of_the_charge_point_is_a_ceiling():
    """Over whatever the others allow."""
    ceiling = profile(1, limit=7_000.0, charging_profile_purpose="ChargePointMaxProfile")
    assert 7_000 == limit_w((0, ceiling), (1, profile(2, limit=20_000.0)))


@pytest.mark.parametrize(("at_s", "expected"), [(0.0, 10_000), (59.0, 10_000), (60.0, 4_000), (120.0, None)])
def test_periods_follow_each_other_until_the_duration_ends(at_s: float, expected: int | None):
    """Relative to the start of the transaction."""
    periods = [{"start_period": 0, "limit": 10_000.0}, {"start_period": 60, "limit": 4_000.0}]
    schedule = {"duration": 120, "charging_schedule_period": periods}
    assert expected == limit_w((1, profile(schedule=schedule)), at_s=at_s)


def test_absolute_profile_counts_from_its_own_start_and_recurring_every_day():
    """2023-11-14T22:13:20Z is the moment of the test."""
    schedule = {"start_schedule": "2023-11-14T22:14:20Z"}
    absolute = profile(charging_profile_kind="Absolute", schedule=schedule)
    assert [None, 11_000] == [limit_w((1, absolute), at_s=at_s) for at_s in (59.0, 60.0)]
    daily = profile(
        charging_profile_kind="Recurring",
        recurrency_kind="Daily",
        schedule={"start_schedule": "2023-11-01T22:00:00Z", "duration": 1_800},
    )
    assert [11_000, None, 11_000] == [limit_w((1, daily), at_s=at_s) for at_s in (0.0, 1_000.0, 86_400.0)]


def test_profile_outside_of_its_validity_limits_nothing():
    """Before and after."""
    assert limit_w((1, profile(valid_from="2030-01-01T00:00:00Z"))) is None
    assert limit_w((1, profile(valid_to="2020-01-01T00:00:00Z"))) is None


def test_same_purpose_and_level_is_replaced_and_so_is_the_same_id():
    """A station keeps one of each."""
    kept = Profiles()
    kept.put(1, profile(1, limit=1_000.0))
    kept.put(1, profile(2, limit=2_000.0))
    assert 1 == len(kept)
    kept.put(2, profile(2, limit=3_000.0, stack_level=4))
    assert [(2, 3_000.0)] == [
        (where, one["charging_schedule"]["charging_schedule_period"][0]["limit"]) for where, one in kept.found()
    ]


def test_full_store_and_empty_schedule_are_refused():
    """Bounded, and no limit is made up."""
    kept = Profiles()
    assert all(kept.put(1, profile(i, stack_level=i)) for i in range(PROFILES_MAX))
    assert not kept.put(1, profile(99, stack_level=99))
    assert not Profiles().put(1, profile(schedule={"charging_schedule_period": []}))


def test_transaction_profiles_end_with_the_transaction():
    """Defaults stay."""
    kept = Profiles()
    kept.put(1, profile(1))
    kept.put(1, profile(2, charging_profile_purpose="TxProfile"))
    kept.end_transaction(1)
    assert [1] == [one["charging_profile_id"] for _, one in kept.found()]


def test_clearing_takes_what_matches_everything_given():
    """And says how many that were."""
    kept = Profiles()
    kept.put(1, profile(1))
    kept.put(2, profile(2))
    assert 0 == kept.clear(number=1, outlet=2, purpose=None, stack_level=None)
    assert 2 == kept.clear(number=None, outlet=None, purpose="TxDefaultProfile", stack_level=0)
    assert 0 == len(kept)


def test_2x_profile_has_its_id_and_schedules_elsewhere():
    """`id`, and a list of schedules."""
    one = profile(limit=9_000.0)
    one["id"] = one.pop("charging_profile_id")
    one["charging_schedule"] = [one["charging_schedule"]]
    assert 9_000 == limit_w((1, one))
