"""OCPP-J frames: what a text message is, and how one is written.

Owns the shape of the array around a payload (OCPP-J 1.6 section 4, OCPP 2.0.1 and 2.1 part 4 section 4) and the error
codes of each version. Refuses to know actions and schemas. The caller bounds the size of a frame.

Where a name comes twice in an object the last one counts, here as in everything that reads the journal; RFC 8259 leaves
it open, and what was checked must be what is recorded.
"""

import re
from collections.abc import Iterable, Mapping
from enum import IntEnum, StrEnum
from typing import Annotated, Final, TypeGuard

import msgspec

from gateway.core.errors import ProtocolViolation
from gateway.core.limits import (
    OCPP_ERROR_DESCRIPTION_CHARS_MAX,
    OCPP_MESSAGE_ID_CHARS_MAX,
    OCPP_NESTING_MAX,
    OCPP_TEXT_STRETCH_MAX,
)
from gateway.core.text import peer_text
from gateway.wire.ocpp.versions import Version

MESSAGE_ID_CHARS_LENIENT_MAX: Final = OCPP_MESSAGE_ID_CHARS_MAX * OCPP_TEXT_STRETCH_MAX
"""`parse` takes longer ids than the specification, because an id is only sent back; a strict session refuses them."""


class MessageType(IntEnum):
    """First element of a frame. The last two exist in 2.1 only."""

    CALL = 2
    CALLRESULT = 3
    CALLERROR = 4
    CALLRESULTERROR = 5
    SEND = 6


class RpcCode(StrEnum):
    """Error codes of a CALLERROR as 2.x spells them; `spell` gives a version's own word."""

    NOT_IMPLEMENTED = "NotImplemented"
    NOT_SUPPORTED = "NotSupported"
    INTERNAL_ERROR = "InternalError"
    PROTOCOL_ERROR = "ProtocolError"
    SECURITY_ERROR = "SecurityError"
    FORMAT_VIOLATION = "FormatViolation"
    PROPERTY_CONSTRAINT = "PropertyConstraintViolation"
    OCCURRENCE_CONSTRAINT = "OccurrenceConstraintViolation"
    TYPE_CONSTRAINT = "TypeConstraintViolation"
    GENERIC_ERROR = "GenericError"
    MESSAGE_TYPE_NOT_SUPPORTED = "MessageTypeNotSupported"
    RPC_FRAMEWORK_ERROR = "RpcFrameworkError"


_SPELLING_16: Final[Mapping[RpcCode, str]] = {
    # OCPP-J 1.6 section 4.2.3, with its own spelling of both words.
    RpcCode.FORMAT_VIOLATION: "FormationViolation",
    RpcCode.OCCURRENCE_CONSTRAINT: "OccurenceConstraintViolation",
    # 1.6 has no word for the frame itself.
    RpcCode.MESSAGE_TYPE_NOT_SUPPORTED: "NotSupported",
    RpcCode.RPC_FRAMEWORK_ERROR: "ProtocolError",
}


def spell(code: RpcCode, version: Version) -> str:
    """Return the code as the version spells it."""
    return _SPELLING_16.get(code, code.value) if version is Version.V16 else code.value


class Call(msgspec.Struct, frozen=True, gc=False):
    """A request. `payload` is the JSON object as it stands in the frame, verbatim.

    Its brackets and commas are checked to be JSON; its strings and numbers are by whoever decodes it.
    """

    message_id: str
    action: str
    payload: bytes


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message of 2.1 that nobody answers."""

    message_id: str
    action: str
    payload: bytes


class CallResult(msgspec.Struct, frozen=True, gc=False):
    """The answer to a CALL."""

    message_id: str
    payload: bytes


class CallError(msgspec.Struct, frozen=True, gc=False):
    """The refusal of a CALL. `details` is a JSON object as it stands in the frame."""

    message_id: str
    code: str
    description: str
    details: bytes


class CallResultError(msgspec.Struct, frozen=True, gc=False):
    """The refusal of a CALLRESULT (2.1)."""

    message_id: str
    code: str
    description: str
    details: bytes


Message = Call | Send | CallResult | CallError | CallResultError


class FrameFault(ProtocolViolation):
    """A frame that is not an OCPP-J message of its version.

    Args:
        message_id: Id for the CALLERROR to the sender, "-1" where 2.x wants one without; an integer where the sender
            wrote one, so that it can find its call; None: nothing may be sent, because the version has no answer for it
            or because an answer is never answered.
        rpc_code: Code for the CALLERROR.
        description: What is wrong, printable and short enough for the CALLERROR.
        reason: Word under which it is counted, one of `FRAME_REASONS`.
        answers: Id of the call of ours that this broken frame answers, or None.
    """

    def __init__(
        self, message_id: str | int | None, rpc_code: RpcCode, description: str, reason: str, answers: str | None = None
    ) -> None:
        super().__init__(reason, description)
        self.message_id, self.rpc_code, self.description, self.answers = message_id, rpc_code, description, answers


FRAME_REASONS: Final = frozenset(
    {"bad_json", "nested_too_deep", "frame_shape", "message_type", "message_id", "action_type", "payload_type"}
)


_MessageId = Annotated[str, msgspec.Meta(max_length=MESSAGE_ID_CHARS_LENIENT_MAX)]


class _Request(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """CALL and SEND."""

    message_type: int
    message_id: _MessageId
    action: str
    payload: msgspec.Raw


class _Result(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """CALLRESULT."""

    message_type: int
    message_id: _MessageId
    payload: msgspec.Raw


class _Error(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """CALLERROR and CALLRESULTERROR; stations leave the last two out, and an error without them is one all the same."""

    message_type: int
    message_id: _MessageId
    code: str
    description: str = ""
    details: msgspec.Raw = msgspec.Raw(b"{}")


_REQUEST: Final = msgspec.json.Decoder(_Request)
_RESULT: Final = msgspec.json.Decoder(_Result)
_ERROR: Final = msgspec.json.Decoder(_Error)
_ANY: Final = msgspec.json.Decoder()
NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes; RecursionError comes at some hundred levels of nesting."""

