"""What OpenSearch is told about an index: mapping, index template, life time. Plain values, ready for JSON.

Mappings are strict: a document with a field that nobody declared is refused, and that is a reject with a reason instead
of a field whose type was guessed from its first value.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from gateway.core.limits import INDEX_FIELDS_MIN, KEYWORD_CHARS_MAX
from processors.indexing.plan import IndexedTable, IndexField
from processors.stages.alerts import ALERTS
from processors.stages.sessions import SESSIONS

Json = dict[str, Any]

TEMPLATE_PRIORITY: Final = 500
"""Above the templates that servers and log shippers bring along (0 to 200)."""
_REFRESH: Final = "5s"
"""How soon a document is found. A second, the default, costs a segment each, and nobody looks that fast."""
_DOCVALUE_FIELDS_MIN: Final = 100
"""The server's own default."""
_DATE: Final = "strict_date_optional_time||epoch_millis"
_OPEN: Final[dict[str, dict[str, list[str]]]] = {
    ALERTS: {"state": ["firing", "acknowledged"]},
    SESSIONS: {"status": ["active"]},
}
"""What goes on is kept, however long nothing was said of it."""


def mapping(table: IndexedTable) -> Json:
    """Return the mapping of the table's indices: body of `PUT <index>/_mapping`."""
    properties: Json = {}
    for field in table.fields:
        *objects, name = field.name.split(".")
        inside = properties
        for one in objects:
            inside = inside.setdefault(one, {"dynamic": "strict", "properties": {}})["properties"]
        inside[name] = _property(field)
    return {"dynamic": "strict", "date_detection": False, "_meta": _meta(table), "properties": properties}


def template(table: IndexedTable, *, shards: int, replicas: int) -> Json:
    """Return the composable template of the table's indices: body of `PUT _index_template/<table.index>`."""
    return {
        "index_patterns": [table.pattern],
        "priority": TEMPLATE_PRIORITY,
        "_meta": {"made_by": "voltgate", "table": table.table, "version": table.version},
        "template": {
            "settings": {
                "index": {
                    "number_of_shards": shards,
                    "number_of_replicas": replicas,
                    "refresh_interval": _REFRESH,
                    # Twice what there is: a contract that grows must fit into living indices, too.
                    "mapping": {"total_fields": {"limit": max(INDEX_FIELDS_MIN, 4 * len(table.fields))}},
                    # Dashboards asks for every date of a pattern with each search, and newest values have one a field.
                    "max_docvalue_fields_search": max(_DOCVALUE_FIELDS_MIN, 2 * len(table.fields)),
                }
            },
            "mappings": mapping(table),
        },
    }


def conflicts(table: IndexedTable, existing_mapping: Mapping[str, Any]) -> list[str]:
    """Return what a living index says otherwise and cannot be told anew, one line a field; empty if it can be widened.

    Args:
        table: What is wanted.
        existing_mapping: `mappings` of the index, as `GET <index>/_mapping` gives it.
    """
    held = dict(_leaves(existing_mapping))
    wanted = dict(_leaves(mapping(table)))
    found = [
        f"field '{name}' is {held[name]} in the index and {kind} in the contract"
        for name, kind in wanted.items()
        if name in held and held[name] != kind
    ]
    for name in wanted:
        found += [
            f"'{name}' is one field in the contract, and '{other}' is in the index"
            for other in held
            if other.startswith(f"{name}.")
        ]
        found += [
            f"'{other}' is one field in the index, and '{name}' is in the contract"
            for other in held
            if name.startswith(f"{other}.")
        ]
    return found


def additions(table: IndexedTable, existing_mapping: Mapping[str, Any]) -> list[str]:
    """Return the fields that a living index lacks, in order; `PUT <index>/_mapping` with `mapping(table)` adds them."""
    held = dict(_leaves(existing_mapping))
    return [name for name, _ in _leaves(mapping(table)) if name not in held]


def ism_policy(tables: Sequence[IndexedTable], *, retention_days: int) -> Json:
    """Return a policy that deletes daily indices: body of `PUT _plugins/_ism/policies/<id>`.

    The age of an index is counted from when it was made, so one that `reindex` made anew lives that much longer.
    """
    patterns = [table.pattern for table in tables if table.day_column is not None]
    gone = {"state_name": "deleted", "conditions": {"min_index_age": f"{retention_days}d"}}
    return {
        "policy": {
            "description": f"Voltgate: daily indices are deleted after {retention_days} days",
            "default_state": "kept",
            "states": [
                {"name": "kept", "actions": [], "transitions": [gone]},
                {"name": "deleted", "actions": [{"delete": {}}], "transitions": []},
            ],
            "ism_template": [{"index_patterns": patterns, "priority": TEMPLATE_PRIORITY}],
        }
    }


def expired(table: IndexedTable, before: datetime) -> Json:
    """Return what retention deletes of an index without days: body of `POST <index>/_delete_by_query`.

    Args:
        table: The table.
        before: Documents whose row was last received earlier, UTC, go; alerts and sessions that go on stay.
    """
    query: Json = {"filter": [{"range": {"received_at": {"lt": before.isoformat()}}}]}
    if table.table in _OPEN:
        query["must_not"] = [{"terms": _OPEN[table.table]}]
    return {"query": {"bool": query}}


def _property(field: IndexField) -> Json:
    if field.type == "date":
        return {"type": "date", "format": _DATE}
    if field.is_stored_only:
        return {"type": "keyword", "index": False, "doc_values": False}
    if field.type != "keyword":
        return {"type": field.type}
    text: Json = {"fields": {"text": {"type": "text"}}} if field.is_searched else {}
    return {"type": "keyword", "ignore_above": KEYWORD_CHARS_MAX} | text


def _meta(table: IndexedTable) -> Json:
    """Return what a reader of the index may want to know, whose classes of data above all."""
    classes: dict[str, list[str]] = {}
    for field in table.fields:
        if field.classification in {"personal", "location"}:
            classes.setdefault(field.classification, []).append(field.name)
    units = {field.name: field.unit for field in table.fields if field.unit}
    return {"made_by": "voltgate", "table": table.table, "version": table.version, "units": units, **classes}


def _leaves(held: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield every field by its full name, and of its mapping what cannot change in a living index, as words."""
    for name, one in held.get("properties", {}).items():
        if "properties" in one:
            yield from _leaves(one, f"{above}{name}.")
            continue
        is_stored_only = not one.get("index", True) or not one.get("doc_values", True)
        yield f"{above}{name}", f"{one.get('type', 'object')}{' without search' if is_stored_only else ''}"
