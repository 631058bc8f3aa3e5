"""The dashboard for Grafana: what gateway and processors show of themselves, as JSON of schema 39. Pure."""

import json
from typing import Any, Final

import msgspec

TITLE: Final = "Voltgate"
_UID: Final = "voltgate"
_SCHEMA: Final = 39
_WIDTH: Final = 24
_HEIGHT: Final = 8
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


class Chart(msgspec.Struct, frozen=True):
    """A panel of lines.

    Attributes:
        title: What it shows.
        unit: Grafana's name of the unit.
        lines: PromQL and the legend of each.
    """

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]


def _rate(metric: str, by: str, legend: str) -> tuple[str, str]:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))", legend


def _quantile(metric: str, share: float) -> tuple[str, str]:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket[$__rate_interval])))", f"p{share * 100:g}"


ROWS: Final[tuple[tuple[str, tuple[Chart, ...]], ...]] = (
    ("Ingest", (
        Chart("Received and acknowledged", "cps", (
            _rate("voltgate_received_total", "protocol", "{{protocol}} received"),
            _rate("voltgate_acknowledged_total", "protocol", "{{protocol}} acknowledged"),
        )),
        Chart("Refused and dropped", "cps", (
            _rate("voltgate_rejected_total", "protocol, reason", "{{protocol}} rejected: {{reason}}"),
            _rate("voltgate_dropped_total", "protocol, reason", "{{protocol}} dropped: {{reason}}"),
        )),
        Chart("Connections", "short", (
            ("sum by (protocol, state) (voltgate_connections)", "{{protocol}} {{state}}"),
            ("sum by (protocol) (voltgate_logins_waiting)", "{{protocol}} logins waiting"),
        )),
        Chart("Logins refused", "cps", (
            _rate("voltgate_auth_failures_total", "protocol, reason", "{{protocol}} {{reason}}"),
        )),
        Chart("Connections ended", "cps", (
            _rate("voltgate_connections_ended_total", "protocol, reason", "{{protocol}} {{reason}}"),
        )),
        Chart("Commands", "cps", (_rate("voltgate_commands_total", "outcome", "{{outcome}}"),)),
    )),
    ("Journal", (
        Chart("Group commit", "s", tuple(
            _quantile("voltgate_ingest_journal_commit_seconds", share) for share in (0.5, 0.99)
        )),
        Chart("Size", "bytes", (("voltgate_journal_bytes", "{{journal}}"),)),
        Chart("Taken and not durable yet", "bytes", (("voltgate_journal_in_flight_bytes", "in flight"),)),
        Chart("Acknowledges", "bool_yes_no", (("voltgate_journal_durable", "durable"),)),
        Chart("Oldest message", "s", (("voltgate_journal_oldest_age_seconds", "age"),)),
        Chart("Event loop is late", "s", (_quantile("voltgate_loop_lag_seconds", 0.99),)),
    )),
    ("Processing", (
        Chart("Readings", "cps", (_rate("voltgate_rows_total", "stream", "{{stream}}"),)),
        Chart("Rejects", "cps", (_rate("voltgate_rejects_total", "stream, code", "{{stream}}: {{code}}"),)),
        Chart("Repeated and late", "cps", (
            _rate("voltgate_duplicates_total", "stream", "{{stream}} again"),
            _rate("voltgate_late_revised_total", "stream", "{{stream}} late, merged"),
            _rate("voltgate_late_dropped_total", "stream", "{{stream}} too late"),
        )),
    )),
    ("Lake and index", (
        Chart("Behind the journal", "s", (("voltgate_cursor_lag_seconds", "{{cursor}}"),)),
        Chart("Newest row", "s", (("voltgate_freshness_seconds", "{{table}}"),)),
        Chart("Refused writes", "short", (
            ("sum by (sink) (increase(voltgate_sink_retries_total[$__rate_interval]))", "{{sink}}"),
        )),
        Chart("Index behind the lake", "s", (("voltgate_index_lag_seconds", "{{table}}"),)),
        Chart("Documents", "cps", (
            _rate("voltgate_index_documents_total", "table, outcome", "{{table}} {{outcome}}"),
        )),
        Chart("Index takes documents", "bool_yes_no", (("voltgate_index_connected", "connected"),)),
    )),
    ("Alerts", (
        Chart("What became of alerts", "cps", (_rate("voltgate_alert_revisions_total", "what", "{{what}}"),)),
        Chart("From receipt to receiver", "s", tuple(_quantile("voltgate_notice_seconds", s) for s in (0.5, 0.99))),
        Chart("Notices", "cps", (
            _rate("voltgate_notices_total", "receiver, outcome", "{{receiver}} {{outcome}}"),
            _rate("voltgate_notices_suppressed_total", "reason", "held back: {{reason}}"),
        )),
        Chart("In the outbox", "short", (("voltgate_notices_kept", "{{receiver}} {{state}}"),)),
    )),
    ("Processes", (
        Chart("CPU", "percentunit", (("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}}"),)),
        Chart("Memory", "bytes", (("process_resident_memory_bytes", "{{instance}}"),)),
        Chart("Open files", "short", (("process_open_fds", "{{instance}}"),)),
    )),
)  # fmt: skip


def board() -> str:
    """Return the dashboard as JSON."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, charts in ROWS:
        panels.append(_row(len(panels) + 1, title, top))
        top += 1
        width = _WIDTH // 3
        for place, chart in enumerate(charts):
            line, column = divmod(place, 3)
            grid = {"x": column * width, "y": top + line * _HEIGHT, "w": width, "h": _HEIGHT}
            panels.append(_panel(len(panels) + 1, chart, grid))
        top += -(-len(charts) // 3) * _HEIGHT
    return json.dumps(_around(panels), indent=1) + "\n"


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    grid = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": grid, "panels": []}


def _panel(number: int, chart: Chart, grid: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
        for place, (expr, legend) in enumerate(chart.lines)
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": chart.title,
        "datasource": _SOURCE,
        "gridPos": grid,
        "fieldConfig": {"defaults": {"unit": chart.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def _around(panels: list[dict[str, Any]]) -> dict[str, Any]:
    source = {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus", "hide": 0}
    return {
        "uid": _UID,
        "title": TITLE,
        "tags": ["voltgate"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }
