"""The frame format: what goes in comes out, and what is not a frame is said to be none."""

from array import array

import pytest

from gateway.core.errors import JournalError
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import EntryBatch, Route
from gateway.journal import segment
from gateway.journal.segment import (
    HEADER_BYTES,
    Append,
    Damage,
    Frame,
    decode_frame,
    encode_frames,
    gather,
    opening_frame,
    pack_durable,
    parse_header,
    scan,
    segment_base,
    segment_name,
    unpack_durable,
)

BUS = Route(TenantId("t"), DeviceId("bus"), "mqtt", Channel("telemetry"))
MARKER = 0x1122334455667788


def append(*payloads: bytes, at: int = 5) -> Append:
    return at, [BUS] * len(payloads), list(payloads), None, 0


def written(*frames: EntryBatch, marker: int = MARKER) -> bytes:
    data = bytearray(opening_frame(Offset(0), marker=marker, newest_at_ns=0))
    for batch in frames:
        encode_frames(batch, marker=marker, buffer=data, at=len(data))
    return bytes(data)


TWO = written(gather(Offset(0), [append(b"one", b"two")]), gather(Offset(2), [append(b"three", at=9)]))


def test_a_segment_name_carries_its_offset_and_sorts() -> None:
    """Twenty digits; anything else is no segment."""
    assert segment_name(Offset(42)) == "00000000000000000042.vgj"
    assert segment_base("00000000000000000042.vgj") == 42
    assert [segment_base(name) for name in ("42.vgj", "00000000000000000042", "0000000000000000004x.vgj", "lock")] == [
        None
    ] * 4


@pytest.mark.parametrize("offset", [0, 1, 2**32, 2**48 - 1])
def test_the_durable_end_survives_its_packing(offset: int) -> None:
    """Eight bytes there and back."""
    assert unpack_durable(pack_durable(Offset(offset))) == offset


@pytest.mark.parametrize("bit", range(64))
def test_a_flipped_bit_in_the_durable_end_is_noticed(bit: int) -> None:
    """Any single flip makes it unreadable, never another offset."""
    word = int.from_bytes(pack_durable(Offset(123456)), "little") ^ 1 << bit
    assert unpack_durable(word.to_bytes(8, "little")) is None


def test_appends_become_columns_in_order() -> None:
    """Equal routes share one place, each entry has its append's time."""
    twin = Route(BUS.tenant, BUS.device_id, BUS.source, BUS.channel)
    other = Route(TenantId("u"), DeviceId("car"), "ocpp", Channel("x"))
    batch = gather(Offset(7), [(1, [BUS, other], [b"a", b"b"], None, 2), (2, [twin], [b"c"], None, 1)])
    assert batch == EntryBatch(
        base_offset=Offset(7),
        routes=[BUS, other],
        route_index=array("I", [0, 1, 0]),
        received_at_ns=array("q", [1, 1, 2]),
        payloads=[b"a", b"b", b"c"],
    )


def test_scan_yields_the_frames_and_their_places() -> None:
    """Opening frame and two frames, back to back, with offsets and newest times."""
    found = list(scan(TWO, base_offset=Offset(0)))
    assert [(f.base_offset, f.count, f.newest_at_ns) for f in found if isinstance(f, Frame)] == [
        (0, 0, 0),
        (0, 2, 5),
        (2, 1, 9),
    ]
    assert [f.end for f in found if isinstance(f, Frame)][-1] == len(TWO)


def test_a_frame_decodes_to_what_was_encoded() -> None:
    """Columns there and back."""
    frame = [f for f in scan(TWO, base_offset=Offset(0)) if isinstance(f, Frame)][1]
    body = memoryview(TWO)[frame.position + HEADER_BYTES : frame.end]
    assert decode_frame(frame, body) == gather(Offset(0), [append(b"one", b"two")])


