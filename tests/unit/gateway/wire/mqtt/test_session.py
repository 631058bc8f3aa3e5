"""The server's state machine: what may come when, what is answered, what is refused."""

import pytest

from gateway.core.errors import IdentityRefused
from gateway.core.limits import CONNECT_BYTES_MAX, PACKET_BYTES_MAX, PAYLOAD_BYTES_MAX, RECEIVE_MAX, SUBSCRIPTIONS_MAX
from gateway.wire.mqtt.codec import decode
from gateway.wire.mqtt.encode import encode
from gateway.wire.mqtt.events import Closed, CommandAcknowledged, ConnectRequested, FiltersChanged, Session
from gateway.wire.mqtt.packets import Connack, Disconnect, PacketType, Property, Reason, Unsubscribe
from gateway.wire.mqtt.publishes import Publishes
from gateway.wire.mqtt.session import TRANSITIONS, ServerConnection, State
from tests.unit.gateway.wire.mqtt.device import (
    DEVICE,
    Counts,
    accept,
    ack_bytes,
    connect_bytes,
    connected,
    only,
    publish_bytes,
    said,
    subscribe_bytes,
)

PINGREQ, PINGRESP, DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"


def disconnect_code(machine: ServerConnection) -> int:
    """Return the reason code of the DISCONNECT that the machine wants written."""
    out = said(machine)
    packet = decode(out[0], out[2:], level=5)
    assert isinstance(packet, Disconnect)
    return packet.code


def test_each_state_has_its_transitions() -> None:
    """The table is whole."""
    assert set(State) == set(TRANSITIONS)


def test_connect_is_asked_about_and_answered() -> None:
    """A 3.1.1 CONNECT leads to CONNACK 0."""
    machine = ServerConnection(count=Counts())
    event = only(ConnectRequested, machine.receive(connect_bytes(username="u", password=b"p")))
    assert (event.connect.username, event.connect.password) == ("u", b"p")
    accept(machine)
    assert said(machine) == b"\x20\x02\x00\x00"


def test_connack_of_version_5_says_the_limits() -> None:
    """The client learns receive maximum, packet size and what is not available."""
    machine = ServerConnection(count=Counts())
    machine.receive(connect_bytes(5, client_id=""))
    accept(machine, session=Session(DEVICE, 0))
    out = said(machine)
    packet = decode(out[0], out[2:], level=5)
    assert isinstance(packet, Connack)
    assert packet.properties == {
        Property.RECEIVE_MAX: RECEIVE_MAX,
        Property.PACKET_BYTES_MAX: PACKET_BYTES_MAX,
        Property.TOPIC_ALIAS_MAX: 64,
        Property.SUBSCRIPTION_IDS_AVAILABLE: 0,
        Property.SHARED_SUBSCRIPTIONS_AVAILABLE: 0,
        Property.ASSIGNED_CLIENT_ID: DEVICE,
    }


@pytest.mark.parametrize(("level", "expected"), [(4, b"\x20\x02\x00\x04"), (5, b"\x20")])
def test_refused_client_gets_the_code_of_its_version(level: int, expected: bytes) -> None:
    """Wrong credentials are 4 in 3.1.1 and 0x86 in 5."""
    machine = ServerConnection(count=Counts())
    machine.receive(connect_bytes(level))
    closed = machine.refuse(IdentityRefused("wrong_password", "mend it", Reason.BAD_USERNAME_OR_PASSWORD))
    out = said(machine)
    assert (closed.reason, machine.state) == ("wrong_password", State.CLOSED)
    assert expected == out[: len(expected)]
    if level == 5:
        assert out[3] == Reason.BAD_USERNAME_OR_PASSWORD


@pytest.mark.parametrize("first", [publish_bytes(), PINGREQ, DISCONNECT, b"GET / HTTP/1.1\r\n\r\n"])
def test_first_packet_must_be_connect(first: bytes) -> None:
    """Anything else closes without an answer [MQTT-3.1.0-1]."""
    machine = ServerConnection(count=Counts())
    assert only(Closed, machine.receive(first)).reason == "not_connect"
    assert said(machine) == b""


def test_second_connect_is_a_protocol_error() -> None:
    """[MQTT-3.1.0-2]."""
    machine = connected(5)
    assert only(Closed, machine.receive(connect_bytes(5))).reason == "unexpected_packet"
    assert disconnect_code(machine) == Reason.PROTOCOL_ERROR


