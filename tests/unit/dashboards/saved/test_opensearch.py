"""Saved objects of OpenSearch Dashboards: whole, over fields that exist, and laid out without overlaps."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from dashboards.saved.opensearch_objects import COLUMNS, saved_objects, to_ndjson
from processors.contracts.load import ContractSet, load_contracts, parse_contract
from processors.indexing.plan import DEVICE_AT, IndexedTable, index_plan
from processors.indexing.templates import mapping, template
from processors.stages.chain import Chain
from tests.saved_objects import PREFIX, Objects, Search, built_in_file, built_in_plan, has_rows

NOW = datetime(2026, 11, 22, tzinfo=UTC)
PLAN = built_in_plan()
OBJECTS = Objects(built_in_file())
SEARCHES = list(OBJECTS.searches(NOW - timedelta(days=1), NOW))
DASHBOARDS = OBJECTS.of("dashboard")
NUMBERS = {"sum", "avg", "min", "max", "percentiles", "histogram"}


def test_ids_are_unique_and_made_of_names() -> None:
    """An import overwrites what an earlier one brought, and nothing of another installation."""
    assert len(OBJECTS.lines) == len(OBJECTS.by_id)
    assert {True} == {line["id"].startswith(f"{PREFIX}-") for line in OBJECTS.lines}
    other = Objects(to_ndjson(saved_objects(PLAN, prefix="other")))
    assert set() == {line["id"] for line in other.lines if line["type"] != "index-pattern"} & {
        line["id"] for line in OBJECTS.lines
    }


def test_there_are_six_dashboards_and_each_is_filled() -> None:
    """The dashboards that people are promised, with enough on them to be worth a look."""
    names = ["fleet-overview", "battery-health", "charging-infrastructure", "sessions", "alerts", "data-quality"]
    assert [f"{PREFIX}-{name}" for name in names] == [line["id"] for line in DASHBOARDS]
    assert all(len(json.loads(line["attributes"]["panelsJSON"])) > 8 for line in DASHBOARDS)


def test_no_object_says_when_it_was_made() -> None:
    """The same contracts give the same file."""
    assert built_in_file() == built_in_file()
    assert {"attributes", "id", "migrationVersion", "references", "type"} == {
        key for line in OBJECTS.lines for key in line
    }


@pytest.mark.parametrize("line", OBJECTS.lines, ids=lambda line: f"{line['type']}-{line['id']}")
def test_object_is_whole(line: dict[str, object]) -> None:
    """Every reference leads to an object before this one, is used by its name, and text that is JSON is JSON."""
    kind, attributes, references = line["type"], line["attributes"], line["references"]
    assert isinstance(attributes, dict)
    assert isinstance(references, list)
    earlier = OBJECTS.lines[: OBJECTS.lines.index(line)]
    known = {(one["type"], one["id"]) for one in earlier}
    assert {(one["type"], one["id"]) for one in references} <= known
    text = json.dumps(attributes)
    assert [one["name"] for one in references if one["name"] not in text] == []
    assert text.count("RefName") == len(references)
    assert {str(kind): {"index-pattern": "7.6.0", "visualization": "7.10.0"}.get(str(kind), "7.9.3")} == line[
        "migrationVersion"
    ]
    for name in ("visState", "panelsJSON", "optionsJSON", "fields", "fieldFormatMap", "uiStateJSON"):
        assert name not in attributes or json.loads(attributes[name]) is not None
    assert attributes["title"]
    if kind == "dashboard":
        assert attributes["description"]


def test_patterns_are_those_of_the_index_templates() -> None:
    """Dashboards looks where the indexer writes, by the time that people look at first."""
    expected = {
        table.index: (template(table, shards=1, replicas=0)["index_patterns"], table.time_field) for table in PLAN
    }
    patterns = {
        line["id"]: ([line["attributes"]["title"]], line["attributes"]["timeFieldName"])
        for line in OBJECTS.of("index-pattern")
    }
    assert expected == patterns


@pytest.mark.parametrize("table", PLAN, ids=lambda table: table.table)
def test_fields_of_a_pattern_are_those_of_its_mapping(table: IndexedTable) -> None:
    """Each field has the type of the mapping, and is aggregatable only where that keeps doc values."""
    held: dict[str, tuple[str, bool]] = {}
    levels = [("", mapping(table)["properties"])]
    for above, properties in levels:
        for name, field in properties.items():
            if "properties" in field:
                levels.append((f"{above}{name}.", field["properties"]))
                continue
            held[f"{above}{name}"] = (field["type"], field.get("doc_values", True))
            held |= {f"{above}{name}.{sub}": (f["type"], False) for sub, f in field.get("fields", {}).items()}
    fields = OBJECTS.fields(OBJECTS.by_id["index-pattern", table.index])
    listed = {
        name: (field["esTypes"][0], field["aggregatable"])
        for name, field in fields.items()
        if not field["scripted"] and not name.startswith("_")
    }
    assert {name: kind for name, kind in held.items() if not name.startswith(DEVICE_AT)} == listed


@pytest.mark.parametrize("line", OBJECTS.of("index-pattern"), ids=lambda line: line["id"])
def test_pattern_has_few_enough_dates(line: dict[str, dict[str, str]]) -> None:
    """Dashboards asks for all date fields with each search, and OpenSearch refuses one that names more than 100."""
    dates = [name for name, field in OBJECTS.fields(line).items() if field["type"] == "date"]
    assert 0 < len(dates) < 100


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.panel)
def test_panel_uses_fields_that_can_do_it(search: Search) -> None:
    """Every field a panel names is in its index, and what it adds up or groups by has doc values."""
    (pattern,) = [line for line in OBJECTS.of("index-pattern") if line["attributes"]["title"] == search.index]
    fields = OBJECTS.fields(pattern)
    assert [name for name in search.fields if name not in fields] == []
    line = OBJECTS.by_id.get(("visualization", search.panel))
    for agg in json.loads(line["attributes"]["visState"])["aggs"] if line else []:
        if (name := agg["params"].get("field")) is None:
            continue
        assert fields[name]["aggregatable"], name
        if agg["type"] in NUMBERS:
            kinds = {"number", "date"} if agg["type"] in {"min", "max"} else {"number"}
            assert fields[name]["type"] in kinds, name
        if agg["type"] == "date_histogram":
            assert name == pattern["attributes"]["timeFieldName"]


@pytest.mark.parametrize("search", [s for s in SEARCHES if "-windows-" in s.index], ids=lambda search: search.panel)
def test_panel_of_windows_takes_one_length(search: Search) -> None:
    """Windows of all lengths are in one index; added up together, everything would count four times."""
    assert {"match_phrase": {"window_s": 60}} in search.body["query"]["bool"]["filter"]


@pytest.mark.parametrize("line", DASHBOARDS, ids=lambda line: line["id"])
def test_panels_lie_side_by_side(line: dict[str, dict[str, str]]) -> None:
    """No panel covers another or leaves the grid, and rows leave no hole at their end."""
    places = [panel["gridData"] for panel in json.loads(line["attributes"]["panelsJSON"])]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
        assert place["h"] >= 4
    for one, other in itertools.combinations(places, 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_below, (one, other)
    bottom = max(place["y"] + place["h"] for place in places)
    assert COLUMNS * bottom == sum(place["w"] * place["h"] for place in places)


def test_stream_of_a_user_has_its_pattern() -> None:
    """A contract that is added is found in Dashboards without a line of code."""
    text = """
