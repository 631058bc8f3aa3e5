"""Rules of contracts are resolved, checked against each other, and overridden."""

import msgspec
import pytest

from gateway.core.errors import ConfigError
from processors.contracts import parse_contract
from processors.contracts.catalogue import rule_text, span_text
from processors.contracts.conditions import Arithmetic, Comparison, FieldRef, Number
from processors.contracts.load import ContractSet, load_contracts
from processors.contracts.odcs import to_odcs
from processors.contracts.places import Located
from processors.contracts.rule_check import check_rules
from processors.contracts.rule_overrides import with_rule_overrides
from processors.contracts.rules import Rule

SAMPLE = """
stream: {stream}
version: 1.0.0
time: {{measured_at: {{path: ts}}}}
sampling: 1 s
fields:
  soc_pct: {{type: float, unit: "%"}}
  temp_c:  {{type: float, unit: degC}}
  power_kw: {{type: float, unit: kW}}
  mode:    {{type: enum, values: {{D: drive, N: neutral}}}}
rules:
  soc_low:
    title: Nearly empty
    when: soc_pct < 10
    for: 2 min
    clear: soc_pct > 15
    clear_for: 30 s
    needs: 5 min
    severity: warning
    inhibits: [soc_lower, {other}/soc_lower]
    check: Charge it.
    source: a standard
  soc_lower: {{when: soc_pct < 5, severity: critical}}
  stops: {{sequence: ["power_kw > 20", "mode == 'neutral'"], within: 1 min, clear_for: 10 s, severity: info}}
  drift: {{detect: drift, with: {{of: temp_c - 2 * soc_pct, least_width: 9 degF}}, severity: info}}
  peers:
    detect: peers
    with: {{of: temp_c, like: "soc_pct 10, power_kw 50000 W", margin: 3}}
    severity: info
  both: {{detect: together, with: {{rules: [soc_low, {other}/soc_lower]}}, severity: critical}}
"""


def sample(stream: str, other: str) -> str:
    """Return the contract of a stream whose rules name those of another."""
    return SAMPLE.format(stream=stream, other=other)


def both() -> ContractSet:
    """Return two contracts that name each other's rules."""
    return ContractSet(
        [parse_contract(sample("one", "two"), file="one.yaml"), parse_contract(sample("two", "one"), file="two.yaml")]
    )


def rules(contracts: ContractSet) -> dict[str, Rule]:
    """Return all rules by their ids."""
    return {rule.id: rule for contract in contracts for rule in contract.rules}


def overridden(text: str) -> dict[str, Rule]:
    """Return all rules after an override."""
    return rules(with_rule_overrides(both(), Located("alerts.yaml", text)))


# ---- one rule --------------------------------------------------------------------------------------------------------
def test_rule_with_a_condition_is_resolved() -> None:
    """Everything it says, in seconds and in units of the stream."""
    expected = Rule(
        stream="one",
        name="soc_low",
        title="Nearly empty",
        severity="warning",
        check="Charge it.",
        source="a standard",
        hold_s=120.0,
        clear_hold_s=30.0,
        needs_s=300.0,
        when=Comparison("<", FieldRef("soc_pct"), Number(10.0), "%"),
        clear=Comparison(">", FieldRef("soc_pct"), Number(15.0), "%"),
        when_text="soc_pct < 10",
        clear_text="soc_pct > 15",
        steps=(),
        step_texts=(),
        within_s=0.0,
        detector=None,
        parameters={},
        inhibits=("one/soc_lower", "two/soc_lower"),
        fields=("soc_pct",),
        unit="%",
        enabled=True,
    )
    assert expected == rules(both())["one/soc_low"]


def test_sequence_is_resolved() -> None:
    """Its steps in order, and the fields of all."""
    rule = rules(both())["one/stops"]
    assert ("power_kw > 20", "mode == 'neutral'") == rule.step_texts
    assert Comparison(">", FieldRef("power_kw"), Number(20.0), "kW") == rule.steps[0]
    assert (60.0, ("mode", "power_kw"), None) == (rule.within_s, rule.fields, rule.when)


def test_parameters_are_in_the_units_of_what_they_are_held_against() -> None:
    """A quantity of temperatures is a difference; defaults are filled in; steps of `like` are converted."""
    drift, peers = rules(both())["one/drift"], rules(both())["one/peers"]
    assert pytest.approx(5.0) == drift.parameters["least_width"]
    assert drift.parameters["every"] == 60.0
    product = Arithmetic("*", Number(2.0), FieldRef("soc_pct"))
    assert {"of": Arithmetic("-", FieldRef("temp_c"), product)} == drift.expressions
    assert (("soc_pct", "temp_c"), "degC") == (drift.fields, drift.unit)
    assert peers.parameters["like"] == "soc_pct 10, power_kw 50"
    assert ("power_kw", "soc_pct", "temp_c") == peers.fields


def test_lists_of_rules_are_full_names() -> None:
    """A name without a stream is one of the same stream."""
    assert rules(both())["one/both"].parameters == {"rules": "one/soc_low,two/soc_lower"}


