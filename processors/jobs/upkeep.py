"""When which job runs on which table: one at a time, between batches, never beside a write to the same table."""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Final

import msgspec
from deltalake import DeltaTable, WriterProperties
from deltalake.exceptions import DeltaError

from gateway.core.errors import SinkError
from gateway.core.failpoints import FailpointHook, no_failpoint
from gateway.core.text import peer_text
from processors.jobs.compaction import compact
from processors.jobs.housekeeping import checkpoint, vacuum
from processors.jobs.retention import delete_before

DAY_S: Final = 86_400.0
DAILY_S: Final = 6 * 3600.0
"""Retention and vacuum work in whole days; four looks a day keep what they do small."""


class KeptTable(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A table under upkeep.

    Attributes:
        name: Table name.
        handle: The long-lived handle that the sink writes through.
        writer: Parquet settings of compacted files.
        keep_s: Rows received longer ago are deleted, by whole UTC days.
    """

    name: str
    handle: DeltaTable
    writer: WriterProperties
    keep_s: float


class Upkeep:
    """Runs the jobs of all tables in turn; the caller makes sure that nothing writes meanwhile.

    Args:
        tables: What to look after.
        compact_interval_s: How often small files are merged and the log is checkpointed.
        vacuum_after_hours: How long a replaced file stays for readers.
        done: Called after each job with its name, the table and the files it touched.
        failpoint: Passed to the compaction.
    """

    def __init__(
        self,
        tables: Sequence[KeptTable],
        *,
        compact_interval_s: float,
        vacuum_after_hours: int,
        done: Callable[[str, str, int], None],
        failpoint: FailpointHook = no_failpoint,
    ) -> None:
        self._tables = tables
        self._compact_interval_s, self._vacuum_after_hours = compact_interval_s, vacuum_after_hours
        self._done, self._failpoint = done, failpoint
        self._checkpoints = {table.name: 0 for table in tables}
        self._due: deque[tuple[str, KeptTable]] = deque()
        self._compact_at_s: float | None = None
        self._daily_at_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Return whether `run_next` has something to do; cheap."""
        if self._compact_at_s is None or self._daily_at_s is None:
            # A program that is restarted often still gets to its jobs: the first round comes early.
            self._compact_at_s, self._daily_at_s = now_s + min(60.0, self._compact_interval_s), now_s + 120.0
        if now_s >= self._compact_at_s:
            self._compact_at_s = now_s + self._compact_interval_s
            self._due.extend(("compact", table) for table in self._tables)
        if now_s >= self._daily_at_s:
            self._daily_at_s = now_s + DAILY_S
            self._due.extend((job, table) for job in ("retain", "vacuum") for table in self._tables)
        return bool(self._due)

    def run_next(self, today: date) -> None:
        """Run one due job on one table; what fails is left to the next round.

        Args:
            today: UTC date, for retention.

        Raises: SinkError: The store refused; the job comes again with the next round.
        """
        job, table = self._due.popleft()
        try:
            files = self._run(job, table, today)
        except (DeltaError, OSError) as exc:
            raise SinkError(f"{job} of lake table {table.name}", peer_text(str(exc)), self._compact_interval_s) from exc
        self._done(job, table.name, files)

    def _run(self, job: str, table: KeptTable, today: date) -> int:
        match job:
            case "compact":
                files = compact(table.handle, writer=table.writer, failpoint=self._failpoint)
                self._checkpoints[table.name] = checkpoint(table.handle, since_version=self._checkpoints[table.name])
                return files
            case "retain":
                return delete_before(table.handle, today - timedelta(seconds=table.keep_s))
            case "vacuum":
                return vacuum(table.handle, after_hours=self._vacuum_after_hours)
            case _:
                raise AssertionError(job)
