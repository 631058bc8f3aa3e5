"""What peers may do wrong on a real socket: the standard's code or a close, counted, and nobody else notices."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.core.limits import CONNECTIONS_UNAUTHENTICATED_MAX, PACKET_BYTES_MAX
from gateway.wire.mqtt.packets import Ack, Disconnect, PacketType, Reason
from tests.integration.mqtt_server import LiveServer, live_server, wait_until
from tests.integration.mqtt_socket import Device
from tests.unit.gateway.wire.mqtt.device import connect_bytes, publish_bytes

pytestmark = pytest.mark.integration
TOPIC = "v1/acme/bus-1/telemetry"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A running listener."""
    with live_server(tmp_path) as live:
        yield live


@pytest.fixture
def healthy(server: LiveServer) -> Iterator[Device]:
    """A device that publishes before and must be able to afterwards, on the same connection."""
    device = Device(server)
    assert device.connect("healthy").code == 0
    assert_published(device, b"before")
    yield device
    assert_published(device, b"after")
    device.close()
    assert server.payloads("healthy") == [b"before", b"after"]


def assert_published(device: Device, payload: bytes) -> None:
    """Publish at QoS 1 and see it acknowledged."""
    device.send(publish_bytes(payload, topic="v1/acme/healthy/telemetry", level=5))
    answer = device.read()
    assert isinstance(answer, Ack)
    assert (answer.type, answer.packet_id, answer.code) == (PacketType.PUBACK, 1, 0)


def varint(n: int) -> bytes:
    """Return a remaining length."""
    out = b""
    while n > 127:
        out += bytes([n % 128 + 128])
        n //= 128
    return out + bytes([n])


@pytest.mark.parametrize(
    ("raw", "reason", "code"),
    [
        (b"\x36\x06\x00\x02ab\x00\x01", "flags", Reason.MALFORMED_PACKET),
        (b"\x32\xff\xff\xff\xff\xff", "remaining_length", Reason.MALFORMED_PACKET),
        (b"\x32" + varint(PACKET_BYTES_MAX + 1), "packet_too_large", Reason.PACKET_TOO_LARGE),
        (b"\x32\x06\x00\x02\xff\xfe\x00\x01", "topic_utf8", Reason.MALFORMED_PACKET),
        (b"\x32\x06\x00\x02a#\x00\x01", "topic_wildcard", Reason.MALFORMED_PACKET),
        (connect_bytes(5), "unexpected_packet", Reason.PROTOCOL_ERROR),
    ],
)
@pytest.mark.usefixtures("healthy")
def test_forbidden_packet_closes_its_sender(server: LiveServer, raw: bytes, reason: str, code: int) -> None:
    """DISCONNECT with the code in version 5, a close in 3.1.1."""
    five, four = Device(server), Device(server, level=4)
    assert (five.connect("bus-1").code, four.connect("bus-2").code) == (0, 0)
    five.send(raw)
    four.send(raw)
    said = five.read()
    assert isinstance(said, Disconnect)
    assert code == said.code
    assert five.is_closed()
    assert four.read() is None
    server.wait_for(reason, 2)
    assert server.payloads("bus-1") == []


@pytest.mark.usefixtures("healthy")
def test_oversize_payload_is_refused_while_it_is_announced(server: LiveServer) -> None:
    """The header is enough: the server answers before the payload is sent."""
    device = Device(server)
    device.connect()
    device.send(b"\x30" + varint(200_000_000))
    said = device.read()
    assert isinstance(said, Disconnect)
    assert said.code == Reason.PACKET_TOO_LARGE


@pytest.mark.usefixtures("healthy")
def test_foreign_topic_is_refused(server: LiveServer) -> None:
    """0x87 and the connection stays in version 5; 3.1.1 closes; nothing is journalled."""
    five, four = Device(server), Device(server, level=4)
    five.connect("bus-1")
    four.connect("bus-2")
    five.send(publish_bytes(topic="v1/acme/bus-2/telemetry", level=5))
    said = five.read()
    assert isinstance(said, Ack)
    assert said.code == Reason.NOT_AUTHORIZED
    four.send(publish_bytes(topic="v1/acme/bus-1/telemetry"))
    assert four.read() is None
    server.wait_for("topic_not_own", 2)
    five.send(publish_bytes(topic="nonsense", level=5))
    said = five.read()
    assert isinstance(said, Ack)
    assert said.code == Reason.TOPIC_NAME_INVALID
    assert server.payloads("bus-1") == []


