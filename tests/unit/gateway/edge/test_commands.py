"""The command queue: durable, bounded, in order, gone when acknowledged, the same after a restart."""

import asyncio
from collections import Counter
from itertools import count as counting
from typing import Any

import msgspec
import pytest

from gateway.core.command_records import fold_commands, read_entries
from gateway.core.errors import JournalError, JournalFull, LimitExceeded, PeerError
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import COMMAND_BYTES_MAX, COMMANDS_QUEUED_BYTES_MAX, COMMANDS_QUEUED_MAX
from gateway.edge.command_audit import CommandAudit
from gateway.edge.commands import CommandQueue
from gateway.journal.memory import MemoryJournal

TENANT, BUS, VAN = TenantId("acme"), DeviceId("bus-1"), DeviceId("van-1")
S = 1_000_000_000


class Counts(Counter[str]):
    """A Counter port that remembers."""

    def __call__(self, reason: str, n: int = 1) -> None:
        self[reason] += n


class Bench:
    """A queue over a journal in memory, with a clock that a test moves."""

    def __init__(self, journal: MemoryJournal | None = None, *, now_s: int = 0) -> None:
        self.journal = journal or MemoryJournal()
        self.counts = Counts()
        self.now_s = now_s
        numbers = counting(self.journal.end_offset())
        self.queue = CommandQueue(
            journal=self.journal,
            now_ns=lambda: self.now_s * S,
            count=self.counts,
            new_id=lambda: f"r{next(numbers)}",
        )
        self.queue.rebuild(self.journal)

    def submit(self, payload: bytes, *, device_id: DeviceId = BUS, expiry_s: float = 60) -> str:
        """Submit and commit."""

        async def drive() -> str:
            task = asyncio.ensure_future(
                self.queue.submit(tenant=TENANT, device_id=device_id, payload=payload, expiry_s=expiry_s)
            )
            await asyncio.sleep(0)
            if not task.done():
                self.journal.commit()
            return await task

        return asyncio.run(drive())

    def payloads(self, device_id: DeviceId = BUS) -> list[bytes]:
        """Return what waits."""
        return [command.payload for command in self.queue.waiting(TENANT, device_id)]

    def deliver(self, *in_flight: int) -> list[int]:
        """Number what waits and return the packet identifiers."""
        waiting = self.queue.waiting(TENANT, BUS)
        for command in waiting:
            if command.packet_id == 0:
                self.queue.number(TENANT, BUS, command, set(in_flight))
        return [command.packet_id for command in waiting]

    def restarted(self) -> "Bench":
        """Return a queue that has only the journal, at the same moment."""
        self.journal.commit()
        return Bench(self.journal, now_s=self.now_s)


def test_commands_wait_in_order_per_device() -> None:
    """First in, first out; other devices have their own."""
    bench = Bench()
    for payload in (b"1", b"2"):
        bench.submit(payload)
    bench.submit(b"3", device_id=VAN)
    assert (bench.payloads(), bench.payloads(VAN)) == ([b"1", b"2"], [b"3"])


def test_command_is_ready_only_when_durable() -> None:
    """Before the commit nobody hears of it; then the listener does."""
    bench = Bench()
    ready: list[tuple[TenantId, DeviceId]] = []
    bench.queue.on_waiting(lambda tenant, device_id: ready.append((tenant, device_id)))

    async def drive() -> None:
        task = asyncio.ensure_future(bench.queue.submit(tenant=TENANT, device_id=BUS, payload=b"x"))
        await asyncio.sleep(0)
        assert (bench.payloads(), ready) == ([], [])
        bench.journal.commit()
        assert (bench.payloads(), ready) == ([b"x"], [(TENANT, BUS)])
        await task

    asyncio.run(drive())


