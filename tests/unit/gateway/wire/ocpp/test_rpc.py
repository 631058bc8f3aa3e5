"""What a frame is, and what is answered to one that is none."""

import msgspec
import pytest

from gateway.core.limits import OCPP_ERROR_DESCRIPTION_CHARS_MAX, OCPP_NESTING_MAX
from gateway.wire.ocpp.rpc import (
    FRAME_REASONS,
    Call,
    CallError,
    CallResult,
    CallResultError,
    FrameFault,
    MessageType,
    RpcCode,
    Send,
    encode_call,
    encode_error,
    encode_result,
    parse,
    spell,
)
from gateway.wire.ocpp.versions import Version

V16, V201, V21 = Version.V16, Version.V201, Version.V21


def fault_of(frame: bytes, version: Version) -> tuple[object, str, str]:
    """Return whom a broken frame is answered to, with which word of the version, and what it is counted under."""
    with pytest.raises(FrameFault) as caught:
        parse(frame, version)
    fault = caught.value
    assert fault.reason in FRAME_REASONS
    return fault.message_id, spell(fault.rpc_code, version), fault.reason


def nested(levels: int) -> bytes:
    """Return a CALL whose frame has that many levels."""
    inner = levels - 1
    return b'[2,"m","A",' + b'{"a":' * (inner - 1) + b"{}" + b"}" * (inner - 1) + b"]"


@pytest.mark.parametrize("version", list(Version))
def test_each_message_type_is_read(version: Version) -> None:
    """CALL, CALLRESULT and CALLERROR exist in every version; the payload stays as it stands in the frame."""
    assert Call("m", "Heartbeat", b'{ "a":1 }') == parse(b' [ 2 , "m" , "Heartbeat" , { "a":1 } ] ', version)
    assert CallResult("m", b"{}") == parse(b'[3,"m",{}]', version)
    assert CallError("m", "GenericError", "no", b'{"x":1}') == parse(b'[4,"m","GenericError","no",{"x":1}]', version)


def test_types_5_and_6_exist_in_21_only() -> None:
    """CALLRESULTERROR and SEND are messages of 2.1 and unknown to the others."""
    assert CallResultError("m", "GenericError", "no", b"{}") == parse(b'[5,"m","GenericError","no",{}]', V21)
    assert Send("m", "NotifyPeriodicEventStream", b"{}") == parse(b'[6,"m","NotifyPeriodicEventStream",{}]', V21)
    for frame in (b'[5,"m","GenericError","no",{}]', b'[6,"m","A",{}]', b'[99,"m","A",{}]', b'[-1,"m","A",{}]'):
        assert ("m", "MessageTypeNotSupported", "message_type") == fault_of(frame, V201)
        assert (None, "NotSupported", "message_type") == fault_of(frame, V16)


def test_an_error_without_its_last_elements_is_one_all_the_same() -> None:
    """Stations leave description and details out."""
    assert CallError("m", "InternalError", "", b"{}") == parse(b'[4,"m","InternalError"]', V16)


@pytest.mark.parametrize("frame", [b"", b"}{not json", b"\xef\xbb\xbf[]", b"null", b"{}", b"[]", b'["2"]', b"[2.0]"])
def test_without_an_id_2x_answers_minus_one_and_16_nothing(frame: bytes) -> None:
    """Part 4, section 4.2.3; 1.6 has no id to say it with."""
    for version in (V201, V21):
        assert ("-1", "RpcFrameworkError") == fault_of(frame, version)[:2]
    assert None is fault_of(frame, V16)[0]


@pytest.mark.parametrize("payload", [b'{"a":1,}', b'{"a":', b"{a:1}", b'{"a":01}', b"{'a':1}", b'{"a":NaN}'])
def test_a_payload_that_is_no_json_is_answered_to_the_id_before_it(payload: bytes) -> None:
    """A trailing comma is not JSON in any strictness; the head of the frame can be read all the same."""
    frame = b'[2,"19223201-abc","MeterValues",' + payload + b"]"
    assert ("19223201-abc", "FormatViolation", "bad_json") == fault_of(frame, V201)
    assert ("19223201-abc", "FormationViolation", "bad_json") == fault_of(frame, V16)


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (b'"Heartbeat"', "frame_shape"),
        (b'"Heartbeat",{},{}', "frame_shape"),
        (b"7,{}", "action_type"),
        (b'"Heartbeat","text"', "payload_type"),
        (b'"Heartbeat",[]', "payload_type"),
        (b'"Heartbeat",null', "payload_type"),
    ],
)
def test_a_wrong_shape_is_a_protocol_error_of_its_id(rest: bytes, reason: str) -> None:
    """The id is readable, so the station learns which of its calls it was."""
    for version in Version:
        assert ("m", "ProtocolError", reason) == fault_of(b'[2,"m",' + rest + b"]", version)


def test_an_integer_id_is_refused_and_sent_back_as_it_came() -> None:
    """A station that numbers its calls would not find a text among them."""
    for version in Version:
        assert (12345, "ProtocolError", "message_id") == fault_of(b'[2,12345,"Heartbeat",{}]', version)
    refusal = encode_error(12345, RpcCode.PROTOCOL_ERROR, "no", version=V16)
    assert b'[4,12345,"ProtocolError","no",{}]' == refusal


