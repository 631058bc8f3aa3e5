"""Answers to what a simulated charger does not do, made from the answer's own schema, so that they are always valid."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any

from simulators.chargers.hardware import Version

_FROM_STATION = frozenset(
    {
        *("Authorize", "BatterySwap", "BootNotification", "ClearedChargingLimit", "ClosePeriodicEventStream"),
        *("DiagnosticsStatusNotification", "FirmwareStatusNotification", "Get15118EVCertificate"),
        *("GetCertificateChainStatus", "GetCertificateStatus", "Heartbeat", "LogStatusNotification", "MeterValues"),
        *("NotifyChargingLimit", "NotifyCustomerInformation", "NotifyDERAlarm", "NotifyDERStartStop"),
        *("NotifyDisplayMessages", "NotifyEVChargingNeeds", "NotifyEVChargingSchedule", "NotifyEvent"),
        *("NotifyMonitoringReport", "NotifyPriorityCharging", "NotifyReport", "NotifySettlement"),
        *("OpenPeriodicEventStream", "PublishFirmwareStatusNotification", "PullDynamicScheduleUpdate"),
        *("ReportChargingProfiles", "ReportDERControl", "ReservationStatusUpdate", "SecurityEventNotification"),
        *("SignCertificate", "SignedFirmwareStatusNotification", "StartTransaction", "StatusNotification"),
        *("StopTransaction", "TransactionEvent", "VatNumberValidation"),
    }
)
"""What stations say and never hear. DataTransfer goes both ways."""

_LEAST = ("NotSupported", "NotImplemented", "NotFound", "Rejected", "Unknown", "NoProfiles", "NoFirmware", "NoTariff")
"""The politest refusal first, in schemas that have it."""


def commands(module: ModuleType) -> list[str]:
    """Return what a central system may say to a station, of a version's module in the `ocpp` package.

    The package's modules for calls also hold types; an action is what is made there and has an answer.
    """
    return [
        action
        for action, made in vars(module.call).items()
        if isinstance(made, type)
        and made.__module__ == module.call.__name__
        and hasattr(module.call_result, action)
        and action not in _FROM_STATION
    ]


@cache
def schema(version: Version, name: str) -> dict[str, Any]:
    """Return a schema of the `ocpp` package by its file's name, such as `ResetResponse`.

    Not by the package's own function: that remembers one form of a schema whose numbers 1.6 needs in another.
    """
    file = files("ocpp") / f"v{version.replace('.', '')}" / "schemas" / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text("utf-8-sig"))
    return found


def refusal(version: Version, action: str) -> dict[str, Any]:
    """Return the smallest answer the schema allows that promises nothing.

    Raises: OSError: The version has no such action.
    """
    root = schema(version, f"{action}Response")
    answer = _least(root, root)
    assert isinstance(answer, dict)
    return answer


def _least(part: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    if "$ref" in part:
        return _least(root["definitions"][part["$ref"].rsplit("/", 1)[-1]], root)
    if "enum" in part:
        return next((word for word in _LEAST if word in part["enum"]), part["enum"][-1])
    match part.get("type"):
        case "object":
            return {name: _least(part["properties"][name], root) for name in part.get("required", ())}
        case "array":
            return [_least(part["items"], root) for _ in range(part.get("minItems", 0))]
        case "boolean":
            return False
        case "integer" | "number":
            return 0
    return ""
