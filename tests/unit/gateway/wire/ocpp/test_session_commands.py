"""The calls of ours that a station answers."""

import msgspec
import pytest

from gateway.wire.ocpp.commands import CommandStatus
from gateway.wire.ocpp.session import CommandAnswered, Ignored, Repeat, Strictness
from gateway.wire.ocpp.versions import Version
from tests.unit.gateway.wire.ocpp.stations import CALLS, Station

V16, V201, V21 = Version.V16, Version.V201, Version.V21
STRICT, LENIENT = Strictness.STRICT, Strictness.LENIENT
METER = CALLS[V16]["MeterValues"]


def answered(received: object) -> CommandAnswered:
    """Return the answer to a command that a frame was."""
    assert isinstance(received, CommandAnswered), received
    return received


def test_a_result_answers_our_call() -> None:
    """Yes and no by the answer's own words; the payload as it was sent."""
    for word, status in (("Accepted", CommandStatus.ACCEPTED), ("Rejected", CommandStatus.REJECTED)):
        station = Station()
        assert b'[2,"c1","Reset",{"type":"Hard"}]' == station.session.call("c1", "Reset", b'{"type":"Hard"}')
        assert station.session.is_calling
        received = answered(station.says(b'[3,"c1",{ "status":"%b"}]' % word.encode()))
        assert ("c1", None) == (received.message_id, received.reply)
        assert (status, b'{ "status":"%b"}' % word.encode(), "", word) == msgspec.structs.astuple(received.outcome)
        assert not station.session.is_calling


def test_calls_of_both_sides_may_cross() -> None:
    """The station's call comes between ours and its result."""
    station = Station()
    station.session.call("c1", "Reset", b'{"type":"Hard"}')
    station.appends("MeterValues", METER)
    assert station.session.is_calling
    assert CommandStatus.ACCEPTED is answered(station.says(b'[3,"c1",{"status":"Accepted"}]')).outcome.status


def test_both_sides_may_use_the_same_id() -> None:
    """Ids are the caller's own."""
    station = Station()
    station.session.call("m1", "Reset", b'{"type":"Hard"}')
    station.appends("MeterValues", METER)
    answered(station.says(b'[3,"m1",{"status":"Accepted"}]'))
    assert Repeat("m1") == station.calls("MeterValues", METER)


def test_an_error_answers_our_call() -> None:
    """With the station's code and words, made inert."""
    station = Station()
    station.session.call("c1", "Reset", b'{"type":"Hard"}')
    received = answered(station.says(b'[4,"c1","NotSupported","no\\n way",{"x":1}]'))
    expected = (CommandStatus.ERROR, b'{"x":1}', "NotSupported", "no\\n way")
    assert expected == msgspec.structs.astuple(received.outcome)


def test_a_result_that_its_schema_forbids_is_an_error_and_is_kept() -> None:
    """2.1 has a message to tell the station so, the others have not."""
    for version, has_reply in ((V16, False), (V201, False), (V21, True)):
        station = Station(version)
        station.session.call("c1", "ClearCache", b"{}")
        received = answered(station.says(b'[3,"c1",{"status":"Perhaps"}]'))
        outcome = received.outcome
        assert (CommandStatus.ERROR, b'{"status":"Perhaps"}') == (outcome.status, outcome.answer)
        assert "PropertyConstraintViolation" == outcome.error_code
        assert 'ClearCache: /status: expected one of Accepted, Rejected, got "Perhaps"' == outcome.detail
        assert has_reply == (received.reply is not None)
        if received.reply is not None:
            assert [5, "c1", "PropertyConstraintViolation"] == msgspec.json.decode(received.reply)[:3]
        assert {"bad_result": 1} == station.counts


def test_dirt_in_a_result_is_as_lenient_as_in_a_call() -> None:
    """A field of a vendor's own does not turn a yes into an error, except in strict."""
    for strictness, status in ((STRICT, CommandStatus.ERROR), (LENIENT, CommandStatus.ACCEPTED)):
        station = Station(strictness=strictness)
        station.session.call("c1", "Reset", b'{"type":"Hard"}')
        assert status is answered(station.says(b'[3,"c1",{"status":"Accepted","x":1}]')).outcome.status


@pytest.mark.parametrize(
    "frame", [b'[3,"c1"]', b'[3,"c1",[]]', b'[3,"c1",{]', b'[4,"c1"]', b'[3,"c1",{"status":"\xff"}]']
)
def test_a_broken_answer_ends_our_call(frame: bytes) -> None:
    """Nobody waits for a timeout to learn it."""
    station = Station()
    station.session.call("c1", "Reset", b'{"type":"Hard"}')
    assert CommandStatus.ERROR is answered(station.says(frame)).outcome.status
    assert not station.session.is_calling


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b'[3,"other",{}]', "unmatched_result"),
        (b'[4,"other","GenericError","",{}]', "unmatched_error"),
        (b'[4,"-1","GenericError","",{}]', "unmatched_error"),
        (b'[3,"other"]', "frame_shape"),
        (b'[5,"other","GenericError","",{}]', "result_refused"),
    ],
)
def test_an_answer_to_nothing_is_counted_and_no_more(frame: bytes, reason: str) -> None:
    """Our own call goes on waiting."""
    station = Station(V21)
    station.session.call("c1", "ClearCache", b"{}")
    ignored = station.says(frame)
    assert isinstance(ignored, Ignored)
    assert (reason, {reason: 1}) == (ignored.reason, station.counts)
    assert station.session.is_calling


def test_an_abandoned_call_makes_room_and_its_late_result_is_told_once() -> None:
    """After a timeout the next command may go out, and the answer to the first is still known as one."""
    station = Station()
    station.session.call("c1", "Reset", b'{"type":"Hard"}')
    assert "c1" == station.session.abandon_call()
    assert None is station.session.abandon_call()
    station.session.call("c2", "Reset", b'{"type":"Hard"}')
    assert "c1" == answered(station.says(b'[3,"c1",{"status":"Accepted"}]')).message_id
    assert station.session.is_calling
    assert isinstance(station.says(b'[3,"c1",{"status":"Accepted"}]'), Ignored)
    assert "c2" == answered(station.says(b'[3,"c2",{"status":"Accepted"}]')).message_id


def test_a_second_call_while_one_waits_is_an_error_of_ours() -> None:
    """One at a time in each direction."""
    station = Station()
    station.session.call("c1", "Reset", b'{"type":"Hard"}')
    with pytest.raises(AssertionError):
        station.session.call("c2", "Reset", b'{"type":"Hard"}')
