"""Every panel of OpenSearch Dashboards asks a real node, filled with forty minutes of a depot, and gets rows."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import pytest

from gateway.core.limits import MIB
from processors.contracts.load import load_contracts
from processors.indexing.documents import to_bulks
from processors.indexing.templates import template
from tests.journals import START
from tests.saved_objects import Objects, Search, built_in_file, built_in_plan, has_rows
from tests.services.opensearch import Node
from tests.showcase import END, showcase

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("opensearch")]

PREFIX: Final = "panels"
"""Of this module alone, so that the node can be shared."""
OBJECTS = Objects(built_in_file(PREFIX))
BEGIN = START - timedelta(hours=1)
SEARCHES = list(OBJECTS.searches(BEGIN, END + timedelta(hours=1)))
EARLIER = list(OBJECTS.searches(BEGIN - timedelta(days=2), BEGIN - timedelta(days=1)))


@pytest.fixture(scope="module")
def filled(opensearch_node: Node) -> Iterator[Node]:
    """A node that holds what the depot did, with the mappings that the indexer makes."""
    node, tables = opensearch_node, showcase(load_contracts([]))
    for table in built_in_plan(PREFIX):
        made = node.request("PUT", f"/_index_template/{table.index}", template(table, shards=1, replicas=0))
        assert {"acknowledged": True} == made
        for bulk in to_bulks(table, tables[table.table], bytes_max=5 * MIB):
            answer = node.request("POST", "/_bulk", bulk.body)
            assert not answer["errors"], answer
    node.request("POST", f"/{PREFIX}-*/_refresh")
    yield node
    node.request("DELETE", f"/{PREFIX}-*")
    for table in built_in_plan(PREFIX):
        node.request("DELETE", f"/_index_template/{table.index}")


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.panel)
def test_panel_shows_something(filled: Node, search: Search) -> None:
    """What Dashboards would send for the panel is understood, and the answer has rows and values."""
    answer = filled.request("POST", f"/{search.index}/_search", search.body)
    assert "error" not in answer, answer
    assert 0 == answer["_shards"]["failed"], answer["_shards"]
    assert has_rows(answer, search.body), answer


@pytest.mark.parametrize("search", EARLIER, ids=lambda search: search.panel)
def test_panel_obeys_the_time_that_is_chosen(filled: Node, search: Search) -> None:
    """Of a time when nothing happened, no panel shows anything."""
    answer = filled.request("POST", f"/{search.index}/_search", search.body)
    assert "error" not in answer, answer
    assert not has_rows(answer, search.body)


def test_vehicles_energy_and_sessions_add_up(filled: Node) -> None:
    """Panels count the depot as it was: three vehicles, each window once, one session done and one going on."""
    asked = {search.panel: search for search in SEARCHES}

    def values(panel: str) -> list[float]:
        search = asked[f"{PREFIX}-{panel}"]
        answer = filled.request("POST", f"/{search.index}/_search", search.body)
        return [answer["hits"]["total"]["value"], *(one["value"] for one in answer["aggregations"].values())]

    assert 3 == values("fleet-overview-heard")[1]
    # Two vehicles drove 36 km/h in 39 minutes whose windows are closed.
    assert 46.8 == pytest.approx(values("fleet-overview-driven")[1])
    count, total_kwh, mean_kwh, mean_s = values("sessions-sums")
    assert 2 == count
    assert (45.6, 22.8) == pytest.approx((total_kwh, mean_kwh))
    assert mean_s > 1000
    assert 5.2 == pytest.approx(values("sessions-loss")[1], abs=0.5)
