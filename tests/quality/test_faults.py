"""Faults are noticed and healthy devices left in peace: the small version of `python -m tests.quality faults`."""

import pytest

from simulators.moments import US_PER_S, iso
from simulators.truth import FaultTruth
from tests.quality.fault_chargers import ChargersPlan, run_chargers
from tests.quality.fault_journal import MIDNIGHT_US, Alert
from tests.quality.fault_page import Part, figures, page, span
from tests.quality.fault_score import KindScore, count_by_rule, false_alerts, judge_all, score
from tests.quality.fault_vehicles import KINDS, FleetPlan, FleetResult, run_fleet
from tests.quality.faults import CHARGER_KINDS


def at(second: float) -> str:
    return iso(MIDNIGHT_US + round(second * US_PER_S))


def fault(device_id: str = "bus-1", **given: object) -> FaultTruth:
    known = {"kind": "weak-cell", "began_at": at(100), "rules": ("s/a", "s/b"), "deadline_at": at(200)}
    return FaultTruth(device_id=device_id, **{**known, **given})


def alert(second: float, *, device_id: str = "bus-1", rule: str = "s/a") -> Alert:
    fired_us = MIDNIGHT_US + round(second * US_PER_S)
    return Alert(alert_id=f"{rule}{second}", device_id=device_id, rule=rule, severity="warning", fired_us=fired_us)


def missed(result: FleetResult) -> list[str]:
    """Kinds of faults that were not noticed in time."""
    return [one.kind for one in judge_all(result.faults, result.alerts) if not one.is_noticed]


@pytest.mark.parametrize("kinds", [KINDS[:4], KINDS[4:]], ids=["cells", "sensors"])
def test_vehicles_that_fail_are_noticed_and_healthy_ones_left_in_peace(kinds: tuple[str, ...]):
    """Each kind once in half a day, beside a healthy vehicle; every message is readable."""
    # Mild weather: a bus that heats draws so much at its stops that its cells are never at rest.
    plan = FleetPlan(
        name="small",
        seed=1,
        days=0.5,
        healthy=1,
        faults=kinds,
        fine_share=0.0,
        hours=(6.5, 7.0),
        air_c=(10.0, 20.0),
    )
    result = run_fleet(plan)
    assert list(kinds) == [truth.kind for truth in result.faults]
    assert [] == missed(result)
    assert [] == false_alerts(result.alerts, result.faults, result.holes)
    assert 0 == result.rejected


def test_chargers_that_fail_are_noticed_and_healthy_ones_left_in_peace():
    """Each kind once, beside three healthy chargers; every message is readable."""
    result = run_chargers(ChargersPlan(name="small", seed=1, days=0.9, healthy=3, faults=CHARGER_KINDS))
    assert set(CHARGER_KINDS) == {truth.kind for truth in result.faults}
    assert [] == missed(result)
    assert [] == false_alerts(result.alerts, result.faults, result.holes)
    assert 0 == result.rejected


def test_first_fitting_alert_after_the_beginning_and_before_the_deadline_counts():
    """One before it, of another rule or of another device does not; one after the deadline is too late."""
    harmed = fault(critical_at=at(150))
    alerts = [alert(90), alert(110, rule="s/c"), alert(115, device_id="bus-2"), alert(120, rule="s/b"), alert(130)]
    (noticed,) = judge_all([harmed], alerts)
    assert (True, 20.0, 30.0) == (noticed.is_noticed, noticed.after_s, noticed.lead_s)
    (late,) = judge_all([harmed], [alert(201)])
    assert (False, 101.0, -51.0) == (late.is_noticed, late.after_s, late.lead_s)
    (unseen,) = judge_all([harmed], [])
    assert (False, None, None) == (unseen.is_noticed, unseen.after_s, unseen.lead_s)


def test_scores_are_by_kind():
    """Times of those that were noticed, late ones included."""
    truths = [fault("a"), fault("b"), fault("c"), fault("d", kind="silent")]
    alerts = [alert(110, device_id="a"), alert(300, device_id="b"), alert(105, device_id="d")]
    weak, silent = score(judge_all(truths, alerts))
    assert ("weak-cell", 3, 1, 105.0, 200.0) == (
        weak.kind,
        weak.injected,
        weak.noticed,
        weak.after_median_s,
        weak.after_max_s,
    )
    assert (1.0, None) == (silent.recall, silent.lead_min_s)


def test_alert_is_false_unless_something_is_wrong():
    """Before a fault, or on a device that has none; in a hole in coverage a silence is right and all else is not."""
    silent = "vehicle_telemetry/silent"
    hole = FaultTruth(device_id="bus-2", kind="coverage-hole", began_at=at(10), ended_at=at(400), rules=(silent,))
    alerts = [
        alert(99),
        alert(100),
        alert(300, device_id="bus-2", rule=silent),
        alert(300, device_id="bus-2"),
        alert(600, device_id="bus-2", rule=silent),
        alert(300, device_id="bus-3", rule=silent),
    ]
    false = false_alerts(alerts, [fault()], [hole])
    assert [alerts[0], *alerts[3:]] == false
    assert {("s/a", "warning"): 2, (silent, "warning"): 2} == count_by_rule(false)


def test_page_and_figures_say_what_was_measured():
    """Rates over device-days; vehicles and chargers apart."""
    scored = KindScore(
        kind="silent",
        injected=4,
        noticed=3,
        after_median_s=61.0,
        after_max_s=600.0,
        lead_median_s=None,
        lead_min_s=None,
    )
    of_vehicles = Part(
        name="vehicles",
        days=10.0,
        scores=[scored],
        false=[("s/a", "warning", 2)],
        explained=5,
        messages=7,
        rejected=0,
    )
    trips = Part(name="recorded trips", days=10.0, scores=[], false=[], explained=0, messages=7, rejected=0)
    chargers = Part(
        name="chargers", days=4.0, scores=[], false=[("c/z", "info", 1)], explained=0, messages=7, rejected=0
    )
    parts = [of_vehicles, trips, chargers]
    assert {
        "fault_recall": 0.75,
        "false_alerts_per_vehicle_day": 0.1,
        "false_alerts_per_charger_day": 0.25,
    } == figures(parts)
    text = page(parts, seed=3)
    assert "| silent | 4 | 3 (75%) | 61 s | 10 min | - | - |" in text
    assert "| vehicles | 10.0 | 7 | 2 | 0.200 |" in text
    assert "| `c/z` | info | chargers | 1 |" in text
    assert "--seed 3" in text


@pytest.mark.parametrize(
    ("seconds", "expected"), [(None, "-"), (-7.4, "-7 s"), (119.0, "119 s"), (3_000.0, "50 min"), (9_000.0, "2.5 h")]
)
def test_spans_are_written_for_people(seconds: float | None, expected: str):
    """Seconds, minutes, hours."""
    assert expected == span(seconds)
