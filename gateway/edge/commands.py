"""Commands to devices: durable when `submit` returns, delivered at least once, gone when acknowledged or expired.

The commands journal holds two kinds of entries of this queue, a command and its acknowledgement, and the queue is what
is left of them; what others wrote there is passed over. Each step is audited in the ingest journal too. Knows nothing
of sockets: connections take from `waiting` and report to `acknowledge`.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable, Set
from typing import Final

import msgspec

from gateway.core.command_records import (
    ACKNOWLEDGED_SOURCE,
    COMMAND_SOURCE,
    CommandEvent,
    CommandStep,
    StoredCommand,
    read_entries,
)
from gateway.core.errors import JournalError, LimitExceeded, PeerError
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.limits import (
    COMMAND_BYTES_MAX,
    COMMAND_EXPIRY_S,
    COMMAND_EXPIRY_S_MAX,
    COMMANDS_QUEUED_BYTES_MAX,
    COMMANDS_QUEUED_MAX,
)
from gateway.core.ports import Counter, JournalReader, JournalWriter
from gateway.core.records import Route
from gateway.edge.command_audit import CommandAudit
from gateway.wire.topics import is_identifier

_OVERHEAD_BYTES: Final = 512
"""What a waiting command costs besides its payload; counts against `COMMANDS_QUEUED_BYTES_MAX`."""
_PACKET_ID_MAX: Final = 65_535
_NS: Final = 1_000_000_000


class Command(msgspec.Struct, kw_only=True, eq=False):
    """A command that waits for its device.

    Attributes:
        request_id: Its name, last level of its topic.
        payload: Bytes for the device.
        expires_at_ns: Not delivered from then on.
        packet_id: Packet identifier, 0 until it was sent; then it keeps it, so that a second delivery is known as one.
    """

    request_id: str
    payload: bytes
    expires_at_ns: int
    packet_id: int = 0


class _Device:
    """The commands of one device, in order of submission."""

    __slots__ = ("commands", "newest_packet_id")

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        self.newest_packet_id = 0


class CommandQueue:
    """Commands waiting per device. All calls on the event loop.

    Args:
        journal: Journal of commands, this queue's alone.
        now_ns: UTC nanoseconds.
        count: Counts queued, acknowledged, refused, expired and dropped commands.
        audit: Writes each step to the ingest journal; without it nobody hears of them.
        new_id: Makes request ids: unique, one topic level each.
    """

    def __init__(
        self,
        *,
        journal: JournalWriter,
        now_ns: Callable[[], int],
        count: Counter,
        audit: CommandAudit | None = None,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._journal = journal
        self._now_ns = now_ns
        self._count = count
        self._audit = audit
        self._new_id = new_id
        self._devices: defaultdict[tuple[TenantId, DeviceId], _Device] = defaultdict(_Device)
        self._bytes = 0
        self._submitting_bytes = 0
        self._on_waiting: Callable[[TenantId, DeviceId], None] = lambda _tenant, _device_id: None

    @property
    def waiting_commands(self) -> int:
        """Commands that are durable and neither acknowledged, expired nor dropped."""
        return sum(len(device.commands) for device in self._devices.values())

    def on_waiting(self, call: Callable[[TenantId, DeviceId], None]) -> None:
        """Call this whenever a command is ready for a device."""
        self._on_waiting = call

    def rebuild(self, reader: JournalReader) -> int:
        """Read the journal from its start and return how many commands wait. Once, before the first `submit`."""
        # What is dropped here was dropped, and audited, before; what has expired since is when somebody looks for it.
        audit, self._audit = self._audit, None
        for entry in read_entries(reader):
            envelope = entry.envelope
            key = (envelope.route.tenant, envelope.route.device_id)
            request_id = str(envelope.route.channel)
            if envelope.route.source == ACKNOWLEDGED_SOURCE:
                self._remove(key, request_id)
            elif envelope.route.source == COMMAND_SOURCE:
                stored = msgspec.msgpack.decode(envelope.payload, type=StoredCommand)
                # The clock of that moment, so that the same commands are dropped as were dropped then.
                self._add(key, request_id, stored, now_ns=envelope.received_at_ns)
        self._audit = audit
        return self.waiting_commands

    async def submit(
        self, *, tenant: TenantId, device_id: DeviceId, payload: bytes, expiry_s: float = COMMAND_EXPIRY_S
    ) -> str:
        """Make a command durable and ready for its device; return its request id.

        Args:
            tenant: Tenant of the device.
            device_id: The device; nobody checks here that it exists.
            payload: Bytes for the device, at most `COMMAND_BYTES_MAX`.
            expiry_s: Seconds from now, positive, at most `COMMAND_EXPIRY_S_MAX`; not delivered afterwards.

        Raises:
            PeerError: A value is unusable, or the queue is full (`LimitExceeded`); nothing was queued.
            JournalError: The command could not be made durable; nothing was queued.
        """
        self._check(tenant, device_id, payload, expiry_s)
        request_id = self._new_id()
        now_ns = self._now_ns()
        stored = StoredCommand(now_ns + int(expiry_s * _NS), payload)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_durable(error: JournalError | None) -> None:
            # Not after the await: a caller that went away does not take back what the journal holds.
            self._submitting_bytes -= _cost_bytes(payload)
            if error is None:
                self._note((tenant, device_id), request_id, CommandStep.SUBMITTED, at_ns=now_ns, payload=payload)
                self._add((tenant, device_id), request_id, stored, now_ns=now_ns)
                self._count("queued")
                self._on_waiting(tenant, device_id)
            if durable.done():
                return
            if error is None:
                durable.set_result(None)
            else:
                durable.set_exception(error)

        route = Route(tenant, device_id, COMMAND_SOURCE, Channel(request_id))
        self._journal.append_nowait(now_ns, [route], [msgspec.msgpack.encode(stored)], on_durable)
        self._submitting_bytes += _cost_bytes(payload)
        await durable
        return request_id

    def waiting(self, tenant: TenantId, device_id: DeviceId) -> list[Command]:
        """Return the device's commands in order of submission, without those that have expired."""
        key = (tenant, device_id)
        if key not in self._devices:
            return []
        self._expire(key, self._now_ns())
        return list(self._devices[key].commands.values()) if key in self._devices else []

    def number(self, tenant: TenantId, device_id: DeviceId, command: Command, in_flight: Set[int]) -> None:
        """Give the command a packet identifier that no waiting command of the device has and none in flight to it.

        One in flight may belong to a command that has expired meanwhile; its PUBACK must not take another one out.
        """
        device = self._devices[tenant, device_id]
        taken = in_flight | {other.packet_id for other in device.commands.values()}
        while command.packet_id == 0 or command.packet_id in taken:
            device.newest_packet_id = device.newest_packet_id % _PACKET_ID_MAX + 1
            command.packet_id = device.newest_packet_id

    def acknowledge(self, tenant: TenantId, device_id: DeviceId, packet_id: int, *, refused: bool) -> None:
        """Take the device's PUBACK: the command is done, also after a restart. Unknown identifiers are ignored."""
        key = (tenant, device_id)
        commands = self._devices[key].commands.values() if key in self._devices else ()
        for command in commands:
            if command.packet_id == packet_id:
                self._discard(tenant, device_id, command, "refused" if refused else "acknowledged")
                return

    def drop_oversize(self, tenant: TenantId, device_id: DeviceId, command: Command) -> None:
        """Take out a command that is larger than its device takes; it would stop all behind it."""
        self._discard(tenant, device_id, command, "oversize")

    def _discard(self, tenant: TenantId, device_id: DeviceId, command: Command, reason: str) -> None:
        key, now_ns = (tenant, device_id), self._now_ns()
        self._remove(key, command.request_id)
        self._count(reason)
        route = Route(tenant, device_id, ACKNOWLEDGED_SOURCE, Channel(command.request_id))
        try:
            self._journal.append_nowait(now_ns, [route], [reason.encode()], None)
        except JournalError:
            # The device has it. Should we restart before the disk is back, it is delivered a second time.
            self._count("acknowledgement_not_durable")
        if reason == "oversize":
            self._note(
                key, command.request_id, CommandStep.REFUSED, at_ns=now_ns, detail="larger than the device takes"
            )
        else:
            self._note(key, command.request_id, CommandStep(reason), at_ns=now_ns)

    def _note(
        self,
        key: tuple[TenantId, DeviceId],
        request_id: str,
        step: CommandStep,
        *,
        at_ns: int,
        detail: str = "",
        payload: bytes = b"",
    ) -> None:
        if self._audit is not None:
            event, received_at_ns = CommandEvent(step, detail=detail), self._now_ns()
            self._audit.note(*key, request_id, event, at_ns=at_ns, received_at_ns=received_at_ns, payload=payload)

    def _check(self, tenant: TenantId, device_id: DeviceId, payload: bytes, expiry_s: float) -> None:
        if not (is_identifier(tenant) and is_identifier(device_id)):
            raise PeerError("target", "tenant and device id are one topic level each, not empty, without / + # $")
        if not 0 < expiry_s <= COMMAND_EXPIRY_S_MAX:
            raise PeerError("expiry", f"expiry_s is {expiry_s:g}; give more than 0, at most {COMMAND_EXPIRY_S_MAX:g}")
        if len(payload) > COMMAND_BYTES_MAX:
            raise LimitExceeded("bytes", f"command of {len(payload)} bytes, limit is {COMMAND_BYTES_MAX}")
        if self._is_full_for(payload):
            for key in list(self._devices):
                self._expire(key, self._now_ns())
        if self._is_full_for(payload):
            detail = f"commands waiting take {COMMANDS_QUEUED_BYTES_MAX} bytes already; try again when some are done"
            raise LimitExceeded("full", detail)

    def _is_full_for(self, payload: bytes) -> bool:
        return self._bytes + self._submitting_bytes + _cost_bytes(payload) > COMMANDS_QUEUED_BYTES_MAX

    def _add(self, key: tuple[TenantId, DeviceId], request_id: str, stored: StoredCommand, *, now_ns: int) -> None:
        self._expire(key, now_ns)
        commands = self._devices[key].commands
        if len(commands) >= COMMANDS_QUEUED_MAX:
            oldest = next(iter(commands))
            self._remove(key, oldest)
            self._count("dropped_oldest")
            detail = f"newer ones took its place among {COMMANDS_QUEUED_MAX}"
            self._note(key, oldest, CommandStep.EXPIRED, at_ns=now_ns, detail=detail)
        self._devices[key].commands[request_id] = Command(
            request_id=request_id, payload=stored.payload, expires_at_ns=stored.expires_at_ns
        )
        self._bytes += _cost_bytes(stored.payload)

    def _expire(self, key: tuple[TenantId, DeviceId], now_ns: int) -> None:
        if key not in self._devices:
            return
        gone = [c for c in self._devices[key].commands.values() if now_ns >= c.expires_at_ns]
        for command in gone:
            self._remove(key, command.request_id)
            self._count("expired")
            # Its own time, so that the same step said again after a restart is known as the same.
            self._note(key, command.request_id, CommandStep.EXPIRED, at_ns=command.expires_at_ns)

    def _remove(self, key: tuple[TenantId, DeviceId], request_id: str) -> None:
        device = self._devices.get(key)
        command = None if device is None else device.commands.pop(request_id, None)
        if device is None or command is None:
            return
        self._bytes -= _cost_bytes(command.payload)
        if not device.commands:
            del self._devices[key]


def _cost_bytes(payload: bytes) -> int:
    return len(payload) + _OVERHEAD_BYTES
