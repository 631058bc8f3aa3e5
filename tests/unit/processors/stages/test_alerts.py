"""The life of alerts: fire, acknowledge, resolve, come back."""

from typing import Any

import pytest

from gateway.core.errors import CheckpointError
from gateway.core.limits import ALERT_REOPEN_S, SILENCE_S_MAX
from processors.stages import alert_store
from processors.stages.alert_record import SilenceEvent, TestOrder, alert_id_of
from processors.stages.alert_rows import ALERTS_SCHEMA, read_alert
from processors.stages.alerts import AlertStage, AlertState
from tests.unit.processors.stages.alert_frames import (
    STREAM,
    Entry,
    alerts,
    asset,
    begins,
    contracts,
    ends,
    order,
    rule,
    run,
    run_all,
    states,
    tick,
    together,
    us,
)

HOT = alert_id_of("default", "bus-1", None, STREAM, "hot", 1)
"""The alert that `begins(1)` is."""
SOON, LATE = ALERT_REOPEN_S, ALERT_REOPEN_S + 1


# ---- what fires ------------------------------------------------------------------------------------------------------
def test_finding_fires_an_alert_that_explains_itself() -> None:
    """What the detector measured, what the rule says of it, and where the device is, are all in the first revision."""
    (event,) = alerts(run_all(asset(0, site="depot"), begins(1), rules=[rule(inhibits=("battery_pack/warm",))]))
    assert {
        "offset": 1,
        "received_at_us": us(1),
        "alert_id": HOT,
        "revision": 1,
        "site": "depot",
        "severity": "warning",
        "state": "firing",
        "title": "it is hot",
        "at_us": us(1) - 500_000,
        "fired_at_us": us(1),
        "value": 61.5,
        "limit": 60.0,
        "unit": "degC",
        "evidence": {"readings": {"cell_temp_max_c": 61.5}},
        "source": "a standard",
        "check": "look at it",
        "inhibits": ("battery_pack/warm",),
        "resolved_by": None,
    }.items() <= {name: getattr(event, name) for name in event.__struct_fields__}.items()
    assert event.event_id == f"{HOT}.1"


def test_end_of_the_condition_resolves_and_keeps_what_fired() -> None:
    """The last revision says with which value it fired, and with which it ended."""
    event = alerts(run_all(begins(1), ends(5, 1, evidence='{"readings":{"cell_temp_max_c":50}}')))[-1]
    assert ("resolved", "condition", us(5), 61.5) == (
        event.state,
        event.resolved_by,
        event.resolved_at_us,
        event.value,
    )
    assert {"readings": {"cell_temp_max_c": 50}, "value": 50.0} == event.evidence["ended"]


def test_parts_and_devices_have_alerts_of_their_own() -> None:
    """Two connectors of two chargers are four places."""
    entries = [
        begins(offset, device_id=device, part=part)
        for offset, (device, part) in enumerate([("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")])
    ]
    assert 4 == len({event.alert_id for event in alerts(run_all(*entries))})


@pytest.mark.parametrize(
    ("entries", "counts"),
    [
        pytest.param([begins(1, "unheard")], {"finding_unknown_rule": 1}, id="no such rule"),
        pytest.param([ends(1, 0)], {"finding_without_alert": 1}, id="end of nothing"),
        pytest.param([begins(1), ends(2, 0)], {"finding_without_alert": 1}, id="end of another episode"),
        pytest.param([begins(1), begins(2)], {"finding_again": 1}, id="begins twice"),
    ],
)
def test_findings_that_change_nothing_are_counted(entries: list[Entry], counts: dict[str, int]) -> None:
    """A detector that contradicts itself neither opens a second alert nor closes the wrong one."""
    output = run_all(*entries)
    assert counts == output.counts
    assert states(output) in ([], [("hot", 1, "firing")])


