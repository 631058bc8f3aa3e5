"""Makes the gateway's parts from its settings; what runs when, and for how long, is `app`'s business.

Here the settings end: each part takes plain arguments. Clocks are arguments too. What is heavy to import is imported
where it is used.
"""

import asyncio
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    from gateway.edge.admission import Admission
    from gateway.edge.mqtt_listener import MqttListener
    from gateway.journal.recovery import Recovery
    from gateway.journal.writer import SegmentWriter
    from gateway.observe.logs import Logger
    from gateway.registry.devices import Registry
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


def make_admission(
    settings: Settings, registry: "Registry", parts: AsyncExitStack, *, clock: Clock, count: Counter
) -> "Admission":
    """Return who lets MQTT devices in; its threads end with `parts`."""
    from gateway.edge.admission import Admission
    from gateway.registry.passwords import decoy_hash, verify_password

    # Half of the cores at most: a reconnecting fleet must not take the loop's.
    threads = max(1, min(VERIFY_THREADS, (os.cpu_count() or 1) // 2))
    verifiers = ThreadPoolExecutor(threads, thread_name_prefix="verify")
    parts.callback(verifiers.shutdown, wait=False, cancel_futures=True)
    return Admission(
        find=registry.find,
        verify=verify_password,
        decoy_hash=decoy_hash(),
        cache_key=secrets.token_bytes(32),
        executor=verifiers,
        now_s=clock.now_s,
        count=count,
        allow_anonymous=settings.gateway.mqtt.allow_anonymous,
        tenant_default=settings.gateway.mqtt.tenant_default,
    )


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
