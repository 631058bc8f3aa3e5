"""What a payload is made of: compression, syntax, and the records inside it. Knows bytes, not contracts.

The first bytes decide. `1f 8b` is gzip and `28 b5 2f fd` zstd: neither can begin a JSON text or a MessagePack map or
array, which begin with `80`..`9f` or `dc`..`df`. Everything else is taken for JSON and has to prove it.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Final

import msgspec
import zstandard

from gateway.core.limits import RECORDS_PER_PAYLOAD_MAX, UNPACKED_BYTES_MAX
from processors.contracts.record_type import Group, Slot

DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything that msgspec raises for bytes that are not what was asked for."""

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest window a zstd decoder must support (RFC 8878, 3.1.1.1.2); a frame that asks for more memory is refused."""
_SPACE: Final = b" \t\r\n"


class Unreadable(Exception):  # a fault of the peer's bytes that ends in a Rejection, not an error of ours
    """A payload, or a part of it, that holds no records; carries the reject's code and words."""

    def __init__(self, code: str, *, expected: str, got: str, path: str = "$") -> None:
        super().__init__(code, expected, got)
        self.code, self.expected, self.got, self.path = code, expected, got, path


def unpack(payload: bytes) -> bytes:
    """Return the payload without its gzip or zstd wrapping, itself if it has none.

    Raises: Unreadable: The wrapping is damaged, or holds more than `UNPACKED_BYTES_MAX`.
    """
    try:
        if payload.startswith(_GZIP):
            unpacked = _gunzip(payload)
        elif payload.startswith(_ZSTD):
            decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
            with decompressor.stream_reader(payload, read_across_frames=True) as reader:
                unpacked = reader.read(UNPACKED_BYTES_MAX + 1)
        else:
            return payload
    except (zlib.error, zstandard.ZstdError) as exc:
        raise Unreadable("encoding", expected="whole gzip or zstd data", got=str(exc)) from exc
    if len(unpacked) > UNPACKED_BYTES_MAX:
        raise Unreadable("encoding", expected=f"at most {UNPACKED_BYTES_MAX} bytes unpacked", got="more")
    return unpacked


def _gunzip(payload: bytes) -> bytes:
    """Unpack all members, as RFC 1952 section 2.2 has it, stopping just past the limit."""
    parts: list[bytes] = []
    room = UNPACKED_BYTES_MAX + 1
    while payload and room > 0:
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(payload, room))
        room -= len(parts[-1])
        if not member.eof and room > 0:
            raise Unreadable("encoding", expected="whole gzip or zstd data", got="the end is missing")
        payload = member.unused_data
    return b"".join(parts)


class Syntax(msgspec.Struct, frozen=True, kw_only=True):
    """JSON or MessagePack: how to decode it, and how to take it apart without understanding the records.

    Attributes:
        name: `json` or `msgpack`; the code of a payload that is not even that.
        decoder: Makes a function from bytes to a value of a type.
        encode: Value to bytes; `msgspec.Raw` inside is kept as it is.
        is_array: Whether an encoded value is an array.
        split: Encoded array -> its encoded elements; raises a `DECODE_ERRORS` error, or Unreadable with `records`.
        array_rows: Upper bound of an array's length, cheap, for elements that are numbers.
        record_rows: Upper bound of an array's length, cheap, for elements that are objects.
    """

    name: str
    decoder: Callable[[Any], Callable[[bytes], Any]]
    encode: Callable[[Any], bytes]
    is_array: Callable[[bytes], bool]
    split: Callable[[bytes], list[bytes]]
    array_rows: Callable[[bytes], int]
    record_rows: Callable[[bytes], int]


def _json_is_array(value: bytes) -> bool:
    return value.lstrip(_SPACE)[:1] == b"["


def _json_split(value: bytes) -> list[bytes]:
    """Split with the standard library's scanner, which says where each element ends and can stop at any.

    Invalid UTF-8 passes through as surrogates, so that it spoils its own element only. `msgspec.Raw` would do the same
    for all elements at once: 16 MiB of `[0,0,0...` are eight million of them.
    """
    text = value.decode("utf-8", "surrogateescape")
    elements: list[bytes] = []
    at = _skip(text, text.index("[") + 1)
    if text[at : at + 1] == "]":
        _json_end(text, at)
        return elements
    while True:
        try:
            _, end = _SCANNER.raw_decode(text, at)
        except json.JSONDecodeError as exc:
            raise msgspec.DecodeError(f"JSON is malformed: {exc.msg} (byte {exc.pos})") from exc
        elements.append(text[at:end].encode("utf-8", "surrogateescape"))
        at = _skip(text, end)
        if text[at : at + 1] == "]":
            _json_end(text, at)
            return elements
        if text[at : at + 1] != ",":
            raise msgspec.DecodeError(f"JSON is malformed: expected ',' or ']' (byte {at})")
        if len(elements) == RECORDS_PER_PAYLOAD_MAX:
            raise too_many_records()
        at = _skip(text, at + 1)


