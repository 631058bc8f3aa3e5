"""MQTT.js on node, 3.1.1 and 5, against the listener."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.mqtt_server import PASSWORD, live_server, wait_until
from tests.services import npm
from tests.services.require import require

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
DEVICE = "bus-1"
SCRIPT = """
const mqtt = require("mqtt");
const [port, protocolVersion, username, password] = process.argv.slice(1);
const client = mqtt.connect({ host: "127.0.0.1", port: +port, protocolVersion: +protocolVersion, username, password,
  clientId: username, reconnectPeriod: 0 });
const fail = (error) => { console.error(error); process.exit(1); };
client.on("error", fail);
client.on("message", (topic, payload) => {
  console.log(JSON.stringify({ topic, payload: payload.toString() }));
  setTimeout(() => client.end(false, () => process.exit(0)), 200);
});
client.on("connect", async () => {
  try {
    await client.subscribeAsync(`v1/acme/${username}/cmd/#`, { qos: 1 });
    for (const qos of [0, 1, 2]) {
      for (let i = 0; i < 10; i++) {
        await client.publishAsync(`v1/acme/${username}/telemetry`, `qos ${qos}, ${i}`, { qos });
      }
    }
    console.log("published");
  } catch (error) { fail(error); }
});
"""


@pytest.mark.parametrize("version", ["4", "5"])
def test_mqttjs(version: str, tmp_path: Path) -> None:
    """Publishes at each QoS and receives a command."""
    node = shutil.which("node")
    require("node with npm", node)
    modules = npm.install("mqtt")
    require("MQTT.js from npm", modules)
    assert node is not None
    assert modules is not None
    with live_server(tmp_path) as server:
        client = subprocess.Popen(
            [node, "-e", SCRIPT, str(server.port), version, DEVICE, PASSWORD],
            env={**os.environ, "NODE_PATH": str(modules)},
            stdout=subprocess.PIPE,
            text=True,
        )
        with client:
            assert client.stdout is not None
            assert client.stdout.readline() == "published\n"
            request_id = server.submit(DEVICE, b"lights on")
            said = json.loads(client.stdout.readline())
            assert client.wait(20) == 0
        assert {"topic": f"v1/acme/{DEVICE}/cmd/{request_id}", "payload": "lights on"} == said
        server.wait_for("acknowledged")
        wait_until(lambda: len(server.payloads(DEVICE)) == 30)
    assert sorted(f"qos {qos}, {i}".encode() for qos in (0, 1, 2) for i in range(10)) == sorted(server.payloads(DEVICE))
