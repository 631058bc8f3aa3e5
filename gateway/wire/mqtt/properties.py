"""The property block of MQTT 5 packets: bytes to values and back (section 2.2.2).

Owns which property has which type and in which packet it may stand.
"""

from collections.abc import Callable
from typing import Final, TypeAlias, cast

from gateway.core.errors import LimitExceeded, ProtocolViolation
from gateway.core.limits import USER_PROPERTIES_MAX
from gateway.wire.mqtt.packets import PacketType, Properties, Property, PropertyValue, Reason
from gateway.wire.mqtt.primitives import (
    malformed,
    read_bytes,
    read_text,
    read_varint,
    write_bytes,
    write_text,
    write_varint,
)

_Value: TypeAlias = int | str | bytes | tuple[str, str]
_Read: TypeAlias = Callable[[bytes, int, int], tuple[_Value, int]]
_Write: TypeAlias = Callable[[_Value], bytes]

WILL: Final = 0
"""Stands for the will's own block inside CONNECT, which has other properties than CONNECT."""


def _read_uint(width: int) -> _Read:
    def read(data: bytes, pos: int, end: int) -> tuple[int, int]:
        if pos + width > end:
            raise malformed("property ends early")
        return int.from_bytes(data[pos : pos + width], "big"), pos + width

    return read


def _read_pair(data: bytes, pos: int, end: int) -> tuple[tuple[str, str], int]:
    name, pos = read_text(data, pos, end)
    value, pos = read_text(data, pos, end)
    return (name, value), pos


def _write_uint(width: int) -> _Write:
    return lambda value: cast("int", value).to_bytes(width, "big")


def _write_pair(value: _Value) -> bytes:
    name, text = cast("tuple[str, str]", value)
    return write_text(name) + write_text(text)


_U8: Final = (_read_uint(1), _write_uint(1))
_U16: Final = (_read_uint(2), _write_uint(2))
_U32: Final = (_read_uint(4), _write_uint(4))
_VARINT: Final = (cast("_Read", read_varint), cast("_Write", write_varint))
_TEXT: Final = (cast("_Read", read_text), cast("_Write", write_text))
_BYTES: Final = (cast("_Read", read_bytes), cast("_Write", write_bytes))
_PAIR: Final = (cast("_Read", _read_pair), cast("_Write", _write_pair))

_P, _T = Property, PacketType
_ACKS: Final[set[int]] = {
    _T.CONNACK,
    _T.PUBACK,
    _T.PUBREC,
    _T.PUBREL,
    _T.PUBCOMP,
    _T.SUBACK,
    _T.UNSUBACK,
    _T.DISCONNECT,
    _T.AUTH,
}

