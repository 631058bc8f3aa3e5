"""Frames of OCPP 2.0.1 (edition 3) and 2.1 to records; 2.1 adds messages and fields and changes none of these."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.wire.ocpp.records import (
    CHARGER,
    CLOCK_ABSENT,
    NO_TRANSACTION,
    TRANSACTION,
    VERSION_TEXTS,
    Flags,
    MeterReader,
    MeterValue,
    Notice,
    NoticeFrame,
    Record,
    RecordFault,
    Scalar,
    Value,
    as_json,
    as_text,
    as_time,
    as_whole,
    check_kind,
    notice_record,
    take,
)
from gateway.wire.ocpp.versions import Version

DEFAULT_REASON: Final = "Local"
"""`stoppedReason` may be left out where it is this one (2.0.1 part 2, TransactionType)."""
_EVENTS: Final = {"Started": "start", "Updated": "update", "Ended": "end"}
_NO_TRANSACTIONS: Final = frozenset({"", "-1", str(2**63 - 1)})
_VIN: Final = "vin"


class _Evse(msgspec.Struct, gc=False):
    id: Scalar = None
    connectorId: Scalar = None  # noqa: N815 - the standard's name


class _AdditionalInfo(msgspec.Struct, gc=False, omit_defaults=True):
    additionalIdToken: Scalar = None  # noqa: N815
    type: Scalar = None


class _IdToken(msgspec.Struct, gc=False):
    idToken: Scalar = None  # noqa: N815
    type: Scalar = None
    additionalInfo: list[_AdditionalInfo] | None = None  # noqa: N815


class _TransactionInfo(msgspec.Struct, gc=False):
    transactionId: Scalar = None  # noqa: N815
    chargingState: Scalar = None  # noqa: N815
    stoppedReason: Scalar = None  # noqa: N815
    remoteStartId: Scalar = None  # noqa: N815
    timeSpentCharging: Any = None  # noqa: N815
    operationMode: Any = None  # noqa: N815
    tariffId: Any = None  # noqa: N815
    transactionLimit: Any = None  # noqa: N815


class _TransactionEvent(msgspec.Struct, gc=False):
    eventType: str  # noqa: N815
    timestamp: Scalar = None
    triggerReason: Scalar = None  # noqa: N815
    seqNo: Scalar = None  # noqa: N815
    offline: bool | None = None
    transactionInfo: _TransactionInfo | None = None  # noqa: N815
    evse: _Evse | None = None
    idToken: _IdToken | None = None  # noqa: N815
    reservationId: Scalar = None  # noqa: N815
    meterValue: list[MeterValue] | None = None  # noqa: N815
    numberOfPhasesUsed: Any = None  # noqa: N815
    cableMaxCurrent: Any = None  # noqa: N815
    costDetails: Any = None  # noqa: N815
    preconditioningStatus: Any = None  # noqa: N815
    evseSleep: Any = None  # noqa: N815
    customData: Any = None  # noqa: N815


class _MeterValues(msgspec.Struct, gc=False):
    evseId: Scalar = None  # noqa: N815
    meterValue: list[MeterValue] = []  # noqa: N815


class _Authorize(msgspec.Struct, gc=False):
    idToken: _IdToken | None = None  # noqa: N815


class _MeterFrame(msgspec.Struct, array_like=True, gc=False):
    kind: int
    message_id: str
    action: str
    payload: _MeterValues


class _EventFrame(msgspec.Struct, array_like=True, gc=False):
    kind: int
    message_id: str
    action: str
    payload: _TransactionEvent


class _AuthorizeFrame(msgspec.Struct, array_like=True, gc=False):
    kind: int
    message_id: str
    action: str
    payload: _Authorize


_METER_FRAME: Final = msgspec.json.Decoder(_MeterFrame)
_EVENT_FRAME: Final = msgspec.json.Decoder(_EventFrame)
_AUTHORIZE_FRAME: Final = msgspec.json.Decoder(_AuthorizeFrame)
_NOTICE_FRAME: Final = msgspec.json.Decoder(NoticeFrame)

_FIRMWARE: Final = Notice(kind="firmware", columns={"status": "status", "requestId": "request_id"})
_REPORT: Final = Notice(kind="report", columns={"requestId": "request_id"}, time="generatedAt")
_SECURITY: Final = Notice(kind="security", columns={"requestId": "request_id"})
_OTHER: Final = Notice(kind="other", columns={"requestId": "request_id"}, time="timestamp")
NOTICES: Final[Mapping[str, Notice]] = {
    "StatusNotification": Notice(
        kind="status", columns={"connectorStatus": "status"}, time="timestamp", is_time_required=True
    ),
    "BootNotification": Notice(
        kind="boot",
        columns={
            "reason": "reason",
            "chargingStation.vendorName": "vendor",
            "chargingStation.model": "model",
            "chargingStation.serialNumber": "serial",
            "chargingStation.firmwareVersion": "firmware_version",
        },
    ),
    "FirmwareStatusNotification": _FIRMWARE,
    "PublishFirmwareStatusNotification": _FIRMWARE,
    "LogStatusNotification": Notice(kind="log", columns={"status": "status", "requestId": "request_id"}),
    "SecurityEventNotification": Notice(
        kind="security",
        columns={"type": "security_event", "techInfo": "info"},
        time="timestamp",
        is_time_required=True,
    ),
    "SignCertificate": _SECURITY,
    "Get15118EVCertificate": _SECURITY,
    "GetCertificateStatus": _SECURITY,
    "GetCertificateChainStatus": _SECURITY,
    "NotifyReport": _REPORT,
    "NotifyMonitoringReport": _REPORT,
    "NotifyCustomerInformation": _REPORT,
    "NotifyDisplayMessages": _REPORT,
    "ReportChargingProfiles": _REPORT,
    "ReportDERControl": _REPORT,
    "NotifyPeriodicEventStream": Notice(kind="event"),
    "ReservationStatusUpdate": Notice(kind="other", columns={"reservationUpdateStatus": "status"}),
    "DataTransfer": Notice(kind="data_transfer", columns={"vendorId": "vendor"}),
}
"""Messages that are one row of `charger_status`; every other one is such a row of kind `other`."""

_EVENT: Final = Notice(
    kind="event", columns={"techCode": "error_code", "techInfo": "info"}, time="timestamp", is_time_required=True
)
_STATE: Final = Notice(
    kind="status",
    columns={"actualValue": "status", "techCode": "error_code", "techInfo": "info"},
    time="timestamp",
    is_time_required=True,
)
"""The device model's way to say what StatusNotification says, which 2.1 prefers."""
_STATE_VARIABLE: Final = "AvailabilityState"


