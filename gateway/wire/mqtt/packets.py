"""The words of MQTT 3.1.1 and 5: packet types, reason codes, properties and the decoded packets.

Owns names and shapes only. How they look as bytes is `codec`'s, what they mean in a conversation is `session`'s.
Clauses are cited as in the two OASIS standards: [MQTT-3.1.0-1] is version 5, [3.1.1: MQTT-3.1.0-1] is version 3.1.1.
"""

from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

LEVEL_311: Final = 4
"""Protocol level byte of MQTT 3.1.1."""
LEVEL_5: Final = 5


class PacketType(IntEnum):
    """The upper four bits of a packet's first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


PACKET_TYPES: Final[tuple[PacketType | None, ...]] = (None, *PacketType)
"""Packet type by number; 0 is reserved."""


class Reason(IntEnum):
    """Reason codes of MQTT 5 (section 2.4) that we send or look at."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    DISCONNECT_WITH_WILL = 0x04
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_ID_NOT_VALID = 0x85
    BAD_USERNAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_ID_NOT_FOUND = 0x92
    RECEIVE_MAX_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    SUBSCRIPTION_IDS_NOT_SUPPORTED = 0xA1


CONNECT_CODES_311: Final[dict[int, int]] = {
    Reason.UNSUPPORTED_PROTOCOL_VERSION: 1,
    Reason.CLIENT_ID_NOT_VALID: 2,
    Reason.SERVER_UNAVAILABLE: 3,
    Reason.SERVER_BUSY: 3,
    Reason.QUOTA_EXCEEDED: 3,
    Reason.BAD_USERNAME_OR_PASSWORD: 4,
}
"""MQTT 5 reason code -> 3.1.1 CONNACK return code (3.1.1 table 3.1); any other refusal is 5, not authorised."""
NOT_AUTHORIZED_311: Final = 5


class Property(IntEnum):
    """Property identifiers of MQTT 5 (section 2.2.2.2)."""

    PAYLOAD_FORMAT = 0x01
    MESSAGE_EXPIRY_S = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_ID = 0x0B
    SESSION_EXPIRY_S = 0x11
    ASSIGNED_CLIENT_ID = 0x12
    SERVER_KEEP_ALIVE_S = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFO = 0x17
    WILL_DELAY_S = 0x18
    REQUEST_RESPONSE_INFO = 0x19
    RESPONSE_INFO = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAX = 0x21
    TOPIC_ALIAS_MAX = 0x22
    TOPIC_ALIAS = 0x23
    QOS_MAX = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    PACKET_BYTES_MAX = 0x27
    WILDCARDS_AVAILABLE = 0x28
    SUBSCRIPTION_IDS_AVAILABLE = 0x29
    SHARED_SUBSCRIPTIONS_AVAILABLE = 0x2A


PropertyValue: TypeAlias = int | str | bytes | list[int] | list[tuple[str, str]]
Properties: TypeAlias = dict[Property, PropertyValue]
"""User properties and subscription identifiers, which may repeat, are lists; every other property is one value."""


class Will(msgspec.Struct, frozen=True, kw_only=True):
    """What the server publishes for a client that goes without saying so."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties


class Connect(msgspec.Struct, frozen=True, kw_only=True):
    """A client's first packet; `keep_alive_s` 0 means never."""

    level: int
    client_id: str
    clean_start: bool
    keep_alive_s: int
    username: str | None
    password: bytes | None
    will: Will | None
    properties: Properties


class Connack(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to CONNECT; `code` is a reason code in version 5 and a return code in 3.1.1."""

    session_present: bool
    code: int
    properties: Properties


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    """An application message; `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    properties: Properties


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """PUBACK, PUBREC, PUBREL or PUBCOMP; `code` is 0 in 3.1.1."""

    type: PacketType
    packet_id: int
    code: int
    properties: Properties


class Subscribe(msgspec.Struct, frozen=True, kw_only=True):
    """Topic filters with their option bytes (in 3.1.1 the QoS alone)."""

    packet_id: int
    filters: list[tuple[str, int]]
    properties: Properties


class Unsubscribe(msgspec.Struct, frozen=True, kw_only=True):
    """Topic filters to take back."""

    packet_id: int
    filters: list[str]
    properties: Properties


class Suback(msgspec.Struct, frozen=True, kw_only=True):
    """SUBACK, or UNSUBACK (without codes in 3.1.1): one code per filter."""

    type: PacketType
    packet_id: int
    codes: list[int]
    properties: Properties


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """PINGREQ or PINGRESP."""

    type: PacketType


class Disconnect(msgspec.Struct, frozen=True, kw_only=True):
    """DISCONNECT, or AUTH, which has the same shape and only version 5 has."""

    type: PacketType
    code: int
    properties: Properties


Packet: TypeAlias = Connect | Connack | Publish | Ack | Subscribe | Unsubscribe | Suback | Ping | Disconnect
