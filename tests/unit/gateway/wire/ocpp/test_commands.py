"""What may be asked of a station, and whether it said yes."""

import pytest

from gateway.wire.ocpp.commands import COMMANDS, STATUSES_OF_YES, CommandStatus, check, classify
from gateway.wire.ocpp.rpc import RpcCode
from gateway.wire.ocpp.schemas import load_schema
from gateway.wire.ocpp.versions import Version

_NO = """
    ConditionNotSupported DownloadOngoing Duplicate DuplicateTariffId EmptyResultSet Failed Faulted Invalid
    InvalidCertificate LanguageNotSupported NoCurrencyChange NoFirmware NoProfile NoProfiles NoTariff NotFound
    NotImplemented NotSupported NotSupportedAttributeType NotSupportedMessageFormat NotSupportedPriority
    NotSupportedState Occupied OngoingAuthorizedTransaction Rejected RevokedCertificate TooManyElements TxNotFound
    Unavailable Unknown UnknownComponent UnknownConnector UnknownMessageId UnknownTransaction UnknownVariable
    UnknownVendorId UnlockFailed UnsupportedMonitorType VersionMismatch
    """
STATUSES_OF_NO = set(_NO.split())


def status_words(version: Version, action: str) -> set[str]:
    """Return all words of the fields `status` and `attributeStatus` in the response of a command."""
    schema = load_schema(version, action + "Response")
    definitions = schema.get("definitions", {})
    assert isinstance(definitions, dict)
    nodes = [schema, *definitions.values()]
    fields = [
        field
        for node in nodes
        for name, field in node.get("properties", {}).items()
        if name in ("status", "attributeStatus")
    ]
    found = [definitions.get(field.get("$ref", "").rpartition("/")[2], field) for field in fields]
    return {word for field in found for word in field["enum"]}


def test_every_status_of_every_command_is_a_yes_or_a_no() -> None:
    """The schemas have no word besides those that were decided on."""
    words = {word for version in Version for action in COMMANDS[version] for word in status_words(version, action)}
    assert STATUSES_OF_YES | STATUSES_OF_NO == words


def test_the_commands_of_each_version_are_there() -> None:
    """A few by name; the whole table is compared with the schemas."""
    assert {"RemoteStartTransaction", "ChangeConfiguration", "ExtendedTriggerMessage"} < COMMANDS[Version.V16]
    assert {"RequestStartTransaction", "SetVariables", "CostUpdated"} < COMMANDS[Version.V201]
    assert {"RequestStartTransaction", "SetDERControl", "UpdateDynamicSchedule"} < COMMANDS[Version.V21]
    assert "RemoteStartTransaction" not in COMMANDS[Version.V21]
    assert (26, 40, 55) == tuple(len(COMMANDS[version]) for version in Version)


@pytest.mark.parametrize(
    ("version", "action", "payload"),
    [
        (Version.V16, "RemoteStartTransaction", b'{"idTag":"A"}'),
        (Version.V16, "SetChargingProfile", b"""{"connectorId":1,"csChargingProfiles":{"chargingProfileId":1,
         "stackLevel":0,"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Relative","chargingSchedule":
         {"chargingRateUnit":"A","chargingSchedulePeriod":[{"startPeriod":0,"limit":21.4}]}}}"""),
        (Version.V201, "Reset", b' { "type" : "Immediate" } '),
        (Version.V21, "RequestStartTransaction", b'{"remoteStartId":1,"idToken":{"idToken":"A","type":"Local"}}'),
    ],
)  # fmt: skip
def test_a_command_that_fits_passes(version: Version, action: str, payload: bytes) -> None:
    """As written by a person, white space and all; 21.4 A is a multiple of 0.1."""
    assert None is check(version, action, payload)


@pytest.mark.parametrize(
    ("action", "payload", "code", "reason", "path"),
    [
        ("Fly", b"{}", RpcCode.NOT_IMPLEMENTED, "unknown_command", ""),
        ("Heartbeat", b"{}", RpcCode.NOT_IMPLEMENTED, "unknown_command", ""),
        ("Reset", b'{"type":"Warm"}', RpcCode.PROPERTY_CONSTRAINT, "unknown_value", "/type"),
        ("Reset", b"{}", RpcCode.OCCURRENCE_CONSTRAINT, "missing_field", ""),
        ("Reset", b'{"type":"Hard",}', RpcCode.FORMAT_VIOLATION, "bad_json", ""),
        ("Reset", b"[]", RpcCode.PROTOCOL_ERROR, "payload_type", ""),
        ("Reset", b"", RpcCode.FORMAT_VIOLATION, "bad_json", ""),
        ("Reset", b'{"type":"\xff"}', RpcCode.FORMAT_VIOLATION, "bad_json", ""),
        ("Reset", b"{" + b'"a":{' * 40 + b"}" * 41, RpcCode.FORMAT_VIOLATION, "nested_too_deep", ""),
        ("Reset", b'{"type":"Hard"}],[2,"x","Reset",{"type":"Hard"}', RpcCode.FORMAT_VIOLATION, "bad_json", ""),
        ("Reset", b'{"type":"Hard"},{"type":"Hard"}', RpcCode.PROTOCOL_ERROR, "frame_shape", ""),
    ],
)
def test_a_command_that_does_not_fit_says_why(
    action: str, payload: bytes, code: RpcCode, reason: str, path: str
) -> None:
    """Before anything is sent, and never by an exception."""
    violation = check(Version.V16, action, payload)
    assert violation is not None
    assert (code, reason, path) == (violation.code, violation.reason, violation.path)


def test_a_command_is_checked_strictly() -> None:
    """What lenient forgives stations it does not forgive us."""
    violation = check(Version.V16, "UnlockConnector", b'{"connectorId":"1"}')
    assert violation is not None
    assert "number_as_text" == violation.reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": "Accepted"}, CommandStatus.ACCEPTED),
        ({"status": "Scheduled"}, CommandStatus.ACCEPTED),
        ({"status": "Unlocked"}, CommandStatus.ACCEPTED),
        ({"status": "RebootRequired"}, CommandStatus.ACCEPTED),
        ({"status": "Rejected"}, CommandStatus.REJECTED),
        ({"status": "UnlockFailed"}, CommandStatus.REJECTED),
        ({"status": "A word of a vendor"}, CommandStatus.REJECTED),
        ({}, CommandStatus.ACCEPTED),
        ({"configurationKey": [{"key": "a", "readonly": True}]}, CommandStatus.ACCEPTED),
        ({"setVariableResult": [{"attributeStatus": "Accepted"}] * 2}, CommandStatus.ACCEPTED),
        (
            {"setVariableResult": [{"attributeStatus": "Accepted"}, {"attributeStatus": "Rejected"}]},
            CommandStatus.REJECTED,
        ),
        ({"clearMonitoringResult": [{"status": "NotFound", "id": 1}]}, CommandStatus.REJECTED),
        ({"status": "Accepted", "certificateHashDataChain": [{"status": "x"}]}, CommandStatus.ACCEPTED),
    ],
)
def test_an_answer_is_a_yes_or_a_no(answer: dict[str, object], expected: CommandStatus) -> None:
    """By its own status; else by that of every item; else it is a yes."""
    assert expected is classify(answer)
