"""Alerts are what the journal says: cuts and restarts do not show, and no place ever has two."""

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from processors.stages.alert_record import AlertEvent, LifeEvent, alert_id_of
from processors.stages.alerts import AlertStage, AlertState
from tests.unit.processors.stages.alert_frames import (
    STREAM,
    Entry,
    asset,
    begins,
    contracts,
    ends,
    order,
    rule,
    run,
    tick,
    together,
    us,
)

STAGE = AlertStage(contracts(rule("hot"), rule("leaky", severity="critical"), together("bad", "hot", "leaky")))
DEVICES = ("bus-1", "bus-2")
PARTS = (None, "1")
RULES = ("hot", "leaky", "gone")
LEGAL = {
    "firing": {"acknowledged", "resolved"},
    "acknowledged": {"firing", "resolved"},
    "resolved": {"firing"},
}
"""State -> those that may follow it."""

Place = tuple[str, str | None, str]
places = st.tuples(st.sampled_from(DEVICES), st.sampled_from(PARTS), st.sampled_from(RULES))


class Journal:
    """What happens, from which entries at ascending offsets are made: detectors that mostly keep to their shape."""

    def __init__(self) -> None:
        self.offset = 0
        self.entries: list[Entry] = []
        self.open: dict[Place, int] = {}
        self.ids: list[str] = []

    def find(self, place: Place, *, is_confused: bool) -> None:
        """Begin or end the episode of a place; a confused detector begins it twice."""
        device, part, name = place
        where: dict[str, Any] = {"device_id": device, "part": part}
        since = self.open.pop(place, None)
        if since is not None and not is_confused:
            self.entries.append(ends(self.offset, since, name, **where))
            return
        self.open[place] = self.offset
        self.ids.append(alert_id_of("default", device, part, STREAM, name, self.offset))
        self.entries.append(begins(self.offset, name, **where))


@st.composite
def journals(draw: st.DrawFn) -> list[Entry]:
    """Draw findings, orders, facts and ticks, seconds or many minutes apart."""
    journal = Journal()
    steps = st.sampled_from(["find", "find", "find", "confuse", "order", "silence", "site", "tick"])
    for step in draw(st.lists(steps, min_size=3, max_size=30)):
        journal.offset += draw(st.sampled_from([1, 1, 1, 400, 700]))
        match step:
            case "find" | "confuse":
                journal.find(draw(places), is_confused=step == "confuse")
            case "order" if journal.ids:
                kind, name = draw(st.sampled_from(["ack", "unack", "resolve"])), draw(st.sampled_from(journal.ids))
                journal.entries.append(order(journal.offset, kind, alert_id=name))
            case "silence":
                said = {"matchers": "device=bus-1", "why": "x", "ends_at_us": us(journal.offset + 900)}
                silence = order(journal.offset, "silence", **said)
                journal.entries += [silence, order(journal.offset + 1, "unsilence", silence_id=f"s{journal.offset}")]
                journal.offset += 1
            case "site":
                site = draw(st.sampled_from(["depot", "yard", None]))
                journal.entries.append(asset(journal.offset, draw(st.sampled_from(DEVICES)), site=site))
            case _:
                journal.entries.append(tick(journal.offset))
    return journal.entries


def whole(entries: list[Entry]) -> tuple[list[LifeEvent], dict[str, int], bytes]:
    output, state = run(STAGE, AlertState.empty(), entries)
    return list(output.events), dict(output.counts), state.to_bytes()


@given(journals(), st.sets(st.integers(0, 30)))
def test_cuts_and_restarts_do_not_show(entries: list[Entry], cuts: set[int]) -> None:
    """Any batches, the state written and read between them, give what one batch gives; each leaves the state before."""
    state, events, counts = AlertState.empty(), list[LifeEvent](), dict[str, int]()
    borders = [0, *sorted(cut for cut in cuts if cut < len(entries)), len(entries)]
    for begin, end in itertools.pairwise(borders):
        packed = state.to_bytes()
        before = AlertState.from_bytes(packed)
        output, state = run(STAGE, before, entries[begin:end])
        assert packed == before.to_bytes()
        events += output.events
        for reason, n in output.counts.items():
            counts[reason] = counts.get(reason, 0) + n
    assert whole(entries) == (events, counts, state.to_bytes())


@given(journals())
def test_every_alert_lives_as_alerts_do(entries: list[Entry]) -> None:
    """Revisions are numbered without gaps, states follow each other as they may, a place has one open alert."""
    newest: dict[str, AlertEvent] = {}
    open_places: dict[Place, str] = {}
    for event in whole(entries)[0]:
        if not isinstance(event, AlertEvent):
            continue
        before = newest.get(event.alert_id)
        assert event.revision == (1 if before is None else before.revision + 1)
        assert event.state == "firing" if before is None else event.state in LEGAL[before.state]
        assert (event.state == "resolved") == (event.resolved_at_us is not None) == (event.resolved_by is not None)
        assert event.state != "acknowledged" or event.acknowledged_at_us is not None
        place = (event.device_id, event.part, event.rule)
        if event.is_open:
            assert open_places.setdefault(place, event.alert_id) == event.alert_id
        else:
            assert open_places.pop(place) == event.alert_id
        newest[event.alert_id] = event


@given(journals())
def test_rules_together_hold_exactly_while_all_they_name_do(entries: list[Entry]) -> None:
    """The naive way: look at all conditions that hold, as their detectors told them, after everything."""
    _, state = run(STAGE, AlertState.empty(), entries)
    for device in DEVICES:
        holding = {place.rule for place in state.live.get(("default", device), {})}
        assert ({"hot", "leaky"} <= holding) is ("bad" in holding)


@given(journals())
def test_state_counts_what_it_holds(entries: list[Entry]) -> None:
    """The bound of all alerts is held against a number that must be theirs."""
    _, state = run(STAGE, AlertState.empty(), entries)
    assert sum(map(len, state.live.values())) == state.live_count
    assert all(state.live.values())
