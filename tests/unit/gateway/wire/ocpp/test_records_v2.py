"""Frames of OCPP 2.0.1 and 2.1 as records, and what the gateway saw of connections."""

import json
from typing import Any

import pytest

from gateway.wire.ocpp.actions import FROM_STATION, SENT_BY_STATION
from gateway.wire.ocpp.records import METER, STATUS, TRANSACTION, Record, RecordFault, read_connection
from gateway.wire.ocpp.records_v2 import FrameReader
from gateway.wire.ocpp.versions import Version

AT = "2026-03-01T10:00:00.000Z"
V201, V21 = FrameReader(Version.V201), FrameReader(Version.V21)


def call(action: str, kind: int = 2, **payload: Any) -> bytes:
    """Return a CALL, or with kind 6 a SEND."""
    return json.dumps([kind, "m-1", action, payload]).encode()


def event(reader: FrameReader = V201, **payload: Any) -> list[Record]:
    """Return the records of a TransactionEvent."""
    given = {
        "eventType": "Updated",
        "timestamp": AT,
        "triggerReason": "MeterValuePeriodic",
        "seqNo": 3,
        "transactionInfo": {"transactionId": "t-1"},
        **payload,
    }
    return reader.read("TransactionEvent", call("TransactionEvent", **given))


def test_started_event_is_a_start_with_everything_it_says() -> None:
    """Connector, token, VIN, trigger and state; what has no column is `detail`."""
    (row,) = event(
        V21,
        eventType="Started",
        seqNo=0,
        offline=True,
        evse={"id": 1, "connectorId": 2},
        reservationId=9,
        cableMaxCurrent=32,
        idToken={
            "idToken": "DE-ABC",
            "type": "eMAID",
            "additionalInfo": [{"additionalIdToken": "WVWZZZ", "type": "VIN"}],
        },
        transactionInfo={"transactionId": "t-1", "chargingState": "Charging", "remoteStartId": 5, "tariffId": "T"},
    )
    assert (TRANSACTION, AT, set()) == (row.stream, row.measured_at, row.flags)
    detail = json.loads(str(row.fields.pop("detail")))
    assert {
        "cableMaxCurrent": 32,
        "tariffId": "T",
        "additionalInfo": [{"additionalIdToken": "WVWZZZ", "type": "VIN"}],
    } == detail
    assert {
        "message_id": "m-1",
        "ocpp_version": "2.1",
        "connector": "1/2",
        "evse_id": 1,
        "connector_id": 2,
        "event": "start",
        "transaction_id": "t-1",
        "seq_no": 0,
        "offline": True,
        "trigger_reason": "MeterValuePeriodic",
        "charging_state": "Charging",
        "stop_reason": None,
        "reservation_id": 9,
        "remote_start_id": 5,
        "id_token": "DE-ABC",
        "id_token_type": "eMAID",
        "vin": "WVWZZZ",
    } == row.fields


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"transactionId": "t-1"}, "Local"),
        ({"transactionId": "t-1", "stoppedReason": "EmergencyStop"}, "EmergencyStop"),
    ],
)
def test_ended_event_has_a_reason(info: dict[str, Any], expected: str) -> None:
    """TransactionType: the reason may be left out where it is Local."""
    (row,) = event(eventType="Ended", transactionInfo=info)
    assert ("end", expected) == (row.fields["event"], row.fields["stop_reason"])


def test_vin_may_be_the_token_itself() -> None:
    """2.1 has a token type of that name; an empty token is none."""
    (row,) = event(V21, idToken={"idToken": "WVWZZZ", "type": "VIN"})
    (none,) = event(V21, idToken={"idToken": "", "type": "NoAuthorization"})
    assert ("WVWZZZ", None) == (row.fields["vin"], none.fields["id_token"])


def test_meter_values_of_an_event_are_rows_of_the_evse() -> None:
    """The EVSE has the meter: MeterValues names no connector, and both are one register."""
    samples = [
        {"value": 1.5, "unitOfMeasure": {"unit": "kWh", "multiplier": 1}},
        {"value": 7360, "measurand": "Power.Active.Import", "unitOfMeasure": {"unit": "W"}},
        {"value": 250, "measurand": "Current.Import", "unitOfMeasure": {"unit": "A", "multiplier": -1}},
    ]
    update, row = event(evse={"id": 1, "connectorId": 2}, meterValue=[{"timestamp": AT, "sampledValue": samples}])
    assert ("update", "1/2") == (update.fields["event"], update.fields["connector"])
    assert (METER, "1", 1, 2, "t-1", 15_000.0, 7.36, 25.0) == (
        row.stream,
        *(
            row.fields[name]
            for name in (
                "connector",
                "evse_id",
                "connector_id",
                "transaction_id",
                "energy_import_wh",
                "power_import_kw",
                "current_import_a",
            )
        ),
    )
    (clock,) = V201.read(
        "MeterValues", call("MeterValues", evseId=1, meterValue=[{"timestamp": AT, "sampledValue": samples}])
    )
    assert ("1", 1, None, None) == tuple(
        clock.fields.get(name) for name in ("connector", "evse_id", "connector_id", "transaction_id")
    )


