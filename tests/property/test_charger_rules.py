"""Findings about chargers are what the journal says: how it is cut does not show, nor who was looked at in vain."""

from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from processors.stages import charger_rule_fold
from processors.stages.charger_rule_record import Charger
from tests.unit.processors.stages.charger_rule_frames import (
    boot,
    connected,
    disconnected,
    order,
    rule,
    run,
    security,
    tick,
)
from tests.unit.processors.stages.session_frames import Said, answer, asset, event, meter, start, status, stop

RULES = [
    rule("offline"),
    rule("reboots", boots=1.0),
    rule("auth_failures", failures=2.0),
    rule("security_event"),
    rule("wrong_clock", messages=2.0),
    rule("unusable", least=60.0, gaps=1.0, gaps_least=1.0, attempts=2.0),
    rule("ghost"),
    rule("zombie", silent=3600.0),
    rule("stalled", span=60.0),
    rule("derating", span=60.0, sessions=1.0, sessions_measured=1.0),
    rule("register"),
]
"""All detectors, quick to find something."""

DEVICES = st.sampled_from(["a", "b"])
CONNECTORS = st.sampled_from(["1", "2"])
TRANSACTIONS = st.sampled_from(["1", "2", "3"])
STATES = st.sampled_from(["Available", "Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Faulted"])
STATES_2 = st.sampled_from(["Available", "Occupied", "Faulted"])
REGISTERS = st.sampled_from([0.0, 1000.0, 2000.0, 3000.0, 900_000.0])
POWERS = st.sampled_from([None, 0.0, 20.0, 60.0])
PROFILE = '{"connectorId":1,"csChargingProfiles":{"chargingProfileId":1}}'
GENERATIONS = st.integers(1, 3)


def _event_2(device: str, kind: str, transaction: str, state: str, *, offline: bool) -> Said:
    named: dict[str, Any] = {"transaction": transaction, "version": "2.0.1", "connector": "1/1"}
    return event(kind, 0, device=device, charging_state=state, offline=offline, seq_no=0, **named)


WORDS: list[st.SearchStrategy[Said]] = [
    st.builds(lambda device, n: connected(0, n, device=device), DEVICES, GENERATIONS),
    st.builds(lambda device, n: disconnected(0, n, device=device), DEVICES, GENERATIONS),
    st.builds(lambda device: boot(0, device=device), DEVICES),
    st.builds(
        lambda device, name: security(0, name, device=device),
        DEVICES,
        st.sampled_from(["CsmsFailedToAuthenticate", "MemoryExhaustion", "TamperDetectionActivated"]),
    ),
    st.builds(lambda device, word, plug: status(0, word, connector=plug, device=device), DEVICES, STATES, CONNECTORS),
    st.builds(
        lambda device, word, plug: status(0, word, connector=plug, version="2.0.1", device=device),
        DEVICES,
        STATES_2,
        st.sampled_from(["1/1", "1/2"]),
    ),
    st.builds(
        lambda device, wh, number, plug: start(0, wh, message=number, connector=plug, device=device),
        DEVICES,
        REGISTERS,
        TRANSACTIONS,
        CONNECTORS,
    ),
    st.builds(lambda device, number: answer(0, number, message=number, device=device), DEVICES, TRANSACTIONS),
    st.builds(lambda device, wh, number: stop(0, wh, number, device=device), DEVICES, REGISTERS, TRANSACTIONS),
    st.builds(lambda device: event("authorize", 0, connector=None, device=device), DEVICES),
    st.builds(
        _event_2,
        DEVICES,
        st.sampled_from(["start", "update", "end"]),
        TRANSACTIONS,
        st.sampled_from(["Charging", "SuspendedEV", "SuspendedEVSE"]),
        offline=st.booleans(),
    ),
    st.builds(
        lambda device, wh, kw, offered, soc, number, plug: meter(
            0, wh, kw, transaction=number, connector=plug, device=device, power_offered_kw=offered, soc_pct=soc
        ),
        DEVICES,
        REGISTERS,
        POWERS,
        POWERS,
        st.sampled_from([None, 40.0, 99.0]),
        TRANSACTIONS,
        CONNECTORS,
    ),
    st.builds(
        lambda step, action, request: order(0, step, action, PROFILE, request),
        st.sampled_from(["submitted", "accepted"]),
        st.sampled_from(["SetChargingProfile", "ClearChargingProfile", "RemoteStartTransaction"]),
        st.sampled_from(["r1", "r2"]),
    ),
    st.builds(lambda device: asset("charger", device, rated_power_kw=60.0, connectors=1), DEVICES),
    st.builds(lambda: tick(0)),
    st.builds(lambda: tick(0)),
    st.builds(lambda is_start: tick(0, is_start=is_start), st.booleans()),
]


