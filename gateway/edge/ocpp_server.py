"""The chargers' socket: who is connected, who may come in, and what happens to all of them at once.

OCPP 1.6, 2.0.1 and 2.1 on one port and one path, `/ocpp/{identity}`; the sub-protocol of the handshake decides, every
time anew. Nothing a charger does waits for another: a reconnecting fleet costs each its own handshake and no more.
"""

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

import msgspec

from gateway.core.errors import JournalError, PeerError
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.limits import (
    CHARGERS_UNAUTHENTICATED_MAX,
    CONNECT_TIMEOUT_S,
    CONNECTIONS_MAX,
    DUPLICATE_PROBE_S,
    JOURNAL_IN_FLIGHT_BYTES_MAX,
    PARTIAL_BYTES_MAX,
    SHUTDOWN_DRAIN_S,
    SOCKET_RECEIVE_BYTES,
    SOCKET_SEND_BYTES,
)
from gateway.core.ports import Counter, JournalWriter
from gateway.edge.ocpp_connection import OcppConnection, Phase
from gateway.edge.ocpp_frames import CloseCode
from gateway.edge.ocpp_handshake import Upgrade
from gateway.edge.ocpp_identities import Identities, Key, Verdict
from gateway.edge.ocpp_refusals import Log, RefusalLog
from gateway.wire.ocpp.answers import Answers
from gateway.wire.ocpp.commands import CommandOutcome
from gateway.wire.ocpp.session import AnsweredStations, StationSession, Strictness

if TYPE_CHECKING:
    from gateway.edge.station import Station
    from gateway.edge.station_admission import StationIdentity
    from gateway.edge.tls import PeerCertificate

SWEEP_S: Final = 1.0
"""Pings, timeouts and the bounds of floods are looked at this often: one timer, not one per connection."""
CONNECTED: Final = Channel("ocpp/connected")
DISCONNECTED: Final = Channel("ocpp/disconnected")
SECURITY: Final = Channel("ocpp/security")
_BACKLOG: Final = 4096
_NS_PER_MS: Final = 1_000_000


class StationAuthenticator(Protocol):
    """Says who a charger is; StationAdmission is one."""

    async def authenticate(
        self,
        *,
        identity: str,
        username: str | None,
        password: bytes | None,
        certificate: "PeerCertificate | None",
        is_tls: bool,
        address: str,
    ) -> "StationIdentity":
        """Return the charger. Raises: PeerError: Refused, `reason_code` is the HTTP status."""
        ...


class StationCommands(Protocol):
    """Is told about connections and answers; ChargerCommands is one."""

    def connected(self, station: "Station") -> None:
        """Note that a charger may be sent commands."""
        ...

    def disconnected(self, station: "Station") -> None:
        """Note that a connection ended; once per `connected`."""
        ...

    def answered(self, station: "Station", message_id: str, outcome: CommandOutcome) -> None:
        """Take what a charger answered to a command."""
        ...


class ConnectionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of the entries on `ocpp/connected`, `ocpp/disconnected` and `ocpp/security`.

    Attributes:
        event: `connected`, `disconnected` or `duplicate_identity`.
        version: Sub-protocol of the connection.
        address: IP address of the connection; on `ocpp/security` of the newer one.
        reason: Bounded word: why it ended; of a duplicate identity a `Verdict`, where all but `newest_wins` and
            `quarantined` are critical; empty for `connected`.
        generation: Number of the connection, higher for every later one, also after a restart; on `ocpp/security` of
            the older one.
    """

    event: str
    version: str
    address: str
    reason: str
    generation: int


class OcppServer:
    """The central system's listeners. `start`, which may be called more than once, and `close` belong to one task.

    Args:
        journal: Takes what chargers say and when they come and go.
        answers: What we say to them.
        admission: Says who a charger is.
        commands: Commands for the chargers.
        count: Counts what was refused, ignored or closed, by reason.
        now_ns: UTC nanoseconds, for the time of receipt.
        ping_interval_s: Silence after which a charger is pinged.
        pong_timeout_s: Silence after that ping that ends the connection. A charger that answers pings may be quiet.
        path: What stands before `/{identity}`.
        log: For what chargers do wrong.
        newest_wins: Let a newer connection of an identity replace a living one that only a password proves.

    Attributes:
        received: Messages taken from chargers that must become durable.
        acknowledged: Those that did. The others are counted as "not_durable", or on their way to the disk.
        paused: Connections that are not read at the moment.
    """

    def __init__(
        self,
        *,
        journal: JournalWriter,
        answers: Answers,
        admission: StationAuthenticator,
        commands: StationCommands,
        count: Counter,
        now_ns: Callable[[], int],
        ping_interval_s: int = 30,
        pong_timeout_s: int = 20,
        path: str = "/ocpp",
        log: Log,
        newest_wins: bool = False,
    ) -> None:
        assert ping_interval_s >= 1
        assert pong_timeout_s >= 1
        self.journal = journal
        self.commands = commands
        self.count = count
        self.now_ns = now_ns
        self.ping_interval_s = ping_interval_s
        self.pong_timeout_s = pong_timeout_s
        self.path = path
        self.received = 0
        self.acknowledged = 0
        self.paused: set[OcppConnection] = set()
        self._answers = answers
        self._answered = AnsweredStations()
        self._admission = admission
        self._log = log
        self._refusals = RefusalLog(log, now_s=lambda: asyncio.get_running_loop().time())
        self._identities: Identities[OcppConnection] = Identities(newest_wins=newest_wins)
        # Numbers of connections rise over restarts too, as long as fewer than a thousand a second come in.
        self._generations = itertools.count(now_ns() // _NS_PER_MS)
        self._all: set[OcppConnection] = set()
        # Sockets before their handshake is complete, in order of accept.
        self._silent: dict[OcppConnection, None] = {}
        self._logins: dict[OcppConnection, asyncio.Task[None]] = {}
        self._held_bytes = 0
        self._is_resume_due = False
        self._is_closing = False
        self._all_left: asyncio.Future[None] | None = None
        self._listeners: list[asyncio.Server] = []
        self._tasks = asyncio.TaskGroup()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Connections of authenticated chargers."""
        return len(self._identities)

    @property
    def unauthenticated(self) -> int:
        """Sockets whose handshake has not come or not been answered."""
        return len(self._silent) + len(self._logins)

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, host: str, port: int, *, ssl: ssl.SSLContext | None = None) -> int:
        """Listen; return the port, which the system chooses for 0. Raises: OSError: The address cannot be bound."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: OcppConnection(self),
            host,
            port,
            backlog=_BACKLOG,
            ssl=ssl,
            ssl_handshake_timeout=None if ssl is None else CONNECT_TIMEOUT_S,
        )
        for listening in listener.sockets:
            # Accepted sockets inherit these.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_SEND_BYTES)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_RECEIVE_BYTES)
        if not self._listeners:
            await self._tasks.__aenter__()
            self._timer = loop.call_later(SWEEP_S, self._sweep)
        self._listeners.append(listener)
        return cast("int", listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop accepting and reading, let what was read become durable and answered, disconnect everybody."""
        assert self._timer is not None
        self._is_closing = True
        for listener in self._listeners:
            listener.close()
        self._timer.cancel()
        for login in self._logins.values():
            login.cancel()
        await self._tasks.__aexit__(None, None, None)
        for connection in self._all:
            connection.pause()
        open_ones = [connection.conversation for connection in self._all if connection.generation]
        waiting = [conversation.wait_drained() for conversation in open_ones if conversation.has_runs]
        if waiting:
            await asyncio.wait(waiting, timeout=SHUTDOWN_DRAIN_S)
        for connection in list(self._all):
            connection.disconnect(CloseCode.GOING_AWAY, "shutdown")
        if self._all:
            self._all_left = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_left], timeout=SHUTDOWN_DRAIN_S)
        for connection in list(self._all):
            connection.disconnect(CloseCode.GOING_AWAY, "shutdown", abort=True)
        for listener in self._listeners:
            await listener.wait_closed()

    def disconnect_device(self, tenant: TenantId, device_id: DeviceId) -> None:
        """End a charger's connection now: its credentials were revoked."""
        connection = self._identities.holder((tenant, device_id))
        if connection is not None:
            connection.disconnect(CloseCode.POLICY_VIOLATION, "revoked")

    # ---- called by connections ---------------------------------------------------------------------------------------

    def arrived(self, connection: OcppConnection) -> None:
        """Give a new socket a place, if need be that of the socket that has been silent longest."""
        connection.accepted_at_s = asyncio.get_running_loop().time()
        self._all.add(connection)
        self._silent[connection] = None
        if self._is_closing or len(self._all) > CONNECTIONS_MAX:
            connection.disconnect(CloseCode.GOING_AWAY, "connections_max", abort=True)
        elif self.unauthenticated > CHARGERS_UNAUTHENTICATED_MAX:
            longest = next(iter(self._silent))
            longest.disconnect(CloseCode.POLICY_VIOLATION, "unauthenticated_max", abort=True)

    def upgrade_requested(self, connection: OcppConnection, upgrade: Upgrade) -> None:
        """Find out who it is; the connection reads nothing until then."""
        self._silent.pop(connection, None)
        login = self._tasks.create_task(self._admit(connection, upgrade), name="ocpp-handshake")
        self._logins[connection] = login
        login.add_done_callback(lambda _: self._logins.pop(connection, None))

    def hold(self, connection: OcppConnection) -> None:
        """Count the bytes of unfinished messages over all connections."""
        held_bytes = connection.held_bytes
        self._held_bytes += held_bytes - connection.counted_bytes
        connection.counted_bytes = held_bytes
        if self._held_bytes > PARTIAL_BYTES_MAX and connection.phase is not Phase.ENDED:
            connection.disconnect(CloseCode.POLICY_VIOLATION, "partial_bytes")

    def ended(self, connection: OcppConnection, reason: str) -> None:
        """Count why a connection ended, and record it if it was open. Called once per connection."""
        self.count(reason)
        self._silent.pop(connection, None)
        self.paused.discard(connection)
        self._held_bytes -= connection.counted_bytes
        connection.counted_bytes = 0
        if connection.generation:
            self._identities.leave((connection.tenant, connection.device_id), connection)
            self.commands.disconnected(connection)
            self._record(connection, DISCONNECTED, "disconnected", reason)

    def left(self, connection: OcppConnection) -> None:
        """Forget a socket that is gone."""
        self._all.discard(connection)
        if self._all_left is not None and not self._all and not self._all_left.done():
            self._all_left.set_result(None)
        login = self._logins.get(connection)
        if login is not None:
            login.cancel()

    def settled(self, connection: OcppConnection) -> None:
        """Go on after messages of a connection have met their fate."""
        if self.paused:
            self.resume_soon()
        if connection.phase is Phase.ENDED:
            successor = self._identities.holder((connection.tenant, connection.device_id))
            if successor is not None:
                # It may have repeated them.
                successor.conversation.send_owed()

    def resume_soon(self) -> None:
        """Look at paused connections once, after all calls of this commit."""
        if not self._is_resume_due:
            self._is_resume_due = True
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        self._is_resume_due = False
        if self._is_closing or self.journal.in_flight_bytes > JOURNAL_IN_FLIGHT_BYTES_MAX // 2:
            return
        for connection in list(self.paused):
            if connection.resume():
                self.paused.discard(connection)

    # ---- coming in ---------------------------------------------------------------------------------------------------

    async def _admit(self, connection: OcppConnection, upgrade: Upgrade) -> None:
        try:
            station = await self._admission.authenticate(
                identity=upgrade.identity,
                username=upgrade.username,
                password=upgrade.password,
                certificate=connection.certificate,
                is_tls=connection.is_tls,
                address=connection.address,
            )
        except PeerError as refusal:
            connection.refuse(refusal, identity=upgrade.identity)
            return
        if not connection.accept(upgrade, station):
            return
        key = (station.tenant, station.device_id)
        while connection.phase is Phase.WAITING:
            old = self._identities.holder(key)
            if old is None:
                self._welcome(connection, key)
                return
            # Others of this identity may wait too, and one of them may have come in meanwhile, so look again.
            await self._meet(old, connection, key)

    async def _meet(self, old: OcppConnection, new: OcppConnection, key: Key) -> None:
        """End one of two connections of an identity."""
        is_alive = False
        try:
            async with asyncio.timeout(DUPLICATE_PROBE_S):
                is_alive = await asyncio.shield(old.probe())
        except TimeoutError:
            old.disconnect(CloseCode.POLICY_VIOLATION, "keep_alive", abort=True)
        if not is_alive or new.phase is not Phase.WAITING:
            return
        is_same = old.certificate is not None and old.certificate == new.certificate
        verdict = self._identities.meet(key, is_same_certificate=is_same, now_s=asyncio.get_running_loop().time())
        if verdict is not Verdict.QUARANTINED:
            self._record(old, SECURITY, "duplicate_identity", verdict.value, address=new.address)
        self._refusals.warn(
            key,
            "charger_duplicate",
            station=f"{key[0]}/{key[1]}",
            verdict=verdict.value,
            address=new.address,
            address_before=old.address,
        )
        if verdict is Verdict.NEWEST_WINS:
            old.disconnect(CloseCode.POLICY_VIOLATION, "taken_over")
        else:
            new.disconnect(CloseCode.POLICY_VIOLATION, "duplicate")

    def _welcome(self, connection: OcppConnection, key: Key) -> None:
        station = connection.station
        assert station is not None
        self._identities.enter(key, connection)
        session = StationSession(
            version=connection.version,
            strictness=Strictness(station.strictness),
            answers=self._answers,
            count=self.count,
            answered=self._answered.of(station.tenant, station.device_id),
        )
        connection.open(session, generation=next(self._generations))
        self._record(connection, CONNECTED, "connected", "")
        self.commands.connected(connection)

    def _record(
        self, connection: OcppConnection, channel: Channel, event: str, reason: str, *, address: str | None = None
    ) -> None:
        payload = msgspec.json.encode(
            ConnectionEvent(
                event=event,
                version=connection.version.value,
                address=connection.address if address is None else address,
                reason=reason,
                generation=connection.generation,
            )
        )
        try:
            self.journal.append_nowait(
                self.now_ns(), [connection.conversation.route(channel)], [payload], self._recorded
            )
        except JournalError as error:
            self._recorded(error)

    def _recorded(self, error: JournalError | None) -> None:
        if error is not None:
            self.count("event_not_durable")

    # ---- logging -----------------------------------------------------------------------------------------------------

    def log_refusal(self, connection: OcppConnection, refusal: PeerError, identity: str) -> None:
        """Write why a handshake was refused, with the identity that it named."""
        self._refusals.warn(
            ("handshake", connection.address, identity),
            "charger_refused",
            station=identity,
            address=connection.address,
            reason=refusal.reason,
            detail=refusal.detail,
        )

    def log_frame(self, connection: OcppConnection, reason: str, detail: str) -> None:
        """Write what a charger sent wrong, with the place in it; the session or `ended` counts it."""
        key = (connection.tenant, connection.device_id)
        self._refusals.warn(
            key,
            "charger_frame_refused",
            station=f"{key[0]}/{key[1]}",
            version=connection.version.value,
            reason=reason,
            detail=detail,
        )

    # ---- for all -----------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._timer = loop.call_later(SWEEP_S, self._sweep)
        for connection in list(self._silent):
            if now_s - connection.accepted_at_s < CONNECT_TIMEOUT_S:
                break
            connection.disconnect(CloseCode.POLICY_VIOLATION, "connect_timeout", abort=True)
        for connection in list(self._all):
            connection.tick()
        if self.paused:
            self.resume_soon()