def test_episode_that_begins_anew_ends_the_alert_under_its_new_number() -> None:
    """A detector that lost its memory tells the same trouble again; its end is then the alert's."""
    assert ("hot", 2, "resolved") == states(run_all(begins(1), begins(5), ends(9, 5)))[-1]


# ---- coming back -----------------------------------------------------------------------------------------------------
def test_alert_that_comes_back_soon_is_the_same_one() -> None:
    """A loose contact is one alert, which counts how often it came back and is no longer acknowledged."""
    output = run_all(
        begins(1),
        order(2, "ack", alert_id=HOT),
        ends(5, 1),
        begins(5 + SOON),
        ends(6 + SOON, 5 + SOON),
        begins(7 + SOON),
    )
    assert {HOT} == {event.alert_id for event in alerts(output)}
    last = alerts(output)[-1]
    assert (6, "firing", 2, None, us(1)) == (
        last.revision,
        last.state,
        last.evidence["flaps"],
        last.acknowledged_at_us,
        last.fired_at_us,
    )
    assert last.resolved_at_us is None


@pytest.mark.parametrize(
    ("before", "again"),
    [
        pytest.param([begins(1), ends(5, 1)], 5 + LATE, id="too late"),
        pytest.param([begins(1), order(2, "resolve", alert_id=HOT), ends(5, 1)], 6, id="after an operator"),
    ],
)
def test_what_comes_later_or_after_an_operator_is_a_new_alert(before: list[Entry], again: int) -> None:
    """Somebody said that it was over, or it was for long: then it is news."""
    last = alerts(run_all(*before, begins(again)))[-1]
    assert (1, alert_id_of("default", "bus-1", None, STREAM, "hot", again)) == (last.revision, last.alert_id)


def test_clock_of_the_gateway_that_went_back_reopens_nothing() -> None:
    """An alert that ended in what is now the far future is not one that ended just now."""
    entries = [begins(1), ends(5000, 1), begins(5001, received_at=us(2))]
    assert 2 == len({event.alert_id for event in alerts(run_all(*entries))})


def test_second_episode_of_one_message_is_the_same_alert_however_late() -> None:
    """Two episodes that began inside one message have one name, so they are one alert and not two of one name."""
    output = run_all(begins(1), ends(1, 1, record=5), begins(5000, since_offset=1))
    assert [1, 2, 3] == [event.revision for event in alerts(output)]


# ---- orders ----------------------------------------------------------------------------------------------------------
def test_operator_acknowledges_and_the_end_of_the_condition_resolves() -> None:
    """Each revision says who ordered it; what the condition does nobody ordered."""
    output = run_all(begins(1), order(2, "ack", alert_id=HOT, note="on my way\x1b[2J"), ends(3, 1))
    assert [
        ("firing", us(1) - 500_000, None, None, None),
        ("acknowledged", us(2), "anna", "on my way\\x1b[2J", us(2)),
        ("resolved", us(3) - 500_000, None, None, us(2)),
    ] == [(e.state, e.at_us, e.by, e.note, e.acknowledged_at_us) for e in alerts(output)]


def test_acknowledgement_can_be_taken_back() -> None:
    """Then the alert is firing as if nobody had seen it."""
    last = alerts(run_all(begins(1), order(2, "ack", alert_id=HOT), order(3, "unack", alert_id=HOT)))[-1]
    assert (3, "firing", None) == (last.revision, last.state, last.acknowledged_at_us)


def test_alert_that_an_operator_resolved_stays_so_while_its_condition_holds() -> None:
    """The end of the condition is then no news, and an order for it changes nothing."""
    output = run_all(
        begins(1),
        order(2, "resolve", alert_id=HOT),
        order(3, "ack", alert_id=HOT),
        begins(4, since_offset=1),
        ends(5, 1),
    )
    assert [("hot", 1, "firing"), ("hot", 2, "resolved")] == states(output)
    assert {"order_already_resolved": 1, "finding_again": 1} == output.counts


