"""What the rules found as rows of findings, with the evidence that a person wants to see."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import polars as pl

from gateway.core.limits import EVIDENCE_BYTES_MAX
from gateway.core.text import peer_text
from processors.contracts.rules import Rule
from processors.stages.findings import FINDINGS_SCHEMA, TIME
from processors.stages.roster import NAMES
from processors.stages.rule_columns import Columns
from processors.stages.rule_episodes import US_PER_S, Change
from processors.stages.rule_plan import RulePlan, Shown
from processors.stages.rule_rows import Rows
from processors.stages.rule_silence import Silence

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = ("received_at", "at", "since")
_RAW_SCHEMA: Final = {**FINDINGS_SCHEMA, **dict.fromkeys(_TIMES, pl.Int64())}
_ORDER: Final = ("offset", "record", "stream", "rule", "part")
FindingRow = tuple[Any, ...]
"""Values of FINDINGS_SCHEMA, times in us."""
Histories = Callable[[str, Sequence[int]], dict[int, list[tuple[int, float]]]]
_Comparison = tuple[bool | None, float | None, float | None, str]


def to_findings(rows: Sequence[FindingRow]) -> pl.DataFrame:
    """Return the frame of the rows that `of_changes` and `of_silences` made, sorted."""
    frame = pl.DataFrame(rows, schema=_RAW_SCHEMA, orient="row")
    return frame.with_columns(pl.col(_TIMES).cast(TIME)).sort(_ORDER, maintain_order=True)


def of_changes(
    plan: RulePlan, devices: pl.DataFrame, rows: Rows, columns: Columns, looked: Histories, changes: Sequence[Change]
) -> list[FindingRow]:
    """Return the rows of the episodes of one rule that begin or end.

    Args:
        plan: The rule.
        devices: Row = device code: whose it is.
        rows: The readings.
        columns: Their values.
        looked: Series and rows -> row -> the samples (us, value) that it saw there.
        changes: What begins and ends, by row.
    """
    rule = plan.rule
    places = [change.row for change in changes]
    at_rows = pl.Series(places, dtype=pl.UInt32())
    fields = {name: columns.sent(name)[at_rows].to_list() for name in rule.fields}
    functions = {words: columns.column(call)[at_rows].to_list() for words, call in plan.calls.items()}
    shown = [_of_comparison(columns, one, at_rows) for one in plan.shown]
    histories = {} if plan.look is None else looked(plan.look, places)
    base = [rows.column(name)[at_rows] for name in ("offset", "record", "received_at")]
    base[2] = base[2].cast(pl.Int64())
    owners = devices[rows.device[at_rows]]
    limit_text = rule.when_text or ", then ".join(rule.step_texts)
    found = []
    for i, (change, owner, at_us, *entry) in enumerate(
        zip(changes, owners.iter_rows(), rows.at[at_rows], *base, strict=True)
    ):
        _, value, limit, unit = _first_true([one[i] for one in shown])
        evidence: dict[str, object] = {
            "readings": {name: _shown(values[i]) for name, values in fields.items()},
            "limit": limit_text,
        }
        if functions:
            evidence["functions"] = {words: _shown(values[i]) for words, values in functions.items()}
        if change.row in histories:
            evidence["history"] = [(_iso(sample_us), _shown(x)) for sample_us, x in histories[change.row]]
        whose = (*owner, None)[: len(NAMES) + 1]
        said = (rule.stream, rule.name, change.event, at_us, *change.since, value, limit, unit or rule.unit)
        found.append((*entry, *whose, *said, _bounded(evidence)))
    return found


def _first_true(shown: Sequence[_Comparison]) -> _Comparison:
    """Return the first comparison that is true, of none the first."""
    return next((one for one in shown if one[0]), shown[0] if shown else (None, None, None, ""))


def _of_comparison(columns: Columns, shown: Shown, at_rows: pl.Series) -> list[_Comparison]:
    """Return at each row whether a comparison holds, what is measured, what it is held against, and the unit."""
    read = (columns.column(shown.comparison), columns.numbers(shown.value), columns.numbers(shown.limit))
    return [(*one, shown.unit) for one in zip(*(column[at_rows].to_list() for column in read), strict=True)]


def of_silences(rules: dict[str, Rule], devices: pl.DataFrame, silences: Sequence[Silence]) -> list[FindingRow]:
    """Return the rows of silences.

    Args:
        rules: Key of a rule -> the rule.
        devices: Row = device code: tenant, device_id.
        silences: What begins and ends.
    """
    found = []
    for one in silences:
        rule = rules[one.rule]
        limit_s = one.limit_us / US_PER_S
        evidence = {
            "readings": {},
            "limit": f"nothing for {limit_s:.6g} s",
            "usual_interval_s": one.usual_us / US_PER_S,
            "last_received_at": _iso(one.since[0]),
        }
        found.append(
            (
                one.offset,
                one.record,
                one.received_us,
                *devices.row(one.device),
                None,
                rule.stream,
                rule.name,
                one.event,
                one.received_us,
                *one.since,
                one.silent_us / US_PER_S,
                limit_s,
                "s",
                _bounded(evidence),
            )
        )
    return found


def _shown(value: object) -> object:
    if isinstance(value, str):
        return peer_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _bounded(evidence: dict[str, object]) -> str:
    """Return the evidence as JSON; too long, it loses first its history, then its readings."""
    for key in ("history", "readings", "functions"):
        text = msgspec.json.encode(evidence).decode()
        if len(text.encode()) <= EVIDENCE_BYTES_MAX:
            return text
        evidence.pop(key, None)
    return msgspec.json.encode({"limit": peer_text(str(evidence["limit"]))}).decode()


def _iso(at_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")
