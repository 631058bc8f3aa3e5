"""What chargers say goes the way of everything else: once, counted, and the same however the journal is cut."""

import itertools
import json
import random
from datetime import timedelta
from typing import Any

import msgspec
import polars as pl
import pytest

from gateway.core.errors import CheckpointError
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import Envelope, Route, to_batch
from processors.contracts.load import ContractSet, load_contracts
from processors.stages.chain import Chain, ChainState, Outputs
from processors.stages.sessions import SESSIONS
from tests.journals import START, message, reading, tick, to_ns
from tests.unit.processors.stages.charger_frames import call, entry, meter, text, transaction

WINDOWS = "windows_charger_meter"


@pytest.fixture(scope="module")
def chain() -> Chain:
    """A chain over the built-in contracts."""
    return Chain(load_contracts([]))


def run(
    chain: Chain, envelopes: list[Envelope], cuts: list[int] | None = None
) -> tuple[dict[str, pl.DataFrame], ChainState]:
    """Run the chain over the journal cut at `cuts`, with the state stored and loaded at each cut."""
    state = chain.empty_state()
    outputs: list[Outputs] = []
    for start, stop in itertools.pairwise([0, *(cuts or []), len(envelopes)]):
        done, state = chain.run(to_batch(Offset(start), envelopes[start:stop]), chain.from_bytes(chain.to_bytes(state)))
        outputs.append(done)
    return {name: pl.concat([o.tables[name] for o in outputs]) for name in outputs[0].tables}, state


def station(seed: int) -> list[Envelope]:
    """Return what three chargers and a vehicle say in two hours, with resends, dirt and ticks, by receipt."""
    chance = random.Random(seed)
    sent: list[Envelope] = []
    for number, device in enumerate(("cp-1", "cp-2", "cp-3")):
        sent.append(entry("ocpp/connected", b'{"event":"connected","version":"ocpp1.6","generation":1}', device=device))
        for connector in (1, 2):
            begin = START + timedelta(minutes=chance.randrange(40))
            sent += transaction(
                begin,
                device=device,
                number=10 * number + connector,
                connector=connector,
                minutes=chance.randrange(2, 70),
                mid=f"c{connector}",
            )
    for _ in range(30):
        again = chance.choice(sent)
        received = again.received_at_ns + chance.randrange(1, 400) * 10**9
        sent.append(Envelope(received_at_ns=received, route=again.route, payload=again.payload))
    for second in range(0, 7200, 240):
        at = START + timedelta(seconds=second)
        sent.append(tick(at))
        sent.append(reading("ev-1", at))
        sent.append(
            chance.choice(
                [
                    entry("ocpp1.6/MeterValues", b"{", at=at),
                    meter(at, 5.0, timestamp="never", received=at),
                    meter(at, 6.0, timestamp=text(at)[:-1], received=at, transactionId=-1),
                    meter(at, 7.0, timestamp="1970-01-01T00:00:10Z", received=at),
                    call(
                        "StatusNotification",
                        at=at,
                        connectorId=1,
                        errorCode="NoError",
                        status="Charging",
                        timestamp=text(at),
                    ),
                    message("cp-1", "charger_meter", b"{}", received=at),
                ]
            )
        )
    return sorted(sent, key=lambda envelope: envelope.received_at_ns)


