"""MQTT in: messages per second and CPU per message of the server, ours against Mosquitto, one generator, in turns."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from statistics import median
from typing import Final

import msgspec

from tests.bench.generator import GeneratorConfig, Run, Sample
from tests.bench.harness import BenchError, Child, Workspace, python
from tests.bench.report import Row, row
from tests.bench.servers import Server, gateway, mosquitto, mosquitto_name, sink

CONNECTIONS: Final = (200, 50, 1000, 2000)
"""The first is the one whose names carry no number."""
WINDOW: Final = 20
ROUNDS: Final = 3
SAMPLES: Final = 4
"""One a second; the first ends the warm-up."""
MIN_SAMPLES: Final = 2
RUN_TIMEOUT_S: Final = 60.0

Start = Callable[[Workspace], AbstractContextManager[Server]]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One turn, from the end of the warm-up to the last sample.

    Attributes:
        rate_per_s: Messages acknowledged per second.
        cpu_us: CPU of the server per message, microseconds.
        loop_cpu_us: Of that, its event loop's thread.
        generator_busy: Share of one CPU that the generator used; near 1 it is the bottleneck.
    """

    rate_per_s: float
    cpu_us: float
    loop_cpu_us: float
    generator_busy: float


def between(first: Sample, last: Sample) -> Measured:
    """Return what happened between two samples. Raises: BenchError: Nothing did."""
    messages, seconds = last.acknowledged - first.acknowledged, last.at_s - first.at_s
    if messages <= 0 or seconds <= 0:
        raise BenchError(f"{messages} messages were acknowledged in {seconds:.1f} s; look at the server's log")
    generator_s = last.generator_cpu_s - first.generator_cpu_s
    return Measured(
        rate_per_s=messages / seconds,
        cpu_us=(last.server_cpu_s - first.server_cpu_s) / messages * 1e6,
        loop_cpu_us=(last.server_loop_cpu_s - first.server_loop_cpu_s) / messages * 1e6,
        generator_busy=generator_s / seconds,
    )


def names(connections: int) -> tuple[str, str]:
    """Return the names of rate and CPU at a number of connections."""
    suffix = "" if connections == CONNECTIONS[0] else f"_{connections}"
    return f"mqtt_ingest_rate{suffix}", f"mqtt_ingest_cpu_us{suffix}"


def measure(connections: int, workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the rows at one number of connections."""
    peer = mosquitto_name()
    with sink(workspace) as server:
        alone = load(server, connections=connections, samples=2)
    print(
        f"  generator alone at {connections} connections: {alone.rate_per_s:,.0f}/s ({alone.generator_busy:.0%} busy)"
    )
    turns: dict[str, list[Measured]] = {"ours": [], "peer": []}
    for _ in range(1 if quick else ROUNDS):
        for who, start in (("ours", gateway), ("peer", mosquitto)):
            if who == "ours" or peer is not None:
                turns[who].append(_turn(start, connections, workspace, samples=2 if quick else SAMPLES))
                print(f"  {who} at {connections} connections: {_shown(turns[who][-1])}", flush=True)
    ours = middle(turns["ours"])
    theirs = middle(turns["peer"]) if turns["peer"] else None
    rate, cpu_us = names(connections)
    return [
        row(rate, ours.rate_per_s, "messages/s", peer=peer, peer_value=theirs.rate_per_s if theirs else None),
        row(f"{rate}/generator_alone", alone.rate_per_s, "messages/s"),
        row(cpu_us, ours.cpu_us, "us CPU/message", peer=peer, peer_value=theirs.cpu_us if theirs else None),
        row(f"{cpu_us}/event_loop", ours.loop_cpu_us, "us CPU/message"),
        row(f"{cpu_us}/journal_thread", ours.cpu_us - ours.loop_cpu_us, "us CPU/message"),
    ]


def middle(turns: Sequence[Measured]) -> Measured:
    """Return the medians of some turns, each quantity by itself."""
    return Measured(**{name: median(getattr(turn, name) for turn in turns) for name in Measured.__struct_fields__})


def _shown(turn: Measured) -> str:
    return f"{turn.rate_per_s:,.0f}/s {turn.cpu_us:.2f} us (generator {turn.generator_busy:.0%})"


def _turn(start: Start, connections: int, workspace: Workspace, *, samples: int) -> Measured:
    """Start a server, load it, stop it."""
    with start(workspace) as server:
        taken = load(server, connections=connections, samples=samples).samples
    if len(taken) < MIN_SAMPLES:
        raise BenchError(f"the generator came to {len(taken)} samples in {samples} s; the machine is overloaded")
    return between(taken[0], taken[-1])


def load(server: Server, *, connections: int, samples: int, idle: bool = False) -> Run:
    """Run the generator against a server for about `samples` seconds and return what it saw."""
    config = GeneratorConfig(
        port=server.port, pid=server.child.pid, connections=connections, seconds=samples + 1.0, window=WINDOW, idle=idle
    )
    command = python("tests.bench.generator", msgspec.json.encode(config).decode())
    with Child(command, log=server.directory / "generator.log", piped=True) as generator:
        said = generator.read_json(config.seconds + RUN_TIMEOUT_S)
        generator.finish(RUN_TIMEOUT_S)
    server.child.check()
    return msgspec.convert(said, Run)
