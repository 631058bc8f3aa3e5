"""A message that names no connector is about that of its transaction."""

import itertools
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from gateway.core.errors import CheckpointError
from gateway.core.ids import Offset
from gateway.core.records import Envelope, to_batch
from processors.contracts.load import load_contracts
from processors.stages import connectors
from processors.stages.connectors import ConnectorState, fill_connectors
from processors.stages.ocpp import OcppDecoder
from tests.journals import START
from tests.unit.processors.stages.charger_frames import call, meter, text, transaction

CONTRACTS = load_contracts([])


def event(seq: int, kind: str, evse: dict[str, int] | None, *, wh: float | None = None, number: str = "t") -> Envelope:
    """Return a TransactionEvent of 2.0.1."""
    at = START + timedelta(minutes=seq)
    payload: dict[str, Any] = {
        "eventType": kind,
        "timestamp": text(at),
        "triggerReason": "MeterValuePeriodic",
        "seqNo": seq,
        "transactionInfo": {"transactionId": number},
    }
    if evse:
        payload["evse"] = evse
    if wh is not None:
        payload["meterValue"] = [{"timestamp": text(at), "sampledValue": [{"value": wh}]}]
    return call("TransactionEvent", version="ocpp2.0.1", at=at, **payload)


def filled(*envelopes: Envelope, cut: int = 1000) -> tuple[list[Any], list[Any], ConnectorState]:
    """Return the connectors of events and of meter values, in batches of `cut`, the state stored between them."""
    decoder, state = OcppDecoder(CONTRACTS), ConnectorState.empty()
    empty = {c.stream: pl.DataFrame(schema=pl.Schema(c.readings_schema())) for c in decoder.contracts}
    events: list[Any] = []
    meters: list[Any] = []
    for start in range(0, len(envelopes), cut):
        part = list(envelopes[start : start + cut])
        decoded = decoder.decode(to_batch(Offset(start), part), range(len(part)))
        frames = [
            decoded[stream].readings if stream in decoded else empty[stream]
            for stream in ("charger_transaction", "charger_meter")
        ]
        said, measured, state = fill_connectors(ConnectorState.from_bytes(state.to_bytes()), *frames)
        events += said.select("connector", "evse_id", "connector_id").rows()
        meters += measured.select("connector", "evse_id", "connector_id").rows()
    return events, meters, state


@pytest.mark.parametrize("cut", [1, 2, 3, 1000])
def test_stop_of_16_is_on_the_connector_of_its_start(cut: int) -> None:
    """By way of our answer, which has the message id of the one and the transaction id of the other."""
    events, meters, _ = filled(*transaction(START, device="cp-1", number=7, connector=2, minutes=3), cut=cut)
    assert [("2", None, 2)] * 3 == events
    assert [("2", None, 2)] * 3 == meters


@pytest.mark.parametrize("cut", [1, 2, 1000])
def test_later_events_of_2x_are_on_the_connector_of_the_first(cut: int) -> None:
    """The EVSE is named once; meter rows are the EVSE's."""
    events, meters, _ = filled(
        event(0, "Updated", None, wh=0.0),
        event(1, "Started", {"id": 1, "connectorId": 2}),
        event(2, "Updated", None, wh=5.0),
        event(3, "Ended", {"id": 1}, wh=9.0),
        cut=cut,
    )
    assert [(None, None, None), ("1/2", 1, 2), ("1/2", 1, 2), ("1/2", 1, 2)] == events
    assert [(None, None, None), ("1", 1, 2), ("1", 1, None)] == meters


def test_what_a_message_names_is_believed() -> None:
    """A transaction that moves to another EVSE is there from then on."""
    events, _, _ = filled(
        event(0, "Started", {"id": 1, "connectorId": 1}),
        event(1, "Updated", {"id": 2, "connectorId": 1}),
        event(2, "Updated", None),
    )
    assert ["1/1", "2/1", "2/1"] == [connector for connector, _, _ in events]


def test_chargers_and_transactions_are_told_apart() -> None:
    """The same number at another charger is another transaction."""
    stop: dict[str, Any] = {"transactionId": 7, "meterStop": 1, "timestamp": text(START)}
    events, _, _ = filled(
        *transaction(START, device="cp-1", number=7, connector=1, minutes=1),
        call("StopTransaction", device="cp-2", **stop),
        call("StopTransaction", device="cp-1", **(stop | {"transactionId": 8})),
    )
    assert ["1", "1", "1", None, None] == [connector for connector, _, _ in events]


def test_oldest_transactions_are_forgotten_past_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the years; how the journal is cut does not matter."""
    monkeypatch.setattr(connectors, "TRANSACTIONS_REMEMBERED_MAX", 2)
    starts = [event(0, "Started", {"id": n, "connectorId": 1}, number=f"t-{n}") for n in (1, 2, 3)]
    ends = [event(1, "Ended", None, number=f"t-{n}") for n in (1, 2, 3)]
    outcomes = [filled(*starts, *ends, cut=cut) for cut in (1, 2, 6)]
    assert [None, "2/1", "3/1"] == [connector for connector, _, _ in outcomes[0][0][3:]]
    assert all(one == other for one, other in itertools.pairwise(outcomes))


def test_meter_values_that_name_their_connector_are_left_as_they_are() -> None:
    """What there is to look up is looked up, the frames themselves come back."""
    decoded = OcppDecoder(CONTRACTS).decode(to_batch(Offset(0), [meter(START, 1.0)]), [0])
    meters, state = decoded["charger_meter"].readings, ConnectorState.empty()
    contract = CONTRACTS.by_stream("charger_transaction")
    assert contract is not None
    none = pl.DataFrame(schema=pl.Schema(contract.readings_schema()))
    events, after, same = fill_connectors(state, none, meters)
    assert (id(none), id(meters), id(state)) == (id(events), id(after), id(same))


def test_state_of_another_version_is_refused() -> None:
    """The journal is there to rebuild it from."""
    with pytest.raises(CheckpointError, match="connector state is unreadable"):
        ConnectorState.from_bytes(b"\xc1")
    newer = ConnectorState.empty().to_bytes().replace(b"version\x01", b"version\x02")
    with pytest.raises(CheckpointError, match="connector state is version 2, not 1"):
        ConnectorState.from_bytes(newer)