def test_the_format_stays_readable() -> None:
    """Bytes as the first release writes them; if this fails, VERSION must go up and these must still be read."""
    golden = bytes.fromhex(
        "56474a4601000000887766554433221100000000000000000000000000000000"
        "000000000000000000000000ef149b7e56474a46010000008877665544332211"
        "0000000000000000020000003f00000005000000000000009d17b789cbcad862"
        "949194a174a3627573a46d717474a974656c656d65747279c408000000000000"
        "0000c4100500000000000000050000000000000092c4036f6e65c40374776f"
    )
    assert TWO[: len(golden)] == golden


def test_damage_in_the_middle_is_stepped_over() -> None:
    """What follows a flipped bit is still found."""
    data = bytearray(TWO)
    data[HEADER_BYTES * 2 + 3] ^= 1
    found = list(scan(bytes(data), base_offset=Offset(0)))
    assert [type(f) for f in found] == [Frame, Damage, Frame]
    assert isinstance(found[1], Damage)
    assert (found[1].position, found[1].why) == (HEADER_BYTES, "the body's checksum does not match")


def test_damage_to_the_opening_frame_leaves_the_others() -> None:
    """The marker is learnt from the first whole frame."""
    data = b"\0" * HEADER_BYTES + TWO[HEADER_BYTES:]
    assert [type(f) for f in scan(data, base_offset=Offset(0))] == [Damage, Frame, Frame]


def test_a_payload_that_looks_like_a_frame_is_not_taken_for_one() -> None:
    """A device that sends a whole frame cannot know the marker, so a search after damage passes over it."""
    forged = bytearray()
    encode_frames(gather(Offset(0), [append(b"forged")]), marker=MARKER + 1, buffer=forged)
    data = bytearray(written(gather(Offset(0), [append(bytes(forged))]), gather(Offset(1), [append(b"honest")])))
    data[HEADER_BYTES + 20] ^= 1
    found = list(scan(bytes(data), base_offset=Offset(0)))
    assert [type(f) for f in found] == [Frame, Damage, Frame]
    assert isinstance(found[2], Frame)
    assert found[2].base_offset == 1


def test_an_offset_that_goes_back_is_damage() -> None:
    """A frame from elsewhere with a lower offset is not read twice."""
    data = written(gather(Offset(5), [append(b"x")]), gather(Offset(3), [append(b"y")]))
    found = list(scan(data, base_offset=Offset(0)))
    assert [type(f) for f in found] == [Frame, Frame, Damage]
    assert isinstance(found[2], Damage)
    assert found[2].why == "offset 3, at least 6 must follow"


def test_a_newer_format_is_refused_not_cut() -> None:
    """Bytes of a later release are not damage."""
    header = bytearray(opening_frame(Offset(0), marker=MARKER, newest_at_ns=0))
    header[4] = segment.VERSION + 1
    header[44:] = segment._header_check(memoryview(header)[:44])
    with pytest.raises(JournalError, match="journal format 2, this program reads 1"):
        parse_header(memoryview(header), 0)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ((["x"], b"", b"", []), "not a frame's"),
        (([BUS], b"\0" * 4, b"\0" * 8, [b"a", b"b"]), "different length"),
        (([BUS], b"\1\0\0\0", b"\0" * 8, [b"a"]), "route 1, the frame has 1"),
    ],
)
def test_a_body_that_is_not_a_frames_is_said_to_be_none(body: object, why: str) -> None:
    """A checksum that happens to hold is not believed alone."""
    data = bytearray(HEADER_BYTES)
    segment._encoder.encode_into(body, data, HEADER_BYTES)
    segment._write_header(data, 0, MARKER, 0, 1, 0)
    frame = parse_header(memoryview(data), 0)
    assert isinstance(frame, Frame)
    answer = decode_frame(frame, memoryview(data)[HEADER_BYTES:])
    assert isinstance(answer, str)
    assert why in answer


def test_a_length_past_the_limit_is_no_frame() -> None:
    """A header may hold and still not make a reader allocate gigabytes."""
    header = bytearray(HEADER_BYTES)
    segment.HEADER.pack_into(header, 0, segment.MAGIC, segment.VERSION, MARKER, 0, 1, 2**31, 0, 0, b"")
    header[44:] = segment._header_check(memoryview(header)[:44])
    answer = parse_header(memoryview(header), 0)
    assert isinstance(answer, str)
    assert "limit" in answer
