"""The gateway's local port: health, metrics, and the routes by which the programs beside it give orders.

Routes run in threads of the port; what they ask of the gateway runs on its loop, while the thread waits.
"""

import asyncio
import secrets
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.core.command_records import ConnectedCharger, Outcome, read_outcomes
from gateway.core.credentials import DeviceKind
from gateway.core.errors import JournalBroken, PeerError
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.limits import CONTROL_REQUEST_TIMEOUT_S
from gateway.core.records import Route
from gateway.core.settings import Settings
from gateway.journal.reader import SegmentReader
from gateway.observe.charger_routes import ChargerCommandRequest, Submitted
from gateway.observe.charger_routes import charger_routes as post_charger_routes
from gateway.observe.health import Check, Heartbeat
from gateway.observe.http import ObserveServer
from gateway.observe.http import Route as PostRoute
from gateway.observe.routes import CommandRequest, IngestRequest, command_route, ingest_route
from gateway.observe.run_files import ADMIN_TOKEN, write_private

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from gateway.edge.charger_commands import ChargerCommands
    from gateway.edge.commands import CommandQueue
    from gateway.journal.writer import SegmentWriter
    from gateway.registry.devices import Registry

T = TypeVar("T")
HTTP_SOURCE: Final = "http"
"""Source of entries that came in through POST /ingest."""


def start_observe(
    settings: Settings,
    *,
    metrics: "CollectorRegistry",
    heartbeat: Heartbeat,
    journal: "SegmentWriter",
    ready: Mapping[str, Check],
    routes: Mapping[str, PostRoute],
) -> ObserveServer:
    """Start the local port and write the token that its POST routes ask for.

    Args:
        settings: The whole configuration.
        metrics: What /metrics shows.
        heartbeat: Whether the loop turns.
        journal: The ingest journal; both health pages ask it.
        ready: Further checks of /readyz.
        routes: Path to POST route.

    Raises: OSError: The port cannot be bound.
    """

    def is_broken() -> str | None:
        # The descriptor is not tried again, so only a restart helps.
        return str(journal.failure) if isinstance(journal.failure, JournalBroken) else None

    token = secrets.token_urlsafe(32)
    write_private(settings.data / "run" / ADMIN_TOKEN, token.encode())
    observe = ObserveServer(
        host=settings.observe.host,
        port=settings.observe.gateway_port,
        registry=metrics,
        live={"loop": heartbeat.check, "journal": is_broken},
        ready={
            "loop": heartbeat.check,
            "journal": lambda: None if journal.failure is None else str(journal.failure),
            **ready,
        },
        routes=routes,
        token=token,
    )
    observe.start()
    return observe


def on_loop() -> "Callable[[Coroutine[Any, Any, T]], T]":
    """Return what runs a coroutine on this loop and waits for it, for the threads of the port.

    What it returns raises what the coroutine raises, or TimeoutError after `CONTROL_REQUEST_TIMEOUT_S`.
    """
    loop = asyncio.get_running_loop()

    def wait_for(work: "Coroutine[Any, Any, T]") -> "T":
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result(CONTROL_REQUEST_TIMEOUT_S)
        finally:
            future.cancel()

    return wait_for


def device_routes(
    *,
    journal: "SegmentWriter",
    commands: "CommandQueue",
    registry: "Registry",
    is_anonymous_allowed: Callable[[], bool],
) -> Mapping[str, PostRoute]:
    """Return POST /commands (to MQTT devices) and POST /ingest. On the loop's thread."""
    submitted, appended = on_loop(), on_loop()

    def submit(request: CommandRequest, payload: bytes) -> str:
        tenant, device_id = TenantId(request.tenant), DeviceId(request.device_id)
        if not is_anonymous_allowed() and not registry.is_active(tenant=tenant, device_id=device_id):
            raise PeerError("unknown_device", f"there is no active device {device_id!r} of tenant {tenant!r}")
        return submitted(
            commands.submit(tenant=tenant, device_id=device_id, payload=payload, expiry_s=request.expiry_s)
        )

    def append(request: IngestRequest, payload: bytes) -> int:
        tenant, device_id = TenantId(request.tenant), DeviceId(request.device_id)
        return appended(journal.append(Route(tenant, device_id, HTTP_SOURCE, Channel(request.channel)), payload))

    return {"/commands": command_route(submit), "/ingest": ingest_route(append)}


def charger_routes(
    *, commands: "ChargerCommands", registry: "Registry", data: Path, is_unknown_allowed: Callable[[], bool]
) -> Mapping[str, PostRoute]:
    """Return POST /charger-commands, /charger-commands/outcomes and /chargers. On the loop's thread.

    Args:
        commands: Commands to chargers.
        registry: Says who is a charger.
        data: Data directory, whose commands journal has the outcomes that `commands` no longer remembers.
        is_unknown_allowed: Whether chargers may connect that the registry does not know.
    """
    submitted, waited, listed = on_loop(), on_loop(), on_loop()

    def submit(request: ChargerCommandRequest, device_ids: Sequence[DeviceId]) -> Submitted:
        done = submitted(
            commands.submit_many(
                tenant=TenantId(request.tenant),
                device_ids=device_ids,
                action=request.action,
                payload=bytes(request.payload),
                timeout_s=request.timeout_s,
                expiry_s=request.expiry_s,
                redeliverable=request.redeliverable,
                by=request.by,
            )
        )
        return done.request_ids, done.refused

    def unknown(tenant: str, device_ids: Collection[str]) -> Collection[str]:
        # Whoever is connected was let in; only the others are looked for.
        absent = {d for d in device_ids if not commands.is_connected(TenantId(tenant), DeviceId(d))}
        if not absent or is_unknown_allowed():
            return frozenset()
        devices = registry.ls(tenant=tenant)
        return absent - {d.device_id for d in devices if d.kind == DeviceKind.CHARGER and d.revoked_at_ns is None}

    def read(request_ids: Collection[str]) -> Mapping[str, Outcome]:
        with closing(SegmentReader(data / "commands")) as reader:
            return read_outcomes(reader, request_ids)

    async def connected() -> list[ConnectedCharger]:
        return commands.connected_chargers()

    return post_charger_routes(
        submit=submit,
        unknown=unknown,
        wait=lambda request_ids, wait_s: waited(commands.wait(request_ids, wait_s)),
        read=read,
        chargers=lambda: listed(connected()),
    )
