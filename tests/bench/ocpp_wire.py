"""The charger's side of OCPP-J in as few instructions as it takes: upgrade, masked frames, pre-built calls. Pure.

A load generator must cost much less than the servers it loads. So a call is masked once, when its template is made, and
sending it joins four constants: only the message id differs from call to call. RFC 6455 sections 4.1 and 5.2; the mask
is a constant, but none that lets a server skip unmasking.
"""

import base64
import zlib
from typing import Final

MASK: Final = b"\x37\xfa\x21\x3d"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
DEFLATE: Final = "permessage-deflate; client_max_window_bits"
"""What a charger offers (OCPP 2.0.1 part 4 section 3.3 requires the extension)."""
_KEY: Final = base64.b64encode(b"sixteen bytes it").decode()
_ID_HALF: Final = 10_000
_COMPRESSED: Final = 0x40


def upgrade(path: str, *, port: int, subprotocol: str, password: str | None = None, deflate: bool = False) -> bytes:
    """Return the opening handshake; with a password, Basic credentials whose username is the last level of the path."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {_KEY}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {subprotocol}",
    ]
    if deflate:
        lines.append(f"Sec-WebSocket-Extensions: {DEFLATE}")
    if password is not None:
        credentials = f"{path.rpartition('/')[2]}:{password}".encode()
        lines.append(f"Authorization: Basic {base64.b64encode(credentials).decode()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def masked(payload: bytes) -> bytes:
    """Return the payload under the mask, from the mask's first byte."""
    key = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def head(opcode: int, length: int, *, compressed: bool = False) -> bytes:
    """Return the header of a final frame of ours, mask included."""
    first = bytes([0x80 | opcode | (_COMPRESSED if compressed else 0)])
    if length < 126:
        return first + bytes([0x80 | length]) + MASK
    if length < 1 << 16:
        return first + b"\xfe" + length.to_bytes(2, "big") + MASK
    return first + b"\xff" + length.to_bytes(8, "big") + MASK


def frame(payload: bytes, *, opcode: int = TEXT, deflate: bool = False) -> bytes:
    """Return one message as one frame of ours, compressed without a context if `deflate` (RFC 7692 section 7.2.1)."""
    if deflate:
        # The smallest window that zlib has: a server may have asked for less than the default.
        engine = zlib.compressobj(wbits=-9)
        payload = (engine.compress(payload) + engine.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
    return head(opcode, len(payload), compressed=deflate) + masked(payload)


_DIGITS: Final = [masked(b"%04d" % n) for n in range(_ID_HALF)]


class Template:
    """A call whose message id is eight digits.

    Args:
        action: As OCPP names it.
        payload: JSON text of its payload.
    """

    def __init__(self, action: str, payload: bytes) -> None:
        before, after = b'[2,"', b'","%s",%s]' % (action.encode(), payload)
        # Everything before and in the id is a multiple of the mask's four bytes, so each part is masked from its start.
        self._head = head(TEXT, len(before) + 8 + len(after)) + masked(before)
        self._tail = masked(after)

    def frame(self, number: int) -> bytes:
        """Return the call with an id, 0 .. 99,999,999."""
        return self._head + _DIGITS[number // _ID_HALF] + _DIGITS[number % _ID_HALF] + self._tail


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return the whole frames of a server, as (first byte, payload), and the rest."""
    found = []
    at, end = 0, len(data)
    while at + 2 <= end:
        length, body = data[at + 1], at + 2
        if length == 126:
            length, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        elif length == 127:
            length, body = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
        if body + length > end:
            break
        found.append((data[at], data[body : body + length]))
        at = body + length
    return found, data[at:]


def text_of(first_byte: int, payload: bytes) -> bytes:
    """Return the payload of a text frame, inflated if it came compressed without a context."""
    if not first_byte & _COMPRESSED:
        return payload
    return zlib.decompress(payload + b"\x00\x00\xff\xff\x01\x00\x00\xff\xff", wbits=-15)


def refusal(response: bytes) -> str | None:
    """Return the status line of a handshake that was refused, None for one that was accepted."""
    status = response.partition(b"\r\n")[0].decode("latin-1")
    return None if " 101 " in f"{status} " else status
