"""One connection of the server as a state machine: bytes in, events and bytes out, no input or output of its own.

Owns the rules of the conversation for MQTT 3.1.1 and 5: what may come when, what is answered, what is refused. Refuses
to know sockets, clocks, credentials and the journal: the edge asks those and tells the result (`accept`, `refuse`,
`settle`).
"""

from enum import IntEnum
from typing import Final, cast

from gateway.core.errors import IdentityRefused, LimitExceeded, PeerError, ProtocolViolation
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import (
    CONNECT_BYTES_MAX,
    CONTROL_BYTES_MAX,
    PACKET_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    RECEIVE_MAX,
    SESSION_EXPIRY_S_MAX,
    SUBSCRIPTIONS_MAX,
    TOPIC_ALIASES_MAX,
)
from gateway.core.ports import Counter
from gateway.core.text import peer_text
from gateway.wire.mqtt.codec import decode
from gateway.wire.mqtt.encode import encode
from gateway.wire.mqtt.events import Closed, CommandAcknowledged, ConnectRequested, Event, FiltersChanged, Session
from gateway.wire.mqtt.packets import (
    CONNECT_CODES_311,
    LEVEL_5,
    NOT_AUTHORIZED_311,
    PACKET_TYPES,
    Ack,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Ping,
    Properties,
    Property,
    Publish,
    Reason,
    Suback,
    Subscribe,
    Unsubscribe,
)
from gateway.wire.mqtt.primitives import malformed, read_fixed_header
from gateway.wire.mqtt.publishes import Publishes, take_publishes
from gateway.wire.mqtt.routes import DeviceTopics
from gateway.wire.topics import TopicTable, is_command_filter, is_matching

RECEIVE_MAX_DEFAULT: Final = 65_535
"""What a client may have in flight towards it when it does not say (section 3.1.2.11.3)."""


_PACKET_BYTES_MAX: Final = {PacketType.PUBLISH: PACKET_BYTES_MAX, PacketType.CONNECT: CONNECT_BYTES_MAX}


class State(IntEnum):
    """How far a connection has come. Integers, because a plain Enum is hashed by a Python function."""

    AWAITING_CONNECT = 0
    AUTHENTICATING = 1
    CONNECTED = 2
    CLOSED = 3


_NO_TOPICS: Final = DeviceTopics(TopicTable(()), tenant=TenantId(""), device_id=DeviceId(""))
_IN = State.CONNECTED
TRANSITIONS: Final[dict[State, dict[PacketType, State]]] = {
    State.AWAITING_CONNECT: {PacketType.CONNECT: State.AUTHENTICATING},  # [MQTT-3.1.0-1] [MQTT-3.1.0-2]
    # What a client sends behind its CONNECT waits in the buffer until `accept` or `refuse`.
    State.AUTHENTICATING: {},
    State.CONNECTED: {
        PacketType.PUBLISH: _IN,
        PacketType.PUBACK: _IN,
        PacketType.PUBREL: _IN,
        PacketType.SUBSCRIBE: _IN,
        PacketType.UNSUBSCRIBE: _IN,
        PacketType.PINGREQ: _IN,
        PacketType.DISCONNECT: State.CLOSED,
    },
    State.CLOSED: {},
}
"""State -> packet type -> next state. A packet that is not here is a protocol error."""


