"""What a panel of OpenSearch Dashboards shows: metrics over buckets of one table, and how it is drawn.

Only the parts of a classic visualisation that our panels need, under their names there: `visState` is
`{title, type, params, aggs}`, and an aggregation is `{id, enabled, type, schema, params}`. The form is that of the
sample objects that OpenSearch Dashboards brings along (src/plugins/home/server/services/sample_data/data_sets/flights/
saved_objects.ts); panels take the colours of the theme, light or dark.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from processors.indexing.plan import IndexedTable

Json = dict[str, Any]
Drawing = Literal["metric", "line", "area", "histogram", "horizontal_bar", "pie", "table", "heatmap"]

_TERMS_MAX: Final = 20
"""Values shown of a field where nobody says how many."""
_NO_VALUE: Final = "__missing__"


class Metric(msgspec.Struct, frozen=True):
    """A number of each bucket."""

    type: Literal["count", "sum", "avg", "min", "max", "cardinality", "percentiles"]
    label: str
    field: str = ""
    percents: tuple[int, ...] = ()


class Bucket(msgspec.Struct, frozen=True):
    """What documents are grouped by.

    Attributes:
        type: Aggregation.
        field: What is grouped by; of time empty for the table's own time.
        label: What people read.
        interval: Of time `auto`, `h` or `d`; of numbers the width of a bucket.
        size: Of terms, how many at most.
        by: Of terms, the place of the metric that orders them; None where that is the value itself.
        order: Of terms, which end comes first.
        none: Of terms, what documents without a value are called; empty where they are left out.
    """

    type: Literal["date_histogram", "histogram", "terms"]
    field: str
    label: str
    interval: str | float = "auto"
    size: int = _TERMS_MAX
    by: int | None = 0
    order: Literal["asc", "desc"] = "desc"
    none: str = ""


class Filter(msgspec.Struct, frozen=True):
    """Which documents a panel is about: those whose field has one of the values, or any value where none is named."""

    field: str
    values: tuple[str | int, ...] = ()
    is_not: bool = False


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A panel that Dashboards draws from one search.

    Attributes:
        name: Ends its id; unique in its dashboard.
        title: What people read above it.
        table: Table whose index it searches.
        drawing: How it is drawn.
        metrics: Numbers, at least one.
        buckets: Groups, outermost first: of lines and bars x and then series, of heat maps x and then y.
        filters: Which documents it is about.
        about: A sentence on what it shows or leaves out; may be empty.
    """

    name: str
    title: str
    table: str
    drawing: Drawing
    metrics: tuple[Metric, ...]
    buckets: tuple[Bucket, ...] = ()
    filters: tuple[Filter, ...] = ()
    about: str = ""


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """A panel that lists documents, the newest first."""

    name: str
    title: str
    table: str
    columns: tuple[str, ...]
    filters: tuple[Filter, ...] = ()
    about: str = ""


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """A panel that Vega draws; `spec` has the names of indices already."""

    name: str
    title: str
    spec: Json
    about: str = ""


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """A panel of Markdown."""

    name: str
    title: str
    markdown: str
    about: str = ""


Panel = Chart | Rows | Drawn | Words


# ---- short words for the above ---------------------------------------------------------------------------------------


def count(label: str) -> Metric:
    """Return how many documents there are."""
    return Metric("count", label)


def total(field: str, label: str) -> Metric:
    """Return the sum of a field."""
    return Metric("sum", label, field)


def mean(field: str, label: str) -> Metric:
    """Return the mean of a field."""
    return Metric("avg", label, field)


def lowest(field: str, label: str) -> Metric:
    """Return the lowest value of a field."""
    return Metric("min", label, field)


def highest(field: str, label: str) -> Metric:
    """Return the highest value of a field."""
    return Metric("max", label, field)


def distinct(field: str, label: str) -> Metric:
    """Return how many different values a field has; beyond some thousand it is an estimate."""
    return Metric("cardinality", label, field)


def percentiles(field: str, label: str, *percents: int) -> Metric:
    """Return the values that so many percent of the documents stay below; estimates."""
    return Metric("percentiles", label, field, percents)


def by_time(label: str = "time", *, every: str = "auto") -> Bucket:
    """Group by the table's time; `every` is `auto`, `h` or `d`."""
    return Bucket("date_histogram", "", label, every)


