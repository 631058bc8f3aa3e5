"""One MQTT connection on a socket: bytes between the transport and the state machine, publishes into the journal.

The order that the promise depends on, per chunk of bytes: 1 read the publishes, 2 hand them to the journal, 3 wait for
`on_durable`, 4 write their acknowledgements, in order of receipt. One call to the journal per chunk; acknowledgements
of one commit leave in one system call, because uvloop gathers the writes of a loop iteration.
"""

import asyncio
from typing import TYPE_CHECKING, cast

from gateway.core.errors import JournalError
from gateway.core.limits import (
    COMMANDS_IN_FLIGHT_MAX,
    JOURNAL_IN_FLIGHT_BYTES_MAX,
    RECEIVE_MAX,
    WRITE_BUFFER_BYTES_MAX,
)
from gateway.edge.mqtt_sessions import PendingWill
from gateway.wire.mqtt.events import Closed, CommandAcknowledged, ConnectRequested, Event, FiltersChanged, Session
from gateway.wire.mqtt.packets import Reason
from gateway.wire.mqtt.publishes import Publishes
from gateway.wire.mqtt.routes import DeviceTopics
from gateway.wire.mqtt.session import ServerConnection, State
from gateway.wire.topics import command_topic

if TYPE_CHECKING:
    from gateway.edge.admission import Identity
    from gateway.edge.mqtt_listener import MqttListener

_NS = 1_000_000_000


