"""What the commands journal holds: shared by the gateway, which writes it, and the programs that read it.

Four kinds of entries, told apart by the source of their route; the channel is the request id:

| source | payload |
|---|---|
| `command` | `StoredCommand`: a command to an MQTT device |
| `command_ack` | why it is done: `acknowledged`, `refused`, `oversize`; empty means acknowledged |
| `charger_command` | `StoredChargerCommand` |
| `charger_command_event` | `CommandEvent`: what became of a command to a charger, one entry per step |
"""

from collections.abc import Callable, Collection, Iterator
from enum import StrEnum
from typing import Final

import msgspec

from gateway.core.ids import DeviceId, Offset, TenantId
from gateway.core.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX
from gateway.core.ports import JournalReader
from gateway.core.records import Entry

COMMAND_SOURCE: Final = "command"
ACKNOWLEDGED_SOURCE: Final = "command_ack"
CHARGER_COMMAND_SOURCE: Final = "charger_command"
CHARGER_EVENT_SOURCE: Final = "charger_command_event"


class CommandStep(StrEnum):
    """A step in the life of a command. The ones of `OUTCOMES` end it."""

    SUBMITTED = "submitted"
    SENT = "sent"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ERROR = "error"
    TIMEOUT = "timeout"
    OFFLINE = "offline"
    DISCONNECTED = "disconnected"
    EXPIRED = "expired"
    REFUSED = "refused"
    ACKNOWLEDGED = "acknowledged"
    LATE = "late"


OUTCOMES: Final = frozenset(CommandStep) - {CommandStep.SUBMITTED, CommandStep.SENT, CommandStep.LATE}
"""Exactly one of these ends a command. A late answer comes after `timeout` and changes nothing."""


class StoredCommand(msgspec.Struct, frozen=True, array_like=True):
    """A command to an MQTT device as the journal holds it, MessagePack."""

    expires_at_ns: int
    payload: bytes


