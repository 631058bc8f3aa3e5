"""OCPP in: validated calls per second and CPU per call of the server, ours against two libraries, in turns."""

from typing import Final

import msgspec

from tests.bench.generator import Run
from tests.bench.harness import BenchError, Child, Workspace, python
from tests.bench.ingest import MIN_SAMPLES, ROUNDS, RUN_TIMEOUT_S, SAMPLES, Measured, between, middle
from tests.bench.ocpp_load import LoadConfig
from tests.bench.ocpp_servers import PACKAGE, RPC, Start, gateway, has_rpc, package, rpc, sink
from tests.bench.report import Row, row
from tests.bench.servers import Server

WORKS: Final = ("heartbeat", "meter_values", "mixed")
CONNECTIONS: Final = 500
"""Enough that no station comes near the rate that a gateway allows one of them."""


def names(work: str) -> tuple[str, str]:
    """Return the names of rate and CPU of a kind of work."""
    return f"ocpp_{work}_rate", f"ocpp_{work}_cpu_us"


def measure(work: str, workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the rows of one kind of work."""
    with sink(workspace) as server:
        alone = load(server, connections=CONNECTIONS, samples=2, work=work)
    print(f"  generator alone: {alone.rate_per_s:,.0f}/s ({alone.generator_busy:.0%} busy)")
    starts: dict[str, Start] = {"ours": gateway, "ocpp": package}
    if has_rpc():
        starts["ocpp_rpc"] = rpc
    turns: dict[str, list[Measured]] = {who: [] for who in starts}
    for _ in range(1 if quick else ROUNDS):
        for who, start in starts.items():
            turns[who].append(_turn(start, work, workspace, samples=2 if quick else SAMPLES))
            print(f"  {who}: {_shown(turns[who][-1])}", flush=True)
    ours, package_turn = middle(turns["ours"]), middle(turns["ocpp"])
    rpc_turn = middle(turns["ocpp_rpc"]) if "ocpp_rpc" in turns else None
    rate, cpu_us = names(work)
    rates = [
        row(rate, ours.rate_per_s, "calls/s", peer=PACKAGE, peer_value=package_turn.rate_per_s),
        row(f"{rate}/generator_alone", alone.rate_per_s, "calls/s"),
    ]
    costs = [
        row(cpu_us, ours.cpu_us, "us CPU/call", peer=PACKAGE, peer_value=package_turn.cpu_us),
        row(f"{cpu_us}/event_loop", ours.loop_cpu_us, "us CPU/call"),
        row(f"{cpu_us}/journal_thread", ours.cpu_us - ours.loop_cpu_us, "us CPU/call"),
    ]
    if rpc_turn is not None:
        rates.append(row(f"{rate}/ocpp_rpc", ours.rate_per_s, "calls/s", peer=RPC, peer_value=rpc_turn.rate_per_s))
        costs.append(row(f"{cpu_us}/ocpp_rpc", ours.cpu_us, "us CPU/call", peer=RPC, peer_value=rpc_turn.cpu_us))
    return rates + costs


def _shown(turn: Measured) -> str:
    return f"{turn.rate_per_s:,.0f}/s {turn.cpu_us:.2f} us (generator {turn.generator_busy:.0%})"


def _turn(start: Start, work: str, workspace: Workspace, *, samples: int) -> Measured:
    """Start a server, load it, stop it."""
    with start(workspace) as server:
        taken = load(server, connections=CONNECTIONS, samples=samples, work=work).samples
    if len(taken) < MIN_SAMPLES:
        raise BenchError(f"the generator came to {len(taken)} samples in {samples} s; the machine is overloaded")
    return between(taken[0], taken[-1])


def load(server: Server, *, connections: int, samples: int, work: str) -> Run:
    """Run the generator against a server for about `samples` seconds and return what it saw."""
    config = LoadConfig(
        port=server.port, pid=server.child.pid, connections=connections, seconds=float(samples), work=work
    )
    command = python("tests.bench.ocpp_load", msgspec.json.encode(config).decode())
    with Child(command, log=server.directory / "generator.log", piped=True) as generator:
        said = generator.read_json(config.seconds + RUN_TIMEOUT_S)
        generator.finish(RUN_TIMEOUT_S)
    server.child.check()
    return msgspec.convert(said, Run)
