"""The gateway as its users meet it: a process, a directory, devices, signals."""

import base64
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from gateway.core.ids import Offset
from gateway.core.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX
from gateway.core.records import TICK_SOURCE
from gateway.journal.reader import SegmentReader
from gateway.registry.devices import AddedDevice, Registry
from tests.integration.gateway_process import REPOSITORY, GatewayProcess, running_gateway, until

pytestmark = pytest.mark.integration

ANONYMOUS = {"VOLTGATE__GATEWAY__MQTT__ALLOW_ANONYMOUS": "true"}


class Device:
    """A paho client with queues of what happened to it."""

    def __init__(self, client_id: str, *, username: str | None = None, password: str | None = None) -> None:
        self.connects: SimpleQueue[ReasonCode] = SimpleQueue()
        self.disconnects: SimpleQueue[ReasonCode] = SimpleQueue()
        self.published: SimpleQueue[ReasonCode] = SimpleQueue()
        self.messages: SimpleQueue[MQTTMessage] = SimpleQueue()
        self.subscribed: SimpleQueue[list[ReasonCode]] = SimpleQueue()
        self.client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5, reconnect_on_failure=False
        )
        self.client.username_pw_set(username, password)
        self.client.on_connect = lambda _c, _u, _f, code, _p: self.connects.put(code)
        self.client.on_disconnect = lambda _c, _u, _f, code, _p: self.disconnects.put(code)
        self.client.on_publish = lambda _c, _u, _m, code, _p: self.published.put(code)
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.subscribed.put(codes)
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)

    def connect(self, gateway: GatewayProcess) -> int:
        """Connect and return the CONNACK's code."""
        self.client.connect("127.0.0.1", gateway.mqtt_port)
        self.client.loop_start()
        return self.connects.get(timeout=10).value

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> int:
        """Publish and return the code of the acknowledgement."""
        self.client.publish(topic, payload, qos=qos)
        return self.published.get(timeout=10).value

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def device(client_id: str, **credentials: str) -> Iterator[Device]:
    it = Device(client_id, **credentials)
    try:
        yield it
    finally:
        it.close()


def register(data: Path, device_id: str) -> AddedDevice:
    data.mkdir(exist_ok=True)
    registry = Registry(data / "registry.sqlite")
    try:
        return registry.add(tenant="default", device_id=device_id, now_ns=time.time_ns())
    finally:
        registry.close()


def revoke(data: Path, device_id: str) -> None:
    registry = Registry(data / "registry.sqlite")
    assert registry.revoke(tenant="default", device_id=device_id, now_ns=time.time_ns())
    registry.close()


def journal(data: Path) -> list[tuple[Offset, str, str, bytes]]:
    """Return offset, device, channel and payload of everything but ticks."""
    reader, offset = SegmentReader(data / "ingest"), Offset(0)
    found = []
    while batch := reader.read(offset, rows_max=BATCH_ROWS_MAX, bytes_max=BATCH_BYTES_MAX):
        for entry in batch.entries():
            route = entry.envelope.route
            if route.source != TICK_SOURCE:
                found.append((entry.offset, str(route.device_id), str(route.channel), entry.envelope.payload))
        offset = batch.end_offset
    reader.close()
    return found


def admin_token(data: Path) -> str:
    return (data / "run" / "admin.token").read_text()


def test_a_registered_device_publishes_and_nothing_is_lost_over_a_restart(tmp_path: Path) -> None:
    """Acknowledged messages are in the journal, SIGTERM ends with 0, the next start goes on behind them."""
    data = tmp_path / "data"
    added = register(data, "ev-1")
    with running_gateway(data) as gateway:
        with device("c", username=added.username, password=added.password) as ev:
            assert ev.connect(gateway) == 0
            assert [ev.publish("v1/default/ev-1/telemetry", payload) for payload in (b"one", b"two")] == [0, 0]
            assert ev.publish("v1/default/ev-1/telemetry", b"three", qos=2) == 0
        ended = gateway.metric('voltgate_connections_ended_total{protocol="mqtt",reason="disconnect"}')
        assert (1, 3) == (ended, len(journal(data)))
        assert gateway.stop() == 0
    assert not (data / "run" / "gateway.json").exists()
    with running_gateway(data) as gateway, device("c", username=added.username, password=added.password) as ev:
        assert ev.connect(gateway) == 0
        assert ev.publish("v1/default/ev-1/battery", b"four") == 0
        stored = journal(data)
        assert gateway.stop() == 0
    assert [payload for *_, payload in stored] == [b"one", b"two", b"three", b"four"]
    offsets = [offset for offset, *_ in stored]
    assert sorted(set(offsets)) == offsets
    assert {("ev-1", "telemetry"), ("ev-1", "battery")} == {(name, channel) for _, name, channel, _ in stored}


