"""The MQTT server's socket: who is connected, who may come in, and what happens to all of them at once.

An ingestion server: devices publish up and receive their own commands down. Nothing goes from device to device, and the
retained flag is taken and ignored.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from gateway.core.errors import JournalError, PeerError
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import (
    CONNECTIONS_UNAUTHENTICATED_MAX,
    PARTIAL_BYTES_MAX,
    SESSION_EXPIRY_S_MAX,
)
from gateway.core.ports import Counter, JournalWriter
from gateway.edge.commands import CommandQueue
from gateway.edge.mqtt_connection import MqttConnection
from gateway.edge.mqtt_sessions import PendingWill, SessionStore
from gateway.edge.sockets import Sockets
from gateway.wire.mqtt.events import Closed, Session
from gateway.wire.mqtt.packets import LEVEL_5, Connect, Property, Reason
from gateway.wire.mqtt.routes import DeviceTopics
from gateway.wire.mqtt.session import State
from gateway.wire.topics import TopicTable

if TYPE_CHECKING:
    from gateway.edge.admission import Identity

_LINGER_S: Final = 5
"""How long a closed socket may take to send what is left before it is aborted."""
_REASONS: Final = {
    "connections_max": Reason.SERVER_BUSY,
    "unauthenticated_max": Reason.SERVER_BUSY,
    "connect_timeout": Reason.UNSPECIFIED,
    "shutdown": Reason.SERVER_SHUTTING_DOWN,
}
"""What a client is told when its connection is ended for all of them."""

Key: TypeAlias = tuple[TenantId, DeviceId]
"""Whom a connection and a session belong to."""


class Authenticator(Protocol):
    """Says who a client is."""

    def authenticate(
        self, *, client_id: str, username: str | None, password: bytes | None, address: str
    ) -> "Awaitable[Identity]":
        """Return the identity. Raises: PeerError: Refused, with the reason code for the client."""
        ...


class MqttListener:
    """MQTT 3.1.1 and 5 on one port; the protocol level in CONNECT decides. `start` and `close` belong to one task.

    Args:
        journal: Takes the publishes.
        topics: Which topic belongs to which device.
        admission: Says who a client is.
        commands: Commands for the devices.
        count: Counts what was closed or refused, by reason.
        now_ns: UTC nanoseconds, for the time of receipt.

    Attributes:
        received: Messages taken from devices, wills included.
        acknowledged: Those that became durable. The others are counted as "not_durable", or on their way to the disk.
    """

    def __init__(
        self,
        *,
        journal: JournalWriter,
        topics: TopicTable,
        admission: Authenticator,
        commands: CommandQueue,
        count: Counter,
        now_ns: Callable[[], int],
    ) -> None:
        self.journal = journal
        self.commands = commands
        self.count = count
        self.now_ns = now_ns
        self.received = 0
        self.acknowledged = 0
        self._sockets: Sockets[MqttConnection] = Sockets(
            journal=journal,
            unauthenticated_max=CONNECTIONS_UNAUTHENTICATED_MAX,
            end=_end,
            sweep=self._sweep,
        )
        self.paused = self._sockets.paused
        self._topics = topics
        self._admission = admission
        self._connected: dict[Key, MqttConnection] = {}
        self._draining: dict[Key, MqttConnection] = {}
        self._sessions: SessionStore[Key] = SessionStore()
        self._held_bytes = 0

    @property
    def connections(self) -> int:
        """Connections of authenticated devices."""
        return len(self._connected)

    @property
    def unauthenticated(self) -> int:
        """Sockets whose CONNECT has not come or not been answered."""
        return self._sockets.unauthenticated

    @property
    def parked_sessions(self) -> int:
        """Sessions kept for devices that are away."""
        return len(self._sessions)

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port, which the system chooses for 0. Raises: OSError: The address cannot be bound."""
        bound = await self._sockets.listen(lambda: MqttConnection(self), host, port)
        self.commands.on_waiting(self._deliver)
        return bound

    async def close(self) -> None:
        """Stop accepting and reading, let what was read become durable and acknowledged, disconnect everybody.

        Wills are not published: it is the server that goes.
        """
        await self._sockets.close(lambda connection: connection.wait_drained() if connection.has_runs else None)

    def disconnect_device(self, tenant: TenantId, device_id: DeviceId) -> None:
        """End a device's connection and session now: its credentials were revoked."""
        connection = self._connected.get((tenant, device_id))
        if connection is not None:
            connection.machine.session.expiry_s = 0
            connection.disconnect(Reason.ADMINISTRATIVE_ACTION, "revoked")
        self._publish_wills(self._sessions.forget((tenant, device_id)))

    # ---- called by connections ---------------------------------------------------------------------------------------

    def arrived(self, connection: MqttConnection) -> None:
        """Give a new socket a place, if need be that of the socket that has been silent longest."""
        self._sockets.arrived(connection)

    def connect_requested(self, connection: MqttConnection, connect: Connect) -> None:
        """Find out who it is; the connection reads nothing until then."""
        self._sockets.log_in(connection, self._admit(connection, connect), name="mqtt-connect")

    def hold(self, connection: MqttConnection) -> None:
        """Count the bytes of unfinished packets over all connections."""
        self._held_bytes += connection.machine.held_bytes - connection.held_bytes
        connection.held_bytes = connection.machine.held_bytes
        if self._held_bytes > PARTIAL_BYTES_MAX:
            connection.disconnect(Reason.QUOTA_EXCEEDED, "partial_bytes")

    def ended(self, connection: MqttConnection, closed: Closed) -> None:
        """Count why a connection ended, park its session, publish its will. Called once per connection."""
        self.count(closed.reason)
        self._sockets.ended(connection)
        self.hold(connection)
        if connection.identity is None:
            return
        key = (connection.identity.tenant, connection.identity.device_id)
        if connection.has_runs:
            self._draining[key] = connection
            connection.wait_drained()
        del self._connected[key]
        will = connection.will if closed.with_will else None
        now_s = asyncio.get_running_loop().time()
        self._publish_wills(self._sessions.park(key, connection.machine.session, will, now_s=now_s))

    def left(self, connection: MqttConnection) -> None:
        """Forget a socket that is gone."""
        self._sockets.left(connection)

    def drained(self, connection: MqttConnection) -> None:
        """Note that everything an ended connection sent has met its fate."""
        identity = connection.identity
        if identity is not None and self._draining.get((identity.tenant, identity.device_id)) is connection:
            del self._draining[identity.tenant, identity.device_id]

    def resume_soon(self) -> None:
        """Look at paused connections once, after all calls of this commit."""
        self._sockets.resume_soon()

    # ---- connecting --------------------------------------------------------------------------------------------------

    async def _admit(self, connection: MqttConnection, connect: Connect) -> None:
        machine = connection.machine
        try:
            identity = await self._admission.authenticate(
                client_id=connect.client_id,
                username=connect.username,
                password=connect.password,
                address=connection.address,
            )
            topics = DeviceTopics(self._topics, tenant=identity.tenant, device_id=identity.device_id)
            will = _will(connect, topics)
        except PeerError as refusal:
            if machine.state is State.AUTHENTICATING:
                connection.end(machine.refuse(refusal))
            return
        key = (identity.tenant, identity.device_id)
        while machine.state is State.AUTHENTICATING:
            old = self._connected.get(key)
            if old is not None:
                old.disconnect(Reason.SESSION_TAKEN_OVER, "taken_over")
            draining = self._draining.get(key)
            if draining is None:
                self._welcome(connection, connect, identity, topics, will)
                return
            # What the old connection received comes first in the journal, and its QoS 2 identifiers are settled then.
            # Another connection of this identity may have come in meanwhile, so look again.
            await asyncio.shield(draining.wait_drained())

    def _welcome(
        self,
        connection: MqttConnection,
        connect: Connect,
        identity: "Identity",
        topics: DeviceTopics,
        will: PendingWill | None,
    ) -> None:
        key = (identity.tenant, identity.device_id)
        client_id = connect.client_id or identity.device_id
        session, wills = self._sessions.resume(
            key,
            client_id=client_id,
            clean_start=connect.clean_start,
            now_s=asyncio.get_running_loop().time(),
        )
        self._publish_wills(wills)
        is_present = session is not None
        session = session or Session(client_id, 0)
        session.expiry_s = _expiry_s(connect)
        connection.will = will
        self._connected[key] = connection
        connection.welcome(identity, topics, session, session_present=is_present, keep_alive_s=connect.keep_alive_s)

    # ---- for all -----------------------------------------------------------------------------------------------------

    def _deliver(self, tenant: TenantId, device_id: DeviceId) -> None:
        connection = self._connected.get((tenant, device_id))
        if connection is not None:
            connection.deliver_commands()

    def _publish_wills(self, wills: list[PendingWill]) -> None:
        for will in wills:
            self.received += 1
            self.count("will")
            try:
                self.journal.append_nowait(self.now_ns(), [will.route], [will.payload], self._will_settled)
            except JournalError as error:
                self._will_settled(error)

    def _will_settled(self, error: JournalError | None) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.count("not_durable")

    def _sweep(self, now_s: float) -> None:
        for connection in list(self._sockets.open):
            connection.quiet_s += 1
            if connection.machine.state is State.CLOSED:
                if connection.quiet_s > _LINGER_S:
                    connection.disconnect(Reason.UNSPECIFIED, "linger", abort=True)
            elif 0 < connection.quiet_max_s < connection.quiet_s and not connection.is_paused:
                connection.disconnect(Reason.KEEP_ALIVE_TIMEOUT, "keep_alive")
        self._publish_wills(self._sessions.sweep(now_s=now_s))


def _end(connection: MqttConnection, reason: str, abort: bool) -> None:  # noqa: FBT001 - as Sockets calls it
    if reason == "shutdown":
        connection.will = None
    connection.disconnect(_REASONS[reason], reason, abort=abort)


def _will(connect: Connect, topics: DeviceTopics) -> PendingWill | None:
    """Return the client's will. Raises: PeerError: Its topic is not the device's own."""
    will = connect.will
    if will is None:
        return None
    route = topics.route_of(will.topic)
    if isinstance(route, PeerError):
        raise route
    return PendingWill(route, will.payload, cast("int", will.properties.get(Property.WILL_DELAY_S, 0)))


def _expiry_s(connect: Connect) -> int:
    """Return how long the session outlives the connection; 3.1.1 says only whether [3.1.1: MQTT-3.1.2-4]."""
    if connect.level == LEVEL_5:
        return min(cast("int", connect.properties.get(Property.SESSION_EXPIRY_S, 0)), SESSION_EXPIRY_S_MAX)
    return 0 if connect.clean_start else SESSION_EXPIRY_S_MAX
