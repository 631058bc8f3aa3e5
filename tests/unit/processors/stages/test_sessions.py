"""When a session is told, what its names lead to, when it is given up, and what is forgotten."""

import json

import msgspec
import polars as pl
import pytest

from gateway.core import limits
from gateway.core.errors import CheckpointError
from processors.stages import session_fold
from processors.stages.sessions import SESSIONS_SCHEMA, SessionState, fold_sessions
from tests.unit.processors.stages.session_frames import (
    Said,
    answer,
    asset,
    event,
    frames_of,
    meter,
    newest,
    only,
    run,
    start,
    status,
    stop,
    tick,
)

H = 3600


def told(entries: list[Said | list[Said]], *columns: str) -> list[tuple[object, ...]]:
    """Return (offset, revision, status, *columns) of each row."""
    rows, _ = run(entries)
    return list(rows.select("offset", "revision", "status", *columns).rows())


def test_a_start_is_told_with_our_answer_and_an_end_at_once() -> None:
    """The transaction id is in the entry behind the start, so the first row has it."""
    entries = [start(0), answer(0), stop(600)]
    assert [(1, 0, "active", "1"), (2, 1, "completed", "1")] == told(entries, "transaction_id")


def test_a_start_without_an_answer_is_told_at_the_next_tick() -> None:
    """An answer that is lost with us loses no session."""
    assert [(1, 0, "active", None)] == told([start(0), tick(5)], "transaction_id")


def test_all_rows_of_an_entry_are_in_before_its_session_is_told() -> None:
    """The end of a 2.x transaction brings its last meter value in the same entry."""
    named = {"transaction": "t", "version": "2.0.1"}
    entries = [
        [event("start", 0, seq_no=0, **named), meter(0, 100.0, **named)],
        [event("end", 600, seq_no=1, **named), meter(600, 900.0, **named)],
    ]
    assert [(0, 0, "active", None), (1, 1, "completed", 800.0)] == told(entries, "energy_wh")


def test_a_session_that_goes_on_is_told_once_a_minute_and_then_less_often() -> None:
    """With ticks and samples every 20 s for 4 h there are about 16 ln(4 h / 16 min) + 16 rows."""
    entries: list[Said | list[Said]] = [start(0), answer(0)]
    for i in range(1, 720):
        entries += [meter(20 * i, 1000.0 + 10 * i), tick(20 * i)]
    rows, _ = run(entries)
    steps = rows["received_at"].diff().drop_nulls().dt.total_seconds()
    assert 60 <= steps.min()
    assert 14_400 // limits.SESSION_REVISIONS_SHARE + 60 >= steps.max()
    assert 40 < rows.height < 70


def test_a_tick_without_news_tells_nothing() -> None:
    """An ended session that nobody speaks of has one last row."""
    assert 2 == run([start(0), answer(0), stop(600), *[tick(700 + 60 * i) for i in range(60)]])[0].height


def test_words_of_an_unknown_transaction_wait_ten_minutes_for_its_start() -> None:
    """A start that comes in time leaves no orphan behind."""
    early = [meter(60, 1100.0), stop(120), tick(130), tick(600)]
    assert [] == told(early)
    assert [(5, 0, "completed", None)] == told([*early, start(0, received=620), answer(0, received=620)], "flags")


def test_an_orphan_that_finds_its_start_is_taken_back() -> None:
    """The last revision of the orphan has no energy, so that nothing is counted twice."""
    rows, _ = run([stop(120), tick(200), tick(900), start(0, received=910), answer(0, received=910)])
    sessions = newest(rows)
    assert [("completed", 1000.0, None), ("orphan", None, "merged,no_start")] == [
        (one["status"], one.get("energy_wh"), one.get("flags")) for one in sessions
    ]
    assert f"is session {sessions[0]['session_id']}" == sessions[1]["evidence"]


def test_a_2x_orphan_keeps_its_id_when_its_start_comes() -> None:
    """In 2.x the transaction id is in every message, so there is nothing to take back."""
    named = {"transaction": "t", "version": "2.0.1"}
    late = [event("end", 600, seq_no=1, **named), tick(700), tick(1300), event("start", 0, seq_no=0, **named)]
    assert [(2, 0, "orphan", "no_start,seq_gap"), (3, 1, "completed", "late_start")] == told(late, "flags")


