"""Frames of OCPP 1.6 as records."""

import json
from typing import Any

import msgspec
import pytest

from gateway.core.limits import DETAIL_CHARS_MAX
from gateway.wire.ocpp.actions import FROM_STATION
from gateway.wire.ocpp.records import METER, STATUS, TRANSACTION, Record, RecordFault
from gateway.wire.ocpp.records_v16 import read
from gateway.wire.ocpp.versions import Version

AT = "2026-03-01T10:00:00Z"


def call(action: str, **payload: Any) -> bytes:
    """Return a CALL."""
    return json.dumps([2, "m-1", action, payload]).encode()


def meter(*samples: dict[str, Any], **payload: Any) -> list[Record]:
    """Return the records of MeterValues with one element."""
    given = {"connectorId": 1, "transactionId": 42, **payload}
    return read("MeterValues", call("MeterValues", meterValue=[{"timestamp": AT, "sampledValue": samples}], **given))


def columns(record: Record, *but: str) -> dict[str, Any]:
    """Return what a meter row says besides whose it is."""
    usual = {"message_id", "ocpp_version", "connector", "connector_id", "transaction_id", "context", *but}
    return {name: value for name, value in record.fields.items() if name not in usual}


def test_meter_values_are_one_row_in_base_units() -> None:
    """Ten sampled values of one time and context, with the place and transaction they belong to."""
    (row,) = meter(
        {"value": "12.345", "unit": "kWh", "context": "Sample.Periodic"},
        {"value": "11040", "measurand": "Power.Active.Import", "unit": "W"},
        {"value": "16.1", "measurand": "Current.Import", "unit": "A", "phase": "L1"},
        {"value": "16.2", "measurand": "Current.Import", "unit": "A", "phase": "L2"},
        {"value": "16.3", "measurand": "Current.Import", "unit": "A", "phase": "L3"},
        {"value": "230.5", "measurand": "Voltage", "unit": "V", "phase": "L1-N"},
        {"value": "45", "measurand": "SoC", "unit": "Percent", "location": "EV"},
        {"value": "0.98", "measurand": "Power.Factor"},
    )
    assert (METER, AT, set()) == (row.stream, row.measured_at, row.flags)
    assert {
        "message_id": "m-1",
        "ocpp_version": "1.6",
        "connector": "1",
        "connector_id": 1,
        "transaction_id": "42",
        "context": "Sample.Periodic",
        "energy_import_wh": 12345.0,
        "power_import_kw": 11.04,
        "current_l1_a": 16.1,
        "current_l2_a": 16.2,
        "current_l3_a": 16.3,
        "voltage_l1_v": 230.5,
        "soc_pct": 45.0,
        "power_factor": 0.98,
    } == row.fields


def test_each_time_and_context_is_a_row() -> None:
    """A begin and an end in one element are two registers, not one overwritten."""
    frame = call(
        "MeterValues",
        connectorId=0,
        meterValue=[
            {
                "timestamp": AT,
                "sampledValue": [
                    {"value": "1", "context": "Transaction.Begin"},
                    {"value": "9", "context": "Transaction.End"},
                    {"value": "2", "context": "Transaction.Begin", "measurand": "SoC"},
                ],
            },
            {"timestamp": "2026-03-01T10:01:00Z", "sampledValue": [{"value": "5"}]},
        ],
    )
    rows = read("MeterValues", frame)
    assert [
        (AT, "Transaction.Begin", 1.0, 2.0),
        (AT, "Transaction.End", 9.0, None),
        ("2026-03-01T10:01:00Z", "Sample.Periodic", 5.0, None),
    ] == [
        (row.measured_at, row.fields["context"], row.fields["energy_import_wh"], row.fields.get("soc_pct"))
        for row in rows
    ]
    assert {"0"} == {row.fields["connector"] for row in rows}


