"""Makes the gateway's parts from its settings; what runs when, and for how long, is `app`'s business.

Here the settings end: each part takes plain arguments. Clocks are arguments too. What is heavy to import is imported
where it is used.
"""

import asyncio
import os
import random
import secrets
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.core.errors import ConfigError, JournalLocked
from gateway.core.failpoints import FailpointHook
from gateway.core.limits import VERIFY_THREADS
from gateway.core.ports import Counter
from gateway.core.settings import Settings

if TYPE_CHECKING:
    from ssl import SSLContext

    from gateway.edge.admission import Admission, LoginsArguments
    from gateway.edge.charger_commands import ChargerCommands
    from gateway.edge.command_audit import CommandAudit
    from gateway.edge.commands import CommandQueue
    from gateway.edge.mqtt_listener import MqttListener
    from gateway.edge.ocpp_server import OcppServer
    from gateway.edge.station_admission import StationAdmission
    from gateway.edge.tls import TlsFiles
    from gateway.journal.recovery import Recovery
    from gateway.journal.writer import SegmentWriter
    from gateway.observe.gateway_metrics import Listening
    from gateway.observe.logs import Logger
    from gateway.registry.devices import Registry
    from gateway.wire.ocpp.answers import Answers
    from gateway.wire.topics import TopicTable

LOCK_WAIT_S: Final = 10.0
"""A gateway that was told to stop holds the journal until it has drained; its successor waits that long."""


class Clock(msgspec.Struct, frozen=True):
    """The two clocks of a process.

    Attributes:
        now_ns: UTC nanoseconds since 1970; may jump.
        now_s: Monotonic seconds, for time-outs.
    """

    now_ns: Callable[[], int]
    now_s: Callable[[], float]


def topic_table(settings: Settings) -> "TopicTable":
    """Return the topics that MQTT devices may publish on. Raises: ConfigError: A pattern is none."""
    from gateway.wire.topics import TopicTable

    mqtt = settings.gateway.mqtt
    try:
        patterns = [(topic.pattern, topic.channel) for topic in mqtt.topics]
        return TopicTable.from_patterns(patterns, tenant_default=mqtt.tenant_default)
    except ValueError as exc:
        raise ConfigError("gateway.mqtt.topics", 0, str(exc), "write v1/{tenant}/{device_id}/{channel}") from exc


async def open_journal(
    directory: Path, settings: Settings, *, clock: Clock, log: "Logger", failpoint: FailpointHook, **options: Any
) -> "SegmentWriter":
    """Return the writer of a journal, after waiting for a predecessor that is just ending.

    Raises: JournalLocked: It does not end.
    """
    from gateway.journal.writer import SegmentWriter

    journal, loop = settings.journal, asyncio.get_running_loop()
    give_up_at_s = clock.now_s() + LOCK_WAIT_S
    while True:
        try:
            writer = await asyncio.to_thread(
                SegmentWriter.open,
                directory,
                loop=loop,
                now_ns=clock.now_ns,
                segment_bytes_max=journal.segment_bytes_max,
                commit_window_s=journal.commit_window_s,
                failpoint=failpoint,
                **options,
            )
        except JournalLocked as exc:
            if clock.now_s() >= give_up_at_s:
                raise
            log.warning("journal_locked", detail=str(exc), waiting_s=LOCK_WAIT_S)
            await asyncio.sleep(LOCK_WAIT_S / 5)
        else:
            _note_recovery(log, directory, writer.recovery)
            return writer


def _note_recovery(log: "Logger", directory: Path, recovery: "Recovery") -> None:
    found = {"end_offset": recovery.end_offset, "torn_bytes": recovery.torn_bytes, "lost": recovery.lost}
    say = log.error if recovery.corrupt or recovery.lost else log.info
    say("journal_open", directory=str(directory), **found, corrupt=[damage.why for damage in recovery.corrupt])


