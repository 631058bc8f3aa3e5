"""Nothing flows where something should, less than the charger is made for, a register that lies."""

import json
from typing import Any

import pytest

from tests.unit.processors.stages.charger_rule_frames import episodes, in_order, order, rule, run, ticks
from tests.unit.processors.stages.session_frames import Said, answer, asset, event, meter, start, status, stop

STALLED = [rule("stalled")]
DERATING = [rule("derating")]
REGISTER = [rule("register")]


def _begun(state: str, at: float = 0) -> list[Said]:
    return [start(at), answer(at), status(at + 1, state)]


def _begun_2(state: str, at: float = 0) -> list[Said]:
    named: dict[str, Any] = {"version": "2.0.1", "connector": "1/2", "transaction": "t"}
    return [
        status(at, "Occupied", version="2.0.1", connector="1/2"),
        event("start", at, seq_no=0, charging_state="EVConnected", token="TAG", **named),
        event("update", at + 1, seq_no=1, charging_state=state, **named),
    ]


def _samples(kw: float | None, *times: int, wh: float | None = 1000.0, **columns: Any) -> list[Said]:
    return [meter(at, wh, kw, **columns) for at in times]


MINUTES = range(60, 1200, 60)


@pytest.mark.parametrize("state", ["Charging", "SuspendedEVSE"])
def test_a_session_in_which_nothing_flows_is_stalled(state: str) -> None:
    """For ten minutes, by the times of its samples."""
    words = in_order(_begun(state), _samples(0.01, *MINUTES))
    assert [("stalled", "1", "begins", 660.0, 60.0)] == episodes(STALLED, words)


@pytest.mark.parametrize("state", ["Charging", "SuspendedEVSE"])
def test_a_stalled_session_of_2_is_told_for_its_evse(state: str) -> None:
    """There the transaction says what the connector does, and the EVSE has the meter."""
    words = in_order(_begun_2(state), _samples(0.01, *MINUTES, version="2.0.1", transaction="t"))
    assert [("stalled", "1", "begins", 660.0, 60.0)] == episodes(STALLED, words)


@pytest.mark.parametrize(
    "words",
    [
        [*_begun("SuspendedEV"), *_samples(0.0, *MINUTES)],
        [*_begun_2("SuspendedEV"), *_samples(0.0, *MINUTES, version="2.0.1", transaction="t")],
        [*_begun_2("EVConnected"), *_samples(0.0, *MINUTES, version="2.0.1", transaction="t")],
        [*_begun("Charging"), *_samples(0.01, *MINUTES, soc_pct=96.0)],
        [*_begun("SuspendedEVSE"), *_samples(0.01, *MINUTES, soc_pct=99.5)],
        [*_begun("Charging"), *_samples(7.0, *MINUTES, wh=None)],
        [*_begun("Charging"), *_samples(None, *MINUTES, wh=None, soc_pct=50.0)],
        [*_begun("Charging"), *_samples(0.0, 60, 300, 600), *_samples(7.0, 620), *_samples(0.0, 660, 900, 1200)],
        [*_begun("Charging"), *_samples(0.0, 60, 3600, 7200)],
        [*_begun("Charging"), *(meter(at, 1000 + at * 2, None) for at in MINUTES)],
        [*_begun("Charging"), *(meter(at, 1000 + at * 2, 0.0) for at in MINUTES)],
    ],
    ids=[
        "vehicle_waits",
        "vehicle_waits_2",
        "vehicle_connected_2",
        "vehicle_full",
        "vehicle_brimful",
        "power",
        "nothing_known",
        "interrupted",
        "samples_too_far_apart",
        "register_alone_rises",
        "register_contradicts",
    ],
)
def test_a_session_that_does_what_it_says_is_not_stalled(words: list[Said]) -> None:
    """Who waits, is full, charges or cannot be told."""
    assert [] == episodes(STALLED, in_order(words))


def test_a_charger_that_holds_back_from_a_nearly_full_vehicle_is_stalled() -> None:
    """The vehicle would be SuspendedEV if it wanted nothing."""
    words = in_order(_begun("SuspendedEVSE"), _samples(0.01, *MINUTES, soc_pct=96.7))
    assert [("stalled", "1", "begins", 660.0, 60.0)] == episodes(STALLED, words)


def test_a_register_that_stands_still_is_watched_for_longer() -> None:
    """Without a power, half an hour: registers that count whole kWh do stand still."""
    words = in_order(_begun("Charging"), _samples(None, *range(60, 3000, 60)))
    assert [("stalled", "1", "begins", 1860.0, 60.0)] == episodes(STALLED, words)


