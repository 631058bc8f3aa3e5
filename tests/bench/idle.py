"""Memory per connection that is open and silent, ours against Mosquitto."""

from statistics import median
from typing import Final

from tests.bench.harness import BenchError, Workspace, raise_file_limit
from tests.bench.ingest import Start, load
from tests.bench.report import Row, row
from tests.bench.servers import gateway, mosquitto, mosquitto_name

NAME: Final = "mqtt_idle_connection_kib"
CONNECTIONS: Final = 4000
CONNECTIONS_MIN: Final = 2500
FIRST_CONNECTIONS: Final = 1000
"""The figure is the slope from here: the first ones live in memory that the start has left free."""
HOLD_S: Final = 2
FILES_SPARE: Final = 200


def measure(workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the row. Raises: BenchError: This process may not open enough sockets for 2,500 connections."""
    allowed = raise_file_limit(CONNECTIONS + FILES_SPARE) - FILES_SPARE
    if allowed < CONNECTIONS_MIN:
        raise BenchError(
            f"the limit of open files allows {allowed} connections; raise it (ulimit -Hn) to {CONNECTIONS}"
        )
    connections = CONNECTIONS_MIN if quick else min(CONNECTIONS, allowed)
    rounds = 1 if quick else 2
    peer = mosquitto_name()
    ours = [_growth_kib(gateway, connections, workspace) for _ in range(rounds)]
    theirs = [_growth_kib(mosquitto, connections, workspace) for _ in range(rounds)] if peer else []
    return [row(NAME, median(ours), "KiB", peer=peer, peer_value=median(theirs) if theirs else None)]


def _growth_kib(start: Start, connections: int, workspace: Workspace) -> float:
    """Return how much resident memory each connection past the first ones adds."""
    first_bytes, last_bytes = (_held_bytes(start, count, workspace) for count in (FIRST_CONNECTIONS, connections))
    return (last_bytes - first_bytes) / (connections - FIRST_CONNECTIONS) / 1024


def _held_bytes(start: Start, connections: int, workspace: Workspace) -> int:
    """Return a fresh server's resident memory while so many connections are open and silent."""
    with start(workspace) as server:
        last = load(server, connections=connections, samples=HOLD_S, idle=True).samples[-1]
    if last.connected != connections:
        raise BenchError(f"{last.connected} of {connections} connections were up; look at the server's limits")
    return last.server_rss_bytes
