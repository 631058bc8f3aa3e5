"""Bytes to packets: MQTT 3.1.1 and 5 in one codec, all packet types, both directions of travel.

`decode` sees one whole packet. Finding its end is `primitives.read_fixed_header`'s work, and the common PUBLISH never
comes here: `publishes` reads it where it lies. The counterpart is `encode`.
"""

from gateway.core.errors import LimitExceeded, ProtocolViolation
from gateway.core.limits import CLIENT_ID_BYTES_MAX, TOPIC_BYTES_MAX, WILL_BYTES_MAX
from gateway.wire.mqtt.packets import (
    LEVEL_5,
    LEVEL_311,
    PACKET_TYPES,
    Ack,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Ping,
    Properties,
    Publish,
    Reason,
    Suback,
    Subscribe,
    Unsubscribe,
    Will,
)
from gateway.wire.mqtt.primitives import malformed, read_bytes, read_packet_id, read_text, read_u16
from gateway.wire.mqtt.properties import WILL, read_properties
from gateway.wire.topics import is_filter, topic_name

_FLAGS_0010 = (PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE)


def decode(first: int, body: bytes, *, level: int) -> Packet:
    """Return the packet with this first byte and body.

    Args:
        first: Type and flags.
        body: Everything after the remaining length, whole.
        level: The connection's protocol level; CONNECT brings its own.

    Raises:
        ProtocolViolation: The standard forbids these bytes; `reason_code` is the MQTT 5 code to answer with.
        LimitExceeded: A field is larger than the limits allow.
    """
    flags = first & 0x0F
    packet_type = PACKET_TYPES[first >> 4]
    if packet_type is None:
        raise malformed("packet type 0 is reserved", "packet_type")
    if packet_type is PacketType.PUBLISH:
        return _decode_publish(flags, body, level)
    # Reserved flag bits are fixed per type [MQTT-2.1.3-1] [3.1.1: MQTT-2.2.2-2].
    if flags != (2 if packet_type in _FLAGS_0010 else 0):
        raise malformed(f"{packet_type.name} with flags {flags:#06b} [MQTT-2.1.3-1]", "flags")
    match packet_type:
        case PacketType.CONNECT:
            return _decode_connect(body)
        case PacketType.CONNACK:
            return _decode_connack(body, level)
        case PacketType.PUBACK | PacketType.PUBREC | PacketType.PUBREL | PacketType.PUBCOMP:
            return _decode_ack(packet_type, body, level)
        case PacketType.SUBSCRIBE:
            return _decode_subscribe(body, level)
        case PacketType.UNSUBSCRIBE:
            return _decode_unsubscribe(body, level)
        case PacketType.SUBACK | PacketType.UNSUBACK:
            return _decode_suback(packet_type, body, level)
        case PacketType.PINGREQ | PacketType.PINGRESP:
            _end(body, 0)
            return Ping(type=packet_type)
        case PacketType.DISCONNECT | PacketType.AUTH:
            return _decode_disconnect(packet_type, body, level)


def _properties(body: bytes, pos: int, level: int, holder: int) -> tuple[Properties, int]:
    return read_properties(body, pos, len(body), holder) if level >= LEVEL_5 else ({}, pos)


def _end(body: bytes, pos: int) -> None:
    if pos != len(body):
        raise malformed(f"{len(body) - pos} bytes after the last field", "trailing_bytes")


