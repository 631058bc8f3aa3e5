"""A charger's connection without a socket: what it does as time passes, and what it refuses in each phase."""

import asyncio
import itertools
from collections import Counter
from typing import cast

import pytest

from gateway.core.errors import IdentityRefused, PeerError
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import (
    CHARGER_FRAMES_BURST,
    CHARGER_FRAMES_PER_S,
    CHARGER_HANDSHAKE_BYTES_MAX,
    CHARGER_LINGER_S,
    CHARGER_UNANSWERED_MAX,
)
from gateway.edge.ocpp_connection import OcppConnection, Phase
from gateway.edge.ocpp_frames import PING, CloseCode
from gateway.edge.ocpp_handshake import Upgrade
from gateway.edge.ocpp_server import OcppServer
from gateway.edge.station_admission import StationIdentity
from gateway.journal.memory import MemoryJournal
from gateway.wire.ocpp.answers import Answers
from gateway.wire.ocpp.session import StationSession, Strictness
from tests.unit.gateway.edge.ocpp_bytes import PONG, TEXT, frame, request

STATION = StationIdentity(TenantId("acme"), DeviceId("cp-1"), 1, "lenient")
HEARTBEAT = frame(TEXT, b'[2,"h","Heartbeat",{}]')


class Transport:
    """A socket that remembers."""

    def __init__(self, *, half_close: bool = True) -> None:
        self.written = b""
        self.is_reading = True
        self.said: list[str] = []
        self._half_close = half_close

    def get_extra_info(self, name: str) -> object:
        """See asyncio.Transport."""
        return ("192.0.2.7", 5) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        """See asyncio.Transport."""

    def write(self, data: bytes) -> None:
        """See asyncio.Transport."""
        self.written += data

    def pause_reading(self) -> None:
        """See asyncio.Transport."""
        self.is_reading = False

    def resume_reading(self) -> None:
        """See asyncio.Transport."""
        self.is_reading = True

    def is_closing(self) -> bool:
        """See asyncio.Transport."""
        return "close" in self.said or "abort" in self.said

    def can_write_eof(self) -> bool:
        """See asyncio.Transport."""
        return self._half_close

    def write_eof(self) -> None:
        """See asyncio.Transport."""
        self.said.append("eof")

    def close(self) -> None:
        """See asyncio.Transport."""
        self.said.append("close")

    def abort(self) -> None:
        """See asyncio.Transport."""
        self.said.append("abort")


class Server:
    """What a connection sees of its server."""

    path, ping_interval_s, pong_timeout_s = "/ocpp", 30, 20

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.counts: Counter[str] = Counter()
        self.paused: set[OcppConnection] = set()
        self.upgrades: list[Upgrade] = []
        self.ends: list[str] = []
        self.received = self.acknowledged = self.lefts = 0

    def now_ns(self) -> int:
        """See OcppServer."""
        return 7

    def count(self, reason: str, n: int = 1) -> None:
        """See Counter."""
        self.counts[reason] += n

    def arrived(self, connection: OcppConnection) -> None:
        """See OcppServer."""

    def upgrade_requested(self, connection: OcppConnection, upgrade: Upgrade) -> None:
        """See OcppServer."""
        self.upgrades.append(upgrade)

    def hold(self, connection: OcppConnection) -> None:
        """See OcppServer."""
        connection.counted_bytes = connection.held_bytes

    def ended(self, connection: OcppConnection, reason: str) -> None:
        """See OcppServer."""
        assert connection.phase is Phase.ENDED
        self.ends.append(reason)

    def left(self, connection: OcppConnection) -> None:
        """See OcppServer."""
        self.lefts += 1

    def settled(self, connection: OcppConnection) -> None:
        """See OcppServer."""

    def resume_soon(self) -> None:
        """See OcppServer."""
        self.paused = {connection for connection in list(self.paused) if not connection.resume()}

    def log_refusal(self, connection: OcppConnection, refusal: PeerError, identity: str) -> None:
        """See OcppServer."""

    def log_frame(self, connection: OcppConnection, reason: str, detail: str) -> None:
        """See OcppServer."""


