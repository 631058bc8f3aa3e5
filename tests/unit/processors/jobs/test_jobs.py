"""Compaction, checkpoints, clean-up, vacuum and retention change files, never what exactly-once rests on."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from gateway.core.errors import SinkError
from gateway.core.failpoints import Failpoint
from processors.jobs.compaction import compact, small_file_partitions
from processors.jobs.housekeeping import checkpoint, vacuum
from processors.jobs.retention import delete_before
from processors.jobs.upkeep import KeptTable, Upkeep
from processors.sinks.lake import APP_ID, Lake, LakeTable

SCHEMA: dict[str, pl.DataType] = {
    "offset": pl.Int64(),
    "received_at": pl.Datetime("us", "UTC"),
    "device_id": pl.String(),
}
FIRST_DAY = datetime(2026, 11, 20, tzinfo=UTC)
COMMITS_PER_DAY, DAYS = 6, 3
ROWS = COMMITS_PER_DAY * DAYS


class CrashError(Exception):
    """Stands for the end of the process at a failpoint."""


def row(offset: int) -> pl.DataFrame:
    """Return one row; every `COMMITS_PER_DAY` rows a day begins."""
    at = FIRST_DAY + timedelta(days=offset // COMMITS_PER_DAY)
    return pl.DataFrame([(offset, at, "ev")], schema=pl.Schema(SCHEMA), orient="row")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake whose table has three days of six small files each."""
    sink = Lake(tmp_path, [LakeTable(name="readings", schema=SCHEMA)])
    for offset in range(ROWS):
        sink.write({"readings": row(offset)}, end_offset=offset + 1)
    return sink


def offsets(table: DeltaTable) -> list[int]:
    """Return what a fresh reader finds."""
    return sorted(pl.scan_delta(table.table_uri).collect()["offset"].to_list())


def merge(lake: Lake, **options: object) -> int:
    """Compact the table of the lake."""
    return compact(lake.handles["readings"], writer=lake.compacted_writer("readings"), **options)  # type: ignore[arg-type]


def test_compaction_merges_crowded_days_only(lake: Lake) -> None:
    """Days with enough small files become one file each, with the same rows."""
    table = lake.handles["readings"]
    lake.write({"readings": row(ROWS)}, end_offset=ROWS + 1)
    assert ["2026-11-20", "2026-11-21", "2026-11-22"] == small_file_partitions(table, small_files_min=6)
    assert merge(lake, small_files_min=6) == ROWS
    assert ([], 4) == (small_file_partitions(table, small_files_min=2), len(table.file_uris()))
    assert list(range(ROWS + 1)) == offsets(table)


def test_compaction_leaves_large_files_alone(lake: Lake) -> None:
    """A file over half the target is no small file."""
    assert merge(lake, small_files_min=2, target_bytes=2) == 0


@pytest.mark.parametrize("failpoint", [Failpoint.LAKE_BEFORE_COMPACT, Failpoint.LAKE_AFTER_COMPACT])
def test_interrupted_compaction_loses_nothing(lake: Lake, tmp_path: Path, failpoint: Failpoint) -> None:
    """Killed before or after the merge of a day, the next run finds every row and finishes the job."""

    def crash(name: Failpoint) -> None:
        if name == failpoint:
            raise CrashError

    with pytest.raises(CrashError):
        merge(lake, small_files_min=2, failpoint=crash)
    again = Lake(tmp_path, [LakeTable(name="readings", schema=SCHEMA)])
    assert list(range(ROWS)) == offsets(again.handles["readings"])
    merge(again, small_files_min=2)
    assert (list(range(ROWS)), 3) == (offsets(again.handles["readings"]), len(again.handles["readings"].file_uris()))


JOBS: dict[str, Callable[[Lake], object]] = {
    "compact": lambda lake: merge(lake, small_files_min=2),
    "checkpoint": lambda lake: checkpoint(lake.handles["readings"], since_version=0, commits_min=1),
    "vacuum": lambda lake: vacuum(lake.handles["readings"], after_hours=0),
    "retain one day": lambda lake: delete_before(lake.handles["readings"], date(2026, 11, 22)),
    "retain nothing": lambda lake: delete_before(lake.handles["readings"], date(2027, 1, 1)),
}


@pytest.mark.parametrize("jobs", [[job] for job in JOBS] + [list(JOBS), [*JOBS, *JOBS]], ids="+".join)
def test_transaction_version_survives(lake: Lake, tmp_path: Path, jobs: list[str]) -> None:
    """After any job, a fresh process still knows what the table holds and takes no row twice."""
    before = len(offsets(lake.handles["readings"]))
    for job in jobs:
        JOBS[job](lake)
    after = len(offsets(lake.handles["readings"]))
    assert DeltaTable(str(tmp_path / "readings")).transaction_version(APP_ID) == ROWS
    fresh = Lake(tmp_path, [LakeTable(name="readings", schema=SCHEMA)])
    assert fresh.write({"readings": pl.concat([row(i) for i in range(ROWS)])}, end_offset=ROWS) == {"readings": 0}
    assert (before, after) == (ROWS, len(offsets(fresh.handles["readings"])))


