"""What a charger does not do it refuses validly: every command of every version has an answer its schema allows."""

import asyncio
from types import ModuleType

import pytest
from ocpp import v16, v21, v201
from ocpp.messages import CallResult, validate_payload

from simulators.chargers.hardware import Version
from simulators.chargers.refusals import commands, refusal

MODULES: dict[Version, ModuleType] = {"1.6": v16, "2.0.1": v201, "2.1": v21}


@pytest.mark.parametrize("version", MODULES)
def test_refusal_of_every_command_is_valid(version: Version):
    """As the package's schemas have it."""
    found = commands(MODULES[version])
    assert {"1.6": 26, "2.0.1": 40, "2.1": 55}[version] == len(found)
    for action in found:
        answer = CallResult("1", refusal(version, action))
        answer.action = action
        asyncio.run(validate_payload(answer, version))


@pytest.mark.parametrize(
    ("version", "action", "status"),
    [
        ("1.6", "SetChargingProfile", "NotSupported"),
        ("2.1", "SetDERControl", "NotSupported"),
        ("2.1", "AFRRSignal", "Rejected"),
    ],
)
def test_refusal_says_no(version: Version, action: str, status: str):
    """In the politest word that the answer has."""
    assert {"status": status} == refusal(version, action)
