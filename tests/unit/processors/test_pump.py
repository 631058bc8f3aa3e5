"""The pump keeps order, waits for company, stops reading when a store refuses, and survives poison."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import msgspec
import polars as pl
import pytest

from gateway.core.errors import JournalError, JournalFull, SinkError
from gateway.core.failpoints import Failpoint, FailpointHook, no_failpoint
from gateway.core.ids import Offset
from gateway.core.records import Checkpoint, EntryBatch, Envelope
from gateway.journal.memory import MemoryJournal
from processors.contracts.load import load_contracts
from processors.pump import CURSOR, Pump
from processors.sinks.memory import MemorySink
from processors.stages.alert_record import LifeEvent, TestOrder
from processors.stages.chain import Chain, ChainState, Outputs
from tests.journals import fleet, to_journal


class CrashError(Exception):
    """Stands for the end of the process at a failpoint."""


class Inline(Executor):
    """Runs what is submitted at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except SinkError as error:
            future.set_exception(error)
        return future


class MemoryCursors:
    """A CursorStore in memory; `full` makes it refuse."""

    def __init__(self) -> None:
        self.stored: dict[str, Checkpoint] = {}
        self.full = False

    def load(self, cursor: str) -> Checkpoint | None:
        return self.stored.get(cursor)

    def store(self, checkpoint: Checkpoint) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.stored[checkpoint.cursor] = checkpoint

    def slowest(self) -> Offset | None:
        return min((c.offset for c in self.stored.values()), default=None)


class MemoryResults:
    """Results in memory; `full` makes it refuse."""

    def __init__(self) -> None:
        self.kept: list[LifeEvent] = []
        self.full = False

    def append(self, events: Sequence[LifeEvent]) -> None:
        if self.full:
            raise JournalFull("no space left; free some")
        self.kept += events


class Seen:
    """Events, as a list."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.batches: list[int] = []

    def committed(self, outputs: Outputs, state: ChainState) -> None:
        self.names.append("committed")
        self.batches.append(outputs.end_offset)

    def refused(self, error: SinkError) -> None:
        self.names.append("refused")

    def not_told(self, error: JournalError) -> None:
        self.names.append("not told")

    def told(self, events: Sequence[LifeEvent]) -> None:
        self.names.append(f"told {[event.offset for event in events]}")

    def quarantined(self, offset: Offset, crash: BaseException) -> None:
        self.names.append(f"quarantined {offset}")

    def checkpointed(self, offset: Offset, state_bytes: int) -> None:
        self.names.append(f"checkpointed {offset}")

    def not_checkpointed(self, error: OSError) -> None:
        self.names.append("not checkpointed")


class Poisoned(Chain):
    """A chain that crashes at certain offsets, every time or only the first `times`."""

    poison: dict[int, int]

    def run(self, batch: EntryBatch, state: ChainState) -> tuple[Outputs, ChainState]:
        for offset in range(batch.base_offset, batch.end_offset):
            if self.poison.get(offset, 0) > 0:
                self.poison[offset] -= 1
                raise RuntimeError(f"poison at {offset}")
        return super().run(batch, state)


@pytest.fixture(scope="module")
def chain() -> Chain:
    """A chain over the built-in contracts."""
    return Chain(load_contracts([]))


class World:
    """A journal, a sink and a checkpoint that outlive the pumps that work on them."""

    def __init__(self, chain: Chain, journal: MemoryJournal) -> None:
        self.chain, self.journal = chain, journal
        self.sink = MemorySink(chain.schemas)
        self.results = MemoryResults()
        self.cursors = MemoryCursors()
        self.seen = Seen()

    def pump(self, *, failpoint: FailpointHook = no_failpoint, **options: Any) -> Pump:
        """Return a pump that goes on from the checkpoint, as a restarted process does."""
        checkpoint = self.cursors.load(CURSOR)
        state = (
            self.chain.from_bytes(checkpoint.state)
            if checkpoint
            else self.chain.empty_state(self.journal.start_offset())
        )
        self.sink._failpoint = failpoint
        return Pump(
            reader=self.journal,
            chain=self.chain,
            sink=self.sink,
            results=self.results,
            cursors=self.cursors,
            state=state,
            writer=Inline(),
            events=self.seen,
            failpoint=failpoint,
            **options,
        )

    def frames(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every table sorted, windows by their newest revision only."""
        rows = {}
        for name in self.chain.schemas:
            frame = self.sink.frame(name)
            if name.startswith("windows_"):
                key = ["tenant", "device_id", "window_s", "window_start"]
                frame = frame.sort(*key, "revision").unique(key, keep="last", maintain_order=True)
            rows[name] = frame.sort("offset", maintain_order=True).rows() if "windows" not in name else frame.rows()
        return rows


