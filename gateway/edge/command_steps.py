"""An open command to a charger, and the writing down of its steps: the commands journal first, then the audit."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from gateway.core.command_records import (
    CHARGER_EVENT_SOURCE,
    OUTCOMES,
    CommandEvent,
    Outcome,
    StoredChargerCommand,
    encode_record,
)
from gateway.core.errors import JournalError
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.ports import Counter, JournalWriter
from gateway.core.records import Route
from gateway.edge.command_audit import CommandAudit
from gateway.edge.station import Station
from gateway.wire.ocpp.versions import Version

Key = tuple[TenantId, DeviceId]
CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
"""Runs a callback after so many seconds, unless the handle is cancelled."""

_AGAIN_S: Final = 1.0
"""How often outcomes that the disk did not take are tried again."""
_OVERHEAD_BYTES: Final = 1024
"""What an open command costs besides its payload; counts against `COMMANDS_QUEUED_BYTES_MAX`."""


class OpenCommand(msgspec.Struct, kw_only=True, eq=False):
    """A command to a charger without a durable outcome.

    Attributes:
        submitted_at_ns: When it was ordered, UTC nanoseconds.
        issued_to: The connection it was submitted under, None where there was none.
        fits: The version it was checked against.
        timer: Ends it: by expiry until it is sent, then by time-out.
    """

    request_id: str
    key: Key
    stored: StoredChargerCommand
    submitted_at_ns: int
    issued_to: Station | None = None
    fits: Version | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def cost_bytes(self) -> int:
        """What it counts against `COMMANDS_QUEUED_BYTES_MAX`."""
        return len(self.stored.payload) + _OVERHEAD_BYTES

    def stop_timer(self) -> None:
        """Let no timer end it."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class StepRecorder:
    """Writes steps of commands. All calls on the event loop.

    An outcome that the disk does not take now is kept and tried again, so that nobody sees one that a restart could
    take back; there is at most one per open command. Other steps are counted and lost.

    Args:
        journal: The commands journal.
        audit: Writes a step to the ingest journal once the commands journal has it.
        now_ns: UTC nanoseconds.
        count: Counts `not_durable`, each try that failed.
        call_later: Runs a callback after so many seconds.
        on_outcome: Told each outcome once it is durable, exactly once per command.
    """

    def __init__(
        self,
        *,
        journal: JournalWriter,
        audit: CommandAudit,
        now_ns: Callable[[], int],
        count: Counter,
        call_later: CallLater,
        on_outcome: Callable[[OpenCommand, Outcome], None],
    ) -> None:
        self._journal, self._audit, self._now_ns, self._count = journal, audit, now_ns, count
        self._call_later, self._on_outcome = call_later, on_outcome
        self._refused: dict[str, tuple[OpenCommand, int, CommandEvent]] = {}
        self._again: asyncio.TimerHandle | None = None

    def record(self, command: OpenCommand, event: CommandEvent) -> None:
        """Write a step that happened now."""
        self._append(command, self._now_ns(), event)

    def audit(self, command: OpenCommand, at_ns: int, event: CommandEvent, *, payload: bytes = b"") -> None:
        """Write a step that the commands journal has to the ingest journal."""
        self._audit.note(
            *command.key,
            command.request_id,
            event,
            at_ns=at_ns,
            received_at_ns=self._now_ns(),
            action=command.stored.action,
            by=command.stored.by,
            payload=payload,
        )

    def close(self) -> None:
        """Try nothing again; what is not durable yet is `disconnected` or redelivered after the restart."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _append(self, command: OpenCommand, at_ns: int, event: CommandEvent) -> None:
        route = Route(*command.key, CHARGER_EVENT_SOURCE, Channel(command.request_id))
        on_durable = partial(self._on_durable, command, at_ns, event)
        try:
            self._journal.append_nowait(at_ns, [route], [encode_record(event)], on_durable)
        except JournalError as error:
            on_durable(error)

    def _on_durable(self, command: OpenCommand, at_ns: int, event: CommandEvent, error: JournalError | None) -> None:
        if error is None:
            self.audit(command, at_ns, event)
            if event.step in OUTCOMES:
                self._on_outcome(command, Outcome(at_ns, event))
            return
        self._count("not_durable")
        if event.step in OUTCOMES:
            self._refused[command.request_id] = (command, at_ns, event)
            if self._again is None:
                self._again = self._call_later(_AGAIN_S, self._append_again)

    def _append_again(self) -> None:
        refused, self._refused, self._again = self._refused, {}, None
        for command, at_ns, event in refused.values():
            self._append(command, at_ns, event)
