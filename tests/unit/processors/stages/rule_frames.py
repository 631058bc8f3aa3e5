"""A small stream with rules for tests: contract, readings, ticks, and what the stage finds in them."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from processors.contracts.conditions import Call, Comparison, FieldRef, Node, Number, Text
from processors.contracts.load import ContractSet, parse_contract
from processors.contracts.rules import Rule
from processors.stages.findings import NO_FINDINGS, TIME
from processors.stages.rules import RuleStage, RuleState

START_S = 1_790_000_000
US = 1_000_000
CONTRACT = """
stream: pack
version: 1.0.0
description: A pack
source: {mqtt: "v1/{tenant}/{device_id}/pack"}
time:
  measured_at: {path: ts, format: iso8601}
fields:
  x: {type: float, unit: degC}
  y: {type: float, unit: V, range: [0, 1000]}
  n: {type: int, range: [0, 1000000]}
  mode: {type: str}
  flag: {type: bool}
retention: {raw: 1 d, readings: 1 d, windows: 1 d}
"""
FIELDS: dict[str, pl.DataType] = {
    "x": pl.Float64(),
    "y": pl.Float64(),
    "n": pl.Int64(),
    "mode": pl.String(),
    "flag": pl.Boolean(),
}
X, Y, MODE, FLAG = FieldRef("x"), FieldRef("y"), FieldRef("mode"), FieldRef("flag")


def compare(left: Node, operator: Any, right: Node | float | str) -> Comparison:
    """Return a comparison; a bare number or word is one."""
    if isinstance(right, int | float):
        right = Number(float(right))
    units: dict[Node, str] = {X: "degC", Y: "V"}
    side = Text(right) if isinstance(right, str) else right
    return Comparison(operator, left, side, units.get(left) or units.get(side) or "")


def past(function: Any, argument: Node, span_s: float | None = None) -> Call:
    """Return a call of a function of the past."""
    return Call(function, argument, span_s)


HOT = compare(X, ">", 60)


def rule_of(name: str = "hot", **given: Any) -> Rule:
    """Return a rule of the stream, `x > 60` unless something else is given."""
    if not given.keys() & {"when", "steps", "detector"}:
        given["when"] = HOT
    default: dict[str, Any] = {
        "stream": "pack",
        "title": name,
        "severity": "warning",
        "check": "look",
        "source": "test",
        "hold_s": 0.0,
        "clear_hold_s": 0.0,
        "needs_s": None,
        "when": None,
        "clear": None,
        "when_text": "x > 60 degC",
        "clear_text": "",
        "steps": (),
        "step_texts": (),
        "within_s": 0.0,
        "detector": None,
        "parameters": {},
        "inhibits": (),
        "fields": ("x",),
        "unit": "degC",
        "enabled": True,
    }
    return Rule(name=name, **(default | given))


def stage_of(*rules: Rule, part: str | None = None) -> RuleStage:
    """Return the stage for these rules of the stream."""
    contract = parse_contract(CONTRACT + (f"part: {part}\n" if part else ""), file="pack.yaml")
    return RuleStage(ContractSet([msgspec.structs.replace(contract, rules=rules)]))


def readings_of(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Return readings from (offset, device, seconds since the start, {field: value} or x[, seconds of receipt])."""
    full = []
    for offset, device, at_s, values, *received_s in rows:
        fields = values if isinstance(values, Mapping) else {"x": values}
        at, received = (round((START_S + s) * US) for s in (at_s, received_s[0] if received_s else at_s))
        full.append(("acme", device, at, received, offset, 0, None, *(fields.get(name) for name in FIELDS)))
    schema = {
        "tenant": pl.String(),
        "device_id": pl.String(),
        "measured_at": TIME,
        "received_at": TIME,
        "offset": pl.Int64(),
        "record": pl.Int32(),
        "flags": pl.String(),
        **FIELDS,
    }
    return pl.DataFrame(full, schema=schema, orient="row")


def ticks_of(*ticks: tuple[Any, ...]) -> pl.DataFrame:
    """Return ticks from (offset, seconds since the start[, whether the gateway started])."""
    rows = [(offset, round((START_S + at_s) * US), bool(start and start[0])) for offset, at_s, *start in ticks]
    return pl.DataFrame(
        rows, schema={"offset": pl.Int64(), "received_at": TIME, "is_start": pl.Boolean()}, orient="row"
    )


def told(findings: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Return device, event and second of each finding, and more columns; times as seconds since the start."""
    seconds = (pl.col(TIME).dt.epoch("us") - START_S * US) / US
    return findings.with_columns(seconds).select("device_id", "event", "at", *columns).rows()


def find(stage: RuleStage, *batches: pl.DataFrame | Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the findings of batches, each of readings or of (readings, ticks), with a restart after each."""
    state, found = RuleState.empty(), [NO_FINDINGS]
    for batch in batches:
        readings, ticks = (batch, ticks_of()) if isinstance(batch, pl.DataFrame) else batch
        findings, state = stage.run(state, {"pack": readings}, ticks)
        state = RuleState.from_bytes(state.to_bytes())
        found.append(findings)
    return pl.concat(found)