def test_caller_that_goes_away_does_not_take_the_command_back() -> None:
    """The journal holds it, so it is delivered, now as after a restart."""
    bench = Bench()

    async def drive() -> None:
        task = asyncio.ensure_future(bench.queue.submit(tenant=TENANT, device_id=BUS, payload=b"x"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        bench.journal.commit()

    asyncio.run(drive())
    assert bench.payloads() == [b"x"]


def test_command_that_is_not_durable_is_not_queued() -> None:
    """The caller hears why."""
    bench = Bench()
    bench.journal.fail(JournalFull("no space"))
    with pytest.raises(JournalError):
        bench.submit(b"x")
    assert bench.payloads() == []


def test_acknowledged_command_is_gone_also_after_a_restart() -> None:
    """The acknowledgement is in the journal."""
    bench = Bench()
    for payload in (b"1", b"2", b"3"):
        bench.submit(payload)
    ids = bench.deliver()
    bench.queue.acknowledge(TENANT, BUS, ids[1], refused=False)
    assert bench.payloads() == [b"1", b"3"]
    assert bench.restarted().payloads() == [b"1", b"3"]
    assert bench.counts == {"queued": 3, "acknowledged": 1}


def test_refused_command_is_done_too() -> None:
    """A device that says no would say no again."""
    bench = Bench()
    bench.submit(b"1")
    bench.queue.acknowledge(TENANT, BUS, bench.deliver()[0], refused=True)
    assert (bench.payloads(), bench.counts["refused"]) == ([], 1)


def test_unknown_acknowledgement_changes_nothing() -> None:
    """Neither of a number nobody gave nor of a device nobody knows."""
    bench = Bench()
    bench.submit(b"1")
    bench.deliver()
    bench.queue.acknowledge(TENANT, BUS, 99, refused=False)
    bench.queue.acknowledge(TENANT, VAN, 1, refused=False)
    assert bench.payloads() == [b"1"]


def test_expired_command_is_not_delivered() -> None:
    """Now as after a restart."""
    bench = Bench()
    bench.submit(b"short", expiry_s=10)
    bench.submit(b"long", expiry_s=100)
    bench.now_s = 10
    assert bench.payloads() == [b"long"]
    assert bench.restarted().payloads() == [b"long"]
    assert bench.counts["expired"] == 1


def test_queue_of_a_device_is_bounded() -> None:
    """The oldest goes and is counted; a restart drops the same."""
    bench = Bench()
    for i in range(COMMANDS_QUEUED_MAX + 2):
        bench.submit(b"%d" % i)
    kept = [b"%d" % i for i in range(2, COMMANDS_QUEUED_MAX + 2)]
    assert kept == bench.payloads()
    assert kept == bench.restarted().payloads()
    assert bench.counts["dropped_oldest"] == 2


def test_restart_later_drops_what_was_dropped_then() -> None:
    """What has expired since must not make room, afterwards, for a command that was dropped."""
    bench = Bench()
    bench.submit(b"dropped", expiry_s=1_000)
    bench.submit(b"expires", expiry_s=10)
    for i in range(COMMANDS_QUEUED_MAX - 1):
        bench.submit(b"%d" % i, expiry_s=1_000)
    bench.now_s = 20
    assert [b"%d" % i for i in range(COMMANDS_QUEUED_MAX - 1)] == bench.payloads()
    assert bench.payloads() == bench.restarted().payloads()


def test_all_commands_together_are_bounded() -> None:
    """Past the bound `submit` refuses, unless expired ones make room."""
    bench = Bench()
    n = COMMANDS_QUEUED_BYTES_MAX // (COMMAND_BYTES_MAX + 512)
    for i in range(n):
        bench.submit(bytes(COMMAND_BYTES_MAX), device_id=DeviceId(f"d{i}"), expiry_s=10)
    with pytest.raises(LimitExceeded):
        bench.submit(bytes(COMMAND_BYTES_MAX))
    bench.now_s = 11
    bench.submit(bytes(COMMAND_BYTES_MAX))
    assert bench.queue.waiting_commands == 1


@pytest.mark.parametrize(
    ("device_id", "size", "expiry_s"),
    [("a/b", 1, 60), ("", 1, 60), ("+", 1, 60), ("bus", COMMAND_BYTES_MAX + 1, 60), ("bus", 1, 0), ("bus", 1, 1e9)],
)
def test_unusable_command_is_refused(device_id: str, size: int, expiry_s: float) -> None:
    """Before anything is written."""
    bench = Bench()
    with pytest.raises(PeerError):
        bench.submit(bytes(size), device_id=DeviceId(device_id), expiry_s=expiry_s)
    assert bench.journal.end_offset() == 0


def test_packet_identifiers_are_kept_and_not_shared() -> None:
    """A second delivery is known as one; identifiers in flight of commands that expired are avoided."""
    bench = Bench()
    bench.submit(b"1")
    bench.submit(b"2")
    first = bench.deliver()
    assert first == bench.deliver()
    assert len(set(first)) == 2
    bench.queue.acknowledge(TENANT, BUS, first[0], refused=False)
    bench.queue.acknowledge(TENANT, BUS, first[1], refused=False)
    bench.submit(b"3")
    assert bench.deliver(1, 2, 3) == [4]


def test_packet_identifiers_wrap_around() -> None:
    """After 65,535 comes 1 again."""
    bench = Bench()
    bench.submit(b"1")
    assert bench.deliver(*range(1, 65_535)) == [65_535]


def test_oversize_command_is_taken_out_for_good() -> None:
    """It would be in the way after a restart as well."""
    bench = Bench()
    bench.submit(b"1")
    bench.queue.drop_oversize(TENANT, BUS, bench.queue.waiting(TENANT, BUS)[0])
    assert (bench.payloads(), bench.restarted().payloads()) == ([], [])


class AuditedBench(Bench):
    """A queue whose steps are audited."""

    def __init__(self, journal: MemoryJournal | None = None, *, now_s: int = 0) -> None:
        super().__init__(journal, now_s=now_s)
        self.ingest = MemoryJournal()
        audit = CommandAudit(journal=self.ingest, count=self.counts)
        numbers = counting(self.journal.end_offset())
        self.queue = CommandQueue(
            journal=self.journal,
            now_ns=lambda: self.now_s * S,
            count=self.counts,
            audit=audit,
            new_id=lambda: f"r{next(numbers)}",
        )
        self.queue.rebuild(self.journal)

    def audited(self) -> list[dict[str, Any]]:
        """Return what the audit says."""
        self.ingest.commit()
        entries = read_entries(self.ingest)
        return [msgspec.json.decode(entry.envelope.payload) for entry in entries]


def test_each_step_is_audited() -> None:
    """Submission with its payload, and how it ended, each at its own time."""
    bench = AuditedBench()
    for payload in (b"1", b"2", b"\xff", b"4"):
        bench.submit(payload, expiry_s=60)
    ids = bench.deliver()
    bench.now_s = 5
    bench.queue.acknowledge(TENANT, BUS, ids[0], refused=False)
    bench.queue.acknowledge(TENANT, BUS, ids[1], refused=True)
    bench.queue.drop_oversize(TENANT, BUS, bench.queue.waiting(TENANT, BUS)[0])
    bench.now_s = 90
    assert bench.payloads() == []
    submitted, ended = bench.audited()[:4], bench.audited()[4:]
    assert [(s["event"], s["payload"], s["at_ns"]) for s in submitted] == [
        ("submitted", "1", 0),
        ("submitted", "2", 0),
        ("submitted", "base64:/w==", 0),
        ("submitted", "4", 0),
    ]
    assert [(s["event"], s["at_ns"] // S, s["request_id"]) for s in ended] == [
        ("acknowledged", 5, "r0"),
        ("refused", 5, "r1"),
        ("refused", 5, "r2"),
        ("expired", 60, "r3"),
    ]
    assert ended[2]["detail"] == "larger than the device takes"


def test_command_that_gives_way_is_audited() -> None:
    """With why."""
    bench = AuditedBench()
    for _ in range(COMMANDS_QUEUED_MAX + 1):
        bench.submit(b"x")
    (expired,) = [step for step in bench.audited() if step["event"] == "expired"]
    assert (expired["request_id"], expired["detail"]) == (
        "r0",
        f"newer ones took its place among {COMMANDS_QUEUED_MAX}",
    )


def test_restart_audits_nothing_twice() -> None:
    """What was dropped before the restart was said then; what has expired since is said once."""
    bench = AuditedBench()
    for _ in range(COMMANDS_QUEUED_MAX + 1):
        bench.submit(b"x", expiry_s=10)
    bench.now_s = 20
    again = AuditedBench(bench.journal, now_s=20)
    assert again.audited() == []
    assert again.payloads() == []
    assert {step["event"] for step in again.audited()} == {"expired"}
    assert len(again.audited()) == COMMANDS_QUEUED_MAX


def test_how_a_command_ended_is_in_the_commands_journal() -> None:
    """So that the command line can say it without the gateway."""
    bench = Bench()
    for payload in (b"1", b"2", b"3"):
        bench.submit(payload)
    ids = bench.deliver()
    bench.queue.acknowledge(TENANT, BUS, ids[0], refused=False)
    bench.queue.acknowledge(TENANT, BUS, ids[1], refused=True)
    bench.journal.commit()
    commands = fold_commands(bench.journal, is_wanted=lambda _command: True, is_open=False, records_max=10)
    outcomes = [command.outcome and str(command.outcome.event.step) for command in commands]
    assert outcomes == ["acknowledged", "refused", None]
