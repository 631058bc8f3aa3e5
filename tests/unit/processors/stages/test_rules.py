"""Rules over readings: when an episode begins and ends, whose it is, and what it shows."""

import json

import msgspec
import polars as pl
import pytest

from gateway.core.errors import CheckpointError
from processors.contracts.conditions import Any_, Arithmetic, Every, Not, Number
from processors.stages import rule_codes
from processors.stages import rules as rules_stage
from processors.stages.findings import FINDINGS_SCHEMA
from processors.stages.rules import RuleState
from tests.unit.processors.stages.rule_frames import (
    FLAG,
    HOT,
    MODE,
    X,
    Y,
    compare,
    find,
    past,
    readings_of,
    rule_of,
    stage_of,
    ticks_of,
    told,
)


def test_rule_without_for_begins_and_ends_at_once() -> None:
    """The first reading over the limit begins, the first one not over it ends."""
    found = find(stage_of(rule_of()), readings_of((1, "a", 0, 50), (2, "a", 1, 61), (3, "a", 2, 70), (4, "a", 3, 60)))
    assert [("a", "begins", 1.0, 2, 2, 61.0, 60.0), ("a", "ends", 3.0, 4, 2, 60.0, 60.0)] == told(
        found, "offset", "since_offset", "value", "limit"
    )
    assert FINDINGS_SCHEMA == dict(found.schema)


def test_rule_with_for_begins_where_the_time_is_reached() -> None:
    """It begins at the first reading three seconds after the first over the limit, whose entry names it."""
    rows = [(1, "a", 0, 50), (2, "a", 1, 61), (3, "a", 2, 61), (4, "a", 3.9, 61), (5, "a", 4, 61), (6, "a", 5, 61)]
    found = find(stage_of(rule_of(hold_s=3.0)), readings_of(*rows))
    assert [("a", "begins", 4.0, 5, 2, 1.0)] == told(found, "offset", "since_offset", "since")


def test_false_reading_starts_the_time_anew() -> None:
    """Two seconds over the limit, one below, two over: never three."""
    rows = [(1, "a", 0, 61), (2, "a", 2, 61), (3, "a", 2.5, 59), (4, "a", 3, 61), (5, "a", 5, 61)]
    assert [] == told(find(stage_of(rule_of(hold_s=3.0)), readings_of(*rows)))


def test_missing_value_leaves_what_is_pending_as_it_is() -> None:
    """A null neither begins, nor counts as below the limit, nor completes the time."""
    rows = [(1, "a", 0, None), (2, "a", 1, 61), (3, "a", 2, None), (4, "a", 5, None), (5, "a", 6, 61)]
    found = find(stage_of(rule_of(hold_s=3.0)), readings_of(*rows))
    assert [("a", "begins", 6.0, 2)] == told(found, "since_offset")


def test_gap_starts_the_time_anew() -> None:
    """Readings further apart than `needs` say nothing of the time between."""
    rows = [(1, "a", 0, 61), (2, "a", 2, 61), (3, "a", 12, 61), (4, "a", 14, 61), (5, "a", 16, 61)]
    found = find(stage_of(rule_of(hold_s=3.0, needs_s=5.0)), readings_of(*rows))
    assert [("a", "begins", 16.0, 3)] == told(found, "since_offset")


def test_gap_leaves_an_open_episode_open() -> None:
    """What began before a gap goes on after it, under the same name."""
    rows = [(1, "a", 0, 61), (2, "a", 100, 61), (3, "a", 101, 59)]
    found = find(stage_of(rule_of(needs_s=5.0)), readings_of(*rows))
    assert [("a", "begins", 0.0, 1), ("a", "ends", 101.0, 1)] == told(found, "since_offset")


def test_clear_is_another_limit_that_must_hold() -> None:
    """Between the limits nothing ends; below the lower one it ends when that has held, and a null does not count."""
    rule = rule_of(clear=compare(X, "<", 55), clear_hold_s=2.0)
    rows = [(1, "a", 0, 61), (2, "a", 1, 58), (3, "a", 2, 54), (4, "a", 3, 56), (5, "a", 4, 54), (6, "a", 5, None)]
    found = find(stage_of(rule), readings_of(*rows), readings_of((7, "a", 6, None), (8, "a", 7, 54)))
    assert [("a", "begins", 0.0), ("a", "ends", 7.0)] == told(found)


