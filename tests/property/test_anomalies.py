"""Findings of anomalies are a function of the journal: neither cuts nor restarts show."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.processors.stages.anomaly_frames import DRIFT, PEERS, STUCK, Reading, Tick, events, run, stage

STAGE = stage(DRIFT.replace("20 min", "4 min"), STUCK.replace("5 min", "3 min"), PEERS)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d", "e"]),
        st.sampled_from([0.0, 15.0, 30.0, 60.0, 60.0, 120.0, -90.0]),
        st.none() | st.sampled_from([20.0, 20.0, 21.0, 22.0, 60.0]),
        st.none() | st.sampled_from([0.0, 40.0]),
    ),
    min_size=30,
    max_size=120,
)


def _eventful() -> list[tuple[str, float, float | None, float | None]]:
    """Five vehicles: the first is hot for six minutes, the second stands still while its current swings."""
    return [
        (device, 60.0, 60.0 if device == "a" and 8 <= minute < 14 else 20.0 + heat, 40.0 * (minute % 2))
        for minute in range(24)
        for device, heat in zip("abcde", (minute % 3, 0.0, minute % 4, 0.1 * minute, minute % 5), strict=True)
    ]


EVENTFUL = _eventful()


def journal_of(steps: list[tuple[str, float, float | None, float | None]]) -> list[Reading | Tick]:
    """Every device has its own clock, which sometimes goes back; a tick after every few readings."""
    clocks: dict[str, float] = {}
    journal: list[Reading | Tick] = []
    for place, (device, step, heat, current) in enumerate(steps):
        clocks[device] = clocks.get(device, 0.0) + step
        journal.append(Reading(device, clocks[device], heat_c=heat, current_a=current, soc_pct=50.0))
        if place % 4 == 3:
            journal.append(Tick(place * 25.0))
    return journal


@settings(max_examples=40, deadline=None)
@example(EVENTFUL, {1, 40, 58, 59, 60, 90, 101}, True)
@example(EVENTFUL, set(range(150)), False)
@given(STEPS, st.sets(st.integers(1, 150), max_size=6), st.booleans())
def test_any_cut_and_restart_gives_the_findings_of_the_whole(
    steps: list[tuple[str, float, float | None, float | None]], cuts: set[int], restart: bool
) -> None:
    """All rows are equal, evidence included."""
    journal = journal_of(steps)
    whole, at_once = run(STAGE, journal)
    parts, in_parts = run(STAGE, journal, cuts, restart=restart)
    assert whole.rows() == parts.rows()
    assert at_once.to_bytes() == in_parts.to_bytes()


@settings(max_examples=40, deadline=None)
@example(EVENTFUL)
@given(STEPS)
def test_every_end_follows_its_beginning(steps: list[tuple[str, float, float | None, float | None]]) -> None:
    """Of one device and rule beginnings and ends take turns, and an end names the beginning's offset."""
    findings, _ = run(STAGE, journal_of(steps))
    open_since: dict[tuple[str, str], int] = {}
    for row in findings.iter_rows(named=True):
        key = row["device_id"], row["rule"]
        if row["event"] == "begins":
            assert key not in open_since
            open_since[key] = row["since_offset"]
        else:
            assert open_since.pop(key) == row["since_offset"]
        assert row["since_offset"] < row["offset"]


def test_one_of_the_journals_above_has_findings_of_all_kinds() -> None:
    """Or they would prove nothing."""
    findings, _ = run(STAGE, journal_of(EVENTFUL))
    seen = {(device, rule) for device, rule, _, _ in events(findings)}
    assert {("a", "drifts"), ("a", "differs"), ("b", "stands")} <= seen
    assert {"begins", "ends"} == set(findings["event"])
