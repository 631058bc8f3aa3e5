"""A device that is a bare socket, to send what no client library would."""

import socket
import time
from contextlib import suppress

from gateway.wire.mqtt.codec import decode
from gateway.wire.mqtt.packets import Connack, Packet, Properties, Will
from gateway.wire.mqtt.primitives import read_fixed_header
from tests.integration.mqtt_server import PASSWORD, TIMEOUT_S, LiveServer
from tests.unit.gateway.wire.mqtt.device import connect_bytes


class Device:
    """A connected socket that reads packets."""

    def __init__(self, server: LiveServer, *, level: int = 5) -> None:
        self.level = level
        self.socket = socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S)
        self.rest = b""
        server.sockets.append(self.socket)

    def send(self, data: bytes) -> None:
        """Send all."""
        self.socket.sendall(data)

    def connect(
        self,
        device_id: str = "bus-1",
        *,
        password: str = PASSWORD,
        clean_start: bool = True,
        keep_alive_s: int = 0,
        will: Will | None = None,
        properties: Properties | None = None,
    ) -> Connack:
        """Send CONNECT and return the answer."""
        self.send(
            connect_bytes(
                self.level,
                client_id=device_id,
                clean_start=clean_start,
                keep_alive_s=keep_alive_s,
                username=device_id,
                password=password.encode(),
                will=will,
                properties=properties,
            )
        )
        packet = self.read()
        assert isinstance(packet, Connack)
        return packet

    def read(self) -> Packet | None:
        """Return the next packet, or None once the server has closed."""
        while True:
            header = read_fixed_header(self.rest, 0, level=self.level)
            if header is not None and len(self.rest) >= header[1]:
                body, stop = header
                packet = decode(self.rest[0], self.rest[body:stop], level=self.level)
                self.rest = self.rest[stop:]
                return packet
            try:
                data = self.socket.recv(65_536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.rest += data

    def is_closed(self) -> bool:
        """Return whether the server closes within the timeout; packets before that are dropped."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if self.read() is None:
                return True
        return False

    def close(self) -> None:
        """Go without a word."""
        with suppress(OSError):
            self.socket.close()