def _decode_connect(body: bytes) -> Connect:
    end = len(body)
    name, pos = read_bytes(body, 0, end)
    if pos + 4 > end:
        raise malformed("CONNECT ends early")
    level, flags = body[pos], body[pos + 1]
    if name != b"MQTT" or level not in (LEVEL_311, LEVEL_5):
        # The server MAY answer with "unsupported version" and MUST close [MQTT-3.1.2-2] [3.1.1: MQTT-3.1.2-2].
        raise ProtocolViolation(
            "protocol_version",
            f"protocol {name[:16]!r} level {level}; MQTT 3.1.1 (level 4) and 5 are spoken here",
            Reason.UNSUPPORTED_PROTOCOL_VERSION,
        )
    if flags & 0x01:
        raise malformed("reserved CONNECT flag is set [MQTT-3.1.2-3]", "flags")
    keep_alive_s, pos = read_u16(body, pos + 2, end)
    properties, pos = _properties(body, pos, level, PacketType.CONNECT)
    client_id, pos = read_text(body, pos, end)
    if len(client_id.encode()) > CLIENT_ID_BYTES_MAX:
        raise LimitExceeded(
            "client_id_bytes", f"client id is longer than {CLIENT_ID_BYTES_MAX} bytes", Reason.CLIENT_ID_NOT_VALID
        )
    will, pos = _read_will(body, pos, level, flags)
    username: str | None = None
    password: bytes | None = None
    if flags & 0x80:
        username, pos = read_text(body, pos, end)
    elif flags & 0x40 and level == LEVEL_311:
        raise malformed("password without user name [3.1.1: MQTT-3.1.2-22]", "flags")
    if flags & 0x40:
        password, pos = read_bytes(body, pos, end)
    _end(body, pos)
    return Connect(
        level=level,
        client_id=client_id,
        clean_start=bool(flags & 0x02),
        keep_alive_s=keep_alive_s,
        username=username,
        password=password,
        will=will,
        properties=properties,
    )


def _read_will(body: bytes, pos: int, level: int, flags: int) -> tuple[Will | None, int]:
    qos = flags >> 3 & 3
    if not flags & 0x04:
        if flags & 0x38:
            raise malformed("will QoS or will retain without a will [MQTT-3.1.2-11] [MQTT-3.1.2-13]", "flags")
        return None, pos
    if qos == 3:
        raise malformed("will QoS is 3 [MQTT-3.1.2-12]", "flags")
    properties, pos = _properties(body, pos, level, WILL)
    topic, pos = read_bytes(body, pos, len(body))
    payload, pos = read_bytes(body, pos, len(body))
    if len(topic) > TOPIC_BYTES_MAX:
        raise LimitExceeded(
            "topic_bytes", f"will topic is longer than {TOPIC_BYTES_MAX} bytes", Reason.TOPIC_NAME_INVALID
        )
    if len(payload) > WILL_BYTES_MAX:
        raise LimitExceeded("will_bytes", f"will is longer than {WILL_BYTES_MAX} bytes", Reason.PACKET_TOO_LARGE)
    will = Will(topic=topic_name(topic), payload=payload, qos=qos, retain=bool(flags & 0x20), properties=properties)
    return will, pos


def _decode_publish(flags: int, body: bytes, level: int) -> Publish:
    qos = flags >> 1 & 3
    if qos == 3:
        raise malformed("QoS is 3 [MQTT-3.3.1-4]", "flags")
    if qos == 0 and flags & 0x08:
        raise malformed("DUP at QoS 0 [MQTT-3.3.1-2]", "flags")
    raw, pos = read_bytes(body, 0, len(body))
    # In version 5 an empty topic stands for an alias; the session knows it [MQTT-3.3.2-8 to -12].
    topic = topic_name(raw) if raw or level < LEVEL_5 else ""
    packet_id = 0
    if qos:
        packet_id, pos = read_packet_id(body, pos, len(body))
    properties, pos = _properties(body, pos, level, PacketType.PUBLISH)
    return Publish(
        topic=topic,
        payload=body[pos:],
        qos=qos,
        retain=bool(flags & 1),
        dup=bool(flags & 8),
        packet_id=packet_id,
        properties=properties,
    )