@pytest.mark.parametrize(
    "after", [status(1300, "SuspendedEV"), meter(1300, 1100, 7.0), stop(1300)], ids=["state", "power", "stop"]
)
def test_stalled_ends_when_something_flows_or_nothing_should(after: Said) -> None:
    """By a state, a sample or the end of the session."""
    words = in_order(_begun("Charging"), _samples(0.01, *MINUTES), after)
    assert ("stalled", "1", "ends", 1300.0, 60.0) == episodes(STALLED, words)[-1]


def test_late_samples_change_nothing() -> None:
    """What is older than the newest of its connector is for the lake."""
    late = [meter(at, 1000, 0.0, received=2000 + at) for at in range(60, 1200, 60)]
    words = in_order(_begun("Charging"), _samples(7.0, 1900, wh=None), late)
    assert [] == episodes(STALLED, words)


def test_stalled_explains_itself() -> None:
    """Evidence holds state, power, register and the history of both."""
    words = in_order(_begun("Charging"), _samples(0.01, 60, 360, 660, soc_pct=40.0))
    (row,) = run(STALLED, words)[0].to_dicts()
    evidence = json.loads(row["evidence"])
    readings = {"state": "Charging", "power_import_kw": 0.01, "energy_import_wh": 1000.0, "soc_pct": 40.0}
    assert (0.01, 0.05, "kW", readings) == (row["value"], row["limit"], row["unit"], evidence["readings"])
    assert "below 50 W for 600 s while Charging" == evidence["limit"]
    history = [["2026-09-21T14:21:00Z", 0.01], ["2026-09-21T14:26:00Z", 0.01], ["2026-09-21T14:31:00Z", 0.01]]
    assert history == evidence["history"]


RATED = asset("charger", "cp-1", rated_power_kw=150.0, connectors=1)


def _offered(kw: float, *times: int, soc: float | None = 40.0, **columns: Any) -> list[Said]:
    return [meter(at, None, min(kw, 60.0), power_offered_kw=kw, soc_pct=soc, **columns) for at in times]


def _limited(step: str = "accepted", **profile: Any) -> list[Said]:
    payload = json.dumps({"connectorId": 1, "csChargingProfiles": {"chargingProfileId": 5, **profile}})
    return [order(1, "submitted", "SetChargingProfile", payload), order(2, step, "SetChargingProfile", payload)]


def test_a_charger_that_offers_less_than_its_rated_power_is_derated() -> None:
    """80 % of 150 kW, for ten minutes."""
    words = in_order(RATED, _begun("Charging"), _offered(100.0, *MINUTES))
    assert [("derating", "1", "begins", 660.0, 60.0)] == episodes(DERATING, words)


def test_a_derated_charger_of_2_is_told_for_its_evse() -> None:
    """As in 1.6."""
    words = in_order(RATED, _begun_2("Charging"), _offered(100.0, *MINUTES, version="2.0.1", transaction="t"))
    assert [("derating", "1", "begins", 660.0, 60.0)] == episodes(DERATING, words)


@pytest.mark.parametrize(
    "words",
    [
        [RATED, *_begun("Charging"), *_offered(130.0, *MINUTES)],
        [RATED, *_begun("Charging"), *_offered(100.0, *MINUTES, soc=85.0)],
        [RATED, *_begun("SuspendedEV"), *_offered(100.0, *MINUTES)],
        [RATED, *_begun("Charging"), *_offered(0.0, *MINUTES)],
        [RATED, *_begun("Charging"), *_offered(100.0, 60, 300, 600), *_offered(150.0, 620), *_offered(100.0, 660, 900)],
        [*_begun("Charging"), *_offered(100.0, *MINUTES)],
        [asset("charger", "cp-1", rated_power_kw=240.0, connectors=4), *_begun("Charging"), *_offered(22.0, *MINUTES)],
        [RATED, *_limited(), *_begun("Charging"), *_offered(100.0, *MINUTES)],
        [RATED, *_begun("Charging"), *_samples(50.0, *MINUTES, soc_pct=40.0)],
    ],
    ids=[
        "enough",
        "nearly_full",
        "vehicle_waits",
        "nothing_asked",
        "recovered",
        "rated_power_unknown",
        "shared_power",
        "limited_by_us",
        "vehicle_takes_less",
    ],
)
def test_less_power_for_a_reason_is_no_derating(words: list[Said]) -> None:
    """Who holds back must be the charger, by itself."""
    assert [] == episodes(DERATING, in_order(words))


