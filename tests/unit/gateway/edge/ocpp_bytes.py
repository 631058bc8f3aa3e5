"""Bytes that a charger may put on the wire: handshakes and WebSocket frames, right and wrong."""

import base64
import os
import struct
import zlib

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PASSWORD = b"correct horse \x00\xff battery"
BOOT_16 = {"chargePointVendor": "Acme", "chargePointModel": "One"}


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False, masked: bool = True) -> bytes:
    """Return a WebSocket frame."""
    head = bytes([(0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode])
    size, mask_bit = len(payload), 0x80 if masked else 0
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 65_536:
        head += struct.pack("!BH", mask_bit | 126, size)
    else:
        head += struct.pack("!BQ", mask_bit | 127, size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    pad = (key * (size // 4 + 1))[:size]
    return head + key + (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def deflate(payload: bytes) -> bytes:
    """Return the payload of a compressed message, RFC 7692 section 7.2.1."""
    compressor = zlib.compressobj(wbits=-12)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def basic(identity: str, password: bytes = PASSWORD) -> str:
    """Return the value of an authorization header."""
    return "Basic " + base64.b64encode(identity.encode() + b":" + password).decode()


def request(
    identity: str = "cp-1",
    *,
    path: str | None = None,
    protocols: list[str] | None = None,
    authorization: str | None = "",
    extra: str = "",
) -> bytes:
    """Return a handshake; `authorization` "" is the right one, None is none; each of `protocols` is a header."""
    lines = [
        f"GET {path if path is not None else '/ocpp/' + identity} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    lines += [f"Sec-WebSocket-Protocol: {protocol}" for protocol in (["ocpp1.6"] if protocols is None else protocols)]
    if authorization is not None:
        lines.append(f"Authorization: {authorization or basic(identity)}")
    return ("\r\n".join(lines) + "\r\n" + extra + "\r\n").encode("iso-8859-1")


def inflate(payload: bytes) -> bytes:
    """Return what a compressed message says."""
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
