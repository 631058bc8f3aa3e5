"""The indexer in its process: a journal in, a lake, and the same in a real index, through kills and reindexing."""

import signal
import time
import urllib.request
from pathlib import Path

import polars as pl
import pytest

from gateway.core.records import Envelope
from processors.contracts.load import load_contracts
from tests.integration.indexing import (
    TIMEOUT_S,
    command,
    count,
    documents,
    eventually,
    in_index,
    in_lake,
    processors,
    status,
)
from tests.integration.test_processors import write_journal
from tests.journals import fleet
from tests.services.opensearch import Node
from tests.showcase import showcase_journal

EVERYTHING = {
    "alerts", "charger_status-*", "charging_sessions", "devices", "rejects-*", "vehicle_event-*",
    "windows-battery_pack-*", "windows-charger_meter-*", "windows-vehicle_telemetry-*",
}  # fmt: skip
pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("opensearch")]


@pytest.fixture(scope="module")
def envelopes() -> list[Envelope]:
    """Ten minutes of a fleet that does everything."""
    return fleet(seed=11, seconds=600, devices=3)


def test_index_holds_what_the_lake_holds_after_a_kill_and_a_second_run(tmp_path: Path, opensearch_node: Node) -> None:
    """Killed in the middle and started again every count is the lake's; from cursor 0 no document changes."""
    node, prefix, envelopes = opensearch_node, "once", showcase_journal(load_contracts([]))
    write_journal(tmp_path, envelopes)
    killed = processors(tmp_path, node.url, prefix)
    try:
        eventually(lambda: count(node, f"{prefix}-windows-*") > 0)
    finally:
        killed.kill()
        killed.communicate(timeout=TIMEOUT_S)
    assert -signal.SIGKILL == killed.returncode
    running = processors(tmp_path, node.url, prefix)
    try:
        eventually(lambda: status(tmp_path).get("offset") == len(envelopes))
        wanted = in_lake(tmp_path)
        assert EVERYTHING == set(wanted)
        eventually(lambda: wanted == in_index(node, prefix, wanted))
        before = documents(node, prefix)
        assert sum(wanted.values()) == len(before)

        done = command(tmp_path, node.url, prefix, "reindex", "--wait")
        assert 0 == done.returncode, done.stderr
        assert before == documents(node, prefix)
        running.send_signal(signal.SIGTERM)
        _, logged = running.communicate(timeout=TIMEOUT_S)
    finally:
        running.kill()
        running.wait()
    assert 0 == running.returncode, logged
    assert [] == [line for line in logged.splitlines() if "index_refuses" in line or "crashed" in line]


def test_an_index_with_another_type_holds_up_its_table_alone_until_it_is_dropped(
    tmp_path: Path, envelopes: list[Envelope], opensearch_node: Node
) -> None:
    """Nothing of that table is sent, `init` names the mend, all others are indexed; a drop fills it from the lake."""
    node, prefix = opensearch_node, "refusing"
    write_journal(tmp_path, envelopes)
    for day in ("2026.11.22", "2026.11.23"):
        body = {"mappings": {"dynamic": "strict", "properties": {"code": {"type": "integer"}}}}
        node.request("PUT", f"/{prefix}-rejects-{day}", body)
    running = processors(tmp_path, node.url, prefix)
    try:
        eventually(lambda: status(tmp_path).get("offset") == len(envelopes))
        wanted = in_lake(tmp_path)
        others = {name: n for name, n in wanted.items() if name != "rejects-*"}
        eventually(lambda: others == in_index(node, prefix, others))
        assert 0 == count(node, f"{prefix}-rejects-*")
        told = command(tmp_path, node.url, prefix, "init")
        assert (6, True) == (told.returncode, "reindex rejects --drop" in told.stdout + told.stderr)

        done = command(tmp_path, node.url, prefix, "reindex", "rejects", "--drop", "--wait")
        assert 0 == done.returncode, done.stderr
        assert wanted == in_index(node, prefix, wanted)
    finally:
        running.kill()
        running.communicate(timeout=TIMEOUT_S)


def test_document_that_the_index_refuses_is_a_reject_with_its_reason(
    tmp_path: Path, envelopes: list[Envelope], opensearch_node: Node
) -> None:
    """A pipeline adds a field that no mapping has: such documents are rows of `index_rejects`, once; none waits."""
    node, prefix = opensearch_node, "rejecting"
    write_journal(tmp_path, envelopes)
    adding = {"set": {"field": "stranger", "value": 1, "if": "ctx.window_s == 300"}}
    node.request("PUT", f"/_ingest/pipeline/{prefix}", {"processors": [adding]})
    running = processors(tmp_path, node.url, prefix)
    try:
        eventually(lambda: status(tmp_path).get("offset") == len(envelopes))
        wanted = in_lake(tmp_path)
        eventually(lambda: wanted == in_index(node, prefix, wanted))
        for index in node.request("GET", f"/{prefix}-windows-*/_settings"):
            node.request("PUT", f"/{index}/_settings", {"index.default_pipeline": prefix})
        again = command(tmp_path, node.url, prefix, "reindex", "windows_vehicle_telemetry", "--wait")
        assert 0 == again.returncode, again.stderr
        rejects = pl.read_delta(str(tmp_path / "lake" / "index_rejects"))
        assert {("windows_vehicle_telemetry", 1)} == set(rejects.select("table", "generation").rows())
        assert rejects.height == rejects.select("document_id", "offset").n_unique() > 0
        assert {"strict_dynamic_mapping_exception"} == set(rejects["code"])
        assert all("stranger" in reason for reason in rejects["reason"])
    finally:
        running.kill()
        running.communicate(timeout=TIMEOUT_S)
        node.request("DELETE", f"/_ingest/pipeline/{prefix}")


def test_a_cluster_that_is_away_delays_neither_the_lake_nor_a_stop(tmp_path: Path, envelopes: list[Envelope]) -> None:
    """Everything is in the lake, metrics say who is missing, and SIGTERM ends the processors in time."""
    write_journal(tmp_path, envelopes[:500])
    running = processors(tmp_path, "http://127.0.0.1:9", "away")
    try:
        eventually(lambda: status(tmp_path).get("offset") == 500)
        with urllib.request.urlopen(f"http://127.0.0.1:{status(tmp_path)['observe_port']}/metrics") as answer:
            metrics = answer.read().decode()
        assert "voltgate_index_connected 0.0" in metrics
        began_at_s = time.monotonic()
        running.send_signal(signal.SIGTERM)
        _, logged = running.communicate(timeout=TIMEOUT_S)
    finally:
        running.kill()
        running.wait()
    assert (0, True) == (running.returncode, time.monotonic() - began_at_s < 8.0), logged
    assert 1 == logged.count("index_refuses")