def test_signed_value_is_read_and_kept() -> None:
    """The plain value has its column, the signature beside it stays provable."""
    signed = {"signedMeterData": "QQ==", "encodingMethod": "OCMF"}
    _, row = event(meterValue=[{"timestamp": AT, "sampledValue": [{"value": 12, "signedMeterValue": signed}]}])
    assert (12.0, [{"value": 12, "signedMeterValue": signed}]) == (
        row.fields["energy_import_wh"],
        json.loads(str(row.fields["other"])),
    )


@pytest.mark.parametrize(
    ("sample", "expected", "flags"),
    [
        ({"value": "12"}, 12.0, {"number_as_text"}),
        ({"value": 12, "unitOfMeasure": {"unit": "kwh"}}, 12_000.0, {"unknown_unit"}),
        ({"value": 12, "unitOfMeasure": {"unit": "Wh", "multiplier": 400}}, None, {"unreadable_value"}),
        ({"value": 12, "unitOfMeasure": {"multiplier": "3"}}, 12_000.0, {"number_as_text"}),
        ({"value": 12, "unitOfMeasure": {}}, 12.0, set()),
    ],
)
def test_dirt_in_a_sampled_value_is_flagged(sample: dict[str, Any], expected: float | None, flags: set[str]) -> None:
    """Numbers as text and multipliers that are no prefix of any unit."""
    _, row = event(meterValue=[{"timestamp": AT, "sampledValue": [sample]}])
    assert (expected, flags) == (row.fields.get("energy_import_wh"), row.flags)


def test_event_without_evse_names_no_connector() -> None:
    """It was named before; what stands for no transaction is none."""
    (row,) = event(transactionInfo={"transactionId": "-1"})
    assert ("connector" in row.fields, row.fields["transaction_id"], row.flags) == (False, None, {"no_transaction"})


def test_unknown_kind_of_event_is_a_fault() -> None:
    """Neither start nor end can be guessed."""
    with pytest.raises(RecordFault, match=r"\$\[3\]\.eventType"):
        event(eventType="Paused")


def test_settlement_is_a_cost() -> None:
    """2.1: what a payment service took is an event of the transaction."""
    frame = call(
        "NotifySettlement", pspRef="p", status="Settled", settlementAmount=12.5, settlementTime=AT, transactionId="t-1"
    )
    (row,) = V21.read("NotifySettlement", frame)
    assert (TRANSACTION, AT, "cost", "t-1", "Settled", 12.5) == (
        row.stream,
        row.measured_at,
        row.fields["event"],
        row.fields["transaction_id"],
        row.fields["answer_status"],
        json.loads(str(row.fields["detail"]))["settlementAmount"],
    )


@pytest.mark.parametrize(
    ("action", "payload", "expected", "measured_at"),
    [
        (
            "StatusNotification",
            {"timestamp": AT, "connectorStatus": "Occupied", "evseId": 2, "connectorId": 1},
            {"kind": "status", "connector": "2/1", "evse_id": 2, "connector_id": 1, "status": "Occupied"},
            AT,
        ),
        (
            "BootNotification",
            {"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V", "modem": {"iccid": "8"}}},
            {
                "kind": "boot",
                "reason": "PowerUp",
                "model": "M",
                "vendor": "V",
                "detail": '{"chargingStation":{"modem":{"iccid":"8"}}}',
            },
            None,
        ),
        (
            "FirmwareStatusNotification",
            {"status": "Installed", "requestId": 4},
            {"kind": "firmware", "status": "Installed", "request_id": 4},
            None,
        ),
        (
            "LogStatusNotification",
            {"status": "Uploaded", "requestId": 4},
            {"kind": "log", "status": "Uploaded", "request_id": 4},
            None,
        ),
        (
            "SecurityEventNotification",
            {"type": "InvalidCsr", "timestamp": AT, "techInfo": "x"},
            {"kind": "security", "security_event": "InvalidCsr", "info": "x"},
            AT,
        ),
        (
            "NotifyReport",
            {"requestId": 7, "generatedAt": AT, "seqNo": 0, "tbc": False},
            {"kind": "report", "request_id": 7, "detail": '{"seqNo":0,"tbc":false}'},
            AT,
        ),
        (
            "NotifyChargingLimit",
            {"evseId": 1, "chargingLimit": {"chargingLimitSource": "EMS"}},
            {
                "kind": "other",
                "connector": "1",
                "evse_id": 1,
                "detail": '{"chargingLimit":{"chargingLimitSource":"EMS"}}',
            },
            None,
        ),
        (
            "ReservationStatusUpdate",
            {"reservationId": 3, "reservationUpdateStatus": "Expired"},
            {"kind": "other", "status": "Expired", "detail": '{"reservationId":3}'},
            None,
        ),
        ("DataTransfer", {"vendorId": "V"}, {"kind": "data_transfer", "vendor": "V"}, None),
    ],
)
def test_notifications_are_one_row_each(
    action: str, payload: dict[str, Any], expected: dict[str, Any], measured_at: str | None
) -> None:
    """What has a column is in it, the rest is `detail`; without an EVSE it is the charger itself."""
    (row,) = V201.read(action, call(action, **payload))
    base = {
        "message_id": "m-1",
        "ocpp_version": "2.0.1",
        "connector": "0",
        "evse_id": 0,
        "connector_id": None,
        "action": action,
    }
    assert (STATUS, measured_at, base | expected, set()) == (row.stream, row.measured_at, row.fields, row.flags)