def test_three_phases_add_up_unless_the_total_is_there() -> None:
    """One or two phases may be all or some of them, so they add up to nothing; all of them stay in `other`."""

    def power(value: str, phase: str | None = None) -> dict[str, Any]:
        return {"value": value, "measurand": "Power.Active.Import", "unit": "W"} | ({"phase": phase} if phase else {})

    (three,) = meter(power("1000", "L1"), power("2000", "L2"), power("3500", "L3-N"))
    (two,) = meter(power("1000", "L1"), power("2000", "L2"))
    (total,) = meter(power("6000"), power("1000", "L1"), power("2000", "L2"), power("3500", "L3"))
    assert (6.5, None, 6.0) == tuple(row.fields.get("power_import_kw") for row in (three, two, total))
    assert 3 == len(json.loads(str(three.fields["other"])))


def test_value_without_a_column_is_kept_as_it_was_sent() -> None:
    """`other` holds what the columns cannot: reactive power, signed data, a second value of a column."""
    samples = [
        {"value": "3", "measurand": "Power.Reactive.Import", "unit": "var"},
        {"value": "OCMF|{}", "format": "SignedData", "measurand": "Energy.Active.Import.Register"},
        {"value": "400", "measurand": "Voltage", "unit": "V", "location": "Inlet"},
        {"value": "20", "measurand": "Temperature", "location": "Body"},
        {"value": "30", "measurand": "Temperature", "location": "Cable"},
    ]
    (row,) = meter(*samples)
    assert [samples[0], samples[1], samples[2], samples[4]] == json.loads(str(row.fields["other"]))
    assert {"temperature_c": 20.0} == columns(row, "other")
    assert set() == row.flags


@pytest.mark.parametrize(
    ("sample", "expected", "flags"),
    [
        ({"value": 7}, {"energy_import_wh": 7.0}, {"text_as_number"}),
        ({"value": "7", "context": "Sometimes"}, {"energy_import_wh": 7.0}, {"unknown_context"}),
        ({"value": "50", "measurand": "Frequency", "unit": "Hz"}, {"frequency_hz": 50.0}, {"unknown_unit"}),
        ({"value": "7", "measurand": "Vendor.X"}, {}, {"unknown_measurand"}),
        ({"value": "1,5"}, {}, {"unreadable_value"}),
        ({"value": "1_000"}, {}, {"unreadable_value"}),
        ({"value": "nan"}, {}, {"unreadable_value"}),
        ({"value": ""}, {}, {"unreadable_value"}),
        ({"measurand": "SoC"}, {}, {"unreadable_value"}),
    ],
)
def test_dirt_in_a_sampled_value_is_flagged(
    sample: dict[str, Any], expected: dict[str, float], flags: set[str]
) -> None:
    """What can be understood is, what cannot is kept beside; the row comes through."""
    (row,) = meter(sample)
    assert (expected, flags) == (columns(row, "other"), row.flags)
    assert ("other" in row.fields) == (not expected)


@pytest.mark.parametrize(
    ("sent", "expected", "flags"),
    [
        (42, "42", set()),
        (None, None, set()),
        ("42", "42", {"number_as_text"}),
        (-1, None, {"no_transaction"}),
        (0, None, {"no_transaction"}),
        (2**63 - 1, None, {"no_transaction"}),
        (2**64, None, {"no_transaction", "unreadable_value"}),
        ("none", None, {"no_transaction", "unreadable_value"}),
    ],
)
def test_transaction_id_that_stands_for_none_is_none(sent: Any, expected: str | None, flags: set[str]) -> None:
    """Meter values outside of a transaction are known to carry these."""
    (row,) = meter({"value": "1"}, transactionId=sent)
    assert (expected, flags) == (row.fields["transaction_id"], row.flags)


