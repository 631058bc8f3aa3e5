"""From options such as --connector 1 to the payload of an OCPP action: one table per family of versions.

Only what people type often is here; everything else goes in as --payload. What the table builds is checked against the
version's schema by the gateway, so this module refuses to know what is required.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

Family = Literal["1.6", "2"]
"""The versions whose payloads are built alike: OCPP 1.6; OCPP 2.0.1 and 2.1."""
VERSIONS: Final = ("1.6", "2.0.1", "2.1")
Fields = dict[str, Any]
TOKEN_TYPE: Final = "ISO14443"  # noqa: S105 - a type of card
"""Type of an idToken that has none: an RFID card, which nearly all are."""
ID_MAX: Final = 2**31 - 1
"""Ids are integers of 32 bits with sign."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line was given; None where it was not.

    Attributes:
        key: Configuration key (1.6), or `Component.Variable` (2.x).
        value: Its new value.
    """

    connector: int | None = None
    evse: int | None = None
    id_tag: str | None = None
    id_token: str | None = None
    id_token_type: str | None = None
    transaction: str | None = None
    type: str | None = None
    key: str | None = None
    value: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the options that were given, by name."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


class OptionError(ValueError):
    """The options do not make a payload; the message says what to write."""


def _at(path: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[[Fields, Any], None]:
    """Return what stores an option at a place such as `evse.id`."""
    *outer, last = path.split(".")

    def store(fields: Fields, value: Any) -> None:
        for name in outer:
            fields = _mapping(fields.setdefault(name, {}), name)
        fields[last] = convert(value)

    return store


def _mapping(value: object, name: str) -> Fields:
    if not isinstance(value, dict):
        raise OptionError(f"--payload has no object at {name!r}, where an option belongs; write it there whole")
    return value


def _first(fields: Fields, name: str) -> Fields:
    entries = fields.setdefault(name, [{}])
    return _mapping(entries[0] if isinstance(entries, list) and entries else None, name)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise OptionError(f"transaction id {text!r} is no number, as OCPP 1.6 has them") from exc


def _variable(place: str) -> Callable[[Fields, str], None]:
    def store(fields: Fields, key: str) -> None:
        component, dot, variable = key.partition(".")
        if not (component and dot and variable):
            raise OptionError(
                f"--key {key!r}: OCPP 2 asks for Component.Variable, as in OCPPCommCtrlr.HeartbeatInterval"
            )
        _first(fields, place).update(component={"name": component}, variable={"name": variable})

    return store


def _attribute_value(fields: Fields, value: str) -> None:
    _first(fields, "setVariableData")["attributeValue"] = value


_TOKEN: Final = {"id_token": _at("idToken.idToken"), "id_token_type": _at("idToken.type")}
_EVSE: Final = {"evse": _at("evse.id"), "connector": _at("evse.connectorId")}

ACTIONS: Final[Mapping[Family, Mapping[str, Mapping[str, Callable[[Fields, Any], None]]]]] = {
    "1.6": {
        "CancelReservation": {},
        "ChangeAvailability": {"connector": _at("connectorId"), "type": _at("type")},
        "ChangeConfiguration": {"key": _at("key"), "value": _at("value")},
        "ClearChargingProfile": {"connector": _at("connectorId")},
        "ExtendedTriggerMessage": {"connector": _at("connectorId"), "type": _at("requestedMessage")},
        "GetCompositeSchedule": {"connector": _at("connectorId")},
        "GetConfiguration": {"key": _at("key", lambda key: [key])},
        "RemoteStartTransaction": {"connector": _at("connectorId"), "id_tag": _at("idTag")},
        "RemoteStopTransaction": {"transaction": _at("transactionId", _number)},
        "ReserveNow": {"connector": _at("connectorId"), "id_tag": _at("idTag")},
        "Reset": {"type": _at("type")},
        "SetChargingProfile": {"connector": _at("connectorId")},
        "TriggerMessage": {"connector": _at("connectorId"), "type": _at("requestedMessage")},
        "UnlockConnector": {"connector": _at("connectorId")},
    },
    "2": {
        "CancelReservation": {},
        "ChangeAvailability": {**_EVSE, "type": _at("operationalStatus")},
        "CostUpdated": {"transaction": _at("transactionId")},
        "CustomerInformation": dict(_TOKEN),
        "GetBaseReport": {"type": _at("reportBase")},
        "GetCompositeSchedule": {"evse": _at("evseId")},
        "GetReport": {},
        "GetTransactionStatus": {"transaction": _at("transactionId")},
        "GetVariables": {"key": _variable("getVariableData")},
        "RequestStartTransaction": {"evse": _at("evseId"), **_TOKEN},
        "RequestStopTransaction": {"transaction": _at("transactionId")},
        "ReserveNow": {"evse": _at("evseId"), **_TOKEN},
        "Reset": {"evse": _at("evseId"), "type": _at("type")},
        "SetChargingProfile": {"evse": _at("evseId")},
        "SetVariables": {"key": _variable("setVariableData"), "value": _attribute_value},
        "TriggerMessage": {**_EVSE, "type": _at("requestedMessage")},
        "UnlockConnector": {"evse": _at("evseId"), "connector": _at("connectorId")},
    },
}
"""Family, action, option: where the option's value goes."""

GENERATED: Final[Mapping[Family, Mapping[str, str]]] = {
    "1.6": {},
    "2": {
        "CustomerInformation": "requestId",
        "GetBaseReport": "requestId",
        "GetReport": "requestId",
        "RequestStartTransaction": "remoteStartId",
        "ReserveNow": "id",
    },
}
"""Family, action: the id that is made where the payload has none."""


def family_of(version: str) -> Family:
    """Return the family of a version, `ocpp2.0.1` or `2.0.1`."""
    return "1.6" if version.removeprefix("ocpp") == "1.6" else "2"


def families_of(action: str, options: Options) -> list[Family]:
    """Return the families whose version must be known to build the payload; empty where any will do."""
    having: list[Family] = [family for family, actions in ACTIONS.items() if action in actions]
    return having if options.given() or any(action in GENERATED[family] for family in having) else []


def build_payload(
    action: str,
    options: Options,
    base: Fields,
    *,
    family: Family,
    new_id: Callable[[], int] = lambda: secrets.randbelow(ID_MAX) + 1,
) -> Fields:
    """Return the payload of an action: what `base` says, with the options put in.

    Args:
        action: OCPP action.
        options: From the command line.
        base: From --payload; not changed.
        family: Of the charger's version.
        new_id: Makes ids of requests.

    Raises: OptionError: The action does not take an option.
    """
    places = ACTIONS[family].get(action, {})
    fields: Fields = msgspec.json.decode(msgspec.json.encode(base))
    for name, value in options.given().items():
        if name not in places:
            taken = ", ".join("--" + other.replace("_", "-") for other in sorted(places)) or "no such options"
            flag = "--" + name.replace("_", "-")
            versions = "OCPP 1.6" if family == "1.6" else "OCPP 2"
            raise OptionError(f"{action} of {versions} takes {taken}, not {flag}; put the rest into --payload")
        places[name](fields, value)
    if "id_token" in places and isinstance(token := fields.get("idToken"), dict):
        token.setdefault("type", TOKEN_TYPE)
    if (generated := GENERATED[family].get(action)) is not None:
        fields.setdefault(generated, new_id())
    return fields
