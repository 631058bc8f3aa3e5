"""Drift, peers and stuck sensors on readings: when they begin, when they end, and what they leave alone."""

import json
import math

import polars as pl
import pytest

from gateway.core.errors import CheckpointError
from processors.stages.anomalies import AnomalyState
from processors.stages.findings import FINDINGS_SCHEMA
from tests.unit.processors.stages.anomaly_frames import (
    DRIFT,
    PEERS,
    STUCK,
    Reading,
    Tick,
    events,
    run,
    stage,
    with_ticks,
)


def wave(minute: float) -> float:
    """A signal that is never twice the same."""
    return 20.0 + math.sin(minute * 0.7) + 0.3 * math.sin(minute * 2.3)


def of_minutes(values: list[float | None], device: str = "bus") -> list[Reading]:
    return [Reading(device, minute * 60.0, heat_c=value) for minute, value in enumerate(values)]


def test_signal_that_leaves_its_band_begins_and_ends_one_episode() -> None:
    """One row begins it with the band and the last samples, another ends it with the same `since_offset`."""
    values = [wave(m) for m in range(60)] + [wave(m) + 6.0 for m in range(5)] + [wave(m) for m in range(60, 200)]
    findings, _ = run(stage(DRIFT), with_ticks(of_minutes(values)))
    assert dict(FINDINGS_SCHEMA) == dict(findings.schema)
    begins, ends = findings.rows(named=True)
    assert ("begins", "ends") == (begins["event"], ends["event"])
    assert begins["since_offset"] == ends["since_offset"]
    evidence = json.loads(begins["evidence"])
    assert 60 == evidence["samples"]
    assert evidence["low"] < 20.0 < evidence["high"] < begins["value"]
    assert evidence["high"] == pytest.approx(begins["limit"], rel=1e-5)
    assert 20 == len(evidence["history"])
    assert "heat_c usually from" in evidence["limit"]
    assert "back inside" == json.loads(ends["evidence"])["ended"]


def test_constant_signal_that_steps_is_told_once() -> None:
    """The step begins an episode; the new constant is no second one, and in the end is usual."""
    rule = DRIFT.replace("clear_after", "settle: 60 min, clear_after")
    findings, _ = run(stage(rule), with_ticks(of_minutes([5.0] * 60 + [7.0] * 300)))
    assert [("bus", "drifts", "begins", 60.0), ("bus", "drifts", "ends", 120.0)] == events(findings)
    assert "has become usual" == json.loads(findings["evidence"][1])["ended"]


def test_nothing_is_strange_before_the_warm_up() -> None:
    """The jump is the twentieth sample of a warm-up of twenty."""
    assert [] == events(run(stage(DRIFT), with_ticks(of_minutes([wave(m) for m in range(19)] + [90.0])))[0])
    assert 1 == len(events(run(stage(DRIFT), with_ticks(of_minutes([wave(m) for m in range(20)] + [90.0])))[0]))


def test_band_narrower_than_what_matters_counts_as_wider() -> None:
    """A constant that moves by less than `least_width` stays inside, by more it does not."""
    rule = DRIFT.replace("heat_c,", "heat_c, least_width: 3 degC,")
    assert [] == events(run(stage(rule), with_ticks(of_minutes([5.0] * 60 + [7.9] * 30)))[0])
    assert 1 == len(events(run(stage(rule), with_ticks(of_minutes([5.0] * 60 + [8.1] * 30)))[0]))


@pytest.mark.parametrize("rule", [DRIFT, STUCK, PEERS], ids=["drift", "stuck", "peers"])
def test_missing_values_leave_no_trace(rule: str) -> None:
    """A device that never sends the field, and null readings between others, change nothing but offsets."""
    readings = [
        Reading(f"bus-{bus}", minute * 60.0, heat_c=30.0 if bus == 0 and minute > 40 else wave(minute + bus))
        for bus in range(5)
        for minute in range(80)
    ]
    readings = [Reading(r.device, r.at_s, heat_c=r.heat_c, current_a=r.at_s, soc_pct=50.0) for r in readings]
    nulls = [Reading(r.device, r.at_s - 1.0) for r in readings] + [Reading("mute", r.at_s) for r in readings[:80]]
    alone, _ = run(stage(rule), with_ticks(readings))
    among, _ = run(stage(rule), with_ticks([*readings, *nulls]))
    columns = ["device_id", "event", "at", "since", "value", "limit", "evidence"]
    assert alone.select(columns).rows() == among.select(columns).rows()
    assert rule == STUCK or alone.height


