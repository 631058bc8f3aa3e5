"""What a central system may ask of a station, per version, as one table.

Owns which actions exist, whether a payload fits, and whether an answer means yes. Refuses to know queues, timeouts and
who may ask.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from gateway.core.text import peer_text
from gateway.wire.ocpp.actions import FROM_CENTRAL
from gateway.wire.ocpp.rpc import NOT_JSON, Call, FrameFault, RpcCode, encode_call, parse
from gateway.wire.ocpp.schemas import Schemas, Violation
from gateway.wire.ocpp.versions import Version

COMMANDS: Final[Mapping[Version, frozenset[str]]] = FROM_CENTRAL
"""The actions that a station of a version can be asked for. Their schemas are `Schemas.of(version).request(action)`."""

STATUSES_OF_YES: Final = frozenset(
    {"Accepted", "AcceptedCanceled", "RebootRequired", "Scheduled", "Unlocked", "Unpublished"}
)
"""Status words of an answer that mean: done, or will be without anything more from us. Every other word is a no."""


class CommandStatus(StrEnum):
    """How a command ended, as far as the station said."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ERROR = "error"


class CommandOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a station answered to a command.

    Attributes:
        status: "accepted": yes or scheduled (see `classify`); "rejected": a valid answer that is a no; "error": a
            CALLERROR, an answer that its schema forbids, or no readable answer.
        answer: Payload of the CALLRESULT or details of the CALLERROR, JSON as sent; b"" where the frame was broken.
        error_code: The CALLERROR's code as sent, or ours ("FormatViolation" and the like) for a bad answer, else "".
        detail: The station's status words, the CALLERROR's description, or what is wrong with the answer; printable.
    """

    status: CommandStatus
    answer: bytes
    error_code: str = ""
    detail: str = ""


def check(version: Version, action: str, payload: bytes) -> Violation | None:
    """Return what is wrong with a command before it is sent, or None.

    Args:
        version: The station's version.
        action: Name of the action; one that the version does not have gives reason `unknown_command`.
        payload: JSON of the request. Not an object, or not JSON, gives a violation as well, never an exception.
    """
    if action not in COMMANDS[version]:
        expected = f"a command of {version}"
        return _violation(RpcCode.NOT_IMPLEMENTED, expected, peer_text(action), "unknown_command")
    try:
        message = parse(encode_call("1", action, payload), version)
        fields = msgspec.json.decode(payload)
    except FrameFault as fault:
        return _violation(fault.rpc_code, "an object of JSON", fault.description, fault.reason)
    except NOT_JSON as error:
        return _violation(RpcCode.FORMAT_VIOLATION, "an object of JSON", str(error), "bad_json")
    assert isinstance(message, Call)
    return Schemas.of(version).request(action).violation(fields)


def _violation(code: RpcCode, expected: str, got: str, reason: str) -> Violation:
    return Violation(code=code, path="", expected=expected, got=peer_text(got), reason=reason)


def status_words(answer: Mapping[str, object]) -> list[str]:
    """Return the status words of an answer: its own, or one per item of its lists, or none where it has none."""
    own = answer.get("status")
    if isinstance(own, str):
        return [own]
    items = [item for field in answer.values() if isinstance(field, list) for item in field if isinstance(item, dict)]
    words = [item.get("attributeStatus", item.get("status")) for item in items]
    return [word for word in words if isinstance(word, str)]


def classify(answer: Mapping[str, object]) -> CommandStatus:
    """Return whether the payload of a CALLRESULT means yes or no.

    Yes: its status is one of `STATUSES_OF_YES`; or, of an answer about many variables or monitors, every item's is; or
    it has no status, like that of GetConfiguration or UpdateFirmware.
    """
    words = status_words(answer)
    return CommandStatus.ACCEPTED if STATUSES_OF_YES.issuperset(words) else CommandStatus.REJECTED