# Numbers stay text: the scanner must find their end, not their value, and the standard library's limit on digits is no
# reason to refuse a neighbour.
_SCANNER: Final = json.JSONDecoder(parse_int=str, parse_float=str)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in {" ", "\t", "\r", "\n"}:
        at += 1
    return at


def _json_end(text: str, at: int) -> None:
    if _skip(text, at + 1) != len(text):
        raise msgspec.DecodeError(f"JSON is malformed: trailing characters (byte {at + 1})")


def _msgpack_is_array(value: bytes) -> bool:
    return 0x90 <= value[0] <= 0x9F or value[0] in {0xDC, 0xDD} if value else False


def _msgpack_rows(value: bytes) -> int:
    match value[:1]:
        case b"\xdc":
            return int.from_bytes(value[1:3], "big")
        case b"\xdd":
            return int.from_bytes(value[1:5], "big")
        case _:
            return 15


def _msgpack_split(value: bytes) -> list[bytes]:
    if _msgpack_rows(value) > RECORDS_PER_PAYLOAD_MAX:
        raise too_many_records()
    return [bytes(raw) for raw in _MSGPACK_RAWS(value)]


_MSGPACK_RAWS: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

JSON: Final = Syntax(
    name="json",
    decoder=lambda kind: msgspec.json.Decoder(kind).decode,
    encode=msgspec.json.encode,
    is_array=_json_is_array,
    split=_json_split,
    array_rows=lambda value: value.count(b",") + 1,
    record_rows=lambda value: value.count(b"{"),
)
MSGPACK: Final = Syntax(
    name="msgpack",
    decoder=lambda kind: msgspec.msgpack.Decoder(kind).decode,
    encode=msgspec.msgpack.encode,
    is_array=_msgpack_is_array,
    split=_msgpack_split,
    array_rows=_msgpack_rows,
    record_rows=_msgpack_rows,
)


def syntax_of(payload: bytes) -> Syntax:
    """Return the syntax an unpacked payload must be in."""
    first = payload[:1]
    return MSGPACK if b"\x80" <= first <= b"\x9f" or b"\xdc" <= first <= b"\xdf" else JSON


def too_many_records() -> Unreadable:
    """Return the fault of a payload with more records than one may have."""
    return Unreadable("records", expected=f"at most {RECORDS_PER_PAYLOAD_MAX} records", got="more")


class ColumnSplitter:
    """Turns an object of arrays into records: the way for payloads whose columns do not decode as a whole."""

    def __init__(self, syntax: Syntax, group: Group) -> None:
        """Prepare for records of `group`."""
        self._syntax = syntax
        self._group = group
        self._keys = syntax.decoder(dict[str, msgspec.Raw])

    def rows(self, payload: bytes) -> int | None:
        """Return an upper bound of the records in a payload of columns, None if it is something else.

        It is columns if the first place of the time holds an array.
        """
        raw = self._first_slot(payload)
        return None if raw is None or not self._syntax.is_array(raw) else self._syntax.array_rows(raw)

    def split(self, payload: bytes) -> list[bytes]:
        """Return the records of a payload of columns, each encoded as an object.

        A value that is no array holds for all records.
        Raises: Unreadable: The arrays differ in length or are too long; or a `DECODE_ERRORS` error.
        """
        raw = self._first_slot(payload)
        assert raw is not None
        rows = len(self._syntax.split(raw))
        return [self._syntax.encode(record) for record in self._records(payload, self._group, rows)]

    def _first_slot(self, payload: bytes) -> bytes | None:
        part: Slot | Group = self._group
        while isinstance(part, Group):
            part = part.parts[0]
        for key in part.path:
            try:
                raw = self._keys(payload).get(key)
            except DECODE_ERRORS:
                return None
            if raw is None:
                return None
            payload = bytes(raw)
        return payload

    def _records(self, payload: bytes, group: Group, rows: int) -> Iterator[dict[str, Any]]:
        found = self._keys(payload)
        columns: dict[str, Iterator[Any]] = {}
        for part in group.parts:
            key = part.path[-1]
            raw = bytes(found[key]) if key in found else None
            if raw is None:
                continue
            if isinstance(part, Group):
                columns[key] = self._records(raw, part, rows)
            elif self._syntax.is_array(raw):
                values = self._syntax.split(raw)
                if len(values) != rows:
                    path = "$." + ".".join(part.path)
                    raise Unreadable("columns", expected=f"{rows} values", got=f"{len(values)} values", path=path)
                columns[key] = map(msgspec.Raw, values)
            else:
                columns[key] = repeat(msgspec.Raw(raw), rows)
        keys = tuple(columns)
        if not keys:
            return repeat({}, rows)
        return (dict(zip(keys, values, strict=True)) for values in zip(*columns.values(), strict=True))