def test_resolved_alert_does_not_hide_a_new_episode() -> None:
    """A detector that lost its memory never says that the old episode ended; the next one fires all the same."""
    output = run_all(begins(1), order(2, "resolve", alert_id=HOT), begins(9))
    assert ("hot", 1, "firing") == states(output)[-1]


UNKNOWN = "0" * 20


@pytest.mark.parametrize(
    ("kind", "said", "reason"),
    [
        pytest.param("ack", {"alert_id": UNKNOWN}, "order_unknown_alert", id="unknown alert"),
        pytest.param("ack", {"alert_id": HOT, "tenant": "other"}, "order_unknown_alert", id="alert of another tenant"),
        pytest.param("resolve", {}, "order_malformed", id="no alert"),
        pytest.param("unack", {"alert_id": HOT}, "order_changes_nothing", id="not acknowledged"),
        pytest.param("test", {}, "order_malformed", id="no receiver"),
        pytest.param("unsilence", {"silence_id": "s9"}, "order_unknown_silence", id="unknown silence"),
        pytest.param("unsilence", {}, "order_malformed", id="no silence"),
        pytest.param("silence", {"matchers": "device=a", "ends_at_us": us(9)}, "order_malformed", id="no reason"),
        pytest.param("silence", {"matchers": "device=a", "why": "x"}, "order_malformed", id="no end"),
        pytest.param(
            "silence", {"matchers": "device=a", "why": "x", "ends_at_us": us(2)}, "order_malformed", id="over already"
        ),
        pytest.param(
            "silence",
            {"matchers": "device=a", "why": "x", "ends_at_us": us(3 + SILENCE_S_MAX)},
            "order_malformed",
            id="too long",
        ),
        pytest.param("silence", {"matchers": "", "why": "x", "ends_at_us": us(9)}, "order_malformed", id="no matcher"),
        pytest.param(
            "silence", {"matchers": "site~(", "why": "x", "ends_at_us": us(9)}, "order_malformed", id="bad matcher"
        ),
        pytest.param("dance", {}, "order_malformed", id="no such order"),
    ],
)
def test_orders_that_cannot_be_carried_out_are_counted(kind: str, said: dict[str, Any], reason: str) -> None:
    """An order that is wrong changes no alert, and says why under one name."""
    output = run_all(begins(1), order(2, kind, **said))
    assert ({reason: 1}, [("hot", 1, "firing")]) == (output.counts, states(output))


def test_order_for_an_alert_that_is_over_is_told_apart_from_one_for_none() -> None:
    """An acknowledgement that comes after the end of the condition is late, not wrong."""
    assert {"order_already_resolved": 1} == run_all(begins(1), ends(2, 1), order(3, "ack", alert_id=HOT)).counts


NEW = alert_id_of("default", "bus-1", None, STREAM, "hot", 3 + LATE)


@pytest.mark.parametrize(
    ("entries", "counts"),
    [
        pytest.param([order(2001, "ack", alert_id=HOT)], {"order_already_resolved": 1}, id="of the older alert"),
        pytest.param([order(2001, "ack", alert_id=NEW)], {}, id="of the newer alert"),
        pytest.param(
            [ends(2000, 3 + LATE), order(2001, "ack", alert_id=HOT)], {"order_unknown_alert": 1}, id="of one forgotten"
        ),
    ],
)
@pytest.mark.parametrize("ordered_before", [False, True])
def test_order_goes_to_the_alert_it_names(
    entries: list[Entry], counts: dict[str, int], *, ordered_before: bool
) -> None:
    """A place may have had other alerts; of those that are over the newest is remembered."""
    first = [order(2, "ack", alert_id=HOT)] if ordered_before else []
    assert counts == run_all(begins(1), *first, ends(3, 1), begins(3 + LATE), *entries).counts


