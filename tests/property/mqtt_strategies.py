"""Hypothesis strategies for MQTT packets of both versions."""

from hypothesis import strategies as st

from gateway.wire.mqtt.packets import (
    Ack,
    Connect,
    PacketType,
    Properties,
    Property,
    Publish,
    Subscribe,
    Unsubscribe,
    Will,
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=24)
filters = st.sampled_from(["a", "a/b", "+", "#", "a/+/b", "a/#", "/", "v1/acme/bus-1/cmd/#"])
packet_ids = st.integers(1, 65_535)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=3)


@st.composite
def publishes(draw: st.DrawFn, level: int) -> Publish:
    """Draw a PUBLISH; version 5 with properties."""
    qos = draw(st.integers(0, 2))
    properties: Properties = {}
    if level == 5:
        properties = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    Property.PAYLOAD_FORMAT: st.just(1),
                    Property.MESSAGE_EXPIRY_S: st.integers(0, 2**32 - 1),
                    Property.CONTENT_TYPE: texts,
                    Property.RESPONSE_TOPIC: names,
                    Property.CORRELATION_DATA: st.binary(max_size=9),
                    Property.TOPIC_ALIAS: st.integers(1, 65_535),
                    Property.USER_PROPERTY: pairs,
                },
            )
        )
    return Publish(
        topic=draw(names),
        payload=draw(st.binary(max_size=300)),
        qos=qos,
        retain=draw(st.booleans()),
        dup=draw(st.booleans()) if qos else False,
        packet_id=draw(packet_ids) if qos else 0,
        properties=properties,
    )


@st.composite
def connects(draw: st.DrawFn, level: int) -> Connect:
    """Draw a CONNECT, half of them with a will."""
    five = level == 5
    will = None
    if draw(st.booleans()):
        will = Will(
            topic=draw(names),
            payload=draw(st.binary(max_size=20)),
            qos=draw(st.integers(0, 2)),
            retain=draw(st.booleans()),
            properties=draw(
                st.fixed_dictionaries(
                    {}, optional={Property.WILL_DELAY_S: st.integers(0, 99), Property.CONTENT_TYPE: texts}
                )
            )
            if five
            else {},
        )
    username = draw(st.none() | texts)
    return Connect(
        level=level,
        client_id=draw(texts),
        clean_start=draw(st.booleans()),
        keep_alive_s=draw(st.integers(0, 65_535)),
        username=username,
        password=draw(st.none() | st.binary(max_size=9)) if username is not None or five else None,
        will=will,
        properties=draw(
            st.fixed_dictionaries(
                {},
                optional={
                    Property.SESSION_EXPIRY_S: st.integers(1, 2**32 - 1),
                    Property.RECEIVE_MAX: st.integers(1, 65_534),
                    Property.PACKET_BYTES_MAX: st.integers(1, 2**32 - 1),
                    Property.TOPIC_ALIAS_MAX: st.integers(1, 65_535),
                    Property.USER_PROPERTY: pairs,
                },
            )
        )
        if five
        else {},
    )


def acks(level: int) -> st.SearchStrategy[Ack]:
    """Draw PUBACK, PUBREC, PUBREL or PUBCOMP."""
    kinds = st.sampled_from([PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP])
    return st.builds(Ack, type=kinds, packet_id=packet_ids, code=st.just(0), properties=st.just({}))


subscribes = st.builds(
    Subscribe,
    packet_id=packet_ids,
    filters=st.lists(st.tuples(filters, st.integers(0, 2)), min_size=1, max_size=4),
    properties=st.just({}),
)
unsubscribes = st.builds(
    Unsubscribe, packet_id=packet_ids, filters=st.lists(filters, min_size=1, max_size=4), properties=st.just({})
)


def packets(level: int) -> st.SearchStrategy[Connect | Publish | Ack | Subscribe | Unsubscribe]:
    """Draw any packet a client sends."""
    return st.one_of(connects(level), publishes(level), acks(level), subscribes, unsubscribes)
