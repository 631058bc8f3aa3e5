"""Is a charger there, does it restart, is it attacked, is its clock right."""

import json
from typing import Any

import pytest

from tests.unit.processors.stages.charger_rule_frames import (
    boot,
    connected,
    disconnected,
    episodes,
    in_order,
    rule,
    run,
    security,
    tick,
    ticks,
)
from tests.unit.processors.stages.session_frames import Said, event, meter, start, status

OFFLINE = [rule("offline")]


def test_a_charger_that_does_not_come_back_is_offline_since_its_disconnect() -> None:
    """The first tick that is looked at after 2 x 300 s + 60 s says so."""
    words = in_order(connected(0), disconnected(100), ticks(0, 900))
    assert [("offline", None, "begins", 760.0, 100.0)] == episodes(OFFLINE, words)


def test_offline_ends_with_the_next_connection() -> None:
    """It is back when it is connected again."""
    words = in_order(connected(0), disconnected(100), connected(2000, 2), ticks(0, 2100))
    assert ("offline", None, "ends", 2000.0, 100.0) == episodes(OFFLINE, words)[-1]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_offline_ends_with_any_word(version: str) -> None:
    """A charger of whose connection nothing was seen is there all the same when it speaks."""
    connector = "1" if version == "1.6" else "1/1"
    words = in_order(
        connected(0), disconnected(100), status(2000, "Available", version=version, connector=connector), ticks(0, 2100)
    )
    assert ("offline", None, "ends", 2000.0, 100.0) == episodes(OFFLINE, words)[-1]


def test_a_charger_that_reconnects_in_time_is_not_offline() -> None:
    """A short loss is none."""
    words = in_order(connected(0), disconnected(100), connected(700, 2), ticks(0, 3000))
    assert [] == episodes(OFFLINE, words)


def test_a_quiet_charger_that_is_connected_is_not_offline() -> None:
    """Heartbeats are in no journal, so silence on a connection says nothing."""
    assert [] == episodes(OFFLINE, in_order(connected(0), ticks(0, 30_000, 10)))


def test_the_end_of_an_older_connection_says_nothing_of_the_newer_one() -> None:
    """A stale disconnect after the reconnect is the old socket's."""
    words = in_order(connected(0, 1), connected(100, 2), disconnected(110, 1), ticks(0, 2000))
    assert [] == episodes(OFFLINE, words)


def test_a_charger_that_was_connected_must_show_itself_after_a_start_of_the_gateway() -> None:
    """It is offline since its last word, once the time for a reconnect has passed since the start."""
    words = in_order(connected(0), status(50, "Available"), tick(60), tick(5000, is_start=True), ticks(5010, 6000, 10))
    assert [("offline", None, "begins", 5660.0, 50.0)] == episodes(OFFLINE, words)


@pytest.mark.parametrize("seen", [connected(5200, 2), status(5200, "Available")], ids=["connected", "word"])
def test_a_charger_that_shows_itself_after_a_start_is_not_offline(seen: Said) -> None:
    """One word is enough."""
    words = in_order(connected(0), tick(60), tick(5000, is_start=True), seen, ticks(5010, 9000, 10))
    assert [] == episodes(OFFLINE, words)


def test_a_charger_that_connects_before_the_first_tick_of_a_start_has_shown_itself() -> None:
    """A gateway listens before it writes its first tick."""
    words = in_order(connected(0), tick(60), connected(4999, 2), tick(5000, is_start=True), ticks(5010, 9000, 10))
    assert [] == episodes(OFFLINE, words)


def test_nobody_can_reconnect_while_there_is_no_gateway() -> None:
    """What was disconnected by the gateway's own end has the whole time from its start on."""
    words = in_order(
        connected(0), disconnected(100), tick(105), tick(5000, is_start=True), connected(5300, 2), ticks(5010, 9000, 10)
    )
    assert [] == episodes(OFFLINE, words)


def test_offline_explains_itself() -> None:
    """Evidence holds the limit, the last word and why the connection ended."""
    words = in_order(connected(0), disconnected(100, reason="ping timeout"), ticks(0, 900))
    (row,) = run(OFFLINE, words)[0].to_dicts()
    expected = {
        "limit": "not back within 660 s",
        "last_word": "2026-09-21T14:20:00Z",
        "why": "disconnected: ping timeout",
    }
    assert (660.0, 660.0, "s", expected) == (row["value"], row["limit"], row["unit"], json.loads(row["evidence"]))


def test_each_charger_is_judged_for_itself() -> None:
    """One comes back and one does not."""
    words = in_order(
        connected(0, device="a"),
        connected(0, device="b"),
        disconnected(100, device="a"),
        disconnected(100, device="b"),
        connected(200, 2, device="b"),
        ticks(0, 2000),
    )
    found, _ = run(OFFLINE, words)
    assert ["a"] == found["device_id"].to_list()


def test_more_boots_in_an_hour_than_allowed_are_told_until_the_hour_has_fewer() -> None:
    """Three are allowed; the fourth begins, and it ends an hour after the first of the last four."""
    words = in_order(*(boot(600 * i) for i in range(4)), ticks(0, 6000, 10))
    expected = [("reboots", None, "begins", 1800.0, 0.0), ("reboots", None, "ends", 3600.0, 0.0)]
    assert expected == episodes([rule("reboots")], words)


@pytest.mark.parametrize(
    "words",
    [[boot(600 * i) for i in range(3)], [boot(1300 * i) for i in range(9)]],
    ids=["three", "rare"],
)
def test_a_few_boots_are_no_finding(words: list[Said]) -> None:
    """A firmware update takes two or three."""
    assert [] == episodes([rule("reboots")], in_order(words, ticks(0, 12_000, 10)))


