"""What the records of all versions have in common: the record itself, tolerant values, and the rows of a meter.

A record is one row to be of a stream `charger_status`, `charger_meter` or `charger_transaction`: fields by the names of
its contract, absent where the message says nothing, and its time as sent. What is not as the standard has it is
understood where it can be, and flagged; the frame itself stays in the journal.

    text_as_number    text that came as a number                number_as_text    a number that came as text
    unreadable_value  no number, where there should be one      no_transaction    an id that stands for none, or no id
    clock_absent      no time where the standard has one        detail_cut        more JSON than a column takes
    unknown_context, unknown_measurand, unknown_unit, unknown_phase, unknown_location
"""

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from typing import Any, Final

import msgspec

from gateway.core.limits import DETAIL_CHARS_MAX
from gateway.core.text import peer_text
from gateway.wire.ocpp.measurands import CONTEXTS, DEFAULT_CONTEXT, Measurands
from gateway.wire.ocpp.versions import Version

STATUS: Final = "charger_status"
METER: Final = "charger_meter"
TRANSACTION: Final = "charger_transaction"
STREAMS: Final = (STATUS, METER, TRANSACTION)

TEXT_AS_NUMBER: Final = "text_as_number"
NUMBER_AS_TEXT: Final = "number_as_text"
UNREADABLE_VALUE: Final = "unreadable_value"
UNKNOWN_CONTEXT: Final = "unknown_context"
NO_TRANSACTION: Final = "no_transaction"
CLOCK_ABSENT: Final = "clock_absent"
DETAIL_CUT: Final = "detail_cut"

CHARGER: Final = "0"
"""Connector that stands for the charger itself."""

VERSION_TEXTS: Final = {Version.V16: "1.6", Version.V201: "2.0.1", Version.V21: "2.1"}

_INT64_MAX: Final = 2**63 - 1
_DIGITS_MAX: Final = 40
"""Longer text is no number of 64 bits, however many zeros it begins with."""
_MULTIPLIER_MAX: Final = 24
"""Powers of ten beyond this are no prefix of any unit."""

Scalar = str | int | float | None
"""What a number or a text may arrive as."""
Value = str | int | float | bool | None
Flags = set[str]


class RecordFault(Exception):  # a fault of the peer's frame that ends in a reject, not an error of ours
    """A frame of the right types that is no record all the same; carries the reject's code and words."""

    def __init__(self, code: str, *, path: str, expected: str, got: str) -> None:
        super().__init__(code, path, expected, got)
        self.code, self.path, self.expected, self.got = code, path, expected, got


class Record(msgspec.Struct, gc=False):
    """One row to be.

    Attributes:
        stream: One of STREAMS.
        measured_at: Time as sent; None counts as the time of receipt.
        fields: Columns of the stream's contract.
        flags: What was not as the standard has it.
    """

    stream: str
    measured_at: str | None
    fields: dict[str, Value]
    flags: Flags


class Sample(msgspec.Struct, gc=False, omit_defaults=True):
    """A sampled value of any version."""

    value: Scalar = None
    context: str | None = None
    format: str | None = None
    measurand: str | None = None
    phase: str | None = None
    location: str | None = None
    unit: str | None = None
    unitOfMeasure: "UnitOfMeasure | None" = None  # noqa: N815 - the standard's name
    signedMeterValue: Any = None  # noqa: N815 - the standard's name


class UnitOfMeasure(msgspec.Struct, gc=False, omit_defaults=True):
    """Unit of a sampled value of 2.x; the value times ten to the multiplier is in it."""

    unit: str | None = None
    multiplier: Scalar = None


class MeterValue(msgspec.Struct, gc=False):
    """Sampled values of one time."""

    timestamp: Scalar = None
    sampledValue: list[Sample] = []  # noqa: N815 - the standard's name


# ---- values that may arrive in the wrong type ------------------------------------------------------------------------


