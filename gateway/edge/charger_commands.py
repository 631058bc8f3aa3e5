"""Commands to chargers: durable before anything is sent, one at a time per charger, each with exactly one outcome.

Knows nothing of sockets: a connection is a `Station`, which says when it is there, when it is gone and what it
answered. Which actions a version has, and what is in them, is the table of `gateway.wire.ocpp.commands`.

A command ends as
    accepted, rejected, error   the charger answered: as asked, with a no, with a CALLERROR
    timeout                     no answer within `timeout_s`; one that comes later is recorded as `late`
    offline                     the charger was not connected, and the command may not wait
    disconnected                the connection ended before the answer, or the gateway restarted, and it may not wait
    expired                     it could not be sent before `expires_at_ns`
    refused                     it does not fit the version that its charger speaks now
A command belongs to the connection it was submitted under. Only one that is redeliverable goes to a later one.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.core.command_records import (
    CHARGER_COMMAND_SOURCE,
    CommandEvent,
    CommandRecord,
    CommandStep,
    ConnectedCharger,
    Known,
    Outcome,
    StoredChargerCommand,
    encode_record,
)
from gateway.core.errors import JournalError, LimitExceeded, PeerError
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.limits import (
    COMMAND_TIMEOUT_S,
    COMMANDS_QUEUED_BYTES_MAX,
    COMMANDS_QUEUED_MAX,
    COMMANDS_STARTED_AT_ONCE,
)
from gateway.core.ports import Counter, JournalReader, JournalWriter
from gateway.core.records import Route
from gateway.core.text import peer_text
from gateway.edge.command_audit import CommandAudit
from gateway.edge.command_checks import Misfits, check_request
from gateway.edge.command_delivery import CommandDelivery
from gateway.edge.command_outcomes import CommandOutcomes
from gateway.edge.command_rebuild import read_open
from gateway.edge.command_steps import CallLater, Key, OpenCommand, StepRecorder
from gateway.edge.station import Station
from gateway.wire.ocpp.commands import CommandOutcome
from gateway.wire.topics import is_identifier

_NS: Final = 1_000_000_000


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken of one submission and what was not.

    Attributes:
        request_ids: Charger to the request id of its command, which is durable.
        refused: Charger to why nothing was submitted for it.
    """

    request_ids: dict[DeviceId, str]
    refused: dict[DeviceId, PeerError]