def drain(pump: Pump, *, now_s: float = 0.0) -> None:
    """Step until nothing is left."""
    for _ in range(1000):
        pump.step(now_s, hurry=True)
        if pump.lag_entries == 0 and pump.flush(now_s):
            return
        now_s += 0.5
    raise AssertionError("the pump does not come to an end")


@pytest.fixture
def envelopes() -> list[Envelope]:
    """A few minutes of a fleet."""
    return fleet(seed=3, seconds=240)


def test_everything_arrives_once(chain: Chain, envelopes: list[Envelope]) -> None:
    """A drained pump has every entry in the sink, and its ledger says so."""
    world = World(chain, to_journal(envelopes))
    pump = world.pump(rows_max=100)
    drain(pump)
    pump.checkpoint(0.0)
    assert world.sink.frame("raw")["offset"].to_list() == [
        i for i, e in enumerate(envelopes) if e.payload or e.route.device_id
    ]
    assert (len(envelopes), 0) == (pump.offset, pump.lag_entries)
    assert len(envelopes) == world.cursors.stored[CURSOR].offset


def test_rows_are_on_disk_before_the_checkpoint_says_so(chain: Chain, envelopes: list[Envelope]) -> None:
    """Where the store cannot make its rows durable, the old checkpoint stands: they come again from the journal."""
    world = World(chain, to_journal(envelopes))
    pump = world.pump(rows_max=100)
    drain(pump)
    refused = OSError(5, "Input/output error")

    def fail() -> None:
        raise refused

    world.sink.sync = fail  # type: ignore[method-assign]
    pump.checkpoint(0.0)
    assert {} == world.cursors.stored
    assert "not checkpointed" == world.seen.names[-1]
    del world.sink.sync
    pump.checkpoint(1.0)
    assert len(envelopes) == world.cursors.stored[CURSOR].offset


def test_few_entries_wait_for_company(chain: Chain, envelopes: list[Envelope]) -> None:
    """Below the batch size rows are written once per commit interval; a full batch is written at once."""
    world = World(chain, to_journal(envelopes[:50]))
    pump = world.pump(rows_max=60, interval_s=0.5, commit_interval_s=5.0)
    assert 0.0 < pump.step(0.0) <= 0.5
    pump.step(0.5)
    pump.step(5.4)
    assert world.seen.batches == []
    pump.step(5.5)
    pump.step(5.5)
    assert world.seen.batches == [50]
    for one in envelopes[50:110]:
        world.journal.append_nowait(one.received_at_ns, [one.route], [one.payload], None)
    world.journal.commit()
    for _ in range(3):
        pump.step(5.6)
    assert world.seen.batches == [50, 110]


def test_batches_are_gathered_into_one_write(chain: Chain, envelopes: list[Envelope]) -> None:
    """The journal is read often; what it gave since the last write is written as one, with everything in it."""
    world = World(chain, to_journal(envelopes[:40]))
    pump = world.pump(rows_max=1000, interval_s=0.2, commit_interval_s=2.0)
    now_s = 0.0
    for begin in range(40, 200, 40):
        for _ in range(4):
            pump.step(now_s)
            now_s += 0.1
        for one in envelopes[begin : begin + 40]:
            world.journal.append_nowait(one.received_at_ns, [one.route], [one.payload], None)
        world.journal.commit()
    for _ in range(40):
        pump.step(now_s)
        now_s += 0.1
    quiet = World(chain, to_journal(envelopes[:200]))
    drain(quiet.pump())
    assert (True, 200) == (len(world.seen.batches) <= 3, world.seen.batches[-1])
    assert quiet.frames() == world.frames()


class Telling(Chain):
    """A chain that says something of every hundredth entry."""

    def run(self, batch: EntryBatch, state: ChainState) -> tuple[Outputs, ChainState]:
        outputs, after = super().run(batch, state)
        offsets = [offset for offset in range(batch.base_offset, batch.end_offset) if offset % 100 == 0]
        events = tuple(TestOrder(offset=offset, tenant="t", receiver="r", by="me") for offset in offsets)
        return msgspec.structs.replace(outputs, events=events), after


@pytest.fixture(scope="module")
def telling() -> Chain:
    """A chain with something to tell."""
    return Telling(load_contracts([]))


def offsets_told(world: World) -> list[int]:
    """Return what was told for the first time, as the results journal sorts it out."""
    told: list[int] = []
    for event in world.results.kept:
        if not told or event.offset > told[-1]:
            told.append(event.offset)
    return told


def test_alerts_do_not_wait_for_the_rows(telling: Chain, envelopes: list[Envelope]) -> None:
    """What became of alerts is told when a batch is read, long before its rows are written."""
    world = World(telling, to_journal(envelopes[:250]))
    pump = world.pump(rows_max=1000, interval_s=0.2, commit_interval_s=60.0)
    pump.step(0.0)
    pump.step(0.2)
    assert ([0, 100, 200], []) == (offsets_told(world), world.seen.batches)


