"""The truth file gives back what was noted, and sums it."""

from collections import Counter
from pathlib import Path

import pytest

from simulators.acknowledged import payload_digest
from simulators.truth import (
    ONE_DUPLICATE,
    ONE_ROW,
    Expected,
    FaultTruth,
    Outcome,
    Sent,
    TruthFile,
    expected,
    one_reject,
    read_faults,
    read_truth,
)


def test_messages_come_back_with_their_acknowledgement(tmp_path: Path):
    """In the order of acknowledgement, the unacknowledged ones last."""
    path = tmp_path / "truth"
    outcome = Outcome(rows=1, flags=("clock_clamped",))
    with TruthFile(path) as truth:
        lost = truth.sent(device_id="bus-1", channel="telemetry", payload=b"a", outcome=ONE_ROW)
        kept = truth.sent(device_id="bus-1", channel="event", payload=b"b", outcome=outcome, faults=("clock_ahead",))
        truth.acknowledged(kept)
    assert list(read_truth(path)) == [
        (
            Sent(
                number=kept,
                device_id="bus-1",
                channel="event",
                digest=payload_digest(b"b").hex(),
                outcome=outcome,
                faults=("clock_ahead",),
            ),
            True,
        ),
        (
            Sent(
                number=lost,
                device_id="bus-1",
                channel="telemetry",
                digest=payload_digest(b"a").hex(),
                outcome=ONE_ROW,
            ),
            False,
        ),
    ]


def test_sums_tell_what_must_come_out_from_what_may(tmp_path: Path):
    """Acknowledged messages are due, the others possible; devices and channels apart."""
    path = tmp_path / "truth"
    with TruthFile(path) as truth:
        for outcome in (ONE_ROW, ONE_DUPLICATE, one_reject("json"), one_reject("json"), one_reject("type")):
            truth.acknowledged(truth.sent(device_id="bus-1", channel="battery", payload=b"x", outcome=outcome))
        truth.sent(device_id="bus-1", channel="battery", payload=b"y", outcome=ONE_ROW)
        truth.sent(device_id="bus-1", channel="battery", payload=b"z", outcome=one_reject("time"))
        truth.acknowledged(truth.sent(device_id="bus-2", channel="battery", payload=b"x", outcome=ONE_ROW))
    assert expected(path) == {
        ("bus-1", "battery"): Expected(
            sent=7,
            acknowledged=5,
            rows=1,
            rejects=Counter(json=2, type=1),
            duplicates=1,
            rows_possible=1,
            rejects_possible=Counter(time=1),
        ),
        ("bus-2", "battery"): Expected(sent=1, acknowledged=1, rows=1),
    }


def test_torn_last_line_is_left_out(tmp_path: Path):
    """The message it was about then counts as unacknowledged, or as never sent."""
    path = tmp_path / "truth"
    with TruthFile(path) as truth:
        truth.acknowledged(truth.sent(device_id="bus-1", channel="event", payload=b"a", outcome=ONE_ROW))
    path.write_bytes(path.read_bytes()[:-3])
    assert [acknowledged for _, acknowledged in read_truth(path)] == [False]


def test_faults_are_rows_of_their_own_kind(tmp_path: Path):
    """Readers of messages pass over them; of several rows of one fault the last holds."""
    path = tmp_path / "truth"
    began = FaultTruth(device_id="bus-1", kind="silent", began_at="2026-11-22T10:00:00Z", rules=("a/b", "a/c"))
    known = FaultTruth(
        device_id="bus-1", kind="silent", began_at="2026-11-22T10:00:00Z", rules=("a/b",), deadline_at="2026-11-22T11Z"
    )
    with TruthFile(path) as truth:
        truth.fault(began)
        truth.acknowledged(truth.sent(device_id="bus-1", channel="event", payload=b"a", outcome=ONE_ROW))
        truth.fault(known)
    assert [True] == [acknowledged for _, acknowledged in read_truth(path)]
    assert [known] == read_faults(path)


@pytest.mark.parametrize(
    "line", ["nonsense\n", '{"fault":{"kind":1}}\n', '{"acknowledged":7}\n', '{"sent":{"number":"one"}}\n']
)
def test_foreign_line_is_refused_by_number(tmp_path: Path, line: str):
    """An oracle that skipped what it cannot read would find too little due."""
    path = tmp_path / "truth"
    with TruthFile(path) as truth:
        truth.sent(device_id="bus-1", channel="event", payload=b"a", outcome=ONE_ROW)
    path.write_text(path.read_text() + line)
    with pytest.raises(ValueError, match="truth:2: not a line"):
        list(read_truth(path))
