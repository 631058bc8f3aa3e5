"""The command line on a running installation, as an operator types it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.installation import Installation, environment, run_voltgate, until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("cli")]

TWIZY = Path(__file__).parents[2] / "docs" / "how-to" / "contracts" / "twizy.yaml"
GOOD = {"ts": "2026-11-23T12:00:00Z", "soc_pct": 55.5, "speed_kmh": 12.0}
SENT = [json.dumps(GOOD | {"ts": f"2026-11-23T12:00:{i:02}Z"}).encode() for i in range(5)] + [b"not json", b'{"ts": 5}']


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Yield a running installation that took five good messages and two bad ones of one bus."""
    with Installation(tmp_path_factory.mktemp("cli"), processors__checkpoint_interval_s=1) as running:
        publish(running.port, "bus-7", "telemetry", SENT)
        until(lambda: lake_has(running, "raw", len(SENT)), what="all messages in the lake")
        yield running


def lake_has(installation: Installation, table: str, rows: int) -> bool:
    """Return whether a table has that many rows."""
    return installation.query(f"select count(*) n from {table}") == [{"n": rows}]


def publish(port: int, device_id: str, channel: str, payloads: list[bytes]) -> None:
    """Publish with QoS 1 and wait for every acknowledgement."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=device_id)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        for payload in payloads:
            client.publish(f"v1/default/{device_id}/{channel}", payload, qos=1).wait_for_publish(10)
    finally:
        client.disconnect()
        client.loop_stop()


def test_query_prints_a_table_and_json(installation: Installation) -> None:
    """The same rows for people and for machines."""
    sql = "select device_id, count(*) n, max(soc_pct) soc from vehicle_telemetry group by 1"
    assert installation.voltgate("query", sql).splitlines()[1].split() == ["bus-7", "5", "55.5"]
    assert installation.query(sql) == [{"device_id": "bus-7", "n": 5, "soc": 55.5}]


def test_query_refuses_to_write_and_names_the_tables(installation: Installation) -> None:
    """A question changes nothing, and a wrong name is answered with the right ones."""
    for sql, said in (("drop table raw", "read"), ("select * from nothing", "vehicle_telemetry")):
        command = [sys.executable, "-m", "voltgate", "query", sql, "--data", str(installation.data)]
        result = subprocess.run(command, env=installation.environment, capture_output=True, text=True)
        assert result.returncode == 1
        assert said in result.stderr
        assert "Traceback" not in result.stderr


def test_rejects_are_listed_with_reason_and_shown_with_their_bytes(installation: Installation) -> None:
    """An operator sees what came, where it is wrong, and the bytes."""
    rows = [json.loads(line) for line in installation.voltgate("rejects", "ls", "--json").splitlines()]
    assert sorted(row["code"] for row in rows) == ["json", "time"]
    offset = next(row["offset"] for row in rows if row["code"] == "json")
    assert "not json" in installation.voltgate("rejects", "show", str(offset))
    installation.voltgate("rejects", "show", "999999", expected_code=4)


def test_rejects_retry_puts_the_payload_back_through_the_gateway(installation: Installation) -> None:
    """A retried payload is a new message; what is still wrong with it is a counted duplicate, no second reject."""
    before = installation.query("select count(*) n from raw")[0]["n"]
    installation.voltgate("rejects", "retry", "--code", "json")
    until(lambda: lake_has(installation, "raw", before + 1), what="the retried message in the lake")
    assert installation.query("select payload::varchar p from raw where source = 'http'") == [{"p": "not json"}]
    assert lake_has(installation, "rejects", 2)


def test_journal_commands_agree(installation: Installation) -> None:
    """Verify, stats and dump speak of the same entries."""
    verified = json.loads(installation.voltgate("journal", "verify", "--json"))
    stats = json.loads(installation.voltgate("journal", "stats", "--json"))
    assert verified["ok"]
    assert stats["entries"] >= len(SENT)
    dumped = [json.loads(line) for line in installation.voltgate("journal", "dump", "--json").splitlines()]
    payloads = [row["payload"].encode() for row in dumped if row["channel"] == "telemetry" and row["source"] == "mqtt"]
    assert payloads == SENT


def test_tail_shows_messages_as_they_arrive(installation: Installation) -> None:
    """What is published after `tail` began is printed, filtered by device."""
    command = [sys.executable, "-m", "voltgate", "tail", "--data", str(installation.data), "--json", "--count", "1"]
    tail = subprocess.Popen(
        [*command, "--device", "bus-8"], env=installation.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        until(lambda: sends_until_seen(installation, tail), what="a line of tail")
        out, _ = tail.communicate(timeout=10)
    finally:
        tail.kill()
    assert json.loads(out)["device_id"] == "bus-8"


def sends_until_seen(installation: Installation, tail: "subprocess.Popen[str]") -> bool:
    """Publish once more and return whether `tail` has ended, having seen one of them."""
    publish(installation.port, "bus-8", "telemetry", [SENT[0]])
    publish(installation.port, "bus-9", "telemetry", [SENT[0]])
    return tail.poll() is not None


def test_devices_are_added_listed_and_revoked(installation: Installation) -> None:
    """The password is shown once, and a revoked device is listed as such."""
    added = json.loads(installation.voltgate("device", "add", "bus-42", "--json"))
    assert len(added["password"]) >= 16
    assert added["password"] not in installation.voltgate("device", "ls")
    installation.voltgate("device", "revoke", "bus-42")
    rows = [json.loads(line) for line in installation.voltgate("device", "ls", "--json").splitlines()]
    assert [(row["device_id"], row["state"]) for row in rows] == [("bus-42", "revoked")]
    installation.voltgate("device", "revoke", "nobody", expected_code=4)


def test_device_show_prints_newest_values_with_their_time(installation: Installation) -> None:
    """A value is never shown without its age."""
    rows = [json.loads(line) for line in installation.voltgate("device", "show", "bus-7", "--json").splitlines()]
    by_field = {row["field"]: row for row in rows}
    assert by_field["soc_pct"]["value"] == 55.5
    assert by_field["soc_pct"]["measured_at"].startswith("2026-11-23T12:00:04")


def test_status_says_that_both_programs_are_ready(installation: Installation) -> None:
    """Exit 0 means healthy."""
    status = json.loads(installation.voltgate("status", "--json"))
    assert [status[name]["readiness"]["ok"] for name in ("gateway", "processors")] == [True, True]


def test_check_names_file_and_line_of_a_mistake(tmp_path: Path) -> None:
    """A wrong setting and a wrong contract are one line each, with the mend, and exit 3."""
    config = tmp_path / "voltgate.toml"
    config.write_text(f'data = "{tmp_path}"\n\n[gateway.mqtt]\nprot = 1884\n')
    said = run_voltgate("check", "--config", str(config), expected_code=3)
    assert said.startswith(f"{config}:4: ")
    assert "port" in said
    config.write_text(f'data = "{tmp_path}"\n')
    (tmp_path / "contracts").mkdir()
    contract = tmp_path / "contracts" / "trams.yaml"
    contract.write_text(TWIZY.read_text().replace("unit: km/h", "unit: kmh", 1))
    said = run_voltgate("check", "--config", str(config), expected_code=3)
    lines = contract.read_text().splitlines()
    line = next(i for i, text in enumerate(lines, start=1) if "unit: kmh" in text)
    assert said.startswith(f"{contract}:{line}: ")
    assert "km/h" in said


def test_version_as_json_names_what_matters() -> None:
    """What a bug report needs."""
    assert {"voltgate", "python", "polars", "deltalake"} <= json.loads(run_voltgate("version", "--json")).keys()


def test_contracts_are_listed_checked_and_exported(tmp_path: Path) -> None:
    """Built-in streams, a user's file, and the standard's form of one."""
    streams = [
        json.loads(line)["stream"] for line in run_voltgate("contract", "ls", "--json", data=tmp_path).splitlines()
    ]
    assert {"vehicle_telemetry", "battery_pack", "vehicle_event"} <= set(streams)
    exported = json.loads(run_voltgate("contract", "export", "battery_pack", data=tmp_path))
    assert exported["apiVersion"].startswith("v3.1")
    run_voltgate("contract", "export", "nothing", data=tmp_path, expected_code=4)


def test_unknown_option_suggests_the_nearest() -> None:
    """A typing mistake is a usage error with a hint."""
    result = subprocess.run(
        [sys.executable, "-m", "voltgate", "status", "--dta", "x"], env=environment(), capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "--data" in result.stderr