def test_the_start_of_a_session_is_its_identity_in_16() -> None:
    """Time, connector, token and register as sent; message and transaction ids are not part of it."""
    first = only([start(0), answer(0)])
    again = only([start(0, message="x"), answer(0, "99", message="x")])
    other = only([start(0, 1001.0), answer(0)])
    assert first["session_id"] == again["session_id"] != other["session_id"]
    assert 20 == len(first["session_id"])


def test_a_new_start_gives_up_only_sessions_of_its_connector() -> None:
    """The one on the other connector goes on."""
    entries = [
        start(0, message="a", connector="1"),
        answer(0, "1", message="a"),
        start(0, message="b", connector="2"),
        answer(0, "2", message="b"),
        start(60, message="c", connector="1"),
        answer(60, "3", message="c"),
    ]
    sessions = newest(run(entries)[0])
    assert {("1", "abandoned"), ("2", "active"), ("1", "active")} == {(s["connector"], s["status"]) for s in sessions}


def test_meter_values_bring_an_abandoned_session_back() -> None:
    """A day of silence was only a day offline."""
    session = only([start(0), answer(0), tick(60), tick(25 * H), meter(26 * H, 5000.0), tick(26 * H)])
    assert ("active", "resumed") == (session["status"], session["flags"])


def test_available_said_before_the_start_is_no_evidence() -> None:
    """A session begins while the last state of its connector is still Available."""
    entries = [status(-60, "Available"), start(0), answer(0), *[tick(60 * i) for i in range(30)]]
    assert "active" == only(entries)["status"]


def test_available_between_meter_values_of_the_session_is_no_evidence() -> None:
    """A charger that says Available and goes on metering the transaction has not ended it."""
    entries: list[Said | list[Said]] = [start(0), answer(0), status(30, "Available")]
    for i in range(1, 30):
        entries += [meter(60 * i, 1000.0 + i), tick(60 * i + 1)]
    assert "active" == only(entries)["status"]


def test_another_plug_of_the_same_evse_is_no_evidence() -> None:
    """CCS is in use and CHAdeMO beside it is Available, as it always was."""
    named = {"version": "2.0.1", "connector": "1/1"}
    words = [
        event("start", 0, seq_no=0, transaction="t", **named),
        status(60, "Available", version="2.0.1", connector="1/2"),
    ]
    assert "active" == only([*words, *[tick(60 * i) for i in range(2, 30)]])["status"]
    same = Said(words[1] | {"connector": "1/1"})
    assert "abandoned" == only([words[0], same, *[tick(60 * i) for i in range(2, 30)]])["status"]


def test_a_tick_before_the_first_word_counts_in_no_cut() -> None:
    """The first word's minute may have begun in an earlier batch."""
    entries = [tick(0), start(1), tick(2)]
    assert run(entries)[0].equals(run(entries, [1], restart=True)[0])


def test_a_gateway_clock_that_was_ahead_does_not_stop_sessions() -> None:
    """After one tick two days ahead the next ones are looked at all the same."""
    entries = [start(0), answer(0), tick(2 * 86_400), meter(100, 1500.0), tick(120)]
    assert 500.0 == only(entries)["energy_wh"]


def test_what_was_wrong_with_samples_outlives_them() -> None:
    """An hour after its end a session keeps 64 samples, its energy and its flags."""
    samples = [meter(30 * i, 1000.0 + 50 * i if i != 7 else 900.0) for i in range(1, 200)]
    ended = [start(0), answer(0), *samples, stop(6000, 11_000.0), tick(6060), tick(10_000)]
    _, state = run(ended)
    (session,) = state.memory.sessions.values()
    assert len(session.samples) <= limits.SESSION_SAMPLES_ENDED_MAX
    again = only([*ended, status(5000, "Faulted"), tick(10_100)])
    assert (10_000.0, "faulted,register_fell", 199) == (again["energy_wh"], again["flags"], again["meter_rows"])


def test_intervals_are_not_thinned_after_the_end() -> None:
    """Each of them counts, so a later revision must have them all."""
    samples = [meter(30 * i, energy_import_interval_wh=10.0) for i in range(1, 200)]
    ended = [start(0, None), answer(0), *samples, stop(6000, None), tick(6060), tick(10_000)]
    again = only([*ended, status(5000, "Faulted"), tick(10_100)])
    assert (1990.0, "interval") == (again["energy_wh"], again["energy_source"])


def test_a_stop_without_transaction_ends_the_only_session_it_can_mean() -> None:
    """With two sessions open and the same token it is an orphan."""
    one = [start(0), answer(0), stop(60, transaction=None, id_token="TAG")]
    assert "completed" == only(one)["status"]
    two = [start(0, message="b", connector="2"), answer(0, "2", message="b"), *one, tick(60), tick(700)]
    assert ["active", "active", "orphan"] == sorted(s["status"] for s in newest(run(two)[0]))


