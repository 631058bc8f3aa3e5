"""A session to talk to, and one valid payload of every call that a station may make."""

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from gateway.core.errors import JournalError
from gateway.wire.ocpp.answers import Answers
from gateway.wire.ocpp.session import AnsweredCalls, Append, StationSession, Strictness
from gateway.wire.ocpp.versions import Version

NOW_NS = 1_700_000_000_123_456_789
NOW = "2023-11-14T22:13:20.123Z"
AT = "2024-01-01T00:00:00Z"

_SAMPLE_16 = {"value": "1520", "measurand": "Energy.Active.Import.Register", "unit": "Wh"}
_SAMPLE_2 = {"value": 1520.5, "measurand": "Energy.Active.Import.Register", "unitOfMeasure": {"unit": "Wh"}}
_HASH = {"hashAlgorithm": "SHA256", "issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "c"}
_OCSP = _HASH | {"responderURL": "http://ocsp.example"}
_TOKEN = {"idToken": "04A2", "type": "ISO14443"}
_CHARGING_STATION = {"model": "M", "vendorName": "V"}
_COMPONENT = {"component": {"name": "EVSE"}, "variable": {"name": "Power"}}
_PERIODS = {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 11000.0}]}
_TEXT = {"format": "UTF8", "content": "hello"}

