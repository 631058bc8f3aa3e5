"""The conversation with one station."""

from typing import cast

import msgspec
import pytest

from gateway.core.errors import JournalFull
from gateway.core.limits import METRIC_REASONS_MAX, OCPP_MESSAGE_ID_CHARS_MAX
from gateway.wire.ocpp.rpc import FRAME_REASONS
from gateway.wire.ocpp.schemas import VIOLATION_REASONS
from gateway.wire.ocpp.session import (
    SESSION_REASONS,
    TRANSITIONS,
    Answer,
    AnsweredCalls,
    Append,
    Event,
    Ignored,
    Repeat,
    State,
    Strictness,
)
from gateway.wire.ocpp.versions import Version
from tests.unit.gateway.wire.ocpp.stations import (
    AT,
    CALLS,
    EVENT_STREAM,
    NOW,
    Station,
    payload_of,
    refusal_of,
)

V16, V201, V21 = Version.V16, Version.V201, Version.V21
STRICT, LENIENT, AUDIT = Strictness.STRICT, Strictness.LENIENT, Strictness.AUDIT
METER = CALLS[V16]["MeterValues"]
START = CALLS[V16]["StartTransaction"]
WITHOUT_CONNECTOR = {"meterValue": METER["meterValue"]}
DIRTY = {
    "connectorId": 0,
    "meterValue": [{"timestamp": "2024-01-01T00:00:00", "sampledValue": [{"value": 5, "unit": "Hz"}]}],
}


# ---- calls -----------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_answered_at_once_and_not_journalled() -> None:
    """With the current time, and as often as it comes, also with the same id."""
    station = Station()
    for _ in range(2):
        assert Answer(b'[3,"m1",{"currentTime":"%b"}]' % NOW.encode()) == station.calls("Heartbeat", {})
    assert {} == station.counts


@pytest.mark.parametrize(
    ("version", "action"),
    [(version, action) for version in Version for action in CALLS[version] if action != "Heartbeat"],
)
@pytest.mark.parametrize("strictness", list(Strictness))
def test_every_other_call_is_journalled_verbatim_and_answered_after(
    version: Version, action: str, strictness: Strictness
) -> None:
    """On the channel of its version and action, white space and all."""
    station = Station(version, strictness=strictness)
    frame = b' [2 , "m1", "%b" ,%b ] ' % (action.encode(), msgspec.json.encode(CALLS[version][action]))
    append = station.says(frame)
    assert isinstance(append, Append), append
    assert (f"{version}/{action}", frame, "m1") == (append.channel, append.payload, append.message_id)
    assert isinstance(payload_of(append.answer), dict)
    assert {} == station.counts


def test_only_the_answer_with_the_transaction_id_is_journalled() -> None:
    """Right behind its StartTransaction; of all others the question says everything."""
    station = Station()
    append = station.appends("StartTransaction", START)
    assert "ocpp1.6/StartTransaction.conf" == append.answer_channel
    assert {"transactionId": 1, "idTagInfo": {"status": "Accepted"}} == payload_of(append.answer)
    assert None is station.appends("StopTransaction", CALLS[V16]["StopTransaction"], message_id="m2").answer_channel


def test_an_action_that_does_not_exist_is_not_implemented() -> None:
    """Also one that another version has."""
    for action in ("Fly", "TransactionEvent", "MeterValuesResponse", ""):
        assert ("m1", "NotImplemented") == refusal_of(Station().calls(action, {}))
    assert ("m1", "NotImplemented") == refusal_of(Station(V201).calls("StartTransaction", START))


def test_an_action_of_the_other_direction_is_not_supported() -> None:
    """Known, and nothing that a central system can be asked for."""
    assert ("m1", "NotSupported") == refusal_of(Station(V16).calls("RemoteStartTransaction", {"idTag": "A"}))
    assert ("m1", "NotSupported") == refusal_of(Station(V21).calls("GetTariffs", {"evseId": 1}))
    assert ("m1", "NotSupported") == refusal_of(Station(V21).calls("NotifyPeriodicEventStream", EVENT_STREAM))