class Socket:
    """A connection with its surroundings."""

    def __init__(self, *, half_close: bool = True) -> None:
        self.server, self.transport = Server(), Transport(half_close=half_close)
        self.handshake = b""
        self.connection = OcppConnection(cast("OcppServer", self.server))
        self.connection.connection_made(cast("asyncio.Transport", self.transport))

    def opened(self, *, generation: int = 60) -> "Socket":
        """Bring it to `OPEN`."""
        if not self.server.upgrades:
            self.connection.data_received(request("cp-1"))
        assert self.connection.accept(self.server.upgrades[0], STATION)
        session = StationSession(
            version=self.connection.version,
            strictness=Strictness.LENIENT,
            answers=Answers(heartbeat_interval_s=lambda: 300, next_transaction_id=itertools.count(1).__next__),
            count=self.server.count,
        )
        self.handshake, self.transport.written = self.transport.written, b""
        self.connection.open(session, generation=generation)
        self.server.resume_soon()
        return self

    def tick(self, n: int) -> None:
        """Let seconds pass, and the server look at paused connections after each."""
        for _ in range(n):
            self.connection.tick()
            self.server.resume_soon()


def test_nothing_is_read_until_it_is_known_who_speaks() -> None:
    """And what came with the handshake is taken then."""
    socket = Socket()
    socket.connection.data_received(request("cp-1") + HEARTBEAT)
    assert (Phase.AUTHENTICATING, False, b"") == (
        socket.connection.phase,
        socket.transport.is_reading,
        socket.transport.written,
    )
    socket.opened()
    assert (Phase.OPEN, True) == (socket.connection.phase, socket.transport.is_reading)
    assert socket.handshake.startswith(b"HTTP/1.1 101 ")
    assert 1 == socket.transport.written.count(b"currentTime")


def test_chatter_before_the_handshake_is_answered_is_bounded() -> None:
    """A transport may deliver what it had read when it was paused."""
    socket = Socket()
    socket.connection.data_received(request("cp-1"))
    socket.connection.data_received(b"x" * CHARGER_HANDSHAKE_BYTES_MAX)
    assert Phase.AUTHENTICATING is socket.connection.phase
    socket.connection.data_received(b"x")
    assert (["early_data"], ["abort"]) == (socket.server.ends, socket.transport.said)
    assert not socket.connection.accept(socket.server.upgrades[0], STATION)


def test_refusal_is_written_and_our_side_ends() -> None:
    """The peer's side is read on, so that the answer is not lost to a reset; a late second refusal is none."""
    socket = Socket()
    socket.connection.data_received(request("cp-1"))
    refusal = IdentityRefused("wrong_password", "wrong password of 'cp-1'", 401)
    socket.connection.refuse(refusal, identity="cp-1")
    socket.connection.refuse(refusal, identity="cp-1")
    assert (["wrong_password"], ["eof"], True) == (
        socket.server.ends,
        socket.transport.said,
        socket.transport.is_reading,
    )
    assert 1 == socket.transport.written.count(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("half_close", "said"), [(True, ["eof"]), (False, ["close"])])
def test_close_ends_our_side_or_the_whole_where_there_are_no_sides(half_close: bool, said: list[str]) -> None:
    """TLS has no half-closed connections."""
    socket = Socket(half_close=half_close).opened()
    socket.connection.disconnect(CloseCode.POLICY_VIOLATION, "revoked")
    socket.connection.disconnect(CloseCode.GOING_AWAY, "shutdown")
    assert (["revoked"], said, b"\x88\x09\x03\xf0revoked") == (
        socket.server.ends,
        socket.transport.said,
        socket.transport.written,
    )