@pytest.mark.parametrize("level", [0, 3, 6, 255])
def test_other_protocol_levels_are_told_so(level: int) -> None:
    """[3.1.1: MQTT-3.1.2-2]: return code 1, then close."""
    machine = ServerConnection(count=Counts())
    raw = bytearray(connect_bytes(4))
    raw[8] = level
    assert only(Closed, machine.receive(bytes(raw))).reason == "protocol_version"
    assert said(machine) == b"\x20\x02\x00\x01"


def test_large_connect_is_refused_on_its_header() -> None:
    """Nothing is buffered for a CONNECT that says it is large."""
    machine = ServerConnection(count=Counts())
    header = b"\x10" + encode_length(CONNECT_BYTES_MAX)
    assert only(Closed, machine.receive(header)).reason == "packet_too_large"
    assert machine.held_bytes == 0


def encode_length(n: int) -> bytes:
    """Return a remaining length, naively."""
    out = b""
    while n > 127:
        out += bytes([n % 128 + 128])
        n //= 128
    return out + bytes([n])


def test_large_publish_is_refused_on_its_header() -> None:
    """0x95, before a byte of it is kept."""
    machine = connected(5)
    assert only(Closed, machine.receive(b"\x32" + encode_length(PACKET_BYTES_MAX))).reason == "packet_too_large"
    assert (disconnect_code(machine), machine.held_bytes) == (Reason.PACKET_TOO_LARGE, 0)


def test_payload_over_the_limit_is_refused() -> None:
    """A packet may be just within its limit and its payload not."""
    machine = connected(5)
    closed = only(Closed, machine.receive(publish_bytes(bytes(PAYLOAD_BYTES_MAX + 1), level=5)))
    assert (closed.reason, disconnect_code(machine)) == ("payload_too_large", Reason.PACKET_TOO_LARGE)


def test_largest_payload_is_taken() -> None:
    """The limit itself is allowed."""
    run = only(Publishes, connected().receive(publish_bytes(bytes(PAYLOAD_BYTES_MAX))))
    assert [len(p) for p in run.payloads] == [PAYLOAD_BYTES_MAX]


def test_publishes_of_a_chunk_come_as_one_run() -> None:
    """Routes and payloads side by side, acknowledgements in order of receipt."""
    machine = connected()
    chunk = b"".join(publish_bytes(b"p" * 200 + bytes([i]), packet_id=i + 1) for i in range(3))
    run = only(Publishes, machine.receive(chunk))
    assert [b"p" * 200 + bytes([i]) for i in range(3)] == run.payloads
    assert [(r.tenant, r.device_id, r.source, r.channel) for r in run.routes] == [
        ("acme", "bus-1", "mqtt", "telemetry")
    ] * 3
    assert machine.unacknowledged == 3
    assert machine.settle(run) == b"\x40\x02\x00\x01\x40\x02\x00\x02\x40\x02\x00\x03"
    assert machine.unacknowledged == 0


def test_qos_0_is_owed_nothing() -> None:
    """No acknowledgement, but a place in the journal."""
    machine = connected()
    run = only(Publishes, machine.receive(publish_bytes(qos=0)))
    assert (run.payloads, machine.settle(run)) == ([b"x"], b"")


def test_mixed_qos_is_acknowledged_in_order() -> None:
    """[MQTT-4.6.0-2]: also where the fast path and the codec take turns."""
    machine = connected()
    chunk = b"".join(
        [
            publish_bytes(b"a" * 200, packet_id=1),
            publish_bytes(b"b" * 200, packet_id=2),
            publish_bytes(b"c", qos=2, packet_id=3),
            publish_bytes(b"d" * 200, packet_id=4),
            publish_bytes(b"e", qos=0),
            publish_bytes(b"f", packet_id=5, dup=True),
        ]
    )
    run = only(Publishes, machine.receive(chunk))
    assert [p[:1] for p in run.payloads] == [b"a", b"b", b"c", b"d", b"e", b"f"]
    expected = [(0x40, 1), (0x40, 2), (0x50, 3), (0x40, 4), (0x40, 5)]
    acks = machine.settle(run)
    assert expected == [(acks[i], acks[i + 3]) for i in range(0, len(acks), 4)]