def test_gap_starts_the_time_of_clear_anew() -> None:
    """One reading below the limit on each side of a gap is not two seconds below it."""
    rule = rule_of(clear_hold_s=2.0, needs_s=5.0)
    rows = [(1, "a", 0, 61), (2, "a", 1, 59), (3, "a", 11, 59), (4, "a", 13, 59)]
    assert [("a", "begins", 0.0), ("a", "ends", 13.0)] == told(find(stage_of(rule), readings_of(*rows)))


def test_older_reading_is_ignored() -> None:
    """Late data begins nothing, ends nothing and is not the reading before."""
    rule = rule_of("jump", when=compare(past("previous", X), "<", X))
    rows = [(1, "a", 10, 50), (2, "a", 5, 40), (3, "a", 11, 50), (4, "a", 7, 90), (5, "a", 12, 51)]
    assert [("a", "begins", 12.0)] == told(find(stage_of(rule), readings_of(*rows[:2]), readings_of(*rows[2:])))
    assert [("a", "begins", 12.0)] == told(find(stage_of(rule), readings_of(*rows)))


def test_later_reading_of_the_same_time_counts() -> None:
    """A charger's clock of whole seconds gives two states the same time: the journal says which is newer."""
    found = find(stage_of(rule_of()), readings_of((1, "a", 0, 50), (2, "a", 0, 61), (3, "a", 0, 59)))
    assert [("a", "begins", 0.0, 2), ("a", "ends", 0.0, 3)] == told(found, "offset")


def test_devices_and_parts_do_not_mix() -> None:
    """Each part of each device has its own episode; a reading without a part is one of its own."""
    stage = stage_of(rule_of(hold_s=1.0), part="mode")
    rows = [
        (1, "a", 0, {"x": 61, "mode": "1"}),
        (2, "b", 0, {"x": 61, "mode": "1"}),
        (3, "a", 0.5, {"x": 10, "mode": "2"}),
        (4, "a", 1, {"x": 61, "mode": "1"}),
        (5, "a", 1, {"x": 61}),
        (6, "a", 2, {"x": 61}),
    ]
    found = find(stage, readings_of(*rows[:3]), readings_of(*rows[3:]))
    assert [("a", "begins", 1.0, "1", 1), ("a", "begins", 2.0, None, 5)] == told(found, "part", "since_offset")


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (compare(Arithmetic("/", X, Y), ">", 1), []),
        (Every((HOT, compare(Y, ">", 1))), []),
        (Any_((HOT, compare(Y, ">", 1))), ["begins"]),
        (Not(compare(Y, ">", 1)), ["begins"]),
        (Every((HOT, Not(FLAG))), []),
        (compare(MODE, "==", "b"), ["begins"]),
        (compare(Arithmetic("*", X, Number(1e308)), ">", 1), []),
        (compare(Arithmetic("+", Arithmetic("*", X, Number(1e307)), Arithmetic("*", X, Number(1e307))), ">", 1), []),
    ],
    ids=["divided by zero", "and", "or", "not", "truth missing", "text", "overflow", "overflow of a sum"],
)
def test_conditions_know_true_false_and_missing(when: object, expected: list[str]) -> None:
    """With x = 61, y = 0 and flag missing."""
    found = find(stage_of(rule_of(when=when)), readings_of((1, "a", 0, {"x": 61, "y": 0, "mode": "b"})))
    assert expected == found["event"].to_list()


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
def test_number_that_is_not_finite_is_missing(value: float) -> None:
    """NaN is greater than anything in Polars; here it is nothing."""
    stage = stage_of(rule_of(hold_s=1.0))
    assert [] == told(find(stage, readings_of((1, "a", 0, value), (2, "a", 1, value))))