CALLS_16: Mapping[str, dict[str, object]] = {
    "Authorize": {"idTag": "04A2"},
    "BootNotification": {"chargePointVendor": "V", "chargePointModel": "M"},
    "DataTransfer": {"vendorId": "V", "data": "x"},
    "DiagnosticsStatusNotification": {"status": "Idle"},
    "FirmwareStatusNotification": {"status": "Installed"},
    "Heartbeat": {},
    "LogStatusNotification": {"status": "Uploaded", "requestId": 1},
    "MeterValues": {
        "connectorId": 1,
        "transactionId": 5,
        "meterValue": [{"timestamp": AT, "sampledValue": [_SAMPLE_16]}],
    },
    "SecurityEventNotification": {"type": "FirmwareUpdated", "timestamp": AT},
    "SignCertificate": {"csr": "-----BEGIN"},
    "SignedFirmwareStatusNotification": {"status": "Downloaded", "requestId": 1},
    "StartTransaction": {"connectorId": 1, "idTag": "04A2", "meterStart": 0, "timestamp": AT},
    "StatusNotification": {"connectorId": 1, "errorCode": "NoError", "status": "Available"},
    "StopTransaction": {"transactionId": 5, "meterStop": 1520, "timestamp": AT, "idTag": "04A2"},
}
CALLS_201: Mapping[str, dict[str, object]] = {
    "Authorize": {"idToken": _TOKEN, "iso15118CertificateHashData": [_OCSP]},
    "BootNotification": {"reason": "PowerUp", "chargingStation": _CHARGING_STATION},
    "ClearedChargingLimit": {"chargingLimitSource": "EMS"},
    "DataTransfer": {"vendorId": "V"},
    "FirmwareStatusNotification": {"status": "Installed"},
    "Get15118EVCertificate": {"iso15118SchemaVersion": "v", "action": "Install", "exiRequest": "x"},
    "GetCertificateStatus": {"ocspRequestData": _OCSP},
    "Heartbeat": {},
    "LogStatusNotification": {"status": "Uploaded"},
    "MeterValues": {"evseId": 1, "meterValue": [{"timestamp": AT, "sampledValue": [_SAMPLE_2]}]},
    "NotifyChargingLimit": {"chargingLimit": {"chargingLimitSource": "EMS"}},
    "NotifyCustomerInformation": {"data": "x", "seqNo": 0, "generatedAt": AT, "requestId": 1},
    "NotifyDisplayMessages": {"requestId": 1},
    "NotifyEVChargingNeeds": {"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "DC"}},
    "NotifyEVChargingSchedule": {"timeBase": AT, "evseId": 1, "chargingSchedule": _PERIODS},
    "NotifyEvent": {
        "generatedAt": AT,
        "seqNo": 0,
        "eventData": [
            {
                "eventId": 1,
                "timestamp": AT,
                "trigger": "Alerting",
                "actualValue": "x",
                "eventNotificationType": "CustomMonitor",
            }
            | _COMPONENT
        ],
    },
    "NotifyMonitoringReport": {"requestId": 1, "seqNo": 0, "generatedAt": AT},
    "NotifyReport": {"requestId": 1, "seqNo": 0, "generatedAt": AT},
    "PublishFirmwareStatusNotification": {"status": "Idle"},
    "ReportChargingProfiles": {
        "requestId": 1,
        "chargingLimitSource": "CSO",
        "evseId": 1,
        "chargingProfile": [
            {
                "id": 1,
                "stackLevel": 0,
                "chargingProfilePurpose": "TxProfile",
                "chargingProfileKind": "Absolute",
                "chargingSchedule": [_PERIODS],
            }
        ],
    },
    "ReservationStatusUpdate": {"reservationId": 1, "reservationUpdateStatus": "Expired"},
    "SecurityEventNotification": {"type": "FirmwareUpdated", "timestamp": AT},
    "SignCertificate": {"csr": "-----BEGIN"},
    "StatusNotification": {"timestamp": AT, "connectorStatus": "Available", "evseId": 1, "connectorId": 1},
    "TransactionEvent": {
        "eventType": "Started",
        "timestamp": AT,
        "triggerReason": "Authorized",
        "seqNo": 0,
        "transactionInfo": {"transactionId": "t1"},
        "idToken": _TOKEN,
    },
}
CALLS_21: Mapping[str, dict[str, object]] = {
    **CALLS_201,
    "BatterySwap": {
        "eventType": "BatteryIn",
        "requestId": 1,
        "idToken": _TOKEN,
        "batteryData": [{"evseId": 1, "serialNumber": "s", "soC": 50.0, "soH": 90.0}],
    },
    "ClosePeriodicEventStream": {"id": 1},
    "GetCertificateChainStatus": {
        "certificateStatusRequests": [{"certificateHashData": _HASH, "source": "CRL", "urls": ["http://crl.example"]}]
    },
    "NotifyDERAlarm": {"controlType": "FreqDroop", "timestamp": AT},
    "NotifyDERStartStop": {"controlId": "c", "started": True, "timestamp": AT},
    "NotifyPriorityCharging": {"transactionId": "t1", "activated": True},
    "NotifySettlement": {"pspRef": "p", "status": "Settled", "settlementAmount": 1.0, "settlementTime": AT},
    "OpenPeriodicEventStream": {"constantStreamData": {"id": 1, "variableMonitoringId": 1, "params": {"interval": 1}}},
    "PullDynamicScheduleUpdate": {"chargingProfileId": 1},
    "ReportDERControl": {"requestId": 1},
    "VatNumberValidation": {"vatNumber": "NL1"},
}
CALLS: Mapping[Version, Mapping[str, dict[str, object]]] = {
    Version.V16: CALLS_16,
    Version.V201: CALLS_201,
    Version.V21: CALLS_21,
}
EVENT_STREAM: dict[str, object] = {"id": 1, "pending": 0, "basetime": AT, "data": [{"t": 0.0, "v": "1"}]}


class Station:
    """A station's end of a conversation with a session of ours.

    Attributes:
        session: The session.
        counts: What it counted.
    """

    def __init__(
        self,
        version: Version = Version.V16,
        *,
        strictness: Strictness = Strictness.LENIENT,
        answered: AnsweredCalls | None = None,
        id_token_status: str = "Accepted",
        transaction_ids: Iterator[int | JournalError] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._transactions = iter(range(1, 1000)) if transaction_ids is None else transaction_ids
        answers = Answers(
            heartbeat_interval_s=lambda: 300,
            next_transaction_id=self._next_transaction_id,
            id_token_status=lambda _token: id_token_status,
        )
        self.session = StationSession(
            version=version, strictness=strictness, answers=answers, count=self._count, answered=answered
        )

    def _count(self, reason: str, n: int = 1) -> None:
        self.counts[reason] += n

    def _next_transaction_id(self) -> int:
        given = next(self._transactions)
        if isinstance(given, JournalError):
            raise given
        return given

    def says(self, frame: bytes) -> object:
        """Return what the session makes of a frame."""
        return self.session.receive(frame, now_ns=NOW_NS)

    def calls(self, action: str, payload: object, *, message_id: str = "m1") -> object:
        """Return what the session makes of a call."""
        return self.says(msgspec.json.encode([2, message_id, action, payload]))

    def appends(self, action: str, payload: object, *, message_id: str = "m1") -> Append:
        """Return the append that a call leads to."""
        received = self.calls(action, payload, message_id=message_id)
        assert isinstance(received, Append), received
        return received


def payload_of(frame: bytes | None) -> object:
    """Return the payload of a CALLRESULT."""
    assert frame is not None
    message_type, _, payload = msgspec.json.decode(frame)
    assert 3 == message_type
    return payload


def refusal_of(received: object) -> tuple[object, object]:
    """Return id and code of a refusal."""
    frame = getattr(received, "frame", None)
    assert isinstance(frame, bytes), received
    message_type, message_id, code, _, details = msgspec.json.decode(frame)
    assert (4, {}) == (message_type, details)
    return message_id, code