stream: scooter
version: 1.0.0
description: Scooters
source: {mqtt: "v1/{tenant}/{device_id}/scooter"}
time: {measured_at: {path: ts, format: iso8601}, skew_max: 5 min}
index: true
fields:
  lean_deg: {type: float, unit: deg, range: [-90, 90]}
retention: {raw: 1 d, readings: 1 d, windows: 1 d}
"""
    contracts = ContractSet([*load_contracts([]), parse_contract(text, file="scooter.yaml")])
    plan = index_plan(contracts, Chain(contracts).schemas, prefix="depot")
    pattern = Objects(to_ndjson(saved_objects(plan, prefix="depot"))).by_id["index-pattern", "depot-scooter"]
    assert "depot-scooter-*" == pattern["attributes"]["title"]
    assert "lean_deg" in pattern["attributes"]["fields"]


def test_titles_are_for_people() -> None:
    """No title is a name of the code, and no two panels of a dashboard share one."""
    titled = [line for line in OBJECTS.lines if line["type"] != "index-pattern"]
    assert [] == [line["id"] for line in titled if set("_{}") & set(line["attributes"]["title"])]
    for board in DASHBOARDS:
        titles = [OBJECTS.by_id[one["type"], one["id"]]["attributes"]["title"] for one in board["references"]]
        assert len(titles) == len(set(titles))


@pytest.mark.parametrize(
    ("is_filled", "aggregations"),
    [
        (True, {"1": {"value": 0.0}}),
        (True, {"2": {"buckets": [{"key": "a", "1": {"value": None}}, {"key": "b", "1": {"value": 2.0}}]}}),
        (False, {"1": {"value": None}}),
        (False, {"2": {"buckets": []}}),
        (False, {"2": {"buckets": [{"key": "a", "1": {"value": None}}]}}),
        (False, {"1": {"value": 3.0}, "2": {"values": [{"key": 50.0, "value": None}]}}),
        (False, {"2": {"buckets": [{"key": "a", "3": {"buckets": []}}]}}),
    ],
)
def test_answer_without_values_is_no_answer(is_filled: bool, aggregations: dict[str, object]) -> None:
    """What the integration test calls rows: a bucket, and a value of each metric in it."""
    answer = {"hits": {"total": {"value": 5}, "hits": []}, "aggregations": aggregations}
    assert is_filled == has_rows(answer, {"size": 0})
    assert not has_rows(answer | {"hits": {"total": {"value": 0}, "hits": []}}, {"size": 0})