@pytest.mark.parametrize("message_id", [b"true", b"null", b"1.5", b"[]", b"{}", b'"' + b"x" * 145 + b'"', b"9" * 30])
def test_an_id_that_cannot_be_sent_back_is_none(message_id: bytes) -> None:
    """Neither text nor integer, or endless."""
    frame = b"[2," + message_id + b',"Heartbeat",{}]'
    assert ("-1", "RpcFrameworkError", "message_id") == fault_of(frame, V21)
    assert (None, "ProtocolError", "message_id") == fault_of(frame, V16)


def test_an_id_of_four_times_the_limit_is_read() -> None:
    """It is only sent back; strict sessions refuse it themselves."""
    message_id = "x" * 144
    assert Call(message_id, "A", b"{}") == parse(encode_call(message_id, "A", b"{}"), V16)


@pytest.mark.parametrize("frame", [b'[3,"m"]', b'[3,"m",[]]', b'[3,"m",{]', b'[4,"m"]', b'[4,"m",5]', b'[3,"m",{},1]'])
def test_a_broken_answer_is_never_answered(frame: bytes) -> None:
    """It says which call of ours it was to answer, so that nobody waits for it any longer."""
    for version in Version:
        with pytest.raises(FrameFault) as caught:
            parse(frame, version)
        assert (None, "m") == (caught.value.message_id, caught.value.answers)


@pytest.mark.parametrize("frame", [b'[6,"m","A"]', b'[6,1,"A",{}]', b'[6,"m","A",{,}]', b"[6]"])
def test_a_broken_send_is_never_answered(frame: bytes) -> None:
    """SEND has no answer, not even a refusal."""
    assert None is fault_of(frame, V21)[0]


def test_nesting_is_bounded_exactly() -> None:
    """The deepest allowed passes, one more does not, and neither does a bomb that would exhaust the stack."""
    assert isinstance(parse(nested(OCPP_NESTING_MAX), V21), Call)
    for levels in (OCPP_NESTING_MAX + 1, 500, 50_000):
        assert ("m", "FormatViolation", "nested_too_deep") == fault_of(nested(levels), V21)
    assert "nested_too_deep" == fault_of(b"[" * 200_000, V16)[2]


def test_many_objects_side_by_side_are_not_deep() -> None:
    """Only levels count, not brackets."""
    payload = msgspec.json.encode({"a": [{} for _ in range(OCPP_NESTING_MAX * 2)]})
    assert Call("m", "A", payload) == parse(encode_call("m", "A", payload), V16)


def test_of_a_name_that_comes_twice_the_last_counts() -> None:
    """The frame is taken; whoever decodes it sees the same value as whoever checked it."""
    call = parse(b'[2,"m","A",{"a":1,"a":2}]', V16)
    assert isinstance(call, Call)
    assert {"a": 2} == msgspec.json.decode(call.payload)


def test_16_spells_its_own_way() -> None:
    """Both misspellings of the 1.6 specification, and the spelling of 2.x."""
    assert "FormationViolation" == spell(RpcCode.FORMAT_VIOLATION, V16)
    assert "OccurenceConstraintViolation" == spell(RpcCode.OCCURRENCE_CONSTRAINT, V16)
    for version in (V201, V21):
        assert "FormatViolation" == spell(RpcCode.FORMAT_VIOLATION, version)
        assert "OccurrenceConstraintViolation" == spell(RpcCode.OCCURRENCE_CONSTRAINT, version)


def test_every_code_of_16_is_in_its_table() -> None:
    """OCPP-J 1.6, section 4.2.3: nothing else may be sent to a 1.6 station."""
    words = (
        "NotImplemented NotSupported InternalError ProtocolError SecurityError FormationViolation GenericError "
        "PropertyConstraintViolation OccurenceConstraintViolation TypeConstraintViolation"
    )
    assert set(words.split()) == {spell(code, V16) for code in RpcCode}


def test_what_is_written_is_read_back() -> None:
    """Ids, actions and texts that need escapes survive."""
    odd = 'a"b\\c\u00e9'
    assert Call(odd, odd, b'{"a":1}') == parse(encode_call(odd, odd, b'{"a":1}'), V16)
    assert CallResult(odd, b"{}") == parse(encode_result(odd, b"{}"), V16)
    error = encode_error(odd, RpcCode.GENERIC_ERROR, "x", version=V21, message_type=MessageType.CALLRESULTERROR)
    assert CallResultError(odd, "GenericError", "x", b"{}") == parse(error, V21)


def test_a_description_is_inert_and_of_the_specified_length() -> None:
    """What a peer sent may stand in it, and escapes make it longer."""
    frame = encode_error("m", RpcCode.GENERIC_ERROR, "\x1b[31m\n" * 200, version=V16)
    description = msgspec.json.decode(frame)[3]
    assert description.isprintable()
    assert len(description) <= OCPP_ERROR_DESCRIPTION_CHARS_MAX
