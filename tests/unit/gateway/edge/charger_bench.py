"""A gateway's commands to chargers without sockets, disk and time: a test commits, answers and moves the clock."""

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import count as counting
from typing import Any, TypeVar

import msgspec

from gateway.core.command_records import CommandEvent, read_entries
from gateway.core.ids import DeviceId, TenantId
from gateway.edge.charger_commands import ChargerCommands
from gateway.edge.command_audit import CommandAudit
from gateway.journal.memory import MemoryJournal
from gateway.wire.ocpp.commands import CommandOutcome, CommandStatus
from gateway.wire.ocpp.versions import Version

T = TypeVar("T")
TENANT, CP1, CP2 = TenantId("acme"), DeviceId("cp-1"), DeviceId("cp-2")
S = 1_000_000_000
NUMBERS = counting()
"""Of request ids; they are unique over restarts as well."""
SOFT = b'{"type":"Soft"}'
YES = CommandOutcome(status=CommandStatus.ACCEPTED, answer=b'{"status":"Accepted"}', detail="Accepted")
NO = CommandOutcome(status=CommandStatus.REJECTED, answer=b'{"status":"Rejected"}', detail="Rejected")


class Counts(Counter[str]):
    """A Counter port that remembers."""

    def __call__(self, reason: str, n: int = 1) -> None:
        self[reason] += n


class Timer:
    """What a fake `call_later` returns."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call, self.cancelled = call, False

    def cancel(self) -> None:
        """Do not call."""
        self.cancelled = True


class Clock:
    """Time that a test moves."""

    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = counting()

    def now_ns(self) -> int:
        """Return UTC nanoseconds."""
        return int(self.now_s * S)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Any:
        """Call when the time is there."""
        timer = Timer(call)
        heapq.heappush(self._timers, (self.now_s + delay_s, next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass and timers run."""
        end_s = self.now_s + seconds
        while self._timers and self._timers[0][0] <= end_s:
            self.now_s, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.call()
        self.now_s = end_s


class FakeStation:
    """A connected charger that remembers what it was asked."""

    address = "192.0.2.1"

    def __init__(
        self,
        commands: ChargerCommands,
        device_id: DeviceId = CP1,
        *,
        generation: int = 1,
        version: Version = Version.V16,
    ) -> None:
        self.tenant, self.device_id, self.generation, self.version = TENANT, device_id, generation, version
        self.calls: list[tuple[str, str, bytes]] = []
        self.outstanding: str | None = None
        self._commands = commands
        commands.connected(self)

    @property
    def is_calling(self) -> bool:
        """Whether it owes an answer."""
        return self.outstanding is not None

    def call(self, message_id: str, action: str, payload: bytes) -> None:
        """Take a CALL."""
        assert self.outstanding is None, "one CALL at a time"
        self.outstanding = message_id
        self.calls.append((message_id, action, payload))

    def abandon_call(self) -> None:
        """Owe nothing any more."""
        self.outstanding = None

    def answer(self, outcome: CommandOutcome = YES, message_id: str | None = None) -> None:
        """Answer the outstanding CALL, or another."""
        answered = self.outstanding if message_id is None else message_id
        if answered == self.outstanding:
            self.outstanding = None
        assert answered is not None
        self._commands.answered(self, answered, outcome)

    def disconnect(self) -> None:
        """End the connection."""
        self._commands.disconnected(self)

    @property
    def asked(self) -> list[str]:
        """Request ids in order."""
        return [message_id for message_id, _, _ in self.calls]


class Bench:
    """Commands over journals in memory that a test commits, with its own clock."""

    def __init__(
        self, journal: MemoryJournal | None = None, *, ingest: MemoryJournal | None = None, clock: Clock | None = None
    ) -> None:
        self.journal, self.ingest = journal or MemoryJournal(), ingest or MemoryJournal()
        self.clock, self.counts = clock or Clock(), Counts()
        self.commands = ChargerCommands(
            journal=self.journal,
            audit=CommandAudit(journal=self.ingest, count=self.counts),
            now_ns=self.clock.now_ns,
            count=self.counts,
            call_later=self.clock.call_later,
            new_id=lambda: f"r{next(NUMBERS)}",
        )

    def station(self, device_id: DeviceId = CP1, **options: Any) -> FakeStation:
        """Return a charger that has just connected."""
        return FakeStation(self.commands, device_id, **options)

    async def commit(self) -> None:
        """Make everything durable, and let the loop turn."""
        for _ in range(2):
            self.journal.commit()
            self.ingest.commit()
            await asyncio.sleep(0)

    async def submit(self, device_id: DeviceId = CP1, **options: Any) -> str:
        """Submit one command and make it durable."""
        return (await self.submit_many([device_id], **options)).request_ids[device_id]

    async def submit_many(self, device_ids: list[DeviceId], **options: Any) -> Any:
        """Submit one command to many and make it durable."""
        settings = {"action": "Reset", "payload": SOFT, "by": "ann", "timeout_s": 30.0, **options}
        task = asyncio.ensure_future(self.commands.submit_many(tenant=TENANT, device_ids=device_ids, **settings))
        await asyncio.sleep(0)
        if not task.done():
            await self.commit()
        return await task

    async def outcome(self, request_id: str) -> CommandEvent | None:
        """Return the outcome that is durable, None for an open one."""
        await self.commit()
        known = await self.commands.wait([request_id], 0)
        return known.outcomes[request_id].event if known.outcomes else None

    async def step(self, request_id: str) -> str | None:
        """Return the word of the outcome."""
        event = await self.outcome(request_id)
        return None if event is None else str(event.step)

    async def restarted(self) -> "Bench":
        """Return a gateway that has only the journals, at the same moment."""
        self.journal.lose_power()
        self.ingest.lose_power()
        bench = Bench(self.journal, ingest=self.ingest, clock=Clock(self.clock.now_s))
        await bench.commands.rebuild(self.journal)
        await bench.commit()
        return bench

    def audited(self) -> list[dict[str, Any]]:
        """Return the payloads of the audit."""
        return [msgspec.json.decode(entry.envelope.payload) for entry in read_entries(self.ingest)]

    def steps(self) -> list[str]:
        """Return the events of the audit in order."""
        return [step["event"] for step in self.audited()]


def run(drive: Callable[[Bench], Coroutine[Any, Any, T]]) -> T:
    """Run a test on a new bench."""

    async def main() -> T:
        return await drive(Bench())

    return asyncio.run(main())
