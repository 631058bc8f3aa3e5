"""Rules for Prometheus, each with its test and its runbook, as YAML; written by hand nowhere else.

A rule that wakes somebody says what is wrong with numbers, and where the mend is written. Pure.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
import yaml

RUNBOOKS: Final = "docs/runbooks/"
_GROUP: Final = "voltgate"
_INTERVAL: Final = "1m"
_DAY_S: Final = 86_400
_STEPS: Final = 30
"""Minutes of each test; every `for` is shorter."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One alerting rule.

    Attributes:
        name: As Prometheus and the receivers show it; its runbook is the page of that name in docs/runbooks.
        expr: When it holds.
        hold: How long before it fires.
        severity: `critical` wakes somebody, `warning` waits until the morning.
        summary: What is wrong, one line; may use Prometheus' templates.
        bad: Series of a test, name and values a minute, under which it fires.
        good: The same, under which it does not.
        labels: Labels that the alert has besides, in the test.
    """

    name: str
    expr: str
    hold: str
    severity: Literal["critical", "warning"]
    summary: str
    bad: tuple[tuple[str, str], ...]
    good: tuple[tuple[str, str], ...]
    labels: dict[str, str] = {}


def _simple(
    name: str, metric: str, compare: str, bad: str, good: str, *, hold: str, severity: Literal["critical", "warning"],
    summary: str, labels: str = "", **told: str,
) -> Alarm:  # fmt: skip
    """Return an alarm over one gauge."""
    series = metric + labels
    return Alarm(
        name=name, expr=f"{metric} {compare}", hold=hold, severity=severity, summary=summary,
        bad=((series, bad),), good=((series, good),), labels=told,
    )  # fmt: skip


def _growth(
    name: str, metric: str, over: str, more_than: int, *, severity: Literal["critical", "warning"], summary: str,
    hold: str = "0m", where: str = "", labels: str = "", by: str = "", **told: str,
) -> Alarm:  # fmt: skip
    """Return an alarm over what a counter gained."""
    grown = f"increase({metric}{where}[{over}])"
    expr = f"sum by ({by}) ({grown}) > {more_than}" if by else f"sum({grown}) > {more_than}"
    series = metric + labels
    return Alarm(
        name=name, expr=expr, hold=hold, severity=severity, summary=summary,
        bad=((series, f"0+{more_than + 1}x{_STEPS}"),), good=((series, f"7x{_STEPS}"),), labels=told,
    )  # fmt: skip


ALARMS: Final[tuple[Alarm, ...]] = (
    Alarm(
        name="VoltgateDown",
        expr='up{job="voltgate"} == 0',
        hold="2m",
        severity="critical",
        summary="{{ $labels.instance }} does not answer",
        bad=(('up{job="voltgate",instance="gateway"}', f"0x{_STEPS}"),),
        good=(('up{job="voltgate",instance="gateway"}', f"1x{_STEPS}"),),
        labels={"job": "voltgate", "instance": "gateway"},
    ),
    _simple(
        "VoltgateNotDurable", "voltgate_journal_durable", "== 0", f"0x{_STEPS}", f"1x{_STEPS}",
        hold="1m", severity="critical", summary="Nothing is acknowledged: the journal cannot be written",
    ),
    _growth(
        "VoltgateEntriesLost", "voltgate_unread_deleted_total", "1h", 0, severity="critical",
        summary="{{ $value }} acknowledged messages were deleted before they were processed",
    ),
    _growth(
        "VoltgateJournalGap", "voltgate_journal_gap_total", "1h", 0, severity="critical",
        summary="{{ $value }} entries of the journal could not be read",
    ),
    _simple(
        "VoltgateLakeBehind", "voltgate_cursor_lag_seconds", "> 60", f"90x{_STEPS}", f"5x{_STEPS}",
        hold="5m", severity="warning", summary="The lake is {{ $value | humanizeDuration }} behind",
        labels='{cursor="lake"}', cursor="lake",
    ),
    _growth(
        "VoltgateLakeRefuses", "voltgate_sink_retries_total", "10m", 3, severity="critical", by="sink",
        summary="{{ $labels.sink }} refused {{ $value }} writes in ten minutes", labels='{sink="lake"}', sink="lake",
    ),
    _growth(
        "VoltgateEntryQuarantined", "voltgate_quarantined_total", "1h", 0, severity="warning",
        summary="{{ $value }} messages crashed the processing and are rejects now",
    ),
    _growth(
        "VoltgateRejects", "voltgate_rejects_total", "10m", 10, severity="warning", by="stream, code", hold="10m",
        summary="{{ $labels.stream }}: {{ $value }} records refused in ten minutes ({{ $labels.code }})",
        labels='{stream="vehicle_telemetry",code="range"}', stream="vehicle_telemetry", code="range",
    ),
    _growth(
        "VoltgateReadingsTooLate", "voltgate_late_dropped_total", "1h", 0, severity="warning", by="stream", hold="5m",
        summary="{{ $labels.stream }}: {{ $value }} readings came too late for their windows",
        labels='{stream="vehicle_telemetry"}', stream="vehicle_telemetry",
    ),
    _growth(
        "VoltgateLoginsRefused", "voltgate_auth_failures_total", "10m", 50, severity="warning", by="protocol",
        summary="{{ $value }} logins over {{ $labels.protocol }} refused in ten minutes",
        labels='{protocol="ocpp",reason="password"}', protocol="ocpp",
    ),
    _simple(
        "VoltgateReceiverLeftAlone", "voltgate_receiver_circuit", ">= 2", f"2x{_STEPS}", f"0x{_STEPS}",
        hold="15m", severity="warning", summary="{{ $labels.receiver }} gets no alerts: it does not take them",
        labels='{receiver="desk"}', receiver="desk",
    ),
    _growth(
        "VoltgateNoticeDead", "voltgate_notices_total", "1h", 0, severity="critical", by="receiver",
        summary="{{ $value }} notices to {{ $labels.receiver }} were given up",
        where='{outcome="dead"}', labels='{receiver="desk",outcome="dead"}', receiver="desk",
    ),
    _simple(
        "VoltgateIndexAway", "voltgate_index_connected", "== 0", f"0x{_STEPS}", f"1x{_STEPS}",
        hold="10m", severity="warning", summary="OpenSearch does not take documents; they wait in the lake",
    ),
    _simple(
        "VoltgateIndexBehind", "voltgate_index_lag_seconds", "> 300", f"900x{_STEPS}", f"5x{_STEPS}",
        hold="5m", severity="warning", labels='{table="rejects"}', table="rejects",
        summary="The index of {{ $labels.table }} is {{ $value | humanizeDuration }} behind the lake",
    ),
    _growth(
        "VoltgateIndexRefusesDocuments", "voltgate_index_documents_total", "1h", 0, severity="warning", by="table",
        summary="OpenSearch refused {{ $value }} documents of {{ $labels.table }}",
        where='{outcome="rejected"}', labels='{table="rejects",outcome="rejected"}', table="rejects",
    ),
    _growth(
        "VoltgateIndexReplaced", "voltgate_index_other_clusters_total", "1h", 0, severity="warning",
        summary="Another cluster answers, or it was emptied; it has to be filled again",
    ),
    _simple(
        "VoltgateCertificateExpires", "voltgate_certificate_expiry_timestamp_seconds", f"- time() < {14 * _DAY_S}",
        f"{_DAY_S}x{_STEPS}", f"{90 * _DAY_S}x{_STEPS}", hold="10m", severity="warning",
        labels='{listener="ocpp"}', listener="ocpp",
        summary="The certificate of the {{ $labels.listener }} listener expires in {{ $value | humanizeDuration }}",
    ),
)  # fmt: skip


def rules(alarms: Sequence[Alarm] = ALARMS) -> str:
    """Return the file of rules."""
    found = [
        {
            "alert": alarm.name,
            "expr": alarm.expr,
            "for": alarm.hold,
            "labels": {"severity": alarm.severity},
            "annotations": {"summary": alarm.summary, "runbook_url": f"{RUNBOOKS}{alarm.name}.md"},
        }
        for alarm in alarms
    ]
    return _text({"groups": [{"name": _GROUP, "interval": _INTERVAL, "rules": found}]})


def rule_tests(alarms: Sequence[Alarm] = ALARMS) -> str:
    """Return the unit tests of the rules for `promtool test rules`: each fires when it should, and only then."""
    found = []
    for alarm in alarms:
        for series, is_firing in ((alarm.bad, True), (alarm.good, False)):
            found.append(
                {
                    "name": f"{alarm.name} {'fires' if is_firing else 'is quiet'}",
                    "interval": _INTERVAL,
                    "input_series": [{"series": name, "values": values} for name, values in series],
                    # What it says has the value in it, which is checked by whoever reads the rule.
                    "promql_expr_test": [_firing(alarm)] if is_firing else [_quiet(alarm)],
                }
            )
    return _text({"rule_files": ["rules.yaml"], "evaluation_interval": _INTERVAL, "tests": found})


def _firing(alarm: Alarm) -> dict[str, Any]:
    labels = {"alertname": alarm.name, "alertstate": "firing", "severity": alarm.severity} | alarm.labels
    told = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    return _asked(alarm) | {"exp_samples": [{"labels": f"ALERTS{{{told}}}", "value": 1}]}


def _quiet(alarm: Alarm) -> dict[str, Any]:
    return _asked(alarm) | {"exp_samples": []}


def _asked(alarm: Alarm) -> dict[str, Any]:
    return {"expr": f'ALERTS{{alertname="{alarm.name}",alertstate="firing"}}', "eval_time": f"{_STEPS}m"}


def _text(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=118)
