"""Packets to bytes: the counterpart of `codec.decode`, for MQTT 3.1.1 and 5."""

from gateway.wire.mqtt.packets import (
    LEVEL_5,
    Ack,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Ping,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Unsubscribe,
)
from gateway.wire.mqtt.primitives import write_bytes, write_text, write_u16, write_varint
from gateway.wire.mqtt.properties import write_properties


def encode(packet: Packet, *, level: int) -> bytes:
    """Return the packet as bytes; for 3.1.1 properties and codes, which it does not have, are left out."""
    first, body = _encode(packet, level)
    return bytes((first,)) + write_varint(len(body)) + body


def _encode(packet: Packet, level: int) -> tuple[int, bytes]:
    match packet:
        case Connect():
            return PacketType.CONNECT << 4, _connect(packet)
        case Connack(session_present=present, code=code):
            return PacketType.CONNACK << 4, bytes((present, code)) + _block(packet.properties, level)
        case Publish():
            return _publish(packet, level)
        case Ack(type=kind):
            flags = 2 if kind is PacketType.PUBREL else 0
            return kind << 4 | flags, write_u16(packet.packet_id) + _tail(packet.code, packet.properties, level)
        case Subscribe():
            body = b"".join(write_text(name) + bytes((options,)) for name, options in packet.filters)
            return PacketType.SUBSCRIBE << 4 | 2, write_u16(packet.packet_id) + _block(packet.properties, level) + body
        case Unsubscribe():
            body = b"".join(map(write_text, packet.filters))
            return PacketType.UNSUBSCRIBE << 4 | 2, write_u16(packet.packet_id) + _block(
                packet.properties, level
            ) + body
        case Suback(type=kind):
            codes = bytes(packet.codes) if kind is PacketType.SUBACK or level >= LEVEL_5 else b""
            return kind << 4, write_u16(packet.packet_id) + _block(packet.properties, level) + codes
        case Ping(type=kind):
            return kind << 4, b""
        case Disconnect(type=kind):
            return kind << 4, _tail(packet.code, packet.properties, level)


def _block(properties: Properties, level: int) -> bytes:
    return write_properties(properties) if level >= LEVEL_5 else b""


def _tail(code: int, properties: Properties, level: int) -> bytes:
    """Return reason code and properties, each left out where the standard lets it (sections 3.4.2.1, 3.14.2.1)."""
    if level < LEVEL_5 or (code == 0 and not properties):
        return b""
    return bytes((code,)) + (write_properties(properties) if properties else b"")


def _connect(packet: Connect) -> bytes:
    flags = packet.clean_start << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    parts = [write_text(packet.client_id)]
    if packet.will is not None:
        will = packet.will
        flags |= 4 | will.qos << 3 | will.retain << 5
        parts += [_block(will.properties, packet.level), write_text(will.topic), write_bytes(will.payload)]
    if packet.username is not None:
        parts.append(write_text(packet.username))
    if packet.password is not None:
        parts.append(write_bytes(packet.password))
    head = write_text("MQTT") + bytes((packet.level, flags)) + write_u16(packet.keep_alive_s)
    return head + _block(packet.properties, packet.level) + b"".join(parts)


def _publish(packet: Publish, level: int) -> tuple[int, bytes]:
    first = PacketType.PUBLISH << 4 | packet.dup << 3 | packet.qos << 1 | packet.retain
    packet_id = write_u16(packet.packet_id) if packet.qos else b""
    return first, write_text(packet.topic) + packet_id + _block(packet.properties, level) + packet.payload
