"""The stage as a whole: what it costs nobody, what it forgets, what it says of healthy chargers and known mishaps."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from gateway.core.errors import CheckpointError
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import TICK_ROUTE, Envelope, Route, to_batch
from processors.stages import charger_rule_fold
from processors.stages.chain import Chain
from processors.stages.charger_rules import DETECTORS, ChargerRuleStage, ChargerRuleState
from processors.stages.findings import FINDINGS_SCHEMA
from tests.unit.processors.stages.charger_rule_frames import (
    CONTRACTS,
    PARAMETERS,
    all_rules,
    connected,
    disconnected,
    episodes,
    frames_of,
    in_order,
    rule,
    run,
    stage_of,
    tick,
    ticks,
)
from tests.unit.processors.stages.session_frames import answer, meter, start, status, stop

GOLDEN = Path(__file__).parents[3] / "golden" / "ocpp"
START = datetime(2026, 9, 21, 13, 40, tzinfo=UTC)
_CHAIN = Chain(CONTRACTS)

MISHAPS: dict[str, set[str]] = {
    "register_fell": {"register"},
    "register_jumped": {"register"},
    "register_reset": {"register"},
    "register_zero": {"register"},
    "register_zero_bare": {"register"},
    "unknown_stop": {"ghost"},
    "late_stop": {"zombie"},
    "no_stop_available": {"zombie"},
    "no_stop_silence": {"zombie"},
}
"""Golden case -> rules that must tell of it; all other cases are mishaps that the session stage heals, or none."""


def _envelope(line: dict[str, Any]) -> Envelope:
    received_at_ns = round((START + timedelta(seconds=line["at"])).timestamp()) * 1_000_000_000
    if "channel" not in line:
        return Envelope(received_at_ns=received_at_ns, route=TICK_ROUTE, payload=b"")
    source = "ocpp" if "frame" in line else "gateway" if line["channel"] == "asset" else "mqtt"
    route = Route(TenantId("acme"), DeviceId(line.get("device", "cp-1")), source, Channel(line["channel"]))
    payload = json.dumps(line["frame"] if "frame" in line else line["message"]).encode()
    return Envelope(received_at_ns=received_at_ns, route=route, payload=payload)


def _ticks_of(raw: list[Envelope]) -> pl.DataFrame:
    rows = [(i, one.received_at_ns // 1000, False) for i, one in enumerate(raw) if one.route == TICK_ROUTE]
    times = {"offset": pl.Int64(), "received_at": pl.Datetime("us", "UTC"), "is_start": pl.Boolean()}
    return pl.DataFrame(rows, schema=times, orient="row")


@pytest.mark.parametrize("case", sorted(GOLDEN.iterdir()), ids=lambda case: case.name)
def test_each_mishap_known_from_the_field_is_told_by_the_rule_that_is_made_for_it(case: Path) -> None:
    """Frames through the chain: a clean session, and one that can be healed, gives no finding."""
    lines = [json.loads(line) for line in (case / "frames.jsonl").read_text("utf-8").splitlines()]
    envelopes = [_envelope(line) for line in lines if "mishap" not in line]
    outputs, _ = _CHAIN.run(to_batch(Offset(0), envelopes), _CHAIN.empty_state())
    found, _ = ChargerRuleStage(CONTRACTS).run(ChargerRuleState.empty(), outputs.tables, _ticks_of(envelopes))
    assert MISHAPS.get(case.name, set()) == set(found["rule"])


def test_each_detector_has_a_built_in_rule_with_the_parameters_of_these_tests() -> None:
    """What the tests say of the detectors holds for the rules that come with Voltgate."""
    rules = [rule for contract in CONTRACTS for rule in contract.rules if rule.detector in DETECTORS]
    expected = {name: parameters for name, (_, parameters) in PARAMETERS.items() if name != "security_event"}
    actual = {rule.detector: rule.parameters for rule in rules if rule.detector != "security_event"}
    assert (set(DETECTORS), expected) == ({rule.detector for rule in rules}, actual)


def test_findings_have_the_columns_of_findings() -> None:
    """Found or not."""
    words = in_order(connected(0), disconnected(100), ticks(0, 900))
    assert pl.Schema(FINDINGS_SCHEMA) == run([rule("offline")], words)[0].schema
    assert pl.Schema(FINDINGS_SCHEMA) == run([rule("offline")], [tick(0)])[0].schema


def test_without_words_of_chargers_nothing_is_kept() -> None:
    """Ticks alone leave the state as it was, but for the tick."""
    stage, state = stage_of(all_rules()), ChargerRuleState.empty()
    frames, passed = frames_of(list(enumerate(ticks(0, 100))))
    found, after = stage.run(state, frames, passed)
    assert (0, {}, []) == (found.height, after.chargers, after.plan)


def test_a_deployment_without_chargers_has_nothing_to_do() -> None:
    """Without the contracts, or without a rule, every state is returned as it is."""
    state = ChargerRuleState.empty()
    frames, passed = frames_of([(0, connected(0)), (1, tick(10))])
    _, after = stage_of([]).run(state, frames, passed)
    assert after is state


def test_a_run_leaves_the_state_before_it_as_it_was() -> None:
    """A batch that fails is run again from the same state."""
    words = in_order(
        connected(0), start(0), answer(0), status(1, "Charging"), *(meter(60 * i, 1000, 0.0) for i in range(5))
    )
    _, state = run(all_rules(), words)
    before = state.to_bytes()
    more = in_order(*(meter(60 * i, 1000, 0.0) for i in range(5, 20)), status(1300, "Faulted"), disconnected(1400))
    frames, passed = frames_of(list(enumerate([*more, *ticks(1400, 3000)], start=100)))
    found, _ = stage_of(all_rules()).run(state, frames, passed)
    assert ("stalled" in set(found["rule"]), before) == (True, state.to_bytes())


def test_a_disabled_rule_finds_nothing() -> None:
    """It is in the contract, and switched off."""
    off = msgspec.structs.replace(rule("offline"), enabled=False)
    assert [] == episodes([off], in_order(connected(0), disconnected(100), ticks(0, 900)))


def test_a_rule_that_changed_forgets_what_it_told_and_the_others_do_not() -> None:
    """Its episodes are not ended by it; the alert life cycle sees that the rule is another one."""
    words = in_order(connected(0), disconnected(100), ticks(0, 900))
    _, state = run([rule("offline"), rule("reboots")], words)
    changed = stage_of([rule("offline", grace=120.0), rule("reboots")])
    frames, passed = frames_of([(1000, connected(2000, 2))])
    found, after = changed.run(state, frames, passed)
    assert ([], {}) == (found.rows(), after.chargers["acme", "cp-1"].open)


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\xff\xff", msgspec.msgpack.encode({"version": 99})])
def test_bytes_that_are_no_state_are_an_error(payload: bytes) -> None:
    """The chain then begins the rules anew."""
    with pytest.raises(CheckpointError):
        ChargerRuleState.from_bytes(payload)


def test_past_the_bound_those_quiet_longest_are_forgotten_and_what_was_told_of_them_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No state grows without bound, and no alert stays open for what nobody watches."""
    monkeypatch.setattr(charger_rule_fold, "CHARGERS_WATCHED_MAX", 3)
    words = in_order(
        connected(0, device="a"),
        disconnected(10, device="a"),
        ticks(700, 710),
        *(connected(800 + i, device=name) for i, name in enumerate("bcd")),
    )
    found, state = run([rule("offline")], words)
    assert [("a", "begins"), ("a", "ends")] == found.select("device_id", "event").rows()
    assert ["b", "c", "d"] == [device for _, device in state.chargers]


