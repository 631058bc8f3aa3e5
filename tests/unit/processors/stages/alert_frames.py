"""Journals for tests of the life cycle: each entry has an offset, and was received that many seconds after START."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import polars as pl

from processors.contracts.load import BUILT_IN, load_contract
from processors.contracts.model import Contract
from processors.contracts.rules import Rule
from processors.stages.alert_record import AlertEvent
from processors.stages.alerts import AlertOutput, AlertStage, AlertState
from processors.stages.findings import BEGINS, ENDS, FINDINGS_SCHEMA

START_US: Final = 1_795_392_000_000_000
STREAM: Final = "battery_pack"
STREAMS: Final = {name: load_contract(BUILT_IN / f"{name}.yaml") for name in (STREAM, "vehicle_telemetry")}
ORDER_SCHEMA: Final = load_contract(BUILT_IN / "alert_order.yaml").readings_schema()
ASSET_SCHEMA: Final = load_contract(BUILT_IN / "asset.yaml").readings_schema()
TICK_SCHEMA: Final[dict[str, pl.DataType]] = {"offset": pl.Int64(), "received_at": pl.Datetime("us", "UTC")}

Entry = tuple[str, dict[str, Any]]
"""`finding`, `order`, `asset` or `tick`, and its row."""


def us(offset: int) -> int:
    """Return when the entry at an offset is received."""
    return START_US + offset * 1_000_000


def rule(name: str = "hot", **changes: Any) -> Rule:
    """Return a rule of the battery stream."""
    usual: dict[str, Any] = {
        "stream": STREAM,
        "name": name,
        "title": f"it is {name}",
        "severity": "warning",
        "check": "look at it",
        "source": "a standard",
        "hold_s": 0.0,
        "clear_hold_s": 0.0,
        "needs_s": None,
        "when": None,
        "clear": None,
        "when_text": "",
        "clear_text": "",
        "steps": (),
        "step_texts": (),
        "within_s": 0.0,
        "detector": None,
        "parameters": {},
        "inhibits": (),
        "fields": (),
        "unit": "",
        "enabled": True,
    }
    return Rule(**(usual | changes))


def together(name: str, *members: str, **changes: Any) -> Rule:
    """Return a rule that fires while others do."""
    return rule(name, detector="together", parameters={"rules": ",".join(members)}, **changes)


def contracts(*rules: Rule) -> list[Contract]:
    """Return two contracts that have these rules and no others."""
    return [
        msgspec.structs.replace(contract, rules=tuple(r for r in rules if r.stream == stream))
        for stream, contract in STREAMS.items()
    ]


def begins(offset: int, name: str = "hot", **changes: Any) -> Entry:
    """Return the finding that begins an episode."""
    usual = {
        "offset": offset,
        "record": 0,
        "received_at": us(offset),
        "tenant": "default",
        "device_id": "bus-1",
        "part": None,
        "stream": STREAM,
        "rule": name,
        "event": BEGINS,
        "at": us(offset) - 500_000,
        "since": us(offset) - 500_000,
        "since_offset": offset,
        "value": 61.5,
        "limit": 60.0,
        "unit": "degC",
        "evidence": '{"readings":{"cell_temp_max_c":61.5}}',
    }
    return "finding", usual | changes


def ends(offset: int, since_offset: int, name: str = "hot", **changes: Any) -> Entry:
    """Return the finding that ends it."""
    usual = {"event": ENDS, "since_offset": since_offset, "value": 50.0, "evidence": None}
    return begins(offset, name, **(usual | changes))


def order(offset: int, kind: str, **said: Any) -> Entry:
    """Return an order of an operator."""
    usual = {"offset": offset, "record": 0, "received_at": us(offset), "measured_at": us(offset), "by": "anna"}
    return "order", {"tenant": "default", "device_id": "operators", "kind": kind, **usual, **said}


def asset(offset: int, device_id: str = "bus-1", **facts: Any) -> Entry:
    """Return facts about a device."""
    usual = {"offset": offset, "record": 0, "received_at": us(offset), "measured_at": us(offset), "kind": "vehicle"}
    return "asset", {"tenant": "default", "device_id": device_id, **usual, **facts}


def tick(offset: int) -> Entry:
    """Return a tick."""
    return "tick", {"offset": offset, "received_at": us(offset)}


def run(stage: AlertStage, state: AlertState, entries: Iterable[Entry]) -> tuple[AlertOutput, AlertState]:
    """Run entries as one batch."""
    rows: dict[str, list[dict[str, Any]]] = {"finding": [], "order": [], "asset": [], "tick": []}
    for kind, row in entries:
        rows[kind].append(row)
    frames = {"alert_order": frame(rows["order"], ORDER_SCHEMA), "asset": frame(rows["asset"], ASSET_SCHEMA)}
    return stage.run(state, frame(rows["finding"], FINDINGS_SCHEMA), frames, frame(rows["tick"], TICK_SCHEMA))


def run_all(*entries: Entry, rules: Sequence[Rule] = ()) -> AlertOutput:
    """Run entries as one batch of a new journal."""
    output, _ = run(AlertStage(contracts(*(rules or (rule(),)))), AlertState.empty(), entries)
    return output


def alerts(output: AlertOutput) -> list[AlertEvent]:
    """Return the revisions of an output."""
    return [event for event in output.events if isinstance(event, AlertEvent)]


def states(output: AlertOutput) -> list[tuple[str, int, str]]:
    """Return rule, revision and state of each revision of an output."""
    return [(event.rule, event.revision, event.state) for event in alerts(output)]


def frame(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return rows of which columns may be missing, with times as microseconds."""
    raw = {name: pl.Int64() if isinstance(dtype, pl.Datetime) else dtype for name, dtype in schema.items()}
    whole = [{name: row.get(name) for name in schema} for row in rows]
    return pl.DataFrame(whole, schema=raw).cast(pl.Schema(schema))
