"""The few MQTT 3.1.1 packets the load generator needs. Pure: no sockets, no clock.

Written apart from the gateway's codec on purpose: a witness that shared it would share its mistakes.
Source: MQTT Version 3.1.1, OASIS Standard, sections 2 and 3.
"""

from functools import cache

PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
CONNACK, PUBACK, PINGRESP = 2, 4, 13

PACKET_IDS = 65_535
"""Packet identifiers are 1 .. 65535; message n of a connection uses `n % PACKET_IDS + 1`."""

PUBLISH_QOS1 = 0x32
DUP = 0x08


def _length(n: int) -> bytes:
    """Return `n` as a remaining length, section 2.2.3."""
    out = bytearray()
    while True:
        n, digit = divmod(n, 128)
        out.append(digit | 0x80 if n else digit)
        if not n:
            return bytes(out)


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def connect(
    client_id: str, credentials: tuple[str, str] | None, *, keep_alive_s: int = 60, clean_session: bool = True
) -> bytes:
    """Return a CONNECT packet without a will."""
    flags = (0x02 if clean_session else 0) | (0xC0 if credentials else 0)
    body = _text("MQTT") + bytes((4, flags)) + keep_alive_s.to_bytes(2, "big") + _text(client_id)
    for text in credentials or ():
        body += _text(text)
    return b"\x10" + _length(len(body)) + body


def publish_head(topic: str, payload_bytes: int) -> bytes:
    """Return a QoS 1 PUBLISH up to, and without, its packet identifier."""
    name = _text(topic)
    return bytes((PUBLISH_QOS1,)) + _length(len(name) + 2 + payload_bytes) + name


def as_resent(packet: bytes) -> bytes:
    """Return the PUBLISH with its DUP flag set, section 3.3.1.1."""
    return bytes((packet[0] | DUP,)) + packet[1:]


@cache
def packet_ids() -> tuple[bytes, ...]:
    """Return every packet identifier as two bytes, the whole range twice so that a slice may run over its end."""
    return tuple(i.to_bytes(2, "big") for i in range(1, PACKET_IDS + 1)) * 2


@cache
def pubacks() -> bytes:
    """Return the PUBACKs of all identifiers in order, twice over.

    A server acknowledges in receive order [MQTT-4.6.0-2], so what it must say next is a slice of this, and one
    comparison replaces parsing hundreds of packets.
    """
    return b"".join(b"\x40\x02" + i for i in packet_ids())


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return the whole packets in `data` as (type, body), and the rest.

    Servers send this client nothing long: a remaining length of more than one byte is refused.
    Raises: ValueError: A packet has 128 or more bytes.
    """
    packets = []
    at = 0
    while at + 2 <= len(data):
        size = data[at + 1]
        if size & 0x80:
            raise ValueError(f"packet type {data[at] >> 4} is longer than any answer to this client; is this MQTT?")
        if at + 2 + size > len(data):
            break
        packets.append((data[at] >> 4, data[at + 2 : at + 2 + size]))
        at += 2 + size
    return packets, data[at:]
