"""Bulk requests to a real OpenSearch node: what a document costs the process that sends it."""

import statistics
from pathlib import Path
from typing import Final

from tests.bench.harness import BenchError, Child, Workspace, python
from tests.bench.report import Row, row
from tests.services.opensearch import Node, available, why_not

NAME: Final = "opensearch_bulk_cpu_us"
DOCUMENTS: Final = 60_000
QUICK_DOCUMENTS: Final = 2_000
ROUNDS: Final = 3
LOAD_TIMEOUT_S: Final = 300.0
_PEERS: Final = {
    "streaming": "opensearch-py async_streaming_bulk",
    "naive": "opensearch-py bulk, 500 a request",
}
_US: Final = 1_000_000


def measure(workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return CPU microseconds per document of ours and both helpers, and documents per second beside them."""
    if not available():
        raise BenchError(why_not())
    documents = QUICK_DOCUMENTS if quick else DOCUMENTS
    ways = ["voltgate", *_PEERS]
    cpu: dict[str, list[float]] = {how: [] for how in ways}
    rate: dict[str, list[float]] = {how: [] for how in ways}
    directory = workspace.fresh("opensearch")
    with Node(directory) as node:
        # Its first documents are slow: code is compiled as it is used. These count for nobody, and bring the template.
        _load(node, ways[0], documents, directory / "warm.log")
        for turn in range(1 if quick else ROUNDS):
            for how in ways[turn:] + ways[:turn]:
                cpu_s, elapsed_s = _load(node, how, documents, directory / f"{how}.log")
                cpu[how].append(cpu_s / documents * _US)
                rate[how].append(documents / elapsed_s)
    ours_us, ours_per_s = (statistics.median(one["voltgate"]) for one in (cpu, rate))
    measured = []
    for how, peer in _PEERS.items():
        suffix = "" if how == "streaming" else f"/beside_{how}"
        peer_us, peer_per_s = statistics.median(cpu[how]), statistics.median(rate[how])
        measured += [
            row(f"{NAME}{suffix}", ours_us, "us/document", peer=peer, peer_value=peer_us),
            row(f"{NAME}{suffix}/rate", ours_per_s, "documents/s", peer=peer, peer_value=peer_per_s),
        ]
    return measured


def _load(node: Node, how: str, documents: int, log: Path) -> tuple[float, float]:
    """Return CPU and elapsed seconds of one sender into indices that were not there before, all documents found."""
    command = python("tests.bench.opensearch_load", how, node.url, documents)
    # Every sender writes to indices of the same strict template, which ours puts there.
    node.request("DELETE", "/bench-*")
    with Child(command, log=log, piped=True) as child:
        said = child.read_json(LOAD_TIMEOUT_S)
        child.finish(LOAD_TIMEOUT_S)
    node.request("POST", f"/{said['pattern']}/_refresh")
    found = node.request("GET", f"/{said['pattern']}/_count")["count"]
    if found != documents:
        raise BenchError(f"{how} sent {documents} documents, the index has {found}")
    return said["cpu_s"], said["elapsed_s"]
