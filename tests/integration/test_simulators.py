"""The simulators against a real Mosquitto: what they say they sent is what a subscriber hears."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiomqtt
import msgpack
import msgspec
import pytest

from gateway.core.ids import Offset
from gateway.core.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX
from gateway.core.records import TICK_SOURCE
from gateway.journal.reader import SegmentReader
from gateway.registry.devices import Registry
from simulators.acknowledged import payload_digest, read_acknowledged
from simulators.faults import FaultRates
from simulators.load import LoadConfig, load_device_ids, run_load
from simulators.replay import ReplayConfig, run_replay
from simulators.target import Progress, SimulationError, Target
from simulators.truth import expected, read_truth
from simulators.vehicles.fleet import VehiclesConfig, run_vehicles, vehicle_ids
from tests.integration.gateway_process import REPOSITORY, running_gateway
from tests.integration.mosquitto_process import MosquittoProcess, running_mosquitto

pytestmark = pytest.mark.integration

TRIPS = REPOSITORY.parent / "shared" / "data" / "twizy"
HEARD_TIMEOUT_S = 20.0
T = TypeVar("T")
TRIP = """\
Date,Time,Soc,Speed,Mode,Weather
03/29/2021,11:13:45,87.540000,0.000000,N,Clouds
90/02/2032,11:13:46,87.540000,1.500000,D,Clouds
3/29/2021,11:13:47,87.520000,3.100000,D,Clouds
"""


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[MosquittoProcess]:
    with running_mosquitto(tmp_path) as process:
        yield process


class Ears:
    """A subscriber to everything; counts what it heard as (topic, payload)."""

    def __init__(self) -> None:
        self.heard: Counter[tuple[str, bytes]] = Counter()
        self.changed = asyncio.Event()

    async def listen(self, port: int, ready: asyncio.Event) -> None:
        async with aiomqtt.Client("127.0.0.1", port, identifier="ears") as client:
            await client.subscribe("v1/#", qos=1)
            ready.set()
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                self.heard[message.topic.value, message.payload] += 1
                self.changed.set()

    async def until(self, count: int) -> None:
        """Return once `count` messages were heard; fail after a while."""
        async with asyncio.timeout(HEARD_TIMEOUT_S):
            while self.heard.total() < count:
                self.changed.clear()
                await self.changed.wait()

    @property
    def digests(self) -> Counter[str]:
        """Digest of each payload heard."""
        sums: Counter[str] = Counter()
        for (_, payload), count in self.heard.items():
            sums[payload_digest(payload).hex()] += count
        return sums


def with_ears(port: int, run: Coroutine[Any, Any, T], count: Any) -> tuple[T, Ears]:
    """Run while somebody listens, until `count(result)` messages were heard."""

    async def both() -> tuple[T, Ears]:
        ears, ready = Ears(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(ears.listen(port, ready), name="ears")
            await ready.wait()
            result = await run
            await ears.until(count(result))
            listening.cancel()
        return result, ears

    return asyncio.run(both())


def test_fleet_of_four_says_what_its_truth_says(tmp_path: Path, mosquitto: MosquittoProcess):
    """Every message noted as sent is heard as often, by digest; half of the vehicles speak JSON, half MessagePack."""
    truth = tmp_path / "truth"
    config = VehiclesConfig(
        target=Target(port=mosquitto.port),
        buses=2,
        cars=2,
        seconds=2.0,
        pace=20.0,
        faults=FaultRates(garbage=0.1, skew=0.05, duplicate=0.1, disorder=0.1, late=0.02),
        truth_file=truth,
    )
    summary, ears = with_ears(mosquitto.port, run_vehicles(config, stop=asyncio.Event()), lambda done: done.sent)
    assert summary.sent > 4 * 2 * 30
    assert summary.acknowledged == summary.sent
    assert Counter(sent.digest for sent, _ in read_truth(truth)) == ears.digests
    assert sum(total.acknowledged for total in expected(truth).values()) == summary.sent
    honest = {sent.digest for sent, _ in read_truth(truth) if not sent.faults}
    for device_id in vehicle_ids(config):
        decode = json.loads if device_id in ("bus-001", "car-001") else msgpack.unpackb
        topic = f"v1/default/{device_id}/telemetry"
        readings = [
            decode(payload)
            for heard, payload in ears.heard
            if heard == topic and payload_digest(payload).hex() in honest
        ]
        assert {reading["device_id"] for reading in readings} == {device_id}


def test_vehicle_answers_a_command(mosquitto: MosquittoProcess):
    """On the response topic of the request, repeating what it got."""

    async def ask() -> tuple[int, dict[str, Any]]:
        stop = asyncio.Event()
        config = VehiclesConfig(target=Target(port=mosquitto.port), buses=1, cars=0)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(run_vehicles(config, stop=stop), name="fleet")
            async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
                await client.subscribe("v1/default/bus-001/#", qos=1)
                asked = False
                async for message in client.messages:
                    if (
                        not asked
                    ):  # it has spoken, so it is connected; its session keeps the command until it subscribes
                        asked = True
                        await client.publish("v1/default/bus-001/cmd/r-7", b"unlock", qos=1)
                    if message.topic.value == "v1/default/bus-001/cmd/r-7/response":
                        assert isinstance(message.payload, bytes)
                        answer: dict[str, Any] = json.loads(message.payload)
                        break
            stop.set()
            summary = await running
        return summary.commands, answer

    commands, answer = asyncio.run(ask())
    assert commands == 1
    assert (answer["request_id"], answer["received"]) == ("r-7", "unlock")


def test_fleet_resends_what_a_killed_server_did_not_acknowledge(tmp_path: Path, mosquitto: MosquittoProcess):
    """The server is gone for a moment; in the end everything is acknowledged and nothing was thrown away."""
    truth = tmp_path / "truth"
    config = VehiclesConfig(
        target=Target(port=mosquitto.port), buses=2, cars=2, seconds=4.0, pace=20.0, truth_file=truth
    )
    killed = False

    def kill_once(progress: Progress) -> None:
        nonlocal killed
        if not killed and progress.acknowledged:
            killed = True
            mosquitto.kill()
            mosquitto.start()

    summary = asyncio.run(run_vehicles(config, stop=asyncio.Event(), on_progress=kill_once))
    assert killed
    assert summary.connection_losses >= 4
    assert (summary.acknowledged, summary.dropped) == (summary.sent, 0)
    assert all(acknowledged for _, acknowledged in read_truth(truth))


def test_replay_publishes_each_row_under_its_own_names(tmp_path: Path, mosquitto: MosquittoProcess):
    """And tells which of them can be no reading."""
    trip, truth = tmp_path / "T9_trip.csv", tmp_path / "truth"
    trip.write_text(TRIP)
    config = ReplayConfig(target=Target(port=mosquitto.port), files=(trip,), truth_file=truth)
    summary, ears = with_ears(mosquitto.port, run_replay(config, stop=asyncio.Event()), lambda done: done.published)
    assert (summary.published, summary.acknowledged) == (3, 3)
    topic = "v1/default/twizy-T9_trip/twizy"
    first = b'{"Date":"03/29/2021","Time":"11:13:45","Soc":87.54,"Speed":0.0,"Mode":"N","Weather":"Clouds"}'
    assert ears.heard[topic, first] == 1
    total = expected(truth)["twizy-T9_trip", "twizy"]
    assert (total.rows, total.rejects) == (2, {"time": 1})


@pytest.mark.skipif(not TRIPS.is_dir(), reason=f"the recorded trips are not at {TRIPS}")
def test_recorded_trip_replayed_twice_sends_the_same_bytes_twice(mosquitto: MosquittoProcess):
    """A subscriber hears each payload of 1,703 rows exactly as often in both runs."""
    config = ReplayConfig(target=Target(port=mosquitto.port), files=(TRIPS / "T3_06_07_2021.csv",))

    async def twice() -> tuple[int, int]:
        first = await run_replay(config, stop=asyncio.Event())
        second = await run_replay(config, stop=asyncio.Event())
        return first.acknowledged, second.acknowledged

    acknowledged, ears = with_ears(mosquitto.port, twice(), sum)
    assert acknowledged == (1_703, 1_703)
    assert {count % 2 for count in ears.heard.values()} == {0}


@pytest.mark.parametrize("rate_per_s", [None, 2_000.0])
def test_load_notes_exactly_what_was_acknowledged(
    tmp_path: Path, mosquitto: MosquittoProcess, rate_per_s: float | None
):
    """Digest for digest what a subscriber heard, in both loops."""
    noted = tmp_path / "acknowledged"
    config = LoadConfig(
        target=Target(port=mosquitto.port),
        connections=5,
        window=1,
        rate_per_s=rate_per_s,
        seconds=0.5,
        acknowledged_file=noted,
    )
    summary, ears = with_ears(mosquitto.port, run_load(config, stop=asyncio.Event()), lambda done: done.sent)
    assert summary.sent == summary.acknowledged > 100
    assert Counter(one.digest.hex() for one in read_acknowledged(noted)) == ears.digests
    assert {one.device_id for one in read_acknowledged(noted)} == set(load_device_ids(config))
    assert set(ears.heard.values()) == {1}


def test_load_survives_a_killed_server(tmp_path: Path, mosquitto: MosquittoProcess):
    """It reconnects, resends, and in the end every message is acknowledged once."""
    noted = tmp_path / "acknowledged"
    config = LoadConfig(
        target=Target(port=mosquitto.port),
        connections=10,
        window=100,
        seconds=3.0,
        survive=True,
        acknowledged_file=noted,
    )
    kills = 0

    def kill(progress: Progress) -> None:
        nonlocal kills
        if progress.elapsed_s < 2.5:
            kills += 1
            mosquitto.kill()
            mosquitto.start()

    summary = asyncio.run(run_load(config, stop=asyncio.Event(), on_progress=kill))
    assert kills >= 1
    assert summary.connection_losses >= 10 * kills
    assert summary.resent > 0
    assert summary.acknowledged == summary.sent
    seen = Counter((one.device_id, one.seq) for one in read_acknowledged(noted))
    assert (len(seen), set(seen.values())) == (summary.sent, {1})


def test_load_that_may_not_survive_says_who_closed_on_whom(mosquitto: MosquittoProcess):
    """A benchmark must not go on with half of its connections."""
    config = LoadConfig(target=Target(port=mosquitto.port), connections=3, seconds=30.0)
    with pytest.raises(SimulationError, match=r"server closed the connection of 'load-0000\d'"):
        asyncio.run(run_load(config, stop=asyncio.Event(), on_progress=lambda _progress: mosquitto.kill()))


def test_idle_connections_are_held_and_send_nothing(mosquitto: MosquittoProcess):
    """Half a second of 200 connections, with pings when the keep alive is that short."""
    config = LoadConfig(target=Target(port=mosquitto.port), connections=200, seconds=2.5, idle=True, keep_alive_s=1)
    seen: list[int] = []
    summary = asyncio.run(
        run_load(config, stop=asyncio.Event(), on_progress=lambda progress: seen.append(progress.connected))
    )
    assert (summary.sent, summary.connection_losses) == (0, 0)
    assert set(seen) == {200}


def test_gateway_has_every_message_the_fleet_was_told_is_received(tmp_path: Path):
    """The bytes in the ingest journal are, digest for digest, those the truth calls acknowledged."""
    truth, data = tmp_path / "truth", tmp_path / "data"
    with running_gateway(data, environ={"VOLTGATE__GATEWAY__MQTT__ALLOW_ANONYMOUS": "true"}) as gateway:
        config = VehiclesConfig(
            target=Target(port=gateway.mqtt_port),
            buses=2,
            cars=2,
            seconds=2.0,
            pace=20.0,
            faults=FaultRates(garbage=0.1, skew=0.05, duplicate=0.1, disorder=0.1, late=0.02),
            truth_file=truth,
        )
        summary = asyncio.run(run_vehicles(config, stop=asyncio.Event()))
        gateway.stop()
    assert summary.acknowledged == summary.sent > 4 * 2 * 30
    batch = SegmentReader(data / "ingest").read(Offset(0), rows_max=BATCH_ROWS_MAX, bytes_max=BATCH_BYTES_MAX)
    journal = Counter(
        (entry.envelope.route.device_id, entry.envelope.route.channel, payload_digest(entry.envelope.payload).hex())
        for entry in batch.entries()
        if entry.envelope.route.source != TICK_SOURCE
    )
    assert journal == Counter((sent.device_id, sent.channel, sent.digest) for sent, _ in read_truth(truth))


def test_registered_devices_connect_with_their_own_credentials(tmp_path: Path):
    """A gateway that knows only these lets both kinds of client in, and acknowledges them."""
    data = tmp_path / "data"
    data.mkdir()
    target = Target()
    load = LoadConfig(target=target, connections=3, window=2, rate_per_s=100.0, seconds=0.5)
    fleet = VehiclesConfig(target=target, buses=1, cars=1, seconds=1.2)
    registry = Registry(data / "registry.sqlite")
    credentials = {}
    for device_id in (*load_device_ids(load), *vehicle_ids(fleet)):
        added = registry.add(tenant="default", device_id=device_id, now_ns=time.time_ns())
        credentials[device_id] = (added.username, added.password)
    registry.close()
    with running_gateway(data) as gateway:
        known = Target(port=gateway.mqtt_port, credentials=credentials)
        loaded = asyncio.run(run_load(msgspec.structs.replace(load, target=known), stop=asyncio.Event()))
        driven = asyncio.run(run_vehicles(msgspec.structs.replace(fleet, target=known), stop=asyncio.Event()))
        stranger = LoadConfig(target=known, connections=1, device_prefix="stranger")
        with pytest.raises(SimulationError, match=r"'stranger-00000'.*give its credentials"):
            asyncio.run(run_load(stranger, stop=asyncio.Event()))
        gateway.stop()
    assert loaded.acknowledged == loaded.sent > 10
    assert driven.acknowledged == driven.sent > 4


def test_refused_device_ends_the_run_with_a_clear_word(tmp_path: Path):
    """Each simulator names the device and what to give."""
    trip = tmp_path / "trip.csv"
    trip.write_text(TRIP)
    with running_mosquitto(tmp_path, anonymous=False) as mosquitto:
        target = Target(port=mosquitto.port, credentials={"bus-001": ("bus-001", "wrong")})
        with pytest.raises(SimulationError, match=r"'bus-001'.*give its credentials"):
            asyncio.run(run_vehicles(VehiclesConfig(target=target, buses=1, cars=0), stop=asyncio.Event()))
        with pytest.raises(SimulationError, match=r"'twizy-trip'.*give its credentials"):
            asyncio.run(run_replay(ReplayConfig(target=target, files=(trip,)), stop=asyncio.Event()))
        with pytest.raises(SimulationError, match=r"'load-00000'.*give its credentials"):
            asyncio.run(run_load(LoadConfig(target=target, connections=1), stop=asyncio.Event()))


def test_no_server_is_a_clear_word_too():
    """The address, and the question everybody asks first."""
    config = LoadConfig(target=Target(port=1), connections=1)
    with pytest.raises(SimulationError, match=r"no connection to 127\.0\.0\.1:1 .*is it running\?"):
        asyncio.run(run_load(config, stop=asyncio.Event()))


def test_command_line_prints_a_summary_and_exits_zero(mosquitto: MosquittoProcess):
    """One JSON object on standard output, progress on standard error."""
    command = [sys.executable, "-m", "simulators", "load", "--port", str(mosquitto.port)]
    options = ["--connections", "2", "--rate", "200", "--seconds", "1.2"]
    done = subprocess.run([*command, *options], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["acknowledged"] == summary["sent"] > 100
    assert "2 connected" in done.stderr
