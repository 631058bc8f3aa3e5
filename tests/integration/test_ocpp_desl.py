"""Recorded charging sessions of two years through a whole installation: each once, with its energy to the watt-hour."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulators.chargers.truth import SessionTruth, read_answered, read_sessions_truth
from tests.installation import Installation, environment
from tests.recordings import desl_sessions

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.xdist_group("desl")]

SESSIONS = 1_878
STATIONS = 10
"""A gateway takes 200 frames a second of one charger, so that many at once are done in a few seconds."""
METER_VALUES = 3
"""Inside each session; the begin and the end say what the register shows anyway."""
REPLAY_S_MAX = 240
"""Ten times what it takes on an idle machine: a bound for a hang, not a measure."""


class Replayed:
    """A stopped installation into which all sessions were replayed, and what the simulator knows of them."""

    def __init__(self, installation: Installation, truth: list[SessionTruth], calls: int) -> None:
        self.installation, self.truth, self.calls = installation, truth, calls


@pytest.fixture(scope="module", params=["1.6", "2.0.1"])
def replayed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    """Yield all sessions, dealt to some stations, as each version says them."""
    file, directory = desl_sessions(), tmp_path_factory.mktemp("desl")
    truth, answered = directory / "sessions.jsonl", directory / "answered.jsonl"
    with Installation(directory / "data") as installation:
        command = [
            *(sys.executable, "-m", "simulators", "chargers", "replay-sessions", "--file", str(file)),
            *("--url", installation.ocpp_url, "--version", request.param, "--stations", str(STATIONS)),
            *("--meter-values", str(METER_VALUES)),
            *("--truth-file", str(truth), "--acknowledged-file", str(answered)),
        ]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=REPLAY_S_MAX)
        assert done.returncode == 0, done.stderr[-2000:]
        summary: dict[str, Any] = json.loads(done.stdout)
        assert (SESSIONS, 0, 0) == (summary["sessions_ended"], summary["errors"], summary["invalid_answers"])
        assert installation.stop() == 0
        yield Replayed(installation, read_sessions_truth(truth), len(read_answered(answered)))


def recorded(file: Path) -> dict[str, tuple[datetime, datetime, float]]:
    """Return id token -> (arrival, departure, Wh), read with the standard library alone."""
    with file.open(newline="") as lines:
        return {
            f"DESL-{int(row['Session']):04d}": (
                datetime.fromisoformat(row["Arrival"]).replace(tzinfo=UTC),
                datetime.fromisoformat(row["Departure"]).replace(tzinfo=UTC),
                float(row["Energy (Wh)"]),
            )
            for row in csv.DictReader(lines)
        }


def test_every_session_is_there_once_with_its_energy(replayed: Replayed) -> None:
    """Count, energy of each and the sum equal what the simulator said; nothing differs that no flag explains."""
    rows = replayed.installation.query(
        "select id_token, charger_id, connector, status, energy_wh, flags, meter_rows from charging_sessions"
    )
    due = {one.id_token: one for one in replayed.truth}
    assert SESSIONS == len(due)
    assert sorted(due) == sorted(row["id_token"] for row in rows)
    differing = [
        row
        for row in rows
        for one in (due[row["id_token"]],)
        if (one.charger, one.connector, "completed") != (row["charger_id"], row["connector"], row["status"])
        or abs(one.energy_wh - row["energy_wh"]) > 1
    ]
    assert differing == []
    assert sum(one.energy_wh for one in replayed.truth) == pytest.approx(sum(row["energy_wh"] for row in rows), abs=1)


def test_every_session_is_as_it_was_recorded(replayed: Replayed) -> None:
    """Against the file itself: begin, end, and the energy rounded to what a register shows."""
    rows = replayed.installation.query("select id_token, started_at, ended_at, energy_wh from charging_sessions")
    file = recorded(desl_sessions())
    assert SESSIONS == len(file)
    for row in rows:
        arrival, departure, energy_wh = file[row["id_token"]]
        assert (arrival, departure) == (_time(row["started_at"]), _time(row["ended_at"])), row
        assert abs(energy_wh - row["energy_wh"]) <= 1, row
    assert sum(energy_wh for _, _, energy_wh in file.values()) == pytest.approx(
        sum(row["energy_wh"] for row in rows), abs=SESSIONS / 2
    )


def test_every_answered_call_is_in_the_lake(replayed: Replayed) -> None:
    """And the ledger balances."""
    (found,) = replayed.installation.query(
        "select count(*) n from raw where source = 'ocpp' and channel not like 'ocpp/%' and channel not like '%.conf'"
    )
    assert replayed.calls == found["n"]
    assert replayed.installation.query("select count(*) n from rejects") == [{"n": 0}]
    assert replayed.installation.ledger_lines()


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    assert found.utcoffset() == timedelta(0)
    return found