_TYPE: Final = re.compile(rb"\s*\[\s*([2-6])\s*,")
_HEAD: Final = re.compile(
    rb'\s*\[\s*([2-6])\s*,\s*"([ !#-\[\]-~]{1,%d})"\s*,' % MESSAGE_ID_CHARS_LENIENT_MAX  # nothing escaped
)
_TYPES: Final[Mapping[Version, frozenset[int]]] = {
    Version.V16: frozenset({2, 3, 4}),
    Version.V201: frozenset({2, 3, 4}),
    Version.V21: frozenset({2, 3, 4, 5, 6}),
}
_NO_ID: Final[Mapping[Version, str | None]] = {Version.V16: None, Version.V201: "-1", Version.V21: "-1"}
"""Where no id can be read: 1.6 has no answer, 2.x answers with "-1" (part 4, section 4.2.3)."""
_ANSWERS: Final = frozenset({MessageType.CALLRESULT, MessageType.CALLERROR, MessageType.CALLRESULTERROR})


def parse(frame: bytes, version: Version) -> Message:
    """Return the message of a text frame.

    Raises: FrameFault: It is none; the fault says whether and what to answer.
    """
    start = _TYPE.match(frame)
    message_type = int(start[1]) if start else 0
    if message_type not in _TYPES[version]:
        raise _diagnose(frame, version)
    if frame.count(b"{") + frame.count(b"[") > OCPP_NESTING_MAX:
        _check_nesting(frame, version)
    try:
        message = _read(frame, message_type)
    except NOT_JSON:
        message = None
    if message is None:
        raise _diagnose(frame, version)
    return message


def _read(frame: bytes, message_type: int) -> Message | None:
    """Return the message, or None where the payload is not an object. Raises one of `NOT_JSON` where it is no such."""
    match message_type:
        case MessageType.CALL | MessageType.SEND:
            request = _REQUEST.decode(frame)
            payload = bytes(request.payload)
            message = Call if message_type == MessageType.CALL else Send
            return message(request.message_id, request.action, payload) if payload.startswith(b"{") else None
        case MessageType.CALLRESULT:
            result = _RESULT.decode(frame)
            payload = bytes(result.payload)
            return CallResult(result.message_id, payload) if payload.startswith(b"{") else None
        case _:
            error = _ERROR.decode(frame)
            fault = CallError if message_type == MessageType.CALLERROR else CallResultError
            return fault(error.message_id, error.code, error.description, bytes(error.details))


def _check_nesting(frame: bytes, version: Version) -> None:
    """Refuse a frame whose arrays and objects nest deeper than `OCPP_NESTING_MAX`; what is not JSON passes."""
    try:
        level = [_ANY.decode(frame)]
    except NOT_JSON:
        return
    depth = 0
    while level:
        level = [child for node in level for child in _children(node)]
        depth += 1
        if depth > OCPP_NESTING_MAX:
            raise _unreadable(frame, version, f"nested deeper than {OCPP_NESTING_MAX} levels", "nested_too_deep")