@pytest.mark.usefixtures("healthy")
def test_wrong_password_is_refused(server: LiveServer) -> None:
    """0x86, and 4 in 3.1.1."""
    five, four = Device(server), Device(server, level=4)
    assert (five.connect(password="guess").code, four.connect(password="guess").code) == (0x86, 4)
    assert five.is_closed()
    assert four.is_closed()
    server.wait_for("wrong_password", 2)


@pytest.mark.usefixtures("healthy")
def test_publish_before_connect_closes(server: LiveServer) -> None:
    """[MQTT-3.1.0-1]."""
    device = Device(server)
    device.send(publish_bytes())
    assert device.read() is None
    server.wait_for("not_connect")


@pytest.mark.usefixtures("healthy")
def test_publish_right_behind_connect_waits_for_it(server: LiveServer) -> None:
    """A client need not wait for CONNACK; what it sends is taken once it is in, and lost if it is not let in."""
    server.admission.delay_s = 0.05
    device = Device(server)
    device.send(
        connect_bytes(5, client_id="bus-1", username="bus-1", password=b"correct horse")
        + publish_bytes(b"early", level=5)
    )
    assert [type(device.read()).__name__, type(device.read()).__name__] == ["Connack", "Ack"]
    refused = Device(server)
    refused.send(
        connect_bytes(5, client_id="bus-1", username="bus-1", password=b"wrong") + publish_bytes(b"never", level=5)
    )
    assert refused.is_closed()
    assert server.payloads("bus-1") == [b"early"]


@pytest.mark.usefixtures("healthy")
def test_peer_that_never_reads_is_closed(server: LiveServer) -> None:
    """Its acknowledgements may take so much memory and no more."""
    device = Device(server, level=4)
    device.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    device.connect()
    with suppress(ConnectionError):
        while server.counts["slow_reader"] == 0:
            device.send(b"\xc0\x00" * 50_000)
    server.wait_for("slow_reader")
    device.close()


@pytest.mark.usefixtures("healthy")
def test_sockets_without_connect_are_bounded(server: LiveServer) -> None:
    """Past the bound the longest silent one goes; a device that speaks at once gets in; the silent ones time out."""
    extra = 50
    silent = [
        socket.create_connection(("127.0.0.1", server.port), 20) for _ in range(CONNECTIONS_UNAUTHENTICATED_MAX + extra)
    ]
    server.wait_for("unauthenticated_max", extra)
    device = Device(server)
    assert device.connect().code == 0
    assert server.listener.unauthenticated <= CONNECTIONS_UNAUTHENTICATED_MAX
    silent[0].settimeout(20)
    assert silent[0].recv(1) == b""
    for one in silent:
        one.close()
    wait_until(lambda: server.listener.unauthenticated == 0)


def test_silent_socket_is_closed_after_the_connect_timeout(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that sends a byte now and then."""
    monkeypatch.setattr("gateway.edge.sockets.CONNECT_TIMEOUT_S", 0.5)
    device = Device(server)
    device.send(b"\x10")
    assert device.read() is None
    server.wait_for("connect_timeout")


def test_device_that_goes_silent_is_closed_after_one_and_a_half_keep_alives(server: LiveServer) -> None:
    """0x8D [MQTT-3.1.2-22]; one that pings stays."""
    silent, alive = Device(server), Device(server)
    silent.connect("bus-1", keep_alive_s=1)
    alive.connect("bus-2", keep_alive_s=1)
    alive.socket.settimeout(0.3)
    deadline = time.monotonic() + 10
    while server.counts["keep_alive"] == 0:
        assert time.monotonic() < deadline
        alive.send(b"\xc0\x00")
        assert alive.read() is not None
        time.sleep(0.1)
    said = silent.read()
    assert isinstance(said, Disconnect)
    assert said.code == Reason.KEEP_ALIVE_TIMEOUT
    assert server.listener.connections == 1


@pytest.mark.usefixtures("healthy")
def test_noise_is_closed(server: LiveServer) -> None:
    """Bytes of other protocols, and none of ours."""
    for noise in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x00" * 64, b"\xff" * 64):
        device = Device(server)
        device.send(noise)
        assert device.read() is None
    wait_until(lambda: server.listener.unauthenticated == 0)
