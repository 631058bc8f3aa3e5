"""Nobody can charge, sessions that nobody knows, sessions that do not end."""

import json
from typing import Any

import pytest

from tests.unit.processors.stages.charger_rule_frames import (
    connected,
    disconnected,
    episodes,
    in_order,
    order,
    rule,
    run,
    tick,
    ticks,
)
from tests.unit.processors.stages.session_frames import Said, answer, event, meter, start, status, stop

UNUSABLE = [rule("unusable", least=3600.0)]
GHOST = [rule("ghost")]
ZOMBIE = [rule("zombie")]
HOUR = 3600


def _session(at: int, wh: float = 5000.0, *, connector: str = "1") -> list[Said]:
    """Return a session of ten minutes of 1.6, with what its connector says."""
    number = f"{connector}{at}"
    return [
        status(at - 5, "Preparing", connector=connector),
        start(at, 1000.0, message=number, connector=connector),
        answer(at, number, message=number, connector=connector),
        status(at + 1, "Charging", connector=connector),
        meter(at + 300, 1000 + wh / 2, transaction=number, connector=connector),
        stop(at + 600, 1000 + wh, number, connector=connector),
        status(at + 601, "Available", connector=connector),
    ]


def _session_2(at: int, wh: float = 5000.0) -> list[Said]:
    named: dict[str, Any] = {"version": "2.1", "connector": "1/1", "transaction": f"t{at}"}
    metered: dict[str, Any] = {"version": "2.1", "connector": "1", "transaction": f"t{at}"}
    return [
        status(at - 5, "Occupied", version="2.1", connector="1/1"),
        event("start", at, seq_no=0, charging_state="Charging", token="TAG", **named),
        meter(at, 1000.0, **metered),
        meter(at + 600, 1000 + wh, **metered),
        event("end", at + 600, seq_no=1, charging_state="Idle", **named),
        status(at + 601, "Available", version="2.1", connector="1/1"),
    ]


@pytest.mark.parametrize("session", [_session, _session_2], ids=["1.6", "2.1"])
def test_an_available_connector_that_nobody_uses_is_unusable(session: Any) -> None:
    """For six times its usual gap of 50 min, once five gaps are known."""
    words = in_order(*(session(HOUR * i) for i in range(1, 7)), ticks(0, 13 * HOUR, 10))
    ended = 6 * HOUR + 601
    assert [("unusable", "1", "begins", ended + 6 * 3000 + 9, ended)] == episodes(UNUSABLE, words)


def test_the_wait_begins_after_a_session_without_energy_too() -> None:
    """Whatever the last session gave, nobody has come since."""
    words = in_order(*(_session(HOUR * i) for i in range(1, 6)), _session(HOUR * 6, 0.0), ticks(0, 13 * HOUR, 10))
    assert [("unusable", "1", "begins")] == [one[:3] for one in episodes(UNUSABLE, words)]


def test_unusable_ends_when_somebody_charges() -> None:
    """With the start of the session."""
    words = in_order(*(_session(HOUR * i) for i in range(1, 7)), _session(14 * HOUR), ticks(0, 15 * HOUR, 10))
    assert [event for _, _, event, _, _ in episodes(UNUSABLE, words)] == ["begins", "ends"]


@pytest.mark.parametrize(
    "words",
    [
        [_session(HOUR * i) for i in range(1, 6)],
        [*(_session(HOUR * i) for i in range(1, 7)), [status(7 * HOUR, "Unavailable")]],
        [*(_session(HOUR * i) for i in range(1, 7)), [status(7 * HOUR, "Faulted")]],
        [*(_session(HOUR * i) for i in range(1, 7)), [disconnected(7 * HOUR)]],
        [_session(HOUR * i * i) for i in range(1, 5)],
    ],
    ids=["too_few_gaps", "unavailable", "faulted", "offline", "sessions_are_rare"],
)
def test_a_connector_that_is_not_used_for_a_reason_is_not_unusable(words: list[list[Said]]) -> None:
    """Nothing usual is known, or something else is told of it."""
    assert [] == episodes(UNUSABLE, in_order(connected(0), *words, ticks(0, 16 * HOUR, 10)))


def test_a_connector_that_people_pass_by_is_told_of_by_itself() -> None:
    """They charge at the other one."""
    both = [_session(HOUR * i + 900 * int(plug), connector=plug) for i in range(1, 7) for plug in ("1", "2")]
    other = [_session(HOUR * i, connector="2") for i in range(8, 18)]
    assert [("unusable", "1", "begins")] == [
        one[:3] for one in episodes(UNUSABLE, in_order(*both, *other, ticks(0, 18 * HOUR, 10)))
    ]


def test_after_a_time_without_anybody_each_connector_has_its_time_anew() -> None:
    """A site that was closed opens again, and people take the first connector first."""
    both = [_session(HOUR * i + 900 * int(plug), connector=plug) for i in range(1, 7) for plug in ("1", "2")]
    again = [_session(HOUR * i) for i in range(20, 24)]
    words = in_order(*both, *again, ticks(0, 24 * HOUR, 10))
    assert [None, None] == [part for _, part, _, _, _ in episodes(UNUSABLE, words)]


