"""The loop from journal to stores. Back-pressure lives here and nowhere else.

    1 read a batch
    2 run the chain on a copy of the state
    3 tell what became of alerts
    4 write the outputs
    5 write the rejects
    6 replace the checkpoint: state and offset, one atomic file

A crash anywhere is mended by going on from the last checkpoint: what 3, 4 and 5 wrote meanwhile is known to the stores
by its offsets and is not written again, so 6 may be rare.

Batches are read every `interval_s`, because people wait for alerts; their outputs are gathered for `commit_interval_s`,
because the lake wants few large files. While one group is written in another thread the next is gathered; there is
never more than one in each place, and they are written in order. More threads lose: decoding batch n+1 beside the
windows of batch n took 8.6 us of CPU per message for 5.1, and was a third slower.

Where the lake refuses for so long that a group is full, the chain goes on ahead of it for the sake of alerts alone: its
rows are dropped and made again once the lake takes what waits, and alerts that were told are known by their offsets.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Final, Protocol

import msgspec
import polars as pl

from gateway.core.errors import JournalError, SinkError
from gateway.core.failpoints import Failpoint, FailpointHook, no_failpoint
from gateway.core.ids import Offset
from gateway.core.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX
from gateway.core.ports import CursorStore, JournalReader
from gateway.core.records import Checkpoint, EntryBatch
from processors.stages.alert_record import LifeEvent
from processors.stages.chain import REJECTS, Chain, ChainState, Outputs, merge_outputs

CURSOR: Final = "lake"
INTERVAL_S: Final = 0.2
COMMIT_INTERVAL_S: Final = 5.0
CHECKPOINT_INTERVAL_S: Final = 30.0
CRASHES_IN_A_ROW_MAX: Final = 100
"""So many neighbours that all crash the chain are not poison but a fault of ours: better to stop, and keep them in the
journal for a program that is mended, than to turn a fleet's data into rejects."""
TELL_RETRY_S: Final = 1.0
"""A disk that has no room for alerts is asked again so often."""
POLL_S: Final = 0.1
"""How often an idle pump looks whether the journal has grown: two system calls."""


class Sink(Protocol):
    """Takes frames by table. `processors.sinks.lake.Lake` is one; `tests/contract/test_lake.py` is the contract."""

    def write(self, tables: Mapping[str, pl.DataFrame], *, end_offset: int) -> dict[str, int]:
        """Append the rows that each table does not hold yet; safe to repeat. Blocks. Raises: SinkError."""
        ...

    def sync(self) -> None:
        """Return once everything written survives a power loss. Blocks. Raises: OSError."""
        ...


class Results(Protocol):
    """Takes what became of alerts. `processors.sinks.results.ResultsJournal` is one."""

    def append(self, events: Sequence[LifeEvent]) -> None:
        """Make the events durable that are not yet; safe to repeat, also in other groups. Blocks.

        Raises: JournalError: Nothing of it is durable; try again.
        """
        ...


class Events(Protocol):
    """What a pump says to whoever watches: measures, logs, status files. Called in the pump's thread."""

    def committed(self, outputs: Outputs, state: ChainState) -> None:
        """Say that a batch is in the stores."""
        ...

    def refused(self, error: SinkError) -> None:
        """Say that a store refused, and that rows are kept until it takes them."""
        ...

    def not_told(self, error: JournalError) -> None:
        """Say that the results journal refused alerts, and that nothing is read until it takes them."""
        ...

    def told(self, events: Sequence[LifeEvent]) -> None:
        """Say that these events are durable; after a crash, or ahead of a lake that refuses, some come again."""
        ...

    def quarantined(self, offset: Offset, crash: BaseException) -> None:
        """Say that an entry crashed the chain twice and is a reject now."""
        ...

    def checkpointed(self, offset: Offset, state_bytes: int) -> None:
        """Say that the state is stored."""
        ...

    def not_checkpointed(self, error: OSError) -> None:
        """Say that the disk refused the state: the old checkpoint stands, a restart replays more."""
        ...


