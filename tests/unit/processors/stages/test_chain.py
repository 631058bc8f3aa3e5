"""The chain gives the same rows however a journal is cut, and loses count of nothing."""

import itertools
import json
import random
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from gateway.core.errors import CheckpointError
from gateway.core.ids import Offset
from gateway.core.records import Envelope, to_batch
from processors.contracts.load import ContractSet, load_contracts, parse_contract
from processors.stages.chain import Chain, ChainState, Outputs
from tests.journals import START, fleet, message, reading, tick

SMALL_WINDOWS = """
stream: scooter
version: 1.0.0
source: {{mqtt: "v1/{{tenant}}/{{device_id}}/scooter"}}
time: {{measured_at: {{path: ts, format: iso8601}}}}
fields:
  speed_kmh: {{type: float, unit: km/h}}
windows: {{sizes: [{size}], aggregates: {{speed_kmh: [mean]}}}}
retention: {{raw: 1 d, readings: 1 d, windows: 1 d}}
"""


@pytest.fixture(scope="module")
def chain() -> Chain:
    """A chain over the built-in contracts."""
    return Chain(load_contracts([]))


def run(chain: Chain, envelopes: list[Envelope], cuts: list[int]) -> tuple[dict[str, pl.DataFrame], ChainState]:
    """Run the chain over the journal cut at `cuts`, with the state stored and loaded at each cut."""
    state = chain.empty_state()
    outputs: list[Outputs] = []
    for start, stop in itertools.pairwise([0, *cuts, len(envelopes)]):
        done, state = chain.run(to_batch(Offset(start), envelopes[start:stop]), chain.from_bytes(chain.to_bytes(state)))
        assert done.counts.balance == 0
        outputs.append(done)
    tables = {name: pl.concat([o.tables[name] for o in outputs]) for name in outputs[0].tables}
    return tables, state


