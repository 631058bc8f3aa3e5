"""The data representations of MQTT (section 1.5): variable byte integers, UTF-8 strings, binary data, fixed headers.

Each `read_*` takes `(data, pos, end)`, never looks at or past `end`, and returns the value and the position after it.
"""

from typing import Final

from gateway.core.errors import ProtocolViolation
from gateway.wire.mqtt.packets import Reason

VARINT_MAX: Final = 268_435_455
"""Four bytes of seven bits (section 1.5.5)."""


def malformed(detail: str, reason: str = "malformed") -> ProtocolViolation:
    """Return the error for bytes that no reading of the standard allows (0x81)."""
    return ProtocolViolation(reason, detail, Reason.MALFORMED_PACKET)


def read_varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Return a variable byte integer; version 5 demands the shortest form [MQTT-1.5.5-1]."""
    value = shift = 0
    while pos < end:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise malformed("variable byte integer is not in its shortest form [MQTT-1.5.5-1]")
            return value, pos
        shift += 7
        if shift > 21:
            raise malformed("variable byte integer is longer than four bytes")
    raise malformed("variable byte integer ends early")


def read_u16(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Return a two byte integer."""
    if pos + 2 > end:
        raise malformed("two byte integer ends early")
    return data[pos] << 8 | data[pos + 1], pos + 2


def read_bytes(data: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """Return binary data: a two byte length and as many bytes."""
    length, pos = read_u16(data, pos, end)
    stop = pos + length
    if stop > end:
        raise malformed(f"field of {length} bytes passes the end of its packet")
    return data[pos:stop], stop


def read_text(data: bytes, pos: int, end: int) -> tuple[str, int]:
    """Return a UTF-8 string, without ill-formed sequences [MQTT-1.5.4-1] and U+0000 [MQTT-1.5.4-2]."""
    raw, stop = read_bytes(data, pos, end)
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        raise malformed(f"text is not UTF-8 at byte {exc.start} [MQTT-1.5.4-1]", "text_utf8") from exc
    if "\0" in text:
        raise malformed("text holds U+0000 [MQTT-1.5.4-2]", "text_nul")
    return text, stop


def read_packet_id(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Return a packet identifier, which is never 0 [MQTT-2.2.1-3] [3.1.1: MQTT-2.3.1-1]."""
    packet_id, pos = read_u16(data, pos, end)
    if packet_id == 0:
        raise ProtocolViolation("packet_id_zero", "packet identifier is 0 [MQTT-2.2.1-3]", Reason.PROTOCOL_ERROR)
    return packet_id, pos


def write_varint(value: int) -> bytes:
    """Return the shortest variable byte integer."""
    assert 0 <= value <= VARINT_MAX
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_u16(value: int) -> bytes:
    """Return a two byte integer."""
    return value.to_bytes(2, "big")


def write_bytes(value: bytes) -> bytes:
    """Return binary data with its length; at most 65,535 bytes."""
    return len(value).to_bytes(2, "big") + value


def write_text(text: str) -> bytes:
    """Return a UTF-8 string with its length."""
    return write_bytes(text.encode())


def read_fixed_header(data: bytes, pos: int, *, level: int) -> tuple[int, int] | None:
    """Return `(body, stop)` of the packet that begins at `pos`, or None while its header is incomplete.

    `stop` may lie past the end of `data`: the caller checks it against the limits before it waits for the rest.

    Args:
        data: Bytes as received.
        pos: Start of the packet.
        level: 5 refuses a length in a longer form than needed [MQTT-1.5.5-1]; 3.1.1 has no such rule.
    Raises: ProtocolViolation: The remaining length is longer than four bytes.
    """
    length = shift = 0
    for i in range(pos + 1, min(pos + 5, len(data))):
        byte = data[i]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift and level >= 5:
                raise malformed("remaining length is not in its shortest form [MQTT-1.5.5-1]", "remaining_length")
            return i + 1, i + 1 + length
        shift += 7
    if shift > 21:
        raise malformed("remaining length is longer than four bytes", "remaining_length")
    return None
