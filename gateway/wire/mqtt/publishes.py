"""The hot path: a run of PUBLISH packets read where they lie in the receive buffer.

Only the common form is read here: QoS 0 or 1, not a duplicate, not retained, one or two bytes of remaining length (up
to 16,383 bytes, so no limit on sizes can be broken), a topic that this connection has used before and, in version 5, no
properties. Everything else, and everything wrong, is left where it is for the codec. Measured per message of 300 B on
one core: 0.5 us here; 0.8 us by the `mqtt5` package, which makes an object per packet and knows version 5 only.
"""

from struct import Struct
from typing import Final

from gateway.core.records import Route
from gateway.wire.mqtt.packets import PacketType, Reason

_HEAD: Final = Struct(">BBBH").unpack_from
"""First byte, both bytes of the remaining length, length of the topic."""
_PUBLISH_QOS_0: Final = 0x30
_PUBLISH_QOS_1: Final = 0x32
_NO_PACKET_ID: Final = b"\0\0"
PUBACK_HEAD: Final = b"\x40\x02"
PUBREC_HEAD: Final = b"\x50\x02"
_SUCCESS_SPELT_OUT: Final = 0


class Publishes:
    """A run of publishes from one chunk of bytes, and the acknowledgements they get once they are durable.

    Attributes:
        routes: Route of each accepted message, in order of receipt.
        payloads: Its bytes; same length as `routes`.
        messages: How many they are, for whoever has given both lists away.
        qos1: How many of them are QoS 1.
        qos2: Packet identifiers of those that are QoS 2.
    """

    __slots__ = ("_acks", "messages", "packet_ids", "payloads", "qos1", "qos2", "routes")

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.payloads: list[bytes] = []
        self.messages = 0
        self.qos1 = 0
        self.qos2: list[int] = []
        # Identifiers of QoS 1 messages whose PUBACK is not yet spelt out. The empty first one puts the PUBACK header
        # before every identifier when they are joined with it, so a whole chunk is acknowledged by one call.
        self.packet_ids: list[bytes] = [b""]
        self._acks = b""

    def accept_qos_0(self, route: Route, payload: bytes) -> None:
        """Take a message that nobody waits for."""
        self.routes.append(route)
        self.payloads.append(payload)

    def accept_qos_1(self, route: Route, payload: bytes, packet_id: int) -> None:
        """Take a message and owe a PUBACK."""
        self.accept_qos_0(route, payload)
        self.packet_ids.append(packet_id.to_bytes(2, "big"))

    def accept_qos_2(self, route: Route, payload: bytes, packet_id: int) -> None:
        """Take a message and owe a PUBREC."""
        self.accept_qos_0(route, payload)
        self.qos2.append(packet_id)
        self.add_acks(PUBREC_HEAD + packet_id.to_bytes(2, "big"))

    def refuse(self, kind: PacketType, packet_id: int, code: int) -> None:
        """Owe a PUBACK or PUBREC with this code (version 5), in its place among the others [MQTT-4.6.0-2]."""
        self.add_acks(bytes((kind << 4, 3)) + packet_id.to_bytes(2, "big") + bytes((code,)))

    def repeat_pubrec(self, packet_id: int, *, spelt_out: bool) -> None:
        """Owe a PUBREC for a message that is durable already.

        In version 5 its success code is spelt out: that is how `failed_acks` knows that it holds whatever happens now.
        """
        if spelt_out:
            self.refuse(PacketType.PUBREC, packet_id, _SUCCESS_SPELT_OUT)
        else:
            self.add_acks(PUBREC_HEAD + packet_id.to_bytes(2, "big"))

    def add_acks(self, acks: bytes) -> None:
        """Owe these bytes after all that is owed so far."""
        self._acks = self.acks() + acks

    def acks(self) -> bytes:
        """Return what is owed when the run is durable; fixes its order."""
        packet_ids = self.packet_ids
        if len(packet_ids) > 1:
            self.qos1 += len(packet_ids) - 1
            self._acks += PUBACK_HEAD.join(packet_ids)
            self.packet_ids = [b""]
        return self._acks

    def failed_acks(self) -> bytes:
        """Return what is owed in version 5 when the run did not become durable: success turns into 0x97."""
        owed = self.acks()
        parts: list[bytes] = []
        pos = 0
        while pos < len(owed):
            stop = pos + 2 + owed[pos + 1]
            ack = owed[pos:stop]
            if len(ack) == 4:
                ack = bytes((ack[0], 3)) + ack[2:] + bytes((Reason.QUOTA_EXCEEDED,))
            parts.append(ack)
            pos = stop
        return b"".join(parts)


def take_publishes(data: bytes, pos: int, memo: dict[bytes, Route], run: Publishes, has_properties: bool) -> int:  # noqa: FBT001 - called per chunk
    """Move the publishes that lie whole and in the common form from `pos` on into `run`.

    Args:
        data: Bytes as received.
        pos: Start of a packet.
        memo: Topic as bytes -> route, for topics that were checked before.
        run: Gets routes, payloads and packet identifiers.
        has_properties: Version 5, where a property block follows the packet identifier.

    Returns: Start of the first packet that was left: not whole, not in the common form, or wrong.
    """
    end = len(data) - 4
    whole = len(data)
    route_of = memo.get
    add_route, add_payload, add_packet_id = run.routes.append, run.payloads.append, run.packet_ids.append
    while pos < end:
        first, low, high, topic_bytes = _HEAD(data, pos)
        if low > 127:
            # The high bit says that the length goes on; a third byte, or 0 where one would do, is for the codec.
            if not 0 < high < 128:
                return pos
            topic = pos + 5
            stop = pos + low + (high << 7) - 125  # 3 bytes of header, and 128 for the bit in `low`
        else:
            topic = pos + 4
            topic_bytes = high << 8 | data[pos + 3]
            stop = pos + 2 + low
        body = topic_end = topic + topic_bytes
        if first == _PUBLISH_QOS_1:
            body += 2
        elif first != _PUBLISH_QOS_0:
            return pos
        if has_properties:
            body += 1
        if body > stop or stop > whole or (has_properties and data[body - 1]):
            return pos
        route = route_of(data[topic:topic_end])
        if route is None:
            return pos
        if first == _PUBLISH_QOS_1:
            packet_id = data[topic_end : topic_end + 2]
            if packet_id == _NO_PACKET_ID:
                return pos
            add_packet_id(packet_id)
        add_route(route)
        add_payload(data[body:stop])
        pos = stop
    return pos