def test_title_is_the_name_in_words_unless_there_is_one() -> None:
    """Nobody reads underscores."""
    assert rules(both())["one/soc_lower"].title == "soc lower"


def test_fingerprint_changes_with_what_decides_alone() -> None:
    """Words for people may change while an alert is open."""
    rule = rules(both())["one/soc_low"]
    for words in ({"title": "x"}, {"check": "x"}, {"severity": "info"}, {"inhibits": ()}, {"when_text": "x"}):
        assert rule.fingerprint() == msgspec.structs.replace(rule, **words).fingerprint()
    for decides in ({"hold_s": 1.0}, {"clear": None}, {"needs_s": None}, {"stream": "two"}, {"parameters": {"a": 1.0}}):
        assert rule.fingerprint() != msgspec.structs.replace(rule, **decides).fingerprint()


# ---- rules of all streams --------------------------------------------------------------------------------------------
def test_a_file_alone_may_name_rules_of_streams_that_are_not_there() -> None:
    """Whether those exist is known once all contracts are."""
    alone = parse_contract(sample("one", "two"), file="one.yaml")
    with pytest.raises(ConfigError, match=r"^one\.yaml:20: rules\.soc_low\.inhibits: there is no rule 'two/soc_lower'"):
        check_rules([alone])
    check_rules(both())


def test_inhibitions_may_not_go_round_over_streams() -> None:
    """The error is at one of them, and names all."""
    texts = [
        sample(one, other).replace("when: soc_pct < 5,", f"when: soc_pct < 5, inhibits: [{other}/soc_low],")
        for one, other in (("one", "two"), ("two", "one"))
    ]
    contracts = [parse_contract(text, file=f"{i}.yaml") for i, text in enumerate(texts)]
    message = r"^0\.yaml:20: rules\.soc_low\.inhibits: goes round: one/soc_low inhibits .* inhibits one/soc_low; delete"
    with pytest.raises(ConfigError, match=message):
        check_rules(contracts)


# ---- overrides -------------------------------------------------------------------------------------------------------
def test_override_changes_what_it_says_and_leaves_the_rest() -> None:
    """Other rules stay as they are."""
    changed = overridden("rules: {one/soc_low: {when: soc_pct < 12, severity: info}, one/peers: {with: {margin: 4}}}")
    before = rules(both())
    expected = msgspec.structs.replace(
        before["one/soc_low"],
        when=Comparison("<", FieldRef("soc_pct"), Number(12.0), "%"),
        when_text="soc_pct < 12",
        severity="info",
    )
    assert expected == changed["one/soc_low"]
    assert {**before["one/peers"].parameters, "margin": 4.0} == changed["one/peers"].parameters
    untouched = set(before) - {"one/soc_low", "one/peers"}
    assert {name: before[name] for name in untouched} == {name: changed[name] for name in untouched}


def test_override_may_make_it_another_kind() -> None:
    """Keys that belong to the old kind go with it."""
    changed = overridden("rules: {one/soc_low: {detect: silent}, one/drift: {when: temp_c > 50}}")
    assert ("silent", None, 0.0) == (
        changed["one/soc_low"].detector,
        changed["one/soc_low"].when,
        changed["one/soc_low"].hold_s,
    )
    assert (None, {}, "temp_c > 50") == (
        changed["one/drift"].detector,
        changed["one/drift"].parameters,
        changed["one/drift"].when_text,
    )


def test_override_may_follow_another() -> None:
    """What was overridden before is what is written then."""
    once = with_rule_overrides(both(), Located("a.yaml", "rules: {one/soc_low: {for: 3 min}}"))
    twice = rules(with_rule_overrides(once, Located("b.yaml", "rules: {one/soc_low: {when: soc_pct < 12}}")))
    assert (180.0, "soc_pct < 12") == (twice["one/soc_low"].hold_s, twice["one/soc_low"].when_text)


def test_switched_off_rule_stays_in_the_contract() -> None:
    """It is there to be switched on again."""
    changed = overridden("rules: {one/soc_lower: {enabled: false}, two/both: {enabled: false}}")
    assert (False, True) == (changed["one/soc_lower"].enabled, changed["one/soc_low"].enabled)