def verifier_threads(parts: AsyncExitStack) -> Executor:
    """Return the threads that verify passwords for every listener; they end with `parts`."""
    # Half of the cores at most: a reconnecting fleet must not take the loop's.
    threads = max(1, min(VERIFY_THREADS, (os.cpu_count() or 1) // 2))
    verifiers = ThreadPoolExecutor(threads, thread_name_prefix="verify")
    parts.callback(verifiers.shutdown, wait=False, cancel_futures=True)
    return verifiers


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides of a gateway are made with.

    Attributes:
        settings: The whole configuration.
        clock: The clocks.
        log: Diagnostics.
        ingest: Journal of what devices say.
        commands: Journal of what they are told to do.
        registry: Who they are.
        verifiers: Threads that verify passwords.
        audit: Says in the ingest journal what becomes of commands.
        count_command: Counts that.
    """

    settings: Settings
    clock: Clock
    log: "Logger"
    ingest: "SegmentWriter"
    commands: "SegmentWriter"
    registry: "Registry"
    verifiers: Executor
    audit: "CommandAudit"
    count_command: Counter

    def logins(self, count: Counter) -> "LoginsArguments":
        """Return what an admission takes besides its own arguments."""
        from gateway.registry.passwords import decoy_hash, verify_password

        return {
            "find": self.registry.find,
            "verify": verify_password,
            "decoy_hash": decoy_hash(),
            "cache_key": secrets.token_bytes(32),
            "executor": self.verifiers,
            "now_s": self.clock.now_s,
            "count": count,
        }


class MqttSide(msgspec.Struct, frozen=True, kw_only=True):
    """What serves MQTT devices, and what it counts.

    Attributes:
        listener: The sockets.
        admission: Who may come in.
        commands: Commands waiting for devices.
        listening: Its figures.
    """

    listener: "MqttListener"
    admission: "Admission"
    commands: "CommandQueue"
    listening: "Listening"


class OcppSide(msgspec.Struct, frozen=True, kw_only=True):
    """What serves chargers, and what it counts; attributes as of `MqttSide`, and the TLS of the second port."""

    listener: "OcppServer"
    admission: "StationAdmission"
    commands: "ChargerCommands"
    listening: "Listening"
    tls: "SSLContext | None"


def make_mqtt(common: Common, topics: "TopicTable") -> MqttSide:
    """Return the MQTT side, not listening yet."""
    from gateway.edge.admission import Admission
    from gateway.edge.commands import CommandQueue
    from gateway.edge.mqtt_listener import MqttListener
    from gateway.observe.gateway_metrics import Listening
    from gateway.observe.metrics import EventCounter

    mqtt, now_ns = common.settings.gateway.mqtt, common.clock.now_ns
    events, refusals = EventCounter(), EventCounter()
    admission = Admission(
        allow_anonymous=mqtt.allow_anonymous, tenant_default=mqtt.tenant_default, **common.logins(refusals)
    )
    commands = CommandQueue(journal=common.commands, audit=common.audit, now_ns=now_ns, count=common.count_command)
    listener = MqttListener(
        journal=common.ingest,
        topics=topics,
        admission=admission,
        commands=commands,
        count=events,
        now_ns=now_ns,
    )
    listening = Listening(
        events=events,
        refusals=refusals,
        received=lambda: listener.received,
        acknowledged=lambda: listener.acknowledged,
        logins_waiting=lambda: admission.waiting,
        connections=lambda: {
            "connected": listener.connections,
            "unauthenticated": listener.unauthenticated,
            "parked": listener.parked_sessions,
        },
    )
    return MqttSide(listener=listener, admission=admission, commands=commands, listening=listening)


def make_ocpp(common: Common) -> OcppSide:
    """Return the chargers' side, not listening yet.

    Raises:
        CheckpointError: It is not known which transaction ids were given.
        ConfigError: A certificate cannot be used.
    """
    from gateway.edge.charger_commands import ChargerCommands
    from gateway.edge.ocpp_server import OcppServer
    from gateway.edge.station_admission import StationAdmission
    from gateway.observe.gateway_metrics import Listening
    from gateway.observe.metrics import EventCounter

    ocpp, now_ns = common.settings.gateway.ocpp, common.clock.now_ns
    events, refusals = EventCounter(), EventCounter()
    admission = StationAdmission(
        strictness=ocpp.strictness,
        certificate_organization=ocpp.certificate_organization,
        allow_unauthenticated=ocpp.allow_unauthenticated,
        tenant_default=ocpp.tenant_default,
        raise_security_profile=common.registry.raise_security_profile,
        **common.logins(refusals),
    )
    commands = ChargerCommands(journal=common.commands, audit=common.audit, now_ns=now_ns, count=common.count_command)
    server = OcppServer(
        journal=common.ingest,
        answers=make_answers(common.settings, now_ns=now_ns),
        admission=admission,
        commands=commands,
        count=events,
        now_ns=now_ns,
        ping_interval_s=max(1, round(ocpp.ping_interval_s)),
        pong_timeout_s=max(1, round(ocpp.pong_timeout_s)),
        path=ocpp.path,
        newest_wins=ocpp.newest_wins,
        log=common.log,
    )
    listening = Listening(
        events=events,
        refusals=refusals,
        received=lambda: server.received,
        acknowledged=lambda: server.acknowledged,
        logins_waiting=lambda: admission.waiting,
        connections=lambda: {"connected": server.connections, "unauthenticated": server.unauthenticated},
    )
    tls = make_charger_tls(common.settings, clock=common.clock, count=refusals, log=common.log)
    return OcppSide(listener=server, admission=admission, commands=commands, listening=listening, tls=tls)


def make_answers(settings: Settings, *, now_ns: Callable[[], int]) -> "Answers":
    """Return what chargers are told. Raises: CheckpointError: It is not known which transaction ids were given."""
    from gateway.edge.transaction_ids import TransactionIds
    from gateway.journal.cursors import FileCursors
    from gateway.wire.ocpp.answers import Answers

    ocpp = settings.gateway.ocpp
    known = frozenset(ocpp.id_tokens)

    def heartbeat_interval_s() -> int:
        # Chargers that came back together shall not beat together.
        return max(1, round(ocpp.heartbeat_interval_s * random.uniform(0.9, 1.1)))  # noqa: S311 - spreads, hides nothing

    return Answers(
        heartbeat_interval_s=heartbeat_interval_s,
        next_transaction_id=TransactionIds(FileCursors(settings.data / "counters"), now_ns=now_ns).next,
        id_token_status=lambda token: "Accepted" if not known or token in known else "Invalid",
    )


def make_charger_tls(settings: Settings, *, clock: Clock, count: Counter, log: "Logger") -> "SSLContext | None":
    """Return the TLS of the chargers' second port, None without one. Raises: ConfigError: A file cannot be used."""
    if settings.gateway.ocpp.tls_port is None:
        return None
    from gateway.edge.ocpp_refusals import RefusalLog
    from gateway.edge.tls import server_context

    refusals = RefusalLog(log, now_s=clock.now_s)

    def on_refused(reason: str, detail: str) -> None:
        count(reason)
        refusals.warn(reason, "tls_refused", reason=reason, detail=detail)

    return server_context(**_tls_files(settings), on_refused=on_refused)


def renew_charger_tls(context: "SSLContext", settings: Settings) -> None:
    """Take renewed certificates and revocation lists from now on. Raises: ConfigError: The old ones stay."""
    from gateway.edge.tls import renew

    renew(context, **_tls_files(settings))


def _tls_files(settings: Settings) -> "TlsFiles":
    ocpp = settings.gateway.ocpp
    return {
        "chains": [(pair.certificate_file, pair.key_file) for pair in ocpp.certificates],
        "client_ca": ocpp.client_ca_file,
        "crl": ocpp.client_crl_file,
        "policy": ocpp.tls_policy,
    }


async def listen_ocpp(side: OcppSide, settings: Settings) -> tuple[int, int | None]:
    """Let chargers connect; return the clear text port and the TLS one. Raises: ConfigError: One cannot be bound."""
    ocpp, server, tls = settings.gateway.ocpp, side.listener, side.tls
    try:
        port = await server.start(ocpp.host, ocpp.port)
    except OSError as exc:
        raise cannot_listen("gateway.ocpp", ocpp.host, ocpp.port, exc) from exc
    if tls is None or ocpp.tls_port is None:
        return port, None
    try:
        return port, await server.start(ocpp.tls_host, ocpp.tls_port, ssl=tls)
    except OSError as exc:
        raise cannot_listen("gateway.ocpp", ocpp.tls_host, ocpp.tls_port, exc) from exc


async def listen_mqtt(listener: "MqttListener", settings: Settings) -> int:
    """Let MQTT devices connect; return the port. Raises: ConfigError: It cannot be bound."""
    mqtt = settings.gateway.mqtt
    try:
        return await listener.start(mqtt.host, mqtt.port)
    except OSError as exc:
        raise cannot_listen("gateway.mqtt", mqtt.host, mqtt.port, exc) from exc


def cannot_listen(section: str, host: str, port: int, exc: OSError) -> ConfigError:
    """Return the error of a port that cannot be bound."""
    what = f"cannot listen on {host} port {port}: {exc.strerror or exc}"
    return ConfigError(section, 0, what, "choose another port, or 0 for a free one")
