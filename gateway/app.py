"""The gateway's composition root: settings in, running parts out, everything closed in order.

The only file of the gateway that reads the clock, the environment and signals, and that knows the concrete classes.
What is heavy to import is imported where it is used, because the command line imports this file for `load_settings`.

Start: 1 local port  2 registry  3 journals  4 listener  5 run file. Stop: 1 run file and listener, which drains the
acknowledgements  2 journals, which commit  3 background tasks  4 registry and local port.
"""

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.configuration import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, failpoint_hook, load_settings, open_registry
from gateway.core.errors import (
    CheckpointError,
    ConfigError,
    JournalBroken,
    JournalError,
    JournalFull,
    JournalLocked,
    RegistryError,
    VoltgateError,
)
from gateway.core.failpoints import FailpointHook, no_failpoint
from gateway.core.ids import Offset
from gateway.core.limits import COMMAND_EXPIRY_S_MAX
from gateway.core.records import START_TICK, TICK_ROUTE
from gateway.core.settings import Settings
from gateway.observe.run_files import GATEWAY, Endpoints, write_private
from gateway.parts import (
    Clock,
    Common,
    MqttSide,
    OcppSide,
    listen_mqtt,
    listen_ocpp,
    make_mqtt,
    make_ocpp,
    open_journal,
    renew_charger_tls,
    topic_table,
    verifier_threads,
)

if TYPE_CHECKING:
    from gateway.journal.writer import Commit, SegmentWriter
    from gateway.observe.http import ObserveServer
    from gateway.observe.logs import Logger
    from gateway.registry.devices import Registry

STOP_TIMEOUT_S: Final = 9.0
"""Draining and committing take milliseconds; a service manager that gives 10 s must not need to kill."""
BROKEN_GRACE_S: Final = 3.0
"""Between a failed fdatasync and the end: devices hear that nothing is durable, /readyz and the log say why."""
HEARTBEAT_S: Final = 0.25
CLOCK: Final = Clock(now_ns=time.time_ns, now_s=time.monotonic)
RELOADABLE: Final = frozenset(
    {"GATEWAY__TICK_S", "GATEWAY__MQTT__ALLOW_ANONYMOUS", "GATEWAY__OCPP__ALLOW_UNAUTHENTICATED"}
    | {"JOURNAL__RETENTION_AGE_S", "JOURNAL__RETENTION_BYTES", "JOURNAL__DISK_BYTES_MAX"}
    | {"JOURNAL__RETENTION_INTERVAL_S"}
)
"""Settings that take effect on SIGHUP; all others at the next start."""
OFFSET_MAX: Final = Offset(2**63 - 1)
REGISTRY_POLL_S: Final = 2.0
"""Revocation closes live sessions within 5 s."""