@pytest.mark.parametrize(
    "words",
    [
        _limited("rejected"),
        _limited(validTo="2026-09-21T13:40:30Z"),
        _limited(chargingProfileKind="Absolute", chargingSchedule={"duration": 20}),
        [
            *_limited(),
            order(3, "submitted", "ClearChargingProfile", '{"id":5}', "r2"),
            order(4, "accepted", "ClearChargingProfile", '{"id":5}', "r2"),
        ],
    ],
    ids=["rejected", "out_of_validity", "over", "cleared"],
)
def test_a_profile_that_does_not_hold_excuses_nothing(words: list[Said]) -> None:
    """Refused, over or cleared."""
    words = in_order(RATED, words, _begun("Charging", 60), _offered(100.0, *range(120, 1200, 60)))
    assert [("derating", "1", "begins", 720.0, 120.0)] == episodes(DERATING, words)


def _session(at: int, kw: float, *, offered: bool) -> list[Said]:
    number = str(at)
    samples = [
        meter(
            at + 60 * i,
            kw * 1000 * i / 60,
            kw if not offered else min(kw, 60.0),
            power_offered_kw=kw if offered else None,
            soc_pct=20.0 + i,
            transaction=number,
        )
        for i in range(1, 20)
    ]
    begun = [start(at, 0.0, message=f"m{at}"), answer(at, number, message=f"m{at}"), status(at + 1, "Charging")]
    return [*begun, *samples, stop(at + 1200, kw * 400, number), status(at + 1201, "Available")]


@pytest.mark.parametrize(("offered", "learnt"), [(True, 8), (False, 12)], ids=["offered", "measured"])
def test_what_a_connector_can_give_is_learnt_from_its_sessions(offered: bool, learnt: int) -> None:
    """It is derated where a session gets less than 80 % of the least that any before got."""
    healthy = [_session(3600 * i, 60.0 if offered else 60.0 + i % 9, offered=offered) for i in range(learnt)]
    words = in_order(*healthy, _session(3600 * learnt, 40.0, offered=offered))
    first = 3600.0 * learnt
    assert [("derating", "1", "begins", first + 660, first + 60)] == episodes(DERATING, words)


def test_derating_lasts_until_a_vehicle_gets_enough_again() -> None:
    """Over the end of the session, and over one that is nearly full and says nothing."""
    full = [*_begun("Charging", 4000), *_offered(100.0, *range(4060, 5000, 60), soc=90.0)]
    enough = [*_begun("Charging", 8000), *_offered(150.0, 8060)]
    words = in_order(RATED, _begun("Charging"), _offered(100.0, *MINUTES), stop(1300), full, enough)
    expected = [("derating", "1", "begins", 660.0, 60.0), ("derating", "1", "ends", 8060.0, 60.0)]
    assert expected == episodes(DERATING, words)


def test_an_offer_that_follows_the_vehicles_wishes_says_nothing_of_the_charger() -> None:
    """Cabinets say what they granted, so a small vehicle is no derating."""
    powers = [120.0, 97.0, 120.0, 110.0, 120.0, 104.0, 120.0, 120.0, 60.0]
    assert [] == episodes(DERATING, in_order(*(_session(3600 * i, kw, offered=True) for i, kw in enumerate(powers))))


@pytest.mark.parametrize("offered", [True, False], ids=["offered", "measured"])
def test_a_connector_whose_vehicles_take_what_they_please_is_silent(offered: bool) -> None:
    """Its sessions reach now this, now that."""
    powers = [60.0, 22.0, 45.0, 30.0, 50.0, 11.0, 60.0, 22.0, 45.0, 30.0, 50.0, 11.0, 60.0]
    words = in_order(*(_session(3600 * i, kw, offered=offered) for i, kw in enumerate(powers)))
    assert [] == episodes(DERATING, words)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ([asset("charger", "cp-1", rated_power_kw=120.0, connectors=2)], []),
        ([], []),
        ([asset("charger", "cp-1", rated_power_kw=240.0, connectors=2)], ["begins"]),
    ],
    ids=["one_cabinet", "nobody_knows", "each_its_own"],
)
def test_power_that_another_connector_takes_is_not_missing(facts: list[Said], found: list[str]) -> None:
    """Two outlets of one cabinet share its power; two of 120 kW each have no reason to."""
    healthy = [_session(2200 * i, 120.0, offered=True) for i in range(8)]
    other = [start(18_010, message="o", connector="2"), answer(18_010, "o", message="o", connector="2")]
    other += [status(18_011, "Charging", connector="2")]
    other += [meter(at, power_offered_kw=60.0, transaction="o", connector="2") for at in range(18_030, 19_000, 60)]
    shared = [word for word in _session(18_000, 60.0, offered=True) if word["at"] < 19_000]
    words = in_order(facts, *healthy, other, shared)
    assert found == [event for _, part, event, _, _ in episodes(DERATING, words) if part == "1"]


