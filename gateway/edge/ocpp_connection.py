"""One charger's connection on a socket: who may speak when, how fast, and how it ends.

Messages go to its `Conversation` and answers come back; those of one commit leave in one system call, because
uvloop gathers the writes of a loop iteration.
"""

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from gateway.core.errors import PeerError, ProtocolViolation
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import (
    CHARGER_FRAMES_BURST,
    CHARGER_FRAMES_PER_S,
    CHARGER_HANDSHAKE_BYTES_MAX,
    CHARGER_LINGER_S,
    CHARGER_UNANSWERED_MAX,
    JOURNAL_IN_FLIGHT_BYTES_MAX,
    WRITE_BUFFER_BYTES_MAX,
)
from gateway.edge.ocpp_conversation import Conversation
from gateway.edge.ocpp_frames import PING, CloseCode, MessageStream
from gateway.edge.ocpp_handshake import HEAD_END, Upgrade, read_handshake, refusal_response
from gateway.edge.tls import PeerCertificate, peer_certificate
from gateway.wire.ocpp.session import StationSession
from gateway.wire.ocpp.versions import Version

if TYPE_CHECKING:
    from gateway.edge.ocpp_server import OcppServer
    from gateway.edge.station_admission import StationIdentity

_SLICE_BYTES: Final = 16 * 1024
"""A chunk is taken in slices of this, so that one full of tiny frames cannot pass its charger's bound by much."""
_HEADER_FIELDS_TOO_LARGE: Final = 431


class Phase(Enum):
    """Where a connection stands; it only goes forward."""

    HANDSHAKE = 1
    """Its request is not complete."""
    AUTHENTICATING = 2
    WAITING = 3
    """Accepted; another connection may hold its identity."""
    OPEN = 4
    ENDED = 5