def newest(tables: dict[str, pl.DataFrame]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of each table, of windows only the newest revision, in an order of their own."""
    rows = {}
    for name, frame in tables.items():
        if name.startswith("windows_"):
            key = ["tenant", "device_id", "window_s", "window_start"]
            frame = frame.sort(*key, "revision").unique(key, keep="last", maintain_order=True)  # noqa: PLW2901
        rows[name] = frame.rows()
    return rows


def test_every_record_is_a_row_a_reject_or_a_duplicate(chain: Chain) -> None:
    """The ledger of a fleet that does everything balances, and agrees with the tables."""
    envelopes = fleet(seed=1, seconds=900)
    tables, state = run(chain, envelopes, [])
    ledger = state.ledger
    assert ledger.balance == 0
    assert len(envelopes) == ledger.entries + ledger.ticks
    assert tables["raw"].height == ledger.entries
    assert tables["vehicle_telemetry"].height == ledger.rows["vehicle_telemetry"]
    assert tables["rejects"].height == sum(ledger.rejected.values())
    assert ledger.duplicates["vehicle_telemetry"] > 100
    assert {"-/unknown_channel", "vehicle_telemetry/json", "battery_pack/json"} <= set(ledger.rejected)
    assert ledger.flags["vehicle_telemetry/range:soc_pct"] > 10
    assert ledger.late_revised["vehicle_telemetry"] > 10
    assert ledger.late_dropped["vehicle_telemetry"] > 10
    assert tables["windows_vehicle_telemetry"].height > 50


@pytest.mark.parametrize("seed", range(6))
def test_cuts_leave_no_trace(chain: Chain, seed: int) -> None:
    """Cut into batches anywhere, with the state stored and loaded in between, the rows are the same."""
    envelopes = fleet(seed=seed, seconds=500)
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(len(envelopes)), 7))
    whole, state = run(chain, envelopes, [])
    parts, cut_state = run(chain, envelopes, cuts)
    assert newest(whole) == newest(parts)
    assert state.ledger == cut_state.ledger


def test_stored_state_goes_on_as_if_never_stored(chain: Chain) -> None:
    """Bytes and back in the middle of a journal change nothing that follows."""
    envelopes = fleet(seed=7, seconds=400)
    middle = len(envelopes) // 2
    _, state = run(chain, envelopes[:middle], [])
    rest = to_batch(Offset(middle), envelopes[middle:])
    expected, _ = chain.run(rest, state)
    actual, _ = chain.run(rest, chain.from_bytes(chain.to_bytes(state)))
    assert newest(expected.tables) == newest(actual.tables)
    assert expected.counts == actual.counts


def test_raw_keeps_every_byte_and_no_tick(chain: Chain) -> None:
    """Whatever came in is in `raw`, also what is refused; the gateway's own ticks are not."""
    envelopes = [message("ev-1", "x", b"\x00\xff", received=START), tick(START), reading("ev-1", START)]
    tables, state = run(chain, envelopes, [])
    assert [(0, "x", b"\x00\xff"), (2, "telemetry", envelopes[2].payload)] == tables["raw"].select(
        "offset", "channel", "payload"
    ).rows()
    assert (2, 1) == (state.ledger.entries, state.ledger.ticks)


def test_unknown_channel_is_a_reject_with_its_bytes(chain: Chain) -> None:
    """A channel without contract costs nobody a message: bytes and reason are kept."""
    tables, _ = run(chain, [message("ev-1", "nonsense", b"hello", received=START)], [])
    shown = tables["rejects"].select("offset", "stage", "code", "got", "payload", "received_at").rows()
    assert [(0, "route", "unknown_channel", "nonsense", b"hello", START)] == shown


def test_same_poison_is_rejected_once(chain: Chain) -> None:
    """A device that resends what was refused adds a duplicate, not a reject, also across batches."""
    poison = [message("ev-1", "telemetry", b"{", received=START + timedelta(seconds=i)) for i in range(4)]
    tables, state = run(chain, poison, [1, 3])
    assert tables["rejects"].height == 1
    assert (4, {"vehicle_telemetry/json": 1}, {"vehicle_telemetry": 3}) == (
        state.ledger.records,
        state.ledger.rejected,
        state.ledger.duplicates,
    )


def test_clock_ahead_is_clamped_and_counted(chain: Chain) -> None:
    """A device in next year is set back to the moment of receipt."""
    ahead = reading("ev-1", START + timedelta(days=365), received=START)
    tables, state = run(chain, [ahead], [])
    assert [(START, "clock_clamped")] == tables["vehicle_telemetry"].select("measured_at", "flags").rows()
    assert {"vehicle_telemetry/clock_clamped": 1} == state.ledger.flags


def test_gap_in_the_journal_is_counted(chain: Chain) -> None:
    """Offsets that are gone are neither silently skipped nor taken for rows."""
    _, state = run(chain, [reading("ev-1", START)], [])
    late = to_batch(Offset(11), [reading("ev-1", START + timedelta(seconds=1))])
    outputs, state = chain.run(late, state)
    assert (10, 2, 12) == (state.ledger.gap_entries, state.ledger.entries, state.next_offset)
    assert outputs.counts.gap_entries == 10


def test_quarantined_entry_is_raw_and_reject(chain: Chain) -> None:
    """An entry that processing does not survive keeps its bytes and gets the code `crash`."""
    batch = to_batch(Offset(3), [reading("ev-1", START)])
    outputs, state = chain.quarantine(batch, chain.empty_state(), RuntimeError("boom"))
    assert batch.payloads == outputs.tables["raw"]["payload"].to_list()
    assert [("crash", "RuntimeError('boom')", batch.payloads[0])] == outputs.tables["rejects"].select(
        "code", "got", "payload"
    ).rows()
    assert (0, {"vehicle_telemetry/crash": 1}) == (state.ledger.balance, state.ledger.rejected)
    assert set(chain.schemas) == set(outputs.tables)


def test_batch_of_nothing_gives_every_table(chain: Chain) -> None:
    """The schemas are those of the frames, also of empty ones."""
    tables, _ = run(chain, [], [])
    assert {name: dict(frame.schema) for name, frame in tables.items()} == chain.schemas


def scooters(size: str) -> Chain:
    """Return a chain over one contract with windows of `size`."""
    return Chain(ContractSet([parse_contract(SMALL_WINDOWS.format(size=size), file="scooter.yaml")]))


def scooter(second: int) -> Envelope:
    at = START + timedelta(seconds=second)
    payload = json.dumps({"ts": at.isoformat(), "speed_kmh": 10.0}).encode()
    return message("s-1", "scooter", payload, received=at)


def test_changed_window_plan_restarts_windows_and_nothing_else() -> None:
    """After a change of sizes windows begin anew, which is counted; duplicates are still known."""
    before, after = scooters("1 min"), scooters("1 min, 5 min")
    _, state = run(before, [scooter(s) for s in range(30)], [])
    loaded = after.from_bytes(before.to_bytes(state))
    assert {"scooter": 1} == loaded.ledger.restarted
    outputs, _ = after.run(to_batch(Offset(30), [scooter(29), scooter(30)]), loaded)
    assert (1, {"scooter": 1}) == (outputs.tables["scooter"].height, outputs.counts.duplicates)


def test_newest_values_survive_a_restart_with_their_age() -> None:
    """A loaded state knows each device's newest value and when it was measured, duplicates not counted."""
    chain = scooters("1 min")
    _, state = run(chain, [scooter(s) for s in (0, 7, 3, 7)], [2])
    frame = state.streams["scooter"].devices.frame
    assert frame is not None
    row = frame.row(0, named=True)
    assert ("s-1", 10.0, 3) == (row["device_id"], row["speed_kmh"], row["readings"])
    assert START + timedelta(seconds=7) == row["speed_kmh:at"]


def test_changed_field_type_forgets_newest_values_only() -> None:
    """A field that is text from now on does not meet the numbers it had."""
    before = scooters("1 min")
    text = SMALL_WINDOWS.format(size="1 min").replace("{type: float, unit: km/h}", "{type: str}")
    after = Chain(ContractSet([parse_contract(text.replace("[mean]", "[count]"), file="scooter.yaml")]))
    _, state = run(before, [scooter(s) for s in range(3)], [])
    loaded = after.from_bytes(before.to_bytes(state))
    assert loaded.streams["scooter"].devices.frame is None
    assert {"scooter": 3} == loaded.ledger.rows


def test_removed_and_added_streams_load(chain: Chain) -> None:
    """State of a stream that is gone is dropped, a new stream begins empty, counts stay."""
    other = scooters("1 min")
    _, state = run(other, [scooter(s) for s in range(30)], [])
    loaded = chain.from_bytes(other.to_bytes(state))
    assert chain.empty_state().streams.keys() == loaded.streams.keys()
    assert {"scooter": 30} == loaded.ledger.rows
    assert {} == loaded.ledger.restarted


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"garbage", b"\x81\xa7version\x63"])
def test_unreadable_state_is_a_checkpoint_error(chain: Chain, payload: bytes) -> None:
    """Bytes that are no state are refused in words."""
    with pytest.raises(CheckpointError):
        chain.from_bytes(payload)