def test_a_refusal_says_reason_and_place() -> None:
    """To the station in the CALLERROR, to us for the log line and the counter."""
    station = Station()
    received = station.calls("MeterValues", WITHOUT_CONNECTOR)
    assert isinstance(received, Answer)
    text = "MeterValues: payload: expected field connectorId, got none"
    assert b'[4,"m1","OccurenceConstraintViolation","%b",{}]' % text.encode() == received.frame
    assert ("missing_field", text) == (received.reason, received.detail)
    assert {"missing_field": 1} == station.counts


def test_a_refused_call_is_not_remembered() -> None:
    """Sent again with the same id and mended, it is processed."""
    station = Station()
    station.calls("MeterValues", WITHOUT_CONNECTOR)
    station.appends("MeterValues", METER)


# ---- strictness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strictness", "payload", "is_accepted"),
    [
        (STRICT, METER, True),
        (STRICT, DIRTY, False),
        (STRICT, WITHOUT_CONNECTOR, False),
        (LENIENT, DIRTY, True),
        (LENIENT, WITHOUT_CONNECTOR, False),
        (LENIENT, METER | {"connectorId": None}, False),
        (AUDIT, DIRTY, True),
        (AUDIT, WITHOUT_CONNECTOR, True),
        (AUDIT, {}, True),
    ],
)
def test_strictness_decides_what_a_violation_means(
    strictness: Strictness, payload: dict[str, object], is_accepted: bool
) -> None:
    """Presence counts, not zero values: connector 0 passes, no connector passes in audit only."""
    received = Station(strictness=strictness).calls("MeterValues", payload)
    assert is_accepted == isinstance(received, Append)


def test_dirt_that_is_accepted_is_counted_and_kept_verbatim() -> None:
    """One count per payload, under the reason of its first violation."""
    station = Station()
    append = station.appends("MeterValues", METER | {"vendorField": 1})
    assert b"vendorField" in append.payload
    assert {"additional_property": 1} == station.counts


@pytest.mark.parametrize("strictness", list(Strictness))
def test_what_is_no_json_is_refused_however_lenient(strictness: Strictness) -> None:
    """Trailing commas, text that is no UTF-8, half an emoji, a number without end: nobody could read the journal."""
    for payload in (b'{"a":1,}', b'{"idTag":"\xff"}', b'{"idTag":"\\ud800"}', b'{"idTag":1e999}'):
        received = Station(strictness=strictness).says(b'[2,"m1","Authorize",' + payload + b"]")
        assert ("m1", "FormationViolation") == refusal_of(received), payload


def test_a_long_message_id_is_refused_by_strict_only() -> None:
    """Up to four times the limit it does no harm: it is only sent back."""
    message_id = "x" * (OCPP_MESSAGE_ID_CHARS_MAX + 1)
    assert (message_id, "ProtocolError") == refusal_of(
        Station(strictness=STRICT).calls("Heartbeat", {}, message_id=message_id)
    )
    station = Station(strictness=LENIENT)
    assert isinstance(station.calls("Heartbeat", {}, message_id=message_id), Answer)
    assert {"long_message_id": 1} == station.counts
    longest = "x" * OCPP_MESSAGE_ID_CHARS_MAX
    assert isinstance(Station(strictness=STRICT).calls("MeterValues", METER, message_id=longest), Append)


# ---- broken frames ---------------------------------------------------------------------------------------------------


def test_a_broken_frame_is_answered_as_its_version_wants() -> None:
    """2.x with the id -1, 1.6 not at all; both are counted."""
    station_2, station_16 = Station(V201), Station(V16)
    received = station_2.says(b"}{ no json")
    assert ("-1", "RpcFrameworkError") == refusal_of(received)
    assert "bad_json" == cast("Answer", received).reason
    ignored = station_16.says(b"}{ no json")
    assert isinstance(ignored, Ignored)
    assert "bad_json" == ignored.reason
    assert {"bad_json": 1} == station_2.counts == station_16.counts


