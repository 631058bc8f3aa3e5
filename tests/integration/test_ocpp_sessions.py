"""Charging sessions from simulated chargers of each version, through a whole installation, to what a user asks for."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from simulators.chargers.hardware import VERSIONS
from simulators.chargers.truth import SessionTruth, read_sessions_truth
from tests.fault.charging import judge_sessions, newest_sessions, true_sessions
from tests.fault.programs import Generator
from tests.fault.rounds import free_port, write_visits
from tests.installation import Installation, until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("ocpp_sessions")]

CHARGERS = 5
"""One of each type."""
PACE = 20
"""Simulated seconds in one, so that some minutes of meter values pass."""
SECONDS = 9.0
OUTAGE_S = 2.5
SESSIONS = "charging_session_revisions"


class Chargers:
    """Simulated chargers on their way to an installation; a context manager that leaves none running.

    Args:
        directory: For the files of this run.
        url: Of the gateway.
        name: Of the run, the beginning of the chargers' names.
        options: More command line.
    """

    def __init__(self, directory: Path, url: str, name: str, *options: str) -> None:
        directory = directory / name
        directory.mkdir()
        visits = directory / "visits.csv"
        write_visits(visits)
        self._truth = directory / "sessions.jsonl"
        self.answered = directory / "answered.jsonl"
        self.generator = Generator(
            directory,
            *("chargers", "--url", url, "--prefix", f"{name}-", "--count", str(CHARGERS), "--sessions", str(visits)),
            *("--pace", str(PACE), "--seconds", "600", "--meter-interval", "20", "--gap", "0"),
            *("--truth-file", str(self._truth), "--acknowledged-file", str(self.answered), *options),
        )

    def __enter__(self) -> "Chargers":
        self.generator.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.generator.__exit__()

    def stop(self) -> dict[str, Any]:
        """End all sessions properly; return the summary after checking that every call was answered, and rightly."""
        summary = self.generator.stop()
        assert [summary[name] for name in ("waiting", "refused", "invalid_answers")] == [0, 0, 0]
        return summary

    @property
    def truth(self) -> list[SessionTruth]:
        """The sessions as the chargers know them, when they are over."""
        return read_sessions_truth(self._truth)

    def grow(self) -> None:
        """Return when another call was answered."""
        before = self.answered.stat().st_size if self.answered.exists() else 0
        until(lambda: self.answered.exists() and self.answered.stat().st_size > before, what="an answer")


class Charged:
    """A stopped installation and what the chargers of each version know."""

    def __init__(self, installation: Installation, truth: dict[str, list[SessionTruth]]) -> None:
        self.installation, self.truth = installation, truth


def sessions_in(installation: Installation, name: str) -> pl.DataFrame:
    """Return the newest revision of each session of a run's chargers, read with plain Polars."""
    table = pl.scan_delta(str(installation.data / "lake" / SESSIONS))
    return newest_sessions(table.filter(pl.col("charger_id").str.starts_with(f"{name}-")).collect())


@pytest.fixture(scope="module")
def charged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Charged]:
    """Yield an installation at which one charger of each type and version worked, without any fault."""
    directory = tmp_path_factory.mktemp("charged")
    with Installation(directory / "data") as installation, ExitStack() as stack:
        runs = {
            version: stack.enter_context(
                Chargers(directory, installation.ocpp_url, f"v{version}", "--version", version, "--seed", str(i))
            )
            for i, version in enumerate(VERSIONS)
        }
        for run in runs.values():
            run.grow()
        time.sleep(SECONDS)
        for run in runs.values():
            run.stop()
        assert installation.stop() == 0
        yield Charged(installation, {version: run.truth for version, run in runs.items()})


@pytest.mark.parametrize("version", VERSIONS)
def test_every_session_comes_out_once_and_right(charged: Charged, version: str) -> None:
    """With its connector, id token, begin, end and energy."""
    truth = true_sessions(charged.truth[version])
    verdict = judge_sessions(truth, sessions_in(charged.installation, f"v{version}"))
    assert (0, ()) == (verdict.differing, verdict.examples)
    assert verdict.compared == truth.height > CHARGERS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_user_finds_a_session_by_query(charged: Charged, version: str) -> None:
    """`voltgate query` on `charging_sessions` says what the charger knows, in the words of its version."""
    one = max(charged.truth[version], key=lambda known: known.energy_wh)
    (row,) = charged.installation.query(f"select * from charging_sessions where id_token = '{one.id_token}'")
    expected = {
        "charger_id": one.charger,
        "connector": one.connector,
        "ocpp_version": version,
        "status": "completed",
        "energy_wh": float(one.energy_wh),
        "meter_start_wh": float(one.meter_start_wh),
        "meter_stop_wh": float(one.meter_stop_wh),
        "energy_source": "register",
        "flags": None,
    }
    assert expected == {name: row[name] for name in expected}
    assert row["transaction_id"] in one.transaction_ids
    assert one.ended_at is not None
    times = [datetime.fromisoformat(text) for text in (one.started_at, one.ended_at)]
    assert times == [datetime.fromisoformat(row[name]) for name in ("started_at", "ended_at")]
    assert row["duration_s"] == (times[1] - times[0]).total_seconds()
    assert 0 < row["mean_power_kw"] <= row["peak_power_kw"]


