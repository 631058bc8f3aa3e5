"""Every way in which OpenSearch fails, on a real node: devices are acknowledged, the lake goes on, the index follows.

The tests share one system. Each leaves it at rest and right, and says so itself at its end.
"""

import json
import random
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from processors.sinks.index_rejects import INDEX_REJECTS
from tests.fault.indexing import Documents, compare
from tests.fault.lake import acknowledged_fleet
from tests.fault.opensearch_system import MESSAGES, System
from tests.fault.proxy import (
    BulkStatus,
    CutAnswer,
    Fault,
    HalfOpen,
    ItemStatus,
    LoseAnswer,
    Pass,
    Refuse,
    Slow,
)
from tests.installation import until
from tests.services import opensearch
from tests.services.require import require
from voltgate.ledger import stream_tables

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("opensearch"), pytest.mark.timeout(240)]

BLOCK: Final = "index.blocks.read_only_allow_delete"
KILL_DELAY_S_MAX: Final = 0.6
EVERYTHING: Final = 0.4
"""Part of the kills that take all of Voltgate."""
KILL_FAULTS: Final[tuple[Fault, ...]] = (
    Pass(),
    LoseAnswer(),
    LoseAnswer(reset=True),
    CutAnswer(after_bytes=60),
    ItemStatus(429),
)
"""What the cluster does to an indexer that is about to be killed."""
EVENTS: Final = "voltgate-vehicle_event-"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system whose every table has rows."""
    require(opensearch.NEEDS, opensearch.available())
    with System(tmp_path_factory.mktemp("opensearch")) as system:
        yield system


@pytest.fixture
def system(shared: System) -> Iterator[System]:
    """The system without a fault, whatever the test before left behind."""
    shared.calm()
    yield shared
    shared.proxy.set(Pass())


def only(documents: Documents, *, events: bool) -> Documents:
    """Return the documents of the indices of events, or all others."""
    return {place: document for place, document in documents.items() if place[0].startswith(EVENTS) == events}


def has_grown(system: System, name: str, before: int) -> bool:
    """Return whether the proxy has counted more of something."""
    return system.proxy.counts[name] > before


# ---- nothing gets through --------------------------------------------------------------------------------------------


def test_cluster_that_is_down_holds_up_the_index_alone(system: System) -> None:
    """Nobody listens: connections are reset and refused; once somebody does, the index is what the lake says."""
    before = system.proxy.counts["reset"]
    # Who is refused is not seen by the proxy, so it is the indexer that counts.
    assert 0 == system.hold_up(Refuse(), happens=system.tries)
    assert system.proxy.counts["reset"] > before
    system.recover()


def test_machine_that_hangs_costs_a_time_out_and_nothing_else(system: System) -> None:
    """Connections are taken and nothing is ever said."""
    system.hold_up(HalfOpen(), happens=lambda: system.proxy.counts["halfopen"])
    system.recover()


def test_line_that_is_too_slow_is_waited_for(system: System) -> None:
    """Each request is under way longer than anybody waits, the question who answers, too."""
    system.hold_up(Slow(bytes_per_s=300), happens=lambda: system.proxy.counts["slow"])
    system.recover()


def test_slow_line_is_followed_slowly(system: System) -> None:
    """What arrives in time is taken: the index comes to what the lake says while the line is still slow."""
    before = system.proxy.counts["slow"]
    system.proxy.set(Slow(bytes_per_s=200_000))
    system.publish()
    system.settle()
    assert system.proxy.counts["slow"] > before
    assert len(system.proxy.seen) >= MESSAGES / 2


def test_full_disk_of_the_node_is_waited_for(system: System) -> None:
    """The node itself refuses to write to any index, as it does past its flood watermark; no document is a reject."""
    node, rejected = system.node, system.metric("voltgate_index_documents_total", outcome="rejected")
    node.request("PUT", "/voltgate-*/_settings", {BLOCK: True})
    try:
        assert 0 < system.hold_up(Pass(), happens=system.tries)
        settings: dict[str, Any] = node.request("GET", "/voltgate-*/_settings?flat_settings=true")
        assert {"true"} == {one["settings"].get(BLOCK) for one in settings.values()}
    finally:
        node.request("PUT", "/voltgate-*/_settings", {BLOCK: None})
    system.recover()
    assert rejected == system.metric("voltgate_index_documents_total", outcome="rejected")


@pytest.mark.parametrize(
    "fault",
    [
        BulkStatus(429, retry_after_s=1),
        ItemStatus(429, every=1),
        BulkStatus(503),
        BulkStatus(403),
        ItemStatus(403, every=1, kind="security_exception"),
        ItemStatus(500, every=1, kind="null_pointer_exception"),
    ],
    ids=["429-request", "429-items", "503-request", "403-request", "403-items", "500-items"],
)
def test_refusal_that_blames_no_document_is_waited_for(system: System, fault: Fault) -> None:
    """Too much at once, no rights, or an engine that fails on everything: no reject, and all is there afterwards."""
    name, rejected = type(fault).__name__.lower(), system.metric("voltgate_index_documents_total", outcome="rejected")
    assert 0 < system.hold_up(fault, happens=lambda: system.proxy.counts[name])
    system.recover()
    assert rejected == system.metric("voltgate_index_documents_total", outcome="rejected")


# ---- some of it does -------------------------------------------------------------------------------------------------


def test_items_that_are_pushed_back_come_again_without_their_neighbours(system: System) -> None:
    """Every fourth document is answered 429: the index is right while that goes on, for what was taken stays taken."""
    before, again = system.proxy.counts["items"], system.metric("voltgate_index_retries_total")
    system.proxy.set(ItemStatus(429, every=4))
    system.publish()
    system.settle()
    refused = system.proxy.counts["items"] - before
    assert refused > 0
    assert refused == system.metric("voltgate_index_retries_total") - again


def test_answer_that_is_lost_after_the_node_applied_it_makes_no_document_twice(system: System) -> None:
    """The node has the documents, the indexer is not told and sends them again: same ids, same versions."""
    documents = system.proxy.counts["documents"]
    tried = system.hold_up(LoseAnswer(), happens=lambda: system.proxy.counts["loseanswer"])
    assert system.proxy.counts["documents"] - documents >= 2 * tried > 0
    applied = {(index, id_) for index, id_, _ in system.proxy.seen}
    assert applied <= system.held().keys()
    system.recover()


def test_document_that_the_mapping_refuses_is_a_reject_with_its_reason_and_its_neighbours_are_indexed(
    system: System,
) -> None:
    """Somebody made the indices of events anew, with trouble codes as numbers; a reindex with `--drop` mends it."""
    node = system.node
    system.publish()
    system.settle()
    system.proxy.set(Refuse())
    node.request("DELETE", "/_index_template/voltgate-vehicle_event")
    for index, held in node.request("GET", f"/{EVENTS}*/_mapping").items():
        held["mappings"]["properties"]["code"] = {"type": "long"}
        node.request("DELETE", f"/{index}")
        made = node.request("PUT", f"/{index}", held)
        assert made.get("acknowledged") is True, made
    known, begin = set(system.wanted()), system.end_offset()
    system.proxy.set(Pass())
    system.publish()
    system.settle(is_index_whole=False)

    wanted = {place: one for place, one in only(system.wanted(), events=True).items() if place not in known}
    unfit = {place for place, one in wanted.items() if one.fields.get("code", "").startswith("P")}
    assert 0 < len(unfit) < len(wanted)
    held_now = system.held()
    assert wanted.keys() - unfit == only(held_now, events=True).keys()
    assert compare(only(system.wanted(), events=False), only(held_now, events=False)).equal
    rejects = pl.read_delta(str(system.data / "lake" / INDEX_REJECTS)).filter(pl.col("offset") >= begin)
    assert sorted(unfit) == sorted(rejects.select("index", "document_id").rows())
    assert {("vehicle_event", "mapper_parsing_exception")} == set(rejects.select("table", "code").rows())
    assert all(re.search(r"\[code\].*For input string: \"P\d+\"", reason) for reason in rejects["reason"])
    listed = [json.loads(line) for line in system.voltgate("rejects", "ls", "--json", "--limit", "100000").splitlines()]
    assert len(unfit) == len([one for one in listed if (one["stage"], one["channel"]) == ("index", "vehicle_event")])

    system.voltgate("opensearch", "reindex", "vehicle_event", "--drop", "--wait")
    system.settle()


def test_refused_documents_are_no_readings_in_the_ledger() -> None:
    """Their rows are in the lake already, in the tables that they are from."""
    assert ["vehicle_event"] == stream_tables([INDEX_REJECTS, "raw", "rejects", "vehicle_event"])


# ---- kills -----------------------------------------------------------------------------------------------------------


def test_killed_node_comes_back_to_an_index_that_follows(system: System) -> None:
    """`kill -9` of the node with requests under way; vehicles and lake do not notice."""
    system.proxy.set(Slow(bytes_per_s=10_000))
    system.publish()
    until(lambda: system.metric("voltgate_index_in_flight") > 0, what="a request under way")
    system.node.kill()
    try:
        assert system.node.pid is None
        system.hold_up(Pass(), happens=lambda: system.proxy.counts["unreachable"])
    finally:
        system.node.start()
    system.recover()


def test_processors_killed_between_the_index_and_the_cursor_send_the_chunk_again(system: System) -> None:
    """The node applied a chunk and its answer is on its way: the next ones send it again, which changes nothing."""
    system.proxy.set(LoseAnswer())
    before = system.proxy.counts["loseanswer"]
    system.publish()
    system.await_lake()
    until(lambda: system.proxy.counts["loseanswer"] > before, what="a chunk that the node applied")
    applied = set(system.proxy.seen)
    held = system.held()
    assert {(index, id_) for index, id_, _ in applied} <= held.keys()
    system.programs.kill("processors")
    system.proxy.set(Pass())
    system.settle()
    assert applied <= system.proxy.seen
    after = system.held()
    assert [] == [one for one in applied if held[one[:2]] != after[one[:2]]]


def test_kills_at_any_moment_lose_nothing_and_show_nothing_twice(system: System, tmp_path: Path) -> None:
    """`kill -9` of the processors, and of all of Voltgate, under load and with a cluster that fails in every way."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance, truth, met = random.Random(seed), tmp_path / "truth.jsonl", []
    with system.fleet(truth) as fleet:
        for fault in KILL_FAULTS:
            name = "passed" if isinstance(fault, Pass) else type(fault).__name__.lower()
            end, before = system.end_offset(), system.proxy.counts[name]
            system.proxy.set(fault)
            until(partial(system.is_past, end + MESSAGES), what="load")
            until(partial(has_grown, system, name, before), what=name)
            time.sleep(chance.uniform(0, KILL_DELAY_S_MAX))
            met.append(len(system.proxy.seen))
            if chance.random() < EVERYTHING:
                system.programs.kill_everything()
                system.programs.start()
            else:
                system.programs.kill("processors")
        system.proxy.set(Pass())
        summary = fleet.stop()
    assert 0 == summary["sent"] - summary["acknowledged"]
    assert len([documents for documents in met if documents]) > len(KILL_FAULTS) / 2, met
    system.acknowledged |= set(acknowledged_fleet(truth).rows())
    system.settle()


# ---- another disk ----------------------------------------------------------------------------------------------------


def test_emptied_disk_is_named_and_refilled_from_the_lake(system: System) -> None:
    """The node returns as a new cluster: `status` says so, what is new is indexed, `reindex` brings all else."""
    others = system.metric("voltgate_index_other_clusters_total")
    system.voltgate("opensearch", "status")
    system.node.kill()
    try:
        system.hold_up(Pass(), happens=lambda: system.proxy.counts["unreachable"])
    finally:
        system.node.wipe()
        system.node.start()
    system.settle(is_index_whole=False)
    assert 1 == system.metric("voltgate_index_other_clusters_total") - others
    shown = system.compare()
    assert (True, 0, 0) == (0 < shown.missing < shown.documents, shown.surplus, shown.differing), shown
    told = json.loads(system.voltgate("opensearch", "status", "--json", expected_code=6))
    assert ["voltgate opensearch reindex" in problem for problem in told["problems"]] == [True]

    system.voltgate("opensearch", "reindex", "--wait")
    system.settle()
    assert json.loads(system.voltgate("opensearch", "status", "--json"))["ok"] is True