def test_what_a_connector_gives_for_long_becomes_usual() -> None:
    """After fifty sessions in a row at 40 kW, 40 kW are what it has."""
    powers = [60.0] * 8 + [40.0] * 60
    words = in_order(*(_session(3600 * i, kw, offered=True) for i, kw in enumerate(powers)))
    expected = [("begins", 3600.0 * 8 + 660), ("ends", 3600.0 * 58 + 60)]
    assert expected == [(event, at) for _, _, event, at, _ in episodes(DERATING, words)]


def _counted(at: int, first: float, last: float, number: str, *more: Said) -> list[Said]:
    begun = [start(at, first, message=number), answer(at, number, message=number)]
    samples = [meter(at + 600, (first + last) / 2, transaction=number)]
    return [*begun, *samples, *more, stop(at + 1200, last, number)]


def _counted_2(at: int, first: float, connector: str) -> list[Said]:
    named: dict[str, Any] = {"version": "2.0.1", "connector": connector, "transaction": f"t{at}"}
    metered: dict[str, Any] = {"version": "2.0.1", "transaction": f"t{at}"}
    return [
        event("start", at, seq_no=0, charging_state="Charging", **named),
        meter(at, first, **metered),
        meter(at + 600, first + 1000, **metered),
        event("end", at + 600, seq_no=1, **named),
    ]


def test_a_register_that_falls_between_two_sessions_is_told() -> None:
    """It ends with the next session that is sound from its start on."""
    words = in_order(
        _counted(0, 50_000, 55_000, "1"),
        _counted(3600, 100, 5_000, "2"),
        _counted(7200, 5_000, 9_000, "3"),
        ticks(0, 9000, 30),
    )
    expected = [("register", "1", "begins", 3600.0, 3600.0), ("register", "1", "ends", 8400.0, 3600.0)]
    assert expected == episodes(REGISTER, words)


@pytest.mark.parametrize(
    ("first", "found"), [(0.0, "register_zero"), (20_000_000.0, "register_jumped"), (54_000.0, "register_fell")]
)
def test_a_register_that_is_not_what_it_was_says_how(first: float, found: str) -> None:
    """Evidence names the way, and where the last session ended."""
    words = in_order(_counted(0, 50_000, 55_000, "1"), _counted(3600, first, first + 5_000, "2"), ticks(0, 5000, 30))
    row = run(REGISTER, words)[0].to_dicts()[0]
    assert ([found], first, 55_000.0) == (json.loads(row["evidence"])["found"], row["value"], row["limit"])


def test_what_a_session_says_of_its_own_register_is_told() -> None:
    """The session stage has found it; here it becomes a finding."""
    words = in_order(_counted(0, 0, 910_083, "1", meter(660, 910_000), meter(720, 910_050)), ticks(0, 3000, 30))
    row = run(REGISTER, words)[0].to_dicts()[0]
    assert ("1", ["register_zero"]) == (row["part"], json.loads(row["evidence"])["found"])


@pytest.mark.parametrize(
    "words",
    [
        [*_counted(0, 50_000, 55_000, "1"), *_counted(3600, 55_000, 60_000, "2")],
        [*_counted(0, 50_000, 55_000, "1"), *_counted(3600, 54_995, 60_000, "2")],
        [*_counted(0, 0, 5_000, "1"), *_counted(3600, 0, 6_000, "2"), *_counted(7200, 0, 6_000, "3")],
        [*_counted(0, 50_000, 55_000, "1"), *_counted(90_000, 80_000, 85_000, "2")],
        [*_counted_2(0, 50_000, "1/1"), *_counted_2(3600, 900, "1/2"), *_counted_2(7200, 51_000, "1/1")],
    ],
    ids=["goes_on", "rounded", "counts_each_session_anew", "other_use_between", "one_for_each_plug_of_2"],
)
def test_a_sound_register_is_no_finding(words: list[Said]) -> None:
    """It goes on, by and large, or always begins at 0."""
    assert [] == episodes(REGISTER, in_order(words, ticks(0, 10_000, 30)))


def test_a_register_fault_is_forgotten_after_a_day() -> None:
    """Where no session follows."""
    words = in_order(_counted(0, 50_000, 55_000, "1"), _counted(3600, 100, 5_000, "2"), ticks(0, 100_000, 60))
    assert ("register", "1", "ends", 90_000.0, 3600.0) == episodes(REGISTER, words)[-1]
