"""Recorded trips of a real vehicle through a whole installation: nothing lost, nothing counted twice."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import deltalake
import duckdb
import polars as pl
import pytest

from tests.installation import Installation, environment, until
from tests.recordings import twizy_files

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("replay")]

CONTRACT = Path(__file__).parents[2] / "docs" / "how-to" / "contracts" / "twizy.yaml"
GOOD_ROWS, BAD_TIMES = 34_372, 44
IDLE = "idle: 90 s"
"""A trip's last minute comes out when the vehicle has been silent that long; a test does not wait for it."""
assert IDLE in CONTRACT.read_text()


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Yield a stopped installation into which all trips were replayed twice."""
    files = twizy_files()
    installation = Installation(tmp_path_factory.mktemp("replay"), gateway__tick_s=1)
    (installation.data / "contracts").mkdir()
    (installation.data / "contracts" / "twizy.yaml").write_text(CONTRACT.read_text().replace(IDLE, "idle: 2 s"))
    with installation:
        for _ in range(2):
            summary = replay(installation.port, files)
            assert summary["acknowledged"] == GOOD_ROWS + BAD_TIMES
        until(lambda: readings_in_minutes(installation) == GOOD_ROWS, what="the last window of every trip")
        assert installation.stop() == 0
    yield installation


def readings_in_minutes(installation: Installation) -> int:
    """Return the readings in one-minute windows."""
    rows = installation.query("select coalesce(sum(n), 0) n from windows_twizy_latest where window_s = 60")
    return int(rows[0]["n"])


def replay(port: int, files: list[Path]) -> dict[str, Any]:
    """Replay the files at full speed and return the summary."""
    command = [sys.executable, "-m", "voltgate", "simulate", "replay", "--port", str(port), *map(str, files)]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=110)
    assert result.returncode == 0, result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


class Trip:
    """What a file says, read with the standard library alone."""

    def __init__(self, file: Path) -> None:
        self.first_soc_pct = self.last_soc_pct = None
        self.rows = 0
        self.distance_km = 0.0
        before: tuple[datetime, float] | None = None
        for row in csv.DictReader(file.read_text().splitlines()):
            try:
                at = datetime.strptime(f"{row['Date']} {row['Time']}", "%m/%d/%Y %H:%M:%S")  # noqa: DTZ007 - differences only
            except ValueError:
                continue
            self.rows += 1
            self.last_soc_pct = float(row["Soc"])
            self.first_soc_pct = self.last_soc_pct if self.first_soc_pct is None else self.first_soc_pct
            speed_kmh = float(row["Speed"])
            if before is not None:
                self.distance_km += (before[1] + speed_kmh) / 2 * (at - before[0]).total_seconds() / 3600
            before = (at, speed_kmh)


def test_every_row_is_in_the_lake_or_in_rejects_once(replayed: Installation) -> None:
    """Replaying twice gives the rows of one replay; the second one's are counted duplicates."""
    lines = replayed.ledger_lines()
    sent = 2 * (GOOD_ROWS + BAD_TIMES)
    assert lines[0].split("  ")[1] == f"{sent} received = {sent} in the lake + 0 in flight"
    assert f"{GOOD_ROWS} rows + {BAD_TIMES} rejected + {GOOD_ROWS + BAD_TIMES} duplicates" in lines[1]


def test_rejects_say_that_the_time_is_unreadable(replayed: Installation) -> None:
    """The rows of a receiver without a fix are kept with their bytes and the reason."""
    assert replayed.query("select code, count(*) n, count(payload) payloads from rejects group by 1") == [
        {"code": "time", "n": BAD_TIMES, "payloads": BAD_TIMES}
    ]


def test_state_of_charge_of_each_trip_equals_the_file(replayed: Installation) -> None:
    """First and last state of charge come out exactly as recorded."""
    rows = replayed.query(
        "select device_id, count(*) n, arg_min(soc_pct, measured_at) f, arg_max(soc_pct, measured_at) l "
        "from twizy group by 1 order by 1"
    )
    trips = {f"twizy-{file.stem}": Trip(file) for file in twizy_files()}
    expected = [
        {"device_id": name, "n": trip.rows, "f": trip.first_soc_pct, "l": trip.last_soc_pct}
        for name, trip in sorted(trips.items())
    ]
    assert expected == rows


def test_distance_from_windows_is_within_one_percent(replayed: Installation) -> None:
    """Minute windows add up to the distance integrated from the file."""
    rows = replayed.query(
        "select device_id, sum(distance_km) km from windows_twizy_latest where window_s = 60 group by 1"
    )
    windows_km = {row["device_id"]: row["km"] for row in rows}
    for file in twizy_files():
        trip_km = Trip(file).distance_km
        assert windows_km[f"twizy-{file.stem}"] == pytest.approx(trip_km, rel=0.01, abs=0.01), file.name


def test_other_tools_open_the_same_table(replayed: Installation) -> None:
    """The lake belongs to its owner: plain deltalake, Polars and DuckDB read it."""
    table = replayed.data / "lake" / "twizy"
    delta = deltalake.DeltaTable(str(table))
    assert delta.count() == GOOD_ROWS
    assert pl.scan_delta(str(table)).select(pl.len()).collect().item() == GOOD_ROWS
    files = delta.file_uris()
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute("select count(*) from read_parquet(?)", [files]).fetchall()
    assert rows == [(GOOD_ROWS,)]
