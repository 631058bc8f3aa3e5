"""A whole Voltgate that indexes through the chaos proxy into a real node, and the vehicles that feed it.

What a test does with it is always the same: vehicles publish while a fault is in force, and afterwards the indices must
be what the lake says, the lake must have what was acknowledged, and the ledger must balance.
"""

import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Self
from urllib.request import urlopen

import polars as pl
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

from gateway.configuration import load_settings
from gateway.journal.disk import read_durable
from processors.contracts.load import load_contracts
from simulators.acknowledged import payload_digest
from tests.fault.indexing import Documents, Shown, compare, from_lake, from_node
from tests.fault.programs import Generator, Supervised
from tests.fault.proxy import ChaosProxy, Fault, Pass
from tests.fault.rounds import free_port, write_visits
from tests.installation import environment, run_voltgate, until
from tests.services.opensearch import Node
from voltgate.ledger import Balance, read_balance

REQUESTS_MAX: Final = 3
"""Bulk requests in flight that the system is given."""
TIMEOUT_S: Final = 1.0
"""How long it waits for an answer."""
SETTINGS: Final[dict[str, object]] = {
    "gateway__mqtt__allow_anonymous": True,
    "gateway__ocpp__allow_unauthenticated": True,
    "gateway__tick_s": 1,
    # Small and short, so that a burst is several commits, checkpoints, chunks and requests.
    "processors__commit_interval_s": 0.2,
    "processors__checkpoint_interval_s": 0.5,
    "processors__batch_rows_max": 500,
    "opensearch__requests_max": REQUESTS_MAX,
    "opensearch__bulk_bytes_max": 64 * 1024,
    "opensearch__timeout_s": TIMEOUT_S,
}
SETTLE_S: Final = 45.0
"""Longest wait for an index that follows: the longest pause between tries is 8 s, and several tables wait."""
BEGIN_AGO: Final = timedelta(hours=6)
"""The vehicles' time begins so long ago and goes fast, so that windows close."""
STEP_S: Final = 5
READINGS: Final = 40
EVENTS: Final = 60
GARBAGE: Final = 10
MESSAGES: Final = 2 * READINGS + EVENTS + GARBAGE
"""Messages of one burst."""
CHARGERS: Final = (
    *("--count", "12", "--version", "mixed", "--meter-interval", "40", "--gap", "6", "--pace", "20"),
    *("--seconds", "3600", "--drain", "10", "--seed", "5"),
)
_PARTS: Final = {one.stream: one.part for one in load_contracts([]) if one.part}

Acknowledged = set[tuple[str, bytes]]
"""(device, digest of a payload)."""


class Vehicles:
    """Publishes bursts of everything that vehicles say; each message is unique."""

    def __init__(self) -> None:
        self._bursts = 0
        self._first = datetime.now(UTC).replace(microsecond=0) - BEGIN_AGO

    def burst(self, port: int) -> Acknowledged:
        """Publish MESSAGES messages of one vehicle, and return them when each is acknowledged.

        Vehicles take turns, so that newest values, windows and alerts get new revisions in each burst.
        """
        device = f"bus-{self._bursts % 2}"
        at = self._first + timedelta(seconds=self._bursts * READINGS * STEP_S)
        messages = [(f"v1/default/{device}/{channel}", payload) for channel, payload in _messages(self._bursts, at)]
        self._bursts += 1
        _publish(port, device, messages)
        return {(device, payload_digest(payload)) for _, payload in messages}


def _messages(burst: int, begin: datetime) -> list[tuple[str, bytes]]:
    made: list[tuple[str, dict[str, object]]] = []
    for i in range(READINGS):
        at = {"ts": (begin + timedelta(seconds=i * STEP_S)).isoformat(), "seq": burst * READINGS + i}
        place = {"latitude_deg": 52.5 + i / 1000, "longitude_deg": 13.4 + burst / 1000}
        made.append(("telemetry", {**at, **place, "speed_kmh": 36.0 + i, "soc_pct": 80 - i / 10, "power_kw": -12.5}))
        # 50 ohm/V is an alert, and 5 kohm/V its end; every vehicle has both in turn.
        isolation_kohm = 20.0 if burst // 2 % 2 == 0 else 2000.0
        made.append(
            ("battery", {**at, "pack_voltage_v": 400.0, "soc_pct": 80 - i / 10, "isolation_kohm": isolation_kohm})
        )
    for i in range(EVENTS):
        # Trouble codes that are numbers, and such as no number can hold.
        code = f"P{i:04}" if i % 2 else f"{1000 + i}"
        at = {"ts": (begin + timedelta(seconds=i)).isoformat(), "seq": burst * EVENTS + i}
        made.append(("event", {**at, "kind": "dtc", "code": code, "active": True, "message": f"burst {burst}"}))
    garbage = [("telemetry", b'{"ts": "yesterday", "n": %d}' % (burst * GARBAGE + i)) for i in range(GARBAGE)]
    return [*((channel, json.dumps(fields).encode()) for channel, fields in made), *garbage]


