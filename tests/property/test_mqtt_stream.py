"""The server's state machine on streams: any cut gives the same, and nothing a peer sends breaks it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.mqtt.codec import decode
from gateway.wire.mqtt.encode import encode
from gateway.wire.mqtt.events import Closed, Event
from gateway.wire.mqtt.packets import Packet, PacketType, Ping, Property, Publish
from gateway.wire.mqtt.publishes import Publishes
from gateway.wire.mqtt.session import ServerConnection, State
from tests.property.mqtt_strategies import packet_ids, subscribes, unsubscribes
from tests.unit.gateway.wire.mqtt.device import Counts, connect_bytes, connected, said

topics = st.sampled_from(
    ["v1/acme/bus-1/telemetry", "v1/acme/bus-1/battery", "v1/acme/bus-1/event", "v1/acme/bus-2/telemetry", "no/such"]
)


def sent_publishes(level: int) -> st.SearchStrategy[Publish]:
    """Draw a PUBLISH as a device sends it, sizes around the edges of the length's one and two bytes."""
    sizes = st.sampled_from([0, 1, 80, 90, 96, 97, 98, 99, 100, 101, 110, 300, 16_340, 16_360, 16_400])
    payloads = st.builds(lambda n, fill: bytes([fill]) * n, sizes, st.integers(0, 255))
    properties = st.just({}) if level == 4 else st.sampled_from([{}, {}, {Property.CONTENT_TYPE: "json"}])

    @st.composite
    def draw_one(draw: st.DrawFn) -> Publish:
        qos = draw(st.sampled_from([0, 1, 1, 1, 2]))
        topic = (
            draw(topics) if level == 5 else draw(st.sampled_from(["v1/acme/bus-1/telemetry", "v1/acme/bus-1/event"]))
        )
        return Publish(
            topic=topic,
            payload=draw(payloads),
            qos=qos,
            retain=draw(st.booleans()),
            dup=draw(st.sampled_from([False, False, True])) if qos else False,
            packet_id=draw(packet_ids) if qos else 0,
            properties=draw(properties),
        )

    return draw_one()


def sent_packets(level: int) -> st.SearchStrategy[list[Packet]]:
    """Draw what a device sends after CONNECT."""
    pings = st.just(Ping(type=PacketType.PINGREQ))
    one: st.SearchStrategy[Packet] = st.one_of(
        sent_publishes(level), sent_publishes(level), sent_publishes(level), subscribes, unsubscribes, pings
    )
    return st.lists(one, max_size=12)


def taken(machine: ServerConnection, chunks: list[bytes]) -> tuple[list[tuple[str, bytes]], bytes, bytes, list[str]]:
    """Return messages, acknowledgements, other answers and reasons of closing, each in order, over all chunks."""
    messages: list[tuple[str, bytes]] = []
    acks = b""
    closed: list[str] = []
    events: list[Event] = []
    for chunk in chunks:
        events += machine.receive(chunk)
    for event in events:
        if isinstance(event, Publishes):
            messages += zip([route.channel for route in event.routes], event.payloads, strict=True)
            acks += event.acks()
        elif isinstance(event, Closed):
            closed.append(event.reason)
    return messages, acks, said(machine), closed


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """Return `raw` in pieces."""
    edges = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("level", [4, 5])
def test_any_cut_of_a_stream_means_the_same(level: int) -> None:
    """Packets of all sizes in one chunk, in random chunks and byte by byte."""

    @given(sent_packets(level), st.lists(st.integers(0, 60_000), max_size=12))
    def check(packets: list[Packet], places: list[int]) -> None:
        raw = b"".join(encode(packet, level=level) for packet in packets)
        whole = taken(connected(level), [raw])
        assert whole == taken(connected(level), cut(raw, places))
        if len(raw) < 2_000:
            assert whole == taken(connected(level), [raw[i : i + 1] for i in range(len(raw))])

    check()


@pytest.mark.parametrize("level", [4, 5])
def test_publishes_agree_with_a_naive_reading(level: int) -> None:
    """The fast path and the codec together against ten lines that decode packet by packet."""

    @given(st.lists(sent_publishes(level), max_size=15))
    def check(packets: list[Publish]) -> None:
        expected: list[tuple[str, bytes]] = []
        acks = b""
        unreleased: set[int] = set()
        for packet in packets:
            raw = encode(packet, level=level)
            start = 2 + (raw[1] > 127) + (raw[2] > 127 and raw[1] > 127)
            read = decode(raw[0], raw[start:], level=level)
            assert isinstance(read, Publish)
            own = read.topic.startswith("v1/acme/bus-1/")
            again = read.qos == 2 and read.packet_id in unreleased
            if own and not again:
                expected.append((read.topic.removeprefix("v1/acme/bus-1/"), read.payload))
            if read.qos and not again:
                head = b"\x40" if read.qos == 1 else b"\x50"
                code = b"" if own else b"\x87" if read.topic.startswith("v1/acme") else b"\x90"
                acks += head + bytes([2 + len(code)]) + read.packet_id.to_bytes(2, "big") + code
            if own and read.qos == 2:
                unreleased.add(read.packet_id)
        stream = b"".join(encode(packet, level=level) for packet in packets)
        assert (expected, acks, b"", []) == taken(connected(level), [stream])

    check()


@given(st.lists(st.binary(max_size=120), max_size=6))
def test_arbitrary_bytes_before_connect_harm_nobody(chunks: list[bytes]) -> None:
    """They are held, refused or, should they be a CONNECT, asked about."""
    machine = ServerConnection(count=Counts())
    for chunk in chunks:
        machine.receive(chunk)
    assert machine.state in (State.AWAITING_CONNECT, State.AUTHENTICATING, State.CLOSED)


@pytest.mark.parametrize("level", [4, 5])
def test_arbitrary_bytes_in_a_session_harm_nobody(level: int) -> None:
    """Good packets, damaged ones and noise: at most one `Closed`, and bounded memory."""

    noise = st.one_of(
        st.binary(max_size=60),
        sent_publishes(level).map(lambda p: encode(p, level=level)),
        st.tuples(st.sampled_from([0x30, 0x32, 0x34, 0x3D, 0x40, 0x62, 0x82, 0xA2, 0xE0]), st.binary(max_size=40)).map(
            lambda pair: bytes([pair[0], len(pair[1])]) + pair[1]
        ),
    )

    @given(st.lists(noise, max_size=8))
    def check(chunks: list[bytes]) -> None:
        machine = connected(level)
        closed = 0
        for chunk in chunks:
            for event in machine.receive(chunk):
                closed += isinstance(event, Closed)
                if isinstance(event, Publishes):
                    assert len(event.routes) == len(event.payloads)
        assert (machine.state is State.CLOSED) == (closed == 1)
        assert machine.held_bytes <= sum(map(len, chunks))

    check()


@given(st.lists(st.integers(0, 200), max_size=6))
def test_any_cut_of_connect_is_asked_about_once(places: list[int]) -> None:
    """CONNECT and what follows it, in pieces."""
    raw = connect_bytes(5, username="u", password=b"p") + encode(Ping(type=PacketType.PINGREQ), level=5)
    machine = ServerConnection(count=Counts())
    events = [event for chunk in cut(raw, places) for event in machine.receive(chunk)]
    assert len(events) == 1
    assert State.AUTHENTICATING is machine.state
