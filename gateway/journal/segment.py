"""The format of a segment file: frames in, entries out, and what is wrong where. Pure.

A segment is a run of frames without padding. A frame is one group commit (or a part of one that is too long):

    magic "VGJF", version u8, 3 zero bytes, marker u64, base offset u64, entries u32, body bytes u32,
    newest received_at_ns i64, crc32 of the body u32, blake2b-32 of the 44 bytes before     (48 bytes, little endian)
    body: MessagePack [routes, route_index (u32 LE), received_at_ns (i64 LE), payloads]

A segment opens with an empty frame, on disk before anything else, that fixes the marker: 64 random bits which every
frame of the segment repeats. Payloads are verbatim and a hostile device may send one that looks like a frame; after
damage the search for the next frame would take it for one, if the device could know the marker. The opening frame's
time is the newest `received_at_ns` of the segment before, so retention reads 48 bytes per segment.

The header's check is no crc32 on purpose: bytes followed by their own crc32 are neutral to a crc32 over them, so that a
header in the place of a payload that looks like one would leave the body's checksum as it was.

This module refuses to know files, threads and clocks.
"""

import mmap
import struct
import sys
import zlib
from array import array
from binascii import crc_hqx
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain, repeat
from typing import Final

import msgspec

from gateway.core.errors import JournalError
from gateway.core.ids import Offset
from gateway.core.limits import FRAME_BYTES_MAX, KIB
from gateway.core.records import EntryBatch, Route

MAGIC: Final = b"VGJF"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sB3xQQIIqI4s")
HEADER_BYTES: Final = HEADER.size
CHECK_BYTES: Final = 4
SYNC_BYTES: Final = 16
"""Magic, version, zeros and marker: how each frame of one segment starts, and what a search after damage looks for."""
ENTRY_BYTES_MAX: Final = FRAME_BYTES_MAX - 64 * KIB
"""Longest payload that fits a frame with its route and columns."""
SUFFIX: Final = ".vgj"
NAME_DIGITS: Final = 20
DURABLE_BITS: Final = 48
"""Offsets that fit the published durable end: at a million entries a second, nine years."""

Body = tuple[list[Route], bytes, bytes, list[bytes]]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Body)

Append = tuple[int, list[Route], list[bytes], Callable[..., None] | None, int]
"""What a writer was handed at once: received_at_ns, routes, payloads, on_durable, payload bytes."""


class Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A frame's header and its place in the file, both in bytes; the header's checksum holds."""

    position: int
    sync: bytes
    base_offset: Offset
    count: int
    body_bytes: int
    newest_at_ns: int
    body_check: int

    @property
    def end(self) -> int:
        """Byte position after the frame."""
        return self.position + HEADER_BYTES + self.body_bytes

    @property
    def end_offset(self) -> Offset:
        """Offset after the frame's last entry."""
        return Offset(self.base_offset + self.count)


class Damage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Bytes `position` to `end` of a segment that are no frame, and why."""

    position: int
    end: int
    why: str


def segment_name(base_offset: Offset) -> str:
    """Return the file name of the segment whose first entry is `base_offset`; names sort as offsets do."""
    return f"{base_offset:0{NAME_DIGITS}d}{SUFFIX}"


def segment_base(name: str) -> Offset | None:
    """Return the base offset in a segment's file name, or None for any other name."""
    digits = name.removesuffix(SUFFIX)
    if len(digits) != NAME_DIGITS or len(name) == NAME_DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    return Offset(int(digits))


