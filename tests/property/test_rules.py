"""Rules are a function of the journal: the oracle finds the same, whatever the cuts and restarts."""

import itertools
import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.contracts.conditions import Any_, Arithmetic, Every, Negative, Not, Number
from processors.contracts.rules import Rule
from processors.stages.findings import NO_FINDINGS
from processors.stages.rules import RuleState
from tests.property.rule_oracle import US, Reading, say_episodes, say_silences
from tests.unit.processors.stages.rule_frames import (
    FLAG,
    HOT,
    MODE,
    START_S,
    X,
    Y,
    compare,
    past,
    readings_of,
    rule_of,
    stage_of,
    ticks_of,
)

RISING = compare(past("rate", X, 8.0), ">", 2)
RULES = (
    rule_of("hot"),
    rule_of("held", hold_s=3.0, clear=compare(X, "<", 40), clear_hold_s=2.0, needs_s=4.0),
    rule_of("either", when=Any_((HOT, compare(Y, "<", 3))), hold_s=2.0),
    rule_of("both", when=Every((HOT, Not(compare(Y, "<", 3)), FLAG)), clear_hold_s=3.0),
    rule_of("quotient", when=compare(Arithmetic("/", X, Y), ">", 20), clear=compare(Negative(Y), "<", -3)),
    rule_of("rising", when=RISING),
    rule_of("change", when=compare(past("abs", past("change", Y, 16.0)), ">=", 3), needs_s=20.0),
    rule_of("calm", when=compare(past("highest", X, 8.0), "<", Arithmetic("+", past("lowest", X, 24.0), Number(9.0)))),
    rule_of("deep", when=compare(past("lowest", Y, 8.0), "<", 1), hold_s=2.0),
    rule_of("jump", when=compare(past("abs", Arithmetic("-", Y, past("previous", Y))), ">", 2), needs_s=6.0),
    rule_of("turned", when=Every((compare(MODE, "==", "b"), compare(past("previous", MODE), "!=", MODE)))),
    rule_of("spread", when=compare(past("rate", Arithmetic("-", X, Y), 16.0), ">", Number(1.0)), clear_hold_s=1.0),
    rule_of("steps", when=None, steps=(compare(MODE, "==", "a"), compare(MODE, "==", "b"), HOT), within_s=9.0),
    rule_of("pair", when=None, steps=(HOT, RISING), within_s=5.0, clear=compare(X, "<", 30), needs_s=4.0),
)
SILENT = rule_of("silent", when=None, detector="silent", parameters={"intervals": 2.0, "grace": 1.0, "at_least": 5.0})
STEPS_S = (0.0, 0.5, 1.0, 1.0, 1.0, 2.0, 2.0, 5.0, 12.0, -1.5, 400.0)


def journal(seed: int, devices: str, length: int) -> tuple[list[Reading], list[tuple[int, int, bool]]]:
    """Return random readings and ticks: gaps, disorder, missing values, several readings of one entry."""
    rng = random.Random(seed)
    readings: list[Reading] = []
    ticks: list[tuple[int, int, bool]] = []
    ats = {device: START_S * US + rng.randrange(8) * US for device in devices}
    now, steps = START_S * US, rng.choice([STEPS_S, STEPS_S[:8], STEPS_S[1:6]])
    x = dict.fromkeys(devices, 50)
    for offset in range(length):
        now += round(rng.choice([0.0, 0.2, 1.0, 3.0, 20.0] * 6 + [400.0]) * US)
        if rng.random() < 0.15:
            ticks.append((offset, now, rng.random() < 0.1))
            continue
        device = rng.choice(devices)
        for _ in range(rng.choice([1, 1, 1, 1, 1, 3])):
            ats[device] += round(rng.choice(steps) * US)
            x[device] = max(0, min(100, x[device] + rng.randrange(-12, 13)))
            fields = {
                "x": x[device],
                "y": rng.randrange(7),
                "mode": rng.choice("ab"),
                "flag": rng.random() < 0.7,
            }
            kept = {name: value for name, value in fields.items() if rng.random() < 0.85}
            readings.append(Reading(offset, device, ats[device], now, kept))
    return readings, ticks


def run(
    rules: tuple[Rule, ...], readings: list[Reading], ticks: list[tuple[int, int, bool]], cuts: list[int]
) -> pl.DataFrame:
    """Return the findings of a run cut before these offsets, with a restart at each cut."""
    stage, state, found = stage_of(*rules), RuleState.empty(), [NO_FINDINGS]
    for low, high in itertools.pairwise([0, *cuts, 10**9]):
        rows = [
            (r.offset, r.device, r.at / US - START_S, r.fields, r.received / US - START_S)
            for r in readings
            if low <= r.offset < high
        ]
        told = [(o, at / US - START_S, start) for o, at, start in ticks if low <= o < high]
        findings, state = stage.run(state, {"pack": readings_of(*rows)}, ticks_of(*told))
        found.append(findings)
        state = RuleState.from_bytes(state.to_bytes()) if cuts else state
    return pl.concat(found)


def said(findings: pl.DataFrame) -> list[tuple]:
    return sorted(findings.select("offset", "device_id", "rule", "event", "since_offset").rows())


def by_device(readings: list[Reading]) -> list[list[Reading]]:
    return [[r for r in readings if r.device == device] for device in sorted({r.device for r in readings})]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["a", "abc"]), st.sampled_from([20, 80]))
def test_stage_finds_what_the_oracle_finds(seed: int, devices: str, length: int) -> None:
    """Every episode of every kind of rule begins and ends at the same entry."""
    readings, ticks = journal(seed, devices, length)
    expected = [one for own in by_device(readings) for rule in RULES for one in say_episodes(rule, own)]
    expected += [one for own in by_device(readings) for one in say_silences(SILENT, own, ticks)]
    assert sorted(expected) == said(run((*RULES, SILENT), readings, ticks, []))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**9), st.lists(st.integers(1, 79), max_size=4))
def test_cuts_and_restarts_do_not_show(seed: int, cuts: list[int]) -> None:
    """Findings, values and evidence of a cut run are those of the whole."""
    readings, ticks = journal(seed, "abc", 80)
    whole = run((*RULES, SILENT), readings, ticks, [])
    assert whole.equals(run((*RULES, SILENT), readings, ticks, sorted(cuts)))


@pytest.mark.parametrize("seed", range(2))
def test_long_batches_find_the_same_entry_by_entry(seed: int) -> None:
    """Each of 200 entries alone gives what all of them together give, and that is not nothing."""
    readings, ticks = journal(seed, "ab", 200)
    whole = run((*RULES, SILENT), readings, ticks, [])
    assert whole.equals(run((*RULES, SILENT), readings, ticks, list(range(1, 200))))
    assert {rule.name for rule in (*RULES, SILENT)} == set(whole["rule"])