def test_a_charger_to_which_nobody_comes_is_told_of_once() -> None:
    """When it is too long for each of its connectors; until somebody comes."""
    both = [_session(HOUR * i + 900 * int(plug), connector=plug) for i in range(1, 7) for plug in ("1", "2")]
    words = in_order(*both, _session(20 * HOUR), ticks(0, 21 * HOUR, 10))
    ended = 6 * HOUR + 1800 + 601
    expected = [("unusable", None, "begins", ended + 18_009, ended), ("unusable", None, "ends", 20.0 * HOUR, ended)]
    assert expected == episodes(UNUSABLE, words)


def test_the_least_time_holds_for_a_busy_connector_too() -> None:
    """Three days by default: a weekend is no fault."""
    words = in_order(*(_session(HOUR * i) for i in range(1, 7)), ticks(0, 77 * HOUR, 60))
    assert [] == episodes([rule("unusable")], words)


def _shown(*times: int, **columns: Any) -> list[Said]:
    return [event("authorize", at, connector=None, token="TAG", **columns) for at in times]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_people_who_show_tokens_without_a_session_make_a_charger_unusable(version: str) -> None:
    """Three times in a row nothing came of it within two minutes."""
    plug = status(0, "Available", version=version, connector="1" if version == "1.6" else "1/1")
    words = in_order(plug, _shown(100, 110, 400, 700, version=version), ticks(0, 1200, 10))
    assert [("unusable", None, "begins", 820.0, 100.0)] == episodes(UNUSABLE, words)


def test_sessions_that_the_charger_agreed_to_and_did_not_start_count_too() -> None:
    """Accepted commands."""
    commands = [order(at, "accepted", "RemoteStartTransaction") for at in (100, 400, 700)]
    words = in_order(status(0, "Available"), commands, ticks(0, 1200, 10))
    assert [("unusable", None, "begins", 820.0, 100.0)] == episodes(UNUSABLE, words)


def test_unusable_ends_with_energy() -> None:
    """A session in which something flowed."""
    words = in_order(status(0, "Available"), _shown(100, 400, 700), _session(1500), ticks(0, 3000, 10))
    assert ("unusable", None, "ends", 2100.0, 100.0) == episodes(UNUSABLE, words)[-1]


@pytest.mark.parametrize(
    "words",
    [
        [_shown(100, 400), _session(450), _shown(1300, 1600)],
        [_shown(100, 400), [start(405)], _shown(500, 800, 1100)],
        [[disconnected(50)], _shown()],
        [[status(50, "Faulted")], _shown(100, 400, 700)],
    ],
    ids=["a_session_between", "a_session_goes_on", "offline", "faulted"],
)
def test_attempts_that_say_nothing_of_the_charger_do_not_count(words: list[list[Said]]) -> None:
    """Something came of them, or it is known that nothing could."""
    assert [] == episodes(UNUSABLE, in_order(connected(0), status(0, "Available"), *words, ticks(0, 2500, 10)))


def test_sessions_without_energy_one_after_another_make_a_connector_unusable() -> None:
    """Of one connector; the other one is used meanwhile."""
    words = in_order(
        *(_session(HOUR * i, 0.0) for i in range(1, 4)),
        *(_session(HOUR * i + 900, connector="2") for i in range(1, 4)),
        ticks(0, 4 * HOUR, 10),
    )
    assert [("unusable", "1", "begins")] == [one[:3] for one in episodes(UNUSABLE, words)]


def test_unusable_explains_itself() -> None:
    """Evidence holds the usual gap and the last session."""
    words = in_order(*(_session(HOUR * i) for i in range(1, 7)), ticks(0, 13 * HOUR, 10))
    (row,) = run(UNUSABLE, words)[0].to_dicts()
    evidence = json.loads(row["evidence"])
    assert ("no session for 18000 s", 3000.0) == (evidence["limit"], evidence["usual_gap_s"])
    assert "2026-09-21T20:30:00Z" == evidence["last_session_ended_at"]


def test_an_end_of_a_transaction_that_nobody_knows_is_a_ghost() -> None:
    """Once its start can no longer be on its way, and for an hour."""
    words = in_order(connected(0), stop(100, 5000.0, "99"), ticks(0, 6000, 10))
    expected = [("ghost", None, "begins", 720.0, 100.0), ("ghost", None, "ends", 4320.0, 100.0)]
    assert expected == episodes(GHOST, words)


def test_a_ghost_of_2_names_its_evse() -> None:
    """Its end says where it was."""
    ended = event("end", 100, version="2.0.1", connector="1/1", transaction="t", seq_no=4)
    assert ("ghost", "1", "begins") == episodes(GHOST, in_order(ended, ticks(0, 2000, 10)))[0][:3]


@pytest.mark.parametrize(
    "words",
    [[*_session(100)], [stop(100, 2000.0, "1"), start(0, received=200), answer(0, received=200)], [meter(100, 1000.0)]],
    ids=["session", "start_comes_later", "meter_values_alone"],
)
def test_a_transaction_with_a_start_or_without_an_end_is_no_ghost(words: list[Said]) -> None:
    """Late is not never."""
    assert [] == episodes(GHOST, in_order(words, ticks(0, 6000, 10)))