def test_who_cannot_prove_it_is_refused_with_the_standards_code(tmp_path: Path) -> None:
    """A wrong password, an unknown user, nobody at all, and a topic of somebody else; each is counted by reason."""
    data = tmp_path / "data"
    added = register(data, "ev-1")
    with running_gateway(data) as gateway:
        for credentials in ({"username": "ev-1", "password": "guess"}, {"username": "ev-2", "password": "guess"}, {}):
            with device("c", **credentials) as stranger:
                assert stranger.connect(gateway) == 0x86
        with device("c", username="ev-1", password=added.password) as ev:
            assert ev.connect(gateway) == 0
            assert ev.publish("v1/default/ev-2/telemetry", b"not mine") == 0x87
        for reason in ("wrong_password", "unknown_device", "no_credentials"):
            assert gateway.metric(f'voltgate_auth_failures_total{{protocol="mqtt",reason="{reason}"}}') == 1, reason
        assert gateway.metric('voltgate_rejected_total{protocol="mqtt",reason="topic_not_own"}') == 1
        assert journal(data) == []
        assert "guess" not in gateway.log()
        assert added.password not in gateway.log()


def test_revocation_closes_the_live_session_within_five_seconds(tmp_path: Path) -> None:
    """The device is disconnected and does not come back, although its login was remembered."""
    data = tmp_path / "data"
    added = register(data, "ev-1")
    with running_gateway(data) as gateway, device("c", username="ev-1", password=added.password) as ev:
        assert ev.connect(gateway) == 0
        revoke(data, "ev-1")
        assert ev.disconnects.get(timeout=5).value == 0x98
        with device("c", username="ev-1", password=added.password) as again:
            assert again.connect(gateway) == 0x87


def test_a_command_posted_to_the_local_port_reaches_its_device(tmp_path: Path) -> None:
    """Also one that was posted while the device was away and the gateway was restarted since."""
    data = tmp_path / "data"
    added = register(data, "ev-1")
    body = json.dumps({"device_id": "ev-1", "payload": "precondition"}).encode()
    with running_gateway(data) as gateway:
        status, answer = gateway.get("/commands", body=body, token=admin_token(data))
        assert status == 202, answer
        assert gateway.stop() == 0
    with running_gateway(data) as gateway, device("c", username="ev-1", password=added.password) as ev:
        assert ev.connect(gateway) == 0
        ev.client.subscribe("v1/default/ev-1/cmd/#", qos=1)
        message = ev.messages.get(timeout=10)
        assert (f"v1/default/ev-1/cmd/{json.loads(answer)['request_id']}", b"precondition") == (
            message.topic,
            message.payload,
        )
        status, answer = gateway.get("/commands", body=body, token=admin_token(data))
        assert f"v1/default/ev-1/cmd/{json.loads(answer)['request_id']}" == ev.messages.get(timeout=10).topic


@pytest.mark.parametrize(
    ("body", "token", "status", "word"),
    [
        (b"{}", None, 401, "admin.token"),
        (b"{}", "wrong", 401, "admin.token"),
        (b"{}", "right", 400, "device_id"),
        (b'{"device_id": "ev-1", "payload": "x", "paylod": 1}', "right", 400, "paylod"),
        (b'{"device_id": "ev-1"}', "right", 400, "payload"),
        (b'{"device_id": "ev-9", "payload": "x"}', "right", 409, "no active device"),
        (b'{"device_id": "ev-1", "payload": "' + b"x" * 2_000_000 + b'"}', "right", 413, "limit"),
        (b'{"device_id": "ev-1", "payload": "' + b"x" * 100_000 + b'"}', "right", 400, "limit"),
    ],
)
def test_a_bad_command_is_refused_with_the_mend(
    shared_gateway: GatewayProcess, body: bytes, token: str | None, status: int, word: str
) -> None:
    """Nobody without the token, no unknown field, no unknown device, nothing too large."""
    right = admin_token(shared_gateway.data)
    found, answer = shared_gateway.get("/commands", body=body, token=right if token == "right" else token)
    assert status == found
    assert word in answer


def test_a_message_posted_to_the_local_port_is_in_the_journal(shared_gateway: GatewayProcess) -> None:
    """What a repaired contract now understands can be put in again, bytes as they were."""
    payload = bytes(range(256))
    body = {"device_id": "ev-1", "channel": "telemetry", "payload_base64": base64.b64encode(payload).decode()}
    token = admin_token(shared_gateway.data)
    status, answer = shared_gateway.get("/ingest", body=json.dumps(body).encode(), token=token)
    assert status == 202, answer
    stored = [entry for entry in journal(shared_gateway.data) if entry[0] == json.loads(answer)["offset"]]
    assert stored == [(json.loads(answer)["offset"], "ev-1", "telemetry", payload)]
    status, answer = shared_gateway.get("/ingest", body=json.dumps({**body, "device_id": "a/b"}).encode(), token=token)
    assert (status, "contains '/'" in answer) == (400, True)