class ServerConnection:
    """The server's side of one network connection.

    Args:
        count: Counts refused publishes and filters, by reason.

    Attributes:
        state: How far the connection has come.
        out: Bytes to write; the caller empties it.
        level: Protocol level, 0 before CONNECT.
        session, topics: What `accept` told.
        unacknowledged: QoS 1 messages taken and not settled.
        held_bytes: Bytes held of a packet that has begun and not ended, or of packets waiting behind CONNECT.
    """

    __slots__ = (
        "_connect",
        "_count",
        "_need_bytes",
        "_partial",
        "command_packet_bytes_max",
        "commands_in_flight_max",
        "held_bytes",
        "level",
        "out",
        "session",
        "state",
        "topics",
        "unacknowledged",
    )

    def __init__(self, *, count: Counter) -> None:
        self._count = count
        self._partial: bytearray | None = None
        self._need_bytes = 0
        self._connect: Connect | None = None
        self.held_bytes = 0
        self.state = State.AWAITING_CONNECT
        self.level = 0
        self.out = bytearray()
        self.session = Session("", 0)
        self.unacknowledged = 0
        self.topics = _NO_TOPICS
        self.commands_in_flight_max = RECEIVE_MAX_DEFAULT
        self.command_packet_bytes_max = PACKET_BYTES_MAX

    # ---- bytes in ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes as they came and return what they mean, the publishes of the whole chunk first.

        Any cut of a stream into chunks means the same. After `Closed` no more bytes are looked at. Pass b"" after
        `accept` for what waited behind CONNECT.
        """
        if self._partial is not None:
            self._partial += data
            self.held_bytes = len(self._partial)
            if self.held_bytes < self._need_bytes or self.state is State.AUTHENTICATING:
                return []
            data = bytes(self._partial)
            self._drop_held()
        run = Publishes()
        events: list[Event] = []
        try:
            self._take_packets(data, run, events)
        except PeerError as exc:
            events.append(self._fail(exc))
        if run.acks() or run.routes:
            events.insert(0, run)
            self.unacknowledged += run.qos1
            if self._is_over_receive_max():
                detail = f"more than {RECEIVE_MAX} messages unacknowledged [MQTT-3.3.4-9]"
                events.append(self._fail(ProtocolViolation("receive_max", detail, Reason.RECEIVE_MAX_EXCEEDED)))
        return events

    def _take_packets(self, data: bytes, run: Publishes, events: list[Event]) -> None:
        pos, end = 0, len(data)
        while pos < end and self.state is not State.CLOSED:
            if self.state is State.AUTHENTICATING:
                self._hold(data[pos:], 0)
                return
            if self.state is State.CONNECTED:
                pos = take_publishes(data, pos, self.topics.memo, run, self.level == LEVEL_5)
                if pos == end:
                    return
            stop = self._take_packet(data, pos, run, events)
            if stop == pos:
                return
            pos = stop

    def _take_packet(self, data: bytes, pos: int, run: Publishes, events: list[Event]) -> int:
        """Take one packet of any kind and return its end, or `pos` after putting aside what is not whole."""
        first = data[pos]
        packet_type = self._packet_type(first)
        header = read_fixed_header(data, pos, level=self.level)
        if header is None:
            self._hold(data[pos:], len(data) - pos + 1)
            return pos
        body, stop = header
        _check_size(packet_type, stop - pos)
        if stop > len(data):
            self._hold(data[pos:], stop - pos)
            return pos
        packet = decode(first, data[body:stop], level=self.level)
        if isinstance(packet, Publish):
            self._take_publish(packet, run)
        else:
            self._take_control(packet, events)
        self.state = TRANSITIONS[self.state][packet_type]
        return stop

    def _hold(self, rest: bytes, need_bytes: int) -> None:
        # Grown in place: a packet that comes byte by byte is not copied once per byte.
        self._partial = bytearray(rest)
        self._need_bytes = need_bytes
        self.held_bytes = len(rest)

    def _drop_held(self) -> None:
        self._partial = None
        self.held_bytes = 0

    def _packet_type(self, first: int) -> PacketType:
        """Return the type of a packet that may come now."""
        packet_type = PACKET_TYPES[first >> 4]
        if packet_type is None:
            raise malformed("packet type 0 is reserved", "packet_type")
        if packet_type not in TRANSITIONS[self.state]:
            reason = "not_connect" if self.state is State.AWAITING_CONNECT else "unexpected_packet"
            detail = f"{packet_type.name} while {self.state.name.lower()} [MQTT-3.1.0-1] [MQTT-3.1.0-2] [MQTT-4.13.1-1]"
            raise ProtocolViolation(reason, detail, Reason.PROTOCOL_ERROR)
        return packet_type

    # ---- publishes ---------------------------------------------------------------------------------------------------

    def _take_publish(self, packet: Publish, run: Publishes) -> None:
        if len(packet.payload) > PAYLOAD_BYTES_MAX:
            detail = f"payload of {len(packet.payload)} bytes, limit is {PAYLOAD_BYTES_MAX}; split it at the device"
            raise LimitExceeded("payload_too_large", detail, Reason.PACKET_TOO_LARGE)
        if Property.SUBSCRIPTION_ID in packet.properties:
            detail = "a client sent a subscription identifier [MQTT-3.3.4-6]"
            raise ProtocolViolation("property_value", detail, Reason.PROTOCOL_ERROR)
        topics = self.topics
        route = topics.route_of(topics.topic_of(packet) if self.level == LEVEL_5 else packet.topic)
        if packet.qos == 2 and packet.packet_id in self.session.qos2:
            self._repeat_qos_2(packet.packet_id, run)
        elif isinstance(route, PeerError):
            self._refuse_publish(packet, route, run)
        elif packet.qos == 0:
            run.accept_qos_0(route, packet.payload)
        elif packet.qos == 1:
            run.accept_qos_1(route, packet.payload, packet.packet_id)
        else:
            self.session.qos2[packet.packet_id] = False
            run.accept_qos_2(route, packet.payload, packet.packet_id)

    def _repeat_qos_2(self, packet_id: int, run: Publishes) -> None:
        """Answer a packet identifier that waits for its PUBREL, whatever came with it [MQTT-4.3.3-10] [MQTT-4.3.3-12].

        One that is still on its way to the disk gets no answer: the PUBREC that is owed answers both.
        """
        if self.session.qos2[packet_id]:
            run.repeat_pubrec(packet_id, spelt_out=self.level == LEVEL_5)

    def _refuse_publish(self, packet: Publish, why: PeerError, run: Publishes) -> None:
        """Tell a version 5 client that this one publish is refused; 3.1.1 has no word for it but to close."""
        if self.level != LEVEL_5:
            raise why
        self._count(why.reason)
        if packet.qos:
            kind = PacketType.PUBACK if packet.qos == 1 else PacketType.PUBREC
            run.refuse(kind, packet.packet_id, why.reason_code)

    def _is_over_receive_max(self) -> bool:
        """Return whether more is in flight than CONNACK allowed [MQTT-3.3.4-9].

        A 3.1.1 client knows no such maximum: its socket is paused instead, which is the edge's work. Only messages
        between PUBREC and PUBREL, which no pause can drain, count against it.
        """
        qos1 = self.unacknowledged if self.level == LEVEL_5 else 0
        return self.state is State.CONNECTED and qos1 + len(self.session.qos2) > RECEIVE_MAX

    def settle(self, run: Publishes) -> bytes:
        """Return the acknowledgements of a run that is durable; on a closed connection they are not to be written."""
        self.unacknowledged -= run.qos1
        for packet_id in run.qos2:
            if packet_id in self.session.qos2:  # else its PUBREL came early, and the identifier is free already
                self.session.qos2[packet_id] = True
        return run.acks()

    def settle_failed(self, run: Publishes) -> bytes | None:
        """Return the refusals of a run that certainly is not durable, or None: close, so that the device resends."""
        self.unacknowledged -= run.qos1
        for packet_id in run.qos2:
            self.session.qos2.pop(packet_id, None)
        return run.failed_acks() if self.level == LEVEL_5 else None

    # ---- everything else ---------------------------------------------------------------------------------------------

    def _take_control(self, packet: Packet, events: list[Event]) -> None:
        match packet:
            case Ping():
                self._send(Ping(type=PacketType.PINGRESP))
            case Ack(type=PacketType.PUBACK):
                events.append(CommandAcknowledged(packet.packet_id, packet.code))
            case Ack():
                self._release(packet.packet_id)
            case Subscribe():
                self._subscribe(packet)
                events.append(FiltersChanged())
            case Unsubscribe():
                self._unsubscribe(packet)
                events.append(FiltersChanged())
            case Connect():
                self.level = packet.level
                self._connect = packet
                self._check_connect(packet)
                events.append(ConnectRequested(packet))
            case Disconnect():
                events.append(self._take_disconnect(packet))
            case _:
                raise AssertionError(packet)  # `_packet_type` let nothing else through

    def _check_connect(self, connect: Connect) -> None:
        if Property.AUTHENTICATION_METHOD in connect.properties:
            detail = "enhanced authentication is not offered; connect with user name and password"
            raise IdentityRefused("authentication_method", detail, Reason.BAD_AUTHENTICATION_METHOD)
        if Property.AUTHENTICATION_DATA in connect.properties:
            raise ProtocolViolation("property_value", "authentication data without method", Reason.PROTOCOL_ERROR)
        if not connect.client_id and not connect.clean_start and connect.level != LEVEL_5:
            detail = "empty client id with a session to keep [3.1.1: MQTT-3.1.3-8]"
            raise IdentityRefused("client_id", detail, Reason.CLIENT_ID_NOT_VALID)

    def _release(self, packet_id: int) -> None:
        """Answer PUBREL; after it the identifier means a new message [MQTT-4.3.3-11] [MQTT-4.3.3-12]."""
        known = self.session.qos2.pop(packet_id, None) is not None
        code = Reason.SUCCESS if known else Reason.PACKET_ID_NOT_FOUND
        self._send(Ack(type=PacketType.PUBCOMP, packet_id=packet_id, code=code, properties={}))

    def _subscribe(self, packet: Subscribe) -> None:
        if Property.SUBSCRIPTION_ID in packet.properties:
            detail = "subscription identifiers are not available, as CONNACK said"
            raise ProtocolViolation("subscription_id", detail, Reason.SUBSCRIPTION_IDS_NOT_SUPPORTED)
        codes = [self._grant(name, options & 3) for name, options in packet.filters]
        self._send(Suback(type=PacketType.SUBACK, packet_id=packet.packet_id, codes=codes, properties={}))

    def _grant(self, topic_filter: str, qos: int) -> int:
        """Return the code for one filter: a device may hear its own commands and nothing else."""
        filters = self.session.filters
        code = Reason.NOT_AUTHORIZED
        if topic_filter.startswith("$share/"):
            code = Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        elif is_command_filter(topic_filter, self.topics.tenant, self.topics.device_id):
            if topic_filter in filters or len(filters) < SUBSCRIPTIONS_MAX:
                # Commands are QoS 1; QoS 2 is granted as 1, which is the server's right (section 3.9.3).
                filters[topic_filter] = min(qos, 1)
                return min(qos, 1)
            code = Reason.QUOTA_EXCEEDED
        self._count("subscribe_refused")
        return code if self.level == LEVEL_5 else Reason.UNSPECIFIED

    def _unsubscribe(self, packet: Unsubscribe) -> None:
        filters = self.session.filters
        known = [filters.pop(name, None) is not None for name in packet.filters]
        codes = [Reason.SUCCESS if one else Reason.NO_SUBSCRIPTION_EXISTED for one in known]
        self._send(Suback(type=PacketType.UNSUBACK, packet_id=packet.packet_id, codes=list(codes), properties={}))

    def _take_disconnect(self, packet: Disconnect) -> Closed:
        expiry_s = cast("int | None", packet.properties.get(Property.SESSION_EXPIRY_S))
        if expiry_s is not None:
            if expiry_s and not self.session.expiry_s:
                detail = "DISCONNECT sets an expiry for a session that had none [MQTT-3.14.2-2]"
                raise ProtocolViolation("session_expiry", detail, Reason.PROTOCOL_ERROR)
            self.session.expiry_s = min(expiry_s, SESSION_EXPIRY_S_MAX)
        # Only "normal disconnection" drops the will [MQTT-3.14.4-3] [MQTT-3.1.2-10].
        return Closed("disconnect", with_will=packet.code != Reason.SUCCESS)

    # ---- what the edge tells -----------------------------------------------------------------------------------------

    def accept(self, *, topics: DeviceTopics, session: Session, session_present: bool) -> None:
        """Let the client in as the device of these topics, with a session that is new or taken up again."""
        connect = self._connect
        assert connect is not None
        assert self.state is State.AUTHENTICATING
        self.topics, self.session = topics, session
        properties: Properties = {}
        if self.level == LEVEL_5:
            said = connect.properties
            self.commands_in_flight_max = cast("int", said.get(Property.RECEIVE_MAX, RECEIVE_MAX_DEFAULT))
            self.command_packet_bytes_max = cast("int", said.get(Property.PACKET_BYTES_MAX, PACKET_BYTES_MAX))
            properties = {
                Property.RECEIVE_MAX: RECEIVE_MAX,
                Property.PACKET_BYTES_MAX: PACKET_BYTES_MAX,
                Property.TOPIC_ALIAS_MAX: TOPIC_ALIASES_MAX,
                Property.SUBSCRIPTION_IDS_AVAILABLE: 0,
                Property.SHARED_SUBSCRIPTIONS_AVAILABLE: 0,
            }
            if session.expiry_s != said.get(Property.SESSION_EXPIRY_S, 0):
                properties[Property.SESSION_EXPIRY_S] = session.expiry_s
            if not connect.client_id:
                properties[Property.ASSIGNED_CLIENT_ID] = session.client_id
        self._send(Connack(session_present=session_present, code=0, properties=properties))
        self.state = State.CONNECTED
        # The will and the password have done their part; an idle connection is small.
        self._connect = None

    def refuse(self, error: PeerError) -> Closed:
        """Refuse the client with the error's code and a reason string that says what to do."""
        return self._fail(error)

    def disconnect(self, code: Reason, reason: str) -> Closed:
        """End the connection from our side: DISCONNECT with the code in version 5, a mere close in 3.1.1."""
        return self._fail(PeerError(reason, "", code))

    def lose(self) -> Closed:
        """Note that the socket went without a DISCONNECT."""
        self.state = State.CLOSED
        self._drop_held()
        return Closed("lost", with_will=True)

    def send_command(self, topic: str, payload: bytes, *, packet_id: int, dup: bool, expiry_s: int) -> bool:
        """Queue a QoS 1 publish to the device; False if it is larger than the device takes [MQTT-3.1.2-24]."""
        assert self.state is State.CONNECTED
        properties: Properties = {Property.MESSAGE_EXPIRY_S: expiry_s}
        packet = Publish(
            topic=topic, payload=payload, qos=1, retain=False, dup=dup, packet_id=packet_id, properties=properties
        )
        raw = encode(packet, level=self.level)
        if len(raw) > self.command_packet_bytes_max:
            return False
        self.out += raw
        return True

    def is_subscribed(self, topic: str) -> bool:
        """Return whether the device has asked for this topic."""
        return any(is_matching(name, topic) for name in self.session.filters)

    def _send(self, packet: Packet) -> None:
        self.out += encode(packet, level=self.level)

    def _fail(self, error: PeerError) -> Closed:
        """Close because of `error`, telling the peer as its version and the state allow (section 4.13)."""
        code = error.reason_code or Reason.UNSPECIFIED
        was, self.state = self.state, State.CLOSED
        self._drop_held()
        said: Properties = {Property.REASON_STRING: peer_text(error.detail)} if error.detail else {}
        if was is State.CONNECTED and self.level == LEVEL_5:
            self._send(Disconnect(type=PacketType.DISCONNECT, code=code, properties=said))
        elif was in (State.AWAITING_CONNECT, State.AUTHENTICATING):
            if self.level == LEVEL_5:
                self._send(Connack(session_present=False, code=code, properties=said))
            elif self.level or code == Reason.UNSUPPORTED_PROTOCOL_VERSION:
                code = CONNECT_CODES_311.get(code, NOT_AUTHORIZED_311)
                self._send(Connack(session_present=False, code=code, properties={}))
        return Closed(error.reason, with_will=True)


def _check_size(packet_type: PacketType, packet_bytes: int) -> None:
    """Refuse a packet by its header alone, before a byte more of it is kept [MQTT-3.1.2-24]."""
    limit_bytes = _PACKET_BYTES_MAX.get(packet_type, CONTROL_BYTES_MAX)
    if packet_bytes > limit_bytes:
        detail = f"{packet_type.name} of {packet_bytes} bytes, limit is {limit_bytes}; split it at the device"
        raise LimitExceeded("packet_too_large", detail, Reason.PACKET_TOO_LARGE)