def test_alerts_that_are_refused_hold_everything(telling: Chain, envelopes: list[Envelope]) -> None:
    """While alerts cannot be made durable no row of theirs is written and nothing is read; then all is as ever."""
    world = World(telling, to_journal(envelopes))
    world.results.full = True
    pump = world.pump(rows_max=100)
    for now_s in (0.0, 0.5, 1.0, 1.5, 2.0):
        pump.step(now_s, hurry=True)
    assert {"not told"} == set(world.seen.names)
    assert (0, False) == (pump.offset, pump.flush(2.1))
    world.results.full = False
    drain(pump, now_s=4.0)
    assert list(range(0, len(envelopes), 100)) == offsets_told(world)
    assert list(range(0, len(envelopes), 100)) == [event.offset for event in world.results.kept]


def test_refused_rows_are_tried_again(chain: Chain, envelopes: list[Envelope]) -> None:
    """A store that refuses gets the same batch again after the time it says; nothing is lost or written twice."""
    world = World(chain, to_journal(envelopes))
    world.sink.refuse(
        [SinkError("lake", "disk full", retry_after_s=3.0), SinkError("lake", "still", retry_after_s=2.0)]
    )
    pump = world.pump(rows_max=100)
    for _ in range(4):
        pump.step(0.0, hurry=True)
    assert world.seen.names == ["refused"]
    assert 0.0 < pump.step(1.0, hurry=True) <= 2.0
    assert world.seen.names == ["refused"]
    drain(pump, now_s=3.0)
    assert world.seen.names[:3] == ["refused", "refused", "committed"]
    assert world.seen.batches == [*range(100, len(envelopes), 100), len(envelopes)]
    assert sorted(set(world.sink.frame("raw")["offset"])) == sorted(world.sink.frame("raw")["offset"])


def test_alerts_go_on_while_the_lake_refuses(telling: Chain, envelopes: list[Envelope]) -> None:
    """The chain goes ahead of a lake that takes nothing, and makes the rows again when it does."""
    world = World(telling, to_journal(envelopes))
    world.sink.refuse([SinkError("lake", "down", retry_after_s=60.0)])
    pump = world.pump(rows_max=100, interval_s=0.2)
    now_s = 0.0
    while now_s < 50.0:
        pump.step(now_s)
        now_s += 0.1
    assert list(range(0, len(envelopes), 100)) == offsets_told(world)
    assert (0, ["refused"]) == (pump.offset, [name for name in world.seen.names if not name.startswith("told")])
    drain(pump, now_s=61.0)
    assert list(range(0, len(envelopes), 100)) == offsets_told(world)
    quiet = World(telling, to_journal(envelopes))
    drain(quiet.pump())
    assert quiet.frames() == world.frames()


def test_chain_is_replaced_between_batches(chain: Chain, telling: Chain, envelopes: list[Envelope]) -> None:
    """Another chain goes on from the state of the one before, with everything written that was read."""
    world = World(chain, to_journal(envelopes))
    pump = world.pump(rows_max=150)
    for _ in range(3):
        pump.step(0.0, hurry=True)
    world.sink.refuse([SinkError("lake", "down", retry_after_s=5.0)])
    pump.step(0.0, hurry=True)
    assert not pump.replace_chain(telling, 0.0)
    drain_to = 6.0
    while not pump.replace_chain(telling, drain_to):
        pump.step(drain_to)
    before = pump.offset
    drain(pump, now_s=7.0)
    assert [offset for offset in range(0, len(envelopes), 100) if offset >= before] == offsets_told(world)
    quiet = World(chain, to_journal(envelopes))
    drain(quiet.pump())
    assert quiet.frames() == world.frames()


@pytest.mark.parametrize("failpoint", [p for p in Failpoint if p.startswith(("pump.", "lake.between"))])
@pytest.mark.parametrize("nth", [1, 2, 5])
def test_crash_anywhere_equals_an_uninterrupted_run(
    chain: Chain, envelopes: list[Envelope], failpoint: Failpoint, nth: int
) -> None:
    """Killed at any step and started again with other batches, the tables are those of one quiet run."""
    quiet = World(chain, to_journal(envelopes))
    drain(quiet.pump())
    world = World(chain, to_journal(envelopes))
    hits = 0

    def crash(name: Failpoint) -> None:
        nonlocal hits
        hits += name == failpoint
        if name == failpoint and hits == nth:
            raise CrashError

    with pytest.raises(CrashError):
        drain(world.pump(failpoint=crash, rows_max=97, checkpoint_interval_s=1.0))
    drain(world.pump(rows_max=131, checkpoint_interval_s=1.0))
    assert quiet.frames() == world.frames()


