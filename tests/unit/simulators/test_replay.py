"""Replay turns recorded rows into the same bytes every time."""

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest

from simulators.replay import ReplayConfig, due_s, encode, outcome_of, read_rows, recorded_at, run_replay
from simulators.target import SimulationError, Target
from simulators.truth import ONE_ROW, one_reject

HEADER = "Date,Time,Soc,Speed,Mode,LAT,Traffic,Weather\n"


def rows_of(tmp_path: Path, text: str) -> list[dict[str, object]]:
    path = tmp_path / "trip.csv"
    path.write_text(text)
    return list(read_rows(path))


def test_row_is_published_under_its_own_column_names(tmp_path: Path):
    """Numbers as numbers, whole ones as whole ones, the named columns as text."""
    [row] = rows_of(tmp_path, HEADER + "03/29/2021,11:13:45,87.540000,0.000000,N,33.986225,2,Clouds\n")
    assert encode(row) == (
        b'{"Date":"03/29/2021","Time":"11:13:45","Soc":87.54,"Speed":0.0,"Mode":"N","LAT":33.986225,"Traffic":2,'
        b'"Weather":"Clouds"}'
    )


@pytest.mark.parametrize("text", ["nan", "inf", "1e", "0x10", "1_000", " 1", "--1", "٣"])
def test_what_json_does_not_call_a_number_stays_text(tmp_path: Path, text: str):
    """Python would read some of these as numbers and write what no JSON parser takes."""
    [row] = rows_of(tmp_path, HEADER + f"03/29/2021,11:13:45,{text},0,N,1,2,Clouds\n")
    assert json.loads(encode(row))["Soc"] == text


def test_empty_and_missing_cells_are_left_out(tmp_path: Path):
    """Missing is never 0."""
    [row] = rows_of(tmp_path, HEADER + "03/29/2021,11:13:45,,0.5\n")
    assert row == {"Date": "03/29/2021", "Time": "11:13:45", "Speed": 0.5}


def test_row_with_too_many_cells_names_its_line(tmp_path: Path):
    """A comma in a text is the usual reason."""
    with pytest.raises(SimulationError, match=r"trip\.csv:3: too many cells"):
        rows_of(tmp_path, HEADER + "03/29/2021,11:13:45,1,2,N,3,4,Clouds\n1,2,3,4,5,6,7,Rain, heavy\n")


def test_file_without_a_header_is_refused(tmp_path: Path):
    """An empty file is no trip."""
    with pytest.raises(SimulationError, match="no header line"):
        rows_of(tmp_path, "")


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("03/29/2021", "11:13:45", "2021-03-29T11:13:45"),
        ("7/1/2021", "10:34:36", "2021-07-01T10:34:36"),
        ("90/02/2032", "12:08:07", None),
        ("03/00/2000", "12:08:07", None),
    ],
)
def test_date_that_does_not_exist_is_due_as_a_reject(date: str, time: str, expected: str | None):
    """The recorder's receiver invents dates before its fix."""
    row: dict[str, object] = {"Date": date, "Time": time}
    assert recorded_at(row) == (datetime.fromisoformat(expected) if expected else None)
    assert outcome_of(row) == (ONE_ROW if expected else one_reject("time"))


def test_recorded_pace_never_runs_backwards():
    """Gaps are kept, unreadable and falling times count one second."""
    times = ["10:00:00", "10:00:01", "10:00:05", "nonsense", "10:00:09", "10:00:02", "10:00:03"]
    rows: list[dict[str, object]] = [{"Date": "7/1/2021", "Time": time} for time in times]
    assert [at_s for at_s, _ in due_s(iter(rows))] == [0.0, 1.0, 5.0, 6.0, 7.0, 8.0, 9.0]


def test_missing_file_is_named_before_anything_is_sent(tmp_path: Path):
    """A typing mistake must not replay half a fleet."""
    config = ReplayConfig(target=Target(port=1), files=(tmp_path / "nothing.csv",))
    with pytest.raises(SimulationError, match=r"nothing\.csv: no such file"):
        asyncio.run(run_replay(config, stop=asyncio.Event()))


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    """They would be one device telling two stories."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "trip.csv").write_text(HEADER)
    config = ReplayConfig(target=Target(port=1), files=(tmp_path / "a/trip.csv", tmp_path / "b/trip.csv"))
    with pytest.raises(SimulationError, match="same name"):
        asyncio.run(run_replay(config, stop=asyncio.Event()))
