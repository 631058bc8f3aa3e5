"""The processors as a process: a journal on disk in, Delta tables out, through crashes and restarts."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from dashboards.queries.history import query
from gateway.core.failpoints import Failpoint
from gateway.core.records import Envelope
from gateway.journal.writer import SegmentWriter
from tests.journals import fleet

pytestmark = pytest.mark.integration

TIMEOUT_S = 60.0
SMALL = {
    "VOLTGATE__PROCESSORS__BATCH_ROWS_MAX": "211",
    "VOLTGATE__PROCESSORS__COMMIT_INTERVAL_S": "0.2",
    "VOLTGATE__PROCESSORS__CHECKPOINT_INTERVAL_S": "0.5",
}
FAILPOINTS = [
    Failpoint.PUMP_AFTER_READ,
    Failpoint.PUMP_AFTER_CHAIN,
    Failpoint.LAKE_BETWEEN_TABLES,
    Failpoint.PUMP_AFTER_WRITE,
    Failpoint.CURSOR_BEFORE_RENAME,
    Failpoint.CURSOR_AFTER_RENAME,
]


def write_journal(data: Path, envelopes: list[Envelope]) -> None:
    """Append the envelopes to the ingest journal of a data directory, durably."""

    async def append() -> None:
        loop = asyncio.get_running_loop()
        writer = SegmentWriter.open(data / "ingest", loop=loop, now_ns=time.time_ns)
        for one in envelopes:
            writer.append_nowait(one.received_at_ns, [one.route], [one.payload], None)
        await writer.close()

    asyncio.run(append())


def processors(data: Path, *options: str, **environ: str) -> subprocess.Popen[str]:
    """Start the processors on a data directory."""
    return subprocess.Popen(
        [sys.executable, "-m", "processors", "--data", str(data), *options],
        env=os.environ | SMALL | environ,
        stderr=subprocess.PIPE,
        text=True,
    )


def drain(data: Path) -> str:
    """Run the processors until the lake has the journal; return what they logged."""
    process = processors(data, "--drain")
    _, logged = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, logged
    return logged


def frames(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every table of the lake in an order of its own, windows by their newest revision."""
    rows = {}
    for table in sorted((data / "lake").iterdir()):
        frame = pl.scan_delta(str(table)).collect()
        if "window_start" in frame.columns:
            key = [*frame.columns[: frame.columns.index("window_start")], "window_s", "window_start"]
            rows[table.name] = frame.sort(*key, "revision").unique(key, keep="last", maintain_order=True).rows()
        else:
            rows[table.name] = frame.sort("offset", "record" if "record" in frame.columns else "offset").rows()
    return rows


def status(data: Path) -> dict[str, Any]:
    """Return the content of the run file."""
    content: dict[str, Any] = json.loads((data / "run" / "processors.json").read_text())
    return content


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    give_up_at_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < give_up_at_s, "it did not become true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def envelopes() -> list[Envelope]:
    """Twenty minutes of a fleet that does everything."""
    return fleet(seed=11, seconds=1200, devices=3)