def _publish(port: int, device: str, messages: list[tuple[str, bytes]]) -> None:
    """Publish with QoS 1 and return when everything is acknowledged."""
    connected, published = SimpleQueue[int](), SimpleQueue[int]()
    client = Client(CallbackAPIVersion.VERSION2, client_id=device, protocol=MQTTv5, reconnect_on_failure=False)
    client.on_connect = lambda _c, _u, _f, code, _p: connected.put(code.value)
    client.on_publish = lambda _c, _u, _m, code, _p: published.put(code.value)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        assert 0 == connected.get(timeout=SETTLE_S)
        for topic, payload in messages:
            client.publish(topic, payload, qos=1)
        codes = {published.get(timeout=SETTLE_S) for _ in messages}
        assert codes <= {0, 0x10}, f"the gateway refused messages with {codes}"  # 0x10: nobody subscribes
    finally:
        client.disconnect()
        client.loop_stop()


class System:
    """Node, proxy, gateway and processors; a context manager that leaves none running.

    Args:
        directory: New directory for everything but the node's data.
    """

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self._directory = directory
        self._mqtt_port, self._ocpp_port = free_port(), free_port()
        self._vehicles = Vehicles()
        self._parts = ExitStack()
        self.acknowledged: Acknowledged = set()
        self.node = Node()
        self.proxy = ChaosProxy(self.node.host, self.node.port)
        ports = {"gateway__mqtt__port": self._mqtt_port, "gateway__ocpp__port": self._ocpp_port}
        self.environ = environment(**ports, **SETTINGS, opensearch__url=self.proxy.url)
        self.programs = Supervised(self.data, self.environ)

    def __enter__(self) -> Self:
        with self._parts as parts:
            parts.callback(self.node.close)
            self.node.start(wait=False)
            parts.enter_context(self.proxy)
            parts.enter_context(self.programs)
            # Devices find all of it ready while the cluster still starts.
            self.programs.start()
            visits = self._directory / "visits.csv"
            write_visits(visits)
            url = f"ws://127.0.0.1:{self._ocpp_port}/ocpp"
            with Generator(self._directory, "chargers", *CHARGERS, "--url", url, "--sessions", str(visits)) as chargers:
                self.publish()
                self.node.wait_until_ready()
                until(lambda: self._rows("charging_session_revisions") > 0, what="a charging session")
                chargers.stop()
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    # ---- what devices and people do ----------------------------------------------------------------------------------
    def publish(self) -> Acknowledged:
        """Have a vehicle publish a burst; return what was acknowledged, which is all of it."""
        burst = self._vehicles.burst(self._mqtt_port)
        self.acknowledged |= burst
        return burst

    def fleet(self, truth: Path) -> Generator:
        """Return vehicles that publish until they are stopped, and come back after every kill."""
        faults = ("--garbage", "0.05", "--duplicate", "0.05", "--disorder", "0.05", "--fault", "isolation-loss@30")
        size = ("--buses", "3", "--cars", "3", "--pace", "10", "--seconds", "3600")
        where = ("--port", str(self._mqtt_port), "--truth-file", str(truth))
        return Generator(self._directory, "vehicles", *size, *faults, "--seed", "3", *where)

    def voltgate(self, *words: str, expected_code: int = 0) -> str:
        """Run a command line on this system; return what it printed."""
        return run_voltgate(*words, data=self.data, env=self.environ, expected_code=expected_code)

    # ---- what can be seen --------------------------------------------------------------------------------------------
    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a metric of the processors that have these labels."""
        port = self.programs.run_file("processors")["observe_port"]
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def tries(self) -> float:
        """Return how many bulk requests, or parts of them, have to be sent again since the processors started."""
        return self.metric("voltgate_index_requests_total", outcome="again")

    def end_offset(self) -> int:
        """Return the end of what is durable in the journal, and so acknowledged."""
        return int(read_durable(self.data / "ingest") or 0)

    def is_past(self, offset: int) -> bool:
        """Return whether the journal has come so far."""
        return self.end_offset() > offset

    def wanted(self) -> Documents:
        """Return what the indices must hold by the lake."""
        return from_lake(self.data / "lake", parts=_PARTS)

    def held(self) -> Documents:
        """Return what the node holds, asked without the proxy."""
        return from_node(self.node.request)

    def compare(self) -> Shown:
        """Return the verdict of now."""
        return compare(self.wanted(), self.held())

    def logged(self, event: str) -> int:
        """Return how often an event was logged since the beginning."""
        return (self._directory / "run.log").read_text().count(f'"{event}"')

    def _rows(self, table: str) -> int:
        path = self.data / "lake" / table
        return pl.scan_delta(str(path)).select(pl.len()).collect().item() if (path / "_delta_log").is_dir() else 0

    # ---- waiting -----------------------------------------------------------------------------------------------------
    def await_lake(self) -> None:
        """Return when everything that is acknowledged is in the lake, message by message."""
        end = self.end_offset()
        until(lambda: self.programs.run_file("processors")["offset"] >= end, what="a lake that follows")
        raw = pl.scan_delta(str(self.data / "lake" / "raw")).select("device_id", "payload").collect()
        held = {(device, payload_digest(payload)) for device, payload in raw.iter_rows()}
        assert set() == self.acknowledged - held

    def settle(self, *, is_index_whole: bool = True) -> None:
        """Return when lake and indices are at rest and right.

        Everything acknowledged is in the lake, the ledger balances, nothing waits, and unless told otherwise the
        indices hold what the lake demands, once, and nothing else.
        """
        self.await_lake()
        self._await_index()
        shown: list[Shown] = []

        def is_equal() -> bool:
            shown.append(self.compare())
            return shown[-1].equal

        if is_index_whole:
            try:
                until(is_equal, timeout_s=SETTLE_S, what="an index that is what the lake says")
            except AssertionError as error:
                raise AssertionError(f"{error}: {shown[-1]}") from error
        self.await_balance()

    def _await_index(self) -> None:
        until(lambda: self.metric("voltgate_index_lag_entries") == 0, timeout_s=SETTLE_S, what="an index that follows")

    def await_balance(self) -> None:
        """Return when the ledger balances with nothing in flight; the last checkpoint may be half a second old."""
        settings = load_settings(None, {}, overrides={"data": str(self.data)})
        seen: list[Balance] = []

        def is_balanced() -> bool:
            balance = read_balance(settings)
            seen.append(balance)
            return balance.balanced and not balance.in_flight

        try:
            until(is_balanced, what="a ledger that balances")
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen[-1].lines()}") from error
        assert seen[-1].raw_rows >= len(self.acknowledged)

    # ---- a fault -----------------------------------------------------------------------------------------------------
    def hold_up(self, fault: Fault, *, happens: Callable[[], float]) -> int:
        """Let a fault begin that stops the index, and see that it stops nothing else.

        Two bursts are acknowledged and in the lake while it is in force. The indexer keeps at most one chunk: the first
        burst is what it tries and tries, of the second it has read nothing.

        Args:
            fault: For the proxy; `Pass` where something else is done to the node.
            happens: Counts what the fault did, so that it is seen to have happened before, between and after.

        Returns: Documents that it was seen to try.
        """
        self.proxy.set(fault)
        before = happens(), self.tries()
        self.publish()
        self.await_lake()
        until(lambda: happens() > before[0] and self.tries() > before[1], what="the fault")
        end, between = self.end_offset(), (happens(), self.tries())
        self.publish()
        self.await_lake()
        until(lambda: happens() > between[0] and self.tries() > between[1], what="the fault, once more")
        assert 0 == self.metric("voltgate_index_connected")
        assert self.metric("voltgate_index_lag_entries") >= MESSAGES
        assert self.metric("voltgate_index_in_flight") <= REQUESTS_MAX
        assert [] == [one for one in self.proxy.seen if one[2] >= end]
        assert 1 >= len({index.rsplit("-", 1)[0] for index, _, _ in self.proxy.seen}), self.proxy.seen
        return len(self.proxy.seen)

    def calm(self) -> None:
        """Let nothing be at fault, and wait until nothing waits."""
        self.proxy.set(Pass())
        self._await_index()

    def recover(self) -> None:
        """Let the fault end and the index follow."""
        self.proxy.set(Pass())
        self.settle()