def _decode_connack(body: bytes, level: int) -> Connack:
    if len(body) < 2:
        raise malformed("CONNACK ends early")
    if body[0] > 1:
        raise malformed("reserved CONNACK flag is set [MQTT-3.2.2-1]", "flags")
    properties, pos = _properties(body, 2, level, PacketType.CONNACK)
    _end(body, pos)
    return Connack(session_present=bool(body[0]), code=body[1], properties=properties)


def _decode_ack(packet_type: PacketType, body: bytes, level: int) -> Ack:
    packet_id, pos = read_packet_id(body, 0, len(body))
    code = 0
    properties: Properties = {}
    if level >= LEVEL_5 and pos < len(body):
        code = body[pos]
        pos += 1
        if pos < len(body):
            properties, pos = read_properties(body, pos, len(body), packet_type)
    _end(body, pos)
    return Ack(type=packet_type, packet_id=packet_id, code=code, properties=properties)


def _decode_subscribe(body: bytes, level: int) -> Subscribe:
    packet_id, pos = read_packet_id(body, 0, len(body))
    properties, pos = _properties(body, pos, level, PacketType.SUBSCRIBE)
    filters: list[tuple[str, int]] = []
    while pos < len(body):
        topic_filter, pos = read_text(body, pos, len(body))
        if pos == len(body):
            raise malformed("SUBSCRIBE ends before the last filter's options")
        options = body[pos]
        pos += 1
        # 3.1.1: upper six bits reserved [3.1.1: MQTT-3.8.3-4]; 5: upper two, and retain handling 3 [MQTT-3.8.3-5].
        if options & 3 == 3 or options & (0xFC if level < LEVEL_5 else 0xC0) or options & 0x30 == 0x30:
            raise malformed(f"subscription options {options:#04x}", "flags")
        filters.append((_checked_filter(topic_filter), options))
    if not filters:
        raise ProtocolViolation("no_filters", "SUBSCRIBE without filters [MQTT-3.8.3-2]", Reason.PROTOCOL_ERROR)
    return Subscribe(packet_id=packet_id, filters=filters, properties=properties)


def _decode_unsubscribe(body: bytes, level: int) -> Unsubscribe:
    packet_id, pos = read_packet_id(body, 0, len(body))
    properties, pos = _properties(body, pos, level, PacketType.UNSUBSCRIBE)
    filters: list[str] = []
    while pos < len(body):
        topic_filter, pos = read_text(body, pos, len(body))
        filters.append(_checked_filter(topic_filter))
    if not filters:
        raise ProtocolViolation("no_filters", "UNSUBSCRIBE without filters [MQTT-3.10.3-2]", Reason.PROTOCOL_ERROR)
    return Unsubscribe(packet_id=packet_id, filters=filters, properties=properties)


def _checked_filter(topic_filter: str) -> str:
    if not is_filter(topic_filter):
        raise ProtocolViolation(
            "filter", "topic filter is none [MQTT-4.7.1-1] [MQTT-4.7.3-1]", Reason.TOPIC_FILTER_INVALID
        )
    return topic_filter


def _decode_suback(packet_type: PacketType, body: bytes, level: int) -> Suback:
    packet_id, pos = read_packet_id(body, 0, len(body))
    properties, pos = _properties(body, pos, level, packet_type)
    if packet_type is PacketType.UNSUBACK and level < LEVEL_5:
        _end(body, pos)
    return Suback(type=packet_type, packet_id=packet_id, codes=list(body[pos:]), properties=properties)


def _decode_disconnect(packet_type: PacketType, body: bytes, level: int) -> Disconnect:
    if level < LEVEL_5 and (body or packet_type is PacketType.AUTH):
        raise malformed(f"{packet_type.name} as 3.1.1 does not have it", "packet_type")
    code, pos = (body[0], 1) if body else (0, 0)
    properties: Properties = {}
    if pos < len(body):
        properties, pos = read_properties(body, pos, len(body), packet_type)
    _end(body, pos)
    return Disconnect(type=packet_type, code=code, properties=properties)