def test_sequence_begins_when_its_last_step_follows_in_time() -> None:
    """a, then b within five seconds: the a that started last counts, and names the episode."""
    rule = rule_of(steps=(compare(MODE, "==", "a"), compare(MODE, "==", "b")), within_s=5.0)
    rows = [(i, "a", at, {"mode": mode}) for i, at, mode in [(1, 0, "b"), (2, 1, "a"), (3, 3, "a"), (4, 8, "b")]]
    rows += [(5, "a", 9, {"mode": None}), (6, "a", 10, {"mode": "c"})]
    found = find(stage_of(rule), readings_of(*rows))
    assert [("a", "begins", 8.0, 3), ("a", "ends", 10.0, 3)] == told(found, "since_offset")


def test_sequence_that_takes_too_long_is_none() -> None:
    """Six seconds are more than five."""
    rule = rule_of(steps=(compare(MODE, "==", "a"), compare(MODE, "==", "b")), within_s=5.0)
    assert [] == told(find(stage_of(rule), readings_of((1, "a", 0, {"mode": "a"}), (2, "a", 6, {"mode": "b"}))))


def test_one_reading_is_not_two_steps() -> None:
    """Steps follow one another: the second needs a later reading."""
    rule = rule_of(steps=(HOT, compare(X, ">", 50)), within_s=5.0)
    assert [("a", "begins", 1.0)] == told(find(stage_of(rule), readings_of((1, "a", 0, 61), (2, "a", 1, 55))))


def test_finding_shows_the_comparison_that_is_true_and_the_readings() -> None:
    """Value, limit and unit are those of the first comparison that holds; text of a peer is made inert."""
    rule = rule_of(when=Any_((HOT, compare(Number(3.0), ">", Y))), fields=("mode", "x", "y"))
    found = find(stage_of(rule), readings_of((1, "a", 0, {"x": 20, "y": 2.5, "mode": "a\nb"})))
    assert [("a", "begins", 0.0, 2.5, 3.0, "V")] == told(found, "value", "limit", "unit")
    evidence = json.loads(found["evidence"][0])
    assert {"readings": {"mode": "a\\nb", "x": 20.0, "y": 2.5}, "limit": "x > 60 degC"} == evidence


def test_finding_of_a_function_shows_its_value_and_the_samples() -> None:
    """The history is what the function saw, so it is the same wherever the journal was cut."""
    rule = rule_of(when=compare(past("change", X, 8.0), ">", 5))
    found = find(stage_of(rule), readings_of(*((i, "a", i, 50 if i < 9 else 56) for i in range(10))))
    evidence = json.loads(found["evidence"][0])
    assert {"change(x, 8 s)": 6.0} == evidence["functions"]
    assert [50.0] * 8 + [56.0] == [value for _, value in evidence["history"]]
    assert "2026-09-21T14:13:29Z" == evidence["history"][-1][0]


def test_rule_that_is_not_enabled_finds_nothing() -> None:
    """`enabled: false` switches it off."""
    assert [] == told(find(stage_of(rule_of(enabled=False)), readings_of((1, "a", 0, 61))))


def test_changed_rule_forgets_what_was_pending_and_the_others_do_not() -> None:
    """State belongs to a definition: under another limit the time starts anew, samples of other rules stay."""
    rise = rule_of("rise", when=compare(past("change", Y, 8.0), ">", 5))
    old, new = (stage_of(rule_of(hold_s=2.0, when=compare(X, ">", limit)), rise) for limit in (60, 59))
    readings = [readings_of(*((i, "a", i, {"x": 61, "y": 0}) for i in range(2))), readings_of((2, "a", 2, {"x": 61}))]
    _, state = old.run(RuleState.empty(), {"pack": readings[0]}, ticks_of())
    state = RuleState.from_bytes(state.to_bytes())
    assert ["hot"] == old.run(state, {"pack": readings[1]}, ticks_of())[0]["rule"].to_list()
    assert [] == new.run(state, {"pack": readings[1]}, ticks_of())[0]["rule"].to_list()
    later = readings_of((3, "a", 6, {"x": 1, "y": 9}))
    assert ["rise"] == new.run(state, {"pack": later}, ticks_of())[0]["rule"].to_list()