def test_health_and_metrics_answer(shared_gateway: GatewayProcess) -> None:
    """A fresh gateway is alive and ready, says what it is, and nothing else is served."""
    for path in ("/livez", "/readyz"):
        status, answer = shared_gateway.get(path)
        assert (status, json.loads(answer)["ok"]) == (200, True)
    assert json.loads(answer)["checks"] == {"loop": "ok", "journal": "ok", "mqtt": "ok", "ocpp": "ok"}
    assert shared_gateway.get("/")[0] == 404
    assert shared_gateway.get("/livez", body=b"x", token=admin_token(shared_gateway.data))[0] == 404
    assert shared_gateway.metric("voltgate_journal_durable") == 1
    assert 'voltgate_build_info{process="gateway"' in shared_gateway.get("/metrics")[1]
    token_mode = (shared_gateway.data / "run" / "admin.token").stat().st_mode
    assert token_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    data = tmp_path_factory.mktemp("shared") / "data"
    register(data, "ev-1")
    with running_gateway(data) as gateway:
        yield gateway


def test_time_passes_in_the_journal_of_a_silent_gateway(tmp_path: Path) -> None:
    """Ticks are entries of their own source, so that windows of silent devices close."""
    data = tmp_path / "data"
    with running_gateway(data, environ={"VOLTGATE__GATEWAY__TICK_S": "0.05"}):
        reader = SegmentReader(data / "ingest")
        until(lambda: reader.end_offset() >= 3, timeout_s=10, what="three ticks")
        batch = reader.read(Offset(0), rows_max=3, bytes_max=1000)
    assert [route.source for route in batch.routes] == [TICK_SOURCE]
    assert sorted(set(batch.received_at_ns)) == list(batch.received_at_ns)
    reader.close()


def test_a_second_gateway_on_the_directory_says_so_and_ends_with_3(tmp_path: Path) -> None:
    """The first one is not disturbed, and the message names the directory."""
    data = tmp_path / "data"
    with running_gateway(data) as gateway:
        second = GatewayProcess(data)
        assert second.wait(60) == 3
        (failure,) = second.events("failed")
        assert (failure["kind"], str(data) in failure["detail"]) == ("JournalLocked", True)
        assert gateway.get("/readyz")[0] == 200