def pack_durable(end: Offset) -> bytes:
    """Return the 8 bytes that publish the durable end: 48 bits of offset under 16 bits of check, one aligned word."""
    offset = end.to_bytes(DURABLE_BITS // 8, "little")
    return offset + crc_hqx(offset, 0xFFFF).to_bytes(2, "little")


def unpack_durable(word: bytes) -> Offset | None:
    """Return the published durable end, or None if the bytes are not what a writer published."""
    offset, check = word[:6], word[6:]
    if len(word) != 8 or crc_hqx(offset, 0xFFFF) != int.from_bytes(check, "little"):
        return None
    return Offset(int.from_bytes(offset, "little"))


def gather(base_offset: Offset, appends: Sequence[Append]) -> EntryBatch:
    """Return the appends' entries in columns, in order, first one at `base_offset`.

    A route is looked up by identity first: listeners hand in the same object for each message of a device, and hashing
    an integer costs a quarter of hashing four strings.
    """
    times, route_lists, payload_lists, _, _ = zip(*appends, strict=True)
    routes = list(chain.from_iterable(route_lists))
    payloads = list(chain.from_iterable(payload_lists))
    assert len(routes) == len(payloads), "each payload has its route"
    ids = list(map(id, routes))
    table: dict[Route, int] = {}
    place = {key: table.setdefault(route, len(table)) for key, route in dict(zip(ids, routes, strict=True)).items()}
    return EntryBatch(
        base_offset=base_offset,
        routes=list(table),
        route_index=array("I", list(map(place.__getitem__, ids))),
        received_at_ns=array("q", list(chain.from_iterable(map(repeat, times, map(len, payload_lists))))),
        payloads=payloads,
    )


def opening_frame(base_offset: Offset, *, marker: int, newest_at_ns: int) -> bytes:
    """Return the empty frame that a segment starts with."""
    frame = bytearray(HEADER_BYTES)
    _write_header(frame, 0, marker, base_offset, 0, newest_at_ns)
    return bytes(frame)


def encode_frames(batch: EntryBatch, *, marker: int, buffer: bytearray, at: int = 0) -> None:
    """Write the batch into `buffer` as one frame, or as several where one would pass `FRAME_BYTES_MAX`.

    Args:
        batch: What to write, at least one entry.
        marker: The segment's.
        buffer: Where to; it ends with the last frame. Its memory is reused: fresh pages would cost as much as the copy.
        at: Where in it.

    Raises:
        ValueError: If a single entry does not fit a frame.
    """
    body = (batch.routes, _to_little(batch.route_index), _to_little(batch.received_at_ns), batch.payloads)
    _encoder.encode_into(body, buffer, at + HEADER_BYTES)
    if len(buffer) - at <= FRAME_BYTES_MAX:
        _write_header(buffer, at, marker, batch.base_offset, len(batch), max(batch.received_at_ns))
        return
    if len(batch) == 1:
        raise ValueError(f"an entry of {len(batch.payloads[0])} bytes does not fit a frame of {FRAME_BYTES_MAX}")
    middle = len(batch) // 2
    encode_frames(take(batch, 0, middle), marker=marker, buffer=buffer, at=at)
    encode_frames(take(batch, middle, len(batch)), marker=marker, buffer=buffer, at=len(buffer))


def take(batch: EntryBatch, start: int, stop: int) -> EntryBatch:
    """Return rows `start` to `stop` of the batch, with the routes they use and no others."""
    index = batch.route_index[start:stop]
    place = {old: new for new, old in enumerate(dict.fromkeys(index))}
    return EntryBatch(
        base_offset=Offset(batch.base_offset + start),
        routes=[batch.routes[old] for old in place],
        route_index=array("I", list(map(place.__getitem__, index))),
        received_at_ns=batch.received_at_ns[start:stop],
        payloads=batch.payloads[start:stop],
    )


def parse_header(view: memoryview, position: int, at: int = 0) -> Frame | str:
    """Return the frame whose header stands at `view[at:]`, or why there is none.

    Args:
        view: Bytes of the segment.
        position: Byte position in the file, for the answer.
        at: Where in `view` that position is.
    """
    header = view[at : at + HEADER_BYTES]
    if len(header) < HEADER_BYTES:
        return f"{len(header)} bytes, a frame header has {HEADER_BYTES}"
    magic, version, _, base, count, body_bytes, newest, body_check, check = HEADER.unpack(header)
    if magic != MAGIC or check != _header_check(header[:-CHECK_BYTES]):
        return "no frame header, or one whose checksum does not match"
    if version != VERSION:
        raise JournalError(f"journal format {version}, this program reads {VERSION}; use the release that wrote it")
    if body_bytes > FRAME_BYTES_MAX:
        return f"frame of {body_bytes} bytes, the limit is {FRAME_BYTES_MAX}"
    return Frame(
        position=position,
        sync=bytes(header[:SYNC_BYTES]),
        base_offset=base,
        count=count,
        body_bytes=body_bytes,
        newest_at_ns=newest,
        body_check=body_check,
    )


def why_not(frame: Frame, body: memoryview, *, sync: bytes | None, offset: Offset) -> str | None:
    """Return why the frame may not follow here, or None if it may.

    Args:
        frame: The frame.
        body: Its body, shorter than announced where the file ends.
        sync: First bytes of the segment's frames, None if not known yet.
        offset: Lowest offset that may come.
    """
    if sync is not None and frame.sync != sync:
        return "a frame of another segment"
    if frame.base_offset < offset:
        return f"offset {frame.base_offset}, at least {offset} must follow"
    if len(body) < frame.body_bytes:
        return f"body of {len(body)} bytes, the header says {frame.body_bytes}"
    if zlib.crc32(body) != frame.body_check:
        return "the body's checksum does not match"
    return None


def scan(data: bytes | mmap.mmap, *, base_offset: Offset) -> Iterator[Frame | Damage]:
    """Yield whole frames and the damage between them, in file order; together they cover the data.

    Damage that reaches the end is a torn tail if the segment was being written, else corruption: the caller knows.

    Args:
        data: A segment from its first byte.
        base_offset: The offset its name carries.
    """
    view = memoryview(data)
    position, offset, sync = 0, base_offset, None
    while position < len(view):
        found = _frame_at(view, position, sync=sync, offset=offset)
        if isinstance(found, str):
            end = resync(data, position + 1, sync=sync, offset=offset)
            yield Damage(position=position, end=end, why=found)
            position = end
            continue
        yield found
        position, offset, sync = found.end, found.end_offset, found.sync


def resync(data: bytes | mmap.mmap, position: int, *, sync: bytes | None, offset: Offset) -> int:
    """Return the position of the first whole frame from `position` on, or the length of the data.

    With `sync` unknown (the opening frame itself is damaged) the first whole frame found decides it.
    """
    view = memoryview(data)
    wanted = sync if sync is not None else MAGIC
    at = data.find(wanted, position)
    while at >= 0:
        if not isinstance(_frame_at(view, at, sync=sync, offset=offset), str):
            return at
        at = data.find(wanted, at + 1)
    return len(view)


def decode_frame(frame: Frame, body: memoryview) -> EntryBatch | str:
    """Return the entries of a frame whose checksum holds, or why it is not what this program writes."""
    if frame.count == 0:
        return EntryBatch(
            base_offset=frame.base_offset, routes=[], route_index=array("I"), received_at_ns=array("q"), payloads=[]
        )
    try:
        routes, route_index, received_at_ns, payloads = _decoder.decode(body)
    except msgspec.DecodeError as error:
        return f"the body is not a frame's: {error}"
    if not (len(payloads) == frame.count == len(route_index) // 4 == len(received_at_ns) // 8):
        return f"columns of different length, {frame.count} entries announced"
    index = _from_little("I", route_index)
    if index and max(index) >= len(routes):
        return f"route {max(index)}, the frame has {len(routes)}"
    return EntryBatch(
        base_offset=frame.base_offset,
        routes=routes,
        route_index=index,
        received_at_ns=_from_little("q", received_at_ns),
        payloads=payloads,
    )


def _frame_at(view: memoryview, position: int, *, sync: bytes | None, offset: Offset) -> Frame | str:
    frame = parse_header(view, position, position)
    if isinstance(frame, str):
        return frame
    return why_not(frame, view[position + HEADER_BYTES : frame.end], sync=sync, offset=offset) or frame


def _write_header(buffer: bytearray, at: int, marker: int, base_offset: int, count: int, newest_at_ns: int) -> None:
    with memoryview(buffer) as view:
        body = view[at + HEADER_BYTES :]
        HEADER.pack_into(
            buffer, at, MAGIC, VERSION, marker, base_offset, count, len(body), newest_at_ns, zlib.crc32(body), b""
        )
        body.release()
        check_at = at + HEADER_BYTES - CHECK_BYTES
        view[check_at : check_at + CHECK_BYTES] = _header_check(view[at:check_at])


def _header_check(header: memoryview) -> bytes:
    return blake2b(header, digest_size=CHECK_BYTES).digest()


def _to_little(column: "array[int]") -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def _from_little(typecode: str, column: bytes) -> "array[int]":
    values: array[int] = array(typecode)
    values.frombytes(column)
    if sys.byteorder == "big":
        values.byteswap()
    return values