def test_samples_survive_a_new_rule_with_a_series_of_its_own() -> None:
    """Series are told apart by argument and span, not by their place."""
    rise = rule_of("rise", when=compare(past("change", Y, 8.0), ">", 5))
    other = rule_of("other", when=compare(past("change", X, 4.0), ">", 500))
    before = readings_of(*((i, device, i, {"x": 0, "y": 0}) for i in range(6) for device in "ab"))
    _, state = stage_of(rise).run(RuleState.empty(), {"pack": before}, ticks_of())
    now = readings_of((9, "a", 6, {"y": 9}), (10, "b", 6, {"y": 4}))
    assert ["a"] == stage_of(other, rise).run(state, {"pack": now}, ticks_of())[0]["device_id"].to_list()


def test_devices_not_heard_from_for_longest_are_forgotten_at_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit the quiet go, first those without an open episode; cuts do not show."""
    monkeypatch.setattr(rules_stage, "DEVICES_MAX", 4)
    monkeypatch.setattr(rules_stage, "_KEPT", 3)
    rules = (rule_of(), rule_of("jump", when=compare(past("previous", X), "<", X)))
    rows = [(i, device, i, value) for i, (device, value) in enumerate(zip("abcdef", (61, 1, 1, 1, 1, 1), strict=True))]
    again = readings_of(*((20 + i, device, 20 + i, 99) for i, device in enumerate("abcdef")))
    whole = stage_of(*rules).run(
        RuleState.empty(), {"pack": pl.concat([readings_of(*rows), again])}, ticks_of((10, 10))
    )[0]
    assert ["a", "e", "f"] == sorted(whole.filter(pl.col("rule") == "jump")["device_id"])
    state, cut = RuleState.empty(), []
    stage = stage_of(*rules)
    for frame, ticks in ((readings_of(*rows), ticks_of()), (readings_of(), ticks_of((10, 10))), (again, ticks_of())):
        findings, state = stage.run(RuleState.from_bytes(state.to_bytes()), {"pack": frame}, ticks)
        cut.append(findings)
    assert whole.equals(pl.concat(cut))


def test_state_of_a_run_that_failed_is_left_as_it_was() -> None:
    """Running twice from the same state gives the same: nothing is written into it."""
    stage = stage_of(rule_of(), rule_of("rise", when=compare(past("change", X, 8.0), ">", 5)))
    _, state = stage.run(RuleState.empty(), {"pack": readings_of((1, "a", 0, 1))}, ticks_of())
    other = readings_of((2, "c", 1, 99), (3, "a", 1, 99))
    stage.run(state, {"pack": other}, ticks_of())
    rows = readings_of((2, "b", 1, 2), (3, "a", 6, 99), (4, "c", 7, 1))
    packed = state.to_bytes()
    again = stage.run(state, {"pack": rows}, ticks_of())[0]
    assert again.equals(stage.run(RuleState.from_bytes(packed), {"pack": rows}, ticks_of())[0])
    assert ["hot", "rise"] == again["rule"].to_list()


@pytest.mark.parametrize("dict_rows", [3_000, -1_000], ids=["dict", "join"])
def test_devices_of_two_tenants_may_share_a_name(monkeypatch: pytest.MonkeyPatch, dict_rows: int) -> None:
    """Whichever way codes are looked up, a device is that of its tenant, and new ones are added between known ones."""
    monkeypatch.setattr(rule_codes, "_DICT_ROWS", dict_rows)
    stage = stage_of(rule_of(hold_s=1.0))
    one, two, both = (readings_of((i, "a", i, 61), (i, "b", i, 61)) for i in range(3))
    two = two.with_columns(tenant=pl.lit("other"))
    both = pl.concat([both, both.with_columns(tenant=pl.lit("other")), readings_of((3, "c", 3, 61))])
    found = find(stage, one, two, both)
    assert [("acme", "a", 0), ("acme", "b", 0), ("other", "a", 1), ("other", "b", 1)] == sorted(
        found.select("tenant", "device_id", "since_offset").rows()
    )


def test_state_that_cannot_be_read_is_refused() -> None:
    """Bytes of another version, or of none, are an error with its mend."""
    other = msgspec.msgpack.encode({"version": 99})
    with pytest.raises(CheckpointError, match="is version 99, not 1"):
        RuleState.from_bytes(other)
    with pytest.raises(CheckpointError, match="unreadable"):
        RuleState.from_bytes(b"x")
