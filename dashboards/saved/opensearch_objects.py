"""Saved objects of OpenSearch Dashboards: index patterns, visualisations, searches and dashboards, as one NDJSON file.

Everything follows from what is indexed (`processors.indexing.plan`): which patterns there are, their fields and types.
One file serves Dashboards 2.19 and 3.x. In `migrationVersion` an object names the last migration of its type, which is
the same in both; a newer one would be refused. In opensearch-project/OpenSearch-Dashboards below src/plugins these are
7.9.3 in dashboard/server/saved_objects/dashboard_migrations.ts and discover/server/saved_objects/search_migrations.ts,
7.10.0 in visualizations/server/saved_objects/visualization_migrations.ts, and 7.6.0 in
data/server/saved_objects/index_pattern_migrations.ts.

Ids are made of names, and no object carries a time, so that the same input gives the same file and an import overwrites
what an earlier one brought.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from dashboards.saved.opensearch_boards import Board
from dashboards.saved.opensearch_panels import (
    Chart,
    Drawn,
    Filter,
    Json,
    Panel,
    Rows,
    Words,
    filter_reference,
    to_filters,
    to_vis_state,
)
from dashboards.saved.opensearch_results import alerts, data_quality, sessions
from dashboards.saved.opensearch_scripts import DURATION_FORMAT, SCRIPTS, Script
from dashboards.saved.opensearch_things import battery_health, charging_infrastructure, fleet_overview
from processors.indexing.plan import DEVICE_AT, DEVICES, IndexedTable, IndexField

FILE: Final = "voltgate.ndjson"
"""Name of the committed file, in the directory `opensearch` beside this module: built-in contracts, usual prefix."""
COLUMNS: Final = 48
"""Columns of a dashboard's grid."""

_MIGRATIONS: Final = {"index-pattern": "7.6.0", "visualization": "7.10.0", "search": "7.9.3", "dashboard": "7.9.3"}
_PANEL_VERSION: Final = "7.9.3"
_SEARCH_INDEX: Final = "kibanaSavedObjectMeta.searchSourceJSON.index"
_TYPES: Final[Mapping[str, str]] = {
    "keyword": "string",
    "text": "string",
    "double": "number",
    "long": "number",
    "boolean": "boolean",
    "date": "date",
    "geo_point": "geo_point",
}
_META_FIELDS: Final = ("_id", "_index", "_score", "_source")
"""Fields that every document has, as Dashboards lists them (its setting metaFields)."""
_REFRESH_MS: Final = 60_000
_NAVIGATION: Final = "navigation"


class SavedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file.

    Attributes:
        type: `index-pattern`, `visualization`, `search` or `dashboard`.
        id: Unique, made of names.
        attributes: What the type has; text in `*JSON`, `visState`, `fields` and `fieldFormatMap` is JSON itself.
        references: (name, type, id) of objects it needs.
    """

    type: str
    id: str
    attributes: Json
    references: tuple[tuple[str, str, str], ...] = ()

    def to_line(self) -> str:
        """Return it as JSON, keys in a fixed order."""
        references = [{"id": id_, "name": name, "type": kind} for name, kind, id_ in self.references]
        line = {
            "attributes": self.attributes,
            "id": self.id,
            "migrationVersion": {self.type: _MIGRATIONS[self.type]},
            "references": references,
            "type": self.type,
        }
        return json.dumps(line, sort_keys=True, ensure_ascii=False)


def saved_objects(plan: Sequence[IndexedTable], *, prefix: str) -> list[SavedObject]:
    """Return all objects, each behind those it refers to.

    Args:
        plan: What is indexed, with the same prefix; `index_plan` of contracts that include the built-in ones.
        prefix: Begins the id of every object, so that two installations can share one Dashboards.
    """
    tables = {table.table: table for table in plan}
    objects = [_pattern(table) for table in plan]
    things = (fleet_overview(tables[DEVICES]), battery_health(), charging_infrastructure())
    boards = (*things, sessions(), alerts(), data_quality())
    objects.append(_visualisation(f"{prefix}-{_NAVIGATION}", _navigation(boards, prefix), tables))
    for board in boards:
        objects += [_panel(f"{prefix}-{board.name}-{panel.name}", panel, tables) for panel, _ in board.panels()]
        objects.append(_dashboard(board, prefix))
    return objects


def to_ndjson(objects: Sequence[SavedObject]) -> str:
    """Return the file that Dashboards imports, one object a line."""
    return "".join(f"{one.to_line()}\n" for one in objects)


# ---- index patterns --------------------------------------------------------------------------------------------------


def _pattern(table: IndexedTable) -> SavedObject:
    """Return the pattern of a table's indices.

    When a device's values were measured is left out. Dashboards asks for every date field of a pattern with each
    search, and OpenSearch gives at most 100 (`index.max_docvalue_fields_search`). Documents show these times anyway.
    """
    scripts = SCRIPTS.get(table.table, ())
    fields = [line for field in table.fields if not field.name.startswith(DEVICE_AT) for line in _fields(field)]
    fields += map(_scripted, scripts)
    fields += [_meta_field(name) for name in _META_FIELDS]
    durations = [field.name for field in table.fields if field.type == "double" and field.name.endswith("_s")]
    durations += [script.name for script in scripts if script.name.endswith("_s")]
    attributes = {
        "title": table.pattern,
        "timeFieldName": table.time_field,
        # Named here, so that a pattern is whole before its first index is.
        "fields": _text(sorted(fields, key=lambda field: str(field["name"]))),
        "fieldFormatMap": _text(dict.fromkeys(durations, DURATION_FORMAT)),
    }
    return SavedObject(type="index-pattern", id=table.index, attributes=attributes)


def _fields(field: IndexField) -> Iterator[Json]:
    # What is stored only has neither an index nor doc values: Dashboards may show it, and nothing else.
    yield _listed(field.name, field.type, is_found=not field.is_stored_only, is_counted=not field.is_stored_only)
    if field.is_searched:
        multi = {"subType": {"multi": {"parent": field.name}}}
        yield _listed(f"{field.name}.text", "text", is_found=True, is_counted=False) | multi


def _listed(name: str, kind: str, *, is_found: bool, is_counted: bool) -> Json:
    return {
        "name": name,
        "type": _TYPES[kind],
        "esTypes": [kind],
        "count": 0,
        "scripted": False,
        "searchable": is_found,
        "aggregatable": is_counted,
        "readFromDocValues": is_counted,
    }


def _scripted(script: Script) -> Json:
    return {
        "name": script.name,
        "type": "number",
        "count": 0,
        "scripted": True,
        "script": script.source,
        "lang": "painless",
        "searchable": True,
        "aggregatable": True,
        "readFromDocValues": False,
    }


def _meta_field(name: str) -> Json:
    is_found = name in {"_id", "_index"}
    kinds: Mapping[str, str] = {"_score": "number", "_source": "_source"}
    found: Json = {
        "name": name,
        "type": kinds.get(name, "string"),
        "count": 0,
        "scripted": False,
        "searchable": is_found,
        "aggregatable": is_found,
        "readFromDocValues": False,
    }
    if name != "_score":
        found["esTypes"] = [name]
    return found


# ---- panels ----------------------------------------------------------------------------------------------------------


def _panel(id_: str, panel: Panel, tables: Mapping[str, IndexedTable]) -> SavedObject:
    return _search(id_, panel, tables) if isinstance(panel, Rows) else _visualisation(id_, panel, tables)


def _visualisation(id_: str, panel: Chart | Drawn | Words, tables: Mapping[str, IndexedTable]) -> SavedObject:
    source: Json = {"query": {"language": "kuery", "query": ""}, "filter": []}
    references: tuple[tuple[str, str, str], ...] = ()
    params: Json
    match panel:
        case Chart():
            table = tables[panel.table]
            state = to_vis_state(panel, table)
            source, references = _source(panel.filters, table)
        case Drawn():
            params = {"spec": json.dumps(panel.spec, indent=2, sort_keys=True, ensure_ascii=False)}
            state = {"title": panel.title, "type": "vega", "params": params, "aggs": []}
        case Words():
            params = {"markdown": panel.markdown, "fontSize": 12, "openLinksInNewTab": False}
            state = {"title": panel.title, "type": "markdown", "params": params, "aggs": []}
    attributes = {
        "title": panel.title,
        "description": panel.about,
        "visState": _text(state),
        "uiStateJSON": "{}",
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": _text(source)},
    }
    return SavedObject(type="visualization", id=id_, attributes=attributes, references=references)


def _search(id_: str, panel: Rows, tables: Mapping[str, IndexedTable]) -> SavedObject:
    table = tables[panel.table]
    source, references = _source(panel.filters, table)
    attributes = {
        "title": panel.title,
        "description": panel.about,
        "columns": list(panel.columns),
        "sort": [[table.time_field, "desc"]],
        "hits": 0,
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": _text({"highlightAll": True, "version": True} | source)},
    }
    return SavedObject(type="search", id=id_, attributes=attributes, references=references)


def _source(filters: Sequence[Filter], table: IndexedTable) -> tuple[Json, tuple[tuple[str, str, str], ...]]:
    source = {
        "query": {"language": "kuery", "query": ""},
        "filter": to_filters(filters),
        "indexRefName": _SEARCH_INDEX,
    }
    names = [_SEARCH_INDEX, *map(filter_reference, range(len(filters)))]
    return source, tuple((name, "index-pattern", table.index) for name in names)


# ---- dashboards ------------------------------------------------------------------------------------------------------


def _dashboard(board: Board, prefix: str) -> SavedObject:
    placed = [(f"{prefix}-{_NAVIGATION}", "visualization", (0, 0, COLUMNS, board.navigation_height))]
    for panel, place in board.panels():
        kind = "search" if isinstance(panel, Rows) else "visualization"
        placed.append((f"{prefix}-{board.name}-{panel.name}", kind, place))
    panels = []
    for number, (_, _, (x, y, w, h)) in enumerate(placed):
        # The links need no title of their own.
        config = {"hidePanelTitles": True} if number == 0 else {}
        panels.append(
            {
                "version": _PANEL_VERSION,
                "panelIndex": str(number),
                "gridData": {"x": x, "y": y, "w": w, "h": h, "i": str(number)},
                "embeddableConfig": config,
                "panelRefName": f"panel_{number}",
            }
        )
    attributes = {
        "title": board.title,
        "description": board.about,
        "hits": 0,
        "version": 1,
        "panelsJSON": _text(panels),
        "optionsJSON": _text({"useMargins": True, "hidePanelTitles": False}),
        "timeRestore": True,
        "timeFrom": board.time_from,
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": _REFRESH_MS},
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": _text({"query": {"language": "kuery", "query": ""}, "filter": []})
        },
    }
    references = tuple((f"panel_{number}", kind, id_) for number, (id_, kind, _) in enumerate(placed))
    return SavedObject(type="dashboard", id=f"{prefix}-{board.name}", attributes=attributes, references=references)


def _navigation(boards: Sequence[Board], prefix: str) -> Words:
    links = " · ".join(f"[{board.short_title}](#/view/{prefix}-{board.name})" for board in boards)
    return Words(name=_NAVIGATION, title="Voltgate: dashboards", markdown=links, about="Links between the dashboards.")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