def test_replay_from_the_start_adds_nothing(chain: Chain, envelopes: list[Envelope]) -> None:
    """A lost checkpoint costs time, not rows."""
    world = World(chain, to_journal(envelopes))
    drain(world.pump(rows_max=150))
    before = {name: world.sink.frame(name) for name in chain.schemas}
    drain(world.pump(rows_max=64))
    assert all(world.sink.frame(name).equals(frame) for name, frame in before.items())


def test_poison_is_quarantined_alone(envelopes: list[Envelope]) -> None:
    """Entries that crash the chain become rejects; their neighbours become rows, in order."""
    poisoned = Poisoned(load_contracts([]))
    poisoned.poison = {10: 10**6, 57: 10**6}
    world = World(poisoned, to_journal(envelopes[:200]))
    pump = world.pump()
    drain(pump)
    crashes = world.sink.frame("rejects").filter(pl.col("code") == "crash")
    assert [(10, "RuntimeError('poison at 10')"), (57, "RuntimeError('poison at 57')")] == crashes.select(
        "offset", "got"
    ).rows()
    assert [name for name in world.seen.names if name.startswith("quar")] == ["quarantined 10", "quarantined 57"]
    assert len(set(world.sink.frame("raw")["offset"])) == sum(bool(e.route.device_id) for e in envelopes[:200])
    assert pump._committed.ledger.balance == 0


def test_chain_that_crashes_on_everything_stops(envelopes: list[Envelope]) -> None:
    """A fault of ours is not taken for poison: nothing becomes a reject, the journal keeps it all."""
    poisoned = Poisoned(load_contracts([]))
    poisoned.poison = dict.fromkeys(range(200), 10**6)
    world = World(poisoned, to_journal(envelopes[:300]))
    with pytest.raises(RuntimeError, match="poison at 100"):
        drain(world.pump())
    assert world.sink.frame("raw").is_empty()


def test_passing_crash_is_survived(envelopes: list[Envelope]) -> None:
    """What crashes a few times and then works is a row, not a reject."""
    poisoned = Poisoned(load_contracts([]))
    poisoned.poison = {10: 3}
    world = World(poisoned, to_journal(envelopes[:64]))
    drain(world.pump())
    assert "crash" not in world.sink.frame("rejects")["code"].to_list()
    assert not [name for name in world.seen.names if name.startswith("quar")]


def test_checkpoint_is_rare_and_only_of_what_is_written(chain: Chain, envelopes: list[Envelope]) -> None:
    """The checkpoint is stored at its interval, never ahead of the sink, and not without news."""
    world = World(chain, to_journal(envelopes))
    pump = world.pump(rows_max=50, checkpoint_interval_s=10.0)
    for _ in range(6):
        pump.step(0.0)
    assert world.cursors.stored == {}
    pump.step(10.0)
    assert world.cursors.stored[CURSOR].offset == world.seen.batches[-1] == pump.offset
    drain(pump, now_s=11.0)
    pump.checkpoint(12.0)
    stored = [name for name in world.seen.names if name.startswith("checkpointed")]
    pump.checkpoint(13.0)
    assert stored == [name for name in world.seen.names if name.startswith("checkpointed")]


def test_full_disk_keeps_the_old_checkpoint(chain: Chain, envelopes: list[Envelope]) -> None:
    """A checkpoint that cannot be stored is said and tried again; processing goes on."""
    world = World(chain, to_journal(envelopes))
    world.cursors.full = True
    pump = world.pump(checkpoint_interval_s=1.0)
    drain(pump)
    pump.checkpoint(5.0)
    assert (world.seen.names[-1], world.cursors.stored, pump.lag_entries) == ("not checkpointed", {}, 0)
    world.cursors.full = False
    pump.checkpoint(6.0)
    assert len(envelopes) == world.cursors.stored[CURSOR].offset


def test_gap_at_the_journals_start_is_counted(chain: Chain, envelopes: list[Envelope]) -> None:
    """Entries that retention took before they were read are in the ledger."""
    world = World(chain, to_journal(envelopes))
    pump = world.pump()
    world.journal.drop_before(Offset(40))
    drain(pump)
    assert (40, len(envelopes)) == (pump._committed.ledger.gap_entries, pump.offset)


def test_unreadable_journal_is_passed_on(chain: Chain, envelopes: list[Envelope]) -> None:
    """An error of the journal reaches the caller, and a later step goes on as if nothing was."""
    world = World(chain, to_journal(envelopes))
    pump = world.pump()
    read = world.journal.read

    def refuse(offset: Offset, **_limits: int) -> EntryBatch:
        raise JournalError("cannot read")

    world.journal.read = refuse  # type: ignore[method-assign]
    with pytest.raises(JournalError):
        pump.step(0.0, hurry=True)
    world.journal.read = read  # type: ignore[method-assign]
    drain(pump)
    assert len(envelopes) == pump.offset
