"""From a reading over MQTT to a signed message at a receiver, and back by command line."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import polars as pl
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from standardwebhooks import Webhook

from gateway.core.ids import Offset
from gateway.journal.reader import SegmentReader
from tests.installation import Installation, run_voltgate, until
from tests.integration.receivers import SECRET, HttpReceiver

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("alerts")]

ALERTS = """
receivers:
  desk: {{webhook: "{url}", secret: {{file: "{secret}"}}, insecure: true, allow_private: [127.0.0.0/8]}}
routes:
  - {{match: ["rule=contactor_welded"], to: [desk], group_by: [device], wait: 0 s, interval: 1 s, repeat: never}}
rules:
  battery_pack/contactor_welded: {{for: 2 s, clear_for: 0 s}}
"""
START = datetime(2026, 11, 1, 8, tzinfo=UTC)
COLUMNS = ("alert_id", "revision", "state", "device_id", "rule", "resolved_by", "since", "value", "evidence")


class Bus:
    """A bus that says how its contactor is, once for each second of its own time."""

    def __init__(self, port: int, name: str) -> None:
        self.name, self._second = name, 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def say(self, contactor: str, seconds: int) -> None:
        """Send one reading a second, and wait until all are acknowledged."""
        sent = []
        for _ in range(seconds):
            at = START + timedelta(seconds=self._second)
            self._second += 1
            reading = {"ts": at.isoformat(), "contactor": contactor, "pack_voltage_v": 640.0, "seq": self._second}
            sent.append(self._client.publish(f"v1/default/{self.name}/battery", json.dumps(reading), qos=1))
        for one in sent:
            one.wait_for_publish(20)

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Deployment:
    """An installation with a receiver of its alerts."""

    def __init__(self, installation: Installation, receiver: HttpReceiver) -> None:
        self.installation, self.receiver = installation, receiver

    def events(self, count: int) -> list[dict[str, Any]]:
        """Return the CloudEvents of the first messages, each with a good signature, once there are so many."""
        until(lambda: len(self.receiver.seen) >= count, what=f"{count} messages")
        return [Webhook(SECRET).verify(one.body, one.headers) for one in self.receiver.seen]

    def alerts(self, count: int) -> pl.DataFrame:
        """Return the revisions in the lake, once there are so many."""
        table = self.installation.data / "lake" / "alert_revisions"
        until(lambda: table.exists() and pl.scan_delta(str(table)).select(pl.len()).collect().item() >= count)
        return revisions(table)


def revisions(table: Path) -> pl.DataFrame:
    return pl.scan_delta(str(table)).select(*COLUMNS, "offset").sort("offset", "alert_id", "revision").collect()


def results(data: Path) -> list[tuple[str, int]]:
    """Return (alert id, revision) of what the results journal has."""
    reader = SegmentReader(data / "results")
    try:
        payloads = reader.read(Offset(0), rows_max=10**6, bytes_max=10**9).payloads
    finally:
        reader.close()
    said = [json.loads(payload) for payload in payloads]
    return [(one["alert_id"], one["revision"]) for one in said if "alert_id" in one]


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    """Yield a running installation."""
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "secret").write_text(SECRET)
    with HttpReceiver() as receiver:
        text = ALERTS.format(url=receiver.url(), secret=tmp_path / "secret")
        (data / "alerts.yaml").write_text(text)
        with Installation(data) as installation:
            yield Deployment(installation, receiver)


def test_alert_goes_out_signed_and_through_its_life(deployed: Deployment) -> None:
    """It fires, is acknowledged and resolved from the command line, and each is told; the lake has all of it."""
    installation = deployed.installation
    bus = Bus(installation.port, "bus-1")
    bus.say("closed", 3)
    bus.say("welded", 5)
    (fired,) = deployed.events(1)
    (alert,) = fired["data"]["alerts"]
    assert ("voltgate.alert.firing.v1", "bus-1", "battery_pack/contactor_welded", "critical") == (
        fired["type"], alert["device"], alert["rule"], alert["severity"],
    )  # fmt: skip
    assert (START + timedelta(seconds=3)).replace(tzinfo=UTC) == datetime.fromisoformat(alert["since"])
    name = alert["alert_id"][:8]
    shown = json.loads(installation.voltgate("alerts", "ls", "--json").splitlines()[0])
    assert (alert["alert_id"], "firing") == (shown["alert_id"], shown["state"])
    installation.voltgate("alerts", "ack", name, "--by", "ann", "--note", "towing it")
    assert ("acknowledged", "ann") == tuple(deployed.events(2)[1]["data"]["alerts"][0][key] for key in ("state", "by"))
    installation.voltgate("alerts", "resolve", name, "--by", "ann")
    assert "resolved" == deployed.events(3)[2]["data"]["alerts"][0]["state"]
    bus.leave()
    rows = deployed.alerts(3)
    assert [("firing", None), ("acknowledged", None), ("resolved", "operator")] == rows.select(
        "state", "resolved_by"
    ).rows()
    assert [(row["alert_id"], row["revision"]) for row in rows.to_dicts()] == results(installation.data)
    assert 4 == installation_exit(installation, "alerts", "show", "ffffffff")


def installation_exit(installation: Installation, *arguments: str) -> int:
    """Return the exit code that the command ends with when what it names is not there."""
    run_voltgate(*arguments, data=installation.data, env=installation.environment, expected_code=4)
    return 4


def test_replay_gives_the_same_alerts(deployed: Deployment, tmp_path: Path) -> None:
    """Another installation over the same journal has the same ids, states and evidence, cut as it happens to be."""
    installation = deployed.installation
    buses = [Bus(installation.port, f"bus-{i}") for i in range(5)]
    for i, bus in enumerate(buses):
        bus.say("closed", 2 + i)
        bus.say("welded", 4)
        if i % 2:
            bus.say("open", 3)
    # Those of every other bus are over already: seven revisions, and one more for this order.
    fired = deployed.alerts(7)
    installation.voltgate("alerts", "ack", fired.filter(pl.col("device_id") == "bus-0")["alert_id"][0])
    for bus in buses:
        bus.leave()
    rows = deployed.alerts(8)
    assert installation.stop() == 0
    other = tmp_path / "other"
    shutil.copytree(installation.data / "ingest", other / "ingest")
    shutil.copy(installation.data / "alerts.yaml", other)
    environ = installation.environment | {"VOLTGATE__PROCESSORS__BATCH_ROWS_MAX": "7"}
    run_voltgate("processors", "--drain", data=other, env=environ)
    again = revisions(other / "lake" / "alert_revisions")
    assert rows.rows() == again.rows()
    assert results(installation.data) == results(other)


def test_kill_while_alerting_loses_and_renames_nothing(deployed: Deployment) -> None:
    """Killed again and again, every alert is told under one id, and the lake equals the results journal."""
    installation = deployed.installation
    count = 12
    for i in range(count):
        bus = Bus(installation.port, f"bus-{i}")
        bus.say("closed", 2)
        bus.say("welded", 4)
        bus.leave()
        if i % 3 == 0:
            installation.kill()
            installation.start()
    rows = deployed.alerts(count)
    told: dict[str, set[str]] = {}
    until(lambda: len(devices(deployed)) == count, what="a message about every bus")
    for event in deployed.events(count):
        for alert in event["data"]["alerts"]:
            told.setdefault(alert["device"], set()).add(event["id"])
    assert {f"bus-{i}": 1 for i in range(count)} == {device: len(ids) for device, ids in told.items()}
    assert count == rows["alert_id"].n_unique() == rows.height
    assert sorted(results(installation.data)) == sorted(rows.select("alert_id", "revision").rows())


def devices(deployed: Deployment) -> set[str]:
    return {alert["device"] for event in deployed.events(1) for alert in event["data"]["alerts"]}


def test_wrong_rules_are_refused_and_the_old_ones_stay(deployed: Deployment) -> None:
    """`voltgate check` names file and line; a running system takes new rules on SIGHUP, and keeps its own if wrong."""
    installation = deployed.installation
    file = installation.data / "alerts.yaml"
    good = file.read_text()
    file.write_text(good.replace("contactor_welded: {", "contactor_weldet: {"))
    said = run_voltgate("check", "--json", data=installation.data, env=installation.environment, expected_code=3)
    assert "contactor_weldet" in said
    assert "alerts.yaml" in said
    hang_up(installation)
    until(lambda: "configuration_refused" in log(installation), what="the refusal in the log")
    bus = Bus(installation.port, "bus-1")
    bus.say("welded", 5)
    deployed.events(1)
    file.write_text(good.replace("{for: 2 s, clear_for: 0 s}", "{enabled: false}"))
    hang_up(installation)
    until(lambda: "configuration_applied" in log(installation), what="the new rules")
    other = Bus(installation.port, "bus-2")
    other.say("welded", 5)
    for one in (bus, other):
        one.leave()
    # The alert of a rule that is looked at no more is over; nothing fires for the second bus.
    rows = deployed.alerts(2)
    assert [("bus-1", "firing", None), ("bus-1", "resolved", "rule")] == rows.select(
        "device_id", "state", "resolved_by"
    ).rows()


def hang_up(installation: Installation) -> None:
    assert installation.process is not None
    os.kill(installation.process.pid, signal.SIGHUP)


def log(installation: Installation) -> str:
    return (installation.data / "run.log").read_text()
