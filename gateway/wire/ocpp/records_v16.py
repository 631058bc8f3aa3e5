"""Frames of OCPP 1.6 to records: edition 2 with the security whitepaper, edition 3."""

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.wire.ocpp.records import (
    CLOCK_ABSENT,
    NO_TRANSACTION,
    RESULT,
    TRANSACTION,
    Flags,
    MeterReader,
    MeterValue,
    Notice,
    NoticeFrame,
    Record,
    RecordFault,
    Scalar,
    Value,
    as_number,
    as_text,
    as_time,
    as_whole,
    check_kind,
    notice_record,
)
from gateway.wire.ocpp.versions import Version

VERSION: Final = "1.6"
DEFAULT_REASON: Final = "Local"
"""A StopTransaction without a reason was stopped at the charger (section 6.49)."""

_INT64_MAX: Final = 2**63 - 1
_METER: Final = MeterReader(Version.V16)


class _MeterValues(msgspec.Struct, gc=False):
    connectorId: Scalar = None  # noqa: N815 - the standard's name
    transactionId: Scalar = None  # noqa: N815
    meterValue: list[MeterValue] = []  # noqa: N815


class _Start(msgspec.Struct, gc=False):
    connectorId: Scalar = None  # noqa: N815
    idTag: Scalar = None  # noqa: N815
    meterStart: Scalar = None  # noqa: N815
    reservationId: Scalar = None  # noqa: N815
    timestamp: Scalar = None


class _Stop(msgspec.Struct, gc=False):
    idTag: Scalar = None  # noqa: N815
    meterStop: Scalar = None  # noqa: N815
    timestamp: Scalar = None
    transactionId: Scalar = None  # noqa: N815
    reason: Scalar = None
    transactionData: list[MeterValue] | None = None  # noqa: N815


class _IdTagInfo(msgspec.Struct, gc=False):
    status: Scalar = None


class _StartAnswer(msgspec.Struct, gc=False):
    transactionId: Scalar = None  # noqa: N815
    idTagInfo: _IdTagInfo | None = None  # noqa: N815


class _Authorize(msgspec.Struct, gc=False):
    idTag: Scalar = None  # noqa: N815


class _MeterFrame(msgspec.Struct, array_like=True, gc=False):
    kind: int
    message_id: str
    action: str
    payload: _MeterValues


class _StartFrame(msgspec.Struct, array_like=True, gc=False):
    kind: int
    message_id: str
    action: str
    payload: _Start


class _StopFrame(msgspec.Struct, array_like=True, gc=False):
    kind: int
    message_id: str
    action: str
    payload: _Stop


class _AuthorizeFrame(msgspec.Struct, array_like=True, gc=False):
    kind: int
    message_id: str
    action: str
    payload: _Authorize


class _AnswerFrame(msgspec.Struct, array_like=True, gc=False):
    kind: int
    message_id: str
    payload: _StartAnswer


_METER_FRAME: Final = msgspec.json.Decoder(_MeterFrame)
_START_FRAME: Final = msgspec.json.Decoder(_StartFrame)
_STOP_FRAME: Final = msgspec.json.Decoder(_StopFrame)
_AUTHORIZE_FRAME: Final = msgspec.json.Decoder(_AuthorizeFrame)
_ANSWER_FRAME: Final = msgspec.json.Decoder(_AnswerFrame)
_NOTICE_FRAME: Final = msgspec.json.Decoder(NoticeFrame)

_FIRMWARE: Final = Notice(kind="firmware", columns={"status": "status", "requestId": "request_id"})
NOTICES: Final[dict[str, Notice]] = {
    "StatusNotification": Notice(
        kind="status",
        columns={
            "status": "status",
            "errorCode": "error_code",
            "vendorErrorCode": "vendor_error_code",
            "info": "info",
            "vendorId": "vendor",
        },
        time="timestamp",
    ),
    "BootNotification": Notice(
        kind="boot",
        columns={
            "chargePointVendor": "vendor",
            "chargePointModel": "model",
            "chargePointSerialNumber": "serial",
            "firmwareVersion": "firmware_version",
        },
    ),
    "FirmwareStatusNotification": _FIRMWARE,
    "SignedFirmwareStatusNotification": _FIRMWARE,
    "DiagnosticsStatusNotification": Notice(kind="diagnostics", columns={"status": "status"}),
    "LogStatusNotification": Notice(kind="log", columns={"status": "status", "requestId": "request_id"}),
    "SecurityEventNotification": Notice(
        kind="security",
        columns={"type": "security_event", "techInfo": "info"},
        time="timestamp",
        is_time_required=True,
    ),
    "SignCertificate": Notice(kind="security"),
    "DataTransfer": Notice(kind="data_transfer", columns={"vendorId": "vendor"}),
}
"""Messages that are one row of `charger_status`; every other one is such a row of kind `other`."""

_OTHER: Final = Notice(kind="other")


def read(action: str, frame: bytes) -> list[Record]:
    """Return the records in one frame, at least one.

    Args:
        action: What follows the `/` in the frame's channel: an action, or `StartTransaction.conf` for our answer.
        frame: The whole frame as received.

    Raises:
        RecordFault: It holds nothing, or is no message of that kind.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: It is no JSON, or has a value of a type that cannot be
            understood.
    """
    return _READERS.get(action, _notice)(action, frame)


