"""The whole way, socket to files, in CPU per message: ours against a plain program and, where it is found, Telegraf.

Everybody gets the same fleet's messages as fast as they take them and counts until the last one is in a file. A warm-up
goes before, through the same processes, so that imports and first files are in nobody's figure.
"""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from tests.bench.feed import FeedConfig
from tests.bench.harness import BenchError, Child, Workspace, cpu_s, python, thread_cpu_s, wait_until
from tests.bench.report import Row, row
from tests.bench.servers import Server, gateway, mosquitto, mosquitto_name

NAME: Final = "pipeline_cpu_us"
STREAM: Final = "vehicle_telemetry"
DEVICES: Final = 200
WARM_UP: Final = 100
"""Messages per device."""
MESSAGES: Final = 2000
"""Messages per device: thirty-three windows of a minute each."""
MESSAGES_PLAIN: Final = 300
"""The plain program takes ten times as long for each."""
ROUNDS: Final = 3
TIMEOUT_S: Final = 60.0


class Cost(msgspec.Struct, frozen=True):
    """CPU per message, microseconds.

    Attributes:
        parts: By process, or by part of one; the whole is their sum.
        stages: Where it goes inside the processors, measured apart with nothing overlapping; not in the sum.
    """

    parts: dict[str, float]
    stages: dict[str, float] = {}

    @property
    def whole_us(self) -> float:
        """All parts together."""
        return sum(self.parts.values())


def middle(costs: list[Cost]) -> Cost:
    """Return the medians of some runs, each part by itself."""
    return Cost(
        {name: median(cost.parts[name] for cost in costs) for name in costs[0].parts},
        {name: median(cost.stages[name] for cost in costs) for name in costs[0].stages},
    )