def test_a_successor_waits_for_its_predecessor(tmp_path: Path) -> None:
    """A supervisor may start the new process before the old one has drained."""
    data = tmp_path / "data"
    with running_gateway(data) as old:
        new = GatewayProcess(data)
        until(lambda: bool(new.events("journal_locked")), timeout_s=30, what="the new one waits")
        assert old.stop() == 0
        assert new.wait_ready().get("/readyz")[0] == 200
        assert new.stop() == 0


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        ("[gateway.mqtt]\nprot = 1", [], "voltgate.toml:2: unknown setting 'gateway.mqtt.prot'; did you mean 'port'?"),
        ("[gateway.mqtt]\nhost = '0.0.0.0'", [], "--insecure"),
        ("[[gateway.mqtt.topics]]\npattern = 'a/b'\nchannel = 'x'", [], "{device_id}"),
        ("", ["--config", "/nope"], "/nope: cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_configuration_ends_with_3_and_one_line(
    tmp_path: Path, config: str, arguments: list[str], message: str
) -> None:
    """Before anything is opened; the line says where and what to write."""
    file = tmp_path / "voltgate.toml"
    file.write_text(config)
    command = [sys.executable, "-m", "gateway", "--data", str(tmp_path / "d"), "--config", str(file), *arguments]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 3
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "d").exists()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """The message says which address and which setting, and the data directory is free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = GatewayProcess(tmp_path / "data", environ={"VOLTGATE__GATEWAY__MQTT__PORT": str(port)})
        assert gateway.wait() == 3
    (failure,) = gateway.events("failed")
    assert f"cannot listen on 127.0.0.1 port {port}: " in failure["detail"]


def test_sighup_takes_a_good_configuration_and_refuses_a_bad_one(tmp_path: Path) -> None:
    """Devices stay connected; what needs a restart is named."""
    data, file = tmp_path / "data", tmp_path / "voltgate.toml"
    file.write_text("[gateway]\ntick_s = 5")
    with running_gateway(data, "--config", str(file), environ={}) as gateway, device("c") as bus:
        assert bus.connect(gateway) == 0x86
        file.write_text("[gateway]\ntik_s = 5")
        gateway.signal(signal.SIGHUP)
        until(lambda: bool(gateway.events("configuration_refused")), timeout_s=10, what="refused")
        assert "voltgate.toml:2: unknown setting" in gateway.events("configuration_refused")[0]["detail"]
        assert gateway.get("/readyz")[0] == 200
        file.write_text("[gateway]\nmqtt.allow_anonymous = true\n[journal]\nsegment_bytes_max = 20000000")
        gateway.signal(signal.SIGHUP)
        until(lambda: bool(gateway.events("configuration_loaded")), timeout_s=10, what="loaded")
        loaded = gateway.events("configuration_loaded")[0]
        assert loaded["changed"] == ["GATEWAY__MQTT__ALLOW_ANONYMOUS", "JOURNAL__SEGMENT_BYTES_MAX"]
        assert loaded["at_restart"] == ["JOURNAL__SEGMENT_BYTES_MAX"]
        with device("bus-7") as anonymous:
            assert anonymous.connect(gateway) == 0


def test_sigterm_under_load_acknowledges_what_it_took(tmp_path: Path) -> None:
    """Every message that the client saw acknowledged is in the journal, exit code 0, in less than 10 s."""
    data = tmp_path / "data"
    with running_gateway(data, environ=ANONYMOUS) as gateway, device("bus-1") as bus:
        assert bus.connect(gateway) == 0
        infos = [bus.client.publish("v1/default/bus-1/telemetry", str(i).encode(), qos=1) for i in range(3000)]
        bus.published.get(timeout=10)
        started_at_s = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - started_at_s < 10
        bus.disconnects.get(timeout=10)
        acknowledged = sum(info.is_published() for info in infos if info.rc != MQTTErrorCode.MQTT_ERR_QUEUE_SIZE)
    assert acknowledged > 0
    stored = {int(payload) for *_, payload in journal(data)}
    published = {i for i, info in enumerate(infos) if info.is_published()}
    assert published <= stored


def test_a_failpoint_kills_the_process_at_its_nth_hit(tmp_path: Path) -> None:
    """The hook of the fault tests: killed, not ended; an unknown name is refused."""
    gateway = GatewayProcess(
        tmp_path / "a", environ={"VOLTGATE_FAILPOINT": "journal.before_ack:2", "VOLTGATE__GATEWAY__TICK_S": "0.01"}
    )
    assert gateway.wait() == -signal.SIGKILL
    gateway = GatewayProcess(tmp_path / "b", environ={"VOLTGATE_FAILPOINT": "journal.before_lunch:2"})
    assert gateway.wait() == 3
    assert "journal.before_ack" in gateway.log()


def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    """No acknowledgement without space, the process and its local port stay up and say why, and it goes on within 10 s.

    The disk is a tmpfs of 40 MiB where the test may mount one, else the file size limit of the process stands for it.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk) as full_disk:
        data = disk / "data"
        with running_gateway(data, environ=ANONYMOUS) as gateway, device("bus-1") as bus:
            assert bus.connect(gateway) == 0
            assert bus.publish("v1/default/bus-1/telemetry", b"before") == 0
            full_disk.fill(gateway)
            assert bus.publish("v1/default/bus-1/telemetry", b"x" * 200_000) == 0x97
            status, answer = gateway.get("/readyz")
            assert status == 503
            assert json.loads(answer)["checks"]["journal"] != "ok"
            assert gateway.get("/livez")[0] == 200
            assert gateway.metric("voltgate_journal_durable") == 0
            assert gateway.metric('voltgate_dropped_total{protocol="mqtt",reason="not_durable"}') > 0
            full_disk.free(gateway)
            until(lambda: gateway.get("/readyz")[0] == 200, timeout_s=10, what="ready after space was freed")
            assert bus.publish("v1/default/bus-1/telemetry", b"after") == 0
            assert [payload for *_, payload in journal(data)] == [b"before", b"after"]
            assert gateway.events("journal_not_durable")
            assert gateway.events("journal_durable_again")
            assert gateway.stop() == 0


class TmpfsDisk:
    """A disk of 40 MiB, filled by a file."""

    def __init__(self, directory: Path) -> None:
        self._ballast = directory / "ballast"
        self._directory = directory

    def fill(self, _gateway: GatewayProcess) -> None:
        free = shutil.disk_usage(self._directory).free
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - 4096)

    def free(self, _gateway: GatewayProcess) -> None:
        self._ballast.unlink()


class FileSizeLimit:
    """A process that may not make files longer than they are."""

    def fill(self, gateway: GatewayProcess) -> None:
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))

    def free(self, gateway: GatewayProcess) -> None:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, unlimited)


@contextmanager
def small_disk(directory: Path) -> "Iterator[TmpfsDisk | FileSizeLimit]":
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        yield FileSizeLimit()
        return
    try:
        yield TmpfsDisk(directory)
    finally:
        subprocess.run(["umount", str(directory)], check=True)
