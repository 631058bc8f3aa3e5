"""npm ocpp-rpc as a station with `strictMode: true`: it validates each of our answers and calls against the schemas."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.ocpp_live_central import (
    FIRST_TRANSACTION_ID,
    GOOD_TOKEN,
    HEARTBEAT_INTERVAL_S,
    PASSWORD,
    LiveCentral,
    live_central,
)
from tests.services import npm
from tests.services.require import require

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
TIMEOUT_S = 30
SCRIPT = """
const { RPCClient } = require("ocpp-rpc");
const [port, identity, password, protocol, calls] = process.argv.slice(1);
const station = new RPCClient({ endpoint: `ws://127.0.0.1:${port}/ocpp`, identity, password, protocols: [protocol],
  strictMode: true, reconnect: false });
station.on("strictValidationFailure", ({ method, error }) => { console.error(method, error); process.exit(1); });
(async () => {
  await station.connect();
  const answers = [];
  let transactionId;
  for (const [action, params] of JSON.parse(calls)) {
    if (params.transactionId === null) params.transactionId = transactionId;
    const answer = await station.call(action, params);
    transactionId = answer.transactionId ?? transactionId;
    answers.push(answer);
  }
  await station.close();
  console.log(JSON.stringify({ protocol: station.protocol, answers }));
})().catch((error) => { console.error(error); process.exit(1); });
"""
AT = "2026-11-23T10:0{}:00.000Z"
GIVEN = None
"""Stands for the transaction id that the central system gave."""


def energy(wh: int) -> dict[str, Any]:
    """Return a sample as 1.6 has it."""
    return {"value": str(wh), "context": "Sample.Periodic", "measurand": "Energy.Active.Import.Register", "unit": "Wh"}


CALLS_16: list[tuple[str, dict[str, Any]]] = [
    ("BootNotification", {"chargePointVendor": "Acme", "chargePointModel": "One", "firmwareVersion": "1.2"}),
    ("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Preparing"}),
    ("Heartbeat", {}),
    ("Authorize", {"idTag": GOOD_TOKEN}),
    ("Authorize", {"idTag": "STOLEN"}),
    ("StartTransaction", {"connectorId": 1, "idTag": GOOD_TOKEN, "meterStart": 1000, "timestamp": AT.format(0)}),
    (
        "MeterValues",
        {
            "connectorId": 1,
            "transactionId": GIVEN,
            "meterValue": [{"timestamp": AT.format(1), "sampledValue": [energy(1500)]}],
        },
    ),
    (
        "StopTransaction",
        {
            "transactionId": GIVEN,
            "idTag": GOOD_TOKEN,
            "meterStop": 2000,
            "timestamp": AT.format(2),
            "reason": "Local",
            "transactionData": [{"timestamp": AT.format(2), "sampledValue": [energy(2000)]}],
        },
    ),
    ("DataTransfer", {"vendorId": "Acme", "messageId": "hello", "data": "text"}),
]


def transaction_event(event: str, number: int, trigger: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """Return a TransactionEvent of 2.x."""
    payload = {
        "eventType": event,
        "timestamp": AT.format(number),
        "triggerReason": trigger,
        "seqNo": number,
        "transactionInfo": {"transactionId": "tx-1", "chargingState": "Charging"},
        "evse": {"id": 1, "connectorId": 1},
    }
    return "TransactionEvent", payload | more


ID_TOKEN = {"idToken": GOOD_TOKEN, "type": "ISO14443"}
METER_VALUE = [
    {"timestamp": AT.format(1), "sampledValue": [{"value": 1500.5, "measurand": "Energy.Active.Import.Register"}]}
]
CALLS_2: list[tuple[str, dict[str, Any]]] = [
    ("BootNotification", {"reason": "PowerUp", "chargingStation": {"vendorName": "Acme", "model": "Two"}}),
    (
        "StatusNotification",
        {"timestamp": AT.format(0), "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1},
    ),
    ("Heartbeat", {}),
    ("Authorize", {"idToken": ID_TOKEN}),
    ("Authorize", {"idToken": {"idToken": "STOLEN", "type": "ISO14443"}}),
    transaction_event("Started", 0, "Authorized", idToken=ID_TOKEN),
    transaction_event("Updated", 1, "MeterValuePeriodic", meterValue=METER_VALUE),
    transaction_event("Ended", 2, "StopAuthorized", idToken=ID_TOKEN),
    ("MeterValues", {"evseId": 1, "meterValue": METER_VALUE}),
    (
        "SecurityEventNotification",
        {"type": "SettingSystemTime", "timestamp": AT.format(3), "techInfo": "clock set"},
    ),
    (
        "NotifyReport",
        {"requestId": 7, "generatedAt": AT.format(3), "seqNo": 0, "tbc": False},
    ),
    ("DataTransfer", {"vendorId": "Acme", "data": {"any": ["json", 1]}}),
]


@pytest.fixture(scope="module")
def central(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCentral]:
    """A server for all tests of this module."""
    with live_central(tmp_path_factory.mktemp("central")) as central:
        yield central


def play(
    central: LiveCentral,
    identity: str,
    version: str,
    calls: list[tuple[str, dict[str, Any]]],
    password: str = PASSWORD,
) -> "subprocess.CompletedProcess[str]":
    """Let a station make its calls one after the other."""
    node, modules = shutil.which("node"), npm.install("ocpp-rpc")
    require("node with npm", node)
    require("ocpp-rpc from npm", modules)
    assert node is not None
    return subprocess.run(
        [node, "-e", SCRIPT, str(central.port), identity, password, version, json.dumps(calls)],
        env={**os.environ, "NODE_PATH": str(modules)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def answers_of(done: "subprocess.CompletedProcess[str]", version: str) -> list[dict[str, Any]]:
    """Return what the station was answered; it has checked each answer against its schema."""
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert version == said["protocol"]
    answers: list[dict[str, Any]] = said["answers"]
    return answers


def journalled(version: str, calls: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Return what the journal must hold of some calls: all but heartbeats, verbatim."""
    return [(f"{version}/{action}", payload) for action, payload in calls if action != "Heartbeat"]


