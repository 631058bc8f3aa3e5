"""Entries of chargers become readings of three streams, or rejects."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.core.ids import Offset
from gateway.core.records import Envelope, to_batch
from processors.contracts.load import ContractSet, load_contracts
from processors.stages.decode import Decoded
from processors.stages.ocpp import OcppDecoder, set_unset_clocks, stream_of
from processors.stages.records import BatchTooLarge
from tests.journals import START
from tests.unit.processors.stages.charger_frames import call, entry, meter, text, transaction

CONTRACTS = load_contracts([])


def decode(*envelopes: Envelope, **limits: int) -> dict[str, Decoded]:
    """Decode entries that begin at offset 100."""
    decoder = OcppDecoder(CONTRACTS, **limits)
    return decoder.decode(to_batch(Offset(100), list(envelopes)), range(len(envelopes)))


@pytest.mark.parametrize(
    ("channel", "stream"),
    [
        ("ocpp1.6/MeterValues", "charger_meter"),
        ("ocpp1.6/StartTransaction", "charger_transaction"),
        ("ocpp1.6/StartTransaction.conf", "charger_transaction"),
        ("ocpp1.6/BootNotification", "charger_status"),
        ("ocpp1.6/Anything", "charger_status"),
        ("ocpp2.0.1/TransactionEvent", "charger_transaction"),
        ("ocpp2.1/NotifySettlement", "charger_transaction"),
        ("ocpp2.1/NotifyEvent", "charger_status"),
        ("ocpp/connected", "charger_status"),
        ("ocpp/other", None),
        ("ocpp1.5/MeterValues", None),
        ("ocpp1.6/", None),
        ("ocpp1.6", None),
        ("charger_meter", None),
        ("telemetry", None),
    ],
)
def test_channel_says_the_stream(channel: str, stream: str | None) -> None:
    """A channel that is not of OCPP has none."""
    assert stream == stream_of(channel)


def test_one_entry_gives_rows_of_several_streams() -> None:
    """A StopTransaction ends a transaction and has meter values; their records are counted within the message."""
    decoded = decode(*transaction(START, device="cp-1", number=7, connector=2, minutes=3))
    events, meters = decoded["charger_transaction"], decoded["charger_meter"]
    assert [(100, 0, "start"), (101, 0, "start_answer"), (104, 0, "end")] == events.readings.select(
        "offset", "record", "event"
    ).rows()
    assert [(102, 0, 100.0), (103, 0, 200.0), (104, 1, 300.0)] == meters.readings.select(
        "offset", "record", "energy_import_wh"
    ).rows()
    assert (3, 3, [], []) == (events.records, meters.records, events.rejections, meters.rejections)
    assert {"cp-1"} == set(meters.readings["device_id"])


def test_readings_have_the_columns_of_their_contracts() -> None:
    """Whatever a frame leaves out is null, in the contract's types."""
    decoded = decode(meter(START, 1.0), call("Authorize", idTag="T"), entry("ocpp/connected", b'{"event":"connected"}'))
    for stream, one in decoded.items():
        contract = CONTRACTS.by_stream(stream)
        assert contract is not None
        assert contract.readings_schema() == dict(one.readings.schema)
    assert {"charger_status", "charger_meter", "charger_transaction"} == set(decoded)


def test_message_without_a_time_is_of_its_receipt() -> None:
    """Boots and connections carry none by the standard; that is nothing to flag."""
    decoded = decode(call("BootNotification", at=START, chargePointVendor="V", chargePointModel="M"))
    assert [(START, None)] == decoded["charger_status"].readings.select("measured_at", "flags").rows()


@pytest.mark.parametrize(
    ("timestamp", "expected", "flags"),
    [
        ("2026-11-22T23:50:00Z", START, None),
        ("2026-11-22T23:50:00.500Z", START + timedelta(milliseconds=500), None),
        ("2026-11-23T01:50:00+02:00", START, None),
        ("2026-11-22T23:50:00", START, "no_zone"),
        ("2026-11-22 23:50:00.5", START + timedelta(milliseconds=500), "no_zone"),
        ("1970-01-01T00:00:07Z", datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC), None),
        ("0001-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC), None),
        ("1969-12-31T23:00:00", datetime(1970, 1, 1, tzinfo=UTC), "no_zone"),
    ],
)
def test_times_of_chargers_are_read(timestamp: str, expected: datetime, flags: str | None) -> None:
    """A time without a zone is taken for UTC and flagged; an unset clock is a matter for later."""
    readings = decode(meter(START, 1.0, timestamp=timestamp))["charger_meter"].readings
    assert [(expected, flags)] == readings.select("measured_at", "flags").rows()


def test_unreadable_time_refuses_its_row_alone() -> None:
    """Its neighbours in the message are rows; the reject shows what came."""
    values = [
        {"timestamp": stamp, "sampledValue": [{"value": "1"}]}
        for stamp in ("yesterday", text(START), "2026-13-01T00:00:00Z")
    ]
    decoded = decode(call("MeterValues", connectorId=1, meterValue=values))["charger_meter"]
    assert [(100, 1)] == decoded.readings.select("offset", "record").rows()
    assert [(0, "time", "$[3]", "yesterday"), (2, "time", "$[3]", "2026-13-01T00:00:00Z")] == [
        (one.record, one.code, one.path, one.got) for one in decoded.rejections
    ]
    assert decoded.records == 3