def test_the_view_shows_the_newest_revision(charged: Charged) -> None:
    """A session that was told while it went on is one row, its last."""
    rows = charged.installation.query(
        "select session_id, count(*) told, max(revision) newest from charging_session_revisions group by 1 order by 1"
    )
    assert max(row["told"] for row in rows) > 1
    shown = charged.installation.query("select session_id, revision newest from charging_sessions order by 1")
    assert shown == [{name: row[name] for name in ("session_id", "newest")} for row in rows]


@pytest.mark.parametrize("version", VERSIONS)
def test_windows_are_those_of_one_connector(charged: Charged, version: str) -> None:
    """Each minute of each connector has the register that its own meter showed first and last."""
    of_version = f"device_id like 'v{version}-%'"
    windows = charged.installation.query(
        'select device_id, connector, window_start, n, energy_import_wh_first "first", energy_import_wh_last "last" '
        f"from windows_charger_meter_latest where window_s = 60 and {of_version} order by 1, 2, 3"
    )
    readings = charged.installation.query(
        "select device_id, connector, time_bucket(interval 1 minute, measured_at) window_start, count(*) n, "
        'arg_min(energy_import_wh, measured_at) "first", arg_max(energy_import_wh, measured_at) "last" '
        f"from charger_meter where {of_version} group by 1, 2, 3 order by 1, 2, 3"
    )
    of_cabinet = [row for row in windows if row["device_id"] == f"v{version}-003"]
    assert {row["connector"] for row in of_cabinet} == {"1", "2", "3", "4"}
    minutes = {(row["device_id"], row["connector"], row["window_start"]): row for row in readings}
    assert windows == [minutes[row["device_id"], row["connector"], row["window_start"]] for row in windows]


def test_lost_connections_and_offline_queues_do_not_show(tmp_path: Path) -> None:
    """Every session loses its connection, by a reset or by silence, and is one session with all of its energy."""
    with (
        Installation(tmp_path / "data") as installation,
        Chargers(tmp_path, installation.ocpp_url, "cp", "--drop", "1", "--half-open", "0.3") as chargers,
    ):
        chargers.grow()
        time.sleep(SECONDS)
        summary = chargers.stop()
        assert installation.stop() == 0
        truth = true_sessions(chargers.truth)
        verdict = judge_sessions(truth, sessions_in(installation, "cp"))
        assert (0, ()) == (verdict.differing, verdict.examples)
        assert verdict.compared == truth.height > CHARGERS
        assert summary["connection_losses"] > CHARGERS
        (seen,) = installation.query(
            "select count(*) filter (kind = 'connected') met, count(*) filter (kind = 'disconnected') lost "
            "from charger_status"
        )
        assert summary["connections"] == seen["met"] == seen["lost"]
        # What 2.x chargers said of the time without a connection carries their word for it.
        (offline,) = installation.query("select count(*) n from charger_transaction where offline")
        assert offline["n"] > 0


def test_sessions_go_on_over_a_kill_of_everything(tmp_path: Path) -> None:
    """`kill -9` in the middle of sessions, some seconds without a server: each is one session, and none is missing."""
    installation = Installation(tmp_path / "data", gateway__ocpp__port=free_port())
    with installation, Chargers(tmp_path, installation.ocpp_url, "cp") as chargers:
        chargers.grow()
        time.sleep(SECONDS / 2)
        killed_at = datetime.now(UTC)
        installation.kill()
        time.sleep(OUTAGE_S)
        installation.start()
        chargers.grow()
        time.sleep(SECONDS / 2)
        summary = chargers.stop()
        assert installation.stop() == 0
        truth = true_sessions(chargers.truth)
        sessions = sessions_in(installation, "cp")
        verdict = judge_sessions(truth, sessions)
        assert (0, ()) == (verdict.differing, verdict.examples)
        assert verdict.compared == truth.height > CHARGERS
        assert summary["connection_losses"] >= CHARGERS
        (over,) = installation.query(
            "select count(*) n from (select session_id from charging_session_revisions group by 1 having "
            f"min(received_at) < timestamptz '{killed_at}' and max(received_at) > timestamptz '{killed_at}')"
        )
        assert over["n"] >= CHARGERS
        ids = installation.query(
            "select transaction_id, count(distinct start_message_id) n from charger_transaction "
            "where event = 'start_answer' group by 1"
        )
        assert {row["n"] for row in ids} == {1}