def by_number(field: str, label: str, *, width: float) -> Bucket:
    """Group by ranges of a number."""
    return Bucket("histogram", field, label, width)


def by(
    field: str,
    label: str,
    *,
    size: int = _TERMS_MAX,
    metric: int | None = 0,
    lowest_first: bool = False,
    none: str = "",
) -> Bucket:
    """Group by the values of a field, ordered by the metric at a place, or by themselves where that is None."""
    order: Literal["asc", "desc"] = "asc" if lowest_first or metric is None else "desc"
    return Bucket("terms", field, label, size=size, by=metric, order=order, none=none)


def where(field: str, *values: str | int) -> Filter:
    """Keep documents whose field has one of the values; any value where none is named."""
    return Filter(field, values)


def where_not(field: str, *values: str | int) -> Filter:
    """Leave out what `where` keeps."""
    return Filter(field, values, is_not=True)


# ---- in the words of Dashboards --------------------------------------------------------------------------------------


def to_vis_state(chart: Chart, table: IndexedTable) -> Json:
    """Return the `visState` of a chart."""
    aggs = [_metric(place, metric) for place, metric in enumerate(chart.metrics, 1)]
    schemas = _schemas(chart.drawing, len(chart.buckets))
    for place, (bucket, schema) in enumerate(zip(chart.buckets, schemas, strict=True), len(aggs) + 1):
        aggs.append(_bucket(place, bucket, schema, table))
    return {"title": chart.title, "type": chart.drawing, "params": _params(chart), "aggs": aggs}


def to_filters(filters: Sequence[Filter]) -> list[Json]:
    """Return filters as a search source carries them; the reference to its index pattern is by name, one a filter."""
    found = []
    for place, one in enumerate(filters):
        meta: Json = {
            "alias": None,
            "disabled": False,
            "indexRefName": filter_reference(place),
            "key": one.field,
            "negate": one.is_not,
        }
        query: Json = {"match_phrase": {one.field: one.values[0]}} if one.values else {"exists": {"field": one.field}}
        match one.values:
            case []:
                meta |= {"type": "exists", "value": "exists"}
            case [value]:
                meta |= {"type": "phrase", "params": {"query": value}}
            case _:
                meta |= {"type": "phrases", "params": list(one.values), "value": ", ".join(map(str, one.values))}
                phrases = [{"match_phrase": {one.field: value}} for value in one.values]
                query = {"bool": {"should": phrases, "minimum_should_match": 1}}
        found.append({"$state": {"store": "appState"}, "meta": meta, "query": query})
    return found


def filter_reference(place: int) -> str:
    """Return the name under which the filter at a place refers to its index pattern."""
    return f"kibanaSavedObjectMeta.searchSourceJSON.filter[{place}].meta.index"


def _metric(place: int, metric: Metric) -> Json:
    params: Json = {"customLabel": metric.label}
    if metric.field:
        params["field"] = metric.field
    if metric.percents:
        params["percents"] = list(metric.percents)
    return {"id": str(place), "enabled": True, "type": metric.type, "schema": "metric", "params": params}


def _bucket(place: int, bucket: Bucket, schema: str, table: IndexedTable) -> Json:
    params: Json = {"field": bucket.field or table.time_field, "customLabel": bucket.label}
    match bucket.type:
        case "terms":
            params |= {
                "size": bucket.size,
                "order": bucket.order,
                "orderBy": "_key" if bucket.by is None else str(bucket.by + 1),
                "otherBucket": False,
                "otherBucketLabel": "Other",
                "missingBucket": bool(bucket.none),
                "missingBucketLabel": bucket.none or _NO_VALUE,
            }
        case "histogram":
            params |= {"interval": bucket.interval, "min_doc_count": False, "has_extended_bounds": False}
            params["extended_bounds"] = {"min": "", "max": ""}
        case "date_histogram":
            params |= {
                "interval": bucket.interval,
                "min_doc_count": 1,
                "drop_partials": False,
                "extended_bounds": {},
            }
    return {"id": str(place), "enabled": True, "type": bucket.type, "schema": schema, "params": params}