def test_a_rated_power_bounds_what_the_register_may_gain() -> None:
    """22 kW for an hour are not 100 kWh; without the statement they might be."""
    words = [start(0), answer(0), stop(H, 101_000.0)]
    rated = asset("charger", "cp-1", rated_power_kw=22.0)
    assert 100_000.0 == only(words)["energy_wh"]
    assert "register_jumped" == only([rated, *words])["flags"]


def test_a_curve_has_at_most_32_points_from_the_start_on() -> None:
    """Seconds since the start, power, state of charge, energy."""
    session = only(
        [start(0), answer(0), *[meter(60 * i, 1000.0 + 100 * i, 6.0) for i in range(100)], stop(6000, 11_000)]
    )
    curve = json.loads(session["curve"])
    assert (32, [0.0, 6.0, None, 0.0], [5940.0, 6.0, None, 9900.0]) == (len(curve), curve[0], curve[-1])


def test_an_old_session_is_forgotten_and_its_names_with_it() -> None:
    """After 48 h of silence nothing of an ended session is left but its connector."""
    _, state = run([start(0), answer(0), stop(600), tick(700), tick(49 * H)])
    memory = state.memory
    assert ({}, {}, {}) == (memory.sessions, memory.transactions, memory.starts)
    assert [[]] == [connector.sessions for connector in memory.connectors.values()]


def test_too_many_sessions_lose_the_ended_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one ended and two open ones with room for one, the open one heard of last stays, the other is abandoned."""
    monkeypatch.setattr(session_fold, "CHARGING_SESSIONS_MAX", 1)
    entries: list[Said | list[Said]] = []
    for i in (1, 2, 3):
        entries += [start(i, message=f"m{i}", connector=str(i)), answer(i, str(i), message=f"m{i}")]
    rows, state = run([*entries, stop(9, transaction="3"), tick(60)])
    assert ["2"] == [one.transactions[0] for one in state.memory.sessions.values()]
    lost = next(one for one in newest(rows) if one["transaction_id"] == "1")
    assert ("abandoned", "more than 1 sessions at once") == (lost["status"], lost["evidence"])


def test_a_quiet_connector_makes_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was quiet for longest goes."""
    monkeypatch.setattr(session_fold, "CONNECTORS_MAX", 2)
    _, state = run([*[status(i, "Available", connector=str(i)) for i in (1, 2, 3)], start(4), answer(4), tick(60)])
    assert ["acme\ncp-1\n3", "acme\ncp-1\n1"] == list(state.memory.connectors)


def test_tenants_and_chargers_share_no_transaction() -> None:
    """Transaction 1 of one charger is not that of another."""
    entries: list[Said | list[Said]] = []
    for device in ("cp-1", "cp-2"):
        entries += [start(0, device=device), answer(0, device=device)]
    sessions = newest(run([*entries, stop(60, device="cp-2")])[0])
    assert {("cp-1", "active"), ("cp-2", "completed")} == {(one["charger_id"], one["status"]) for one in sessions}


def test_the_state_that_was_given_is_left_as_it_is() -> None:
    """States are values: the pump stores an old one while a new one is made."""
    _, state = run([status(0, "Charging"), start(0), answer(0), meter(60, 1100.0), meter(70, 5.0, transaction=None)])
    before = state.to_bytes()
    frames, ticks = frames_of(
        [(9, stop(600)), (10, status(600, "Available")), (11, meter(90, 1200.0)), (12, tick(700))]
    )
    fold_sessions(state, frames, ticks)
    assert before == state.to_bytes()


def test_no_words_of_chargers_leave_the_state_alone() -> None:
    """A fleet without chargers pays nothing, whatever its vehicles say."""
    state = SessionState.empty()
    frames, ticks = frames_of([(0, tick(0)), (1, tick(60))])
    rows, after = fold_sessions(state, frames, ticks)
    assert after is state
    assert pl.Schema(SESSIONS_SCHEMA) == rows.schema


@pytest.mark.parametrize("payload", [b"\xc1", msgspec.msgpack.encode({"version": 99}), msgspec.msgpack.encode([1])])
def test_a_state_of_another_version_is_refused(payload: bytes) -> None:
    """It would be misread; the journal has everything to make it anew."""
    with pytest.raises(CheckpointError):
        SessionState.from_bytes(payload)