# ---- the gateway -----------------------------------------------------------------------------------------------------
class Gateway:
    """One running gateway: make one, `run` it once.

    Args:
        settings: The whole configuration.
        log: Diagnostics.
        failpoint: Called between the steps whose order the promise depends on.

    Raises:
        ConfigError: A topic pattern is none; nothing was opened.
    """

    def __init__(self, settings: Settings, *, log: "Logger", failpoint: FailpointHook = no_failpoint) -> None:
        from gateway.observe.health import Heartbeat
        from gateway.observe.metrics import EventCounter, commit_histogram, lag_histogram, process_registry

        self._settings, self._log, self._failpoint = settings, log, failpoint
        self._topics = topic_table(settings)
        self._stop = asyncio.Event()
        self._listening = False
        self._journal_error: str | None = None
        self._heartbeat = Heartbeat(now_s=time.monotonic)
        self._metrics = process_registry(process="gateway", version=version("voltgate"))
        self._observe_commit_s = commit_histogram(self._metrics, journal="ingest")
        self._observe_lag_s = lag_histogram(self._metrics)
        self._command_events = EventCounter()
        self._unread_deleted = 0
        self._commands_waiting = 0
        self._sides: tuple[MqttSide, OcppSide] | None = None
        self._broken: JournalBroken | None = None

    def stop(self) -> None:
        """Ask a running gateway to end. On the loop's thread; safe to repeat."""
        self._stop.set()

    async def run(self, ready: Callable[[Endpoints], None]) -> None:
        """Serve until `stop`; `ready` is called once devices can connect.

        Raises:
            VoltgateError: A part cannot start, or the journal broke.
            OSError: A port cannot be bound, or the data directory cannot be written.
            TimeoutError: The parts did not end in time.
        """
        parts = AsyncExitStack()
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._beat(), name="heartbeat")]
            try:
                background += await self._start(parts, tasks, ready)
                await self._stop.wait()
                self._listening = False
                self._log.info("stopping")
            finally:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await parts.aclose()
                for task in background:
                    task.cancel()
        if self._sides is not None:
            mqtt, ocpp = self._sides
            self._log.info("stopped", mqtt=mqtt.listening.events.counts(), ocpp=ocpp.listening.events.counts())
        if self._broken is not None:
            raise self._broken

    async def _start(
        self, parts: AsyncExitStack, tasks: asyncio.TaskGroup, ready: Callable[[Endpoints], None]
    ) -> list[asyncio.Task[None]]:
        """Start the parts in order; what was started is in `parts`, which closes in the reverse order."""
        settings, data = self._settings, self._settings.data
        (data / "run").mkdir(parents=True, exist_ok=True, mode=0o700)
        registry = await asyncio.to_thread(open_registry, settings)
        parts.callback(registry.close)
        change = await asyncio.to_thread(registry.last_change)
        common = await self._common(parts, registry)
        mqtt, ocpp = await self._make_sides(parts, common)
        observe = self._start_observe(common, mqtt, ocpp)
        parts.callback(observe.close)
        mqtt_port = await listen_mqtt(mqtt.listener, settings)
        parts.push_async_callback(mqtt.listener.close)
        ocpp_port, ocpp_tls_port = await listen_ocpp(ocpp, settings)
        parts.push_async_callback(ocpp.listener.close)
        self._listening = True
        endpoints = Endpoints(
            pid=os.getpid(),
            mqtt_host=settings.gateway.mqtt.host,
            mqtt_port=mqtt_port,
            ocpp_host=settings.gateway.ocpp.host,
            ocpp_port=ocpp_port,
            ocpp_path=settings.gateway.ocpp.path,
            ocpp_tls_port=ocpp_tls_port,
            observe_host=settings.observe.host,
            observe_port=observe.port,
        )
        run_file = data / "run" / GATEWAY
        write_private(run_file, msgspec.json.encode(endpoints))
        parts.callback(run_file.unlink, missing_ok=True)
        ready(endpoints)
        self._log.info("ready", **msgspec.structs.asdict(endpoints))
        return [
            tasks.create_task(self._tick(common.ingest, mqtt, ocpp), name="tick"),
            tasks.create_task(self._retain(), name="retention"),
            tasks.create_task(self._watch_registry(registry, change, mqtt, ocpp), name="registry"),
        ]

    async def _common(self, parts: AsyncExitStack, registry: "Registry") -> Common:
        """Open the journals and what else both sides need."""
        from gateway.edge.command_audit import CommandAudit

        opened = partial(open_journal, settings=self._settings, clock=CLOCK, log=self._log, failpoint=self._failpoint)
        ingest = await opened(self._settings.data / "ingest", on_commit=self._on_commit)
        parts.push_async_callback(ingest.close)
        commands = await opened(self._settings.data / "commands")
        parts.push_async_callback(commands.close)
        return Common(
            settings=self._settings,
            clock=CLOCK,
            log=self._log,
            ingest=ingest,
            commands=commands,
            registry=registry,
            verifiers=verifier_threads(parts),
            audit=CommandAudit(journal=ingest, count=self._command_events),
            count_command=self._command_events,
        )

    async def _make_sides(self, parts: AsyncExitStack, common: Common) -> tuple[MqttSide, OcppSide]:
        """Return both sides with the commands that still wait; nobody can connect yet."""
        from gateway.journal.reader import SegmentReader

        mqtt, ocpp = make_mqtt(common, self._topics), make_ocpp(common)
        parts.callback(ocpp.commands.close)
        with closing(SegmentReader(self._settings.data / "commands")) as reader:
            await asyncio.to_thread(mqtt.commands.rebuild, reader)
            await ocpp.commands.rebuild(reader)
        self._sides = (mqtt, ocpp)
        return mqtt, ocpp

    def _start_observe(self, common: Common, mqtt: MqttSide, ocpp: OcppSide) -> "ObserveServer":
        from gateway.control import charger_routes, device_routes, start_observe

        def not_listening() -> str | None:
            return None if self._listening else "does not accept connections"

        self._register_metrics(common.ingest, mqtt, ocpp)
        return start_observe(
            self._settings,
            metrics=self._metrics,
            heartbeat=self._heartbeat,
            journal=common.ingest,
            ready={"mqtt": not_listening, "ocpp": not_listening},
            routes={
                **device_routes(
                    journal=common.ingest,
                    commands=mqtt.commands,
                    registry=common.registry,
                    is_anonymous_allowed=lambda: self._settings.gateway.mqtt.allow_anonymous,
                ),
                **charger_routes(
                    commands=ocpp.commands,
                    registry=common.registry,
                    data=self._settings.data,
                    is_unknown_allowed=lambda: self._settings.gateway.ocpp.allow_unauthenticated,
                ),
            },
        )

    def _register_metrics(self, journal: "SegmentWriter", mqtt: MqttSide, ocpp: OcppSide) -> None:
        from gateway.edge.certificates import validity
        from gateway.journal.inspect import stats
        from gateway.observe.gateway_metrics import Sources, register_gateway

        data = self._settings.data

        def oldest_age_s() -> dict[tuple[str, ...], float]:
            at_ns = stats(data / "ingest").oldest_at_ns
            return {} if at_ns is None else {(): max(0.0, (time.time_ns() - at_ns) / 1e9)}

        # What the listener uses was read at the start: a file that was renewed since is not what chargers see.
        certificates = self._settings.gateway.ocpp.certificates
        ends_s = [validity(one.certificate_file.read_text("ascii"))[1] for one in certificates]
        expiry_s: dict[tuple[str, ...], float] = {("ocpp",): min(ends_s)} if ends_s else {}
        sources = Sources(
            protocols={"mqtt": mqtt.listening, "ocpp": ocpp.listening},
            command_events=self._command_events,
            unread_deleted=lambda: self._unread_deleted,
            commands_waiting=lambda: self._commands_waiting,
            journal_bytes=lambda: {(name,): stats(data / name).bytes for name in ("ingest", "commands")},
            journal_oldest_age_s=oldest_age_s,
            in_flight_bytes=lambda: journal.in_flight_bytes,
            durable=lambda: float(journal.failure is None),
            certificate_expiry_s=lambda: expiry_s,
        )
        register_gateway(self._metrics, sources)

    # ---- background --------------------------------------------------------------------------------------------------
    async def _beat(self) -> None:
        """Show that the loop turns, and measure by how much it is late."""
        while True:
            due_at_s = time.monotonic() + HEARTBEAT_S
            await asyncio.sleep(HEARTBEAT_S)
            self._observe_lag_s(max(0.0, time.monotonic() - due_at_s))
            self._heartbeat.beat()

    async def _tick(self, journal: "SegmentWriter", mqtt: MqttSide, ocpp: OcppSide) -> None:
        """Write the time into the journal, so that it passes there while devices are silent.

        After a full disk the tick is also the first to find out that there is space again.
        """
        said = START_TICK
        while True:
            await asyncio.sleep(self._settings.gateway.tick_s)
            try:
                journal.append_nowait(time.time_ns(), [TICK_ROUTE], [said], None)
                said = b""
            except (JournalFull, JournalBroken) as exc:
                self._note_journal(exc)
            # Counted here, because only this thread may look through the queue.
            self._commands_waiting = mqtt.commands.waiting_commands + ocpp.commands.open_commands

    async def _retain(self) -> None:
        """Delete what is older or larger than the settings allow, now and then."""
        while True:
            journal = self._settings.journal
            await asyncio.sleep(journal.retention_interval_s)
            try:
                await asyncio.to_thread(self._apply_retention, self._settings)
            except (CheckpointError, OSError) as exc:
                # Nothing is deleted while nobody knows what was read; the next round tries again.
                self._log.error("retention_failed", detail=str(exc))

    def _apply_retention(self, settings: Settings) -> None:
        from gateway.journal.cursors import FileCursors
        from gateway.journal.retention import apply_retention

        journal, data = settings.journal, settings.data
        read_up_to = FileCursors(data / "cursors").slowest() or Offset(0)
        retained = apply_retention(
            data / "ingest",
            read_up_to=read_up_to,
            now_ns=time.time_ns(),
            age_s_max=journal.retention_age_s,
            bytes_max=journal.retention_bytes,
            hard_bytes_max=max(journal.retention_bytes, journal.disk_bytes_max),
            failpoint=self._failpoint,
        )
        # Whatever is older has expired, and a command that waits is read again from here at the next start.
        apply_retention(
            data / "commands",
            read_up_to=OFFSET_MAX,
            now_ns=time.time_ns(),
            age_s_max=COMMAND_EXPIRY_S_MAX,
            bytes_max=journal.disk_bytes_max,
            hard_bytes_max=journal.disk_bytes_max,
        )
        if retained.segments:
            self._log.info("retention", **msgspec.structs.asdict(retained))
        if retained.entries_unread:
            self._unread_deleted += retained.entries_unread
            self._log.error(
                "unread_entries_deleted", entries=retained.entries_unread, disk_bytes_max=journal.disk_bytes_max
            )

    async def _watch_registry(self, registry: "Registry", change: int, mqtt: MqttSide, ocpp: OcppSide) -> None:
        """Close the sessions of devices that were revoked or got other credentials."""
        from gateway.edge.admission import Identity

        reachable = True
        while True:
            await asyncio.sleep(REGISTRY_POLL_S)
            try:
                change, changed = await asyncio.to_thread(registry.changed_since, change)
            except RegistryError as exc:
                if reachable:
                    self._log.error("registry_unreachable", detail=str(exc))
                reachable = False
                continue
            if not reachable:
                self._log.info("registry_reachable")
            reachable = True
            identities = {Identity(credential.tenant, credential.device_id) for credential in changed}
            for side in (mqtt, ocpp):
                side.admission.forget(identities)
            for credential in changed:
                for side in (mqtt, ocpp):
                    side.listener.disconnect_device(credential.tenant, credential.device_id)
                revoked = credential.revoked_at_ns is not None
                self._log.info("device_changed", device=credential.device_id, tenant=credential.tenant, revoked=revoked)

    def _on_commit(self, commit: "Commit") -> None:
        self._observe_commit_s(commit.duration_s)
        if commit.error is not None or self._journal_error is not None:
            self._note_journal(commit.error)

    def _note_journal(self, error: JournalError | None) -> None:
        """Log when the journal stops or starts being able to make bytes durable; not every refusal."""
        text = None if error is None else str(error)
        if text == self._journal_error:
            return
        self._journal_error = text
        if text is None:
            self._log.info("journal_durable_again")
        else:
            self._log.error("journal_not_durable", detail=text)
        if isinstance(error, JournalBroken) and self._broken is None:
            # Only a process that opens the journal again can be sure of what is on disk, so this one ends and is
            # started anew by whoever watches it.
            self._broken = error
            asyncio.get_running_loop().call_later(BROKEN_GRACE_S, self.stop)

    # ---- configuration, while it runs --------------------------------------------------------------------------------
    def reload(self, load: Callable[[], Settings]) -> None:
        """Take over new settings that can change while devices are connected; keep the old ones if they are wrong."""
        try:
            settings = load()
        except ConfigError as exc:
            self._log.error("configuration_refused", detail=str(exc))
            return
        old, self._settings = self._settings.to_environ(), settings
        if self._sides is not None:
            mqtt, ocpp = self._sides
            mqtt.admission.allow_anonymous = settings.gateway.mqtt.allow_anonymous
            ocpp.admission.allow_unauthenticated = settings.gateway.ocpp.allow_unauthenticated
            self._renew_certificates(ocpp, settings)
        new = settings.to_environ()
        changed = sorted(
            name.removeprefix("VOLTGATE__") for name in old.keys() | new.keys() if old.get(name) != new.get(name)
        )
        self._log.info("configuration_loaded", changed=changed, at_restart=[n for n in changed if n not in RELOADABLE])

    def _renew_certificates(self, ocpp: OcppSide, settings: Settings) -> None:
        """Take over files that were replaced, in the places that the running configuration names."""
        if ocpp.tls is None:
            return
        try:
            renew_charger_tls(ocpp.tls, settings)
        except ConfigError as exc:
            self._log.error("certificates_refused", detail=str(exc))