class FrameReader:
    """Reads the frames of one version of 2.x."""

    def __init__(self, version: Version) -> None:
        """Lay out the measurands of the version."""
        self._version = VERSION_TEXTS[version]
        self._meter = MeterReader(version)
        self._readers: dict[str, Callable[[str, bytes], list[Record]]] = {
            "MeterValues": self._meter_values,
            "TransactionEvent": self._transaction_event,
            "Authorize": self._authorize,
            "NotifySettlement": self._settlement,
            "NotifyEvent": self._events,
        }

    def read(self, action: str, frame: bytes) -> list[Record]:
        """Return the records in one frame, at least one.

        Args:
            action: What follows the `/` in the frame's channel.
            frame: The whole frame as received.

        Raises:
            RecordFault: It holds nothing, or is no message of that kind.
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: It is no JSON, or has a value of a type that
                cannot be understood.
        """
        return self._readers.get(action, self._notice)(action, frame)

    def _base(self, message_id: str) -> dict[str, Value]:
        return {"message_id": message_id, "ocpp_version": self._version}

    def _meter_values(self, _action: str, frame: bytes) -> list[Record]:
        message = _METER_FRAME.decode(frame)
        check_kind(message.kind)
        flags = Flags()
        base = self._base(message.message_id) | _meter_place(as_whole(message.payload.evseId, flags), None)
        records = self._meter.records(message.payload.meterValue, base, flags)
        if not records:
            raise RecordFault("empty", path="$[3].meterValue", expected="a sampled value", got="none")
        return records

    def _transaction_event(self, _action: str, frame: bytes) -> list[Record]:
        message = _EVENT_FRAME.decode(frame)
        check_kind(message.kind)
        payload, flags = message.payload, Flags()
        event = _EVENTS.get(payload.eventType)
        if event is None:
            expected = "Started, Updated or Ended"
            raise RecordFault("type", path="$[3].eventType", expected=expected, got=payload.eventType)
        info = payload.transactionInfo or _TransactionInfo()
        transaction = _transaction_id(info.transactionId, flags)
        evse, connector = _evse(payload.evse, flags)
        fields = self._base(message.message_id) | _place(evse, connector)
        fields |= {
            "event": event,
            "transaction_id": transaction,
            "seq_no": as_whole(payload.seqNo, flags),
            "offline": bool(payload.offline),
            "trigger_reason": as_text(payload.triggerReason, flags),
            "charging_state": as_text(info.chargingState, flags),
            "stop_reason": as_text(info.stoppedReason, flags) or (DEFAULT_REASON if event == "end" else None),
            "reservation_id": as_whole(payload.reservationId, flags),
            "remote_start_id": as_whole(info.remoteStartId, flags),
            **_token_fields(payload.idToken, flags),
        }
        detail = _rest(payload, info)
        if detail:
            fields["detail"] = as_json(detail, flags)
        if payload.timestamp is None:
            flags.add(CLOCK_ABSENT)
        base = self._base(message.message_id) | _meter_place(evse, connector) | {"transaction_id": transaction}
        return [
            Record(TRANSACTION, as_time(payload.timestamp), fields, flags),
            *self._meter.records(payload.meterValue or (), base, flags & {NO_TRANSACTION}),
        ]

    def _authorize(self, _action: str, frame: bytes) -> list[Record]:
        message = _AUTHORIZE_FRAME.decode(frame)
        check_kind(message.kind)
        flags = Flags()
        fields = self._base(message.message_id) | {"event": "authorize"}
        fields |= _token_fields(message.payload.idToken, flags)
        return [Record(TRANSACTION, None, fields, flags)]

    def _settlement(self, action: str, frame: bytes) -> list[Record]:
        payload, flags = _NOTICE_FRAME.decode(frame), Flags()
        check_kind(payload.kind)
        said = payload.payload
        fields = self._base(payload.message_id) | {
            "event": "cost",
            "transaction_id": _transaction_id(_scalar(said.pop("transactionId", None)), flags, required=False),
            "answer_status": as_text(_scalar(said.pop("status", None)), flags),
        }
        timestamp = _scalar(said.pop("settlementTime", None))
        fields["detail"] = as_json({"action": action, **said}, flags)
        if timestamp is None:
            flags.add(CLOCK_ABSENT)
        return [Record(TRANSACTION, as_time(timestamp), fields, flags)]

    def _events(self, action: str, frame: bytes) -> list[Record]:
        message = _NOTICE_FRAME.decode(frame)
        check_kind(message.kind)
        events = message.payload.get("eventData")
        if not isinstance(events, list) or not events or not all(isinstance(event, dict) for event in events):
            return [self._noticed(_REPORT_OF_EVENTS, action, message)]
        records = []
        for event in events:
            flags = Flags()
            component, variable = event.get("component"), event.get("variable")
            evse = take(event, "component.evse")
            is_state = isinstance(variable, dict) and variable.get("name") == _STATE_VARIABLE
            number, connector = _evse(evse, flags) if isinstance(evse, dict) else (None, None)
            base = self._base(message.message_id) | _place(number or 0, connector) | {"action": action}
            if is_state and isinstance(component, dict):
                # Connector, EVSE or ChargingStation: the connector says which.
                take(event, "variable")
            records.append(notice_record(_STATE if is_state else _EVENT, base, event, flags))
        return records

    def _notice(self, action: str, frame: bytes) -> list[Record]:
        message = _NOTICE_FRAME.decode(frame)
        check_kind(message.kind)
        return [self._noticed(NOTICES.get(action, _OTHER), action, message)]

    def _noticed(self, notice: Notice, action: str, message: NoticeFrame) -> Record:
        payload, flags = message.payload, Flags()
        evse = as_whole(payload.pop("evseId", None), flags)
        connector = as_whole(payload.pop("connectorId", None), flags)
        base = self._base(message.message_id) | _place(evse or 0, connector or None) | {"action": action}
        return notice_record(notice, base, payload, flags)


