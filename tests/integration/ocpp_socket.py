"""A charger that is a bare socket, to send what no client library would."""

import json
import socket
import ssl
import time
from contextlib import suppress
from typing import Any

from tests.integration.ocpp_live_server import TIMEOUT_S, LiveServer
from tests.unit.gateway.edge.ocpp_bytes import CLOSE, TEXT, frame, inflate, request


class Charger:
    """A connected socket that reads frames.

    Args:
        server: Where to connect to.
        port: Another port of it.
        tls: To encrypt with.
    """

    def __init__(self, server: LiveServer, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port or server.port), TIMEOUT_S)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.rest = b""
        self.ids = 0
        server.sockets.append(self.socket)

    def send(self, data: bytes) -> None:
        """Send all."""
        self.socket.sendall(data)

    def shake(self, handshake: bytes) -> tuple[int, dict[str, str]]:
        """Send a handshake and return status and headers (names in lower case) of the answer."""
        self.send(handshake)
        while b"\r\n\r\n" not in self.rest:
            data = self.socket.recv(65_536)
            assert data, f"closed without an answer after {self.rest!r}"
            self.rest += data
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(status.split()[1]), {name.lower(): value for name, value in headers.items()}

    def connect(self, identity: str = "cp-1", *, protocols: list[str] | None = None, extra: str = "") -> "Charger":
        """Connect, and see that it worked."""
        status, headers = self.shake(request(identity, protocols=protocols, extra=extra))
        assert (status, headers["sec-websocket-protocol"]) == (101, (protocols or ["ocpp1.6"])[0])
        return self

    def read(self) -> tuple[int, bytes] | None:
        """Return opcode and payload of the next frame, or None once the server has closed its side."""
        while True:
            if (taken := self._frame()) is not None:
                return taken
            try:
                data = self.socket.recv(65_536)
            except (ConnectionResetError, ssl.SSLEOFError):
                return None
            if not data:
                return None
            self.rest += data

    def _frame(self) -> tuple[int, bytes] | None:
        rest = self.rest
        if len(rest) < 2:
            return None
        size, start = rest[1], 2
        if size == 126:
            size, start = int.from_bytes(rest[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(rest[2:10], "big"), 10
        if len(rest) < start or len(rest) < start + size:
            return None
        payload, self.rest = rest[start : start + size], rest[start + size :]
        if rest[0] & 0x40:
            payload = inflate(payload)
        return rest[0] & 0x0F, payload

    def read_json(self) -> Any:
        """Return the next message."""
        taken = self.read()
        assert taken is not None, "closed"
        assert taken[0] == TEXT, taken
        return json.loads(taken[1])

    def say(self, text: str | bytes) -> None:
        """Send a text message."""
        self.send(frame(TEXT, text.encode() if isinstance(text, str) else text))

    def call(self, action: str, payload: object, message_id: str = "") -> Any:
        """Send a CALL and return the answer, whose id must be the same."""
        self.ids += 1
        message_id = message_id or f"m{self.ids}"
        self.say(json.dumps([2, message_id, action, payload]))
        answer = self.read_json()
        assert answer[1] == message_id, answer
        return answer

    def close_code(self) -> int | None:
        """Return the code the server closes with within the timeout, None for a close without one."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            taken = self.read()
            if taken is None:
                return None
            if taken[0] == CLOSE:
                return int.from_bytes(taken[1][:2], "big")
        raise AssertionError("still open")

    def is_closed(self) -> bool:
        """Return whether the server ends its side within the timeout; frames before that are dropped."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if self.read() is None:
                return True
        return False

    def close(self) -> None:
        """Go without a word."""
        with suppress(OSError):
            self.socket.close()