@pytest.mark.parametrize("level", [4, 5])
def test_qos_2_is_taken_once_until_pubrel(level: int) -> None:
    """A duplicate is acknowledged and not taken; after PUBREL the identifier is new [MQTT-4.3.3-10]."""
    machine = connected(level)
    packet = publish_bytes(qos=2, packet_id=7, level=level)
    again = publish_bytes(qos=2, packet_id=7, level=level, dup=True)
    run = only(Publishes, machine.receive(packet))
    assert machine.receive(again) == []  # still on its way to the disk: one PUBREC answers both
    assert machine.settle(run) == b"\x50\x02\x00\x07"
    repeated = only(Publishes, machine.receive(again))
    assert (repeated.payloads, repeated.acks()[0]) == ([], 0x50)
    assert machine.receive(ack_bytes(PacketType.PUBREL, 7, level=level)) == []
    assert said(machine) == b"\x70\x02\x00\x07"
    assert only(Publishes, machine.receive(packet)).payloads == [b"x"]


def test_qos_2_identifiers_outlive_the_connection() -> None:
    """With a session, a resend after a reconnect is not taken twice."""
    first = connected()
    run = only(Publishes, first.receive(publish_bytes(qos=2, packet_id=7)))
    first.settle(run)
    second = connected(session=first.session)
    again = only(Publishes, second.receive(publish_bytes(qos=2, packet_id=7, dup=True)))
    assert (again.payloads, again.acks()) == ([], b"\x50\x02\x00\x07")


def test_pubrel_of_an_unknown_identifier_is_told_so() -> None:
    """0x92 in version 5, a plain PUBCOMP in 3.1.1."""
    five, four = connected(5), connected(4)
    five.receive(ack_bytes(PacketType.PUBREL, 8, level=5))
    four.receive(ack_bytes(PacketType.PUBREL, 8))
    assert (said(five), said(four)) == (b"\x70\x03\x00\x08\x92", b"\x70\x02\x00\x08")


def test_failed_run_is_refused_in_version_5_with_quota_exceeded() -> None:
    """What was durable before, or refused anyway, keeps its code."""
    machine = connected(5)
    machine.settle(only(Publishes, machine.receive(publish_bytes(qos=2, packet_id=1, level=5))))
    chunk = b"".join(
        [
            publish_bytes(qos=2, packet_id=1, level=5, dup=True),
            publish_bytes(packet_id=2, level=5),
            publish_bytes(packet_id=3, level=5, topic="v1/acme/bus-2/telemetry"),
            publish_bytes(qos=2, packet_id=4, level=5),
        ]
    )
    run = only(Publishes, machine.receive(chunk))
    refused = machine.settle_failed(run)
    assert refused == b"\x50\x03\x00\x01\x00\x40\x03\x00\x02\x97\x40\x03\x00\x03\x87\x50\x03\x00\x04\x97"
    assert machine.session.qos2 == {1: True}


def test_failed_run_of_3_1_1_has_no_answer() -> None:
    """None says: close."""
    machine = connected()
    run = only(Publishes, machine.receive(publish_bytes()))
    assert machine.settle_failed(run) is None


@pytest.mark.parametrize(
    ("topic", "code", "reason"),
    [
        ("v1/acme/bus-2/telemetry", Reason.NOT_AUTHORIZED, "topic_not_own"),
        ("v1/other/bus-1/telemetry", Reason.NOT_AUTHORIZED, "topic_not_own"),
        ("v2/acme/bus-1/telemetry", Reason.TOPIC_NAME_INVALID, "topic_unknown"),
        ("v1/acme/bus-1/" + "x" * 600, Reason.TOPIC_NAME_INVALID, "topic_unknown"),
        ("v1/acme/bus-1" + "/x" * 16, Reason.TOPIC_NAME_INVALID, "topic_unknown"),
    ],
)
def test_foreign_topics_are_refused(topic: str, code: Reason, reason: str) -> None:
    """Version 5 gets a code for that one publish and stays; 3.1.1 is closed; neither reaches the journal."""
    counts = Counts()
    five = connected(5, counts=counts)
    run = only(Publishes, five.receive(publish_bytes(topic=topic, level=5)))
    assert ([], bytes([0x40, 3, 0, 1, code])) == (run.payloads, run.acks())
    assert {reason: 1} == counts
    assert five.receive(publish_bytes(topic=topic, level=5, qos=0)) == []
    four = connected(4)
    assert reason == only(Closed, four.receive(publish_bytes(topic=topic))).reason