def test_a_whole_session_of_ocpp_16(central: LiveCentral) -> None:
    """Every answer is valid and right; every call is in the journal as sent, and so is the id we gave."""
    boot, _, heartbeat, good, stolen, start, meter, stop, data = answers_of(
        play(central, "rpc-16", "ocpp1.6", CALLS_16), "ocpp1.6"
    )
    assert ("Accepted", HEARTBEAT_INTERVAL_S) == (boot["status"], boot["interval"])
    assert {"currentTime"} == set(heartbeat)
    assert ["Accepted", "Invalid"] == [answer["idTagInfo"]["status"] for answer in (good, stolen)]
    assert (FIRST_TRANSACTION_ID, "Accepted") == (start["transactionId"], start["idTagInfo"]["status"])
    assert ({}, "Accepted") == (meter, stop["idTagInfo"]["status"])
    assert "UnknownVendorId" == data["status"]
    central.wait_gone("rpc-16")
    id_given = {"transactionId": FIRST_TRANSACTION_ID}
    given = [(action, payload | id_given if "transactionId" in payload else payload) for action, payload in CALLS_16]
    expected = journalled("ocpp1.6", given)
    expected.insert(5, ("ocpp1.6/StartTransaction.conf", start))
    assert expected == central.said("rpc-16")


@pytest.mark.parametrize("version", ["ocpp2.0.1"])
def test_a_whole_session_of_ocpp_2(version: str, central: LiveCentral) -> None:
    """Every answer is valid and right; every call is in the journal as sent."""
    identity = f"rpc-{version}"
    boot, status, heartbeat, good, stolen, started, updated, ended, meter, security, report, data = answers_of(
        play(central, identity, version, CALLS_2), version
    )
    assert ("Accepted", HEARTBEAT_INTERVAL_S) == (boot["status"], boot["interval"])
    assert {"currentTime"} == set(heartbeat)
    assert ["Accepted", "Invalid"] == [answer["idTokenInfo"]["status"] for answer in (good, stolen)]
    assert ["Accepted", "Accepted"] == [answer["idTokenInfo"]["status"] for answer in (started, ended)]
    assert [{}, {}, {}, {}, {}] == [status, updated, meter, security, report]
    assert "UnknownVendorId" == data["status"]
    central.wait_gone(identity)
    assert journalled(version, CALLS_2) == central.said(identity)


def test_a_wrong_password_is_refused(central: LiveCentral) -> None:
    """The station sees 401, and nothing of it is in the journal."""
    done = play(central, "rpc-thief", "ocpp1.6", CALLS_16, password="wrong-horse-battery")
    assert (1, True) == (done.returncode, "401" in done.stderr), done.stderr
    assert [] == central.entries("rpc-thief")
