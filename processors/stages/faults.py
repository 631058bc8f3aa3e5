"""Why a record is refused: the decoder's words turned into a code, a path, what was expected and what came."""

import re
from typing import Final

import msgspec

from gateway.core.limits import REJECT_PAYLOAD_BYTES_MAX
from gateway.core.text import peer_text
from processors.contracts.model import Contract, FieldPath
from processors.stages.payloads import Unreadable

STAGE: Final = "decode"

REJECT_CODES: Final = {
    "json": "bytes that should be JSON and are not",
    "msgpack": "bytes that should be MessagePack and are not",
    "encoding": "an encoding that the contract does not name, or damaged or too large compressed data",
    "empty": "a payload without any record",
    "records": "more records than one payload may have",
    "columns": "arrays of different lengths",
    "type": "a value, or the record itself, of another type than the contract's",
    "required": "a required field that is missing or null",
    "time": "a time that is missing, cannot be read, or cannot be meant",
    "identity": "a record that names another device than the one that sent it",
}
"""Every code of this stage, with what it stands for."""


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A record, or a whole payload, that became no reading.

    Attributes:
        offset: Journal offset of its message.
        record: Place inside the message, 0 for a payload that is refused as a whole.
        tenant: Tenant of the device.
        device_id: Device that sent it.
        channel: Channel it came on.
        stage: Which stage refused it.
        code: One of `REJECT_CODES`, or another stage's.
        path: Place inside the record, `$` for all of it.
        expected: What the contract asks for.
        got: What was there, made inert and short.
        payload: The record's own bytes, cut at `REJECT_PAYLOAD_BYTES_MAX`; the whole message is in `raw`.
        received_at_ns: When the gateway received the message.
    """

    offset: int
    record: int
    tenant: str
    device_id: str
    channel: str
    stage: str
    code: str
    path: str
    expected: str
    got: str
    payload: bytes
    received_at_ns: int


class Fault(msgspec.Struct, frozen=True):
    """A rejection before it is known whose: place in the batch, reason, bytes."""

    entry: int
    record: int
    code: str
    path: str
    expected: str
    got: str
    payload: bytes


_MISSING: Final = re.compile(r"Object missing required field `(?P<key>.*?)`(?: - at `\$(?P<at>.*)`)?", re.DOTALL)
_EXPECTED: Final = re.compile(r"Expected (?P<want>.*?)(?:, got (?P<got>.*?))?(?: - at (?P<at>.*))?", re.DOTALL)
_KEY_PLACE: Final = re.compile(r"`key` in `(.*)`")


class FaultReader:
    """Turns exceptions into faults for one contract."""

    def __init__(self, contract: Contract) -> None:
        """Remember which places are the time's, the identity's and the required fields'."""
        self._time = frozenset(map(shown_path, contract.time.paths))
        self._identity = shown_path(contract.identity) if contract.identity else None
        self._required = frozenset(shown_path(field.path) for field in contract.fields if field.required)

    def fault(self, exc: Exception, *, syntax: str, entry: int, record: int, payload: bytes) -> Fault:
        """Return the fault for an exception of the decoder or of `processors.stages.payloads`."""
        code, path, expected, got = self._reason(exc, syntax)
        return Fault(entry, record, code, path, peer_text(expected), peer_text(got), payload[:REJECT_PAYLOAD_BYTES_MAX])

    def _reason(self, exc: Exception, syntax: str) -> tuple[str, str, str, str]:
        text = str(exc)
        match exc:
            case Unreadable():
                return exc.code, exc.path, exc.expected, exc.got
            case RecursionError():
                return syntax, "$", "a record", "nested too deep"
            case UnicodeDecodeError():
                return syntax, "$", "text in UTF-8", exc.reason
            case msgspec.ValidationError():
                return self._invalid(text)
            case _:
                return syntax, "$", syntax, text

    def _invalid(self, text: str) -> tuple[str, str, str, str]:
        missing = _MISSING.fullmatch(text)
        if missing:
            path = f"${missing['at'] or ''}.{missing['key']}"
            return self._code(path, "required"), path, "a value", "nothing"
        expected = _EXPECTED.fullmatch(text)
        if not expected:
            what, _, place = text.partition(" - at ")
            return "type", place.strip("`") or "$", "a value in range", what
        place = (expected["at"] or "`$`").strip("`")
        path = "$" if _KEY_PLACE.search(place) or "`" in place else place
        want, got = expected["want"].replace("`", ""), (expected["got"] or "another value").replace("`", "")
        if got == "None":
            got = "null"  # MessagePack's nil under msgspec's other name for it
        missing_value = got == "null" and path in self._required
        return self._code(path, "required" if missing_value else "type"), path, want, got

    def _code(self, path: str, otherwise: str) -> str:
        if path in self._time:
            return "time"
        return "identity" if path == self._identity else otherwise


def shown_path(path: FieldPath) -> str:
    """Return a path as errors and rejects write it."""
    return "$." + ".".join(path)
