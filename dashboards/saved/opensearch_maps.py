"""The map of vehicles: points over degrees, drawn by Vega without tiles; a closed network has no tile server."""

from typing import Final

from dashboards.saved.opensearch_panels import Drawn, Json
from processors.indexing.plan import LOCATION, IndexedTable

_VEHICLES_MAX: Final = 5000
"""Points drawn, those heard last; OpenSearch returns at most 10,000 documents to a search."""
_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v5.json"
_STREAM: Final = "vehicle_telemetry"
_SOC: Final = f"value.{_STREAM}.soc_pct"
_SPEED: Final = f"value.{_STREAM}.speed_kmh"


def positions(devices: IndexedTable) -> Drawn:
    """Return where each vehicle was last, coloured by its state of charge.

    Vega takes the dashboard's filters and time through the words between % (src/plugins/vis_type_vega/public/
    data_model/opensearch_query_parser.ts of OpenSearch Dashboards).
    """
    query: Json = {
        "bool": {
            "must": ["%dashboard_context-must_clause%"],
            "must_not": ["%dashboard_context-must_not_clause%"],
            "filter": [
                "%dashboard_context-filter_clause%",
                {"range": {devices.time_field: {"%timefilter%": True}}},
                {"term": {"stream": _STREAM}},
                {"exists": {"field": LOCATION}},
            ],
        }
    }
    body: Json = {
        "size": _VEHICLES_MAX,
        "_source": ["tenant", "device_id", "measured_at", LOCATION, _SOC, _SPEED],
        "sort": [{devices.time_field: "desc"}],
        "query": query,
    }
    spec: Json = {
        "$schema": _SCHEMA,
        "data": {"url": {"index": devices.pattern, "body": body}, "format": {"property": "hits.hits"}},
        "transform": [
            {"calculate": f"datum._source.{LOCATION}.lon", "as": "longitude"},
            {"calculate": f"datum._source.{LOCATION}.lat", "as": "latitude"},
            {"calculate": "datum._source.device_id", "as": "vehicle"},
            {"calculate": "datum._source.measured_at", "as": "measured at"},
            {"calculate": f"datum._source.{_SOC}", "as": "SoC, %"},
            {"calculate": f"datum._source.{_SPEED}", "as": "speed, km/h"},
        ],
        "mark": {"type": "circle", "size": 60, "opacity": 0.8},
        "encoding": {
            "x": _degrees("longitude"),
            "y": _degrees("latitude"),
            "color": {
                "field": "SoC, %",
                "type": "quantitative",
                "scale": {"scheme": "redyellowgreen", "domain": [0, 100]},
            },
            "tooltip": [{"field": name} for name in ("vehicle", "measured at", "SoC, %", "speed, km/h")],
        },
    }
    return Drawn(
        name="positions",
        title="Newest positions",
        spec=spec,
        about="Where each vehicle was last, by degrees, north up and without tiles; the colour is its state of charge.",
    )


def _degrees(name: str) -> Json:
    # A depot is some metres wide, so neither axis begins at zero.
    return {
        "field": name,
        "type": "quantitative",
        "scale": {"zero": False, "padding": 20},
        "title": f"{name}, degrees",
    }