def test_samples_are_the_first_reading_of_a_minute() -> None:
    """A jump that is over within the minute of a sample is not seen, one at a sample is."""
    between = [*of_minutes([wave(m) for m in range(60)]), Reading("bus", 3_570.0, heat_c=90.0)]
    at_sample = [*of_minutes([wave(m) for m in range(59)]), Reading("bus", 3_540.0, heat_c=90.0)]
    assert [] == events(run(stage(DRIFT), with_ticks(between))[0])
    assert 1 == len(events(run(stage(DRIFT), with_ticks(at_sample))[0]))


def test_reading_older_than_the_last_sample_is_ignored() -> None:
    """A jump that arrives ten minutes late is no finding."""
    late = Reading("bus", 3_000.0 - 30.0, heat_c=90.0, late_s=600.0)
    kept = [reading for reading in of_minutes([wave(m) for m in range(70)]) if reading.at_s != 2_940.0]
    assert [] == events(run(stage(DRIFT), with_ticks([*kept, late]))[0])


def test_frozen_value_of_a_moving_vehicle_is_stuck() -> None:
    """Five minutes unchanged while the current swings begin it, the first change ends it."""
    swing = [10.0 * (minute % 3) for minute in range(30)]
    readings = [
        Reading("bus", minute * 60.0, heat_c=20.0 if 5 <= minute < 15 else 20.0 + minute / 10, current_a=current)
        for minute, current in enumerate(swing)
    ]
    findings, _ = run(stage(STUCK), with_ticks(readings))
    assert [("bus", "stands", "begins", 10.0), ("bus", "stands", "ends", 15.0)] == events(findings)
    evidence = json.loads(findings["evidence"][0])
    assert {"heat_c": 20.0, "current_a": 10.0} == evidence["readings"]
    assert "current_a moved between 0.0 and 20.0 A" in evidence["limit"]


def test_parked_vehicle_is_not_stuck() -> None:
    """Neither while it stands, nor when it moves on after a night with the value of the evening."""
    parked = [Reading("bus", minute * 60.0, heat_c=20.0, current_a=0.1 * (minute % 2)) for minute in range(600)]
    away = [Reading("bus", (600 + m) * 60.0, heat_c=20.0 if m < 4 else 21.0 + m, current_a=50.0 * m) for m in range(9)]
    assert [] == events(run(stage(STUCK), with_ticks([*parked, *away]))[0])


def test_pause_between_samples_begins_the_span_anew() -> None:
    """Two stretches of four minutes with an hour without readings between are not five minutes."""
    minutes = [*range(5), *range(65, 70)]
    readings = [Reading("bus", m * 60.0, heat_c=20.0, current_a=30.0 * (m % 2)) for m in minutes]
    assert [] == events(run(stage(STUCK), with_ticks(readings))[0])


def fleet(buses: int, minutes: int = 12, *, tenant: str = "t") -> list[Reading]:
    """Buses alike but for the first, which is ten degrees warmer in minutes 4 to 7."""
    return [
        Reading(
            f"bus-{bus}",
            minute * 60.0 + bus,
            heat_c=20.0 + 0.2 * bus + (10.0 if bus == 0 and 4 <= minute < 8 else 0.0),
            soc_pct=55.0,
            tenant=tenant,
        )
        for minute in range(minutes)
        for bus in range(buses)
    ]


def test_device_unlike_its_peers_begins_and_ends() -> None:
    """Three samples in a row begin it, two like the others end it; the median and the number of peers are told."""
    findings, _ = run(stage(PEERS), with_ticks(fleet(5)))
    assert [("bus-0", "differs", "begins", 6.0), ("bus-0", "differs", "ends", 9.0)] == events(findings)
    evidence = json.loads(findings["evidence"][0])
    assert (4, 20.5) == (evidence["peers"], evidence["median"])
    assert "like 4 others with soc_pct from 50.0 to 60.0" in evidence["limit"]
    since = findings["at"][0] - findings["since"][0]
    assert 120.0 == since.total_seconds()


