"""paho-mqtt, aiomqtt and gmqtt against the listener: each publishes at QoS 0, 1, 2 and receives a command."""

import asyncio
import queue
from pathlib import Path

import aiomqtt
import gmqtt
import paho.mqtt.client as paho
import pytest
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.integration.mqtt_server import PASSWORD, TIMEOUT_S, LiveServer, live_server, wait_until

pytestmark = pytest.mark.integration
DEVICE = "bus-1"
TOPIC = f"v1/acme/{DEVICE}/telemetry"
COMMANDS = f"v1/acme/{DEVICE}/cmd/#"
EXPECTED = [f"qos {qos}, {i}".encode() for qos in (0, 1, 2) for i in range(20)]


def assert_all_arrived(server: LiveServer) -> None:
    """Every message once, whatever their order: QoS 2 may pass the others by one round trip."""
    wait_until(lambda: len(server.payloads(DEVICE)) >= len(EXPECTED))
    assert sorted(EXPECTED) == sorted(server.payloads(DEVICE))


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
def test_paho(version: MQTTProtocolVersion, tmp_path: Path) -> None:
    """The client that most devices run."""
    received: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
    subscribed: queue.SimpleQueue[object] = queue.SimpleQueue()
    with live_server(tmp_path) as server:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=DEVICE, protocol=version)
        client.username_pw_set(DEVICE, PASSWORD)
        client.on_message = lambda _client, _userdata, message: received.put(message)
        client.on_subscribe = lambda _client, _userdata, _mid, codes, _properties: subscribed.put(codes)
        client.connect("127.0.0.1", server.port)
        client.loop_start()
        try:
            wait_until(client.is_connected)
            client.subscribe(COMMANDS, qos=1)
            subscribed.get(timeout=TIMEOUT_S)
            sent = [client.publish(TOPIC, payload, qos=int(payload[4:5])) for payload in EXPECTED]
            for one in sent:
                one.wait_for_publish(TIMEOUT_S)
            request_id = server.submit(DEVICE, b"lights on")
            message = received.get(timeout=TIMEOUT_S)
            assert (f"v1/acme/{DEVICE}/cmd/{request_id}", b"lights on", 1) == (
                message.topic,
                message.payload,
                message.qos,
            )
            server.wait_for("acknowledged")
        finally:
            client.disconnect()
            client.loop_stop()
        assert_all_arrived(server)


def test_aiomqtt(tmp_path: Path) -> None:
    """The client the simulators use."""

    async def drive(server: LiveServer) -> tuple[str, object]:
        login = {"username": DEVICE, "password": PASSWORD, "identifier": DEVICE}
        async with asyncio.timeout(TIMEOUT_S), aiomqtt.Client("127.0.0.1", server.port, **login) as client:
            await client.subscribe(COMMANDS, qos=1)
            for payload in EXPECTED:
                await client.publish(TOPIC, payload, qos=int(payload[4:5]))
            request_id = await asyncio.to_thread(server.submit, DEVICE, b"lights on")
            message = await anext(aiter(client.messages))
            assert f"v1/acme/{DEVICE}/cmd/{request_id}" == str(message.topic)
            await asyncio.to_thread(server.wait_for, "acknowledged")
            return request_id, message.payload

    with live_server(tmp_path) as server:
        assert asyncio.run(drive(server))[1] == b"lights on"
        assert_all_arrived(server)


@pytest.mark.parametrize("version", [MQTTv311, MQTTv50])
def test_gmqtt(version: int, tmp_path: Path) -> None:
    """An independent implementation of both versions."""

    async def drive(server: LiveServer) -> tuple[str, bytes]:
        received: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        subscribed = asyncio.Event()

        def on_message(_client: object, topic: str, payload: bytes, _qos: int, _properties: object) -> int:
            received.put_nowait((topic, payload))
            return 0

        client = gmqtt.Client(DEVICE)
        client.set_auth_credentials(DEVICE, PASSWORD)
        client.on_message = on_message
        client.on_subscribe = lambda *_: subscribed.set()
        await client.connect("127.0.0.1", server.port, version=version)
        try:
            client.subscribe(COMMANDS, qos=1)
            await asyncio.wait_for(subscribed.wait(), TIMEOUT_S)
            for payload in EXPECTED:
                client.publish(TOPIC, payload, qos=int(payload[4:5]))
            await asyncio.to_thread(wait_until, lambda: len(server.payloads(DEVICE)) >= len(EXPECTED))
            request_id = await asyncio.to_thread(server.submit, DEVICE, b"lights on")
            topic, payload = await asyncio.wait_for(received.get(), TIMEOUT_S)
            await asyncio.to_thread(server.wait_for, "acknowledged")
        finally:
            await client.disconnect()
        assert f"v1/acme/{DEVICE}/cmd/{request_id}" == topic
        return topic, payload

    with live_server(tmp_path) as server:
        assert asyncio.run(drive(server))[1] == b"lights on"
        assert_all_arrived(server)
