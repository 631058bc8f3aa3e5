"""WebSocket messages: what comes out of frames, what ends a connection, what is compressed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate

from gateway.core.limits import CHARGER_COMPRESS_BYTES_MIN, CHARGER_FRAME_BYTES_MAX
from gateway.edge.ocpp_frames import CloseCode, MessageStream
from tests.unit.gateway.edge.ocpp_bytes import BINARY, CLOSE, CONT, PING, PONG, TEXT, deflate, frame, inflate


def stream(*, deflated: bool = False) -> MessageStream:
    """Return an open stream."""
    extensions: list[Extension] = [PerMessageDeflate(True, True, 12, 12)] if deflated else []
    return MessageStream(extensions)


def out(one: MessageStream) -> bytes:
    """Return what there is to write."""
    return b"".join(one.take_out())


@given(
    messages=st.lists(st.text(max_size=50), max_size=8),
    fragments=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 2000), max_size=10),
)
def test_messages_come_out_whole_however_they_are_cut(messages: list[str], fragments: int, cuts: list[int]) -> None:
    """Fragments of a message and chunks of a stream are nobody's business; pings in between are answered."""
    wire, pings = b"", 0
    for message in messages:
        data = message.encode()
        size = max(1, -(-len(data) // fragments))
        pieces = [data[i : i + size] for i in range(0, len(data), size)] or [b""]
        for i, piece in enumerate(pieces):
            wire += frame(CONT if i else TEXT, piece, fin=i == len(pieces) - 1)
            wire += frame(PING, b"?")
            pings += 1
    one, read, pongs = stream(), [], b""
    stops = sorted({min(cut, len(wire)) for cut in cuts} | {len(wire)})
    start = 0
    for stop in stops:
        read += one.receive(wire[start:stop])
        pongs += out(one)
        start = stop
    assert ([message.encode() for message in messages], True) == (read, one.is_open)
    assert b"\x8a\x01?" * pings == pongs


def test_every_frame_counts() -> None:
    """A flood of pings is a flood."""
    one = stream()
    one.receive(frame(TEXT, b"[]") + frame(PING, b"") * 3 + frame(TEXT, b"[", fin=False))
    assert one.frames == 5


@pytest.mark.parametrize(
    ("wire", "code", "reason"),
    [
        (frame(BINARY, b"[]"), 1003, "binary_frame"),
        (frame(TEXT, b'["\xff"]'), 1007, "utf8"),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"("), 1007, "utf8"),
        (frame(TEXT, b"[]", masked=False), 1002, "websocket_violation"),
        (frame(CONT, b"[]"), 1002, "websocket_violation"),
        (frame(TEXT, b"[", fin=False) + frame(TEXT, b"]"), 1002, "websocket_violation"),
        (frame(TEXT, b"[]", rsv1=True), 1002, "websocket_violation"),
        (frame(3, b""), 1002, "websocket_violation"),
        (frame(PING, b"x" * 126), 1002, "websocket_violation"),
        (frame(CLOSE, b"\x00"), 1002, "websocket_violation"),
        (b"\x81\xff" + (CHARGER_FRAME_BYTES_MAX + 1).to_bytes(8, "big"), 1009, "frame_too_big"),
        (frame(TEXT, b"x" * CHARGER_FRAME_BYTES_MAX, fin=False) + frame(CONT, b"x"), 1009, "frame_too_big"),
    ],
    ids=[
        "binary",
        "utf8",
        "split utf8",
        "unmasked",
        "continues nothing",
        "interrupted",
        "rsv1",
        "opcode 3",
        "long ping",
        "short close",
        "announced too big",
        "grown too big",
    ],
)
def test_violation_ends_the_stream_with_its_code(wire: bytes, code: int, reason: str) -> None:
    """What came before it is delivered, what comes after is void."""
    one = stream()
    assert [b"[1]"] == one.receive(frame(TEXT, b"[1]") + wire + frame(TEXT, b"[2]"))
    assert [] == one.receive(frame(TEXT, b"[3]"))
    said = out(one)
    assert (False, reason, code) == (one.is_open, one.end[0], int.from_bytes(said[2:4], "big"))


def test_split_utf8_is_a_character() -> None:
    """A fragment may end within a character; only the message must be UTF-8 [RFC 6455: 8.1]."""
    one = stream()
    assert ["é".encode()] == one.receive(frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\xa9"))


def test_bomb_is_too_big() -> None:
    """64 MiB of zeros in 64 KiB end the stream without being unpacked."""
    one = stream(deflated=True)
    assert [] == one.receive(frame(TEXT, deflate(bytes(64 << 20)), rsv1=True))
    assert ("frame_too_big", 1009) == (one.end[0], int.from_bytes(out(one)[2:4], "big"))


def test_garbage_in_a_compressed_message_is_a_violation() -> None:
    """It ends the stream like any other."""
    one = stream(deflated=True)
    assert [] == one.receive(frame(TEXT, b"\xff\xff\xff", rsv1=True))
    assert one.end[0] == "websocket_violation"


def test_long_message_is_compressed_and_short_one_is_not() -> None:
    """Both are one frame; the first saves bytes."""
    one = stream(deflated=True)
    short, long = b"[" + b"1" * 500 + b"]", b"[" + b"1" * CHARGER_COMPRESS_BYTES_MIN + b"]"
    assert b"\x81\x7e\x01\xf6" + short == one.frame(short)
    wire = one.frame(long)
    assert (0xC1, True) == (wire[0], len(wire) < 50)
    assert long == inflate(wire[2:])


@pytest.mark.parametrize("size", [0, 125, 126, CHARGER_COMPRESS_BYTES_MIN, 65_535, 65_536])
def test_length_is_written_in_the_shortest_form(size: int) -> None:
    """RFC 6455 section 5.2."""
    assert frame(TEXT, b"x" * size, masked=False) == stream().frame(b"x" * size)


def test_pong_is_taken_once() -> None:
    """It proves one ping."""
    one = stream()
    one.receive(frame(PONG, b"7.1"))
    assert [b"7.1", None] == [one.take_pong(), one.take_pong()]


def test_close_is_echoed_and_named() -> None:
    """A charger that says goodbye has not done anything wrong."""
    one = stream()
    one.receive(frame(CLOSE, b"\x03\xe8bye"))
    assert (b"\x88\x05\x03\xe8bye", "disconnect") == (out(one), one.end[0])


def test_held_bytes_are_those_of_the_unfinished_message() -> None:
    """They are what an attacker makes us keep: a fragment, and what is there of the next."""
    one = stream()
    assert one.held_bytes == 0
    one.receive(frame(TEXT, b"x" * 1000, fin=False) + frame(CONT, b"y" * 50)[:20])
    assert one.held_bytes == 1000 + 20


def test_failing_twice_says_one_thing() -> None:
    """The first reason stands."""
    one = stream()
    one.fail(CloseCode.POLICY_VIOLATION, "revoked")
    one.fail(CloseCode.GOING_AWAY, "shutdown")
    assert out(one) == b"\x88\x09\x03\xf0revoked"