class _Batch(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Outputs of consecutive entries, and the state after them."""

    outputs: Outputs
    state: ChainState


class _Ahead(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How far the chain went for the sake of alerts, past what waits for the lake."""

    offset: Offset
    state: ChainState


class Pump:
    """Moves one journal into one sink. All calls from one thread.

    Args:
        reader: The journal.
        chain: What turns entries into rows.
        sink: Where rows go.
        results: Where alerts go.
        cursors: Where the checkpoint is kept.
        state: State to go on from, at its `next_offset`.
        writer: Runs the writes, one at a time, in order.
        events: Whoever watches.
        rows_max: Entries read at once, and written at once; as many waiting are read without regard to `interval_s`.
        bytes_max: Payload bytes read at once.
        interval_s: How often the journal is read: alerts wait for so long.
        commit_interval_s: Rows wait up to this long for company, so that the stores get few large files.
        checkpoint_interval_s: How often the state is stored.
        failpoint: Called between the steps.
    """

    def __init__(
        self,
        *,
        reader: JournalReader,
        chain: Chain,
        sink: Sink,
        results: Results,
        cursors: CursorStore,
        state: ChainState,
        writer: Executor,
        events: Events,
        rows_max: int = BATCH_ROWS_MAX,
        bytes_max: int = BATCH_BYTES_MAX,
        interval_s: float = INTERVAL_S,
        commit_interval_s: float = COMMIT_INTERVAL_S,
        checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
        failpoint: FailpointHook = no_failpoint,
    ) -> None:
        self._reader, self._chain, self._sink, self._results, self._cursors = reader, chain, sink, results, cursors
        self._writer, self._events, self._failpoint = writer, events, failpoint
        self._rows_max, self._bytes_max = rows_max, bytes_max
        self._interval_s = min(interval_s, commit_interval_s)
        self._commit_interval_s, self._checkpoint_interval_s = commit_interval_s, checkpoint_interval_s
        self._state = state
        self._read_offset = state.next_offset
        self._committed = state
        self._committed_offset = self._stored_offset = state.next_offset
        self._untold: list[_Batch] = []
        self._gathered: list[_Batch] = []
        self._gathered_at_s = 0.0
        self._waiting: list[_Batch] = []
        self._writing: tuple[_Batch, Future[None]] | None = None
        self._ahead: _Ahead | None = None
        self._read_at_s: float | None = None
        self._stored_at_s: float | None = None
        self._retry_at_s: float | None = None
        self._tell_at_s = 0.0
        self._crashes_in_a_row = 0

    @property
    def offset(self) -> Offset:
        """Offset up to which (exclusive) everything is in the stores."""
        return self._committed_offset

    @property
    def lag_entries(self) -> int:
        """Durable entries that are not in the stores yet."""
        return max(self._reader.end_offset() - self._committed_offset, 0)

    def step(self, now_s: float, *, hurry: bool = False) -> float:
        """Do what is due and return in how many seconds something may be due again; 0.0 for at once.

        Args:
            now_s: Monotonic seconds.
            hurry: Whether entries that wait for company are read now.

        Raises:
            JournalError: The journal cannot be read; a later step tries again.
            Exception: The chain crashes on everything; nothing of it was written, the journal keeps it.
        """
        pause_s = self._advance(now_s, hurry=hurry)
        if self._stored_at_s is None:
            self._stored_at_s = now_s
        if now_s - self._stored_at_s >= self._checkpoint_interval_s:
            self.checkpoint(now_s)
        return pause_s

    def flush(self, now_s: float) -> bool:
        """Write what was read, reading nothing more; return whether nothing is left to write.

        False means that a store refused; the rows come again from the journal.
        """
        self._tell(now_s)
        while self._retry_at_s is None and (self._writing or self._waiting or self._gathered):
            self._close_group()
            self._settle(now_s)
        return not (self._untold or self._gathered or self._waiting or self._writing)

    def replace_chain(self, chain: Chain, now_s: float) -> bool:
        """Go on with another chain that makes the same tables; return False where a store keeps us from it now.

        Between two batches, and only with everything written: what was read so far was made by the old rules.
        """
        if not self.flush(now_s):
            return False
        self._state = self._committed = chain.from_bytes(self._chain.to_bytes(self._state))
        self._chain, self._ahead = chain, None
        return True

    def checkpoint(self, now_s: float) -> None:
        """6 replace the checkpoint by what is in the stores; nothing is stored where nothing is new."""
        self._stored_at_s = now_s
        if self._committed_offset == self._stored_offset:
            return
        state = self._chain.to_bytes(self._committed)
        try:
            # A checkpoint says that what lies before it need not be read again, so the rows must be on disk first.
            self._sink.sync()
            self._cursors.store(Checkpoint(cursor=CURSOR, offset=self._committed_offset, state=state))
        except OSError as error:
            self._events.not_checkpointed(error)
            return
        self._stored_offset = self._committed_offset
        self._events.checkpointed(self._stored_offset, len(state))

    def _advance(self, now_s: float, *, hurry: bool) -> float:
        if not self._tell(now_s):
            return self._tell_at_s - now_s
        if self._retry_at_s is not None and now_s >= self._retry_at_s:
            self._retry_at_s = None
        if self._retry_at_s is None and (self._writing is None or self._writing[1].done()):
            if self._is_group_due(now_s, hurry=hurry):
                self._close_group()
            self._settle(now_s)
        if self._room() > 0:
            pause_s = self._read(now_s, hurry=hurry)
        elif self._retry_at_s is None:
            self._settle(now_s)  # a slow store: nothing more is read until it has taken a group
            return 0.0
        else:
            pause_s = self._read_ahead(now_s)
        return pause_s if self._retry_at_s is None else min(pause_s, max(0.0, self._retry_at_s - now_s))

    def _room(self) -> int:
        """Return how many entries the group that is gathered may still take."""
        return self._rows_max - (self._read_offset - self._gathered_from())

    def _gathered_from(self) -> Offset:
        """Return the offset at which what is gathered begins."""
        if self._waiting:
            return self._waiting[-1].outputs.end_offset
        return self._writing[0].outputs.end_offset if self._writing is not None else self._committed_offset

    def _is_group_due(self, now_s: float, *, hurry: bool) -> bool:
        return hurry or self._room() <= 0 or now_s - self._gathered_at_s >= self._commit_interval_s

    def _read(self, now_s: float, *, hurry: bool) -> float:
        """1 to 3: read a batch if it is time, and run the chain; return the seconds until it may be time again."""
        if self._read_at_s is None:
            self._read_at_s = now_s
        waiting = self._reader.end_offset() - self._read_offset
        wait_s = self._read_at_s + self._interval_s - now_s
        if waiting <= 0 or (waiting < self._room() and wait_s > 0 and not hurry):
            return POLL_S if waiting <= 0 else min(wait_s, POLL_S)
        batch = self._reader.read(self._read_offset, rows_max=self._room(), bytes_max=self._bytes_max)
        self._failpoint(Failpoint.PUMP_AFTER_READ)
        self._read_at_s = now_s
        if batch.end_offset == self._read_offset:
            return POLL_S
        self._untold = self._run(batch, self._state)
        self._failpoint(Failpoint.PUMP_AFTER_CHAIN)
        self._state = self._untold[-1].state
        self._read_offset = batch.end_offset
        return 0.0 if self._tell(now_s) else self._tell_at_s - now_s

    def _tell(self, now_s: float) -> bool:
        """3: tell what became of alerts, then gather the rows; return whether nothing is left to tell."""
        if not self._untold:
            return True
        if now_s < self._tell_at_s:
            return False
        if not self._append_events(self._untold, now_s):
            return False
        if not self._gathered:
            self._gathered_at_s = now_s
        self._gathered += self._untold
        self._untold = []
        return True

    def _append_events(self, batches: Sequence[_Batch], now_s: float) -> bool:
        events = [event for batch in batches for event in batch.outputs.events]
        if not events:
            return True
        try:
            self._results.append(events)
        except JournalError as error:
            self._tell_at_s = now_s + TELL_RETRY_S
            self._events.not_told(error)
            return False
        self._events.told(events)
        return True

    def _read_ahead(self, now_s: float) -> float:
        """1 to 3 past what the lake has no room for: its rows are dropped, and made again when it takes them."""
        ahead = self._ahead
        if ahead is None or ahead.offset < self._read_offset:
            ahead = _Ahead(offset=self._read_offset, state=self._state)
        assert self._read_at_s is not None, "something was read before"
        if now_s < max(self._read_at_s + self._interval_s, self._tell_at_s):
            return self._interval_s
        self._read_at_s = now_s
        batch = self._reader.read(ahead.offset, rows_max=self._rows_max, bytes_max=self._bytes_max)
        if batch.end_offset > ahead.offset:
            batches = self._run(batch, ahead.state)
            if self._append_events(batches, now_s):
                self._ahead = _Ahead(offset=batch.end_offset, state=batches[-1].state)
        return self._interval_s

    def _close_group(self) -> None:
        """Let what is gathered wait for its turn as one, unless another already does."""
        if self._waiting or not self._gathered:
            return
        gathered, self._gathered = self._gathered, []
        outputs = merge_outputs([batch.outputs for batch in gathered])
        self._waiting.append(_Batch(outputs=outputs, state=gathered[-1].state))

    def _run(self, batch: EntryBatch, state: ChainState) -> list[_Batch]:
        """Run the chain; where it crashes, halve the batch until the entry that crashes it stands alone.

        A batch that unpacks to more records than the decoder takes at once is halved the same way.
        """
        try:
            outputs, after = self._chain.run(batch, state)
        except (Exception, pl.exceptions.PanicException) as crash:
            if len(batch) > 1:
                first, second = _halves(batch)
                done = self._run(first, state)
                return done + self._run(second, done[-1].state)
            return [self._run_again(batch, state, crash)]
        self._crashes_in_a_row = 0
        return [_Batch(outputs=outputs, state=after)]

    def _run_again(self, batch: EntryBatch, state: ChainState, crash: BaseException) -> _Batch:
        """Give an entry that crashed alone its second try, which rules out a passing want of memory."""
        try:
            outputs, after = self._chain.run(batch, state)
        except (Exception, pl.exceptions.PanicException):
            self._crashes_in_a_row += 1
            if self._crashes_in_a_row > CRASHES_IN_A_ROW_MAX:
                raise
            self._events.quarantined(batch.base_offset, crash)
            outputs, after = self._chain.quarantine(batch, state, crash)
        return _Batch(outputs=outputs, state=after)

    def _write(self, outputs: Outputs) -> None:
        """4 and 5."""
        rows = {name: frame for name, frame in outputs.tables.items() if name != REJECTS}
        self._sink.write(rows, end_offset=outputs.end_offset)
        self._failpoint(Failpoint.PUMP_AFTER_WRITE)
        self._sink.write({REJECTS: outputs.tables[REJECTS]}, end_offset=outputs.end_offset)

    def _settle(self, now_s: float) -> None:
        """Wait for the write under way, then start the next; a refusal keeps it and sets the time of the next try."""
        if self._writing is not None:
            batch, future = self._writing
            self._writing = None
            try:
                future.result()
            except SinkError as error:
                self._waiting.insert(0, batch)
                self._retry_at_s = now_s + error.retry_after_s
                self._events.refused(error)
                return
            self._committed, self._committed_offset = batch.state, batch.outputs.end_offset
            self._events.committed(batch.outputs, batch.state)
        if self._waiting:
            batch = self._waiting.pop(0)
            self._writing = batch, self._writer.submit(self._write, batch.outputs)


def _halves(batch: EntryBatch) -> tuple[EntryBatch, EntryBatch]:
    middle = len(batch) // 2
    return _part(batch, 0, middle), _part(batch, middle, len(batch))


def _part(batch: EntryBatch, start: int, stop: int) -> EntryBatch:
    return EntryBatch(
        base_offset=Offset(batch.base_offset + start),
        routes=batch.routes,
        route_index=batch.route_index[start:stop],
        received_at_ns=batch.received_at_ns[start:stop],
        payloads=batch.payloads[start:stop],
    )