class StoredChargerCommand(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A command to a charger as the journal holds it, MessagePack; when it was submitted is the entry's time.

    Attributes:
        action: OCPP action, such as `RemoteStartTransaction`.
        payload: The JSON object of the CALL, verbatim.
        by: Who ordered it.
        timeout_s: Seconds that the charger may take to answer, from the sending.
        expires_at_ns: Not sent from then on.
        is_redeliverable: Whether it waits for a connection, and is sent again after one that ended without an answer.
    """

    action: str
    payload: bytes
    by: str
    timeout_s: float
    expires_at_ns: int
    is_redeliverable: bool


class CommandEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step of a command to a charger, MessagePack; when it happened is the entry's time.

    Attributes:
        step: What happened.
        answer: The charger's answer, a JSON object; empty where there is none.
        error_code: Code of its CALLERROR.
        detail: More for people.
        ocpp_version: Sub-protocol of the connection, empty where there was none.
        generation: Generation of the connection, 0 where there was none.
    """

    step: CommandStep
    answer: bytes = b""
    error_code: str = ""
    detail: str = ""
    ocpp_version: str = ""
    generation: int = 0


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How a command ended.

    Attributes:
        at_ns: When, UTC nanoseconds.
        event: What happened; its step is one of `OUTCOMES`.
    """

    at_ns: int
    event: CommandEvent


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of some commands.

    Attributes:
        outcomes: The ones that ended, by request id.
        open: The ones that did not.
        unknown: The ones that ended long ago, or never were.
    """

    outcomes: dict[str, Outcome]
    open: list[str]
    unknown: list[str]


class ConnectedCharger(msgspec.Struct, frozen=True, kw_only=True):
    """A charger that is connected now, for people and programs."""

    tenant: TenantId
    device_id: DeviceId
    version: str
    generation: int
    address: str
    connected_at_ns: int


class CommandRecord(msgspec.Struct, kw_only=True):
    """A command and what became of it, folded from the journal.

    Attributes:
        action: OCPP action, None for a command to an MQTT device.
        by: Who ordered it, empty where the journal does not say.
        outcome: How it ended, None while it is open.
    """

    request_id: str
    tenant: TenantId
    device_id: DeviceId
    action: str | None
    by: str
    payload: bytes
    submitted_at_ns: int
    expires_at_ns: int
    timeout_s: float = 0.0
    is_redeliverable: bool = False
    outcome: Outcome | None = None


encode_record: Final = msgspec.msgpack.Encoder().encode
_decode_command: Final = msgspec.msgpack.Decoder(StoredCommand).decode
_decode_charger_command: Final = msgspec.msgpack.Decoder(StoredChargerCommand).decode
decode_event: Final = msgspec.msgpack.Decoder(CommandEvent).decode


def read_entries(reader: JournalReader) -> Iterator[Entry]:
    """Yield all entries of a journal from its start; blocks."""
    offset = reader.start_offset()
    while True:
        batch = reader.read(offset, rows_max=BATCH_ROWS_MAX, bytes_max=BATCH_BYTES_MAX)
        yield from batch.entries()
        # A gap is an empty answer that ends further on; only the tail is one that ends where it was asked.
        if not len(batch) and batch.end_offset <= offset:
            return
        offset = Offset(batch.end_offset)


def submitted(entry: Entry) -> CommandRecord | None:
    """Return the command that an entry submits, or None when it is an entry of another kind."""
    envelope = entry.envelope
    route = envelope.route
    if route.source == CHARGER_COMMAND_SOURCE:
        charger = _decode_charger_command(envelope.payload)
        return CommandRecord(
            request_id=str(route.channel),
            tenant=route.tenant,
            device_id=route.device_id,
            action=charger.action,
            by=charger.by,
            payload=charger.payload,
            submitted_at_ns=envelope.received_at_ns,
            expires_at_ns=charger.expires_at_ns,
            timeout_s=charger.timeout_s,
            is_redeliverable=charger.is_redeliverable,
        )
    if route.source == COMMAND_SOURCE:
        stored = _decode_command(envelope.payload)
        return CommandRecord(
            request_id=str(route.channel),
            tenant=route.tenant,
            device_id=route.device_id,
            action=None,
            by="",
            payload=stored.payload,
            submitted_at_ns=envelope.received_at_ns,
            expires_at_ns=stored.expires_at_ns,
        )
    return None


def happened(entry: Entry) -> CommandEvent | None:
    """Return the step that an entry records, or None when it is an entry of another kind."""
    envelope = entry.envelope
    if envelope.route.source == CHARGER_EVENT_SOURCE:
        return decode_event(envelope.payload)
    if envelope.route.source == ACKNOWLEDGED_SOURCE:
        is_taken = envelope.payload in {b"", b"acknowledged"}
        step = CommandStep.ACKNOWLEDGED if is_taken else CommandStep.REFUSED
        return CommandEvent(step, detail="" if is_taken else envelope.payload.decode("utf-8", "replace"))
    return None


def read_outcomes(reader: JournalReader, request_ids: Collection[str]) -> dict[str, Outcome]:
    """Return the outcomes that the journal has among these commands; blocks while all of it is read."""
    found: dict[str, Outcome] = {}
    wanted = frozenset(request_ids)
    for entry in read_entries(reader):
        request_id = str(entry.envelope.route.channel)
        if request_id in wanted and (event := happened(entry)) is not None and event.step in OUTCOMES:
            found[request_id] = Outcome(entry.envelope.received_at_ns, event)
    return found


def fold_commands(
    reader: JournalReader, *, is_wanted: Callable[[CommandRecord], bool], is_open: bool, records_max: int
) -> list[CommandRecord]:
    """Return the newest commands of the journal that are wanted, in order of submission; blocks.

    Args:
        reader: The commands journal.
        is_wanted: Chooses by what is known at submission.
        is_open: Only those without an outcome.
        records_max: Most returned; older ones are left out.
    """
    kept: dict[str, CommandRecord] = {}
    for entry in read_entries(reader):
        command = submitted(entry)
        if command is not None:
            if is_wanted(command):
                kept[command.request_id] = command
                # Of the open ones nobody knows yet which stay so.
                if len(kept) > records_max and not is_open:
                    del kept[next(iter(kept))]
            continue
        event, request_id = happened(entry), str(entry.envelope.route.channel)
        if event is None or event.step not in OUTCOMES or request_id not in kept:
            continue
        if is_open:
            del kept[request_id]
        else:
            kept[request_id].outcome = Outcome(entry.envelope.received_at_ns, event)
    return list(kept.values())[-records_max:]
