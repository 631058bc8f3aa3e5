"""What chargers note can be read back, also after a kill."""

from pathlib import Path

from simulators.chargers.records import Records
from simulators.chargers.truth import AnsweredCall, SessionTruth, frame_digest, read_answered, read_sessions_truth


def truth(**changes: object) -> SessionTruth:
    fields = {
        "charger": "cp-001",
        "version": "1.6",
        "connector": "1",
        "id_token": "T",
        "started_at": "2026-01-01T00:00:00Z",
    }
    return SessionTruth(**(fields | changes))  # type: ignore[arg-type]


def test_both_files_are_read_back_as_they_were_written(tmp_path: Path):
    """Each line is there before the run ends."""
    sessions, calls = tmp_path / "sessions", tmp_path / "calls"
    call = AnsweredCall(charger="c", message_id="m", action="Heartbeat", digest=frame_digest("[]"), answered_at="t")
    with Records(sessions, calls) as records:
        records.session(truth(stopped=True, energy_wh=1_500, faults={"drop"}))
        records.answered(call)
        assert [call] == read_answered(calls)
    assert [truth(stopped=True, energy_wh=1_500, faults={"drop"})] == read_sessions_truth(sessions)
    assert (1, 1_500) == (records.sessions_ended, records.energy_wh)


def test_torn_last_line_is_left_out(tmp_path: Path):
    """Which is all the damage a kill can do."""
    file = tmp_path / "sessions"
    with Records(file, None) as records:
        records.session(truth())
        records.session(truth(connector="2"))
    file.write_bytes(file.read_bytes()[:-20])
    assert [truth()] == read_sessions_truth(file)


def test_without_files_only_sums_are_kept():
    """Sessions whose end was not answered do not count."""
    records = Records(None, None)
    records.session(truth(energy_wh=10))
    assert (0, 0) == (records.sessions_ended, records.energy_wh)
