"""What a running pump shows: log lines at changes of state, metrics, and the numbers of the run file."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from gateway.core.errors import JournalError, SinkError
from gateway.core.ids import Offset
from gateway.core.ports import JournalReader
from gateway.observe.logs import Logger
from gateway.observe.metrics import Counted, Sampled, by_reason
from processors.notifier import Notifier
from processors.pump import CURSOR
from processors.sinks.index_numbers import IndexNumbers
from processors.stages.alert_record import SEVERITIES, LifeEvent
from processors.stages.chain import RAW, ChainState, Outputs

if TYPE_CHECKING:
    from processors.indexer import Indexer

TRACEBACKS_MAX: Final = 20
"""Quarantined entries that are logged; all are counted, and each is a reject with its reason."""


class Watch:
    """Sees what the pump does: logs changes of state, counts for Prometheus, knows what the run file says.

    Written by the pump's thread, read by scrapes.

    Args:
        log: Diagnostics.
        now_ns: UTC nanoseconds.
        reader: For the journal's end.
        state: What was in the lake when we started.
        notifier: Who tells people of alerts.
        indexer: What brings the lake into OpenSearch; None where that is not asked for.
    """

    def __init__(
        self,
        *,
        log: Logger,
        now_ns: Callable[[], int],
        reader: JournalReader,
        state: ChainState,
        notifier: Notifier,
        indexer: "Indexer | None" = None,
    ) -> None:
        self._notifier, self._indexer = notifier, indexer
        self._log, self._now_ns, self._reader = log, now_ns, reader
        self.offset, self.ledger = state.next_offset, state.ledger
        self.received_at: datetime | None = None
        self.sink_error: str | None = None
        self.results_error: str | None = None
        self.refusals = self.commits = self.quarantines = 0
        self.fresh_at: dict[str, datetime] = {}
        self.jobs: dict[tuple[str, ...], int] = {}
        self._alerts_firing = _firing(state)

    @property
    def lag_entries(self) -> int:
        """Durable entries that are not in the lake."""
        return max(self._reader.end_offset() - self.offset, 0)

    def lag_s(self) -> float:
        """Return the age of what the lake does not have yet, at most; 0 when it has everything."""
        if self.lag_entries == 0 or self.received_at is None:
            return 0.0
        return max(0.0, self._now_ns() / 1e9 - self.received_at.timestamp())

    def committed(self, outputs: Outputs, state: ChainState) -> None:
        """See Events."""
        self.offset, self.ledger, self.commits = outputs.end_offset, state.ledger, self.commits + 1
        if outputs.events:
            self._alerts_firing = _firing(state)
        for name, frame in outputs.tables.items():
            newest = frame["received_at"].max()
            if isinstance(newest, datetime):
                self.fresh_at[name] = newest
                self.received_at = newest if name == RAW else self.received_at
        if self._indexer is not None:
            self._indexer.committed(outputs, state)
        if self.sink_error is not None:
            self._log.info("lake_takes_again", offset=self.offset)
            self.sink_error = None
        if outputs.counts.gap_entries:
            self._log.error("journal_gap", entries=outputs.counts.gap_entries, up_to_offset=outputs.end_offset)

    def refused(self, error: SinkError) -> None:
        """See Events."""
        self.refusals += 1
        if self.sink_error is None:
            self._log.error("lake_refuses", detail=str(error), offset=self.offset)
        self.sink_error = str(error)

    def not_told(self, error: JournalError) -> None:
        """See Events."""
        if self.results_error is None:
            self._log.error("results_journal_refuses", detail=str(error))
        self.results_error = str(error)

    def told(self, events: Sequence[LifeEvent]) -> None:
        """See Events."""
        if self.results_error is not None:
            self._log.info("results_journal_takes_again")
            self.results_error = None

    def quarantined(self, offset: Offset, crash: BaseException) -> None:
        """See Events."""
        self.quarantines += 1
        if self.quarantines <= TRACEBACKS_MAX:
            self._log.error("entry_quarantined", offset=offset, exc_info=crash)

    def checkpointed(self, offset: Offset, state_bytes: int) -> None:
        """See Events."""
        self._log.debug("checkpointed", offset=offset, state_bytes=state_bytes)

    def not_checkpointed(self, error: OSError) -> None:
        """See Events."""
        self._log.error("checkpoint_refused", detail=str(error))

    def job_done(self, job: str, table: str, files: int) -> None:
        """Say that a job ran; `files` is what it touched."""
        key = (job, table)
        self.jobs[key] = self.jobs.get(key, 0) + 1
        if files:
            self._log.info("job_done", job=job, table=table, files=files)

    def register_metrics(self, registry: CollectorRegistry) -> None:
        """Add the metrics of the processors; all are read when scraped."""

        def by_stream(name: str) -> Callable[[], dict[tuple[str, ...], float]]:
            return lambda: {(stream,): n for stream, n in getattr(self.ledger, name).items()}

        def by_code(name: str) -> Callable[[], dict[tuple[str, ...], float]]:
            return lambda: {tuple(key.split("/", 1)): n for key, n in getattr(self.ledger, name).items()}

        def freshness() -> dict[tuple[str, ...], float]:
            now_s = self._now_ns() / 1e9
            return {(table,): now_s - at.timestamp() for table, at in self.fresh_at.items()}

        counted, sampled = partial(Counted, registry=registry), partial(Sampled, registry=registry)
        counted("voltgate_entries", "Messages of devices that are in the lake.", [], lambda: {(): self.ledger.entries})
        counted("voltgate_records", "Records found in them.", [], lambda: {(): self.ledger.records})
        counted("voltgate_rows", "Records that became readings.", ["stream"], by_stream("rows"))
        counted("voltgate_rejects", "Records refused.", ["stream", "code"], by_code("rejected"))
        counted("voltgate_duplicates", "Records that came again.", ["stream"], by_stream("duplicates"))
        counted(
            "voltgate_flags",
            "Readings that decoding changed.",
            ["stream", "code"],
            by_code("flags"),
        )
        counted(
            "voltgate_alert_revisions",
            "Revisions of alerts by state, and findings and orders that changed nothing by reason.",
            ["what"],
            lambda: {(what,): n for what, n in self.ledger.alerts.items()},
        )
        sampled(
            "voltgate_alerts_firing",
            "Alerts that nobody has acknowledged and that are not over.",
            ["severity"],
            lambda: {(severity,): n for severity, n in self._alerts_firing.items()},
        )
        numbers = self._notifier.numbers
        counted(
            "voltgate_notices",
            "Tries to send notices.",
            ["receiver", "outcome"],
            lambda: {key: float(n) for key, n in numbers().deliveries.items()},
        )
        counted(
            "voltgate_notices_suppressed", "Notices held back.", ["reason"], by_reason(lambda: numbers().suppressed)
        )
        sampled(
            "voltgate_notices_kept",
            "In the outbox.",
            ["receiver", "state"],
            lambda: {key: float(n) for key, n in numbers().kept.items()},
        )
        sampled(
            "voltgate_receiver_circuit",
            "0 closed, 1 half-open, 2 open, 3 disabled.",
            ["receiver"],
            lambda: {(name,): level for name, level in numbers().circuits.items()},
        )
        counted("voltgate_late_revised", "Late readings merged.", ["stream"], by_stream("late_revised"))
        counted("voltgate_late_dropped", "Readings too late for a window.", ["stream"], by_stream("late_dropped"))
        counted("voltgate_pane_full", "Readings past a pane's bound.", ["stream"], by_stream("pane_full"))
        counted("voltgate_journal_gap", "Entries gone unread.", [], lambda: {(): self.ledger.gap_entries})
        counted("voltgate_quarantined", "Entries that crashed the chain.", [], lambda: {(): self.quarantines})
        counted("voltgate_lake_commits", "Batches written.", [], lambda: {(): self.commits})
        counted("voltgate_sink_retries", "Refused writes.", ["sink"], lambda: {("lake",): self.refusals})
        counted("voltgate_jobs", "Jobs run.", ["job", "table"], self.jobs.copy)
        sampled("voltgate_cursor_lag_entries", "Not in the lake.", ["cursor"], lambda: {(CURSOR,): self.lag_entries})
        sampled("voltgate_cursor_lag_seconds", "Age of that, at most.", ["cursor"], lambda: {(CURSOR,): self.lag_s()})
        sampled("voltgate_freshness_seconds", "Age of the newest row.", ["table"], freshness)
        _register_index(registry, IndexNumbers if self._indexer is None else self._indexer.numbers)


def _firing(state: ChainState) -> Mapping[str, int]:
    """Return severity -> alerts that fire; every severity, so that a series does not end when its last alert does."""
    counted = Counter(one.event.severity for one in state.detection.alerts.alerts() if one.event.state == "firing")
    return {severity: counted[severity] for severity in SEVERITIES}


def _register_index(registry: CollectorRegistry, numbers: Callable[[], IndexNumbers]) -> None:
    """Add the metrics of the indexer; without one they have no samples, or say 0."""
    counted, sampled = partial(Counted, registry=registry), partial(Sampled, registry=registry)
    counted(
        "voltgate_index_documents",
        "Documents that OpenSearch has taken, or had already, and that it refused.",
        ["table", "outcome"],
        lambda: {key: float(n) for key, n in numbers().documents.items()},
    )
    counted("voltgate_index_requests", "Bulk requests.", ["outcome"], by_reason(lambda: numbers().requests))
    counted("voltgate_index_retries", "Documents sent again.", [], lambda: {(): numbers().retries})
    counted(
        "voltgate_index_other_clusters",
        "Clusters that took the place of another.",
        [],
        lambda: {(): numbers().other_clusters},
    )
    sampled(
        "voltgate_index_lag_entries",
        "In the lake and not in the index, at most.",
        ["table"],
        lambda: {(table,): float(n) for table, n in numbers().lag_entries.items()},
    )
    sampled(
        "voltgate_index_lag_seconds",
        "How long that has been waiting.",
        ["table"],
        lambda: {(table,): lag_s for table, lag_s in numbers().lag_s.items()},
    )
    sampled("voltgate_index_in_flight", "Bulk requests under way.", [], lambda: {(): numbers().in_flight})
    sampled("voltgate_index_connected", "1 while OpenSearch takes documents.", [], lambda: {(): numbers().is_connected})
