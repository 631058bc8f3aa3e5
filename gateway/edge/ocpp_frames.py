"""WebSocket messages out of frames and frames out of messages, for one charger's connection (RFC 6455, RFC 7692).

Owns reassembly, the checks that the library leaves to its user, and what is compressed. Refuses to know OCPP and
sockets.
"""

import logging
import struct
from enum import IntEnum
from typing import Final, cast

from websockets.extensions import Extension
from websockets.frames import Frame, Opcode, apply_mask  # type: ignore[attr-defined]  # the C one where there is one
from websockets.protocol import Protocol, Side, State

from gateway.core.limits import CHARGER_COMPRESS_BYTES_MIN, CHARGER_FRAME_BYTES_MAX

SILENT_LOGGER: Final = logging.Logger("websockets", level=logging.CRITICAL + 1)  # noqa: LOG001 - of no tree, so nobody's settings wake it
"""For the library's own lines: what is worth one we write ourselves, with the station's name."""
PING: Final = b"\x89\x00"
"""The frame that a quiet connection is asked with; any bytes are an answer."""
_HEADS: Final = [bytes((0x81, n)) for n in range(126)]
_HEAD_16: Final = struct.Struct("!BBH")
_WHOLE_TEXT: Final = 0x81
_MASKED: Final = 0x80
_LENGTH_16: Final = 126