def test_an_integer_id_is_refused_with_the_same_integer() -> None:
    """In every strictness."""
    for strictness in Strictness:
        received = Station(strictness=strictness).says(b'[2,12345,"Heartbeat",{}]')
        assert (12345, "ProtocolError") == refusal_of(received)


# ---- repeats ---------------------------------------------------------------------------------------------------------


def test_a_call_that_comes_again_before_it_is_durable_is_a_repeat() -> None:
    """One row, one answer."""
    station = Station()
    station.appends("StartTransaction", START)
    assert Repeat("m1") == station.calls("StartTransaction", START)
    assert {"repeated_call": 1} == station.counts


def test_a_call_that_comes_again_after_it_is_durable_gets_the_first_answer() -> None:
    """The same transaction id, however often."""
    station = Station()
    append = station.appends("StartTransaction", START)
    station.session.settled("m1")
    assert append.answer is not None
    for _ in range(3):
        assert Answer(append.answer) == station.calls("StartTransaction", START)


def test_an_id_with_another_content_is_a_new_call() -> None:
    """A station that counts from 1 again after its boot, or another action under the same id."""
    station = Station()
    station.appends("StartTransaction", START)
    station.session.settled("m1")
    second = station.appends("StartTransaction", START | {"meterStart": 5})
    assert {"transactionId": 2, "idTagInfo": {"status": "Accepted"}} == payload_of(second.answer)
    station.session.settled("m1")
    station.appends("Authorize", {"idTag": "A"})


def test_a_call_that_failed_is_refused_and_processed_when_it_comes_again() -> None:
    """InternalError says that sending it again is worth a try."""
    station = Station()
    first = station.appends("StartTransaction", START)
    frame = station.session.failed("m1")
    assert [4, "m1", "InternalError"] == msgspec.json.decode(frame)[:3]
    second = station.appends("StartTransaction", START)
    assert first.answer != second.answer


def test_a_resend_after_a_reconnect_gets_the_first_answer() -> None:
    """The calls of a station outlive its connection."""
    calls = AnsweredCalls()
    before = Station(answered=calls)
    append = before.appends("StartTransaction", START)
    before.session.close()
    before.session.settled("m1")
    assert append.answer is not None
    assert Answer(append.answer) == Station(answered=calls).calls("StartTransaction", START)


def test_a_resend_that_overtakes_the_disk_is_owed_its_answer() -> None:
    """The first connection is gone, so the answer goes to the one that asked again, once."""
    calls = AnsweredCalls()
    before = Station(answered=calls)
    append = before.appends("StartTransaction", START)
    after = Station(answered=calls)
    assert Repeat("m1") == after.calls("StartTransaction", START)
    assert Repeat("m1") == after.calls("StartTransaction", START)
    assert [] == after.session.take_owed()
    before.session.settled("m1")
    assert [append.answer] == after.session.take_owed()
    assert [] == after.session.take_owed()


def test_nothing_is_owed_where_the_first_failed_or_will_answer_itself() -> None:
    """A failed call is resent by its station; a repeat on the same connection has its answer from there."""
    calls = AnsweredCalls()
    before, after = Station(answered=calls), Station(answered=calls)
    before.appends("StartTransaction", START)
    before.calls("StartTransaction", START)
    after.calls("StartTransaction", START)
    before.session.failed("m1")
    assert [] == before.session.take_owed()
    assert [] == after.session.take_owed()


# ---- SEND ------------------------------------------------------------------------------------------------------------