def test_ended_connection_is_cut_off_in_the_end() -> None:
    """However much the peer still sends."""
    socket = Socket().opened()
    socket.connection.disconnect(CloseCode.POLICY_VIOLATION, "revoked")
    for _ in range(CHARGER_LINGER_S):
        socket.tick(1)
        socket.connection.data_received(HEARTBEAT)
    assert ["eof"] == socket.transport.said
    socket.tick(1)
    assert ["eof", "abort"] == socket.transport.said


def test_quiet_charger_is_pinged_and_then_gone() -> None:
    """Any byte is a sign of life."""
    socket = Socket().opened()
    socket.tick(29)
    socket.connection.data_received(HEARTBEAT)
    socket.transport.written = b""
    socket.tick(29)
    assert b"" == socket.transport.written
    socket.tick(1)
    assert PING == socket.transport.written
    socket.tick(19)
    socket.connection.data_received(frame(PONG, b""))
    socket.tick(50)
    assert [] == socket.server.ends
    socket.tick(1)
    assert (["keep_alive"], ["abort"]) == (socket.server.ends, socket.transport.said)


def test_chargers_that_came_together_are_not_pinged_together() -> None:
    """Their numbers spread them over the interval."""
    seconds = []
    for generation in range(30):
        socket = Socket().opened(generation=generation)
        waited = 0
        while not socket.transport.written:
            socket.tick(1)
            waited += 1
        seconds.append(waited)
    assert list(range(1, 31)) == sorted(seconds)


def test_flood_is_read_at_its_rate() -> None:
    """The burst at once, then so many a second; the rest is held and nothing of it lost."""
    socket = Socket().opened()
    n = CHARGER_FRAMES_BURST + 3 * CHARGER_FRAMES_PER_S
    wire = b"".join(frame(TEXT, b'[2,"%d","Heartbeat",{}]' % i) for i in range(n))
    socket.connection.data_received(wire)
    answered = [socket.transport.written.count(b"currentTime")]
    assert not socket.transport.is_reading
    assert socket.connection.held_bytes > 0
    while not socket.transport.is_reading:
        socket.tick(1)
        answered.append(socket.transport.written.count(b"currentTime"))
    assert n == answered[-1]
    assert CHARGER_FRAMES_BURST <= answered[0] < n
    assert len(answered) >= 3
    assert (True, 0) == (socket.server.counts["flood"] >= 1, socket.connection.held_bytes)


def test_many_unanswered_calls_pause_until_the_disk_has_them() -> None:
    """A charger that does not wait for its answers has to."""
    socket = Socket().opened()
    boot = b'[2,"%d","StatusNotification",{"connectorId":1,"errorCode":"NoError","status":"Available"}]'
    socket.connection.data_received(b"".join(frame(TEXT, boot % i) for i in range(CHARGER_UNANSWERED_MAX)))
    assert (CHARGER_UNANSWERED_MAX, False) == (socket.server.received, socket.transport.is_reading)
    socket.tick(3)
    assert not socket.transport.is_reading
    socket.server.journal.commit()
    socket.tick(1)
    assert (CHARGER_UNANSWERED_MAX, True) == (socket.server.acknowledged, socket.transport.is_reading)


def test_probe_takes_its_own_pong_only() -> None:
    """One that was on its way proves nothing about now."""

    async def probe() -> list[bool]:
        socket = Socket().opened(generation=60)
        alive = socket.connection.probe()
        assert alive is socket.connection.probe()
        socket.connection.data_received(frame(PONG, b"") + HEARTBEAT)
        early = alive.done()
        socket.connection.data_received(frame(PONG, socket.transport.written[2:6]))
        dead = socket.connection.probe()
        socket.connection.connection_lost(None)
        return [early, await alive, await dead]

    assert [False, True, False] == asyncio.run(probe())


def test_call_on_an_ended_connection_does_nothing() -> None:
    """Its sender is told by `disconnected`."""
    socket = Socket().opened()
    socket.connection.connection_lost(None)
    socket.connection.call("c1", "ClearCache", b"{}")
    assert (b"", False, 1) == (socket.transport.written, socket.connection.is_calling, socket.server.lefts)
