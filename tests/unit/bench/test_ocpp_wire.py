"""The load generator's frames are those of a charger, as the websockets package reads them."""

import json
from collections.abc import Sequence

import pytest
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from tests.bench import ocpp_wire as wire
from tests.bench.ocpp_sink import accept


def received(data: bytes) -> list[object]:
    """Return the text messages that a server reads, decoded."""
    server = Protocol(Side.SERVER, state=State.OPEN)
    server.receive_data(data)
    return [json.loads(bytes(event.data)) for event in server.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", [0, 1, 100, 125, 126, 70_000])
def test_a_template_makes_calls_with_any_id(size: int) -> None:
    """The id is eight digits, whatever the length of the payload does to the header."""
    payload = {"text": "x" * size}
    template = wire.Template("DataTransfer", json.dumps(payload).encode())
    frames = b"".join(template.frame(number) for number in (0, 7, 9_999, 10_000, 99_999_999))
    ids = ["00000000", "00000007", "00009999", "00010000", "99999999"]
    assert [[2, message_id, "DataTransfer", payload] for message_id in ids] == received(frames)


def handshake(data: bytes) -> tuple[Request, ServerProtocol, bytes]:
    """Return the request, the server that accepted it, and its answer."""

    def first(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol:
        return offered[0]

    deflate = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    server = ServerProtocol(extensions=[deflate], select_subprotocol=first)
    server.receive_data(data)
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    return request, server, b"".join(server.data_to_send())


def test_the_handshake_is_a_charger_s() -> None:
    """Sub-protocol, credentials and compression are what a server takes."""
    data = wire.upgrade("/ocpp/CP-1", port=9000, subprotocol="ocpp1.6", password="secret", deflate=True)
    request, server, answer = handshake(data)
    assert ("/ocpp/CP-1", "Basic Q1AtMTpzZWNyZXQ=") == (request.path, request.headers["Authorization"])
    assert ("ocpp1.6", 1) == (server.subprotocol, len(server.extensions))
    assert wire.refusal(answer) is None


def test_a_compressed_call_is_read() -> None:
    """What is compressed without a context is inflated by a server that agreed to that."""
    _, server, _ = handshake(wire.upgrade("/ocpp/CP-1", port=9000, subprotocol="ocpp1.6", deflate=True))
    text = b'[2,"1","Heartbeat",{}]' * 20
    server.receive_data(wire.frame(text, deflate=True))
    assert [text] == [event.data for event in server.events_received() if isinstance(event, Frame)]
    server.send_text(text)
    ((first_byte, payload),), rest = wire.split(b"".join(server.data_to_send()))
    assert (text, b"") == (wire.text_of(first_byte, payload), rest)


@pytest.mark.parametrize("size", [0, 125, 126, 70_000])
def test_a_server_s_frames_are_split_at_any_cut(size: int) -> None:
    """Wherever the bytes are cut, the frames are the same."""
    server = Protocol(Side.SERVER, state=State.OPEN)
    server.send_text(b"x" * size)
    server.send_ping(b"?")
    data = b"".join(server.data_to_send())
    expected = [(0x80 | Opcode.TEXT, b"x" * size), (0x80 | Opcode.PING, b"?")]
    for cut in [*range(min(20, len(data))), len(data) - 2, len(data)]:
        first, rest = wire.split(data[:cut])
        second, left = wire.split(rest + data[cut:])
        assert (expected, b"") == (first + second, left)


def test_a_refused_handshake_is_told_by_its_status() -> None:
    """Only 101 opens a connection."""
    assert wire.refusal(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n") == "HTTP/1.1 401 Unauthorized"


def test_the_sink_accepts_the_handshake() -> None:
    """The generator measures itself against a server that it takes for one."""
    assert wire.refusal(accept(wire.upgrade("/ocpp/CP-1", port=9000, subprotocol="ocpp1.6"))) is None