def test_log_that_was_cut_still_has_the_version(tmp_path: Path) -> None:
    """When every log file with a transaction in it is gone, the checkpoint has it."""
    lake = Lake(tmp_path, [LakeTable(name="readings", schema=SCHEMA)])
    table = lake.handles["readings"]
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
    lake.write({"readings": row(0)}, end_offset=1)
    for _ in range(3):
        table.alter.set_table_properties({"delta.appendOnly": "false"})
    checkpoint(table, since_version=0, commits_min=1)
    log = sorted(path.name for path in (tmp_path / "readings" / "_delta_log").glob("*.json"))
    assert not [name for name in log if int(name.removesuffix(".json")) <= 2]
    assert DeltaTable(str(tmp_path / "readings")).transaction_version(APP_ID) == 1


def test_checkpoint_waits_for_enough_commits(lake: Lake) -> None:
    """Below the number of commits nothing is written and the mark stays."""
    table = lake.handles["readings"]
    assert checkpoint(table, since_version=0, commits_min=10**6) == 0
    mark = checkpoint(table, since_version=0, commits_min=1)
    assert mark == table.version()
    assert checkpoint(table, since_version=mark, commits_min=1) == mark


def test_retention_deletes_whole_days_and_only_old_ones(lake: Lake) -> None:
    """Rows before the day go, rows of the day stay, a second run finds nothing."""
    table = lake.handles["readings"]
    assert delete_before(table, date(2026, 11, 21)) == COMMITS_PER_DAY
    assert list(range(COMMITS_PER_DAY, ROWS)) == offsets(table)
    assert delete_before(table, date(2026, 11, 21)) == 0


def test_vacuum_keeps_what_readers_may_still_need(lake: Lake, tmp_path: Path) -> None:
    """Replaced files stay for their time and go after it."""
    merge(lake, small_files_min=2)
    table = lake.handles["readings"]
    assert vacuum(table, after_hours=24) == 0
    assert vacuum(table, after_hours=0) == ROWS
    assert len(list((tmp_path / "readings").rglob("*.parquet"))) == DAYS
    assert list(range(ROWS)) == offsets(table)


def upkeep(lake: Lake, seen: list[tuple[str, str, int]], *, keep_s: float = 1e9) -> Upkeep:
    """Return the upkeep of the lake, which says what it did."""
    table = KeptTable(
        name="readings", handle=lake.handles["readings"], writer=lake.compacted_writer("readings"), keep_s=keep_s
    )
    return Upkeep(
        [table],
        compact_interval_s=900.0,
        vacuum_after_hours=24,
        done=lambda *job: seen.append(job),
    )


def test_jobs_run_one_by_one_when_their_time_has_come(lake: Lake) -> None:
    """The first round comes soon after the start, the next after the interval."""
    seen: list[tuple[str, str, int]] = []
    jobs = upkeep(lake, seen, keep_s=2 * 86_400.0)
    assert not jobs.is_due(0.0)
    assert not jobs.is_due(59.0)
    assert jobs.is_due(60.0)
    jobs.run_next(date(2026, 11, 23))
    assert not jobs.is_due(61.0)
    assert jobs.is_due(120.0)
    jobs.run_next(date(2026, 11, 23))
    assert jobs.is_due(120.0)
    jobs.run_next(date(2026, 11, 23))
    assert [("compact", "readings", 0), ("retain", "readings", COMMITS_PER_DAY), ("vacuum", "readings", 0)] == seen
    assert not jobs.is_due(900.0)
    assert jobs.is_due(960.0)


def test_failed_job_is_left_to_the_next_round(lake: Lake, tmp_path: Path) -> None:
    """A store that refuses a job is said, and the jobs after it still run."""
    seen: list[tuple[str, str, int]] = []
    jobs = upkeep(lake, seen, keep_s=0.0)
    assert not jobs.is_due(0.0)
    assert jobs.is_due(200.0)
    jobs.run_next(date(2026, 11, 23))
    log = tmp_path / "readings" / "_delta_log"
    log.rename(tmp_path / "away")
    log.write_text("a file where the log was")
    with pytest.raises(SinkError, match="retain of lake table readings"):
        jobs.run_next(date(2026, 11, 23))
    log.unlink()
    (tmp_path / "away").rename(log)
    jobs.run_next(date(2026, 11, 23))
    assert [("compact", 0), ("vacuum", 0)] == [(name, files) for name, _, files in seen]
