"""The MQTT codec against its own inverse, against the `mqtt5` package and against arbitrary bytes."""

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import PeerError
from gateway.wire.mqtt.codec import decode
from gateway.wire.mqtt.encode import encode
from gateway.wire.mqtt.packets import Connect, Packet, PacketType, Property, Publish
from gateway.wire.mqtt.primitives import read_fixed_header, read_varint, write_varint
from tests.property.mqtt_strategies import connects, packets, publishes, subscribes, unsubscribes


def decode_whole(raw: bytes, level: int) -> Packet:
    """Return the packet that is all of `raw`."""
    header = read_fixed_header(raw, 0, level=level)
    assert header is not None
    body, stop = header
    assert len(raw) == stop
    return decode(raw[0], raw[body:stop], level=level)


@pytest.mark.parametrize("level", [4, 5])
def test_packets_survive_the_round_trip(level: int) -> None:
    """decode(encode(p)) == p for everything a client sends."""

    @given(packets(level))
    def check(packet: Packet) -> None:
        assert packet == decode_whole(encode(packet, level=level), level)

    check()


@given(st.integers(0, 268_435_455))
def test_variable_byte_integers_agree_with_the_definition(value: int) -> None:
    """Base 128, lowest first, high bit on all but the last."""
    raw = write_varint(value)
    assert value == sum((byte & 127) * 128**i for i, byte in enumerate(raw))
    assert (value, len(raw)) == read_varint(raw, 0, len(raw))


@given(publishes(5))
def test_publish_means_the_same_to_the_mqtt5_package(ours: Publish) -> None:
    """Both ways: it reads what we write, and we read what it writes."""
    raw = encode(ours, level=5)
    theirs, consumed = mqtt5.read(memoryview(raw))
    assert isinstance(theirs, mqtt5.PublishPacket)
    assert len(raw) == consumed
    said = ours.properties
    assert (ours.topic, ours.payload, ours.qos, ours.retain, ours.dup, ours.packet_id or None) == (
        theirs.topic,
        theirs.payload,
        theirs.qos,
        theirs.retain,
        theirs.duplicate,
        theirs.packet_id,
    )
    assert (
        said.get(Property.PAYLOAD_FORMAT, 0),
        said.get(Property.MESSAGE_EXPIRY_S),
        said.get(Property.CONTENT_TYPE),
        said.get(Property.RESPONSE_TOPIC),
        said.get(Property.CORRELATION_DATA),
        said.get(Property.TOPIC_ALIAS),
        said.get(Property.USER_PROPERTY, []),
    ) == (
        theirs.payload_format_indicator,
        theirs.message_expiry_interval,
        theirs.content_type,
        theirs.response_topic,
        theirs.correlation_data,
        theirs.topic_alias,
        theirs.user_properties,
    )
    assert ours == decode_whole(theirs.write(), 5)


@given(connects(5))
def test_connect_means_the_same_to_the_mqtt5_package(ours: Connect) -> None:
    """It reads what we write; we read what it writes, which leaves out defaults."""
    theirs, _ = mqtt5.read(memoryview(encode(ours, level=5)))
    assert isinstance(theirs, mqtt5.ConnectPacket)
    assert (ours.client_id, ours.username, ours.password, ours.clean_start, ours.keep_alive_s) == (
        theirs.client_id,
        theirs.username,
        theirs.password,
        theirs.clean_start,
        theirs.keep_alive,
    )
    assert ours.properties.get(Property.SESSION_EXPIRY_S, 0) == theirs.session_expiry_interval
    again = decode_whole(theirs.write(), 5)
    assert isinstance(again, Connect)
    assert (ours.client_id, ours.username, ours.password, ours.keep_alive_s) == (
        again.client_id,
        again.username,
        again.password,
        again.keep_alive_s,
    )
    assert (ours.will is None, ours.will and ours.will.payload) == (
        again.will is None,
        again.will and again.will.payload,
    )


@given(st.one_of(subscribes, unsubscribes))
def test_filters_mean_the_same_to_the_mqtt5_package(ours: Packet) -> None:
    """SUBSCRIBE and UNSUBSCRIBE."""
    theirs, _ = mqtt5.read(memoryview(encode(ours, level=5)))
    if isinstance(theirs, mqtt5.SubscribePacket):
        named = [(one.pattern, int(one.max_qos)) for one in theirs.topic_filters]
    else:
        assert isinstance(theirs, mqtt5.UnsubscribePacket)
        named = theirs.patterns
    assert ours.filters == named
    assert ours.packet_id == theirs.packet_id


@pytest.mark.parametrize("level", [4, 5])
def test_arbitrary_bodies_raise_nothing_but_peer_errors(level: int) -> None:
    """Whatever is in a packet, it is read or refused."""

    @given(st.integers(0, 255), st.binary(max_size=80))
    def check(first: int, body: bytes) -> None:
        try:
            packet = decode(first, body, level=level)
        except PeerError as error:
            assert 0x80 <= error.reason_code <= 0xA2
        else:
            assert PacketType(first >> 4)
            assert packet is not None

    check()


@pytest.mark.parametrize("level", [4, 5])
def test_damaged_packets_raise_nothing_but_peer_errors(level: int) -> None:
    """A good packet with some bytes changed gets deeper into the code than noise does."""

    @given(packets(level), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
    def check(packet: Packet, damage: list[tuple[int, int]]) -> None:
        raw = bytearray(encode(packet, level=level))
        for at, byte in damage:
            raw[at % len(raw)] = byte
        try:
            header = read_fixed_header(bytes(raw), 0, level=level)
            if header is not None:
                decode(raw[0], bytes(raw[header[0] : header[1]]), level=level)
        except PeerError as error:
            assert error.reason_code >= 0x80

    check()
