"""Options to payloads: what people type becomes what the schema of the version asks for."""

import json
from typing import Any

import pytest

from gateway.wire.ocpp.commands import COMMANDS, check
from gateway.wire.ocpp.versions import Version
from voltgate.command_payloads import (
    ACTIONS,
    GENERATED,
    VERSIONS,
    Family,
    OptionError,
    Options,
    build_payload,
    families_of,
    family_of,
)

V16, V2 = [Version.V16], [Version.V201, Version.V21]


def build(action: str, family: Family, base: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return build_payload(action, Options(**options), base or {}, family=family, new_id=lambda: 42)


@pytest.mark.parametrize(
    ("action", "options", "expected"),
    [
        ("RemoteStartTransaction", {"connector": 1, "id_tag": "TAG"}, {"connectorId": 1, "idTag": "TAG"}),
        ("RemoteStopTransaction", {"transaction": "7"}, {"transactionId": 7}),
        ("Reset", {"type": "Soft"}, {"type": "Soft"}),
        ("UnlockConnector", {"connector": 1}, {"connectorId": 1}),
        ("ChangeAvailability", {"connector": 0, "type": "Inoperative"}, {"connectorId": 0, "type": "Inoperative"}),
        ("ChangeConfiguration", {"key": "K", "value": "1"}, {"key": "K", "value": "1"}),
        ("GetConfiguration", {"key": "K"}, {"key": ["K"]}),
        ("TriggerMessage", {"type": "Heartbeat"}, {"requestedMessage": "Heartbeat"}),
        ("ExtendedTriggerMessage", {"type": "Heartbeat"}, {"requestedMessage": "Heartbeat"}),
    ],
)
def test_options_make_a_payload_of_1_6(action: str, options: dict[str, Any], expected: dict[str, Any]) -> None:
    """As its schema wants it, without another word."""
    payload = build(action, "1.6", **options)
    assert expected == payload
    assert [check(version, action, json.dumps(payload).encode()) for version in V16] == [None]


@pytest.mark.parametrize(
    ("action", "options", "expected"),
    [
        (
            "RequestStartTransaction",
            {"evse": 1, "id_token": "X"},
            {"evseId": 1, "idToken": {"idToken": "X", "type": "ISO14443"}, "remoteStartId": 42},
        ),
        (
            "RequestStartTransaction",
            {"id_token": "X", "id_token_type": "Central"},
            {"idToken": {"idToken": "X", "type": "Central"}, "remoteStartId": 42},
        ),
        ("RequestStopTransaction", {"transaction": "7"}, {"transactionId": "7"}),
        ("Reset", {"type": "OnIdle", "evse": 2}, {"type": "OnIdle", "evseId": 2}),
        ("UnlockConnector", {"evse": 1, "connector": 2}, {"evseId": 1, "connectorId": 2}),
        (
            "ChangeAvailability",
            {"evse": 1, "connector": 2, "type": "Inoperative"},
            {"evse": {"id": 1, "connectorId": 2}, "operationalStatus": "Inoperative"},
        ),
        (
            "GetVariables",
            {"key": "OCPPCommCtrlr.HeartbeatInterval"},
            {"getVariableData": [{"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}]},
        ),
        (
            "SetVariables",
            {"key": "A.B", "value": "1"},
            {"setVariableData": [{"attributeValue": "1", "component": {"name": "A"}, "variable": {"name": "B"}}]},
        ),
        ("GetBaseReport", {"type": "FullInventory"}, {"reportBase": "FullInventory", "requestId": 42}),
        ("TriggerMessage", {"type": "Heartbeat"}, {"requestedMessage": "Heartbeat"}),
        ("GetTransactionStatus", {}, {}),
    ],
)
def test_options_make_a_payload_of_2_x(action: str, options: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same for 2.0.1 and 2.1."""
    payload = build(action, "2", **options)
    assert expected == payload
    assert [check(version, action, json.dumps(payload).encode()) for version in V2] == [None, None]


def test_options_are_put_into_the_payload_that_is_given() -> None:
    """What the table does not know comes with --payload; that is not changed."""
    base = {"evse": {"id": 9}, "customData": {"vendorId": "v"}}
    payload = build("TriggerMessage", "2", base, evse=1, type="StatusNotification")
    assert payload == {"evse": {"id": 1}, "customData": {"vendorId": "v"}, "requestedMessage": "StatusNotification"}
    assert base == {"evse": {"id": 9}, "customData": {"vendorId": "v"}}


def test_id_that_is_given_is_kept() -> None:
    """A caller may choose its own."""
    assert build("GetBaseReport", "2", {"requestId": 5}, type="FullInventory")["requestId"] == 5


@pytest.mark.parametrize(
    ("action", "family", "options", "words"),
    [
        ("Reset", "1.6", {"connector": 1}, "Reset of OCPP 1.6 takes --type, not --connector"),
        ("ClearCache", "2", {"type": "x"}, "ClearCache of OCPP 2 takes no such options, not --type"),
        ("RemoteStopTransaction", "1.6", {"transaction": "abc"}, "'abc' is no number"),
        ("GetVariables", "2", {"key": "HeartbeatInterval"}, "Component.Variable"),
        ("RemoteStartTransaction", "1.6", {"id_token": "x"}, "takes --connector, --id-tag, not --id-token"),
    ],
)
def test_option_that_does_not_fit_is_named(action: str, family: Family, options: dict[str, Any], words: str) -> None:
    """With what the action takes."""
    with pytest.raises(OptionError) as caught:
        build(action, family, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("base", [{"evse": 5}, {"evse": [1]}])
def test_payload_that_leaves_no_place_for_an_option_is_refused(base: dict[str, Any]) -> None:
    """Instead of a traceback."""
    with pytest.raises(OptionError):
        build("TriggerMessage", "2", base, evse=1)


@pytest.mark.parametrize("base", [{"getVariableData": []}, {"getVariableData": {}}, {"getVariableData": [1]}])
def test_list_that_leaves_no_place_for_an_option_is_refused(base: dict[str, Any]) -> None:
    """Instead of a traceback."""
    with pytest.raises(OptionError):
        build("GetVariables", "2", base, key="A.B")


@pytest.mark.parametrize(
    ("action", "options", "families"),
    [
        ("Reset", {"type": "Soft"}, ["1.6", "2"]),
        ("Reset", {}, []),
        ("RemoteStartTransaction", {"connector": 1}, ["1.6"]),
        ("RequestStartTransaction", {}, ["2"]),
        ("ReserveNow", {}, ["1.6", "2"]),
        ("ClearCache", {}, []),
    ],
)
def test_version_is_only_asked_where_it_matters(action: str, options: dict[str, Any], families: list[str]) -> None:
    """A payload written whole is for any."""
    assert families_of(action, Options(**options)) == families


def test_table_has_only_actions_that_exist() -> None:
    """In every version of the family, but for those that 2.1 added."""
    for family, versions in (("1.6", V16), ("2", V2)):
        for action in {*ACTIONS[family], *GENERATED[family]}:
            assert any(action in COMMANDS[version] for version in versions), action


def test_versions_are_the_ones_that_are_spoken() -> None:
    """As sub-protocols and as people write them."""
    assert [str(version).removeprefix("ocpp") for version in Version] == [*VERSIONS]
    assert [family_of(version) for version in Version] == ["1.6", "2", "2"]
    assert [family_of(version) for version in VERSIONS] == ["1.6", "2", "2"]
