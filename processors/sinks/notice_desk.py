"""From the results journal to the outbox: reads what became of alerts, asks whom to tell, stores what is owed.

    1 read results    2 engine takes them    3 engine says what is due    4 render    5 commit all of it at once

Owns the cursor and the engine. After any failure of the store both are taken from it again, so what was not committed
is made again, under the same ids. A database that is damaged is made anew by reading the journal from its start.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from gateway.core.errors import CheckpointError, OutboxDamaged, SinkError
from gateway.core.ids import Offset
from gateway.core.limits import BATCH_BYTES_MAX, NOTICE_TTL_S, RESULTS_ROWS_MAX
from gateway.core.ports import JournalReader
from gateway.core.records import EntryBatch
from gateway.observe.logs import Logger
from gateway.observe.metrics import EventCounter
from processors.notices.bodies import EVENT_SOURCE, messages
from processors.notices.config import NoticePlan
from processors.notices.engine import Notices
from processors.notices.notice import Notice
from processors.sinks.outbox import Outbox
from processors.sinks.outbox_schema import Draft
from processors.stages.alert_record import CHANNELS, AlertEvent, LifeEvent, SilenceEvent

T = TypeVar("T")
COMMIT_INTERVAL_US: Final = 500_000
"""What is read and leads to no notice yet is committed this often; what leads to one, at once."""
_TYPES: Final[dict[str, type[msgspec.Struct]]] = {channel: kind for kind, channel in CHANNELS.items()}


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """What one step did.

    Attributes:
        receivers: Those that are owed something new.
        is_behind: Whether there is more to read at once.
    """

    receivers: frozenset[str] = frozenset()
    is_behind: bool = False


class Desk:
    """The notifier's side of journal, engine and outbox. All calls from one thread; all block.

    Args:
        reader: The results journal.
        path: The outbox's file.
        plan: Whom to tell.
        log: Diagnostics.
        now_us: UTC microseconds.
        source: `source` of CloudEvents.
        ttl_s: How long a notice may be tried.
    """

    def __init__(
        self,
        *,
        reader: JournalReader,
        path: Path,
        plan: NoticePlan,
        log: Logger,
        now_us: Callable[[], int],
        source: str = EVENT_SOURCE,
        ttl_s: float = NOTICE_TTL_S,
    ) -> None:
        self._reader, self._path, self._plan, self._log, self._now_us = reader, path, plan, log, now_us
        self._source, self._ttl_s = source, ttl_s
        self._outbox: Outbox | None = None
        self._engine: Notices | None = None
        self._cursor = Offset(0)
        self._alerts: dict[str, AlertEvent] = {}
        self._silences: dict[str, SilenceEvent] = {}
        self._committed_at_us = 0
        self._asked_at_us = 0
        self._due_us: int | None = None
        self._committed_cursor = Offset(0)
        self._suppressed_before: dict[str, int] = {}
        self.suppressed: dict[str, int] = {}
        """Reason -> notices held back, since the start."""
        self.counts = EventCounter()
        """`events` taken, `unreadable` entries, `gap` entries gone before they were read, `rebuilt` databases,
        `notices` made, `no_receiver` notices for receivers that are configured no more."""
        self.pushed_out: dict[str, int] = {}

    @property
    def cursor(self) -> Offset:
        """Next entry of the results journal."""
        return self._cursor

    def run(self, call: Callable[[Outbox], T]) -> T:
        """Run a call on the outbox, which is opened for it if need be.

        Raises: SinkError: It cannot be done now; nothing was changed.
        """
        try:
            if self._outbox is None:
                self._outbox = self._open()
            return call(self._outbox)
        except OutboxDamaged as error:
            self._log.error("outbox_damaged", detail=str(error))
            self.close()
            raise SinkError("outbox", "is damaged and will be made anew") from error

    def advance(self) -> Advance:
        """Do the five steps for what is there to read and due.

        Raises:
            SinkError: Nothing was stored; what was read is read again.
            JournalError: The results journal cannot be read now.
        """
        return self.run(self._advance)

    def reload(self, plan: NoticePlan) -> None:
        """Go on under another plan, and try receivers that were gone again. Raises: SinkError: Not yet; call again."""
        self._plan = plan
        self.run(self._reload)

    def close(self) -> None:
        """Close the outbox; what is not committed is made again."""
        self._forget()
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    # ---- steps -------------------------------------------------------------------------------------------------------
    def _advance(self, outbox: Outbox) -> Advance:
        engine = self._engine or self._load(outbox)
        now_us = self._now_us()
        end = self._reader.end_offset()
        if end < self._cursor:
            self._begin_again(end)
        has_read = self._cursor < end
        is_behind = has_read and self._read(engine, now_us) < end
        # While there is more to read, what is due may be over already: nobody is woken for what ended meanwhile.
        notices = [] if is_behind else self._due(engine, now_us, is_changed=has_read)
        is_late = now_us - self._committed_at_us >= COMMIT_INTERVAL_US or now_us < self._committed_at_us
        is_full = len(self._alerts) + len(self._silences) >= RESULTS_ROWS_MAX
        if not notices and not (self._cursor != self._committed_cursor and (is_late or is_full)):
            return Advance(is_behind=is_behind)
        return self._commit(outbox, engine, notices, is_behind=is_behind, now_us=now_us)

    def _due(self, engine: Notices, now_us: int, *, is_changed: bool) -> list[Notice]:
        """Ask the engine, which looks at all groups, only where there may be an answer."""
        is_back = now_us < self._asked_at_us
        is_due = self._due_us is not None and now_us >= self._due_us
        self._asked_at_us = now_us
        if not (is_changed or is_back or is_due):
            return []
        notices = engine.due(now_us)
        self._due_us = engine.next_due_us()
        before = self._suppressed_before
        self.suppressed = before | {name: before.get(name, 0) + n for name, n in engine.suppressed.items()}
        return notices

    def _read(self, engine: Notices, now_us: int) -> Offset:
        """Take in the next entries; return the cursor behind them."""
        batch = self._reader.read(self._cursor, rows_max=RESULTS_ROWS_MAX, bytes_max=BATCH_BYTES_MAX)
        if batch.base_offset > self._cursor:
            self.counts("gap", batch.base_offset - self._cursor)
            self._log.error("results_gap", entries=batch.base_offset - self._cursor, up_to_offset=batch.base_offset)
        for event in self._events(batch):
            engine.take(event, now_us)
            if isinstance(event, AlertEvent):
                self._alerts[event.alert_id] = event
            elif isinstance(event, SilenceEvent):
                self._silences[event.silence_id] = event
        self._cursor = batch.end_offset
        return self._cursor

    def _events(self, batch: EntryBatch) -> list[LifeEvent]:
        events: list[LifeEvent] = []
        for entry in batch.entries():
            kind = _TYPES.get(entry.envelope.route.channel)
            try:
                if kind is None:
                    raise msgspec.ValidationError(f"channel {entry.envelope.route.channel!r}")
                event = msgspec.json.decode(entry.envelope.payload, type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                # Ours wrote it, so this is another release's; one entry must not stop all that follow.
                self.counts("unreadable")
                self._log.error("result_unreadable", offset=entry.offset, detail=str(error))
                continue
            events.append(event)  # type: ignore[arg-type]
        self.counts("events", len(events))
        return events

    def _commit(
        self, outbox: Outbox, engine: Notices, notices: Sequence[Notice], *, is_behind: bool, now_us: int
    ) -> Advance:
        drafts = [draft for notice in notices for draft in self._drafts(notice)]
        try:
            stored = outbox.commit(
                cursor=self._cursor,
                engine=engine.to_bytes(),
                drafts=drafts,
                alerts=list(self._alerts.values()),
                silences=list(self._silences.values()),
                now_us=now_us,
                ttl_s=self._ttl_s,
            )
        except SinkError:
            self._forget()
            raise
        self._alerts, self._silences = {}, {}
        self._committed_cursor, self._committed_at_us = self._cursor, now_us
        self.counts("notices", len(notices))
        for name, n in stored.pushed_out.items():
            self.pushed_out[name] = self.pushed_out.get(name, 0) + n
            self._log.error("notices_pushed_out", receiver=name, notices=n)
        return Advance(receivers=frozenset(draft.receiver for draft in drafts), is_behind=is_behind)

    def _drafts(self, notice: Notice) -> list[Draft]:
        receiver = self._plan.receivers.get(notice.receiver)
        if receiver is None:
            self.counts("no_receiver")
            return []
        received_at_us = max((event.received_at_us for event in notice.alerts), default=notice.created_at_us)
        return [
            Draft(
                delivery_id=message.message_id,
                notice_id=notice.notice_id,
                receiver=receiver.name,
                kind=receiver.kind,
                order_key=message.order_key,
                reason=notice.reason,
                title=message.title,
                body=message.body,
                headers=message.headers,
                event_at_us=received_at_us,
                created_at_us=notice.created_at_us,
            )
            for message in messages(notice, receiver, source=self._source)
        ]

    def _reload(self, outbox: Outbox) -> None:
        engine = self._engine or self._load(outbox)
        now_us = self._now_us()
        engine.reload(self._plan, now_us)
        self._due_us = now_us
        outbox.enable_all()
        self._commit(outbox, engine, [], is_behind=False, now_us=now_us)

    # ---- where to begin ----------------------------------------------------------------------------------------------
    def _open(self) -> Outbox:
        outbox = Outbox(self._path, now_us=self._now_us())
        if outbox.moved_aside is not None:
            self.counts("rebuilt")
            self._log.error("outbox_made_anew", path=str(self._path), detail=outbox.moved_aside)
        return outbox

    def _load(self, outbox: Outbox) -> Notices:
        """Return the engine as it was committed, or a new one that reads the journal from its start."""
        stored = outbox.load()
        now_us = self._now_us()
        if stored is None:
            engine, cursor = Notices(self._plan), self._reader.start_offset()
        else:
            cursor, payload = Offset(stored[0]), stored[1]
            try:
                engine = Notices.from_bytes(payload, plan=self._plan, alerts=outbox.alerts(), now_us=now_us)
            except CheckpointError as error:
                self.counts("rebuilt")
                self._log.error("notices_unreadable", detail=str(error), begin_at=self._reader.start_offset())
                engine, cursor = Notices(self._plan), self._reader.start_offset()
        self._engine, self._cursor, self._committed_cursor = engine, cursor, cursor
        self._due_us = now_us
        self._alerts, self._silences = {}, {}
        return engine

    def _begin_again(self, end: Offset) -> None:
        """Read from the start of a journal that ends before the cursor: it is not the one that was read before."""
        self.counts("rebuilt")
        self._log.error("results_are_others", end_offset=end, cursor=self._cursor)
        self._cursor = self._reader.start_offset()

    def _forget(self) -> None:
        """Drop what may be ahead of the store; the next step loads it."""
        self._suppressed_before, self._engine = self.suppressed.copy(), None
        self._alerts, self._silences = {}, {}