_REPORT_OF_EVENTS: Final = Notice(kind="event", time="generatedAt")
STREAM_OF: Final = dict.fromkeys(("TransactionEvent", "Authorize", "NotifySettlement"), TRANSACTION)
"""Stream whose rows an action gives in the first place; MeterValues gives meter rows, all others status rows."""


# ---- whose it is -----------------------------------------------------------------------------------------------------


def _place(evse: int | None, connector: int | None) -> dict[str, Value]:
    """Return the columns of a connector: `1/2`, `1` where only the EVSE is named, `0` for the charger itself."""
    if evse is None:
        return {}
    text = CHARGER if evse == 0 else str(evse) if connector is None else f"{evse}/{connector}"
    return {"connector": text, "evse_id": evse, "connector_id": connector}


def _meter_place(evse: int | None, connector: int | None) -> dict[str, Value]:
    """Return the same for a meter, which is the EVSE's: MeterValues names no connector, and there is one register."""
    if evse is None:
        return {}
    return {"connector": str(evse), "evse_id": evse, "connector_id": connector}


def _evse(evse: _Evse | dict[str, Any] | None, flags: Flags) -> tuple[int | None, int | None]:
    if evse is None:
        return None, None
    if isinstance(evse, dict):
        evse = _Evse(id=_scalar(evse.get("id")), connectorId=_scalar(evse.get("connectorId")))
    return as_whole(evse.id, flags), as_whole(evse.connectorId, flags)


