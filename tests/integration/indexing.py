"""What tests of the indexer share: a data directory whose processors index into a node, and what both hold then."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dashboards.queries.history import query, tables
from processors.contracts.load import load_contracts
from tests.services.opensearch import Node

TIMEOUT_S: Final = 60.0
SMALL: Final = {
    "VOLTGATE__PROCESSORS__BATCH_ROWS_MAX": "211",
    "VOLTGATE__PROCESSORS__COMMIT_INTERVAL_S": "0.2",
    "VOLTGATE__PROCESSORS__CHECKPOINT_INTERVAL_S": "0.5",
}
WITHOUT_STATE: Final = {"alert_order", "device_command"}
"""Streams whose newest values are no documents: what people order is no state of a device."""
INDEXED: Final = ("charger_status", "vehicle_event", "rejects")
"""Tables whose rows are documents, one each."""


def processors(data: Path, url: str, prefix: str, **environ: str) -> subprocess.Popen[str]:
    """Start processors that index."""
    asked = {
        "VOLTGATE__OPENSEARCH__URL": url,
        "VOLTGATE__OPENSEARCH__INDEX_PREFIX": prefix,
        # Made-up fleets live in 2026, whatever the year is.
        "VOLTGATE__OPENSEARCH__RETENTION_DAYS": "3650",
    }
    command = [sys.executable, "-m", "processors", "--data", str(data)]
    return subprocess.Popen(command, env=os.environ | SMALL | asked | environ, stderr=subprocess.PIPE, text=True)


def command(data: Path, url: str, prefix: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `voltgate opensearch ...` on a data directory."""
    asked = {"VOLTGATE__OPENSEARCH__URL": url, "VOLTGATE__OPENSEARCH__INDEX_PREFIX": prefix}
    return subprocess.run(
        [sys.executable, "-m", "voltgate", "opensearch", *words, "--data", str(data)],
        env=os.environ | asked | {"VOLTGATE__OPENSEARCH__RETENTION_DAYS": "3650"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def status(data: Path) -> dict[str, Any]:
    """Return the content of the run file, nothing before there is one."""
    try:
        content: dict[str, Any] = json.loads((data / "run" / "processors.json").read_text())
    except FileNotFoundError:
        return {}
    return content


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    give_up_at_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < give_up_at_s, "it did not become true"
        time.sleep(0.1)


def count(node: Node, pattern: str) -> int:
    """Return how many documents the indices show that fit a pattern."""
    node.request("POST", f"/{pattern}/_refresh?ignore_unavailable=true")
    answer = node.request("GET", f"/{pattern}/_count?ignore_unavailable=true&allow_no_indices=true")
    return int(answer.get("count", 0))


def in_lake(data: Path) -> dict[str, int]:
    """Return index -> the documents it must have by this lake."""
    lake = data / "lake"

    def rows(sql: str) -> int:
        return int(query(lake, sql).rows[0][0])

    held = set(tables(lake))
    streams = [name.removeprefix("windows_") for name in held if name.startswith("windows_")]
    found = {f"windows-{stream}-*": rows(f"select count(*) from windows_{stream}_latest") for stream in streams}
    found |= {f"{name}-*": rows(f"select count(*) from {name}") for name in INDEXED if name in held}
    found["alerts"] = rows("select count(*) from alerts")
    if "charging_session_revisions" in held:
        found["charging_sessions"] = rows("select count(*) from charging_sessions")
    for contract in load_contracts([]):
        if contract.stream in held - WITHOUT_STATE:
            owner = ", ".join(("tenant", "device_id", *((contract.part,) if contract.part else ())))
            devices = rows(f"select count(*) from (select distinct {owner} from {contract.stream})")
            found["devices"] = found.get("devices", 0) + devices
    return {name: n for name, n in found.items() if n}


def in_index(node: Node, prefix: str, names: dict[str, int]) -> dict[str, int]:
    """Return the documents of the same indices."""
    return {name: count(node, f"{prefix}-{name}") for name in names}


def documents(node: Node, prefix: str) -> dict[tuple[str, str], tuple[int, object]]:
    """Return (index, id) -> version and content of every document."""
    node.request("POST", f"/{prefix}-*/_refresh")
    found = node.request("POST", f"/{prefix}-*/_search", {"size": 10_000, "version": True})
    return {(hit["_index"], hit["_id"]): (hit["_version"], hit["_source"]) for hit in found["hits"]["hits"]}
