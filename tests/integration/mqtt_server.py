"""The MQTT listener on a real socket and a real journal, in a thread of its own beside blocking clients."""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from gateway.core.errors import IdentityRefused
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.ports import JournalWriter
from gateway.core.records import Envelope
from gateway.edge.admission import Identity
from gateway.edge.commands import CommandQueue
from gateway.edge.mqtt_listener import MqttListener
from gateway.journal.reader import SegmentReader
from gateway.journal.writer import SegmentWriter
from gateway.wire.topics import DEFAULT_PATTERN, TopicTable

TENANT = TenantId("acme")
PASSWORD = "correct horse"
TIMEOUT_S = 20.0
T = TypeVar("T")


class Counts(Counter[str]):
    """A Counter port that remembers."""

    def __call__(self, reason: str, n: int = 1) -> None:
        self[reason] += n


class OnePassword:
    """Takes every username with the one password; `delay_s` is how long that takes."""

    def __init__(self) -> None:
        self.delay_s = 0.0

    async def authenticate(
        self, *, client_id: str, username: str | None, password: bytes | None, address: str
    ) -> Identity:
        """See Admission."""
        assert address == "127.0.0.1"
        await asyncio.sleep(self.delay_s)
        if username is None or password != PASSWORD.encode():
            raise IdentityRefused("wrong_password", "check user name and password", 0x86)
        return Identity(TENANT, DeviceId(username))


class LiveServer:
    """A running listener. Methods are called from the test's thread."""

    def __init__(self, directory: Path, journal: JournalWriter | None) -> None:
        self.directory = directory
        self.counts = Counts()
        self.admission = OnePassword()
        self.port = 0
        self.listener: MqttListener
        self.commands: CommandQueue
        self.sockets: list[socket.socket] = []
        self._journal = journal
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mqtt-server", daemon=True)

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread, which raises it
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        writer = SegmentWriter.open(self.directory / "ingest", loop=loop, now_ns=time.time_ns)
        commands = SegmentWriter.open(self.directory / "commands", loop=loop, now_ns=time.time_ns)
        self.commands = CommandQueue(journal=commands, now_ns=time.time_ns, count=self.counts)
        self.commands.rebuild(SegmentReader(self.directory / "commands"))
        self.listener = MqttListener(
            journal=self._journal or writer,
            topics=TopicTable.from_patterns([(DEFAULT_PATTERN, None)]),
            admission=self.admission,
            commands=self.commands,
            count=self.counts,
            now_ns=time.time_ns,
        )
        self.port = await self.listener.start("127.0.0.1", 0)
        self._ready.set()
        await self._stop.wait()
        await self.listener.close()
        await writer.close()
        await commands.close()

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

    def submit(self, device_id: str, payload: bytes) -> str:
        """Send a command."""
        return self.on_loop(self.commands.submit(tenant=TENANT, device_id=DeviceId(device_id), payload=payload))

    def messages(self) -> list[Envelope]:
        """Return what is durable in the ingest journal."""
        reader = SegmentReader(self.directory / "ingest")
        batch = reader.read(reader.start_offset(), rows_max=1_000_000, bytes_max=1 << 30)
        return [entry.envelope for entry in batch.entries()]

    def payloads(self, device_id: str, channel: str = "telemetry") -> list[bytes]:
        """Return the durable payloads of one device."""
        wanted = (TENANT, DeviceId(device_id), Channel(channel))
        return [e.payload for e in self.messages() if (e.route.tenant, e.route.device_id, e.route.channel) == wanted]

    def wait_for(self, what: str, n: int = 1) -> None:
        """Wait until something was counted `n` times."""
        wait_until(lambda: self.counts[what] >= n, f"{n} x {what}, there is {dict(self.counts)}")


def wait_until(is_true: Any, what: str = "") -> None:
    """Poll until true; fail after the timeout."""
    deadline = time.monotonic() + TIMEOUT_S
    while not is_true():
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.005)


@contextmanager
def live_server(directory: Path, *, journal: JournalWriter | None = None) -> Iterator[LiveServer]:
    """Run a listener for the length of a test."""
    server = LiveServer(directory, journal)
    server.start()
    try:
        yield server
    finally:
        server.close()
        for one in server.sockets:
            one.close()
