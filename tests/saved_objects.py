"""Saved objects of OpenSearch Dashboards, read back from their file, and the searches that Dashboards makes of them.

The searches are those of OpenSearch Dashboards as far as our panels use it: src/plugins/data/common/search
(search_source, aggs/buckets, aggs/metrics), and of Vega src/plugins/vis_type_vega/public/data_model/
opensearch_query_parser.ts.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from dashboards.saved.opensearch_objects import saved_objects, to_ndjson
from processors.contracts.load import load_contracts
from processors.indexing.plan import IndexedTable, index_plan
from processors.stages.chain import Chain

Json = dict[str, Any]
PREFIX: Final = "voltgate"
_BARS: Final = 50
_CONTEXT: Final = "%dashboard_context-"


def built_in_plan(prefix: str = PREFIX) -> tuple[IndexedTable, ...]:
    """Return what is indexed of the built-in contracts."""
    contracts = load_contracts([])
    return index_plan(contracts, Chain(contracts).schemas, prefix=prefix)


def built_in_file(prefix: str = PREFIX) -> str:
    """Return the file that is generated of them."""
    return to_ndjson(saved_objects(built_in_plan(prefix), prefix=prefix))


class Search(NamedTuple):
    """What a panel asks.

    Attributes:
        panel: Its id.
        index: Where it searches.
        body: Body of the search.
        fields: Fields it names.
    """

    panel: str
    index: str
    body: Json
    fields: tuple[str, ...]


class Objects:
    """The objects of a file, by type and id."""

    def __init__(self, ndjson: str) -> None:
        self.lines: list[Json] = [json.loads(line) for line in ndjson.splitlines()]
        self.by_id = {(line["type"], line["id"]): line for line in self.lines}

    def of(self, kind: str) -> list[Json]:
        """Return the objects of a type."""
        return [line for line in self.lines if line["type"] == kind]

    def pattern(self, line: Json) -> Json:
        """Return the index pattern that a panel searches."""
        (found,) = {one["id"] for one in line["references"] if one["type"] == "index-pattern"}
        return self.by_id["index-pattern", found]

    def fields(self, pattern: Json) -> dict[str, Json]:
        """Return the fields of an index pattern by name."""
        return {field["name"]: field for field in json.loads(pattern["attributes"]["fields"])}

    def searches(self, begin: datetime, end: datetime) -> Iterator[Search]:
        """Yield what each panel asks about a span of time; text panels ask nothing."""
        for line in self.of("visualization"):
            state = json.loads(line["attributes"]["visState"])
            if state["type"] == "vega":
                yield _vega(line["id"], json.loads(state["params"]["spec"]), begin, end)
            elif state["type"] != "markdown":
                yield self._aggregated(line, state["aggs"], begin, end)
        for line in self.of("search"):
            yield self._listed(line, begin, end)

    def _aggregated(self, line: Json, aggs: Sequence[Json], begin: datetime, end: datetime) -> Search:
        pattern = self.pattern(line)
        body = self._query(line, pattern, begin, end) | {"size": 0}
        metrics = [agg for agg in aggs if agg["schema"] == "metric"]
        buckets = [agg for agg in aggs if agg["schema"] != "metric"]
        fields = self.fields(pattern)
        if nested := _nested(buckets, metrics, fields, end - begin):
            body["aggs"] = nested
        named = [agg["params"]["field"] for agg in aggs if "field" in agg["params"]]
        return Search(line["id"], pattern["attributes"]["title"], body, (*named, *self._filtered(line)))

    def _listed(self, line: Json, begin: datetime, end: datetime) -> Search:
        pattern = self.pattern(line)
        attributes = line["attributes"]
        sort = [{name: {"order": order, "unmapped_type": "boolean"}} for name, order in attributes["sort"]]
        body = self._query(line, pattern, begin, end) | {"size": 500, "sort": sort, "version": True}
        named = (*attributes["columns"], *(name for name, _ in attributes["sort"]), *self._filtered(line))
        return Search(line["id"], pattern["attributes"]["title"], body, named)

    def _filtered(self, line: Json) -> list[str]:
        return [one["meta"]["key"] for one in _source(line)["filter"]]

    def _query(self, line: Json, pattern: Json, begin: datetime, end: datetime) -> Json:
        clauses: dict[bool, list[Json]] = {True: [], False: [{"match_all": {}}]}
        for one in _source(line)["filter"]:
            clauses[one["meta"]["negate"]].append(one["query"])
        time_field = pattern["attributes"]["timeFieldName"]
        clauses[False].append({"range": {time_field: _range(begin, end)}})
        fields = self.fields(pattern)
        return {
            "query": {"bool": {"must": [], "filter": clauses[False], "should": [], "must_not": clauses[True]}},
            "stored_fields": ["*"],
            "script_fields": {
                name: {"script": {"source": field["script"], "lang": field["lang"]}}
                for name, field in fields.items()
                if field["scripted"]
            },
            "docvalue_fields": [
                {"field": name, "format": "date_time"} for name, field in fields.items() if field["type"] == "date"
            ],
        }


def _source(line: Json) -> Json:
    source: Json = json.loads(line["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
    return source


def _range(begin: datetime, end: datetime) -> Json:
    return {"gte": begin.isoformat(), "lte": end.isoformat(), "format": "strict_date_optional_time"}


def _nested(buckets: Sequence[Json], metrics: Sequence[Json], fields: dict[str, Json], span: timedelta) -> Json:
    """Return buckets inside each other; a metric is in the innermost, and where it orders one."""
    values = {agg["id"]: one for agg in metrics if (one := _metric(agg, fields))}
    if not buckets:
        return values
    (bucket, *inner), by_count = buckets, {agg["id"] for agg in metrics if agg["type"] == "count"}
    params = bucket["params"]
    asked = _value(params["field"], fields)
    within = _nested(inner, metrics, fields, span)
    match bucket["type"]:
        case "date_histogram":
            if params["interval"] == "auto":
                every = {"fixed_interval": f"{max(1, int(span.total_seconds()) // _BARS)}s"}
            else:
                every = {"calendar_interval": f"1{params['interval']}"}
            asked |= every | {"time_zone": "UTC", "min_doc_count": params["min_doc_count"]}
        case "histogram":
            asked |= {"interval": params["interval"], "min_doc_count": 1}
        case "terms":
            by = params["orderBy"]
            asked |= {"size": params["size"], "order": {"_count" if by in by_count else by: params["order"]}}
            if by in values:
                within = within | {by: values[by]}
            if params["missingBucket"] and fields[params["field"]]["type"] == "string":
                asked["missing"] = "__missing__"
    return {bucket["id"]: {bucket["type"]: asked, **({"aggs": within} if within else {})}}


def _metric(agg: Json, fields: dict[str, Json]) -> Json:
    """Return a metric aggregation; nothing for the count, which every bucket has."""
    if agg["type"] == "count":
        return {}
    asked = _value(agg["params"]["field"], fields)
    if agg["type"] == "percentiles":
        asked |= {"percents": agg["params"]["percents"], "keyed": False}
    return {agg["type"]: asked}


def _value(name: str, fields: dict[str, Json]) -> Json:
    field = fields[name]
    if field["scripted"]:
        return {"script": {"source": field["script"], "lang": field["lang"]}}
    return {"field": name}


def _vega(panel: str, spec: Json, begin: datetime, end: datetime) -> Search:
    """Return what Vega asks, on a dashboard without filters."""
    url = spec["data"]["url"]
    body = _without_context(url["body"], begin, end)
    named = {*body["_source"], *(name for one in body["sort"] for name in one)}
    for clause in body["query"]["bool"]["filter"]:
        for kind, value in clause.items():
            named.add(value["field"] if kind == "exists" else next(iter(value)))
    return Search(panel, url["index"], body, tuple(sorted(named)))


def _without_context(value: Any, begin: datetime, end: datetime) -> Any:
    if isinstance(value, list):
        kept = [one for one in value if not (isinstance(one, str) and one.startswith(_CONTEXT))]
        return [_without_context(one, begin, end) for one in kept]
    if value == {"%timefilter%": True}:
        return _range(begin, end)
    if isinstance(value, dict):
        return {name: _without_context(one, begin, end) for name, one in value.items()}
    return value


def has_rows(answer: Json, body: Json) -> bool:
    """Return whether an answer shows anything: documents, a bucket, and in it every metric with a value."""
    if body["size"]:
        return bool(answer["hits"]["hits"])
    return answer["hits"]["total"]["value"] > 0 and _is_filled(answer.get("aggregations", {}))


def _is_filled(aggregations: Json) -> bool:
    for one in aggregations.values():
        if not isinstance(one, dict):
            continue
        if "buckets" in one:
            if not one["buckets"] or not any(_is_filled(bucket) for bucket in one["buckets"]):
                return False
        elif "values" in one:
            if not any(value["value"] is not None for value in one["values"]):
                return False
        elif "value" in one and one["value"] is None:
            return False
    return True