def test_a_charger_that_makes_up_connectors_is_watched_for_some() -> None:
    """The rest of what it says is in the lake."""
    words = [status(float(i), "Available", connector=str(i)) for i in range(1, 200)]
    _, state = run(all_rules(), words)
    assert 64 == len(state.chargers["acme", "cp-1"].places)


def test_a_day_of_healthy_sessions_gives_no_finding() -> None:
    """Sessions of two connectors, a night without, a reconnect now and then."""
    words = [connected(0), status(1, "Available", connector="1"), status(1, "Available", connector="2")]
    for number in range(20):
        for connector in ("1", "2"):
            at = 100 + 4000 * number + 700 * int(connector)
            named: dict[str, Any] = {"connector": connector}
            words += [
                status(at - 5, "Preparing", **named),
                start(at, 1000.0 * number, message=f"m{at}", **named),
                answer(at, str(at), message=f"m{at}", **named),
                status(at + 1, "Charging", **named),
                *(
                    meter(at + 60 * i, 1000.0 * number + 16 * i, 1.0, transaction=str(at), soc_pct=40.0 + i, **named)
                    for i in range(1, 40)
                ),
                status(at + 2400, "SuspendedEV", **named),
                *(meter(at + 60 * i, 1000.0 * number + 640, 0.0, transaction=str(at), **named) for i in range(41, 50)),
                stop(at + 3000, 1000.0 * number + 640, str(at), **named),
                status(at + 3001, "Finishing", **named),
                status(at + 3002, "Available", **named),
            ]
    words += [disconnected(30_000), connected(30_400, 2)]
    assert [] == episodes(all_rules(), in_order(words, ticks(0, 90_000, 10)))