def as_text(value: object, flags: Flags) -> str | None:
    """Return text; a number is written out and flagged, anything else becomes JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        flags.add(TEXT_AS_NUMBER)
        return str(value)
    return as_json(value, flags)


def as_whole(value: object, flags: Flags) -> int | None:
    """Return a whole number of 64 bits; text is read and flagged, what cannot be read is flagged and None."""
    if type(value) is int:
        whole = value
    elif isinstance(value, str) and value.strip().lstrip("+-").isdecimal() and len(value) <= _DIGITS_MAX:
        flags.add(NUMBER_AS_TEXT)
        whole = int(value)
    elif isinstance(value, float) and value.is_integer():
        whole = int(value)
    else:
        if value is not None:
            flags.add(UNREADABLE_VALUE)
        return None
    if -_INT64_MAX - 1 <= whole <= _INT64_MAX:
        return whole
    flags.add(UNREADABLE_VALUE)
    return None


def as_number(value: Value, flags: Flags) -> float | None:
    """Return a finite number; text is read and flagged, what cannot be read is flagged and None."""
    if isinstance(value, str):
        flags.add(NUMBER_AS_TEXT)
    number = read_number(value)
    if number is None and value is not None:
        flags.add(UNREADABLE_VALUE)
    return number


def read_number(value: Value) -> float | None:
    """Return the finite number that a value or its text is, or None."""
    if value is None:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    # Python reads 1_000 as a number; nobody else does.
    return None if not isfinite(number) or (type(value) is str and "_" in value) else number


def as_time(value: Scalar) -> str | None:
    """Return a time as text; one that is a number becomes text that is no time."""
    return value if value is None or isinstance(value, str) else str(value)


def as_json(value: object, flags: Flags) -> str:
    """Return compact JSON, cut where it is longer than a column takes."""
    text = msgspec.json.encode(value).decode()
    if len(text) <= DETAIL_CHARS_MAX:
        return text
    flags.add(DETAIL_CUT)
    return text[:DETAIL_CHARS_MAX]


# ---- meter values ----------------------------------------------------------------------------------------------------


class MeterReader:
    """Makes meter rows of one version's sampled values."""

    def __init__(self, version: Version) -> None:
        """Lay out the measurands of the version."""
        self._places = Measurands(version)
        self._value_is_text = version is Version.V16

    def records(
        self, values: Sequence[MeterValue], base: Mapping[str, Value], base_flags: Collection[str] = ()
    ) -> list[Record]:
        """Return a record for each time and context in which something was sampled.

        Args:
            values: Meter values in the order of the message.
            base: Fields that all rows begin with.
            base_flags: Flags of all rows.
        """
        records: list[Record] = []
        for element in values:
            rows: dict[str, _Row] = {}
            row: _Row | None = None
            for sample in element.sampledValue:
                context = sample.context or DEFAULT_CONTEXT
                if row is None or context != row.context:
                    row = rows.get(context)
                    if row is None:
                        row = rows[context] = _Row(base, context, base_flags)
                self._add(row, sample)
            measured_at = as_time(element.timestamp)
            for row in rows.values():
                records.append(row.record(measured_at))
        return records

    def _add(self, row: "_Row", sample: Sample) -> None:
        """Put one sampled value where it belongs."""
        unit, power = sample.unit, 0
        measure = sample.unitOfMeasure
        if measure is not None:
            unit = measure.unit
            if measure.multiplier:
                power = as_whole(measure.multiplier, row.flags) or 0
        column, convert, line, total, flags = self._places[sample.measurand, sample.phase, sample.location, unit]
        if flags:
            row.flags.update(flags)
        value = sample.value
        if sample.format == "SignedData" or (column is None and line is None):
            row.other.append(sample)
            return
        if value is not None and isinstance(value, str) is not self._value_is_text:
            row.flags.add(TEXT_AS_NUMBER if self._value_is_text else NUMBER_AS_TEXT)
        number = read_number(value)
        if number is not None and power:
            number = _scaled(number, power)
        if number is None:
            row.flags.add(UNREADABLE_VALUE)
            row.other.append(sample)
            return
        if convert is not None:
            number = convert(number)
        if column is not None and column not in row.fields:
            row.fields[column] = number
            if sample.signedMeterValue is None:
                return
        elif line is not None and total is not None:
            row.lines.setdefault(total, {}).setdefault(line, number)
        row.other.append(sample)


def _scaled(number: float, power: int) -> float | None:
    """Return the number times ten to `power`, None where that is no prefix of a unit."""
    if abs(power) > _MULTIPLIER_MAX:
        return None
    return round(number * float(10**power), 9) if power > 0 else number / float(10**-power)