def test_events_of_the_device_model_are_rows_of_their_own() -> None:
    """One message holds several; AvailabilityState says what StatusNotification says."""
    state = {
        "eventId": 1,
        "timestamp": AT,
        "trigger": "Delta",
        "actualValue": "Faulted",
        "techCode": "E7",
        "component": {"name": "Connector", "evse": {"id": 1, "connectorId": 1}},
        "variable": {"name": "AvailabilityState"},
    }
    alarm = {
        "eventId": 2,
        "timestamp": AT,
        "trigger": "Alerting",
        "actualValue": "true",
        "component": {"name": "ChargingStation"},
        "variable": {"name": "Overheat"},
    }
    rows = V21.read("NotifyEvent", call("NotifyEvent", generatedAt=AT, seqNo=0, eventData=[state, alarm]))
    assert [("status", "1/1", "Faulted", "E7"), ("event", "0", None, None)] == [
        tuple(row.fields.get(name) for name in ("kind", "connector", "status", "error_code")) for row in rows
    ]
    assert "Overheat" in str(rows[1].fields["detail"])


def test_event_message_without_events_is_a_row_all_the_same() -> None:
    """Nothing is passed over."""
    (row,) = V21.read("NotifyEvent", call("NotifyEvent", generatedAt=AT, seqNo=0))
    assert ("event", AT) == (row.fields["kind"], row.measured_at)


@pytest.mark.parametrize(("reader", "version"), [(V201, Version.V201), (V21, Version.V21)])
def test_every_action_of_a_station_gives_a_record(reader: FrameReader, version: Version) -> None:
    """Whatever a station may send is a row, with a SEND as with a CALL."""
    calls = FROM_STATION[version] - {"MeterValues", "TransactionEvent"}
    frames = {action: call(action) for action in calls} | {
        action: call(action, kind=6) for action in SENT_BY_STATION[version]
    }
    assert dict.fromkeys(frames, 1) == {action: len(reader.read(action, frame)) for action, frame in frames.items()}


@pytest.mark.parametrize(
    ("event", "payload", "expected"),
    [
        (
            "connected",
            {"event": "connected", "version": "ocpp2.0.1", "address": "10.0.0.7", "reason": "", "generation": 4},
            {"kind": "connected", "ocpp_version": "2.0.1", "address": "10.0.0.7", "generation": 4},
        ),
        (
            "disconnected",
            {"event": "disconnected", "version": "ocpp1.6", "address": "10.0.0.7", "reason": "silent", "generation": 4},
            {"kind": "disconnected", "ocpp_version": "1.6", "address": "10.0.0.7", "reason": "silent", "generation": 4},
        ),
        (
            "security",
            {"event": "duplicate_identity", "version": "ocpp1.6", "reason": "newest_wins", "other": 1},
            {
                "kind": "security",
                "ocpp_version": "1.6",
                "security_event": "duplicate_identity",
                "reason": "newest_wins",
                "detail": '{"other":1}',
            },
        ),
    ],
)
def test_connections_are_rows_of_the_charger(event: str, payload: dict[str, Any], expected: dict[str, Any]) -> None:
    """What the gateway saw stands beside what the charger says."""
    (row,) = read_connection(event, json.dumps(payload).encode())
    assert (STATUS, None, {"connector": "0"} | expected) == (row.stream, row.measured_at, row.fields)