def test_start_and_our_answer_share_the_message_id() -> None:
    """The answer names the transaction, and its start only by the id of the message."""
    (start,) = read(
        "StartTransaction", call("StartTransaction", connectorId=2, idTag="TAG", meterStart=100, timestamp=AT)
    )
    (answer,) = read(
        "StartTransaction.conf", b'[3,"m-1",{"transactionId":7,"idTagInfo":{"status":"Accepted","parentIdTag":"P"}}]'
    )
    assert (TRANSACTION, AT, TRANSACTION, None) == (
        start.stream,
        start.measured_at,
        answer.stream,
        answer.measured_at,
    )
    assert ("start", "2", 2, "TAG", 100.0, "m-1") == tuple(
        start.fields[name]
        for name in ("event", "connector", "connector_id", "id_token", "meter_start_wh", "start_message_id")
    )
    assert ("start_answer", "7", "Accepted", "m-1") == tuple(
        answer.fields[name] for name in ("event", "transaction_id", "answer_status", "start_message_id")
    )
    assert "connector" not in answer.fields


def test_stop_ends_a_transaction_and_has_meter_rows() -> None:
    """Transaction data are meter rows of the same message, of the same transaction."""
    end, begin_row, end_row = read(
        "StopTransaction",
        call(
            "StopTransaction",
            transactionId=7,
            meterStop=2100,
            timestamp=AT,
            reason="EVDisconnected",
            transactionData=[
                {
                    "timestamp": "2026-03-01T09:00:00Z",
                    "sampledValue": [{"value": "100", "context": "Transaction.Begin"}],
                },
                {"timestamp": AT, "sampledValue": [{"value": "2100", "context": "Transaction.End"}]},
            ],
        ),
    )
    assert ("end", "7", 2100.0, "EVDisconnected") == tuple(
        end.fields[name] for name in ("event", "transaction_id", "meter_stop_wh", "stop_reason")
    )
    assert [("2026-03-01T09:00:00Z", "7", 100.0), (AT, "7", 2100.0)] == [
        (row.measured_at, row.fields["transaction_id"], row.fields["energy_import_wh"]) for row in (begin_row, end_row)
    ]


def test_stop_without_reason_was_local_and_without_transaction_is_flagged() -> None:
    """Section 6.49: the reason may be left out where it is Local. The transaction may not."""
    (end,) = read("StopTransaction", call("StopTransaction", transactionId=-1, meterStop=1, timestamp=AT))
    assert ("Local", None, {"no_transaction"}) == (end.fields["stop_reason"], end.fields["transaction_id"], end.flags)
    (missing,) = read("StopTransaction", call("StopTransaction", meterStop="1"))
    assert {"no_transaction", "clock_absent", "number_as_text"} == missing.flags
    assert missing.measured_at is None


def test_authorize_is_an_event_of_the_time_of_receipt() -> None:
    """It carries no time by the standard, which is nothing to flag."""
    (row,) = read("Authorize", call("Authorize", idTag="TAG"))
    assert (TRANSACTION, None, "authorize", "TAG", set()) == (
        row.stream,
        row.measured_at,
        row.fields["event"],
        row.fields["id_token"],
        row.flags,
    )


