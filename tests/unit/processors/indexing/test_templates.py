"""What OpenSearch is told about an index."""

import json
from datetime import UTC, datetime

import pytest

from processors.indexing.templates import additions, conflicts, expired, ism_policy, mapping, template
from tests.unit.processors.indexing.plans import plan_of, sample

KEYWORD = {"type": "keyword", "ignore_above": 1024}
STORED = {"type": "keyword", "index": False, "doc_values": False}


@pytest.mark.parametrize(
    ("table", "field", "expected"),
    [
        ("sample", "soc_pct", {"type": "double"}),
        ("sample", "count", {"type": "long"}),
        ("sample", "late", {"type": "long"}),
        ("sample", "active", {"type": "boolean"}),
        ("sample", "mode", KEYWORD),
        ("sample", "flags", KEYWORD),
        ("sample", "message", KEYWORD | {"fields": {"text": {"type": "text"}}}),
        ("sample", "measured_at", {"type": "date", "format": "strict_date_optional_time||epoch_millis"}),
        ("sample", "location", {"type": "geo_point"}),
        ("alert_revisions", "evidence", STORED),
        ("charging_session_revisions", "curve", STORED),
        ("charging_session_revisions", "evidence", KEYWORD),
    ],
)
def test_field_is_mapped_by_its_type(table: str, field: str, expected: object) -> None:
    """Numbers are exact, words are whole, text for people is searched, JSON is only kept."""
    plan = plan_of(sample()) if table == "sample" else plan_of()
    assert expected == mapping(plan[table])["properties"][field]


def test_mapping_is_strict_and_says_whose_data_it_holds() -> None:
    """A field that nobody declared is refused, and a reader finds contract, units and classes of data."""
    found = mapping(plan_of(sample())["sample"])
    assert ("strict", False) == (found["dynamic"], found["date_detection"])
    assert {
        "made_by": "voltgate",
        "table": "sample",
        "version": "1.2.0",
        "units": {"soc_pct": "%", "latitude_deg": "deg", "longitude_deg": "deg"},
        "location": ["latitude_deg", "longitude_deg", "location"],
        "personal": ["message"],
    } == found["_meta"]


def test_every_object_of_a_mapping_is_strict() -> None:
    """Nested objects take over no leniency from a server's default."""
    properties = mapping(plan_of(sample())["devices"])["properties"]
    assert ["strict"] * 2 == [properties[name]["dynamic"] for name in ("value", "at")]


def test_template_is_for_the_indices_of_one_table() -> None:
    """Its settings are those asked for, with room for a contract that grows."""
    plan = plan_of(sample())
    daily, single = (template(plan[name], shards=2, replicas=1) for name in ("sample", "devices"))
    assert (["vg-sample-*"], ["vg-devices"]) == (daily["index_patterns"], single["index_patterns"])
    settings = daily["template"]["settings"]["index"]
    assert (2, 1, 1000) == (
        settings["number_of_shards"],
        settings["number_of_replicas"],
        settings["mapping"]["total_fields"]["limit"],
    )
    assert mapping(plan["sample"]) == daily["template"]["mappings"]


@pytest.mark.parametrize("table", sorted(plan_of()))
def test_template_of_every_table_is_json_and_agrees_with_itself(table: str) -> None:
    """What was made from a template needs nothing and contradicts nothing."""
    indexed = plan_of()[table]
    held = json.loads(json.dumps(template(indexed, shards=1, replicas=0)))["template"]["mappings"]
    assert ([], []) == (conflicts(indexed, held), additions(indexed, held))


def test_a_contract_that_grows_widens_a_living_index() -> None:
    """New fields are named, and nothing stands against them."""
    before = mapping(plan_of(sample())["sample"])
    grown = plan_of(sample(("  mode: ", "  speed_kmh: {type: float, unit: km/h}\n  mode: ")))["sample"]
    assert ([], ["speed_kmh"]) == (conflicts(grown, before), additions(grown, before))


def test_a_field_that_is_gone_is_no_conflict() -> None:
    """An index may have more fields than its documents."""
    before = mapping(plan_of(sample())["sample"])
    shrunk = plan_of(sample(("  count:         {type: int}\n", "")))["sample"]
    assert ([], []) == (conflicts(shrunk, before), additions(shrunk, before))


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({"type": "long"}, "field 'soc_pct' is long in the index and double in the contract"),
        (
            {"type": "double", "index": False},
            "field 'soc_pct' is double without search in the index and double in the contract",
        ),
        ({"dynamic": "strict"}, "field 'soc_pct' is object in the index and double in the contract"),
        (
            {"properties": {"x": {"type": "long"}}},
            "'soc_pct' is one field in the contract, and 'soc_pct.x' is in the index",
        ),
    ],
    ids=["type", "index", "empty-object", "object"],
)
def test_a_changed_type_is_named(held: dict[str, object], expected: str) -> None:
    """What a living index cannot learn is said field by field."""
    table = plan_of(sample())["sample"]
    existing = mapping(table)
    existing["properties"]["soc_pct"] = held
    assert [expected] == conflicts(table, existing)


def test_a_field_in_place_of_an_object_is_named() -> None:
    """Every field below it is in the way."""
    table = plan_of(sample())["devices"]
    existing = mapping(table)
    existing["properties"]["at"] = {"type": "date"}
    found = conflicts(table, existing)
    assert "'at' is one field in the index, and 'at.sample.soc_pct' is in the contract" in found


def test_policy_names_daily_indices_only() -> None:
    """An index for all days is never deleted as a whole."""
    policy = ism_policy(list(plan_of(sample()).values()), retention_days=30)["policy"]
    assert ["vg-windows-sample-*", "vg-sample-*", "vg-rejects-*"] == policy["ism_template"][0]["index_patterns"]
    assert {"min_index_age": "30d"} == policy["states"][0]["transitions"][0]["conditions"]


@pytest.mark.parametrize(
    ("table", "kept"),
    [
        ("alert_revisions", [{"terms": {"state": ["firing", "acknowledged"]}}]),
        ("charging_session_revisions", [{"terms": {"status": ["active"]}}]),
        ("devices", None),
    ],
)
def test_retention_spares_what_goes_on(table: str, kept: object) -> None:
    """An alert that has been open for a year is still shown."""
    query = expired(plan_of()[table], datetime(2026, 11, 22, tzinfo=UTC))["query"]["bool"]
    assert [{"range": {"received_at": {"lt": "2026-11-22T00:00:00+00:00"}}}] == query["filter"]
    assert kept == query.get("must_not")