def test_a_boot_notification_that_was_asked_for_is_no_boot() -> None:
    """2.x says so."""
    words = in_order(*(boot(60 * i, reason="Triggered") for i in range(9)), ticks(0, 600, 10))
    assert [] == episodes([rule("reboots")], words)


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("FailedToAuthenticateAtCentralSystem", "SecurityEventNotification"),
        ("CsmsFailedToAuthenticate", "SecurityEventNotification"),
        ("duplicate_identity", None),
    ],
)
def test_failed_authentications_one_after_another_are_told(name: str, action: str | None) -> None:
    """Three in ten minutes, in the words of 1.6, of 2.x and of the gateway."""
    words = in_order(*(security(100 * i, name, action=action) for i in range(3)), ticks(0, 2000, 10))
    expected = [("auth_failures", None, "begins", 200.0, 0.0), ("auth_failures", None, "ends", 600.0, 0.0)]
    assert expected == episodes([rule("auth_failures")], words)


def test_two_failed_authentications_are_no_flood() -> None:
    """People mistype."""
    words = in_order(*(security(100 * i, "CsmsFailedToAuthenticate") for i in range(2)), ticks(0, 2000, 10))
    assert [] == episodes([rule("auth_failures")], words)


def test_a_refused_connection_is_no_word_of_the_charger() -> None:
    """A stranger with its name does not bring an absent charger back."""
    words = in_order(connected(0), disconnected(100), security(300, "duplicate_identity", action=None), ticks(0, 900))
    assert [("offline", None, "begins", 760.0, 100.0)] == episodes(OFFLINE, words)


def test_a_critical_security_event_begins_at_once_and_ends_after_a_while() -> None:
    """Nothing says that tampering is over."""
    words = in_order(security(100, "TamperDetectionActivated", info="lid"), ticks(0, 4000, 10))
    expected = [("security_event", None, "begins", 100.0, 100.0), ("security_event", None, "ends", 3700.0, 100.0)]
    assert expected == episodes([rule("security_event")], words)


def test_a_second_security_event_of_another_type_is_an_episode_of_its_own() -> None:
    """Memory that is full must not hide a lid that is open."""
    words = in_order(security(100, "MemoryExhaustion"), security(200, "TamperDetectionActivated"), ticks(0, 1000, 10))
    found = [event for _, _, event, _, _ in episodes([rule("security_event")], words)]
    assert ["begins", "ends", "begins"] == found


@pytest.mark.parametrize("name", ["StartupOfTheDevice", "InvalidMessages", None])
def test_security_events_of_every_day_are_no_finding(name: str | None) -> None:
    """A boot is critical in OCPP's list, which means that it must be told, not that somebody must get up."""
    words = in_order(security(100, name, action="SignCertificate"), ticks(0, 200, 10))  # type: ignore[arg-type]
    assert [] == episodes([rule("security_event")], words)


def _lagging(lag: float, *received: float, **columns: Any) -> list[Said]:
    return [status(at - lag, "Available", received=at, **columns) for at in received]


def test_a_clock_that_is_late_in_each_of_three_messages_is_wrong() -> None:
    """Over ten minutes, until a message has the right time."""
    words = in_order(_lagging(3600, 4000, 4300, 4700), _lagging(2, 6000), ticks(4000, 6100, 10))
    expected = [("wrong_clock", None, "begins", 1100.0, 4000.0), ("wrong_clock", None, "ends", 5998.0, 4000.0)]
    assert expected == episodes([rule("wrong_clock")], words)


def test_messages_that_waited_in_a_queue_do_not_make_a_clock_wrong() -> None:
    """They come at once, and fresh ones between them."""
    words = in_order(_lagging(3600, 4000, 4001, 4002), _lagging(1, 4010), _lagging(900, 5000, 5001), ticks(4000, 6000))
    assert [] == episodes([rule("wrong_clock")], words)


@pytest.mark.parametrize("flag", ["clock_clamped", "clock_unset"])
def test_a_clock_that_was_set_right_by_us_is_wrong(flag: str) -> None:
    """What is ahead, or stands before 2000, has the time of its receipt and a flag."""
    words = in_order(_lagging(0, 4000, 4300, 4700, flags=flag))
    assert [("wrong_clock", None, "begins", 4700.0, 4000.0)] == episodes([rule("wrong_clock")], words)


def test_messages_without_a_time_say_nothing_of_the_clock() -> None:
    """A StatusNotification of 1.6 needs none, so it neither begins nor ends anything."""
    words = in_order(_lagging(3600, 4000, 4300), _lagging(0, 4400), _lagging(3600, 4700))
    assert [("wrong_clock", None, "begins", 1100.0, 4000.0)] == episodes([rule("wrong_clock")], words)


def test_a_transaction_event_that_was_kept_while_offline_says_nothing_of_the_clock() -> None:
    """2.x says which those are."""
    columns: dict[str, Any] = {"version": "2.0.1", "connector": "1/1", "offline": True, "transaction": "t"}
    words = [event("update", 0, received=3600 + 600 * i, seq_no=i, **columns) for i in range(4)]
    assert [] == episodes([rule("wrong_clock")], words)


def test_words_of_all_kinds_and_a_healthy_connection_are_no_finding() -> None:
    """A session on a connection that stays."""
    rules = [rule(name) for name in ("offline", "reboots", "auth_failures", "security_event", "wrong_clock")]
    words = in_order(
        connected(0),
        boot(1),
        status(2, "Available", received=3),
        start(60, received=61),
        *(meter(60 + 60 * i, 1000 + 100 * i, 6.0) for i in range(30)),
        ticks(0, 3000, 5),
    )
    assert [] == episodes(rules, words)