@pytest.mark.parametrize(
    ("action", "payload", "expected", "measured_at"),
    [
        (
            "StatusNotification",
            {
                "connectorId": 1,
                "errorCode": "GroundFailure",
                "status": "Faulted",
                "timestamp": AT,
                "info": "i",
                "vendorId": "v",
                "vendorErrorCode": "e",
            },
            {
                "kind": "status",
                "connector": "1",
                "connector_id": 1,
                "status": "Faulted",
                "error_code": "GroundFailure",
                "info": "i",
                "vendor": "v",
                "vendor_error_code": "e",
            },
            AT,
        ),
        (
            "BootNotification",
            {
                "chargePointVendor": "V",
                "chargePointModel": "M",
                "chargeBoxSerialNumber": "S",
                "firmwareVersion": "1.2",
                "iccid": "89",
                "imsi": "",
            },
            {
                "kind": "boot",
                "vendor": "V",
                "model": "M",
                "serial": "S",
                "firmware_version": "1.2",
                "detail": '{"iccid":"89"}',
            },
            None,
        ),
        (
            "SignedFirmwareStatusNotification",
            {"status": "Downloaded", "requestId": 5},
            {"kind": "firmware", "status": "Downloaded", "request_id": 5},
            None,
        ),
        ("FirmwareStatusNotification", {"status": "Installed"}, {"kind": "firmware", "status": "Installed"}, None),
        ("DiagnosticsStatusNotification", {"status": "Uploaded"}, {"kind": "diagnostics", "status": "Uploaded"}, None),
        (
            "LogStatusNotification",
            {"status": "Uploading", "requestId": 3},
            {"kind": "log", "status": "Uploading", "request_id": 3},
            None,
        ),
        (
            "SecurityEventNotification",
            {"type": "TamperDetectionActivated", "timestamp": AT, "techInfo": "t"},
            {"kind": "security", "security_event": "TamperDetectionActivated", "info": "t"},
            AT,
        ),
        ("SignCertificate", {"csr": "PEM"}, {"kind": "security", "detail": '{"csr":"PEM"}'}, None),
        (
            "DataTransfer",
            {"vendorId": "V", "messageId": "x", "data": "y"},
            {"kind": "data_transfer", "vendor": "V", "detail": '{"messageId":"x","data":"y"}'},
            None,
        ),
        ("Unheard", {"a": [1]}, {"kind": "other", "detail": '{"a":[1]}'}, None),
    ],
)
def test_notifications_are_one_row_each(
    action: str, payload: dict[str, Any], expected: dict[str, Any], measured_at: str | None
) -> None:
    """What has a column is in it, the rest is `detail`; without a connector it is the charger itself."""
    (row,) = read(action, call(action, **payload))
    base = {
        "message_id": "m-1",
        "ocpp_version": "1.6",
        "connector": "0",
        "connector_id": 0,
        "action": action,
    }
    assert (STATUS, measured_at, base | expected, set()) == (row.stream, row.measured_at, row.fields, row.flags)


def test_every_action_of_a_station_gives_a_record() -> None:
    """Whatever a station may send is a row: none is passed over."""
    frames = {action: call(action) for action in FROM_STATION[Version.V16] - {"MeterValues"}}
    assert dict.fromkeys(frames, 1) == {action: len(read(action, frame)) for action, frame in frames.items()}


@pytest.mark.parametrize(
    ("action", "frame", "code", "path"),
    [
        ("MeterValues", call("MeterValues", connectorId=1, meterValue=[]), "empty", "$[3].meterValue"),
        ("MeterValues", call("MeterValues", connectorId=1), "empty", "$[3].meterValue"),
        ("Authorize", b'[4,"m","Authorize",{}]', "type", "$[0]"),
        ("StartTransaction.conf", b'[2,"m",{"transactionId":7}]', "type", "$[0]"),
    ],
)
def test_frame_that_holds_nothing_is_a_fault(action: str, frame: bytes, code: str, path: str) -> None:
    """An entry without a record would be lost without a trace."""
    with pytest.raises(RecordFault) as fault:
        read(action, frame)
    assert (code, path) == (fault.value.code, fault.value.path)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"nonsense",
        b"[2]",
        b'[2,"m","MeterValues",{"meterValue":[{"sampledValue":{"value":"1"}}]}]',
        b'[2,"m","MeterValues",{"meterValue":"x"}]',
        b'[2,7,"MeterValues",{"meterValue":[]}]',
        b'[2,"m","MeterValues",{"meterValue":[],}]',
    ],
)
def test_frame_of_another_shape_does_not_decode(frame: bytes) -> None:
    """What no type fits is the decoder's error, with its place."""
    with pytest.raises(msgspec.DecodeError):
        read("MeterValues", frame)


def test_long_detail_is_cut_and_flagged() -> None:
    """A column does not take a quarter of a megabyte; the journal has it all."""
    (row,) = read("DataTransfer", call("DataTransfer", vendorId="V", data="x" * DETAIL_CHARS_MAX))
    assert (DETAIL_CHARS_MAX, {"detail_cut"}) == (len(str(row.fields["detail"])), row.flags)