def test_silence_begins_and_is_removed() -> None:
    """Both events carry the whole silence, because the notifier keeps the newest only."""
    said = {"matchers": "device=bus-1\nseverity!=critical", "ends_at_us": us(99), "why": "rewiring"}
    output = run_all(order(1, "silence", silence_kind="maintenance", **said), order(2, "unsilence", silence_id="s1"))
    begun, removed = output.events
    assert isinstance(begun, SilenceEvent)
    assert ("s1", us(1), us(99), "maintenance", False) == (
        begun.silence_id,
        begun.starts_at_us,
        begun.ends_at_us,
        begun.kind,
        begun.removed,
    )
    assert isinstance(removed, SilenceEvent)
    assert (True, begun.matchers) == (removed.removed, removed.matchers)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param([order(5, "unsilence", silence_id="s1", tenant="other")], id="of another tenant"),
        pytest.param([order(10, "unsilence", silence_id="s1")], id="ended"),
    ],
)
def test_silence_that_is_not_there_is_not_removed(later: list[Entry]) -> None:
    """Ended, or another tenant's."""
    begun = order(1, "silence", matchers="device=bus-1", why="x", ends_at_us=us(10))
    output = run_all(begun, *later)
    assert ({"order_unknown_silence": 1}, 1) == (output.counts, len(output.events))


def test_silence_is_removed_once() -> None:
    """The second order names nothing."""
    begun = order(1, "silence", matchers="device=bus-1", why="x", ends_at_us=us(10))
    output = run_all(begun, order(2, "unsilence", silence_id="s1"), order(3, "unsilence", silence_id="s1"))
    assert ({"order_unknown_silence": 1}, 2) == (output.counts, len(output.events))


