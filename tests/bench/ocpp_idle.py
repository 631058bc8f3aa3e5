"""Memory per station that is connected, has booted and is silent, ours against the server of websockets."""

from statistics import median
from typing import Final

from tests.bench.harness import BenchError, Workspace, raise_file_limit
from tests.bench.ocpp import load
from tests.bench.ocpp_servers import WEBSOCKETS, Start, gateway, silent_websockets
from tests.bench.report import Row, row

NAME: Final = "ocpp_idle_connection_kib"
CONNECTIONS: Final = 10_000
FIRST_CONNECTIONS: Final = 2_000
"""The figure is the slope from here: the first ones live in memory that the start has left free."""
QUICK_CONNECTIONS: Final = (500, 1_500)
HOLD_S: Final = 2
FILES_SPARE: Final = 200


def measure(workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the row. Raises: BenchError: This process may not open enough sockets."""
    first, last = QUICK_CONNECTIONS if quick else (FIRST_CONNECTIONS, CONNECTIONS)
    allowed = raise_file_limit(last + FILES_SPARE) - FILES_SPARE
    if allowed < last:
        raise BenchError(f"the limit of open files allows {allowed} connections; raise it (ulimit -Hn) past {last}")
    rounds = 1 if quick else 2
    ours = [_growth_kib(gateway, first, last, workspace) for _ in range(rounds)]
    theirs = [_growth_kib(silent_websockets, first, last, workspace) for _ in range(rounds)]
    return [row(NAME, median(ours), "KiB", peer=WEBSOCKETS, peer_value=median(theirs))]


def _growth_kib(start: Start, first: int, last: int, workspace: Workspace) -> float:
    """Return how much resident memory each connection past the first ones adds."""
    first_bytes, last_bytes = (_held_bytes(start, count, workspace) for count in (first, last))
    return (last_bytes - first_bytes) / (last - first) / 1024


def _held_bytes(start: Start, connections: int, workspace: Workspace) -> int:
    """Return a fresh server's resident memory while so many stations are connected and silent."""
    with start(workspace) as server:
        last = load(server, connections=connections, samples=HOLD_S, work="idle").samples[-1]
    if last.connected != connections:
        raise BenchError(f"{last.connected} of {connections} connections were up; look at the server's limits")
    return last.server_rss_bytes