def measure(workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the row, its parts, and the same beside other peers."""
    rounds = 1 if quick else ROUNDS
    ours: list[Cost] = []
    plain: list[Cost] = []
    telegraf: list[Cost] = []
    for _ in range(rounds):
        ours.append(_ours(workspace, messages=MESSAGES // 4 if quick else MESSAGES))
        print(f"  ours: {_shown(ours[-1])}", flush=True)
        if mosquitto_name() is not None:
            plain.append(_plain(workspace, messages=MESSAGES_PLAIN // 3 if quick else MESSAGES_PLAIN))
            print(f"  plain program: {_shown(plain[-1])}", flush=True)
            if program := shutil.which("telegraf"):
                telegraf.append(_telegraf(program, workspace, messages=MESSAGES_PLAIN))
                print(f"  telegraf: {_shown(telegraf[-1])}", flush=True)
    if not telegraf:
        print("  telegraf is not on this machine: its figures are missing")
    return _rows(middle(ours), middle(plain) if plain else None, middle(telegraf) if telegraf else None)


def _rows(ours: Cost, plain: Cost | None, telegraf: Cost | None) -> list[Row]:
    unit = "us CPU/message"
    name = "aiomqtt + pydantic + Polars + Parquet"
    rows = [
        row(NAME, ours.whole_us, unit, peer=name, peer_value=plain.parts["program"] if plain else None),
        row(
            f"{NAME}/with_broker",
            ours.whole_us,
            unit,
            peer=f"{name} + Mosquitto",
            peer_value=plain.whole_us if plain else None,
        ),
    ]
    if telegraf is not None:
        program_us = telegraf.parts["program"]
        rows += [
            row(f"{NAME}/telegraf", ours.whole_us, unit, peer="Telegraf", peer_value=program_us),
            row(
                f"{NAME}/telegraf_with_broker",
                ours.whole_us,
                unit,
                peer="Telegraf + Mosquitto",
                peer_value=telegraf.whole_us,
            ),
        ]
    rows += [row(f"{NAME}/{part}", value, unit) for part, value in ours.parts.items()]
    return rows + [row(f"{NAME}/processors_{stage}", value, unit) for stage, value in ours.stages.items()]


def _shown(cost: Cost) -> str:
    parts = ", ".join(f"{name} {value:.2f}" for name, value in cost.parts.items())
    return f"{cost.whole_us:.2f} us ({parts})"


# ---- ours ------------------------------------------------------------------------------------------------------------
def _ours(workspace: Workspace, *, messages: int) -> Cost:
    """Run gateway and processors on one data directory."""
    with (
        gateway(workspace) as server,
        Child(python("processors", "--data", server.directory), log=server.directory / "processors.log") as processors,
    ):
        clock = _clock(messages)
        _feed(server, first=0, end=WARM_UP, began_at=clock)
        _await_rows(server.directory, DEVICES * WARM_UP, processors)
        before = _snapshot(server, processors)
        _feed(server, first=WARM_UP, end=WARM_UP + messages, began_at=clock)
        _await_rows(server.directory, DEVICES * (WARM_UP + messages), processors)
        after = _snapshot(server, processors)
        stages = by_stage(server.directory / "ingest", workspace)
    return Cost({name: (after[name] - before[name]) / (DEVICES * messages) * 1e6 for name in after}, stages)


def _snapshot(server: Server, processors: Child) -> dict[str, float]:
    """Return the CPU seconds used so far by part."""
    loop_s, server_s = thread_cpu_s(server.child.pid), cpu_s(server.child.pid)
    return {"receive": loop_s, "journal": server_s - loop_s, "processors": cpu_s(processors.pid)}


def by_stage(journal: Path, workspace: Workspace) -> dict[str, float]:
    """Return what a message of a journal costs in each stage of the processors, microseconds, nothing overlapping."""
    directory = workspace.fresh("stages")
    command = python("tests.bench.stages", journal, directory / "lake")
    with Child(command, log=directory / "log", piped=True) as child:
        said = child.read_json(TIMEOUT_S)
        child.finish(TIMEOUT_S)
    workspace.discard(directory)
    return {stage: used_s / said["messages"] * 1e6 for stage, used_s in said["cpu_s"].items()}


def _await_rows(data: Path, wanted: int, processors: Child) -> None:
    """Wait for the stream's table. Raises: BenchError: It has another number of rows in the end."""
    table = data / "lake" / STREAM
    with Child(
        python("tests.bench.await_rows", table, wanted, TIMEOUT_S), log=data / "await.log", piped=True
    ) as counting:
        found = counting.read_json(TIMEOUT_S + 30)["rows"]
    processors.check()
    if found != wanted:
        raise BenchError(f"{STREAM} has {found} rows, {wanted} were acknowledged; look at the table `rejects`")


# ---- peers -----------------------------------------------------------------------------------------------------------
def _plain(workspace: Workspace, *, messages: int) -> Cost:
    """Run the plain program behind Mosquitto."""
    with mosquitto(workspace) as broker:
        files = workspace.fresh("plain")
        arguments = (broker.port, files, DEVICES * WARM_UP, DEVICES * messages)
        with Child(python("tests.bench.plain_pipeline", *arguments), log=files / "log", piped=True) as program:
            clock = _clock(messages)
            _expect(program, 0)
            _feed(broker, first=0, end=WARM_UP, began_at=clock)
            _expect(program, DEVICES * WARM_UP)
            before_s = cpu_s(program.pid), cpu_s(broker.child.pid)
            _feed(broker, first=WARM_UP, end=WARM_UP + messages, began_at=clock)
            _expect(program, DEVICES * (WARM_UP + messages))
            after_s = cpu_s(program.pid), cpu_s(broker.child.pid)
        workspace.discard(files)
    program_us, broker_us = ((b - a) / (DEVICES * messages) * 1e6 for a, b in zip(before_s, after_s, strict=True))
    return Cost({"program": program_us, "broker": broker_us})


def _expect(program: Child, stored: int) -> None:
    """Wait for its next line. Raises: BenchError: It stored another number of messages."""
    said = program.read_json(TIMEOUT_S)["stored"]
    if said != stored:
        raise BenchError(f"the plain program stored {said} messages, expected {stored}")


TELEGRAF_CONF: Final = """\
[agent]
  interval = "1s"
  flush_interval = "5s"
  metric_batch_size = 20000
  metric_buffer_limit = 2000000
[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{port}"]
  topics = ["v1/+/+/telemetry"]
  qos = 1
  max_undelivered_messages = 1000000
  data_format = "json"
  tag_keys = ["device_id"]
  json_string_fields = ["ignition", "doors_open", "charging"]
  json_time_key = "ts"
  json_time_format = "2006-01-02T15:04:05Z07:00"
[[aggregators.basicstats]]
  period = "60s"
  grace = "2h"
  drop_original = false
  stats = ["count", "min", "max", "mean", "first", "last"]
[[outputs.file]]
  files = ["{output}"]
  data_format = "json"
"""


def _telegraf(program: str, workspace: Workspace, *, messages: int) -> Cost:
    """Run Telegraf behind Mosquitto: JSON in, statistics per minute of its own clock, a file of JSON lines out."""
    with mosquitto(workspace) as broker:
        files = workspace.fresh("telegraf")
        output, conf = files / "out.json", files / "telegraf.conf"
        conf.write_text(TELEGRAF_CONF.format(port=broker.port, output=output))
        with Child([program, "--config", str(conf)], log=files / "log") as agent:
            wait_until("subscribed", lambda: b"Connected" in agent.log.read_bytes(), child=agent)
            clock = _clock(messages)
            _feed(broker, first=0, end=WARM_UP, began_at=clock)
            _await_readings(output, DEVICES * WARM_UP, agent)
            before_s = cpu_s(agent.pid), cpu_s(broker.child.pid)
            _feed(broker, first=WARM_UP, end=WARM_UP + messages, began_at=clock)
            _await_readings(output, DEVICES * (WARM_UP + messages), agent)
            after_s = cpu_s(agent.pid), cpu_s(broker.child.pid)
        workspace.discard(files)
    program_us, broker_us = ((b - a) / (DEVICES * messages) * 1e6 for a, b in zip(before_s, after_s, strict=True))
    return Cost({"program": program_us, "broker": broker_us})


def _await_readings(output: Path, wanted: int, agent: Child) -> None:
    """Wait until the file has so many readings. Raises: BenchError: It has not in time, or has more."""
    found, position = 0, 0

    def complete() -> bool:
        nonlocal found, position
        if output.exists():
            with output.open("rb") as file:
                file.seek(position)
                lines, newline, _ = file.read().rpartition(b"\n")
            position += len(lines) + len(newline)
            # Statistics have fields such as seq_count; only a reading has seq itself.
            found += lines.count(b'"seq":')
        return found >= wanted

    wait_until(f"{wanted} readings in its file", complete, child=agent, timeout_s=TIMEOUT_S)
    if found != wanted:
        raise BenchError(f"telegraf wrote {found} readings, {wanted} were acknowledged")


# ---- feed ------------------------------------------------------------------------------------------------------------
def _clock(messages: int) -> datetime:
    """Return when the fleet's clock begins, so that its last reading is now: devices do not send from the future."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=WARM_UP + messages)


def _feed(server: Server, *, first: int, end: int, began_at: datetime) -> None:
    """Publish messages `first` to `end` of every device and wait until all are acknowledged."""
    config = FeedConfig(port=server.port, devices=DEVICES, first=first, end=end, began_at=began_at)
    command = python("tests.bench.feed", msgspec.json.encode(config).decode())
    with Child(command, log=server.directory / "feed.log") as child:
        child.finish(TIMEOUT_S)
    server.child.check()
