"""The chargers' server with real commands behind it, for clients that nobody here wrote."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.command_records import Outcome
from gateway.core.errors import IdentityRefused
from gateway.core.ids import DeviceId
from gateway.core.records import Envelope
from gateway.edge.charger_commands import ChargerCommands
from gateway.edge.command_audit import CommandAudit
from gateway.edge.ocpp_server import OcppServer
from gateway.edge.station_admission import StationIdentity
from gateway.edge.tls import PeerCertificate
from gateway.journal.writer import SegmentWriter
from gateway.wire.ocpp.answers import Answers
from tests.integration.mqtt_server import wait_until
from tests.integration.ocpp_live_server import TENANT, TIMEOUT_S, LiveServer

PASSWORD = "correct-horse-battery"
"""Text, and without a character that a URL would spell otherwise: these clients take no other."""
GOOD_TOKEN = "GOOD"
HEARTBEAT_INTERVAL_S = 240
FIRST_TRANSACTION_ID = 7001


class TextPassword:
    """Takes every identity with the one password."""

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
        assert (address, is_tls, certificate) == ("127.0.0.1", False, None)
        if (username, password) != (identity, PASSWORD.encode()):
            raise IdentityRefused("wrong_password", f"wrong password of {identity!r}", 401)
        return StationIdentity(TENANT, DeviceId(identity), 1, "lenient")


class LiveCentral(LiveServer):
    """A running server. Methods are called from the test's thread, but for `command`."""

    charger_commands: ChargerCommands

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, journal=None, options={})

    async def _serve(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._broke)
        self._stop = asyncio.Event()
        ingest = SegmentWriter.open(self.directory / "ingest", loop=loop, now_ns=time.time_ns)
        commands = SegmentWriter.open(self.directory / "commands", loop=loop, now_ns=time.time_ns)
        audit = CommandAudit(journal=ingest, count=self.counts)
        self.charger_commands = ChargerCommands(journal=commands, audit=audit, now_ns=time.time_ns, count=self.counts)
        self.server = OcppServer(
            journal=ingest,
            answers=Answers(
                heartbeat_interval_s=lambda: HEARTBEAT_INTERVAL_S,
                next_transaction_id=itertools.count(FIRST_TRANSACTION_ID).__next__,
                id_token_status=lambda token: "Accepted" if token == GOOD_TOKEN else "Invalid",
            ),
            admission=TextPassword(),
            commands=self.charger_commands,
            count=self.counts,
            now_ns=time.time_ns,
            log=self.log,
        )
        self.port = await self.server.start("127.0.0.1", 0)
        self._ready.set()
        await self._stop.wait()
        await self.server.close()
        self.charger_commands.close()
        await ingest.close()
        await commands.close()

    async def command(self, device_id: str, action: str, payload: dict[str, object]) -> Outcome:
        """Send a command and return how it ended; called on the client's loop."""

        async def submit_and_wait() -> Outcome:
            request_id = await self.charger_commands.submit(
                tenant=TENANT,
                device_id=DeviceId(device_id),
                action=action,
                payload=msgspec.json.encode(payload),
                by="tester",
            )
            known = await self.charger_commands.wait([request_id], TIMEOUT_S)
            return known.outcomes[request_id]

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(submit_and_wait(), self._loop))

    def entries(self, device_id: str) -> list[Envelope]:
        """Return what is durable of one charger, in order."""
        of_device = (TENANT, device_id)
        return [each for each in self.messages() if (each.route.tenant, each.route.device_id) == of_device]

    def channels(self, device_id: str) -> list[str]:
        """Return the channels of the durable entries of a charger, in order."""
        return [str(each.route.channel) for each in self.entries(device_id)]

    def said(self, device_id: str) -> list[tuple[str, Any]]:
        """Return the durable calls of a charger and what is journalled of our answers: (channel, payload), in order."""
        frames = [
            (str(each.route.channel), msgspec.json.decode(each.payload))
            for each in self.entries(device_id)
            if each.route.source == "ocpp" and not each.route.channel.startswith("ocpp/")
        ]
        return [(channel, frame[-1]) for channel, frame in frames]

    def steps(self, device_id: str) -> list[tuple[str, str]]:
        """Return what became of the commands to a charger, as durable: (action, step), in order."""
        of_gateway = [each for each in self.entries(device_id) if each.route.source == "gateway"]
        steps = [msgspec.json.decode(each.payload) for each in of_gateway if each.route.channel == "command"]
        return [(step["action"], step["event"]) for step in steps]

    def wait_gone(self, device_id: str) -> None:
        """Wait until the end of the charger's last connection is durable."""

        def is_gone() -> bool:
            channels = self.channels(device_id)
            return channels.count("ocpp/connected") == channels.count("ocpp/disconnected") > 0

        wait_until(is_gone, f"the end of {device_id}")


@contextmanager
def live_central(directory: Path) -> Iterator[LiveCentral]:
    """Run a server for the length of a test."""
    central = LiveCentral(directory)
    central.start()
    try:
        yield central
    finally:
        central.close()