def _children(node: object) -> Iterable[object]:
    """Return those of a node's values that are arrays and objects."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [value for value in values if isinstance(value, dict | list)]


def _diagnose(frame: bytes, version: Version) -> FrameFault:
    """Return what is wrong with a frame that could not be read."""
    try:
        value = _ANY.decode(frame)
    except RecursionError:
        return _unreadable(frame, version, f"nested deeper than {OCPP_NESTING_MAX} levels", "nested_too_deep")
    except NOT_JSON as error:
        return _unreadable(frame, version, f"not JSON: {error}", "bad_json")
    if not isinstance(value, list) or not value or type(value[0]) is not int:
        text = "a message is an array that begins with its type"
        return FrameFault(_NO_ID[version], RpcCode.RPC_FRAMEWORK_ERROR, text, "frame_shape")
    message_type, message_id = value[0], value[1] if len(value) > 1 else None
    read_id = message_id if _is_bearable(message_id) else None
    if message_type not in _TYPES[version]:
        # "When a server receives a message with a Message Type Number not in this list, it SHALL ignore the message
        # payload" (OCPP-J 1.6, section 4.1.3); 2.x has a code for it.
        to = None if version is Version.V16 else _NO_ID[version] if read_id is None else read_id
        text = f"{version} has no message type {message_type}"
        return FrameFault(to, RpcCode.MESSAGE_TYPE_NOT_SUPPORTED, text, "message_type")
    if message_type in _ANSWERS:
        text = f"an answer of {len(value)} elements that is not [{message_type}, id, ...] of its type"
        answers = read_id if isinstance(read_id, str) else None
        return FrameFault(None, RpcCode.PROTOCOL_ERROR, text, "frame_shape", answers)
    code, text, reason = _diagnose_request(value, read_id)
    to = None if message_type == MessageType.SEND else _NO_ID[version] if read_id is None else read_id
    return FrameFault(to, code, text, reason)


def _diagnose_request(value: list[object], read_id: str | int | None) -> tuple[RpcCode, str, str]:
    """Return code, description and reason for an array that is no CALL or SEND."""
    if read_id is None:
        text = f"the message id must be text of at most {MESSAGE_ID_CHARS_LENIENT_MAX} characters"
        return RpcCode.RPC_FRAMEWORK_ERROR, text, "message_id"
    if isinstance(read_id, int):
        return RpcCode.PROTOCOL_ERROR, f"the message id must be text, not the number {read_id}", "message_id"
    if len(value) != 4:
        return RpcCode.PROTOCOL_ERROR, f"a call has 4 elements, this one has {len(value)}", "frame_shape"
    if not isinstance(value[2], str):
        return RpcCode.PROTOCOL_ERROR, "the action must be text", "action_type"
    return RpcCode.PROTOCOL_ERROR, "the payload must be an object", "payload_type"


def _is_bearable(message_id: object) -> TypeGuard[str | int]:
    """Return whether an id can be sent back: a text that is not endless, or the integer of a station that errs."""
    if isinstance(message_id, str):
        return len(message_id) <= MESSAGE_ID_CHARS_LENIENT_MAX
    return type(message_id) is int and abs(message_id) < 1 << 63


def _unreadable(frame: bytes, version: Version, text: str, reason: str) -> FrameFault:
    """Return the fault of a frame that is not JSON, or not within its bounds; its head may be readable all the same."""
    start, head = _TYPE.match(frame), _HEAD.match(frame)
    message_type = int(start[1]) if start else MessageType.CALL
    message_id = head[2].decode("ascii") if head else None
    code = RpcCode.RPC_FRAMEWORK_ERROR if message_id is None else RpcCode.FORMAT_VIOLATION
    if message_type in _ANSWERS and message_type in _TYPES[version]:
        return FrameFault(None, code, text, reason, message_id)
    to = None if message_type == MessageType.SEND else _NO_ID[version] if message_id is None else message_id
    return FrameFault(to, code, text, reason)


def encode_call(message_id: str, action: str, payload: bytes) -> bytes:
    """Return a CALL; `payload` is a JSON object."""
    return b"[2,%b,%b,%b]" % (_encode(message_id), _encode(action), payload)


def encode_result(message_id: str, payload: bytes) -> bytes:
    """Return a CALLRESULT; `payload` is a JSON object."""
    return b"[3,%b,%b]" % (_encode(message_id), payload)


def encode_error(
    message_id: str | int,
    code: RpcCode,
    description: str,
    *,
    version: Version,
    message_type: MessageType = MessageType.CALLERROR,
) -> bytes:
    """Return a CALLERROR, or a CALLRESULTERROR, with the version's spelling and the description made inert and cut."""
    text = peer_text(description, chars_max=OCPP_ERROR_DESCRIPTION_CHARS_MAX - len("..."))
    text = text[:OCPP_ERROR_DESCRIPTION_CHARS_MAX]  # an escaped character is longer than the one it stands for
    return b"[%d,%b,%b,%b,{}]" % (message_type, _encode(message_id), _encode(spell(code, version)), _encode(text))


_encode: Final = msgspec.json.Encoder().encode