def test_silences_are_bounded_and_ended_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound an order is refused until an older silence has ended."""
    monkeypatch.setattr(alert_store, "SILENCES_MAX", 1)
    said = {"matchers": "device=bus-1", "why": "x"}
    silences = [order(offset, "silence", ends_at_us=us(offset + 2), **said) for offset in (1, 2, 3)]
    output = run_all(*silences)
    assert ({"order_too_many_silences": 1}, 2) == (output.counts, len(output.events))


def test_test_order_names_its_receiver() -> None:
    """The notifier gets it as it was ordered."""
    expected = TestOrder(offset=1, received_at_us=us(1), tenant="default", receiver="on-call", by="anna")
    assert (expected,) == run_all(order(1, "test", receiver="on-call")).events


# ---- rules that change -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "after",
    [
        pytest.param([], id="gone"),
        pytest.param([rule(enabled=False)], id="switched off"),
        pytest.param([rule(when_text="x > 70", hold_s=9.0)], id="decides otherwise"),
    ],
)
def test_rule_that_changed_resolves_its_alerts_at_the_next_tick(after: list[Any]) -> None:
    """Nobody is left who would say that the condition ended."""
    _, state = run(AlertStage(contracts(rule())), AlertState.empty(), [begins(1), tick(2)])
    stage = AlertStage(contracts(*after))
    quiet, state = run(stage, AlertState.from_bytes(state.to_bytes()), [asset(3, site="depot")])
    assert [] == states(quiet)
    output, state = run(stage, state, [tick(4)])
    (event,) = alerts(output)
    assert (2, "resolved", "rule") == (event.revision, event.state, event.resolved_by)
    assert (0, {}) == (state.live_count, state.live)


def test_rule_that_only_reads_otherwise_keeps_its_alerts() -> None:
    """A new title or severity decides nothing; the alert goes on."""
    _, state = run(AlertStage(contracts(rule())), AlertState.empty(), [begins(1), tick(2)])
    output, _ = run(AlertStage(contracts(rule(title="new", severity="critical"))), state, [tick(3), ends(4, 1)])
    assert [("hot", 2, "resolved")] == states(output)


def test_changed_rule_that_begins_before_the_tick_is_a_new_alert() -> None:
    """The alert of the rule as it was ends with the first word of the rule as it is."""
    _, state = run(AlertStage(contracts(rule())), AlertState.empty(), [begins(1)])
    output, _ = run(AlertStage(contracts(rule(hold_s=9.0, when_text="x > 70"))), state, [begins(3), tick(4)])
    assert [("hot", 2, "resolved"), ("hot", 1, "firing")] == states(output)


# ---- together --------------------------------------------------------------------------------------------------------
PAIR = [rule("hot"), rule("leaky", stream="vehicle_telemetry"), together("bad", "hot", "vehicle_telemetry/leaky")]
LEAK = {"name": "leaky", "stream": "vehicle_telemetry"}


def test_rule_fires_while_all_it_names_fire_on_one_device() -> None:
    """It begins with the last of them and ends with the first."""
    output = run_all(
        begins(1), begins(2, device_id="bus-2", **LEAK), begins(3, part="x", **LEAK), ends(4, 1), rules=PAIR
    )
    assert [("bad", 1, "firing"), ("hot", 2, "resolved"), ("bad", 2, "resolved")] == states(output)[-3:]
    begun = alerts(output)[3]
    assert ("bus-1", None, us(3)) == (begun.device_id, begun.part, begun.fired_at_us)
    assert ["battery_pack/hot", "vehicle_telemetry/leaky"] == [m["rule"] for m in begun.evidence["members"]]


def test_condition_that_holds_counts_even_if_an_operator_resolved_its_alert() -> None:
    """What operators say about one alert does not make its condition end."""
    output = run_all(begins(1), order(2, "resolve", alert_id=HOT), begins(3, **LEAK), rules=PAIR)
    assert ("bad", 1, "firing") == states(output)[-1]


def test_new_rule_begins_at_the_next_tick_if_all_it_names_hold() -> None:
    """Those it names began before it was written, and say nothing more."""
    _, state = run(AlertStage(contracts(*PAIR[:2])), AlertState.empty(), [begins(1), begins(2, **LEAK), tick(3)])
    output, _ = run(AlertStage(contracts(*PAIR)), state, [tick(4)])
    assert [("bad", 1, "firing")] == states(output)


def test_rule_ends_with_one_that_it_names_and_that_is_gone() -> None:
    """Then it was the rule, not the condition, that ended it."""
    _, state = run(AlertStage(contracts(*PAIR)), AlertState.empty(), [begins(1), begins(2, **LEAK), tick(3)])
    output, _ = run(AlertStage(contracts(*PAIR[1:])), state, [tick(4)])
    assert [("hot", "rule"), ("bad", "rule")] == [(event.rule, event.resolved_by) for event in alerts(output)]


# ---- bounds ----------------------------------------------------------------------------------------------------------
def test_device_has_a_bounded_number_of_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding past it is counted, and so is its end; room that becomes free is used."""
    monkeypatch.setattr(alert_store, "ALERTS_PER_DEVICE_MAX", 1)
    entries = [
        begins(1, part="a"),
        begins(2, part="b"),
        ends(3, 2, part="b"),
        ends(4, 1, part="a"),
        begins(5, part="c"),
    ]
    output = run_all(*entries, begins(6, device_id="bus-2"))
    assert {"finding_device_full": 1, "finding_without_alert": 1} == output.counts
    assert ["a", "a", "c", None] == [event.part for event in alerts(output)]


def test_last_places_are_for_critical_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that fails makes every vehicle silent, and a battery that burns must still be told."""
    monkeypatch.setattr(alert_store, "ALERTS_OPEN_MAX", 2)
    monkeypatch.setattr(alert_store, "ALERTS_CRITICAL_RESERVE", 1)
    rules = [rule("silent"), rule("fire", severity="critical")]
    entries = [begins(n, "silent", device_id=f"bus-{n}") for n in (1, 2)]
    entries += [begins(n, "fire", device_id=f"bus-{n}") for n in (3, 4)]
    output = run_all(*entries, rules=rules)
    assert {"finding_full": 2} == output.counts
    assert ["bus-1", "bus-3"] == [event.device_id for event in alerts(output)]


def test_alerts_that_are_over_are_forgotten_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound an order for the oldest is one for an unknown alert."""
    monkeypatch.setattr(alert_store, "ALERTS_RESOLVED_MAX", 1)
    output = run_all(
        begins(1),
        ends(2, 1),
        begins(3, device_id="bus-2"),
        ends(4, 3, device_id="bus-2"),
        order(5, "ack", alert_id=HOT),
    )
    assert {"order_unknown_alert": 1} == output.counts


