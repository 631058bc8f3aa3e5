"""The chargers' server on a real socket and a real journal, in a thread of its own beside blocking clients."""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from gateway.core.errors import IdentityRefused
from gateway.core.ids import DeviceId, TenantId
from gateway.core.ports import JournalWriter
from gateway.core.records import Envelope
from gateway.edge.ocpp_server import OcppServer
from gateway.edge.station import Station
from gateway.edge.station_admission import StationIdentity
from gateway.edge.tls import PeerCertificate
from gateway.journal.reader import SegmentReader
from gateway.journal.writer import SegmentWriter
from gateway.wire.ocpp.answers import Answers
from gateway.wire.ocpp.commands import CommandOutcome
from tests.integration.mqtt_server import Counts, wait_until
from tests.unit.gateway.edge.ocpp_bytes import PASSWORD

TENANT = TenantId("acme")
TIMEOUT_S = 20.0
T = TypeVar("T")
MakeJournal = Callable[[asyncio.AbstractEventLoop], JournalWriter]


class OnePassword:
    """Takes every station whose identity does not begin with "unknown", with the one password.

    Attributes:
        delay_s: How long an answer takes.
        strictness: Of each station that is not lenient.
        seen: Whether each connection was encrypted, and the certificate it showed.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.strictness: dict[str, str] = {}
        self.seen: list[tuple[bool, PeerCertificate | None]] = []

    async def authenticate(
        self,
        *,
        identity: str,
        username: str | None,
        password: bytes | None,
        certificate: PeerCertificate | None,
        is_tls: bool,
        address: str,
    ) -> StationIdentity:
        """See StationAdmission."""
        assert address == "127.0.0.1"
        self.seen.append((is_tls, certificate))
        await asyncio.sleep(self.delay_s)
        if identity.startswith("unknown"):
            raise IdentityRefused("unknown_device", f"nobody has the identity {identity!r}", 404)
        if (username, password) != (identity, PASSWORD):
            raise IdentityRefused("wrong_password", f"wrong password of {identity!r}", 401)
        strictness: Any = self.strictness.get(identity, "lenient")
        return StationIdentity(TENANT, DeviceId(identity), 1, strictness)


class Commands:
    """Remembers what it is told.

    Attributes:
        events: Word, generation of the connection, and what was answered.
        stations: The connection of each charger that is there.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int, CommandOutcome | None]] = []
        self.stations: dict[str, Station] = {}

    def connected(self, station: Station) -> None:
        """See ChargerCommands."""
        self.events.append(("connected", station.device_id, station.generation, None))
        self.stations[station.device_id] = station

    def disconnected(self, station: Station) -> None:
        """See ChargerCommands."""
        self.events.append(("disconnected", station.device_id, station.generation, None))
        if self.stations.get(station.device_id) is station:
            del self.stations[station.device_id]

    def answered(self, station: Station, message_id: str, outcome: CommandOutcome) -> None:
        """See ChargerCommands."""
        self.events.append((f"answered {message_id}", station.device_id, station.generation, outcome))


class Lines:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, *_args: object, **fields: object) -> None:
        """See Log."""
        self.lines.append((event, fields))

    def of(self, event: str) -> list[dict[str, object]]:
        """Return the fields of all lines of one event."""
        return [fields for name, fields in self.lines if name == event]


class LiveServer:
    """A running server. Methods are called from the test's thread."""

    def __init__(self, directory: Path, journal: MakeJournal | None, options: dict[str, Any]) -> None:
        self.directory = directory
        self.counts = Counts()
        self.admission = OnePassword()
        self.commands = Commands()
        self.log = Lines()
        self.port = 0
        self.server: OcppServer
        self.sockets: list[socket.socket] = []
        self._journal = journal
        self._options = options
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ocpp-server", daemon=True)

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread, which raises it
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._broke)
        self._stop = asyncio.Event()
        writer = SegmentWriter.open(self.directory / "ingest", loop=loop, now_ns=time.time_ns)
        ids = itertools.count(1)
        self.server = OcppServer(
            journal=self._journal(loop) if self._journal is not None else writer,
            answers=Answers(heartbeat_interval_s=lambda: 300, next_transaction_id=lambda: next(ids)),
            admission=self.admission,
            commands=self.commands,
            count=self.counts,
            now_ns=time.time_ns,
            log=self.log,
            **self._options,
        )
        self.port = await self.server.start("127.0.0.1", 0)
        self._ready.set()
        await self._stop.wait()
        await self.server.close()
        await writer.close()

    def _broke(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Fail the test for an exception that a callback let through."""
        self._failure = context.get("exception") or RuntimeError(context["message"])
        loop.default_exception_handler(context)

    def start(self) -> None:
        """Start and wait until it listens."""
        self._thread.start()
        assert self._ready.wait(TIMEOUT_S)
        self._raise()

    def close(self) -> None:
        """Stop, and raise what went wrong in the server. Safe to repeat."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    def do(self, work: Callable[[], T]) -> T:
        """Call a function on the server's loop and return its result."""

        async def call() -> T:
            return work()

        return self.on_loop(call())

    def messages(self) -> list[Envelope]:
        """Return what is in the ingest journal once all that was taken is durable."""
        wait_until(lambda: self.do(lambda: self.server.journal.in_flight_bytes) == 0)
        reader = SegmentReader(self.directory / "ingest")
        batch = reader.read(reader.start_offset(), rows_max=1_000_000, bytes_max=1 << 30)
        return [entry.envelope for entry in batch.entries()]

    def payloads(self, device_id: str, channel: str) -> list[bytes]:
        """Return the durable payloads of one charger on one channel."""
        wanted = (TENANT, device_id, "ocpp", channel)
        return [
            e.payload
            for e in self.messages()
            if (e.route.tenant, e.route.device_id, e.route.source, e.route.channel) == wanted
        ]

    def wait_for(self, what: str, n: int = 1) -> None:
        """Wait until something was counted `n` times."""
        wait_until(lambda: self.counts[what] >= n, f"{n} x {what}, there is {dict(self.counts)}")


@contextmanager
def live_server(directory: Path, *, journal: MakeJournal | None = None, **options: Any) -> Iterator[LiveServer]:
    """Run a server for the length of a test."""
    server = LiveServer(directory, journal, options)
    server.start()
    try:
        yield server
    finally:
        # Clients first: a server that stops gives them time to close their side.
        for one in server.sockets:
            one.close()
        server.close()