def test_hostile_topics_are_not_remembered() -> None:
    """Only topics that were found good take memory."""
    machine = connected(5)
    for i in range(50):
        machine.receive(publish_bytes(topic=f"v1/acme/other-{i}/telemetry", level=5))
    assert machine.topics.memo == {}


def test_topic_memory_is_bounded() -> None:
    """A device with ever new channels does not grow the server."""
    machine = connected(5)
    for i in range(1000):
        machine.receive(publish_bytes(topic=f"v1/acme/bus-1/c{i}", qos=0, level=5))
    assert len(machine.topics.memo) <= 256


@pytest.mark.parametrize(
    ("packet", "reason", "code"),
    [
        (b"\x32\x06\x00\x02\xff\xfe\x00\x01", "topic_utf8", 0x81),
        (b"\x32\x06\x00\x02a\x00\x00\x01", "topic_nul", 0x81),
        (b"\x32\x06\x00\x02a#\x00\x01", "topic_wildcard", 0x81),
        (b"\x32\x06\x00\x02+/\x00\x01", "topic_wildcard", 0x81),
        (b"\x32\x07\x00\x02ab\x00\x00\x00", "packet_id_zero", 0x82),
        (b"\x36\x06\x00\x02ab\x00\x01", "flags", 0x81),
        (b"\x38\x04\x00\x02ab", "flags", 0x81),
        (b"\x32\x04\x00\x09ab", "malformed", 0x81),
        (b"\x32\x03\x00\x01a", "malformed", 0x81),
        (b"\x30\x00", "malformed", 0x81),
        (b"\xc1\x00", "flags", 0x81),
        (b"\xc0\x01\x00", "trailing_bytes", 0x81),
        (b"\x60\x02\x00\x01", "flags", 0x81),
        (b"\x00\x00", "packet_type", 0x81),
        (b"\xf0\x00", "unexpected_packet", 0x82),
        (b"\x20\x02\x00\x00", "unexpected_packet", 0x82),
        (b"\x50\x02\x00\x01", "unexpected_packet", 0x82),
        (b"\x80\x02\x00\x01", "flags", 0x81),
        (b"\x82\x03\x00\x01\x00", "no_filters", 0x82),
        (b"\x82\x07\x00\x01\x00\x00\x01a\x03", "flags", 0x81),
        (b"\x82\x08\x00\x01\x00\x00\x02a#\x01", "filter", 0x8F),
        (b"\x32\xff\xff\xff\xff\x01", "remaining_length", 0x81),
        (b"\x32\x80\x00", "remaining_length", 0x81),
        (b"\x30\x07\x00\x01a\x03\x23\x00\x00", "property_value", 0x82),
        (b"\x30\x07\x00\x01a\x03\x23\x00\x41", "topic_alias", 0x94),
        (b"\x30\x06\x00\x00\x03\x23\x00\x01", "topic_alias", 0x82),
        (b"\x30\x03\x00\x00\x00", "topic_empty", 0x82),
        (b"\x30\x06\x00\x01a\x02\x0b\x01", "property_value", 0x82),
        (b"\x30\x06\x00\x01a\x02\x7f\x01", "malformed", 0x81),
        (b"\x30\x08\x00\x01a\x04\x01\x00\x01\x00", "property_repeated", 0x82),
    ],
)
def test_forbidden_bytes_close_with_their_code(packet: bytes, reason: str, code: int) -> None:
    """Version 5 is told the code in DISCONNECT; the same bytes after a good publish do not take it along."""
    machine = connected(5)
    events = machine.receive(publish_bytes(level=5) + packet + PINGREQ)
    assert [Publishes, Closed] == [type(event) for event in events]
    closed = events[-1]
    assert isinstance(closed, Closed)
    assert (reason, True) == (closed.reason, closed.with_will)
    assert code == disconnect_code(machine)
    assert machine.receive(PINGREQ) == []


@pytest.mark.parametrize("size", [20, 300])
@pytest.mark.parametrize("level", [4, 5])
def test_packet_identifier_zero_is_refused_on_a_known_topic(level: int, size: int) -> None:
    """The fast path leaves it to the codec."""
    machine = connected(level)
    bad = publish_bytes(b"x" * size, packet_id=0, level=level)
    events = machine.receive(publish_bytes(level=level) * 2 + bad)
    assert [Publishes, Closed] == [type(event) for event in events]
    assert Closed("packet_id_zero", with_will=True) == events[-1]