def _session(device: str, number: str, plug: str, first: float, last: float, kw: float | None) -> list[Said]:
    named: dict[str, Any] = {"device": device, "connector": plug}
    sample = meter(0, first, kw, transaction=number, power_offered_kw=kw, soc_pct=40.0, **named)
    begun = [start(0, first, message=number, **named), answer(0, number, message=number, **named)]
    during = [status(0, "Charging", **named), *[sample] * 3]
    return [*begun, *during, stop(0, last, number, device=device), status(0, "Available", **named), tick(0)]


SCENES: list[st.SearchStrategy[list[Said]]] = [
    st.builds(_session, DEVICES, TRANSACTIONS, CONNECTORS, REGISTERS, REGISTERS, POWERS),
    st.builds(_session, st.just("a"), TRANSACTIONS, st.just("1"), REGISTERS, REGISTERS, POWERS),
    st.builds(
        lambda scene: [asset("charger", "b", rated_power_kw=60.0, connectors=1), *scene],
        st.builds(
            _session, st.just("b"), TRANSACTIONS, CONNECTORS, REGISTERS, REGISTERS, st.sampled_from([20.0, 60.0])
        ),
    ),
    st.builds(lambda device: [event("authorize", 0, connector=None, device=device), tick(0), tick(0)], DEVICES),
]
"""Words that belong together; between them, too, time passes."""


@st.composite
def journals(draw: st.DrawFn) -> list[Said]:
    """Draw words of two chargers and ticks, receipts ascending by up to a quarter of an hour; some words are late."""
    drawn = draw(st.lists(st.one_of(*WORDS, *SCENES), min_size=5, max_size=40))
    entries, received = [], 0
    for one in [word for some in drawn for word in ([some] if isinstance(some, Said) else some)]:
        received += draw(st.sampled_from([0, 1, 15, 70, 70, 900]))
        late = draw(st.sampled_from([0, 0, 0, 5, 400]))
        entries.append(Said(one | {"at": received - late, "received": received}))
    return entries


@settings(max_examples=100, deadline=None)
@given(journals(), st.lists(st.integers(0, 60), max_size=8))
def test_cuts_and_restarts_do_not_show(entries: list[Said], cuts: list[int]) -> None:
    """Any cut into batches, with the state as bytes between them, gives exactly the same findings."""
    expected, _ = run(RULES, entries)
    actual, _ = run(RULES, entries, cuts, restart=True)
    assert expected.equals(actual)


@settings(max_examples=100, deadline=None)
@given(journals())
def test_whoever_is_not_due_would_say_nothing(entries: list[Said]) -> None:
    """The plan only saves work: looking at every charger at every look finds the same."""
    expected, _ = run(RULES, entries)
    with pytest.MonkeyPatch.context() as patch:

        def look_at_all(fold: Any, *args: Any) -> None:
            for key in list(fold.chargers):
                charger: Charger = fold._charger(key)
                charger.due_us = charger.planned_us = 0
                fold.plan.append((0, key))
            fold.plan.sort()
            look(fold, *args)

        look = charger_rule_fold.Fold.look
        patch.setattr(charger_rule_fold.Fold, "look", look_at_all)
        actual, _ = run(RULES, entries)
    assert expected.equals(actual)


@settings(max_examples=100, deadline=None)
@given(journals())
def test_episodes_begin_once_and_end_once(entries: list[Said]) -> None:
    """Between a beginning and its end of one rule, device and part there is no other, and both name the same entry."""
    found, _ = run(RULES, entries)
    open_since: dict[tuple[str, str, str | None], int] = {}
    for row in found.to_dicts():
        name = row["rule"], row["device_id"], row["part"]
        if row["event"] == "begins":
            assert name not in open_since
            open_since[name] = row["since_offset"]
        else:
            assert open_since.pop(name) == row["since_offset"]


class _AllSpokeError(Exception):
    """Nothing is left to wait for."""


def test_the_journals_of_these_tests_make_every_detector_speak() -> None:
    """Else the properties hold for nothing; as many journals of one seed as it takes."""
    silent = {one.name for one in RULES}

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(journals())
    def speak(entries: list[Said]) -> None:
        silent.difference_update(run(RULES, entries)[0]["rule"])
        if not silent:
            raise _AllSpokeError

    with pytest.raises(_AllSpokeError):
        speak()