def _schemas(drawing: Drawing, buckets: int) -> list[str]:
    """Return the part that each bucket plays in a drawing."""
    match drawing:
        case "pie":
            return ["segment"] * buckets
        case "table":
            return ["bucket"] * buckets
        case "metric":
            return ["group"] * buckets
        case _:
            return ["segment", "group"][:buckets]


def _params(chart: Chart) -> Json:
    match chart.drawing:
        case "metric":
            return _METRIC_PARAMS
        case "pie":
            labels = {"show": True, "values": True, "last_level": True, "truncate": 100}
            return {"type": "pie", "isDonut": True, "labels": labels, **_LEGEND}
        case "table":
            return {
                "perPage": 10,
                "showPartialRows": False,
                "showMetricsAtAllLevels": False,
                "sort": {"columnIndex": None, "direction": None},
                "showTotal": False,
                "totalFunc": "sum",
                "percentageCol": "",
            }
        case "heatmap":
            return _HEATMAP_PARAMS
        case _:
            return _axes(chart)


def _axes(chart: Chart) -> Json:
    """Return how lines, areas and bars are drawn; bars of one bucket stand on each other."""
    is_flat = chart.drawing == "horizontal_bar"
    kind = "histogram" if is_flat else chart.drawing
    mode = "normal" if chart.drawing == "line" else "stacked"
    series = [
        {
            "show": True,
            "type": kind,
            "mode": mode,
            "data": {"id": str(place), "label": metric.label},
            "valueAxis": "ValueAxis-1",
            "drawLinesBetweenPoints": True,
            "lineWidth": 2,
            "interpolate": "linear",
            "showCircles": True,
        }
        for place, metric in enumerate(chart.metrics, 1)
    ]
    # A temperature or a voltage that begins at zero is a straight line.
    scale: Json = {"type": "linear", "mode": "normal"}
    if chart.drawing == "line":
        scale["defaultYExtents"] = True
    category: Mapping[str, Any] = {
        "id": "CategoryAxis-1",
        "type": "category",
        "position": "left" if is_flat else "bottom",
        "show": True,
        "style": {},
        "scale": {"type": "linear"},
        "labels": {"show": True, "filter": True, "truncate": 100},
        "title": {},
    }
    value: Mapping[str, Any] = {
        "id": "ValueAxis-1",
        "name": "BottomAxis-1" if is_flat else "LeftAxis-1",
        "type": "value",
        "position": "bottom" if is_flat else "left",
        "show": True,
        "style": {},
        "scale": scale,
        "labels": {"show": True, "rotate": 0, "filter": is_flat, "truncate": 100},
        "title": {"text": chart.metrics[0].label if len(chart.metrics) == 1 else ""},
    }
    return {
        "type": kind,
        "grid": {"categoryLines": False},
        "categoryAxes": [category],
        "valueAxes": [value],
        "seriesParams": series,
        "times": [],
        "addTimeMarker": False,
        "labels": {},
        "thresholdLine": {"show": False, "value": 10, "width": 1, "style": "full", "color": "#E7664C"},
        **_LEGEND,
    }


_LEGEND: Final[Json] = {"addTooltip": True, "addLegend": True, "legendPosition": "right"}
_METRIC_PARAMS: Final[Json] = {
    "addTooltip": True,
    "addLegend": False,
    "type": "metric",
    "metric": {
        "percentageMode": False,
        "useRanges": False,
        "colorSchema": "Green to Red",
        "metricColorMode": "None",
        "colorsRange": [{"from": 0, "to": 10000}],
        "labels": {"show": True},
        "invertColors": False,
        "style": {"bgFill": "#000", "bgColor": False, "labelColor": False, "subText": "", "fontSize": 32},
    },
}
_HEATMAP_PARAMS: Final[Json] = {
    "type": "heatmap",
    "enableHover": False,
    "times": [],
    "colorsNumber": 6,
    "colorSchema": "Yellow to Red",
    "setColorRange": False,
    "colorsRange": [],
    "invertColors": False,
    "percentageMode": False,
    "valueAxes": [
        {
            "show": False,
            "id": "ValueAxis-1",
            "type": "value",
            "scale": {"type": "linear", "defaultYExtents": False},
            "labels": {"show": False, "rotate": 0, "overwriteColor": False, "color": "black"},
        }
    ],
    **_LEGEND,
}
