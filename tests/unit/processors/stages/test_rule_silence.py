"""Silent devices: what is usual, when it is too long, and when nobody can tell."""

import json

import polars as pl

from processors.stages.rules import RuleState
from tests.unit.processors.stages.rule_frames import find, readings_of, rule_of, stage_of, ticks_of, told


def silent(name: str = "silent", *, intervals: float = 2.0, grace: float = 1.0, at_least: float = 5.0) -> object:
    """Return a rule with `detect: silent`."""
    parameters = {"intervals": intervals, "grace": grace, "at_least": at_least}
    return rule_of(name, detector="silent", parameters=parameters)


def every(step_s: float, count: int, device: str = "a", first: int = 0, start_s: float = 0.0) -> pl.DataFrame:
    """Return readings that come regularly, at offsets `first` and on."""
    return readings_of(*((first + i, device, start_s + i * step_s, 1.0) for i in range(count)))


def test_device_is_silent_after_twice_its_usual_interval_and_grace() -> None:
    """Ten seconds usual: silent from the first tick more than 21 s after the last, named by that entry."""
    found = find(stage_of(silent()), (every(10, 20), ticks_of((30, 211), (31, 211.1), (32, 300))))
    assert [("a", "begins", 211.1, 31, 19, 190.0, 21.1, 21.0, "s")] == told(
        found, "offset", "since_offset", "since", "value", "limit", "unit"
    )
    assert 10.0 == json.loads(found["evidence"][0])["usual_interval_s"]


def test_next_reading_ends_the_silence_however_old_it_is() -> None:
    """A device that sends its backlog is not silent, though detectors look at none of it."""
    late = readings_of((40, "a", 5, 1.0, 400), (41, "a", 6, 1.0, 401))
    found = find(stage_of(silent()), (every(10, 20), ticks_of((30, 300))), (late, ticks_of()))
    assert [("a", "begins", 300.0, 30, 19), ("a", "ends", 400.0, 40, 19)] == told(found, "offset", "since_offset")


def test_silence_between_two_readings_of_a_batch_is_seen() -> None:
    """Ticks count where they stand in the journal, also while catching up."""
    frame = pl.concat([every(10, 20), every(10, 3, first=50, start_s=500)])
    found = find(stage_of(silent()), (frame, ticks_of((30, 200), (31, 400), (60, 525), (61, 600))))
    assert [("a", "begins", 400.0), ("a", "ends", 500.0), ("a", "begins", 600.0)] == told(found)


def test_device_heard_a_few_times_is_never_silent() -> None:
    """Four receipts teach nothing that anybody should be woken for; five do."""
    stage = stage_of(silent())
    assert [] == told(find(stage, (every(10, 4), ticks_of((30, 9000)))))
    assert [("a", "begins", 9000.0)] == told(find(stage, (every(10, 5), ticks_of((30, 9000)))))


def test_many_readings_of_one_entry_are_one_receipt() -> None:
    """A batch of ten readings says once that the device is there."""
    rows = readings_of(*((1, "a", i, 1.0, 100) for i in range(10)))
    assert [] == told(find(stage_of(silent()), (rows, ticks_of((30, 9000)))))


def test_start_of_the_gateway_gives_everybody_time() -> None:
    """After an outage of the gateway devices are waited for anew, each for its own limit."""
    ticks = ticks_of((30, 1000, True), (31, 1021), (32, 1022))
    assert [("a", "begins", 1022.0)] == told(find(stage_of(silent()), (every(10, 20), ticks)))
    cut = find(stage_of(silent()), (every(10, 20), ticks_of((30, 1000, True))), (every(1, 0), ticks[1:]))
    assert [("a", "begins", 1022.0)] == told(cut)


def test_limit_is_never_below_at_least() -> None:
    """A device that sends ten times a second is not silent after 1.2 s."""
    found = find(stage_of(silent(at_least=60.0)), (every(0.1, 50), ticks_of((60, 64.8), (61, 65))))
    assert [("a", "begins", 65.0)] == told(found)


def test_burst_teaches_little() -> None:
    """After five minutes at one a minute, a hundred readings within a second leave the usual interval about there."""
    frame = pl.concat([every(60, 20), every(0.01, 100, first=20, start_s=1145)])
    found = find(stage_of(silent()), (frame, ticks_of((200, 1240), (201, 1300))))
    assert [("a", "begins", 1300.0)] == told(found)


def test_long_silence_teaches_little() -> None:
    """A night of twelve hours counts as four intervals: the usual one grows from 60 s to 82.5 s."""
    frame = pl.concat([every(60, 20), every(60, 1, first=20, start_s=50_000)])
    found = find(stage_of(silent(intervals=1.0, grace=0.0)), (frame, ticks_of((30, 50_082), (31, 50_083))))
    assert [("a", "begins", 50_083.0, 82.5)] == told(found, "limit")


def test_silence_is_of_the_device_and_not_of_its_parts() -> None:
    """One connector says nothing while the other does: the charger is there."""
    stage = stage_of(silent(), part="mode")
    one = every(10, 20).with_columns(mode=pl.lit("1"))
    two = every(10, 5, first=20, start_s=200).with_columns(mode=pl.lit("2"))
    found = find(stage, (one, ticks_of()), (two, ticks_of((30, 250), (31, 262))))
    assert [("a", "begins", 262.0, None)] == told(found, "part")


def test_two_rules_of_silence_stand_beside_each_other() -> None:
    """A warning soon and a critical one later, both ended by one reading."""
    stage = stage_of(silent("soon"), silent("long", intervals=10.0))
    found = find(
        stage, (every(10, 20), ticks_of((30, 220), (31, 300))), (every(1, 1, first=40, start_s=310), ticks_of())
    )
    assert [(220.0, "soon"), (300.0, "long"), (310.0, "long"), (310.0, "soon")] == [
        (at, rule) for _, _, at, rule in told(found, "rule")
    ]


def test_streams_without_readings_know_no_silence() -> None:
    """Ticks alone find nothing and remember nobody."""
    found, state = stage_of(silent()).run(RuleState.empty(), {}, ticks_of((1, 1), (2, 9999)))
    assert (0, {}) == (found.height, dict(state.streams))
