"""A full journal through the processors: messages per second, and what a message costs in each stage."""

import resource
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.harness import BenchError, Child, Workspace, python
from tests.bench.pipeline import STREAM, by_stage
from tests.bench.report import Row, row

NAME: Final = "replay_rate"
DEVICES: Final = 2000
SECONDS: Final = 1000
"""Of 2,000 devices at 1 Hz: two million messages, sixteen windows of a minute each."""
ROUNDS: Final = 3
FILL_TIMEOUT_S: Final = 120.0
DRAIN_TIMEOUT_S: Final = 180.0


def measure(workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the row and its parts."""
    seconds = SECONDS // 10 if quick else SECONDS
    messages = DEVICES * seconds
    data = workspace.fresh("replay")
    fill(data / "ingest", seconds=seconds)
    took = [_drain(data, messages) for _ in range(1 if quick else ROUNDS)]
    for wall_s, cpu_s in took:
        print(f"  {messages:,} messages in {wall_s:.2f} s, {messages / wall_s:,.0f}/s, {cpu_s:.1f} s CPU", flush=True)
    start_s = _start_s(workspace)
    wall_s, cpu_s = (median(values) for values in zip(*took, strict=True))
    parts = by_stage(data / "ingest", workspace)
    workspace.discard(data)
    unit = "us CPU/message"
    return [
        row(NAME, messages / wall_s, "messages/s"),
        row(f"{NAME}/without_start", messages / (wall_s - start_s), "messages/s"),
        row(f"{NAME}/start", start_s, "s"),
        row(f"{NAME}/cpu_us", cpu_s / messages * 1e6, unit),
        *(row(f"{NAME}/cpu_us_{stage}", value, unit) for stage, value in parts.items()),
    ]


def fill(journal: Path, *, seconds: int) -> None:
    """Write `DEVICES * seconds` messages, the last of them measured about now."""
    began_at_s = int(time.time()) - seconds
    command = python("tests.bench.journal_fill", journal, DEVICES, seconds, began_at_s)
    with Child(command, log=journal.parent / "fill.log") as child:
        child.finish(FILL_TIMEOUT_S)


def _drain(data: Path, messages: int) -> tuple[float, float]:
    """Run `python -m processors --drain` into an empty lake; return wall and CPU seconds of the whole process."""
    for made in ("lake", "cursors"):
        shutil.rmtree(data / made, ignore_errors=True)
    wall_s, cpu_s = _run(data)
    found = count_rows(data / "lake" / STREAM, data)
    if found != messages:
        raise BenchError(f"{STREAM} has {found} rows, the journal {messages} messages; look at the table `rejects`")
    return wall_s, cpu_s


def _start_s(workspace: Workspace) -> float:
    """Return how long the same program takes with nothing to do: imports, empty tables."""
    data = workspace.fresh("start")
    (data / "ingest").mkdir()
    wall_s, _ = _run(data)
    workspace.discard(data)
    return wall_s


def _run(data: Path) -> tuple[float, float]:
    used, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with Child(python("processors", "--data", data, "--drain"), log=data / "processors.log") as child:
        child.finish(DRAIN_TIMEOUT_S)
    wall_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def count_rows(table: Path, data: Path) -> int:
    """Return the rows of a Delta table."""
    with Child(python("tests.bench.await_rows", table, 0, 0), log=data / "rows.log", piped=True) as counting:
        return int(counting.read_json(DRAIN_TIMEOUT_S)["rows"])