def newest(tables: dict[str, pl.DataFrame]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of each table, of windows and sessions only the newest revision."""
    rows = {}
    for name, frame in tables.items():
        key = []
        if name.startswith("windows_"):
            key = [*frame.columns[: frame.columns.index("window_start")], "window_s", "window_start"]
        elif name == SESSIONS:
            key = ["session_id"]
        if key:
            frame = frame.sort(*key, "revision").unique(key, keep="last", maintain_order=True)  # noqa: PLW2901
        rows[name] = frame.rows()
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_ledger_of_chargers_balances_and_cuts_leave_no_trace(chain: Chain, seed: int) -> None:
    """Every entry is at least one record, every record a row, a reject or a duplicate, for any cut of the journal."""
    envelopes = station(seed)
    cuts = sorted(random.Random(seed).sample(range(1, len(envelopes)), 6))
    whole, state = run(chain, envelopes)
    parts, cut_state = run(chain, envelopes, cuts)
    assert newest(whole) == newest(parts)
    assert (state.ledger, 0) == (cut_state.ledger, state.ledger.balance)
    assert len(envelopes) == state.ledger.entries + state.ledger.ticks
    assert state.ledger.records >= state.ledger.entries
    seen: set[int] = set()
    for name in ("charger_status", "charger_meter", "charger_transaction", "vehicle_telemetry", "rejects"):
        seen |= set(whole[name]["offset"].to_list())
    spoken = {i for i, envelope in enumerate(envelopes) if envelope.route.source != "tick"}
    assert sum(state.ledger.duplicates.values()) >= len(spoken - seen)


def test_only_who_may_speak_is_heard(chain: Chain) -> None:
    """A device cannot say what OCPP or the gateway says, nor the gateway what a device says."""

    def said(source: str, channel: str, payload: bytes = b"{}") -> Envelope:
        route = Route(TenantId("default"), DeviceId("x"), source, Channel(channel))
        return Envelope(received_at_ns=to_ns(START), route=route, payload=payload)

    asset = json.dumps({"kind": "charger", "rated_power_kw": 150}).encode()
    authorize = json.dumps([2, "m", "Authorize", {"idTag": "T"}]).encode()
    good = [
        said("gateway", "asset", asset),
        said("http", "asset", asset.replace(b"150", b"50")),
        said("ocpp", "ocpp1.6/Authorize", authorize),
        said("http", "ocpp1.6/Authorize", authorize.replace(b'"m"', b'"n"').replace(b'"T"', b'"U"')),
    ]
    bad = [
        said("mqtt", "asset", asset),
        said("mqtt", "charger_meter", b"1"),
        said("ocpp", "charger_meter", b"2"),
        said("http", "charger_meter", b"3"),
        said("mqtt", "ocpp1.6/Authorize", authorize),
        said("gateway", "telemetry"),
        said("ocpp", "ocpp3/Authorize"),
        said("ocpp", "ocpp/nonsense"),
    ]
    tables, state = run(chain, [*good, *bad])
    assert {"asset": 2, "charger_transaction": 2} == state.ledger.rows
    assert {"-/unknown_channel": len(bad)} == state.ledger.rejected
    assert list(range(4, 12)) == tables["rejects"]["offset"].to_list()


def test_meter_values_resent_under_another_id_are_one_row(chain: Chain) -> None:
    """After a crash of ours a charger sends them again; another value at the same time is another row."""
    tables, state = run(
        chain,
        [meter(START, 5.0, mid="a"), meter(START, 5.0, mid="b"), meter(START, 6.0, mid="c")],
        [1],
    )
    assert [("a", 5.0), ("c", 6.0)] == tables["charger_meter"].select("message_id", "energy_import_wh").rows()
    assert {"charger_meter": 1} == state.ledger.duplicates


def test_stop_resent_under_another_id_is_one_row_and_a_start_is_two(chain: Chain) -> None:
    """Our answer to the second start names a transaction of its own and nothing but that start's id."""
    first = transaction(START, device="cp-1", number=7, connector=1, minutes=1, mid="a")
    again = transaction(START, device="cp-1", number=8, connector=1, minutes=1, mid="b")
    stop_again = Envelope(
        received_at_ns=again[-1].received_at_ns,
        route=again[-1].route,
        payload=again[-1].payload.replace(b'"transactionId": 8', b'"transactionId": 7'),
    )
    tables, _ = run(chain, [*first[:2], *again[:2], first[-1], stop_again])
    assert [
        ("start", "a-start", None),
        ("start_answer", "a-start", "7"),
        ("start", "b-start", None),
        ("start_answer", "b-start", "8"),
        ("end", "a-stop", "7"),
    ] == tables["charger_transaction"].select("event", "message_id", "transaction_id").rows()


def test_unset_clock_is_recognised_again_and_set_to_the_receipt(chain: Chain) -> None:
    """A resend has the same clock and another receipt, so duplicates are dropped before clocks are set."""
    unset = "1970-01-01T00:00:10Z"
    later = START + timedelta(seconds=30)
    tables, state = run(
        chain,
        [meter(START, 5.0, timestamp=unset), meter(later, 5.0, timestamp=unset), meter(later, 6.0, timestamp=unset)],
    )
    assert [(START, 5.0, "clock_unset"), (later, 6.0, "clock_unset")] == tables["charger_meter"].select(
        "measured_at", "energy_import_wh", "flags"
    ).rows()
    assert {"charger_meter/clock_unset": 2} == state.ledger.flags


def test_windows_and_newest_values_are_those_of_a_connector(chain: Chain) -> None:
    """Two registers of one charger are two windows and two newest values."""
    envelopes = [
        meter(START + timedelta(seconds=10 * i), base + i, connector=connector, mid=f"{connector}-{i}")
        for i in range(12)
        for connector, base in ((1, 100.0), (2, 5000.0))
    ]
    tables, state = run(chain, [*envelopes, tick(START + timedelta(minutes=30))])
    assert ["tenant", "device_id", "connector", "window_start", "window_s"] == tables[WINDOWS].columns[:5]
    minutes = tables[WINDOWS].filter(pl.col("window_s") == 60).sort("connector", "window_start", "revision")
    last = minutes.unique(["connector", "window_start"], keep="last", maintain_order=True)
    assert [
        ("1", START, 6, 100.0, 105.0),
        ("1", START + timedelta(minutes=1), 6, 106.0, 111.0),
        ("2", START, 6, 5000.0, 5005.0),
        ("2", START + timedelta(minutes=1), 6, 5006.0, 5011.0),
    ] == last.select("connector", "window_start", "n", "energy_import_wh_first", "energy_import_wh_last").rows()
    devices = state.streams["charger_meter"].devices.frame
    assert devices is not None
    assert [("1", 111.0, 12), ("2", 5011.0, 12)] == devices.select("connector", "energy_import_wh", "readings").rows()


def test_stop_without_connector_counts_in_the_windows_of_its_transaction(chain: Chain) -> None:
    """Its meter values are those of the connector that the start named."""
    tables, _ = run(
        chain,
        [*transaction(START, device="cp-1", number=7, connector=2, minutes=3), tick(START + timedelta(hours=1))],
        [1, 3],
    )
    assert ["2"] == tables[WINDOWS]["connector"].unique().to_list()
    assert [300.0] == tables[WINDOWS].filter(pl.col("window_s") == 3600)["energy_import_wh_last"].to_list()[-1:]


def test_crashed_entry_of_a_charger_is_quarantined_in_every_table(chain: Chain) -> None:
    """It keeps its raw row and gets its reject; sessions and connectors stay as they are."""
    state = chain.empty_state(Offset(3))
    outputs, after = chain.quarantine(to_batch(Offset(3), [meter(START, 1.0)]), state, RuntimeError("boom"))
    assert set(chain.schemas) == set(outputs.tables)
    assert {"charger_meter/crash": 1} == after.ledger.rejected
    assert (state.connectors, 4) == (after.connectors, after.next_offset)


def test_checkpoint_of_before_there_were_chargers_is_read(chain: Chain) -> None:
    """Version 1 has everything but them; they begin empty, and nothing else is lost."""
    vehicles = [reading("ev-1", START + timedelta(seconds=i)) for i in range(100)]
    _, state = run(chain, vehicles)
    packed = msgspec.msgpack.decode(chain.to_bytes(state))
    old = {key: value for key, value in packed.items() if key not in {"connectors", "sessions"}} | {"version": 1}
    for name in ("duplicates", "windows", "devices"):
        old[name] = {stream: kept for stream, kept in old[name].items() if not stream.startswith("charger")}
    loaded = chain.from_bytes(msgspec.msgpack.encode(old))
    assert (state.ledger, state.next_offset) == (loaded.ledger, loaded.next_offset)
    rest = to_batch(loaded.next_offset, [meter(START, 1.0), reading("ev-1", START + timedelta(seconds=99))])
    outputs, _ = chain.run(rest, loaded)
    assert {"charger_meter": 1} == {stream: n for stream, n in outputs.counts.rows.items() if n}
    assert {"vehicle_telemetry": 1} == {stream: n for stream, n in outputs.counts.duplicates.items() if n}
    with pytest.raises(CheckpointError, match="state has version 4"):
        chain.from_bytes(msgspec.msgpack.encode(packed | {"version": 4}))


def test_contracts_without_chargers_have_no_tables_of_theirs() -> None:
    """Then what chargers say is of an unknown channel, and kept as such."""
    chain = Chain(ContractSet(c for c in load_contracts([]) if c.stream == "vehicle_telemetry"))
    assert {"raw", "rejects", "alert_revisions", "vehicle_telemetry", "windows_vehicle_telemetry"} == set(chain.schemas)
    _, state = run(chain, [meter(START, 1.0)])
    assert {"-/unknown_channel": 1} == state.ledger.rejected
