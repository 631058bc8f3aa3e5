"""The oracle's eye on chargers: it must see a call that is gone or told again, an id given twice, a wrong session."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from simulators.chargers.truth import AnsweredCall, SessionTruth
from tests.fault.charging import (
    STREAMS,
    answered_calls,
    ids_given_twice,
    judge_sessions,
    newest_sessions,
    samples_in,
    told_again,
    true_sessions,
    without_id,
    without_row,
)

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACTIONS = ("BootNotification", "StatusNotification", "Authorize", "StartTransaction", "MeterValues", "StopTransaction")


def call(message_id: str, action: str, **changes: Any) -> AnsweredCall:
    """Return a call that was answered by a result."""
    answer = 7 if action == "StartTransaction" else None
    fields = {"charger": "cp", "digest": "00", "answered_at": "2026-03-01T12:00:00Z", "answer": answer}
    return AnsweredCall(message_id=message_id, action=action, **(fields | changes))


ANSWERED = answered_calls([call(f"m{i}", action) for i, action in enumerate(ACTIONS)])
STATUS = pl.DataFrame(
    {"offset": [1, 2, 3], "record": 0, "device_id": "cp", "message_id": ["m0", "m1", None], "kind": ["boot", "x", "x"]}
)
TRANSACTIONS = pl.DataFrame(
    {
        "offset": [4, 5, 6, 8],
        "record": 0,
        "device_id": "cp",
        "message_id": ["m2", "m3", "m3", "m5"],
        "event": ["authorize", "start", "start_answer", "end"],
        "start_message_id": [None, "m3", "m3", None],
        "transaction_id": [None, None, "7", "7"],
    }
)
METER = pl.DataFrame(
    {"offset": [7, 7], "record": [0, 1], "device_id": "cp", "message_id": "m4", "energy_import_wh": [1.0, 2.0]}
)
LAKE = {"charger_status": STATUS, "charger_transaction": TRANSACTIONS, "charger_meter": METER}


def test_complete_calls_miss_nothing() -> None:
    """Every answered call has its row, every answered start its transaction id, and nothing is told again."""
    assert ANSWERED.height == len(ACTIONS)
    assert without_row(ANSWERED, LAKE).height == 0
    assert without_id(ANSWERED, TRANSACTIONS).height == 0
    assert told_again(LAKE) == 0


def test_errors_and_heartbeats_promise_nothing() -> None:
    """A call that was refused may be anywhere, and Heartbeat is not kept."""
    assert answered_calls([call("a", "MeterValues", error="InternalError"), call("b", "Heartbeat")]).height == 0


@pytest.mark.parametrize("message", range(len(ACTIONS)))
def test_call_without_a_row_is_lost(message: int) -> None:
    """Whichever stream it belongs to; a row of another charger is no excuse."""
    name = f"m{message}"
    other = {key: rows.with_columns(device_id=pl.lit("other")) for key, rows in LAKE.items()}
    assert without_row(ANSWERED, other).height == len(ACTIONS)
    held = {key: rows.filter(pl.col("message_id").ne_missing(name)) for key, rows in LAKE.items()}
    assert without_row(ANSWERED, held)["message_id"].to_list() == [name]


def test_answered_id_must_be_in_the_lake() -> None:
    """A charger that was told 7 says 7 for hours: an answer that was not kept, or another number, is a loss."""
    other = TRANSACTIONS.with_columns(transaction_id=pl.lit("8"))
    assert without_id(ANSWERED, other)["message_id"].to_list() == ["m3"]


@pytest.mark.parametrize("name", STREAMS)
def test_row_of_a_resent_call_is_told_again(name: str) -> None:
    """The same message at another offset counts once too often; what has no message may repeat itself."""
    rows = LAKE[name].filter(pl.col("message_id").is_not_null()).tail(1)
    lake = LAKE | {name: pl.concat([LAKE[name], rows.with_columns(offset=pl.lit(99, pl.Int64))])}
    assert told_again(lake) == 1
    nameless = STATUS.filter(pl.col("message_id").is_null()).with_columns(offset=pl.lit(99, pl.Int64))
    assert told_again(LAKE | {"charger_status": pl.concat([STATUS, nameless])}) == 0


def test_same_content_under_another_message_is_told_again() -> None:
    """A charger that resends under a new id says nothing new."""
    copy = METER.with_columns(offset=pl.lit(99, pl.Int64), message_id=pl.lit("new"))
    assert told_again(LAKE | {"charger_meter": pl.concat([METER, copy])}) == 2


def test_second_answer_to_one_start_is_a_fact_of_its_own() -> None:
    """A start that is sent again after a crash may be given another id, but its row is there once."""
    again = TRANSACTIONS.filter(pl.col("event") == "start_answer").with_columns(
        offset=pl.lit(99, pl.Int64), transaction_id=pl.lit("8")
    )
    transactions = pl.concat([TRANSACTIONS, again])
    assert told_again(LAKE | {"charger_transaction": transactions}) == 0
    assert ids_given_twice(transactions).height == 0


@pytest.mark.parametrize(("device_id", "start"), [("other", "m3"), ("cp", "m9")])
def test_id_of_two_starts_is_found(device_id: str, start: str) -> None:
    """Of two chargers, or of two starts of one."""
    again = TRANSACTIONS.filter(pl.col("event") == "start_answer").with_columns(
        device_id=pl.lit(device_id), start_message_id=pl.lit(start)
    )
    assert ids_given_twice(pl.concat([TRANSACTIONS, again]))["transaction_id"].to_list() == ["7"]


def test_samples_are_found_in_every_version() -> None:
    """In MeterValues, StopTransaction and TransactionEvent; our own answers have none."""

    def at(second: int) -> dict[str, str]:
        return {"timestamp": f"2026-03-01T12:00:{second:02}.000Z"}

    frames = [
        [2, "a", "MeterValues", {"connectorId": 1, "meterValue": [at(1), at(2)]}],
        [2, "b", "StopTransaction", {"transactionData": [at(3)]}],
        [2, "c", "TransactionEvent", {"meterValue": [at(4)]}],
        [2, "d", "TransactionEvent", {}],
        [3, "e", {"transactionId": 1}],
    ]
    samples = samples_in([("cp", json.dumps(frame).encode()) for frame in frames])
    assert samples["measured_at"].sort().to_list() == [BEGAN + timedelta(seconds=i) for i in range(1, 5)]


def truth(number: int, **changes: Any) -> SessionTruth:
    """Return a session of 1,000 Wh that is over and answered."""
    began = BEGAN + timedelta(hours=number)
    fields: dict[str, Any] = {
        "charger": "cp",
        "version": "1.6",
        "connector": "1",
        "id_token": "TAG",
        "started_at": began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ended_at": (began + timedelta(minutes=30)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "energy_wh": 1000,
        "calls": 3,
        "answered": 3,
        "started": True,
        "stopped": True,
        "is_over": True,
    }
    return SessionTruth(**(fields | changes))


TRUE = true_sessions([truth(0), truth(1), truth(2, faults={"drop", "duplicate"})])
REVISIONS = pl.DataFrame(
    [
        {
            "session_id": f"s{number}",
            "charger_id": "cp",
            "connector": "1",
            "status": "completed" if revision else "active",
            "transaction_id": str(number),
            "started_at": BEGAN + timedelta(hours=number),
            "ended_at": BEGAN + timedelta(hours=number, minutes=30) if revision else None,
            "id_token": "TAG",
            "energy_wh": 1000.0 if revision else 10.0,
            "revision": revision,
        }
        for number in range(3)
        for revision in (1, 0)
    ]
)
SESSIONS = newest_sessions(REVISIONS)


def test_right_sessions_do_not_differ() -> None:
    """The newest revision is the session; less than half a watt-hour is no difference."""
    near = SESSIONS.with_columns(pl.col("energy_wh") + 0.4)
    for sessions in (SESSIONS, near):
        verdict = judge_sessions(TRUE, sessions)
        assert (3, 0, ()) == (verdict.compared, verdict.differing, verdict.examples)


@pytest.mark.parametrize(
    "change",
    [
        SESSIONS.filter(pl.col("session_id") != "s1"),
        pl.concat([SESSIONS, SESSIONS.filter(pl.col("session_id") == "s1")]),
        SESSIONS.with_columns(
            pl.when(pl.col("session_id") == "s1").then(pl.lit(1000.6)).otherwise("energy_wh").alias("energy_wh")
        ),
        SESSIONS.with_columns(
            pl.when(pl.col("session_id") == "s1").then(None).otherwise("energy_wh").alias("energy_wh")
        ),
        SESSIONS.with_columns(
            pl.when(pl.col("session_id") == "s1").then(pl.lit("abandoned")).otherwise("status").alias("status")
        ),
        SESSIONS.with_columns(
            pl.when(pl.col("session_id") == "s1").then(pl.lit("X")).otherwise("id_token").alias("id_token")
        ),
        SESSIONS.with_columns(
            pl.when(pl.col("session_id") == "s1").then("started_at").otherwise("ended_at").alias("ended_at")
        ),
        pl.concat([SESSIONS, SESSIONS.head(1).with_columns(session_id=pl.lit("s9"), connector=pl.lit("2"))]),
    ],
    ids=["gone", "twice", "energy", "no energy", "not completed", "id token", "end", "of no charger"],
)
def test_any_wrong_session_is_seen(change: pl.DataFrame) -> None:
    """Whatever is wrong, it is one session, and the verdict says which."""
    verdict = judge_sessions(TRUE, change)
    assert (3, 1, 1) == (verdict.compared, verdict.differing, len(verdict.examples))


@pytest.mark.parametrize(
    "changes",
    [
        {"is_over": False},
        {"stopped": False, "ended_at": None},
        {"answered": 2},
        {"unsettled": 1},
        {"faults": {"register_reset"}},
    ],
)
def test_session_that_may_be_incomplete_is_not_compared(changes: dict[str, Any]) -> None:
    """It may be there or not, and as far as it was told."""
    unsure = true_sessions([truth(0), truth(1, **changes), truth(2)])
    for sessions in (SESSIONS, SESSIONS.filter(pl.col("session_id") != "s1")):
        verdict = judge_sessions(unsure, sessions)
        assert (2, 0) == (verdict.compared, verdict.differing)
