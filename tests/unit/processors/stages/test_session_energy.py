"""Energy of a session: which steps of a register are believed."""

from math import nan

import pytest

from processors.stages.session_energy import Point, measure, register_energy, spread

S = 1_000_000
MIN = 60 * S


def read(*values: float, every_s: float = 300.0, limit_kw: float = 1000.0, peak_kw: float | None = None):  # type: ignore[no-untyped-def]
    """Return (Wh, flags) of a register read at a steady pace."""
    readings = [(round(i * every_s * S), value) for i, value in enumerate(values)]
    found = register_energy(readings, limit_kw=limit_kw, peak_kw=peak_kw)
    return found.energy_wh, ",".join(sorted(found.flags))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1000, 1500, 2000), (1000.0, "")),
        ((1000,), (None, "")),
        ((0, 400, 900), (900.0, "")),
        ((12350, 12346), (0.0, "")),
        ((12340, 12350, 12346), (6.0, "")),
        ((0, 910000, 910050, 910083), (83.0, "register_zero")),
        ((0, 910083), (None, "register_zero")),
        ((1000, 1500, 0, 2500, 3000), (2000.0, "register_zero")),
        ((1000, 1500, 2000, 0), (1000.0, "register_zero")),
        ((1000, 1500, 1200, 2500, 3000), (2000.0, "register_fell")),
        ((1000, 1500, 2000, 1200), (1000.0, "register_fell")),
        ((50000, 50500, 51000, 20, 520, 1020), (2000.0, "register_reset")),
        ((1000, 1500, 10**8, 2500, 3000), (2000.0, "register_jumped")),
        ((1000, 1500, 10**8, 10**8 + 500, 10**8 + 1000), (1500.0, "register_jumped")),
    ],
)
def test_energy_is_that_of_the_sane_steps(values: tuple[float, ...], expected: tuple[float | None, str]) -> None:
    """Each kind of bad register: what it counts and what it is called."""
    assert expected == read(*values)


def test_a_register_in_whole_kwh_may_step_by_one_at_once() -> None:
    """1 kWh within a second is the register's rounding, not 3.6 MW."""
    assert (2000.0, "") == read(5000, 6000, 7000, every_s=1)


def test_what_the_charger_can_give_limits_a_step() -> None:
    """20 kWh in 5 min are 240 kW: too much for a 150 kW charger, fine for one whose power nobody stated."""
    assert ((20000.0, ""), (None, "register_jumped")) == (read(1000, 21000), read(1000, 21000, limit_kw=187.5))


def test_a_step_away_from_zero_must_be_explained_by_the_power() -> None:
    """0 to 50 kWh in an hour is sane by itself, but not where 3 kW is all that was ever measured."""
    slow = {"every_s": 3600.0}
    assert ((50000.0, ""), (None, "register_zero")) == (read(0, 50000, **slow), read(0, 50000, peak_kw=3.0, **slow))


def test_a_random_register_costs_a_bounded_number_of_looks() -> None:
    """After 16 steps that make no sense the rest is not looked at."""
    energy_wh, flags = read(*[1e9 * (i % 2) + i for i in range(512)])
    assert energy_wh is not None
    assert "register" in flags


def points(*values: tuple[float, float, float]) -> list[Point]:
    """Return points from (s, register, kW)."""
    return [Point(round(at * S), wh, kw, nan, nan) for at, wh, kw in values]


def amounts(some: list[Point], end_s: float, **changes: object):  # type: ignore[no-untyped-def]
    """Return what the points amount to, in a session that begins at 0."""
    given = {"meter_start_wh": None, "meter_stop_wh": None, "peak_kw": None, "limit_kw": 1000.0, "suspended_us": None}
    return measure(some, start_us=0, end_us=round(end_s * S), **(given | changes))


def test_sound_registers_give_stop_minus_start_to_the_last_bit() -> None:
    """Decimal samples in between leave no rounding behind."""
    energy = amounts(points((60, 1000.1, nan), (120, 1000.3, nan)), 180, meter_start_wh=1000.0, meter_stop_wh=1007.0)
    assert (7.0, "register", 1000.0, 1007.0) == (
        energy.energy_wh,
        energy.energy_source,
        energy.meter_start_wh,
        energy.meter_stop_wh,
    )


def test_power_alone_is_integrated_and_flagged() -> None:
    """10 kW at 5 and 15 min of 20, held to both ends: 3.33 kWh."""
    energy = amounts(points((300, nan, 10.0), (900, nan, 10.0)), 1200)
    assert (pytest.approx(3333.333, abs=0.001), "power", ("energy_estimated",)) == (
        energy.energy_wh,
        energy.energy_source,
        energy.flags,
    )


def test_time_without_samples_is_neither_charging_nor_resting() -> None:
    """With nothing but two registers an hour apart nobody knows for how long power flowed."""
    energy = amounts([], 3600, meter_start_wh=0.0, meter_stop_wh=7000.0)
    assert (None, None, 7.0) == (energy.charging_s, energy.idle_after_full_s, energy.mean_power_kw)


def test_idle_begins_with_the_last_power_and_mean_power_leaves_it_out() -> None:
    """10 min at 12 kW, 20 min at 0."""
    some = points(*[(60.0 * i, 200.0 * min(i, 10), 12.0 if i < 10 else 0.0) for i in range(1, 30)])
    energy = amounts(some, 1800, meter_start_wh=0.0, meter_stop_wh=2000.0)
    assert (600.0, 1200.0, 12.0) == (energy.charging_s, energy.idle_after_full_s, energy.mean_power_kw)


def test_spread_keeps_first_and_last() -> None:
    """Points of a curve are even over the samples."""
    assert ([0, 1, 2], [0, 5, 9]) == (spread(3, 32), [spread(10, 3)[0], 5, spread(10, 3)[-1]])
    assert 32 == len({*spread(500, 32)})