def _open_16(at: float = 0) -> list[Said]:
    return [status(at - 5, "Preparing"), start(at), answer(at), status(at + 1, "Charging"), meter(at + 60, 1100, 6.0)]


def _open_2(at: float = 0) -> list[Said]:
    named: dict[str, Any] = {"version": "2.0.1", "connector": "1/1", "transaction": "t"}
    return [
        status(at - 5, "Occupied", version="2.0.1", connector="1/1"),
        event("start", at, seq_no=0, charging_state="Charging", token="TAG", **named),
        meter(at + 60, 1100, 6.0, version="2.0.1", transaction="t"),
    ]


@pytest.mark.parametrize(
    ("begun", "plug"),
    [
        (_open_16(), status(300, "Available")),
        (_open_2(), status(300, "Available", version="2.0.1", connector="1/1")),
    ],
    ids=["1.6", "2.0.1"],
)
def test_a_session_whose_connector_is_available_is_a_zombie(begun: list[Said], plug: Said) -> None:
    """After a minute, until the session stage gives the session up."""
    words = in_order(begun, plug, ticks(0, 1200, 10))
    expected = [("zombie", "1", "begins", 360.0, 300.0), ("zombie", "1", "ends", 900.0, 300.0)]
    assert expected == episodes(ZOMBIE, words)


@pytest.mark.parametrize(
    "after", [stop(500), status(500, "Charging"), start(500, message="m2")], ids=["stop", "state", "start"]
)
def test_a_zombie_ends_with_its_session_or_its_reason(after: Said) -> None:
    """A Stop, another state, another session."""
    words = in_order(_open_16(), status(300, "Available"), after, ticks(0, 550, 10))
    assert ("zombie", "1", "ends", 500.0, 300.0) == episodes(ZOMBIE, words)[-1]


def test_a_session_without_a_word_for_half_a_day_is_a_zombie() -> None:
    """While its charger is connected."""
    words = in_order(connected(-10), _open_16(), ticks(0, 50_000, 60))
    assert [("zombie", "1", "begins", 43_260.0, 60.0)] == episodes(ZOMBIE, words)


def test_silence_ends_with_a_word() -> None:
    """A sample of it."""
    words = in_order(connected(-10), _open_16(), meter(45_000, 1100, 6.0), ticks(0, 50_000, 60))
    assert ("zombie", "1", "ends", 45_000.0, 60.0) == episodes(ZOMBIE, words)[-1]


@pytest.mark.parametrize(
    "words",
    [
        [*_open_16(), stop(290), status(300, "Available")],
        [*_open_16(), status(300, "Available"), stop(330)],
        [*_open_16(), status(300, "SuspendedEV"), meter(40_000, 1100, 0.0)],
        [connected(-10), *_open_16(), disconnected(70)],
        [
            status(-5, "Available", version="2.0.1", connector="1/1"),
            event("start", 0, version="2.0.1", connector="1/1", transaction="t", seq_no=0, charging_state="Idle"),
            status(100, "Occupied", version="2.0.1", connector="1/1"),
        ],
        [
            status(-5, "Available", version="2.0.1", connector="1/2"),
            *_open_2(),
            status(300, "Available", version="2.0.1", connector="1/2"),
        ],
    ],
    ids=["stopped", "stop_comes_soon", "full_over_night", "offline", "authorized_before_plugged", "other_plug"],
)
def test_a_session_that_may_go_on_is_no_zombie(words: list[Said]) -> None:
    """Nothing contradicts it."""
    assert [] == episodes(ZOMBIE, in_order(words, ticks(0, 43_000, 60)))


def test_a_charger_that_replays_what_it_kept_makes_no_zombies() -> None:
    """It says Available first, then at length what happened before."""
    kept = [
        start(0, received=5000),
        answer(0, received=5000),
        *(meter(60 * i, 1000 + 100 * i, 6.0, received=5000 + 30 * i) for i in range(1, 20)),
        stop(1300, 3000, received=5600),
    ]
    words = in_order(connected(4999), status(4999, "Available"), kept, ticks(5000, 9000, 10))
    assert [] == episodes(ZOMBIE, words)


def test_a_zombie_explains_itself() -> None:
    """Evidence names the transaction, its last word, and what contradicts it."""
    words = in_order(_open_16(), status(300, "Available"), ticks(0, 400, 10))
    (row,) = run(ZOMBIE, words)[0].to_dicts()
    evidence = json.loads(row["evidence"])
    assert ("its connector is Available for 60 s", "1") == (evidence["limit"], evidence["transaction"])
    assert ({"status": "Available"}, "2026-09-21T14:21:00Z") == (evidence["readings"], evidence["last_word"])


def test_a_tick_without_anything_due_says_nothing() -> None:
    """Time alone finds nothing."""
    assert [] == episodes(ZOMBIE, [tick(0), tick(10)])