def test_no_overrides_change_nothing() -> None:
    """An empty section is none."""
    assert rules(both()) == overridden("rules:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules:\n  one/soc_lo: {enabled: false}", "2: rules.one/soc_lo: there is no rule 'one/soc_lo'; write"),
        ("rules:\n  soc_low: {enabled: false}", "2: rules.soc_low: there is no rule 'soc_low'; write '"),
        ("rules: [one/soc_low]", "1: rules: is no mapping; write 'stream/rule:' and below it the keys to change"),
        ("rules:\n  one/soc_low: false", "2: rules.one/soc_low: is no mapping; write the keys to change"),
        ("rules:\n  one/soc_low:\n    fro: 1 s", "3: rules.one/soc_low.fro: unknown key 'fro'; write 'for'"),
        ("rules:\n  one/soc_low:\n    for: 1", "3: rules.one/soc_low.for: 1 is not usable; input should be text"),
        ("rules:\n  one/soc_low:\n    when: soc < 1", "3: rules.one/soc_low.when: there is no field 'soc'; write"),
        ("rules:\n  one/soc_low:\n    for: 10 ms", "3: rules.one/soc_low.for: 10 ms is shorter than 1 s"),
        ("rules:\n  one/soc_low:\n    when: soc_pct < 20", "2: rules.one/soc_low.clear: 'soc_pct > 15' holds while"),
        (
            "rules:\n  one/soc_low:\n    when: soc_pct < 20\n    detect: silent",
            "4: rules.one/soc_low.detect: has 'when' and 'detect'; write exactly one",
        ),
        ("rules:\n  one/peers:\n    with: {margins: 3}", "3: rules.one/peers.with.margins: there is no parameter"),
        (
            "rules:\n  one/soc_lower:\n    inhibits: [soc_low]",
            "3: rules.one/soc_lower.inhibits: goes round: one/soc_lower inhibits one/soc_low inhibits one/soc_lower;",
        ),
        (
            "rules:\n  one/soc_lower:\n    enabled: false",
            "3: rules.one/soc_lower.enabled: 'two/both' never fires without it; switch 'two/both' off too",
        ),
    ],
)
def test_override_that_cannot_be_used_is_named(text: str, message: str) -> None:
    """The line is that of the file that people wrote it in."""
    with pytest.raises(ConfigError) as caught:
        overridden(text)
    assert message in str(caught.value)


# ---- words -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("soc_low", "`soc_pct < 10` for 2 min; ends with `soc_pct > 15` for 30 s"),
        ("soc_lower", "`soc_pct < 5`"),
        ("stops", "`power_kw > 20`, then `mode == 'neutral'`, within 1 min; ends after 10 s without"),
        ("drift", "`drift` with of `temp_c - 2 * soc_pct`, least_width `5`"),
        ("peers", "`peers` with of `temp_c`, like `soc_pct 10, power_kw 50`, margin `3`"),
        ("both", "`together` with rules `one/soc_low, two/soc_lower`"),
    ],
)
def test_rule_is_told_in_one_line(rule: str, text: str) -> None:
    """For the catalogue and the reference."""
    assert text == rule_text(rules(both())[f"one/{rule}"])


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "0.5 s"), (90.0, "90 s"), (300.0, "5 min"), (172_800.0, "2 d")])
def test_span_is_written_as_in_a_contract(seconds: float, text: str) -> None:
    """In the largest unit that leaves no fraction."""
    assert text == span_text(seconds)


def test_exported_contract_has_its_rules() -> None:
    """Other tools read what is watched."""
    contract = both().by_stream("one")
    assert contract is not None
    (exported,) = [one for one in to_odcs(contract)["customProperties"] if one["property"] == "alertRules"]
    assert [rule.name for rule in contract.rules] == [rule["name"] for rule in exported["value"]]
    assert {"title": "Nearly empty", "source": "a standard"}.items() <= exported["value"][0].items()


# ---- the rules that come with Voltgate -------------------------------------------------------------------------------
BUILT_IN = rules(load_contracts([]))


@pytest.mark.parametrize("rule", BUILT_IN)
def test_built_in_rule_says_what_a_person_needs(rule: str) -> None:
    """What is wrong, what to look at, and where the limit comes from."""
    known = BUILT_IN[rule]
    assert known.title[0].isupper()
    assert known.check.endswith(".")
    assert len(known.source) > 20
    assert known.enabled


@pytest.mark.parametrize("rule", [name for name, rule in BUILT_IN.items() if rule.hold_s])
def test_built_in_rule_that_waits_knows_gaps_and_hysteresis(rule: str) -> None:
    """A device that comes back after a day must not fire for what it said before, nor flap at the limit."""
    known = BUILT_IN[rule]
    assert known.needs_s is not None
    assert known.clear is not None
    assert known.clear_hold_s > 0


@pytest.mark.parametrize(
    ("alert", "warning"),
    [
        ("battery_pack/thermal_runaway", "battery_pack/thermal_precursor"),
        ("battery_pack/cell_temp_critical", "battery_pack/cell_temp_high"),
        ("battery_pack/cell_temp_deviation_high", "battery_pack/cell_temp_deviation"),
        ("battery_pack/cell_voltage_deviation_high", "battery_pack/cell_voltage_deviation"),
        ("battery_pack/isolation", "battery_pack/isolation_low"),
        ("battery_pack/bms_fault", "battery_pack/fault_codes"),
        ("charger_status/offline", "charger_meter/derating"),
        ("charger_status/faulted", "charger_meter/derating"),
        ("charger_meter/temperature_critical", "charger_meter/temperature_high"),
    ],
)
def test_built_in_rules_inhibit_what_follows_from_them(alert: str, warning: str) -> None:
    """One page for one cause."""
    assert warning in BUILT_IN[alert].inhibits