@pytest.mark.parametrize(
    ("channel", "payload", "stream", "code", "path"),
    [
        ("ocpp1.6/MeterValues", b"\xff", "charger_meter", "json", "$"),
        ("ocpp1.6/MeterValues", b"", "charger_meter", "json", "$"),
        ("ocpp1.6/MeterValues", b'[2,"m","MeterValues",{"meterValue":7}]', "charger_meter", "type", "$[3].meterValue"),
        ("ocpp1.6/MeterValues", b'[2,"m","MeterValues",{}]', "charger_meter", "empty", "$[3].meterValue"),
        ("ocpp2.1/TransactionEvent", b'[2,"m","x",{}]', "charger_transaction", "required", "$[3].eventType"),
        ("ocpp2.0.1/NotifyEvent", b'[2,"m","x",{"a":' + b"[" * 99_999, "charger_status", "json", "$"),
        ("ocpp/connected", b"[]", "charger_status", "type", "$"),
    ],
)
def test_entry_that_cannot_be_read_is_one_reject(
    channel: str, payload: bytes, stream: str, code: str, path: str
) -> None:
    """With its place and its bytes, of the stream it would have been of; the next entry is untouched."""
    decoded = decode(entry(channel, payload), meter(START, 1.0))
    (reject,) = decoded[stream].rejections
    assert (100, 0, "decode", code, path, payload) == (
        reject.offset,
        reject.record,
        reject.stage,
        reject.code,
        reject.path,
        reject.payload,
    )
    assert [101] == decoded["charger_meter"].readings["offset"].to_list()


def test_flags_of_columns_and_of_records_stand_together() -> None:
    """Sorted and joined by commas, and counted."""
    decoded = decode(
        call(
            "MeterValues",
            connectorId=1,
            transactionId=-1,
            meterValue=[{"timestamp": text(START)[:-1], "sampledValue": [{"value": 900, "measurand": "SoC"}]}],
        )
    )["charger_meter"]
    assert ["no_transaction,no_zone,range:soc_pct,text_as_number"] == decoded.readings["flags"].to_list()
    assert {"no_transaction": 1, "no_zone": 1, "range:soc_pct": 1, "text_as_number": 1} == decoded.flagged


def test_number_beyond_its_column_is_null() -> None:
    """64 bits are what a column holds; more is no request id of anybody."""
    decoded = decode(call("LogStatusNotification", status="Uploading", requestId=2**70))["charger_status"]
    assert [(None, "unreadable_value")] == decoded.readings.select("request_id", "flags").rows()


def test_too_many_records_are_left_to_smaller_batches() -> None:
    """One entry alone is bounded by its own size."""
    several = [{"timestamp": text(START), "sampledValue": [{"value": "1"}]}] * 4
    one = call("MeterValues", connectorId=1, meterValue=several)
    with pytest.raises(BatchTooLarge, match="2 payloads hold more than 5 records"):
        decode(one, one, records_max=5)
    assert decode(one, records_max=3)["charger_meter"].records == 4


def test_without_its_contracts_it_serves_nobody() -> None:
    """A set of other contracts has no place for what chargers say."""
    assert OcppDecoder(ContractSet([])).contracts == ()
    assert {"charger_status", "charger_meter", "charger_transaction"} == {
        c.stream for c in OcppDecoder(CONTRACTS).contracts
    }


def test_unset_clock_is_set_to_the_receipt() -> None:
    """1970 is a charger that nobody has told the time; what is flagged already keeps its flags in order."""
    readings = decode(
        meter(START, 1.0, timestamp="1970-01-01T00:00:07"), meter(START, 1.0, timestamp="2000-01-01T00:00:00Z")
    )["charger_meter"].readings
    corrected = set_unset_clocks(readings)
    assert corrected.clamped_rows == 1
    assert [(START, "clock_unset,no_zone"), (datetime(2000, 1, 1, tzinfo=UTC), None)] == corrected.readings.select(
        "measured_at", "flags"
    ).rows()
    assert set_unset_clocks(corrected.readings).clamped_rows == 0


def test_transaction_event_of_every_version_is_read_in_its_own_words() -> None:
    """The version of the channel counts."""
    event: dict[str, Any] = {
        "eventType": "Started",
        "timestamp": text(START),
        "triggerReason": "Authorized",
        "seqNo": 0,
        "transactionInfo": {"transactionId": "t"},
    }
    envelopes = [call("TransactionEvent", version=version, **event) for version in ("ocpp2.0.1", "ocpp2.1")]
    assert ["2.0.1", "2.1"] == decode(*envelopes)["charger_transaction"].readings["ocpp_version"].to_list()
    assert json.loads(envelopes[0].payload)[2] == "TransactionEvent"