def _transaction_id(value: Scalar, flags: Flags, *, required: bool = True) -> str | None:
    text = as_text(value, flags)
    if text is None and not required:
        return None
    if text is None or text in _NO_TRANSACTIONS:
        flags.add(NO_TRANSACTION)
        return None
    return text


def _token_fields(token: _IdToken | None, flags: Flags) -> dict[str, Value]:
    """Return id token, its type, and the VIN where one of its parts is one."""
    if token is None:
        return {}
    text, kind = as_text(token.idToken, flags) or None, as_text(token.type, flags)
    found = [text] if kind is not None and kind.lower() == _VIN else []
    for more in token.additionalInfo or ():
        if isinstance(more.type, str) and more.type.lower() == _VIN:
            found.append(as_text(more.additionalIdToken, flags))
    return {"id_token": text, "id_token_type": kind, "vin": found[0] if found else None}


def _rest(payload: _TransactionEvent, info: _TransactionInfo) -> dict[str, Any]:
    """Return what a TransactionEvent says that has no column."""
    token = payload.idToken
    rest: dict[str, Any] = {
        "numberOfPhasesUsed": payload.numberOfPhasesUsed,
        "cableMaxCurrent": payload.cableMaxCurrent,
        "costDetails": payload.costDetails,
        "preconditioningStatus": payload.preconditioningStatus,
        "evseSleep": payload.evseSleep,
        "customData": payload.customData,
        "timeSpentCharging": info.timeSpentCharging,
        "operationMode": info.operationMode,
        "tariffId": info.tariffId,
        "transactionLimit": info.transactionLimit,
        "additionalInfo": token.additionalInfo if token else None,
    }
    return {key: value for key, value in rest.items() if value is not None}


def _scalar(value: Any) -> Scalar:
    """Return a value that may be anything as one that a column can take."""
    return value if value is None or isinstance(value, str | int | float) else msgspec.json.encode(value).decode()