@pytest.fixture(scope="module")
def quiet(envelopes: list[Envelope], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """The tables of one uninterrupted run."""
    data = tmp_path_factory.mktemp("quiet")
    write_journal(data, envelopes)
    drain(data)
    ledger = status(data)["ledger"]
    found = frames(data)
    assert len(found["raw"]) == ledger["entries"] > 3000
    assert len(found["vehicle_telemetry"]) == ledger["rows"]["vehicle_telemetry"]
    assert len(found["rejects"]) == sum(ledger["rejected"].values()) > 10
    assert len(found["windows_vehicle_telemetry"]) > 50
    return found


@pytest.mark.parametrize(("failpoint", "nth"), [(failpoint, 2) for failpoint in FAILPOINTS] + [(FAILPOINTS[2], 9)])
def test_killed_processors_leave_the_same_lake(
    tmp_path: Path,
    envelopes: list[Envelope],
    quiet: dict[str, list[tuple[Any, ...]]],
    failpoint: Failpoint,
    nth: int,
) -> None:
    """SIGKILL at any step, then a restart with other batches: the tables are those of a quiet run."""
    write_journal(tmp_path, envelopes)
    killed = processors(
        tmp_path,
        "--drain",
        VOLTGATE_FAILPOINT=f"{failpoint}:{nth}",
        VOLTGATE__PROCESSORS__CHECKPOINT_INTERVAL_S="0.001",
    )
    killed.communicate(timeout=TIMEOUT_S)
    assert -signal.SIGKILL == killed.returncode
    process = processors(tmp_path, "--drain", VOLTGATE__PROCESSORS__BATCH_ROWS_MAX="1000")
    _, logged = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, logged
    assert quiet == frames(tmp_path)


def test_replay_without_checkpoint_adds_nothing(
    tmp_path: Path, envelopes: list[Envelope], quiet: dict[str, list[tuple[Any, ...]]]
) -> None:
    """Without its cursor the whole journal is read again and no table changes, not even by a commit."""
    write_journal(tmp_path, envelopes)
    drain(tmp_path)
    versions = {table.name: DeltaTable(str(table)).version() for table in (tmp_path / "lake").iterdir()}
    for cursor in (tmp_path / "cursors").iterdir():
        cursor.unlink()
    drain(tmp_path)
    assert quiet == frames(tmp_path)
    assert versions == {table.name: DeltaTable(str(table)).version() for table in (tmp_path / "lake").iterdir()}
    assert len(envelopes) == status(tmp_path)["offset"]


def test_damaged_checkpoint_is_said_and_mended(
    tmp_path: Path, envelopes: list[Envelope], quiet: dict[str, list[tuple[Any, ...]]]
) -> None:
    """A flipped bit in the checkpoint costs a replay, not a crash and not a row."""
    write_journal(tmp_path, envelopes[: len(envelopes) // 2])
    drain(tmp_path)
    write_journal(tmp_path, envelopes[len(envelopes) // 2 :])
    cursor = next((tmp_path / "cursors").glob("*.cursor"))
    content = bytearray(cursor.read_bytes())
    content[len(content) // 2] ^= 1
    cursor.write_bytes(content)
    logged = drain(tmp_path)
    assert "checkpoint_unreadable" in logged
    assert quiet == frames(tmp_path)


def test_running_processors_follow_show_and_stop(tmp_path: Path, envelopes: list[Envelope]) -> None:
    """While it runs, new entries arrive in seconds, metrics and health answer, SIGTERM ends it with 0."""
    process = processors(tmp_path)
    try:
        eventually((tmp_path / "run" / "processors.json").exists)
        write_journal(tmp_path, envelopes[:500])
        eventually(lambda: status(tmp_path)["offset"] == 500)
        port = status(tmp_path)["observe_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = answer.read().decode()
        ledger = status(tmp_path)["ledger"]
        assert f"voltgate_entries_total {float(ledger['entries'])}" in metrics
        assert 'voltgate_cursor_lag_entries{cursor="lake"} 0.0' in metrics
        for page in ("livez", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}") as answer:
                assert answer.status == 200
        write_journal(tmp_path, envelopes[500:700])
        began_at_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, logged = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert (0, True) == (process.returncode, time.monotonic() - began_at_s < 10.0), logged
    assert (700, False) == (status(tmp_path)["offset"], status(tmp_path)["running"])
    assert query(tmp_path / "lake", "select count(*) from raw").rows == [(status(tmp_path)["ledger"]["entries"],)]


def test_second_processors_on_one_directory_say_who_has_it(tmp_path: Path) -> None:
    """Two on one directory: the second waits for a moment and ends with the pid of the first."""
    first = processors(tmp_path)
    try:
        eventually((tmp_path / "run" / "processors.json").exists)
        second = processors(tmp_path)
        _, logged = second.communicate(timeout=TIMEOUT_S)
        assert (3, True) == (second.returncode, f"is processed by process {first.pid}" in logged), logged
    finally:
        first.kill()
        first.communicate()


def test_lake_of_another_journal_is_refused(tmp_path: Path, envelopes: list[Envelope]) -> None:
    """A journal that began anew under an old lake is told apart before its rows vanish as duplicates."""
    write_journal(tmp_path, envelopes[:300])
    drain(tmp_path)
    for path in (*(tmp_path / "ingest").iterdir(), *(tmp_path / "cursors").iterdir()):
        path.unlink()
    write_journal(tmp_path, envelopes[:10])
    process = processors(tmp_path, "--drain")
    _, logged = process.communicate(timeout=TIMEOUT_S)
    assert (3, True) == (process.returncode, "the journal ends at offset 10, the lake" in logged), logged


def test_contract_with_a_mistake_is_one_line(tmp_path: Path) -> None:
    """A wrong contract ends the start with file, line and what to write."""
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "bus.yaml").write_text("stream: bus\nversion: one\n")
    process = processors(tmp_path, "--drain")
    _, logged = process.communicate(timeout=TIMEOUT_S)
    assert (3, True) == (process.returncode, "bus.yaml:" in logged), logged