def transaction_id(value: Scalar, flags: Flags) -> str | None:
    """Return a transaction's id as text; what stands for none is None and flagged.

    We give out positive numbers only. Chargers are known to send -1, 0 and 2^63-1 where there is no transaction.
    """
    if value is None:
        return None
    number = as_whole(value, flags)
    if number is not None and 0 < number < _INT64_MAX:
        return str(number)
    flags.add(NO_TRANSACTION)
    return None


def _base(message_id: str, connector: int | None) -> dict[str, Value]:
    if connector is None:
        return {"message_id": message_id, "ocpp_version": VERSION}
    return {
        "message_id": message_id,
        "ocpp_version": VERSION,
        "connector": str(connector),
        "connector_id": connector,
    }


def _meter_values(_action: str, frame: bytes) -> list[Record]:
    message = _METER_FRAME.decode(frame)
    check_kind(message.kind)
    payload, flags = message.payload, Flags()
    base = _base(message.message_id, as_whole(payload.connectorId, flags))
    base["transaction_id"] = transaction_id(payload.transactionId, flags)
    records = _METER.records(payload.meterValue, base, flags)
    if not records:
        raise RecordFault("empty", path="$[3].meterValue", expected="a sampled value", got="none")
    return records


def _start(_action: str, frame: bytes) -> list[Record]:
    message = _START_FRAME.decode(frame)
    check_kind(message.kind)
    payload, flags = message.payload, Flags()
    fields = _base(message.message_id, as_whole(payload.connectorId, flags))
    fields |= {
        "event": "start",
        "start_message_id": message.message_id,
        "id_token": as_text(payload.idTag, flags),
        "meter_start_wh": as_number(payload.meterStart, flags),
        "reservation_id": as_whole(payload.reservationId, flags),
    }
    return [_transaction(fields, payload.timestamp, flags)]


def _start_answer(_action: str, frame: bytes) -> list[Record]:
    message = _ANSWER_FRAME.decode(frame)
    check_kind(message.kind, (RESULT,))
    payload, flags = message.payload, Flags()
    fields = _base(message.message_id, None)
    fields |= {
        "event": "start_answer",
        "start_message_id": message.message_id,
        "transaction_id": transaction_id(payload.transactionId, flags),
        "answer_status": as_text(payload.idTagInfo.status, flags) if payload.idTagInfo else None,
    }
    return [Record(TRANSACTION, None, fields, flags)]


def _stop(_action: str, frame: bytes) -> list[Record]:
    message = _STOP_FRAME.decode(frame)
    check_kind(message.kind)
    payload, flags = message.payload, Flags()
    base = _base(message.message_id, None)
    base["transaction_id"] = transaction = transaction_id(payload.transactionId, flags)
    if transaction is None:
        flags.add(NO_TRANSACTION)
    fields = base | {
        "event": "end",
        "stop_reason": as_text(payload.reason, flags) or DEFAULT_REASON,
        "id_token": as_text(payload.idTag, flags),
        "meter_stop_wh": as_number(payload.meterStop, flags),
    }
    return [
        _transaction(fields, payload.timestamp, set(flags)),
        *_METER.records(payload.transactionData or (), base, flags & {NO_TRANSACTION}),
    ]


def _authorize(_action: str, frame: bytes) -> list[Record]:
    message = _AUTHORIZE_FRAME.decode(frame)
    check_kind(message.kind)
    flags = Flags()
    fields = _base(message.message_id, None)
    fields |= {"event": "authorize", "id_token": as_text(message.payload.idTag, flags)}
    return [Record(TRANSACTION, None, fields, flags)]


def _transaction(fields: dict[str, Value], timestamp: Scalar, flags: Flags) -> Record:
    if timestamp is None:
        flags.add(CLOCK_ABSENT)
    return Record(TRANSACTION, as_time(timestamp), fields, flags)


def _notice(action: str, frame: bytes) -> list[Record]:
    message = _NOTICE_FRAME.decode(frame)
    check_kind(message.kind)
    payload, flags = message.payload, Flags()
    connector = as_whole(payload.pop("connectorId", None), flags)
    base = _base(message.message_id, 0 if connector is None else connector)
    base["action"] = action
    if action == "BootNotification" and payload.get("chargePointSerialNumber") is None:
        # Older stations name themselves by their box.
        payload["chargePointSerialNumber"] = payload.pop("chargeBoxSerialNumber", None)
    return [notice_record(NOTICES.get(action, _OTHER), base, payload, flags)]


_READERS: Final[dict[str, Callable[[str, bytes], list[Record]]]] = {
    "MeterValues": _meter_values,
    "StartTransaction": _start,
    "StartTransaction.conf": _start_answer,
    "StopTransaction": _stop,
    "Authorize": _authorize,
}
STREAM_OF: Final = {action: TRANSACTION for action in _READERS if action != "MeterValues"}
"""Stream whose rows an action gives in the first place; MeterValues gives meter rows, all others status rows."""