class _Row:
    """A meter row while its sampled values are put in place."""

    __slots__ = ("context", "fields", "flags", "lines", "other")

    def __init__(self, base: Mapping[str, Value], context: str, flags: Collection[str]) -> None:
        self.context = context
        self.fields = {**base, "context": context}
        self.flags = set(flags)
        self.lines: dict[str, dict[str, float]] = {}
        self.other: list[Sample] = []
        if context not in CONTEXTS:
            self.flags.add(UNKNOWN_CONTEXT)

    def record(self, measured_at: str | None) -> Record:
        fields = self.fields
        for total, lines in self.lines.items():
            # One or two phases may be all there are or some of them; only three are certain to be the whole.
            if total not in fields and len(lines) == len(_LINES):
                fields[total] = sum(lines[line] for line in _LINES)
        if self.other:
            fields["other"] = as_json(self.other, self.flags)
        if measured_at is None:
            self.flags.add(CLOCK_ABSENT)
        return Record(METER, measured_at, fields, self.flags)


_LINES: Final = ("L1", "L2", "L3")


# ---- messages that are told by a table -------------------------------------------------------------------------------


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """How a message becomes one record of `charger_status`.

    Attributes:
        kind: Its kind.
        columns: Dotted place in the payload -> column; what is left over becomes `detail`.
        time: Place of its time, None where the standard has none.
        is_time_required: Whether the standard demands it.
    """

    kind: str
    columns: Mapping[str, str] = {}
    time: str | None = None
    is_time_required: bool = False


_WHOLE_COLUMNS: Final = frozenset({"request_id", "generation"})


def notice_record(notice: Notice, base: Mapping[str, Value], payload: dict[str, Any], flags: Flags) -> Record:
    """Return the record of a message.

    Args:
        notice: How to read it.
        base: Fields the record begins with.
        payload: The payload, taken apart on the way.
        flags: Flags found so far; they become the record's.
    """
    fields: dict[str, Value] = {**base, "kind": notice.kind}
    for place, column in notice.columns.items():
        value = take(payload, place)
        if value is None or value == "":
            continue
        fields[column] = as_whole(value, flags) if column in _WHOLE_COLUMNS else as_text(value, flags)
    measured_at = None
    if notice.time is not None:
        sent = take(payload, notice.time)
        measured_at = sent if sent is None or isinstance(sent, str) else peer_text(str(sent))
        if measured_at is None and notice.is_time_required:
            flags.add(CLOCK_ABSENT)
    rest = {key: value for key, value in payload.items() if value not in (None, "", {}, [])}
    if rest:
        fields["detail"] = as_json(rest, flags)
    return Record(STATUS, measured_at, fields, flags)


def take(payload: dict[str, Any], place: str) -> Any:
    """Remove and return the value at a dotted place, None if it is not there."""
    first, _, rest = place.partition(".")
    if not rest:
        return payload.pop(first, None)
    inner = payload.get(first)
    return take(inner, rest) if isinstance(inner, dict) else None


# ---- frames ----------------------------------------------------------------------------------------------------------

CALL: Final = 2
RESULT: Final = 3
SEND: Final = 6


class NoticeFrame(msgspec.Struct, array_like=True):
    """A CALL or SEND whose payload is told by a table."""

    kind: int
    message_id: str
    action: str
    payload: dict[str, Any]


def check_kind(kind: int, expected: tuple[int, ...] = (CALL, SEND)) -> None:
    """Raise RecordFault for a frame that is no message of its channel."""
    if kind not in expected:
        words = " or ".join(map(str, expected))
        raise RecordFault("type", path="$[0]", expected=f"message type {words}", got=str(kind))


# ---- what the gateway saw --------------------------------------------------------------------------------------------

_SEEN: Final = {
    kind: Notice(kind=kind, columns={"reason": "reason", "address": "address", "generation": "generation"})
    for kind in ("connected", "disconnected", "security")
}
_SEEN_PAYLOAD: Final = msgspec.json.Decoder(dict[str, Any])


def read_connection(event: str, payload: bytes) -> list[Record]:
    """Return the record of what the gateway wrote on channel `ocpp/connected`, `ocpp/disconnected`, `ocpp/security`.

    Raises: msgspec.DecodeError, UnicodeDecodeError, RecursionError: It is no JSON object.
    """
    said, flags = _SEEN_PAYLOAD.decode(payload), Flags()
    version, name = said.pop("version", None), said.pop("event", None)
    base: dict[str, Value] = {"connector": CHARGER}
    if isinstance(version, str) and version:
        base["ocpp_version"] = version.removeprefix("ocpp")
    if event == "security":
        base["security_event"] = as_text(name, flags)
    return [notice_record(_SEEN[event], base, said, flags)]
