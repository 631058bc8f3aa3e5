"""`voltgate opensearch` and `voltgate rejects` on a machine whose processors run, do not run, or never did."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from processors.sinks.index_rejects import IndexReject, IndexRejects
from processors.sinks.index_store import FILE, IndexStore
from tests.integration.indexing import command, eventually, in_index, in_lake, processors, status
from tests.integration.test_processors import write_journal
from tests.journals import fleet
from tests.services.opensearch import Node

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("opensearch")]
AWAY = "http://127.0.0.1:9"


def voltgate(*words: str) -> subprocess.CompletedProcess[str]:
    """Run any command."""
    return subprocess.run(
        [sys.executable, "-m", "voltgate", *words], env=os.environ, capture_output=True, text=True, check=False
    )


def shown(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what a command printed as JSON."""
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_init_prepares_a_cluster_and_may_be_repeated(tmp_path: Path, opensearch_node: Node) -> None:
    """Templates and the indices without days are there before any document is."""
    for _ in range(2):
        done = command(tmp_path, opensearch_node.url, "cliinit", "init", "--json")
        assert (0, []) == (done.returncode, shown(done)["conflicts"]), done.stderr
    templates = opensearch_node.request("GET", "/_index_template/cliinit-*")["index_templates"]
    assert sorted(shown(done)["templates"]) == sorted(one["name"] for one in templates)
    assert "cliinit-alerts" in opensearch_node.request("GET", "/cliinit-*")


def test_status_and_reindex_tell_what_is_true(tmp_path: Path, opensearch_node: Node) -> None:
    """With everything indexed nothing is behind; after an emptied index a reindex fills it again."""
    node, prefix = opensearch_node, "clistatus"
    write_journal(tmp_path, fleet(seed=5, seconds=300, devices=2))
    running = processors(tmp_path, node.url, prefix)
    try:
        eventually(lambda: status(tmp_path).get("offset", 0) > 500)
        wanted = in_lake(tmp_path)
        eventually(lambda: wanted == in_index(node, prefix, wanted))
        done = command(tmp_path, node.url, prefix, "status", "--json")
        assert 0 == done.returncode, done.stderr
        tables = {row["table"]: row for row in shown(done)["tables"]}
        assert {0} == {row["behind"] for row in tables.values() if row["behind"] is not None}
        assert wanted["rejects-*"] == tables["rejects"]["done"] == tables["rejects"]["documents"]

        node.request("DELETE", f"/{prefix}-devices")
        again = command(tmp_path, node.url, prefix, "reindex", "devices", "--wait")
        assert 0 == again.returncode, again.stderr
        assert wanted == in_index(node, prefix, wanted)
    finally:
        running.kill()
        running.communicate()
    later = command(tmp_path, node.url, prefix, "reindex", "--wait")
    assert (8, True) == (later.returncode, "as soon as the processors run" in later.stderr)


def test_another_cluster_is_named_by_status(tmp_path: Path, opensearch_node: Node) -> None:
    """Cursors that are about another cluster than the one that answers are said, with the mend."""
    store = IndexStore(tmp_path / FILE, now_us=1)
    store.meet_cluster("another-one")
    store.close()
    done = command(tmp_path, opensearch_node.url, "cliother", "status")
    assert (6, True) == (done.returncode, "voltgate opensearch reindex" in done.stderr)


def test_an_index_that_cannot_hold_its_table_is_named_by_status(tmp_path: Path, opensearch_node: Node) -> None:
    """While the field has another type nothing of the table is indexed; status says which, and the mend."""
    opensearch_node.request("PUT", "/cliconflict-alerts", {"mappings": {"properties": {"severity": {"type": "long"}}}})
    done = command(tmp_path, opensearch_node.url, "cliconflict", "status", "--json")
    (problem,) = shown(done)["problems"]
    assert (6, True) == (done.returncode, "index cliconflict-alerts: " in problem), problem
    assert "severity" in problem
    assert "voltgate opensearch reindex alert_revisions --drop" in problem


def test_a_cluster_that_is_away_is_no_traceback(tmp_path: Path) -> None:
    """What is known without it is shown; the exit code says offline."""
    for words in (("init",), ("status",)):
        done = command(tmp_path, AWAY, "cliaway", *words)
        assert (8, True, False) == (done.returncode, "cannot connect" in done.stderr, "Traceback" in done.stderr)


def test_an_unknown_table_is_named_with_those_there_are(tmp_path: Path) -> None:
    """A typing mistake sets nothing back."""
    done = command(tmp_path, AWAY, "clitable", "reindex", "allerts")
    assert (4, True) == (done.returncode, "alert_revisions" in done.stderr)
    assert not (tmp_path / FILE).exists()


def test_without_an_address_every_command_says_so(tmp_path: Path) -> None:
    """Nothing is configured, so nothing is asked."""
    for words in ("init", "status", "reindex"):
        done = voltgate("opensearch", words, "--data", str(tmp_path))
        assert (3, True) == (done.returncode, "opensearch.url" in done.stderr)


def test_refused_documents_are_among_the_rejects(tmp_path: Path) -> None:
    """`rejects ls` and `show` say which document, where it should have gone, and why it is not there."""
    IndexRejects(tmp_path / "lake").write(
        "alert_revisions",
        [IndexReject(offset=7, index="v-alerts", document_id="a1", code="bad", reason="no", document=b"{}")],
        generation=0,
        end=8,
        rejected_at=datetime(2026, 11, 22, tzinfo=UTC),
    )
    row = shown(voltgate("rejects", "ls", "--json", "--data", str(tmp_path)))
    assert ("index", "alert_revisions", "v-alerts/a1", "bad", "no") == tuple(
        row[name] for name in ("stage", "channel", "path", "code", "got")
    )
    assert "{}" == shown(voltgate("rejects", "show", "7", "--json", "--data", str(tmp_path)))["document"]
