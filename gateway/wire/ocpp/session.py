"""One station's connection as a state machine: frames in, what to do out, no input or output of its own.

Owns the rules of the conversation for all three versions: what may come when, what is checked how strictly, what is
answered at once and what waits for the disk, which call was seen before. Refuses to know sockets, clocks, the journal
and who the station is: the edge asks those and tells the result (`settled`, `failed`, `abandon_call`).
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, assert_never

import msgspec

from gateway.core.errors import JournalError
from gateway.core.ids import Channel
from gateway.core.limits import OCPP_MESSAGE_ID_CHARS_MAX
from gateway.core.ports import Counter
from gateway.core.text import peer_text
from gateway.wire.ocpp.actions import FROM_CENTRAL, SENT_BY_STATION
from gateway.wire.ocpp.answered import AnsweredCalls, AnsweredStations, FirstCall
from gateway.wire.ocpp.answers import Answers
from gateway.wire.ocpp.calls import StationCall, calls_of, plain_calls
from gateway.wire.ocpp.commands import CommandOutcome, CommandStatus, classify, status_words
from gateway.wire.ocpp.events import Answer, Append, CommandAnswered, Ignored, Received, Repeat, Strictness
from gateway.wire.ocpp.rpc import (
    NOT_JSON,
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
from gateway.wire.ocpp.schemas import Schemas, Validator, Violation
from gateway.wire.ocpp.versions import Version

__all__ = [
    "Answer",
    "AnsweredCalls",
    "AnsweredStations",
    "Append",
    "CommandAnswered",
    "Ignored",
    "Received",
    "Repeat",
    "StationSession",
    "Strictness",
]


class State(Enum):
    """Where a connection is."""

    __hash__ = object.__hash__  # it is looked up with every call, and Enum's own runs in Python

    CONNECTED = auto()
    BOOTED = auto()
    CLOSED = auto()


class Event(Enum):
    """What can happen on a connection."""

    __hash__ = object.__hash__

    CALL = auto()
    BOOT = auto()
    ANSWER = auto()
    OUR_CALL = auto()
    END = auto()


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    # No BootNotification after a reconnect is normal, and a Heartbeat may overtake it: everything may come at once.
    State.CONNECTED: {
        Event.CALL: State.CONNECTED,
        Event.BOOT: State.BOOTED,
        Event.ANSWER: State.CONNECTED,
        Event.OUR_CALL: State.CONNECTED,
        Event.END: State.CLOSED,
    },
    State.BOOTED: {
        Event.CALL: State.BOOTED,
        Event.BOOT: State.BOOTED,
        Event.ANSWER: State.BOOTED,
        Event.OUR_CALL: State.BOOTED,
        Event.END: State.CLOSED,
    },
    # What was on its way when the connection ended is ignored and counted; its sender will say it again.
    State.CLOSED: {Event.END: State.CLOSED},
}
"""State and event -> next state; an event that is not in its row is ignored."""

SESSION_REASONS: Final = frozenset(
    {
        "not_implemented",
        "not_supported",
        "long_message_id",
        "not_durable",
        "repeated_call",
        "unmatched_result",
        "unmatched_error",
        "result_refused",
        "bad_result",
        "after_close",
    }
)
"""Words that sessions count under, besides `rpc.FRAME_REASONS` and `schemas.VIOLATION_REASONS`."""


class _Outstanding(msgspec.Struct, frozen=True, gc=False):
    """The CALL of ours that waits for its answer."""

    message_id: str
    action: str


class StationSession:
    """The conversation with one station on one connection.

    Args:
        version: What the handshake agreed on.
        strictness: The station's.
        answers: What we say.
        count: Told every refusal, accepted violation, repeat and ignored message by reason.
        answered: The station's, from `AnsweredStations.of`; without it a resend after a reconnect is a new call.
    """

    __slots__ = (
        "_abandoned",
        "_actions",
        "_answered",
        "_answers",
        "_connection",
        "_count",
        "_outstanding",
        "_owed",
        "_read_plain",
        "_strictness",
        "_version",
        "state",
    )

    def __init__(
        self,
        *,
        version: Version,
        strictness: Strictness,
        answers: Answers,
        count: Counter,
        answered: AnsweredCalls | None = None,
    ) -> None:
        self.state = State.CONNECTED
        self._version = version
        self._strictness = strictness
        self._answers = answers
        self._count = count
        self._answered = AnsweredCalls() if answered is None else answered
        self._connection = self._answered.connect()
        self._actions = calls_of(version)
        self._read_plain = plain_calls(version).read
        self._outstanding: _Outstanding | None = None
        self._abandoned: _Outstanding | None = None
        self._owed: list[str] = []

    # ---- what the station says ---------------------------------------------------------------------------------------

    def receive(self, frame: bytes, *, now_ns: int) -> Received:
        """Take one text frame and return what to do. Never raises, whatever the bytes are."""
        if self.state is State.CLOSED:
            return self._ignore("after_close")
        plain = self._read_plain(frame)
        if plain is not None:
            message_id, name = plain
            first = self._answered.find(message_id, hash(frame))
            if first is not None:
                return self._repeat(message_id, first)
            return self._accept(self._actions[name], message_id, frame, _NO_FIELDS, now_ns)
        try:
            message = parse(frame, self._version)
        except FrameFault as fault:
            return self._take_fault(fault)
        if isinstance(message, Call):
            return self._take_call(message, frame, now_ns)
        match message:
            case CallResult():
                return self._take_result(message)
            case CallError():
                return self._take_error(message)
            case Send():
                return self._take_send(message, frame)
            case CallResultError():
                return self._ignore("result_refused", f"{message.code}: {message.description}")
            case _:
                assert_never(message)

    def _take_call(self, call: Call, frame: bytes, now_ns: int) -> Answer | Append | Repeat:
        message_id = call.message_id
        action = self._actions.get(call.action)
        if action is None:
            return self._refuse_action(call)
        if len(message_id) > OCPP_MESSAGE_ID_CHARS_MAX and self._is_long_id_refused():
            text = f"the message id has {len(message_id)} characters, limit is {OCPP_MESSAGE_ID_CHARS_MAX}"
            return self._refuse(message_id, RpcCode.RPC_FRAMEWORK_ERROR, text, "long_message_id")
        first = self._answered.find(message_id, hash(frame))
        if first is not None:
            return self._repeat(message_id, first)
        try:
            payload = _decode(call.payload)
        except NOT_JSON as error:
            return self._refuse(message_id, RpcCode.FORMAT_VIOLATION, f"not JSON: {error}", "bad_json")
        if not action.validator.is_valid(payload):
            violation = self._judge(action.validator, payload)
            if violation is not None:
                return self._refuse(message_id, violation.code, f"{call.action}: {violation}", violation.reason)
        return self._accept(action, message_id, frame, payload, now_ns)

    def _accept(
        self, action: StationCall, message_id: str, frame: bytes, payload: Mapping[str, object], now_ns: int
    ) -> Answer | Append:
        """Take a new call that is valid, or good enough."""
        try:
            reply = self._answers.reply(self._version, action.name, payload, now_ns=now_ns)
        except JournalError as error:
            # No transaction id could be reserved on disk; the station sends its Start again.
            return self._refuse(message_id, RpcCode.INTERNAL_ERROR, str(error), "not_durable")
        answer = encode_result(message_id, reply.payload)
        if not action.is_kept:
            return Answer(answer)
        self.state = TRANSITIONS[self.state][Event.BOOT if action.is_boot else Event.CALL]
        self._answered.remember(message_id, hash(frame), answer, self._connection)
        return Append(action.channel, frame, answer, reply.channel, message_id)

    def _is_long_id_refused(self) -> bool:
        """Say and count what happens to an id that is longer than the specification's: it is only sent back."""
        if self._strictness is Strictness.STRICT:
            return True
        self._count("long_message_id")
        return False

    def _refuse_action(self, call: Call) -> Answer:
        """Refuse a call that no station may make: "not known", or known and not for us to answer."""
        action = peer_text(call.action)
        if call.action in FROM_CENTRAL[self._version] or call.action in SENT_BY_STATION[self._version]:
            text = f"{action} of {self._version} is no call of a station"
            return self._refuse(call.message_id, RpcCode.NOT_SUPPORTED, text, "not_supported")
        text = f"{self._version} has no action {action}"
        return self._refuse(call.message_id, RpcCode.NOT_IMPLEMENTED, text, "not_implemented")

    def _repeat(self, message_id: str, first: FirstCall) -> Answer | Repeat:
        """Take a call that came before: never a second row, and the answer of the first."""
        self._count("repeated_call")
        if first.is_durable:
            return Answer(first.answer)
        if first.connection != self._connection and message_id not in self._owed:
            self._owed.append(message_id)
        return Repeat(message_id)

    def _take_send(self, send: Send, frame: bytes) -> Append | Ignored:
        """Take a message that has no answer, not even a refusal."""
        action = peer_text(send.action)
        if send.action not in SENT_BY_STATION[self._version]:
            return self._ignore("not_supported", f"{action} of {self._version} is no SEND")
        try:
            payload = _decode(send.payload)
        except NOT_JSON as error:
            return self._ignore("bad_json", f"{action}: not JSON: {error}")
        validator = Schemas.of(self._version).request(send.action)
        if not validator.is_valid(payload):
            violation = self._judge(validator, payload)
            if violation is not None:
                return self._ignore(violation.reason, f"{action}: {violation}")
        self.state = TRANSITIONS[self.state][Event.CALL]
        return Append(Channel(f"{self._version}/{send.action}"), frame, None, None, send.message_id)

    def _judge(self, validator: Validator, payload: object) -> Violation | None:
        """Return why a payload that breaks its schema is refused, or None: it is accepted, and counted."""
        if self._strictness is Strictness.STRICT:
            return validator.violation(payload)
        if self._strictness is Strictness.LENIENT and not validator.is_lenient_valid(payload):
            return validator.lenient_violation(payload)
        self._count(validator.reason(payload))
        return None

    # ---- what the station answers ------------------------------------------------------------------------------------

    def _take_result(self, result: CallResult) -> CommandAnswered | Ignored:
        call = self._answered_call(result.message_id)
        if call is None:
            return self._ignore("unmatched_result", f"no call of ours waits with id {result.message_id}")
        try:
            payload = _decode(result.payload)
        except NOT_JSON as error:
            return self._refuse_result(call, result, RpcCode.FORMAT_VIOLATION, f"not JSON: {error}")
        validator = Schemas.of(self._version).response(call.action)
        if not validator.is_valid(payload):
            violation = self._judge(validator, payload)
            if violation is not None:
                return self._refuse_result(call, result, violation.code, f"{call.action}: {violation}")
        detail = peer_text(", ".join(status_words(payload)))
        outcome = CommandOutcome(status=classify(payload), answer=result.payload, detail=detail)
        return CommandAnswered(call.message_id, outcome)

    def _refuse_result(self, call: _Outstanding, result: CallResult, code: RpcCode, text: str) -> CommandAnswered:
        """Make an error of an answer that its schema forbids; 2.1 can tell the station so."""
        self._count("bad_result")
        reply = None
        if self._version is Version.V21:
            kind = MessageType.CALLRESULTERROR
            reply = encode_error(call.message_id, code, text, version=self._version, message_type=kind)
        error_code, detail = spell(code, self._version), peer_text(text)
        status = CommandStatus.ERROR
        outcome = CommandOutcome(status=status, answer=result.payload, error_code=error_code, detail=detail)
        return CommandAnswered(call.message_id, outcome, reply)

    def _take_error(self, error: CallError) -> CommandAnswered | Ignored:
        call = self._answered_call(error.message_id)
        code, detail = peer_text(error.code), peer_text(error.description)
        if call is None:
            return self._ignore(
                "unmatched_error", f"no call of ours waits with id {error.message_id}: {code}: {detail}"
            )
        status = CommandStatus.ERROR
        outcome = CommandOutcome(status=status, answer=error.details, error_code=code, detail=detail)
        return CommandAnswered(call.message_id, outcome)

    def _take_fault(self, fault: FrameFault) -> Answer | CommandAnswered | Ignored:
        """Take a frame that is no message: refuse it, or fail the call of ours that it was to answer."""
        call = None if fault.answers is None else self._answered_call(fault.answers)
        if call is not None:
            self._count(fault.reason)
            code, detail = spell(fault.rpc_code, self._version), peer_text(fault.description)
            outcome = CommandOutcome(status=CommandStatus.ERROR, answer=b"", error_code=code, detail=detail)
            return CommandAnswered(call.message_id, outcome)
        if fault.message_id is None:
            return self._ignore(fault.reason, fault.description)
        return self._refuse(fault.message_id, fault.rpc_code, fault.description, fault.reason)

    def _answered_call(self, message_id: str) -> _Outstanding | None:
        """Return and forget our outstanding call, or the one given up last, if the id is its."""
        late = self._abandoned
        if late is not None and late.message_id == message_id:
            self._abandoned = None
            return late
        call = self._outstanding
        if call is None or call.message_id != message_id:
            return None
        self._outstanding = None
        self.state = TRANSITIONS[self.state][Event.ANSWER]
        return call

    def _refuse(self, message_id: str | int, code: RpcCode, text: str, reason: str) -> Answer:
        self._count(reason)
        return Answer(encode_error(message_id, code, text, version=self._version), reason, peer_text(text))

    def _ignore(self, reason: str, text: str = "") -> Ignored:
        self._count(reason)
        return Ignored(reason, peer_text(text))

    # ---- what the edge tells -----------------------------------------------------------------------------------------

    def settled(self, message_id: str) -> None:
        """Note that an `Append` with an answer is durable, once: a repeat gets the first answer from now on."""
        self._answered.settled(message_id)

    def failed(self, message_id: str) -> bytes:
        """Note that an `Append` is certainly not durable, and return the CALLERROR InternalError for it.

        The call is forgotten, so that its resend is processed. A SEND has no answer: neither `settled` nor `failed`.
        """
        self._answered.failed(message_id)
        text = "the message could not be stored; send it again"
        return encode_error(message_id, RpcCode.INTERNAL_ERROR, text, version=self._version)

    def take_owed(self) -> list[bytes]:
        """Return the answers to repeats of calls that came on an earlier connection and are durable now, once.

        To be asked after entries of the station's earlier connection became durable; without it such a station gets its
        answer with its next resend.
        """
        answers = [self._answered.answer_of(message_id) for message_id in self._owed]
        self._owed = [one for one, answer in zip(self._owed, answers, strict=True) if answer is None]
        return [answer for answer in answers if answer]

    @property
    def is_calling(self) -> bool:
        """Whether a CALL of ours waits for its answer; then `call` must not be used (one at a time)."""
        return self._outstanding is not None

    @property
    def is_booted(self) -> bool:
        """Whether a BootNotification came on this connection. None after a reconnect is normal."""
        return self.state is State.BOOTED

    def call(self, message_id: str, action: str, payload: bytes) -> bytes:
        """Return the frame of our CALL and wait for its answer; `commands.check` has passed the payload."""
        assert self._outstanding is None
        self.state = TRANSITIONS[self.state][Event.OUR_CALL]
        self._outstanding = _Outstanding(message_id, action)
        return encode_call(message_id, action, payload)

    def abandon_call(self) -> str | None:
        """Give our outstanding CALL up (timeout) and return its id. An answer that comes late is still told."""
        call, self._outstanding = self._outstanding, None
        if call is None:
            return None
        self._abandoned = call
        return call.message_id

    def close(self) -> str | None:
        """Note that the connection ended; return the id of our outstanding CALL. What still comes is ignored."""
        self.state = TRANSITIONS[self.state][Event.END]
        self._owed = []
        return self.abandon_call()


_NO_FIELDS: Final[Mapping[str, object]] = {}
"""Stands for the payload of a call whose answer does not depend on it."""

_decode: Final = msgspec.json.Decoder(dict[str, object]).decode