def test_long_form_of_a_length_is_refused_in_version_5_on_a_known_topic() -> None:
    """[MQTT-1.5.5-1], also where the fast path looks first."""
    machine = connected(5)
    packet = publish_bytes(b"x" * 20, level=5)
    long = packet[:1] + bytes([packet[1] | 0x80, 0]) + packet[2:]
    assert Closed("remaining_length", with_will=True) == machine.receive(packet * 2 + long)[-1]


def test_3_1_1_is_closed_without_a_word() -> None:
    """3.1.1 has no DISCONNECT from the server."""
    machine = connected(4)
    assert only(Closed, machine.receive(b"\x32\x06\x00\x02ab\x00\x00")).reason == "packet_id_zero"
    assert said(machine) == b""


def test_long_form_of_a_length_is_fine_in_3_1_1() -> None:
    """Only version 5 demands the shortest form; small devices patch a fixed two-byte length."""
    packet = publish_bytes(b"x" * 20)
    long = packet[:1] + bytes([packet[1] | 0x80, 0]) + packet[2:]
    assert only(Publishes, connected(4).receive(long)).payloads == [b"x" * 20]


def test_receive_maximum_is_enforced_in_version_5() -> None:
    """0x93 for the message after the last allowed; those before are journalled all the same."""
    machine = connected(5)
    chunk = b"".join(publish_bytes(packet_id=i + 1, level=5) for i in range(RECEIVE_MAX))
    assert len(machine.receive(chunk)) == 1
    events = machine.receive(publish_bytes(packet_id=RECEIVE_MAX + 1, level=5))
    assert [Publishes, Closed] == [type(event) for event in events]
    assert disconnect_code(machine) == Reason.RECEIVE_MAX_EXCEEDED


def test_unreleased_qos_2_identifiers_are_bounded_in_3_1_1() -> None:
    """No pause of the socket could drain them."""
    machine = connected(4)
    closed: list[Closed] = []
    for i in range(RECEIVE_MAX + 1):
        for event in machine.receive(publish_bytes(qos=2, packet_id=i + 1)):
            if isinstance(event, Closed):
                closed.append(event)
            elif isinstance(event, Publishes):
                machine.settle(event)
    assert [event.reason for event in closed] == ["receive_max"]


def test_topic_alias_stands_for_its_topic() -> None:
    """Set once, then used with an empty topic."""
    machine = connected(5)
    alias = {Property.TOPIC_ALIAS: 3}
    run = only(
        Publishes,
        machine.receive(
            publish_bytes(level=5, properties=alias)
            + publish_bytes(b"y", topic="", packet_id=2, level=5, properties=alias)
        ),
    )
    assert [route.channel for route in run.routes] == ["telemetry", "telemetry"]


def test_ping_is_answered() -> None:
    """PINGRESP."""
    machine = connected()
    assert machine.receive(PINGREQ) == []
    assert said(machine) == PINGRESP


@pytest.mark.parametrize(
    ("topic_filter", "five", "four"),
    [
        ("v1/acme/bus-1/cmd/#", 1, 1),
        ("v1/acme/bus-1/cmd/+", 1, 1),
        ("v1/acme/bus-1/cmd/abc", 1, 1),
        ("v1/acme/bus-1/#", 0x87, 0x80),
        ("v1/acme/bus-2/cmd/#", 0x87, 0x80),
        ("v1/+/+/cmd/#", 0x87, 0x80),
        ("#", 0x87, 0x80),
        ("$SYS/#", 0x87, 0x80),
        ("$share/g/v1/acme/bus-1/cmd/#", 0x9E, 0x80),
    ],
)
def test_a_device_hears_its_own_commands_only(topic_filter: str, five: int, four: int) -> None:
    """Everything else is refused in SUBACK."""
    machine5, machine4 = connected(5), connected(4)
    only(FiltersChanged, machine5.receive(subscribe_bytes(topic_filter, level=5)))
    only(FiltersChanged, machine4.receive(subscribe_bytes(topic_filter)))
    assert bytes([0x90, 4, 0, 9, 0, five]) == said(machine5)
    assert bytes([0x90, 3, 0, 9, four]) == said(machine4)