def test_alert_that_was_over_again_is_remembered_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is its newest end."""
    monkeypatch.setattr(alert_store, "ALERTS_RESOLVED_MAX", 2)
    entries = [begins(1), ends(2, 1)]
    entries += [begins(3, device_id="bus-2"), ends(4, 3, device_id="bus-2"), begins(5), ends(6, 5)]
    entries += [begins(7, device_id="bus-3"), ends(8, 7, device_id="bus-3"), order(9, "ack", alert_id=HOT)]
    assert {"order_already_resolved": 1} == run_all(*entries).counts


def test_sites_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site that was stated longest ago is forgotten, and what is stated again is new."""
    monkeypatch.setattr(alert_store, "ASSETS_MAX", 2)
    stated = [
        asset(0, site="depot"),
        asset(1, "bus-2", site="yard"),
        asset(2, site="hall"),
        asset(3, "bus-3", site="x"),
    ]
    events = alerts(run_all(*stated, begins(4), begins(5, device_id="bus-2")))
    assert ["hall", None] == [event.site for event in events]


def test_revision_has_the_site_of_its_time() -> None:
    """A bus that moves takes its open alerts along; a fact without a site changes nothing."""
    events = alerts(run_all(asset(0, site="depot"), begins(1), asset(2, site="yard"), asset(3, note="x"), ends(4, 1)))
    assert ["depot", "yard"] == [event.site for event in events]


# ---- rows and state --------------------------------------------------------------------------------------------------
def test_rows_say_what_events_say() -> None:
    """What is written to the lake reads back as the event that the notifier got."""
    output = run_all(
        begins(1, value=None),
        order(2, "ack", alert_id=HOT),
        rules=[rule(inhibits=("battery_pack/a", "battery_pack/b"))],
    )
    assert dict(ALERTS_SCHEMA) == dict(output.rows.schema)
    assert list(output.events) == [read_alert(row) for row in output.rows.iter_rows(named=True)]


def test_batch_leaves_the_state_it_came_from() -> None:
    """A batch that fails after this stage is run again on the same state."""
    stage = AlertStage(contracts(rule()))
    _, state = run(stage, AlertState.empty(), [begins(1), asset(2, site="depot"), tick(3)])
    before = state.to_bytes()
    more = [ends(4, 1), begins(5, device_id="bus-2"), asset(6, "bus-2", site="yard")]
    more.append(order(7, "silence", matchers="device=a", why="x", ends_at_us=us(9)))
    run(stage, state, more)
    assert before == state.to_bytes()


def test_batch_without_news_costs_nothing() -> None:
    """Most batches have neither findings nor orders: their state is the same object."""
    stage = AlertStage(contracts(rule()))
    _, state = run(stage, AlertState.empty(), [begins(1), tick(2)])
    assert run(stage, state, [tick(3)])[1] is state


@pytest.mark.parametrize("payload", [pytest.param(b"x", id="garbage"), pytest.param(b"\x80", id="empty map")])
def test_bytes_that_are_no_state_are_refused(payload: bytes) -> None:
    """So is a state of another version."""
    with pytest.raises(CheckpointError, match="alerts"):
        AlertState.from_bytes(payload)
    whole = AlertState.empty().to_bytes()
    with pytest.raises(CheckpointError, match="version"):
        AlertState.from_bytes(whole.replace(b"version\x01", b"version\x63"))