class OcppConnection(asyncio.Protocol):
    """A charger's socket; also the `Station` that commands see.

    Args:
        server: Owner of everything that connections share.

    Attributes:
        phase: Where it stands.
        station: Who it is, None before that is known.
        certificate: What it showed in the TLS handshake.
        is_tls: Whether the socket is encrypted.
        version: What it speaks; the newest before the handshake says.
        generation: Number among all connections of this server, rising; 0 before `OPEN`.
        address: IP address of the peer.
        accepted_at_s: Loop time of the accept.
        quiet_s: Seconds since the last bytes arrived.
        is_paused: Whether the socket is not read at the moment.
        counted_bytes: What the server has counted of `held_bytes`.
    """

    __slots__ = (
        "_conversation",
        "_frames_left",
        "_probe",
        "_probes",
        "_rest",
        "_server",
        "_stream",
        "_transport",
        "accepted_at_s",
        "address",
        "certificate",
        "counted_bytes",
        "generation",
        "is_paused",
        "is_tls",
        "phase",
        "quiet_s",
        "station",
        "version",
    )

    def __init__(self, server: "OcppServer") -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._stream: MessageStream | None = None
        self._conversation: Conversation | None = None
        # Read and not looked at: a request that is not complete, or what a flood left.
        self._rest = b""
        self._frames_left = CHARGER_FRAMES_BURST
        self._probe: asyncio.Future[bool] | None = None
        self._probes = 0
        self.phase = Phase.HANDSHAKE
        self.station: StationIdentity | None = None
        self.certificate: PeerCertificate | None = None
        self.is_tls = False
        self.version = Version.V21
        self.generation = 0
        self.address = ""
        self.accepted_at_s = 0.0
        self.quiet_s = 0
        self.is_paused = False
        self.counted_bytes = 0

    # ---- called by the transport -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for a handshake, if there is a place."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self._server.arrived(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come."""
        if self.phase is Phase.ENDED:
            return
        self.quiet_s = 0
        if self.phase is Phase.OPEN and not self.is_paused:
            self._receive(data)
        else:
            self._rest += data
            if self.phase is Phase.HANDSHAKE:
                self._read_request()
            elif self.phase is not Phase.OPEN and len(self._rest) > CHARGER_HANDSHAKE_BYTES_MAX:
                self.disconnect(CloseCode.POLICY_VIOLATION, "early_data", abort=True)
        if self.held_bytes != self.counted_bytes:
            self._server.hold(self)

    def pause_writing(self) -> None:
        """Close a peer that does not read what it is sent."""
        self.disconnect(CloseCode.POLICY_VIOLATION, "slow_reader", abort=True)

    def eof_received(self) -> None:
        """Note that the peer sends no more, and let the transport close."""
        if self._stream is not None and self.phase is not Phase.ENDED:
            self._stream.receive_eof()
        self._end("lost")

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is gone."""
        self._transport = None
        self._end("lost")
        self._server.left(self)

    # ---- handshake ---------------------------------------------------------------------------------------------------

    def _read_request(self) -> None:
        end = self._rest.find(HEAD_END)
        try:
            if len(self._rest) > CHARGER_HANDSHAKE_BYTES_MAX:
                detail = f"its request has over {CHARGER_HANDSHAKE_BYTES_MAX} bytes"
                raise ProtocolViolation("request_too_big", detail, _HEADER_FIELDS_TOO_LARGE)
            if end < 0:
                return
            head = self._rest[: end + len(HEAD_END)]
            self._rest = self._rest[len(head) :]
            upgrade = read_handshake(head, path=self._server.path)
        except PeerError as refusal:
            self.refuse(refusal, identity="")
            return
        assert self._transport is not None
        encryption = self._transport.get_extra_info("ssl_object")
        self.is_tls = encryption is not None
        self.certificate = peer_certificate(encryption)
        self.phase = Phase.AUTHENTICATING
        self.pause()
        self._server.upgrade_requested(self, upgrade)

    def refuse(self, refusal: PeerError, *, identity: str) -> None:
        """Answer the handshake with a refusal."""
        if self.phase is Phase.ENDED:
            return
        self._server.log_refusal(self, refusal, identity)
        self._write(refusal_response(refusal))
        self._end(refusal.reason)

    def accept(self, upgrade: Upgrade, station: "StationIdentity") -> bool:
        """Answer the handshake, nothing is read before `open`; return whether the peer is still there."""
        if self.phase is not Phase.AUTHENTICATING:
            return False
        self.station = station
        self.version = upgrade.version
        self.phase = Phase.WAITING
        self._stream = MessageStream(upgrade.extensions)
        self._write(upgrade.answer)
        return True

    def open(self, session: StationSession, *, generation: int) -> None:
        """Let the charger speak, and take what it has said already."""
        self._conversation = Conversation(self._server, self, session)
        self.generation = generation
        self.phase = Phase.OPEN
        # Chargers that came in together are not pinged together.
        self.quiet_s = generation % self._server.ping_interval_s
        self._server.paused.add(self)
        self._server.resume_soon()

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        """Take bytes until all are taken or the charger has to wait."""
        stream, conversation = self._stream, self._conversation
        assert stream is not None
        assert conversation is not None
        for start in range(0, len(data), _SLICE_BYTES):
            messages = stream.receive(data[start : start + _SLICE_BYTES])
            self._frames_left -= stream.frames
            if messages:
                conversation.take(messages)
            if stream.frames > len(messages):
                self._take_control(stream)
            if self.phase is not Phase.OPEN:
                return
            if not stream.is_open:
                self._fail(stream)
                return
            if self._must_wait():
                self._rest = data[start + _SLICE_BYTES :]
                if self._frames_left <= 0:
                    self._server.count("flood")
                self.pause()
                self._server.paused.add(self)
                return

    def _take_control(self, stream: MessageStream) -> None:
        """Answer pings and see the pong that was waited for."""
        pong = stream.take_pong()
        if pong is not None and self._probe is not None and pong == self._probe_token:
            self._probe.set_result(True)
            self._probe = None
        if stream.is_open:
            self._write(b"".join(stream.take_out()))

    # ---- flow --------------------------------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """Bytes of messages that have begun and not ended, or were not looked at. Handshakes have their own bound."""
        if self.phase is not Phase.OPEN or self._stream is None:
            return 0
        return len(self._rest) + self._stream.held_bytes

    def _must_wait(self) -> bool:
        return (
            self._frames_left <= 0
            or (self._conversation is not None and self._conversation.unanswered >= CHARGER_UNANSWERED_MAX)
            or self._server.journal.in_flight_bytes > JOURNAL_IN_FLIGHT_BYTES_MAX
        )

    def pause(self) -> None:
        """Stop reading; the charger's data wait in its own buffers."""
        if self._transport is not None and not self.is_paused and not self._transport.is_closing():
            self.is_paused = True
            self._transport.pause_reading()

    def resume(self) -> bool:
        """Read again if nothing speaks against it; return whether it is not paused any more."""
        if self.phase is not Phase.OPEN or not self.is_paused:
            return True
        if self._must_wait():
            return False
        rest, self._rest = self._rest, b""
        self._receive(rest)
        self._server.hold(self)
        if self.phase is Phase.OPEN and not self._must_wait():
            self._read_on()
        return not self.is_paused

    def _read_on(self) -> None:
        if self._transport is not None and self.is_paused and not self._transport.is_closing():
            self.is_paused = False
            self.quiet_s = min(self.quiet_s, self._server.ping_interval_s - 1)
            self._transport.resume_reading()

    def tick(self) -> None:
        """Look after the connection, once a second."""
        if self.phase is Phase.OPEN:
            self._frames_left = min(CHARGER_FRAMES_BURST, self._frames_left + CHARGER_FRAMES_PER_S)
            if self.is_paused:
                return
            self.quiet_s += 1
            if self.quiet_s == self._server.ping_interval_s:
                self._write(PING)
            elif self.quiet_s > self._server.ping_interval_s + self._server.pong_timeout_s:
                self.disconnect(CloseCode.POLICY_VIOLATION, "keep_alive", abort=True)
        elif self.phase is Phase.ENDED:
            self.quiet_s += 1
            if self.quiet_s > CHARGER_LINGER_S and self._transport is not None:
                self._transport.abort()

    @property
    def _probe_token(self) -> bytes:
        return b"%d.%d" % (self.generation, self._probes)

    def probe(self) -> "asyncio.Future[bool]":
        """Ask the charger whether it is there: the future becomes True at its pong, False when the connection ends."""
        if self._probe is None:
            self._probe = asyncio.get_running_loop().create_future()
            self._probes += 1
            assert self._stream is not None
            self._write(self._stream.ping(self._probe_token))
        return self._probe

    def send(self, messages: list[bytes]) -> None:
        """Write messages; nothing happens on a connection that has ended."""
        if messages and self._stream is not None and self.phase is Phase.OPEN:
            frame = self._stream.frame
            self._write(frame(messages[0]) if len(messages) == 1 else b"".join(map(frame, messages)))

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    # ---- commands ----------------------------------------------------------------------------------------------------

    @property
    def tenant(self) -> TenantId:
        """Owner of the charger."""
        assert self.station is not None
        return self.station.tenant

    @property
    def device_id(self) -> DeviceId:
        """The charger."""
        assert self.station is not None
        return self.station.device_id

    @property
    def is_calling(self) -> bool:
        """Whether a CALL of ours is unanswered."""
        return self._conversation is not None and self._conversation.session.is_calling

    def call(self, message_id: str, action: str, payload: bytes) -> None:
        """Send a CALL; nothing happens on a connection that has ended."""
        if self._conversation is not None and self.phase is Phase.OPEN:
            self.send([self._conversation.session.call(message_id, action, payload)])

    def abandon_call(self) -> None:
        """Wait no longer for the answer of the outstanding CALL."""
        if self._conversation is not None:
            self._conversation.session.abandon_call()

    # ---- end ---------------------------------------------------------------------------------------------------------

    @property
    def conversation(self) -> Conversation:
        """What the charger says. Only from `OPEN` on."""
        assert self._conversation is not None
        return self._conversation

    def disconnect(self, code: CloseCode, reason: str, *, abort: bool = False) -> None:
        """End the connection from our side.

        Args:
            code: For the peer, where a WebSocket is open.
            reason: Bounded word to count it under; the peer is told it too.
            abort: Do not wait for the peer to take what is written: it listens no more, or is owed nothing.
        """
        if self.phase is not Phase.ENDED and self._stream is not None and not abort:
            self._stream.fail(code, reason)
        self._end(reason, abort=abort)

    def _fail(self, stream: MessageStream) -> None:
        reason, detail = stream.end
        if reason != "disconnect":
            self._server.log_frame(self, reason, detail)
        self._end(reason)

    def _end(self, reason: str, *, abort: bool = False) -> None:
        """End the connection once; a second time only hastens it."""
        transport = self._transport
        if self.phase is not Phase.ENDED:
            self.quiet_s = 0
            self.phase = Phase.ENDED
            self._rest = b""
            self._server.ended(self, reason)
            if self._conversation is not None:
                self._conversation.session.close()
            if self._probe is not None:
                self._probe.set_result(False)
                self._probe = None
            if transport is not None and not abort:
                self._say_farewell(transport)
            self._stream = None
        if abort and transport is not None:
            transport.abort()

    def _say_farewell(self, transport: asyncio.Transport) -> None:
        """Write what is left and end our side only: a close with unread bytes would take the last words with it."""
        if self._stream is not None:
            self._write(b"".join(self._stream.take_out()))
        if transport.is_closing():
            return
        if not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        if self.is_paused:
            self.is_paused = False
            transport.resume_reading()