# Table 2-4 of the standard: identifier -> (type, packets that may hold it).
_TABLE: Final[dict[Property, tuple[tuple[_Read, _Write], set[int]]]] = {
    _P.PAYLOAD_FORMAT: (_U8, {_T.PUBLISH, WILL}),
    _P.MESSAGE_EXPIRY_S: (_U32, {_T.PUBLISH, WILL}),
    _P.CONTENT_TYPE: (_TEXT, {_T.PUBLISH, WILL}),
    _P.RESPONSE_TOPIC: (_TEXT, {_T.PUBLISH, WILL}),
    _P.CORRELATION_DATA: (_BYTES, {_T.PUBLISH, WILL}),
    _P.SUBSCRIPTION_ID: (_VARINT, {_T.PUBLISH, _T.SUBSCRIBE}),
    _P.SESSION_EXPIRY_S: (_U32, {_T.CONNECT, _T.CONNACK, _T.DISCONNECT}),
    _P.ASSIGNED_CLIENT_ID: (_TEXT, {_T.CONNACK}),
    _P.SERVER_KEEP_ALIVE_S: (_U16, {_T.CONNACK}),
    _P.AUTHENTICATION_METHOD: (_TEXT, {_T.CONNECT, _T.CONNACK, _T.AUTH}),
    _P.AUTHENTICATION_DATA: (_BYTES, {_T.CONNECT, _T.CONNACK, _T.AUTH}),
    _P.REQUEST_PROBLEM_INFO: (_U8, {_T.CONNECT}),
    _P.WILL_DELAY_S: (_U32, {WILL}),
    _P.REQUEST_RESPONSE_INFO: (_U8, {_T.CONNECT}),
    _P.RESPONSE_INFO: (_TEXT, {_T.CONNACK}),
    _P.SERVER_REFERENCE: (_TEXT, {_T.CONNACK, _T.DISCONNECT}),
    _P.REASON_STRING: (_TEXT, _ACKS),
    _P.RECEIVE_MAX: (_U16, {_T.CONNECT, _T.CONNACK}),
    _P.TOPIC_ALIAS_MAX: (_U16, {_T.CONNECT, _T.CONNACK}),
    _P.TOPIC_ALIAS: (_U16, {_T.PUBLISH}),
    _P.QOS_MAX: (_U8, {_T.CONNACK}),
    _P.RETAIN_AVAILABLE: (_U8, {_T.CONNACK}),
    _P.USER_PROPERTY: (_PAIR, {*_ACKS, _T.CONNECT, _T.PUBLISH, _T.SUBSCRIBE, _T.UNSUBSCRIBE, WILL}),
    _P.PACKET_BYTES_MAX: (_U32, {_T.CONNECT, _T.CONNACK}),
    _P.WILDCARDS_AVAILABLE: (_U8, {_T.CONNACK}),
    _P.SUBSCRIPTION_IDS_AVAILABLE: (_U8, {_T.CONNACK}),
    _P.SHARED_SUBSCRIPTIONS_AVAILABLE: (_U8, {_T.CONNACK}),
}
_BOOLEANS: Final = {
    _P.PAYLOAD_FORMAT,
    _P.REQUEST_PROBLEM_INFO,
    _P.REQUEST_RESPONSE_INFO,
    _P.QOS_MAX,
    _P.RETAIN_AVAILABLE,
    _P.WILDCARDS_AVAILABLE,
    _P.SUBSCRIPTION_IDS_AVAILABLE,
    _P.SHARED_SUBSCRIPTIONS_AVAILABLE,
}
# Zero in these is a protocol error [MQTT 5 sections 3.1.2.11.3, 3.1.2.11.4, 3.8.2.1.2, 3.3.2.3.4].
_NOT_ZERO: Final = {_P.RECEIVE_MAX, _P.PACKET_BYTES_MAX, _P.SUBSCRIPTION_ID, _P.TOPIC_ALIAS}
_BY_ID: Final = {int(name): name for name in Property}


def read_properties(data: bytes, pos: int, end: int, holder: int) -> tuple[Properties, int]:
    """Return the property block that starts at `pos` and the position after it.

    Args:
        data: Bytes of the packet.
        pos: Where the block's length stands.
        end: End of the packet.
        holder: The packet's type, or `WILL`.

    Raises:
        ProtocolViolation: Unknown, misplaced or cut property (0x81), a repeated or impossible one (0x82).
        LimitExceeded: More than `USER_PROPERTIES_MAX` user properties (0x97).
    """
    length, pos = read_varint(data, pos, end)
    stop = pos + length
    if stop > end:
        raise malformed(f"property block of {length} bytes passes the end of its packet")
    properties: Properties = {}
    pairs: list[tuple[str, str]] = []
    numbers: list[int] = []
    while pos < stop:
        name = _BY_ID.get(data[pos])
        if name is None or holder not in _TABLE[name][1]:
            raise malformed(f"property 0x{data[pos]:02x} has no place in packet type {holder} [MQTT-2.2.2-2]")
        value, pos = _TABLE[name][0][0](data, pos + 1, stop)
        if (name in _BOOLEANS and value not in (0, 1)) or (name in _NOT_ZERO and value == 0):
            raise ProtocolViolation("property_value", f"property {name.name} is {value!r}", Reason.PROTOCOL_ERROR)
        if name is Property.USER_PROPERTY:
            pairs.append(cast("tuple[str, str]", value))
            if len(pairs) > USER_PROPERTIES_MAX:
                raise LimitExceeded(
                    "user_properties", f"more than {USER_PROPERTIES_MAX} user properties", Reason.QUOTA_EXCEEDED
                )
        elif name is Property.SUBSCRIPTION_ID and holder == PacketType.PUBLISH:
            numbers.append(cast("int", value))
        elif name in properties:
            raise ProtocolViolation("property_repeated", f"property {name.name} stands twice", Reason.PROTOCOL_ERROR)
        else:
            properties[name] = cast("PropertyValue", value)
    if pairs:
        properties[Property.USER_PROPERTY] = pairs
    if numbers:
        properties[Property.SUBSCRIPTION_ID] = numbers
    return properties, stop


def write_properties(properties: Properties) -> bytes:
    """Return the property block with its length."""
    parts = []
    for name, value in properties.items():
        write = _TABLE[name][0][1]
        for one in cast("list[_Value]", value if isinstance(value, list) else [value]):
            parts.append(bytes((name,)) + write(one))
    block = b"".join(parts)
    return write_varint(len(block)) + block