class ChargerCommands:
    """The commands of all chargers of a gateway. All calls on the event loop.

    Args:
        journal: The commands journal.
        audit: Writes each step to the ingest journal.
        now_ns: UTC nanoseconds.
        count: Counts steps by name, refused submissions by reason, and `not_durable` and `unmatched`.
        call_later: Runs a callback after so many seconds; the running loop's when left out.
        new_id: Makes request ids, which are message ids too: unique, at most 36 characters (OCPP-J 1.6 section 4.1.4).
    """

    def __init__(
        self,
        *,
        journal: JournalWriter,
        audit: CommandAudit,
        now_ns: Callable[[], int],
        count: Counter,
        call_later: CallLater | None = None,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._journal, self._now_ns, self._count, self._new_id = journal, now_ns, count, new_id
        self._open: dict[str, OpenCommand] = {}
        self._open_bytes = 0
        self._starting: deque[OpenCommand] = deque()
        self._outcomes = CommandOutcomes()
        call_later = call_later or _call_later
        self._recorder = StepRecorder(
            journal=journal,
            audit=audit,
            now_ns=now_ns,
            count=count,
            call_later=call_later,
            on_outcome=self._on_outcome,
        )
        self._delivery = CommandDelivery(recorder=self._recorder, now_ns=now_ns, count=count, call_later=call_later)

    # ---- connections -------------------------------------------------------------------------------------------------
    def connected(self, station: Station) -> None:
        """Take note of a connection that can be sent CALLs; what waits for its charger is sent from now on.

        A connection of the same charger that is still there counts as ended.
        """
        self._delivery.connected(station)

    def disconnected(self, station: Station) -> None:
        """Take note that a connection ended. Safe to repeat, and for one whose successor is there already."""
        self._delivery.disconnected(station)

    def answered(self, station: Station, message_id: str, outcome: CommandOutcome) -> None:
        """Take the charger's answer to a CALL of ours, also one that comes after its time-out."""
        self._delivery.answered(station, message_id, outcome)

    # ---- asked by others ---------------------------------------------------------------------------------------------
    @property
    def open_commands(self) -> int:
        """Commands that are submitted and have no durable outcome. Any thread."""
        return len(self._open)

    def is_connected(self, tenant: TenantId, device_id: DeviceId) -> bool:
        """Return whether the charger can be sent a command now. Any thread."""
        return self._delivery.station((tenant, device_id)) is not None

    def connected_chargers(self) -> list[ConnectedCharger]:
        """Return who is connected."""
        return self._delivery.connected_chargers()

    async def wait(self, request_ids: Sequence[str], wait_s: float) -> Known:
        """Return what is known of these commands once all open ones ended, or after `wait_s` seconds."""
        await self._outcomes.wait([r for r in request_ids if r in self._open], wait_s)
        outcomes = self._outcomes.known(request_ids)
        missing = [request_id for request_id in request_ids if request_id not in outcomes]
        return Known(
            outcomes=outcomes,
            open=[request_id for request_id in missing if request_id in self._open],
            unknown=[request_id for request_id in missing if request_id not in self._open],
        )

    # ---- submission --------------------------------------------------------------------------------------------------
    async def submit(
        self,
        *,
        tenant: TenantId,
        device_id: DeviceId,
        action: str,
        payload: bytes,
        timeout_s: float = COMMAND_TIMEOUT_S,
        expiry_s: float = 0.0,
        redeliverable: bool = False,
        by: str,
    ) -> str:
        """Make a command to one charger durable, send it when its turn comes, and return its request id.

        Arguments and errors as `submit_many`; what that returns as refused is raised here.
        """
        submitted = await self.submit_many(
            tenant=tenant,
            device_ids=[device_id],
            action=action,
            payload=payload,
            timeout_s=timeout_s,
            expiry_s=expiry_s,
            redeliverable=redeliverable,
            by=by,
        )
        for problem in submitted.refused.values():
            raise problem
        return submitted.request_ids[device_id]

    async def submit_many(
        self,
        *,
        tenant: TenantId,
        device_ids: Sequence[DeviceId],
        action: str,
        payload: bytes,
        timeout_s: float = COMMAND_TIMEOUT_S,
        expiry_s: float = 0.0,
        redeliverable: bool = False,
        by: str,
    ) -> Submitted:
        """Make the same command to many chargers durable with one write; each gets its own request id and outcome.

        Args:
            tenant: Tenant of the chargers.
            device_ids: The chargers, at most `COMMAND_DEVICES_MAX`; nobody checks here that they exist.
            action: OCPP action.
            payload: The JSON object of the CALL, at most `COMMAND_BYTES_MAX`.
            timeout_s: Seconds that a charger may take to answer, at most `COMMAND_TIMEOUT_S_MAX`.
            expiry_s: Seconds from now after which it is not sent any more, at most `COMMAND_EXPIRY_S_MAX`; 0 for
                `timeout_s`, and for not waiting for a charger that is offline.
            redeliverable: With an expiry, whether it waits for a connection, and is sent again after one that ended
                without an answer: say so only where twice does no harm.
            by: Who orders it.

        Raises:
            PeerError: A value is unusable for all of them; nothing was submitted.
            JournalError: It could not be made durable; nothing was submitted.
        """
        check_request(action, payload, timeout_s=timeout_s, expiry_s=expiry_s, by=by, devices=len(device_ids))
        now_ns = self._now_ns()
        expires_at_ns = now_ns + int((expiry_s or timeout_s) * _NS)
        may_wait = redeliverable and expiry_s > 0
        stored = StoredChargerCommand(action, payload, by, timeout_s, expires_at_ns, may_wait)
        misfits = Misfits(action, payload)
        commands: list[OpenCommand] = []
        refused: dict[DeviceId, PeerError] = {}
        for device_id in dict.fromkeys(device_ids):
            taken = self._take((tenant, device_id), stored, misfits, now_ns)
            if isinstance(taken, OpenCommand):
                commands.append(taken)
            else:
                refused[device_id] = taken
                self._count(taken.reason)
        if commands:
            await self._store(now_ns, stored, commands)
        return Submitted(request_ids={c.key[1]: c.request_id for c in commands}, refused=refused)

    def _take(self, key: Key, stored: StoredChargerCommand, misfits: Misfits, now_ns: int) -> OpenCommand | PeerError:
        """Return the command with its place reserved, or why there is none."""
        if not all(map(is_identifier, key)):
            return PeerError("target", "tenant and device id are one topic level each, not empty, without / + # $")
        station = self._delivery.station(key)
        problem = misfits.of_all() if station is None else misfits.of(station.version)
        if problem is not None:
            return problem
        fits = None if station is None else station.version
        command = OpenCommand(
            request_id=self._new_id(), key=key, stored=stored, submitted_at_ns=now_ns, issued_to=station, fits=fits
        )
        waiting = self._delivery.commands(key)
        if waiting >= COMMANDS_QUEUED_MAX:
            detail = f"{waiting} commands wait for {peer_text(key[1])!r}, limit is {COMMANDS_QUEUED_MAX}"
            return LimitExceeded("queue_full", f"{detail}; try again when some have their outcome")
        if self._open_bytes + command.cost_bytes > COMMANDS_QUEUED_BYTES_MAX:
            detail = f"open commands take {self._open_bytes} bytes, limit is {COMMANDS_QUEUED_BYTES_MAX}"
            return LimitExceeded("full", f"{detail}; try again when some have their outcome")
        self._reserve(command)
        return command

    async def _store(self, now_ns: int, stored: StoredChargerCommand, commands: list[OpenCommand]) -> None:
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_durable(error: JournalError | None) -> None:
            # Not after the await: a caller that went away does not take back what the journal holds.
            if error is None:
                is_starting = bool(self._starting)
                self._starting += commands
                if not is_starting:
                    self._start_some()
            else:
                for command in commands:
                    self._give_up(command)
            if durable.done():
                return
            if error is None:
                durable.set_result(None)
            else:
                durable.set_exception(error)

        routes = [Route(*c.key, CHARGER_COMMAND_SOURCE, Channel(c.request_id)) for c in commands]
        try:
            self._journal.append_nowait(now_ns, routes, [encode_record(stored)] * len(routes), on_durable)
        except JournalError:
            for command in commands:
                self._give_up(command)
            raise
        await durable

    def _reserve(self, command: OpenCommand) -> None:
        self._delivery.reserve(command.key)
        self._open[command.request_id] = command
        self._open_bytes += command.cost_bytes

    def _give_up(self, command: OpenCommand) -> None:
        """Take back a reservation whose command did not become durable."""
        self._delivery.give_up(command.key)
        self._free(command)

    def _free(self, command: OpenCommand) -> None:
        del self._open[command.request_id]
        self._open_bytes -= command.cost_bytes

    def _start_some(self) -> None:
        """Start the next commands that became durable; the loop turns before those behind them."""
        for _ in range(min(len(self._starting), COMMANDS_STARTED_AT_ONCE)):
            command = self._starting.popleft()
            self._count(CommandStep.SUBMITTED)
            event = CommandEvent(CommandStep.SUBMITTED)
            self._recorder.audit(command, command.submitted_at_ns, event, payload=command.stored.payload)
            self._delivery.start(command)
        if self._starting:
            asyncio.get_running_loop().call_soon(self._start_some)

    def _on_outcome(self, command: OpenCommand, outcome: Outcome) -> None:
        self._free(command)
        self._outcomes.settle(command.request_id, outcome)

    # ---- start and stop ----------------------------------------------------------------------------------------------
    async def rebuild(self, reader: JournalReader) -> int:
        """Read the journal from its start and return how many commands wait. Once, before the first `submit`.

        What had no outcome gets one, `disconnected`, or waits again where it is redeliverable.
        """
        rebuilt = await asyncio.to_thread(read_open, reader)
        for step in rebuilt.audit_again:
            payload = step.command.payload if step.event.step == CommandStep.SUBMITTED else b""
            self._recorder.audit(_opened(step.command), step.at_ns, step.event, payload=payload)
        waiting = 0
        for record in rebuilt.open:
            command = _opened(record)
            self._reserve(command)
            waiting += self._delivery.resume(command)
        return waiting

    def close(self) -> None:
        """Stop all timers, when the gateway ends; open commands are settled by the next start."""
        self._recorder.close()
        for command in self._open.values():
            command.stop_timer()


def _opened(record: CommandRecord) -> OpenCommand:
    assert record.action is not None, "only commands to chargers are read"
    return OpenCommand(
        request_id=record.request_id,
        key=(record.tenant, record.device_id),
        stored=StoredChargerCommand(
            record.action,
            record.payload,
            record.by,
            record.timeout_s,
            record.expires_at_ns,
            record.is_redeliverable,
        ),
        submitted_at_ns=record.submitted_at_ns,
    )


def _call_later(delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(delay_s, call)
