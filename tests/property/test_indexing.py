"""Any rows become documents that say exactly what the rows say, under ids that nobody shares."""

import json
from datetime import UTC, datetime, timedelta
from math import isfinite

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.limits import DOCUMENT_ID_BYTES_MAX
from processors.contracts.load import ContractSet
from processors.indexing.documents import Bulk, to_bulks
from processors.indexing.plan import IndexedTable, index_plan
from processors.indexing.templates import additions, conflicts, mapping
from processors.stages.chain import Chain
from tests.unit.processors.indexing.plans import sample

TIME = pl.Datetime("us", "UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONTRACTS = ContractSet([sample()])
_SCHEMAS = Chain(_CONTRACTS).schemas
PLAN = {table.table: table for table in index_plan(_CONTRACTS, _SCHEMAS, prefix="vg")}

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
PARTS = st.none() | st.text("/~0a%,é", max_size=4) | st.just("part" * 200)
MICROS = st.integers(0, 4_102_444_800_000_000)
FLOATS = st.none() | st.floats() | st.floats(-90, 90)


def value_of(name: str, dtype: pl.DataType) -> st.SearchStrategy[object]:
    """Return values that a column may hold; few different ones where they make an id, so that ids come twice."""
    match name:
        case "tenant" | "device_id":
            return st.sampled_from(["a", "b", 'q"\\'])
        case "bay":
            return PARTS
        case "offset" | "record" | "revision" | "window_s":
            return st.integers(0, 3)
        case "window_start":
            return st.integers(0, 2).map(lambda n: EPOCH + timedelta(hours=13 * n))
        case "flags":
            return st.none() | st.lists(st.sampled_from(["range", "clock"]), max_size=2).map(",".join)
    if dtype == TIME:
        return MICROS.map(lambda us: EPOCH + timedelta(microseconds=us))
    if dtype.is_float():
        return FLOATS
    if dtype.is_integer():
        return st.none() | st.integers(-100, 100)
    return st.none() | (st.booleans() if dtype == pl.Boolean() else TEXTS)


def rows_of(table: str) -> st.SearchStrategy[pl.DataFrame]:
    """Return frames of a table, in any order."""
    schema = {name: dtype for name, dtype in _SCHEMAS[table].items() if name in PLAN[table].columns}
    row = st.fixed_dictionaries({name: value_of(name, dtype) for name, dtype in schema.items()})
    return st.lists(row, max_size=8).map(lambda rows: pl.DataFrame(rows, schema=schema, orient="row"))


ANY = st.sampled_from(["sample", "windows_sample"]).flatmap(lambda name: st.tuples(st.just(name), rows_of(name)))


def expected_document(table: IndexedTable, row: dict) -> dict:
    """The oracle: one row as Python values."""
    document = {}
    for field in table.fields:
        value = row.get(field.columns[0])
        if field.type == "geo_point":
            lat, lon = (row[name] for name in field.columns)
            on_earth = None not in (lat, lon) and abs(lat) <= 90 and abs(lon) <= 180
            value = {"lat": lat, "lon": lon} if on_earth else None
        elif field.is_list:
            value = value.split(",") if value else None
        elif isinstance(value, float) and not isfinite(value):
            value = None
        document[field.name] = value
    return document


def read_document(table: IndexedTable, text: bytes) -> dict:
    """Return a document with its times as times."""
    document = json.loads(text)
    for field in table.fields:
        if field.type == "date" and document[field.name] is not None:
            document[field.name] = datetime.fromisoformat(document[field.name])
    return document


def read_body(table: IndexedTable, bulk: Bulk) -> list[tuple[dict, dict]]:
    """Return (action, document) of every document of a body."""
    lines = bulk.body.split(b"\n")
    assert lines.pop() == b""
    actions = [json.loads(line)["index"] for line in lines[::2]]
    return list(zip(actions, [read_document(table, line) for line in lines[1::2]], strict=True))


@settings(max_examples=100, deadline=None)
@given(given_rows=ANY, bytes_max=st.integers(1, 6000))
def test_documents_are_the_newest_rows_of_their_ids(given_rows: tuple[str, pl.DataFrame], bytes_max: int) -> None:
    """Each key of the rows has one document, that of its last row by (offset, revision), in the index of its day."""
    table, rows = PLAN[given_rows[0]], given_rows[1]
    newest: dict[tuple, dict] = {}
    for row in sorted(rows.to_dicts(), key=lambda row: (row["offset"], row.get("revision", 0))):
        # The day is part of the key: a reading's id is its place in the journal, its day is its own.
        newest[(row[table.day_column].date(), *(row[name] for name in table.id_columns))] = row
    bulks = to_bulks(table, rows, bytes_max=bytes_max)
    found = [entry for bulk in bulks for entry in read_body(table, bulk)]
    wanted = [(f"{table.index}-{key[0]:%Y.%m.%d}", expected_document(table, row)) for key, row in newest.items()]
    in_order = sorted(wanted, key=repr)
    assert in_order == sorted(((action["_index"], document) for action, document in found), key=repr)
    assert len(newest) == len({(action["_index"], action["_id"]) for action, _ in found})
    assert all((a["version"], a["version_type"]) == (d["offset"], "external_gte") for a, d in found)
    assert all(0 < len(a["_id"].encode()) <= DOCUMENT_ID_BYTES_MAX for a, _ in found)


@settings(max_examples=50, deadline=None)
@given(given_rows=ANY, bytes_max=st.integers(1, 6000))
def test_bodies_are_bounded_and_know_their_items(given_rows: tuple[str, pl.DataFrame], bytes_max: int) -> None:
    """A body is larger than asked for only if it is one document, and says of each what its lines say."""
    table, rows = PLAN[given_rows[0]], given_rows[1]
    for bulk in to_bulks(table, rows, bytes_max=bytes_max):
        entries = read_body(table, bulk)
        assert len(bulk.body) <= bytes_max or bulk.count == 1
        assert bulk.count == len(entries)
        assert tuple(sorted({action["_index"] for action, _ in entries})) == bulk.indices
        for i, (action, document) in enumerate(entries):
            item = bulk.item(i)
            assert (action["_index"], action["_id"], action["version"]) == item[:3]
            assert document == read_document(table, item.document)


@settings(max_examples=50, deadline=None)
@given(given_rows=ANY, data=st.data())
def test_what_is_picked_is_what_was_there(given_rows: tuple[str, pl.DataFrame], data: st.DataObject) -> None:
    """Documents are the same in a request that holds some of them, again and again."""
    table, rows = PLAN[given_rows[0]], given_rows[1]
    for bulk in to_bulks(table, rows, bytes_max=100_000):
        positions = data.draw(st.lists(st.integers(0, bulk.count - 1), min_size=1, unique=True))
        picked = bulk.pick(positions)
        assert [read_body(table, bulk)[i] for i in positions] == read_body(table, picked)
        assert [bulk.item(i) for i in positions] == [picked.item(i) for i in range(picked.count)]


@given(parts=st.lists(st.tuples(TEXTS | PARTS, TEXTS | PARTS), min_size=2, max_size=8, unique=True))
def test_ids_of_different_keys_are_different(parts: list[tuple[str | None, str | None]]) -> None:
    """Joining parts by a slash mixes none of them up, whatever text they are."""
    frame = pl.DataFrame(
        [
            {
                "tenant": "acme",
                "device_id": first,
                "bay": second,
                "window_s": 60,
                "window_start": EPOCH,
                "revision": 0,
                "offset": 0,
            }
            for first, second in parts
        ],
        schema_overrides={"device_id": pl.String(), "bay": pl.String(), "window_start": TIME},
    )
    (bulk,) = to_bulks(PLAN["windows_sample"], frame, bytes_max=1_000_000)
    assert len(parts) == bulk.count


KINDS = ("float", "int", "bool", "str")
BY_KIND = {
    kind: index_plan(contracts, Chain(contracts).schemas, prefix="vg")[1]
    for kind in KINDS
    for contracts in [ContractSet([sample(("count:         {type: int}", f"count: {{type: {kind}}}"))])]
}


@given(before=st.sampled_from(KINDS), after=st.sampled_from(KINDS))
def test_a_field_conflicts_with_itself_exactly_if_its_type_changes(before: str, after: str) -> None:
    """A living index takes over a field if its type is what it was."""
    held = mapping(BY_KIND[before])
    found = conflicts(BY_KIND[after], held)
    assert (before != after) == any("'count'" in line for line in found)
    assert [] == additions(BY_KIND[after], held)