class MqttConnection(asyncio.Protocol):
    """A device's socket.

    Args:
        listener: Owner of everything that connections share.

    Attributes:
        machine: The protocol's state machine.
        identity: Who it is, None before CONNECT was accepted.
        will: Published if the connection ends without a normal DISCONNECT.
        address: IP address of the peer.
        accepted_at_s: Loop time of the accept.
        quiet_s: Sweeps, one a second, since the last bytes arrived.
        quiet_max_s: One and a half keep alive intervals [MQTT-3.1.2-22]; 0 means for ever.
        held_bytes: What the listener has counted of `machine.held_bytes`.
        is_paused: Whether the socket is not read at the moment.
    """

    __slots__ = (
        "_has_ended",
        "_in_flight",
        "_journal",
        "_listener",
        "_runs",
        "accepted_at_s",
        "address",
        "drained",
        "held_bytes",
        "identity",
        "is_paused",
        "machine",
        "quiet_max_s",
        "quiet_s",
        "transport",
        "will",
    )

    def __init__(self, listener: "MqttListener") -> None:
        self._listener = listener
        self._journal = listener.journal
        # A list: it holds a run or two, and an empty deque takes 600 bytes of every idle connection.
        self._runs: list[Publishes] = []
        self._in_flight: set[int] | None = None
        self._has_ended = False
        self.machine = ServerConnection(count=listener.count)
        self.transport: asyncio.Transport | None = None
        self.identity: Identity | None = None
        self.will: PendingWill | None = None
        self.drained: asyncio.Future[None] | None = None
        self.address = ""
        self.accepted_at_s = 0.0
        self.quiet_s = 0
        self.quiet_max_s = 0
        self.held_bytes = 0
        self.is_paused = False

    # ---- called by the transport -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for CONNECT, if there is a place."""
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self._listener.arrived(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come."""
        self.quiet_s = 0
        machine = self.machine
        for event in machine.receive(data):
            if type(event) is Publishes:
                self._append(event)
            else:
                self._take(event)
        if machine.out:
            self.flush()
        if machine.held_bytes != self.held_bytes:
            self._listener.hold(self)

    def pause_writing(self) -> None:
        """Close a peer that does not read what it is sent."""
        self.disconnect(Reason.UNSPECIFIED, "slow_reader", abort=True)

    def eof_received(self) -> None:
        """Let the transport close: MQTT has no half-closed connections."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is gone."""
        self.transport = None
        if not self._has_ended:
            self.end(self.machine.lose())
        self._listener.left(self)

    # ---- publishes ---------------------------------------------------------------------------------------------------

    def _append(self, run: Publishes) -> None:
        listener = self._listener
        routes = run.routes
        if not routes:
            self._owe(run.acks())
            return
        run.messages = len(routes)
        listener.received += run.messages
        self._runs.append(run)
        try:
            self._journal.append_nowait(listener.now_ns(), routes, run.payloads, self.settle)
        except JournalError:
            self._runs.pop()
            self._owe(self._failed(run))
            return
        if self.machine.unacknowledged >= RECEIVE_MAX or self._journal.in_flight_bytes > JOURNAL_IN_FLIGHT_BYTES_MAX:
            self.pause()
            listener.paused.add(self)

    def _owe(self, acks: bytes) -> None:
        """Write acknowledgements that wait for nothing, but not before those of earlier publishes [MQTT-4.6.0-2]."""
        if self._runs:
            self._runs[-1].add_acks(acks)
        elif acks and not self._has_ended and self.transport is not None:
            self.transport.write(acks)

    def settle(self, error: JournalError | None) -> None:
        """Acknowledge the oldest run that is not: its bytes are on disk. Or see that it is not acknowledged."""
        listener = self._listener
        run = self._runs.pop(0)
        if error is None:
            acks = self.machine.settle(run)
            listener.acknowledged += run.messages
        else:
            acks = self._failed(run)
        if acks and not self._has_ended and self.transport is not None:
            self.transport.write(acks)
        if listener.paused:
            listener.resume_soon()
        if self.drained is not None and not self._runs:
            self.drained.set_result(None)
            self.drained = None
            listener.drained(self)

    def _failed(self, run: Publishes) -> bytes:
        """Return what to write for a run that is not durable; a 3.1.1 client is closed so that it sends again."""
        self._listener.count("not_durable", run.messages)
        acks = self.machine.settle_failed(run)
        if acks is None and self.machine.state is State.CONNECTED:
            self.disconnect(Reason.QUOTA_EXCEEDED, "journal")
        return acks or b""

    @property
    def has_runs(self) -> bool:
        """Whether publishes wait for the disk."""
        return bool(self._runs)

    # ---- flow --------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading; the device's data wait in its own buffers."""
        if self.transport is not None and not self.is_paused and not self.transport.is_closing():
            self.is_paused = True
            self.transport.pause_reading()

    def resume(self) -> bool:
        """Read again if this device's own messages have drained; return whether it is not paused any more."""
        if self.transport is None or self.transport.is_closing():
            return True
        if self.is_paused and self.machine.unacknowledged < RECEIVE_MAX:
            self.is_paused = False
            self.quiet_s = 0
            self.transport.resume_reading()
        return not self.is_paused

    def flush(self) -> None:
        """Write what the machine has to say."""
        # Emptied first: a write may call `pause_writing`, which comes here again.
        said = bytes(self.machine.out)
        self.machine.out.clear()
        if said and self.transport is not None:
            self.transport.write(said)

    # ---- everything else ---------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        match event:
            case ConnectRequested(connect=connect):
                self.pause()
                self._listener.connect_requested(self, connect)
            case CommandAcknowledged(packet_id=packet_id, code=code):
                self._acknowledge_command(packet_id, refused=code >= Reason.UNSPECIFIED)
            case FiltersChanged():
                self.flush()
                self.deliver_commands()
            case Closed():
                self.end(event)

    def welcome(
        self, identity: "Identity", topics: DeviceTopics, session: Session, *, session_present: bool, keep_alive_s: int
    ) -> None:
        """Let the device in and take what it sent behind its CONNECT."""
        self.identity = identity
        self.quiet_max_s = (keep_alive_s * 3 + 1) // 2
        self.machine.accept(topics=topics, session=session, session_present=session_present)
        self.flush()
        self.resume()
        self.deliver_commands()
        self.data_received(b"")

    def disconnect(self, code: Reason, reason: str, *, abort: bool = False) -> None:
        """End the connection from our side.

        Args:
            code: For a version 5 peer.
            reason: Bounded word to count it under.
            abort: Do not wait for the peer to take what is written: it listens no more, or is owed nothing.
        """
        if not self._has_ended:
            self.end(self.machine.disconnect(code, reason), abort=abort)
        elif abort and self.transport is not None:
            self.transport.abort()

    def end(self, closed: Closed, *, abort: bool = False) -> None:
        """End the connection as the machine said, once."""
        if self._has_ended:
            return
        self._has_ended = True
        self.quiet_s = 0
        self.flush()
        self._listener.ended(self, closed)
        if self.transport is None:
            return
        if abort:
            self.transport.abort()
        else:
            self.transport.close()

    def wait_drained(self) -> "asyncio.Future[None]":
        """Return a future that is done once nothing waits for the disk. Only while something does."""
        assert self._runs
        if self.drained is None:
            self.drained = asyncio.get_running_loop().create_future()
        return self.drained

    # ---- commands ----------------------------------------------------------------------------------------------------

    def deliver_commands(self) -> None:
        """Send the commands that wait, oldest first, as many as the device takes at once."""
        identity, machine, queue = self.identity, self.machine, self._listener.commands
        if identity is None or machine.state is not State.CONNECTED or not machine.session.filters:
            return
        if self._in_flight is None:
            self._in_flight = set()
        for command in queue.waiting(identity.tenant, identity.device_id):
            topic = command_topic(identity.tenant, identity.device_id, command.request_id)
            if command.packet_id in self._in_flight or not machine.is_subscribed(topic):
                continue
            if len(self._in_flight) >= min(COMMANDS_IN_FLIGHT_MAX, machine.commands_in_flight_max):
                break
            dup = command.packet_id != 0
            if not dup:
                queue.number(identity.tenant, identity.device_id, command, self._in_flight)
            left_s = max(1, (command.expires_at_ns - self._listener.now_ns()) // _NS)
            if machine.send_command(topic, command.payload, packet_id=command.packet_id, dup=dup, expiry_s=left_s):
                self._in_flight.add(command.packet_id)
            else:
                queue.drop_oversize(identity.tenant, identity.device_id, command)
        self.flush()

    def _acknowledge_command(self, packet_id: int, *, refused: bool) -> None:
        identity = self.identity
        if identity is None or self._in_flight is None or packet_id not in self._in_flight:
            self._listener.count("puback_unknown")
            return
        self._in_flight.discard(packet_id)
        self._listener.commands.acknowledge(identity.tenant, identity.device_id, packet_id, refused=refused)
        self.deliver_commands()
