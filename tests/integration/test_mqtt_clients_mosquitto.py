"""mosquitto_pub and mosquitto_sub, 3.1.1 and 5, against the listener."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.mqtt_server import PASSWORD, LiveServer, live_server
from tests.services.require import require

pytestmark = pytest.mark.integration
DEVICE = "bus-1"


def command(tool: str, server: LiveServer, version: str, *more: str) -> list[str]:
    """Return the command line of a client."""
    login = ["-u", DEVICE, "-P", PASSWORD, "-i", DEVICE]
    return [tool, "-h", "127.0.0.1", "-p", str(server.port), "-V", version, *login, *more]


@pytest.mark.parametrize("version", ["311", "5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_pub_publishes(version: str, qos: str, tmp_path: Path) -> None:
    """Each message is in the journal once when the client has gone."""
    require("mosquitto_pub (mosquitto-clients)", shutil.which("mosquitto_pub"))
    lines = [f"line {i}" for i in range(50)]
    with live_server(tmp_path) as server:
        more = ["-q", qos, "-t", f"v1/acme/{DEVICE}/telemetry", "-l"]
        subprocess.run(
            command("mosquitto_pub", server, version, *more), input="\n".join(lines), text=True, timeout=20, check=True
        )
        server.wait_for("disconnect")
    assert [line.encode() for line in lines] == server.payloads(DEVICE)


@pytest.mark.parametrize("version", ["311", "5"])
def test_mosquitto_sub_receives_a_command(version: str, tmp_path: Path) -> None:
    """Queued while offline, delivered on subscribing, acknowledged."""
    require("mosquitto_sub (mosquitto-clients)", shutil.which("mosquitto_sub"))
    with live_server(tmp_path) as server:
        request_id = server.submit(DEVICE, b"open doors")
        more = ["-q", "1", "-t", f"v1/acme/{DEVICE}/cmd/#", "-C", "1", "-F", "%t %p", "-W", "15"]
        done = subprocess.run(
            command("mosquitto_sub", server, version, *more), capture_output=True, text=True, timeout=20, check=True
        )
        assert f"v1/acme/{DEVICE}/cmd/{request_id} open doors\n" == done.stdout
        server.wait_for("acknowledged")
        assert server.commands.waiting_commands == 0


@pytest.mark.parametrize("version", ["311", "5"])
def test_mosquitto_pub_is_told_about_a_wrong_password(version: str, tmp_path: Path) -> None:
    """The client ends with an error that names the reason."""
    require("mosquitto_pub (mosquitto-clients)", shutil.which("mosquitto_pub"))
    with live_server(tmp_path) as server:
        more = ["-q", "1", "-t", f"v1/acme/{DEVICE}/telemetry", "-m", "x", "-P", "wrong"]
        done = subprocess.run(
            command("mosquitto_pub", server, version, *more), capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode != 0
        assert dict(server.counts) == {"wrong_password": 1}
    assert server.messages() == []