def test_a_send_is_journalled_and_has_no_answer() -> None:
    """NotifyPeriodicEventStream of 2.1."""
    frame = msgspec.json.encode([6, "s1", "NotifyPeriodicEventStream", EVENT_STREAM])
    append = Station(V21).says(frame)
    assert isinstance(append, Append)
    assert ("ocpp2.1/NotifyPeriodicEventStream", frame, None, None, "s1") == msgspec.structs.astuple(append)


@pytest.mark.parametrize(
    ("action", "payload", "reason"),
    [
        ("MeterValues", CALLS[V21]["MeterValues"], "not_supported"),
        ("Fly", {}, "not_supported"),
        ("NotifyPeriodicEventStream", {"id": 1}, "missing_field"),
        ("NotifyPeriodicEventStream", [], "payload_type"),
    ],
)
def test_a_send_that_is_refused_is_only_counted(action: str, payload: object, reason: str) -> None:
    """There is no answer to a SEND, not even an error."""
    station = Station(V21)
    ignored = station.says(msgspec.json.encode([6, "s1", action, payload]))
    assert isinstance(ignored, Ignored)
    assert (reason, {reason: 1}) == (ignored.reason, station.counts)


# ---- states ----------------------------------------------------------------------------------------------------------


def test_no_boot_notification_after_a_reconnect_is_normal() -> None:
    """Everything may come first; the session knows whether the station has booted."""
    station = Station()
    station.appends("MeterValues", METER)
    assert not station.session.is_booted
    station.appends("BootNotification", CALLS[V16]["BootNotification"], message_id="m2")
    assert station.session.is_booted
    station.appends("StatusNotification", CALLS[V16]["StatusNotification"], message_id="m3")
    assert station.session.is_booted


def test_after_the_end_everything_is_ignored() -> None:
    """And our outstanding call is handed back."""
    station = Station()
    station.session.call("c1", "Reset", b'{"type":"Hard"}')
    assert "c1" == station.session.close()
    assert None is station.session.close()
    for frame in (b'[3,"c1",{"status":"Accepted"}]', b'[2,"m","Heartbeat",{}]', b"x"):
        assert Ignored("after_close") == station.says(frame)
    with pytest.raises(KeyError):
        station.session.call("c2", "Reset", b"{}")


def test_every_state_has_its_row_and_only_the_end_ends() -> None:
    """The table is whole: an open connection takes every event, a closed one none but its end again."""
    assert set(State) == set(TRANSITIONS)
    for state in (State.CONNECTED, State.BOOTED):
        assert set(Event) == set(TRANSITIONS[state])
        assert {Event.END} == {event for event, after in TRANSITIONS[state].items() if after is State.CLOSED}
    assert {Event.END: State.CLOSED} == TRANSITIONS[State.CLOSED]


def test_all_reasons_fit_into_one_counter() -> None:
    """They are few, known, and none is a peer's text."""
    reasons = FRAME_REASONS | VIOLATION_REASONS | SESSION_REASONS
    assert len(reasons) < METRIC_REASONS_MAX / 2
    assert all(reason.isidentifier() and reason.islower() for reason in reasons)


def test_times_without_zone_and_zero_values_are_no_reason_to_refuse() -> None:
    """A station with its clock in 1970 and a transaction id of -1 is heard."""
    station = Station()
    payload = METER | {"transactionId": -1, "meterValue": [{"timestamp": AT[:-1], "sampledValue": [{"value": "0"}]}]}
    station.appends("MeterValues", payload)
    assert {"no_zone": 1} == station.counts


def test_a_start_without_a_reserved_transaction_id_is_not_confirmed() -> None:
    """A disk that takes no reservation means InternalError, and the next try is a call like any other."""
    station = Station(transaction_ids=iter([JournalFull("no space for transaction ids"), 7]))
    refused = station.calls("StartTransaction", START)
    assert isinstance(refused, Answer)
    assert ("InternalError", "not_durable") == (refusal_of(refused)[1], refused.reason)
    assert b'"transactionId":7' in (station.appends("StartTransaction", START).answer or b"")
