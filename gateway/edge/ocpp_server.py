"""The chargers' socket: who is connected, who may come in, and what happens to all of them at once.

OCPP 1.6, 2.0.1 and 2.1 on one port and one path, `/ocpp/{identity}`; the sub-protocol of the handshake decides, every
time anew. Nothing a charger does waits for another: a reconnecting fleet costs each its own handshake and no more.
"""

import asyncio
import itertools
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from gateway.core.errors import JournalError, PeerError
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.limits import (
    CHARGERS_UNAUTHENTICATED_MAX,
    DUPLICATE_PROBE_S,
    PARTIAL_BYTES_MAX,
)
from gateway.core.ports import Counter, JournalWriter
from gateway.edge.ocpp_connection import OcppConnection, Phase
from gateway.edge.ocpp_frames import CloseCode
from gateway.edge.ocpp_handshake import Upgrade
from gateway.edge.ocpp_identities import Identities, Key, Verdict
from gateway.edge.ocpp_refusals import Log, RefusalLog
from gateway.edge.sockets import Sockets
from gateway.wire.ocpp.answers import Answers
from gateway.wire.ocpp.commands import CommandOutcome
from gateway.wire.ocpp.session import AnsweredStations, StationSession, Strictness

if TYPE_CHECKING:
    from gateway.edge.station import Station
    from gateway.edge.station_admission import StationIdentity
    from gateway.edge.tls import PeerCertificate

CONNECTED: Final = Channel("ocpp/connected")
DISCONNECTED: Final = Channel("ocpp/disconnected")
SECURITY: Final = Channel("ocpp/security")
_CODES: Final = {
    "connections_max": CloseCode.GOING_AWAY,
    "unauthenticated_max": CloseCode.POLICY_VIOLATION,
    "connect_timeout": CloseCode.POLICY_VIOLATION,
    "shutdown": CloseCode.GOING_AWAY,
}
"""What a charger is told when its connection is ended for all of them."""
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
        self._sockets: Sockets[OcppConnection] = Sockets(
            journal=journal,
            unauthenticated_max=CHARGERS_UNAUTHENTICATED_MAX,
            end=lambda connection, reason, abort: connection.disconnect(_CODES[reason], reason, abort=abort),
            sweep=self._sweep,
        )
        self.paused = self._sockets.paused
        self._answers = answers
        self._answered = AnsweredStations()
        self._admission = admission
        self._log = log
        self._refusals = RefusalLog(log, now_s=lambda: asyncio.get_running_loop().time())
        self._identities: Identities[OcppConnection] = Identities(newest_wins=newest_wins)
        # Numbers of connections rise over restarts too, as long as fewer than a thousand a second come in.
        self._generations = itertools.count(now_ns() // _NS_PER_MS)
        self._held_bytes = 0

    @property
    def connections(self) -> int:
        """Connections of authenticated chargers."""
        return len(self._identities)

    @property
    def unauthenticated(self) -> int:
        """Sockets whose handshake has not come or not been answered."""
        return self._sockets.unauthenticated

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, host: str, port: int, *, ssl: ssl.SSLContext | None = None) -> int:
        """Listen; return the port, which the system chooses for 0. Raises: OSError: The address cannot be bound."""
        return await self._sockets.listen(lambda: OcppConnection(self), host, port, tls=ssl)

    async def close(self) -> None:
        """Stop accepting and reading, let what was read become durable and answered, disconnect everybody."""
        await self._sockets.close(_drained)

    def disconnect_device(self, tenant: TenantId, device_id: DeviceId) -> None:
        """End a charger's connection now: its credentials were revoked."""
        connection = self._identities.holder((tenant, device_id))
        if connection is not None:
            connection.disconnect(CloseCode.POLICY_VIOLATION, "revoked")

    # ---- called by connections ---------------------------------------------------------------------------------------

    def arrived(self, connection: OcppConnection) -> None:
        """Give a new socket a place, if need be that of the socket that has been silent longest."""
        self._sockets.arrived(connection)

    def upgrade_requested(self, connection: OcppConnection, upgrade: Upgrade) -> None:
        """Find out who it is; the connection reads nothing until then."""
        self._sockets.log_in(connection, self._admit(connection, upgrade), name="ocpp-handshake")

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
        self._sockets.ended(connection)
        self._held_bytes -= connection.counted_bytes
        connection.counted_bytes = 0
        if connection.generation:
            self._identities.leave((connection.tenant, connection.device_id), connection)
            self.commands.disconnected(connection)
            self._record(connection, DISCONNECTED, "disconnected", reason)

    def left(self, connection: OcppConnection) -> None:
        """Forget a socket that is gone."""
        self._sockets.left(connection)

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
        self._sockets.resume_soon()

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

    def _sweep(self, _now_s: float) -> None:
        for connection in list(self._sockets.open):
            connection.tick()


def _drained(connection: OcppConnection) -> "asyncio.Future[None] | None":
    is_open = connection.generation and connection.conversation.has_runs
    return connection.conversation.wait_drained() if is_open else None
