"""Faults strike as often as asked, the same for the same seed, and dirt leaves the energy alone."""

from typing import Any

import pytest

from simulators.chargers.faults import ChargerFaultRates, ChargerFaults
from simulators.chargers.hardware import Version


def meter_values(version: Version) -> dict[str, Any]:
    value: Any = "1200" if version == "1.6" else 1200
    sampled = {"value": value, "measurand": "Energy.Active.Import.Register", "context": "Sample.Periodic"}
    return {
        "transactionId": 5,
        "meterValue": [{"timestamp": "2026-01-01T00:00:00.000Z", "sampledValue": [dict(sampled), dict(sampled)]}],
    }


def all_dirt(version: Version) -> dict[str, Any]:
    faults = ChargerFaults(ChargerFaultRates(dirt=1.0), seed=1, version=version)
    drawn = [faults.of_meter_value() for _ in range(200)]
    return {dirt.name: dirt for dirt in drawn if dirt is not None}


EVERYWHERE = ("unknown_measurand", "unknown_context", "no_zone", "extra_field")
EXPECTED = {
    "1.6": {
        "unknown_measurand",
        "unknown_context",
        "no_zone",
        "extra_field",
        "hertz",
        "number_values",
        "no_transaction",
    },
    "2.0.1": {*EVERYWHERE, "text_values"},
}


@pytest.mark.parametrize("version", EXPECTED)
def test_all_the_dirt_that_the_field_knows_is_drawn(version: Version):
    """And each kind changes the payload, keeps the register's number, and leaves the honest payload as it was."""
    found = all_dirt(version)
    assert EXPECTED[version] == set(found)
    for dirt in found.values():
        honest = meter_values(version)
        dirty = dirt.twist(honest)
        assert honest == meter_values(version)
        assert dirty != honest
        assert 1200.0 == float(dirty["meterValue"][0]["sampledValue"][0]["value"])


def test_no_rate_strikes_nothing():
    """The default is an honest charger."""
    faults = ChargerFaults(ChargerFaultRates(), seed=1, version="1.6")
    assert all(not faults.of_session() and faults.of_meter_value() is None and faults.copies() == 1 for _ in range(200))
    assert (False, False, 0) == (faults.clock_unset, faults.no_boot, faults.clock_offset_us)


def test_same_seed_harms_the_same_sessions():
    """And another one others."""

    def struck(seed: int) -> list[dict[str, int]]:
        rates = ChargerFaultRates(drop=0.3, no_stop=0.2, late_meter=0.5)
        faults = ChargerFaults(rates, seed=seed, version="2.1")
        return [faults.of_session() for _ in range(50)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)


def test_only_a_clock_that_is_ahead_is_clamped():
    """Behind is believed."""
    rates = ChargerFaultRates(wrong_clock=1.0)
    wrong = [ChargerFaults(rates, seed=seed, version="1.6") for seed in range(40)]
    assert all(faults.is_clamped is (faults.clock_offset_us > 0) for faults in wrong)
    assert {True, False} == {faults.is_clamped for faults in wrong}
