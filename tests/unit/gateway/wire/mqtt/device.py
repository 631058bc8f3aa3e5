"""A device's side of a connection, spelt out in bytes, and a server connection that is past CONNECT."""

from collections import Counter
from typing import TypeVar

from gateway.core.ids import DeviceId, TenantId
from gateway.wire.mqtt.encode import encode
from gateway.wire.mqtt.events import ConnectRequested, Event, Session
from gateway.wire.mqtt.packets import Ack, Connect, PacketType, Properties, Publish, Subscribe, Will
from gateway.wire.mqtt.routes import DeviceTopics
from gateway.wire.mqtt.session import ServerConnection
from gateway.wire.topics import DEFAULT_PATTERN, TopicTable

TENANT = TenantId("acme")
DEVICE = DeviceId("bus-1")
TOPIC = "v1/acme/bus-1/telemetry"
TABLE = TopicTable.from_patterns([(DEFAULT_PATTERN, None)])


E = TypeVar("E")


class Counts(Counter[str]):
    """A Counter port that remembers."""

    def __call__(self, reason: str, n: int = 1) -> None:
        self[reason] += n


def connect_bytes(
    level: int = 4,
    *,
    client_id: str = DEVICE,
    clean_start: bool = True,
    keep_alive_s: int = 60,
    username: str | None = None,
    password: bytes | None = None,
    will: Will | None = None,
    properties: Properties | None = None,
) -> bytes:
    """Return a CONNECT."""
    connect = Connect(
        level=level,
        client_id=client_id,
        clean_start=clean_start,
        keep_alive_s=keep_alive_s,
        username=username,
        password=password,
        will=will,
        properties=properties or {},
    )
    return encode(connect, level=level)


def publish_bytes(
    payload: bytes = b"x",
    *,
    topic: str = TOPIC,
    qos: int = 1,
    packet_id: int = 1,
    dup: bool = False,
    level: int = 4,
    properties: Properties | None = None,
) -> bytes:
    """Return a PUBLISH."""
    packet = Publish(
        topic=topic,
        payload=payload,
        qos=qos,
        retain=False,
        dup=dup,
        packet_id=packet_id if qos else 0,
        properties=properties or {},
    )
    return encode(packet, level=level)


def ack_bytes(kind: PacketType, packet_id: int, *, code: int = 0, level: int = 4) -> bytes:
    """Return a PUBACK, PUBREC, PUBREL or PUBCOMP."""
    return encode(Ack(type=kind, packet_id=packet_id, code=code, properties={}), level=level)


def subscribe_bytes(*filters: str, level: int = 4, packet_id: int = 9, qos: int = 1) -> bytes:
    """Return a SUBSCRIBE."""
    return encode(Subscribe(packet_id=packet_id, filters=[(f, qos) for f in filters], properties={}), level=level)


def accept(machine: ServerConnection, *, session: Session | None = None) -> None:
    """Let the client of the CONNECT in as `DEVICE`."""
    topics = DeviceTopics(TABLE, tenant=TENANT, device_id=DEVICE)
    machine.accept(topics=topics, session=session or Session(DEVICE, 0), session_present=session is not None)


def connected(
    level: int = 4,
    *,
    counts: Counts | None = None,
    session: Session | None = None,
    properties: Properties | None = None,
) -> ServerConnection:
    """Return a connection that has sent its CONNACK."""
    machine = ServerConnection(count=Counts() if counts is None else counts)
    [event] = machine.receive(connect_bytes(level, properties=properties))
    assert isinstance(event, ConnectRequested)
    accept(machine, session=session)
    machine.out.clear()
    return machine


def said(machine: ServerConnection) -> bytes:
    """Return what the machine wants written, and forget it."""
    out = bytes(machine.out)
    machine.out.clear()
    return out


def only(kind: type[E], events: list[Event]) -> E:
    """Return the one event there is, which must be of this kind."""
    [event] = events
    assert isinstance(event, kind)
    return event