# ---- command line ----------------------------------------------------------------------------------------------------
async def serve(
    settings: Settings,
    *,
    ready: Callable[[Endpoints], None] = lambda _endpoints: None,
    load: Callable[[], Settings] | None = None,
    failpoint: FailpointHook = no_failpoint,
) -> int:
    """Run a gateway until SIGTERM or SIGINT; return its exit code.

    Args:
        settings: The whole configuration.
        ready: Called once devices can connect.
        load: Reads the configuration again on SIGHUP; without it the signal changes nothing.
        failpoint: Called between the steps whose order the promise depends on.
    """
    from gateway.observe.logs import make_logger

    log = make_logger(
        form=settings.observe.log_format,
        level=settings.observe.log_level,
        secrets=settings.secrets(),
        process="gateway",
    )
    try:
        gateway = Gateway(settings, log=log, failpoint=failpoint)
    except ConfigError as exc:
        log.error("failed", kind="ConfigError", detail=str(exc))  # noqa: TRY400 - it is about a file, not about our code
        return EXIT_CONFIG
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, gateway.stop)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload, load or (lambda: settings))
    errors: list[BaseException] = []
    try:
        await gateway.run(ready)
    except* (VoltgateError, OSError) as group:  # a TimeoutError is an OSError
        errors += _leaves(group)
    for error in errors:
        log.error("failed", kind=type(error).__name__, detail=str(error))
    if any(isinstance(error, ConfigError | JournalLocked) for error in errors):
        return EXIT_CONFIG
    return EXIT_FAILED if errors else EXIT_OK


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the gateway's command line; return its exit code: 0 ended as asked, 1 failed, 2 usage, 3 configuration."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="Terminate MQTT and make every message durable before it is acknowledged.",
        epilog="example: python -m gateway --config voltgate.toml --data /var/lib/voltgate",
    )
    parser.add_argument("--config", type=Path, help="TOML file; conf.d/*.toml beside it is read too")
    parser.add_argument("--data", type=Path, help="directory of everything that survives a restart")
    parser.add_argument("--insecure", action="store_true", help="allow to listen beyond this machine without TLS")
    parser.add_argument("--json", action="store_true", help="write one JSON line with ports to stdout when ready")
    arguments = parser.parse_args(argv)
    overrides: dict[str, object] = {}
    if arguments.data is not None:
        overrides["data"] = str(arguments.data)
    if arguments.insecure:
        overrides["gateway.insecure"] = True

    def load() -> Settings:
        return load_settings(arguments.config, os.environ, overrides=overrides)

    def ready(endpoints: Endpoints) -> None:
        if arguments.json:
            sys.stdout.write(msgspec.json.encode(endpoints).decode() + "\n")
            sys.stdout.flush()

    try:
        settings, failpoint = load(), failpoint_hook(os.environ)
    except ConfigError as exc:
        sys.stderr.write(f"voltgate gateway: {exc}\n")
        return EXIT_CONFIG
    _raise_file_limit()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings, ready=ready, load=load, failpoint=failpoint))


def _raise_file_limit() -> None:
    """Take all the descriptors that the operator allows: a connection is one, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