def test_filters_per_session_are_bounded() -> None:
    """0x97 past the limit."""
    machine = connected(5)
    machine.receive(subscribe_bytes(*(f"v1/acme/bus-1/cmd/{i}" for i in range(SUBSCRIPTIONS_MAX + 1)), level=5))
    assert bytes([1] * SUBSCRIPTIONS_MAX + [0x97]) == said(machine)[-SUBSCRIPTIONS_MAX - 1 :]


def test_unsubscribe_says_what_was_there() -> None:
    """0x11 for a filter that was not."""
    machine = connected(5)
    machine.receive(subscribe_bytes("v1/acme/bus-1/cmd/#", level=5))
    said(machine)
    packet = Unsubscribe(packet_id=4, filters=["v1/acme/bus-1/cmd/#", "other"], properties={})
    only(FiltersChanged, machine.receive(encode(packet, level=5)))
    assert (said(machine), machine.session.filters) == (b"\xb0\x05\x00\x04\x00\x00\x11", {})


def test_command_is_a_qos_1_publish() -> None:
    """With DUP where it was sent before, and only if the device takes packets of its size."""
    machine = connected(5, properties={Property.PACKET_BYTES_MAX: 100})
    assert machine.send_command("v1/acme/bus-1/cmd/r", b"go", packet_id=5, dup=True, expiry_s=9)
    raw = said(machine)
    assert (raw[0], raw[23:25], raw[26:]) == (0x3A, b"\x00\x05", b"\x02\x00\x00\x00\x09go")
    assert not machine.send_command("v1/acme/bus-1/cmd/r", b"x" * 100, packet_id=6, dup=False, expiry_s=9)
    assert said(machine) == b""
    assert CommandAcknowledged(5, 0) == only(
        CommandAcknowledged, machine.receive(ack_bytes(PacketType.PUBACK, 5, level=5))
    )


@pytest.mark.parametrize(("code", "with_will"), [(0, False), (4, True), (0x80, True)])
def test_only_a_normal_disconnect_drops_the_will(code: int, with_will: bool) -> None:
    """[MQTT-3.14.4-3]."""
    machine = connected(5)
    raw = encode(Disconnect(type=PacketType.DISCONNECT, code=code, properties={}), level=5)
    assert Closed("disconnect", with_will=with_will) == only(Closed, machine.receive(raw))


def test_disconnect_may_shorten_a_session_and_not_begin_one() -> None:
    """[MQTT-3.14.2-2]."""
    machine = connected(5, session=Session(DEVICE, 60))
    shorter = Disconnect(type=PacketType.DISCONNECT, code=0, properties={Property.SESSION_EXPIRY_S: 5})
    only(Closed, machine.receive(encode(shorter, level=5)))
    assert machine.session.expiry_s == 5
    machine = connected(5, session=Session(DEVICE, 0))
    assert only(Closed, machine.receive(encode(shorter, level=5))).reason == "session_expiry"
    assert disconnect_code(machine) == Reason.PROTOCOL_ERROR


def test_bytes_behind_connect_wait_for_the_answer() -> None:
    """They are held, counted, and taken once the client is in."""
    machine = ServerConnection(count=Counts())
    only(ConnectRequested, machine.receive(connect_bytes() + publish_bytes(b"1")))
    assert machine.receive(publish_bytes(b"2", packet_id=2)) == []
    assert len(publish_bytes()) * 2 == machine.held_bytes
    accept(machine)
    assert only(Publishes, machine.receive(b"")).payloads == [b"1", b"2"]
    assert machine.held_bytes == 0


def test_empty_client_id_needs_a_clean_session_in_3_1_1() -> None:
    """[3.1.1: MQTT-3.1.3-8]: return code 2."""
    machine = ServerConnection(count=Counts())
    assert only(Closed, machine.receive(connect_bytes(client_id="", clean_start=False))).reason == "client_id"
    assert said(machine) == b"\x20\x02\x00\x02"


def test_enhanced_authentication_is_refused() -> None:
    """0x8C."""
    machine = ServerConnection(count=Counts())
    raw = connect_bytes(5, properties={Property.AUTHENTICATION_METHOD: "SCRAM"})
    assert only(Closed, machine.receive(raw)).reason == "authentication_method"
    assert said(machine)[3] == Reason.BAD_AUTHENTICATION_METHOD