@pytest.mark.parametrize(
    "readings",
    [
        pytest.param(fleet(3), id="too few"),
        pytest.param(fleet(1), id="alone"),
        pytest.param(
            [
                Reading(r.device, r.at_s, heat_c=r.heat_c, soc_pct=55.0 if r.device == "bus-0" else 75.0)
                for r in fleet(5)
            ],
            id="under other conditions",
        ),
        pytest.param(
            [Reading(r.device, r.at_s, heat_c=r.heat_c, soc_pct=55.0, tenant=r.device) for r in fleet(5)],
            id="of other tenants",
        ),
    ],
)
def test_without_enough_peers_nothing_is_said(readings: list[Reading]) -> None:
    """Others count only if there are enough of them, alike, and of the same fleet."""
    assert [] == events(run(stage(PEERS), with_ticks(readings))[0])


def test_device_is_not_its_own_peer() -> None:
    """Three buses with `least_peers` 3 know two others each."""
    assert [] == events(run(stage(PEERS), with_ticks(fleet(3)))[0])
    assert 2 == len(events(run(stage(PEERS), with_ticks(fleet(4)))[0]))


def test_expression_of_fields_is_watched() -> None:
    """`of` may be arithmetic; its value is what is told."""
    rule = DRIFT.replace("of: heat_c", "of: heat_c - cool_c")
    readings = [
        Reading("bus", minute * 60.0, heat_c=wave(minute) + minute, cool_c=minute + (8.0 if minute == 60 else 0.0))
        for minute in range(62)
    ]
    findings, _ = run(stage(rule), with_ticks(readings))
    assert [("bus", "drifts", "begins", 60.0)] == events(findings)
    assert wave(60) - 8.0 == pytest.approx(findings["value"][0], rel=1e-5)


def test_rule_that_changed_begins_anew_and_others_go_on() -> None:
    """The memory of the changed rule is dropped, that of the other kept."""
    readings = [Reading("bus", m * 60.0, heat_c=wave(m), current_a=float(m)) for m in range(40)]
    journal = with_ticks(readings)
    _, state = run(stage(DRIFT, STUCK), journal)
    changed = stage(DRIFT.replace("20 min", "30 min"), STUCK)
    _, after = run(changed, [Tick(10_000.0)], state=state)
    rules = after.streams["probe"].rules
    assert 0 == rules["drifts"].table.height
    assert 1 == rules["stands"].table.height


@pytest.mark.parametrize("payload", [b"", b"\x00", AnomalyState.empty().to_bytes()[:-3]], ids=["none", "other", "torn"])
def test_bytes_that_are_no_state_are_refused(payload: bytes) -> None:
    """They are a CheckpointError, so that the detectors begin anew."""
    with pytest.raises(CheckpointError):
        AnomalyState.from_bytes(payload)


def test_stage_without_rules_does_nothing() -> None:
    """Frames and ticks pass, the state stays empty."""
    findings, state = run(stage("  hot: {title: x, when: heat_c > 5, severity: info}"), with_ticks(of_minutes([9.0])))
    assert (0, {}) == (findings.height, state.streams)


def test_state_is_left_as_it_was() -> None:
    """A batch that fails is run again on the same state: its bytes do not change."""
    readings = [Reading("bus", m * 60.0, heat_c=wave(m), current_a=float(m), soc_pct=50.0) for m in range(40)]
    journal = with_ticks(readings)
    _, state = run(stage(DRIFT, STUCK, PEERS), journal)
    before = state.to_bytes()
    later = [Reading("bus", 60.0 * m, heat_c=50.0, current_a=float(m), soc_pct=50.0) for m in range(50, 80)]
    run(stage(DRIFT, STUCK, PEERS), with_ticks(later), state=state)
    assert before == state.to_bytes()


def test_findings_are_of_the_device_that_they_are_about() -> None:
    """Of twenty devices the one that jumps is named."""
    readings = [
        Reading(f"bus-{bus}", m * 60.0, heat_c=wave(m + bus) + (50.0 if (bus, m) == (13, 50) else 0.0))
        for bus in range(20)
        for m in range(51)
    ]
    findings, _ = run(stage(DRIFT), with_ticks(readings))
    assert ["bus-13"] == findings["device_id"].to_list()
    assert isinstance(findings, pl.DataFrame)