class CloseCode(IntEnum):
    """Close codes that we send, RFC 6455 section 7.4.1."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011


_REASONS: Final[dict[int, str]] = {
    CloseCode.UNSUPPORTED_DATA: "binary_frame",
    CloseCode.INVALID_DATA: "utf8",
    CloseCode.MESSAGE_TOO_BIG: "frame_too_big",
    CloseCode.INTERNAL_ERROR: "websocket_internal",
}
"""Why a connection failed, as it is counted, by the close code it was failed with; else `websocket_violation`."""


class MessageStream:
    """An open WebSocket connection without its socket: bytes in, messages out, and the other way round.

    Args:
        extensions: What the handshake negotiated.

    Attributes:
        frames: Frames that the last `receive` completed, of whatever kind: what a flood is measured in.
        is_open: Whether messages may still be sent.
    """

    __slots__ = ("_held", "_partial", "_pong", "_protocol", "_wanted_bytes", "frames", "is_open")

    def __init__(self, extensions: list[Extension]) -> None:
        # The handshake's own protocol object keeps its request for ever; this one starts where that ended.
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=CHARGER_FRAME_BYTES_MAX, logger=SILENT_LOGGER)
        self._protocol.extensions = extensions
        # A frame that has begun and not ended, and how many bytes of it are worth another look.
        self._held: bytearray | None = None
        self._wanted_bytes = 0
        # A message whose last fragment has not come.
        self._partial: bytearray | None = None
        self.frames = 0
        self._pong: bytes | None = None
        self.is_open = True

    @property
    def held_bytes(self) -> int:
        """Bytes of a message that has begun and not ended."""
        if self._held is None and self._partial is None:
            return 0
        return len(self._held or b"") + len(self._partial or b"")

    @property
    def end(self) -> tuple[str, str]:
        """Why the connection is not open any more: a reason to count, and a sentence for the log."""
        protocol = self._protocol
        if protocol.close_rcvd is not None and protocol.parser_exc is None:
            return "disconnect", f"the charger closed with {protocol.close_rcvd}"
        if protocol.close_sent is None:
            return "lost", "ended without a close"
        sent = protocol.close_sent
        return _REASONS.get(sent.code, "websocket_violation"), f"{sent.code} {sent.reason}"

    def receive(self, data: bytes) -> list[bytes]:
        """Return the messages that bytes from the network complete, in order.

        Pings are answered and violations and closes followed by what they need in `take_out`; see `is_open` after that.
        Messages before a violation in the same bytes are returned, what follows it is void.
        """
        self.frames = 0
        messages: list[bytes] = []
        if self._held is not None:
            self._held += data
            if len(self._held) < self._wanted_bytes:
                return messages
            data, self._held = bytes(self._held), None
        position, size = 0, len(data)
        while position < size and self.is_open:
            start, stop = _extent(data, position)
            is_masked = size < position + 2 or data[position + 1] >= _MASKED
            if stop - start > CHARGER_FRAME_BYTES_MAX or not is_masked:
                # Its head says that the rest need not be waited for; the library says why.
                self._take_odd(data[position:])
                break
            if stop > size:
                self._held, self._wanted_bytes = bytearray(data[position:]), stop - position
                break
            self.frames += 1
            if data[position] == _WHOLE_TEXT and self._partial is None:
                message: bytes | None = apply_mask(data[start:stop], data[start - 4 : start])
            else:
                message = self._take_odd(data[position:stop])
            position = stop
            if message is None:
                continue
            if not message.isascii() and not _is_utf8(message):
                self.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
                break
            messages.append(message)
        return messages

    def take_pong(self) -> bytes | None:
        """Return what the peer sent in its last pong, once."""
        pong, self._pong = self._pong, None
        return pong

    def receive_eof(self) -> None:
        """Note that the peer sends no more."""
        self._protocol.receive_eof()
        self._look()

    def frame(self, message: bytes) -> bytes:
        """Return the bytes to write for a message of ours. Only while open."""
        size = len(message)
        if size < len(_HEADS):
            return _HEADS[size] + message
        if size < CHARGER_COMPRESS_BYTES_MIN:
            return _HEAD_16.pack(0x81, 126, size) + message
        self._protocol.send_text(message)
        return b"".join(self.take_out())

    def ping(self, data: bytes) -> bytes:
        """Return the bytes to write for a ping that its pong will repeat. Only while open."""
        self._protocol.send_ping(data)
        return b"".join(self.take_out())

    def fail(self, code: CloseCode, reason: str) -> None:
        """Close from our side: `take_out` has the close frame and nothing that comes after is looked at. Repeatable."""
        if self.is_open:
            self._protocol.fail(code, reason)
            self._look()

    def take_out(self) -> list[bytes]:
        """Return what there is to write now; an empty piece means that our side of the socket ends there."""
        return self._protocol.data_to_send()

    def _look(self) -> None:
        """Note whether the library has closed; asked after each of the calls that can make it, not with each frame."""
        self.is_open = self._protocol.state is State.OPEN

    def _take_odd(self, data: bytes) -> bytes | None:
        """Give a frame to the library; return the message that it completes, if it does.

        A whole uncompressed text, which nearly all are, does not come here: it takes 1 us to read and 4 in the library.
        """
        self._protocol.receive_data(data)
        self._look()
        for frame in cast("list[Frame]", self._protocol.events_received()):
            match frame.opcode:
                case Opcode.TEXT | Opcode.CONT:
                    return self._assemble(frame)
                case Opcode.BINARY:
                    self.fail(CloseCode.UNSUPPORTED_DATA, "OCPP-J is text")
                case Opcode.PONG:
                    self._pong = cast("bytes", frame.data)
                case _:
                    pass  # the library answers pings and closes
        return None

    def _assemble(self, frame: Frame) -> bytes | None:
        """Return the message that a fragment or a whole text completes. The library has checked order and size."""
        if self._partial is None and frame.fin:
            return cast("bytes", frame.data)
        if self._partial is None:
            self._partial = bytearray()
        self._partial += frame.data
        if not frame.fin:
            return None
        message, self._partial = bytes(self._partial), None
        return message


def _extent(data: bytes, at: int) -> tuple[int, int]:
    """Return where the payload of the masked frame at `at` begins and ends, RFC 6455 section 5.2.

    The end may lie behind the data, and is where the length ends while that is not all there.
    """
    length = data[at + 1] & 0x7F if len(data) > at + 1 else 0
    if length < _LENGTH_16:
        return at + 6, at + 6 + length
    head = 4 if length == _LENGTH_16 else 10
    if len(data) < at + head:
        return at + head, at + head
    return at + head + 4, at + head + 4 + int.from_bytes(data[at + 2 : at + head], "big")


def _is_utf8(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
