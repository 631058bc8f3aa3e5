"""What the server's side of a connection tells its caller, and the part of it that outlives the connection."""

from typing import TypeAlias

import msgspec

from gateway.wire.mqtt.packets import Connect
from gateway.wire.mqtt.publishes import Publishes


class Session:
    """What outlives a connection (section 4.1), in memory only: a restart of the server ends every session.

    Attributes:
        client_id: Client identifier; another one on the same device is another session.
        expiry_s: Seconds it is kept without a connection; 0 ends it with the connection.
        qos2: Packet identifiers between PUBLISH and PUBREL -> whether the message is durable.
        filters: Granted topic filters -> granted QoS.
    """

    __slots__ = ("client_id", "expiry_s", "filters", "qos2")

    def __init__(self, client_id: str, expiry_s: int) -> None:
        self.client_id = client_id
        self.expiry_s = expiry_s
        self.qos2: dict[int, bool] = {}
        self.filters: dict[str, int] = {}


class ConnectRequested(msgspec.Struct, frozen=True):
    """A client wants in; answer with `accept` or `refuse`. Nothing more is read until then."""

    connect: Connect


class CommandAcknowledged(msgspec.Struct, frozen=True):
    """The device has taken the command with this packet identifier, or refused it with a code from 0x80 on."""

    packet_id: int
    code: int


class FiltersChanged(msgspec.Struct, frozen=True):
    """The device has subscribed or unsubscribed."""


class Closed(msgspec.Struct, frozen=True):
    """Write what is in `out`, then close the socket.

    Attributes:
        reason: Bounded word to count it under.
        with_will: Whether the will is to be published.
    """

    reason: str
    with_will: bool


Event: TypeAlias = Publishes | ConnectRequested | CommandAcknowledged | FiltersChanged | Closed
