"""Contracts, readings and ticks for tests of the anomaly detectors, and a run of a journal in cuts."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from processors.contracts.load import ContractSet, parse_contract
from processors.stages.anomalies import AnomalyStage, AnomalyState

TIME = pl.Datetime("us", "UTC")
S = 1_000_000
MINUTE = 60 * S
START = 1_760_000_040 * S
"""The beginning of a minute."""

CONTRACT = """
stream: probe
version: 1.0.0
source: {{mqtt: "v1/{{tenant}}/{{device_id}}/probe"}}
time: {{measured_at: {{path: ts, format: iso8601}}}}
fields:
  heat_c: {{type: float, unit: degC, range: [-1000, 1000]}}
  cool_c: {{type: float, unit: degC, range: [-1000, 1000]}}
  current_a: {{type: float, unit: A, range: [-1000, 1000]}}
  soc_pct: {{type: float, unit: "%", range: [0, 100]}}
rules:
{rules}
"""
DRIFT = "  drifts: {title: x, detect: drift, with: {of: heat_c, warm_up: 20 min, clear_after: 2 min}, severity: info}"
STUCK = (
    "  stands: {title: x, detect: stuck, severity: info, with: {of: heat_c, moving: current_a, by: 10 A, span: 5 min}}"
)
PEERS = (
    "  differs: {title: x, detect: peers, severity: info, with: {of: heat_c, like: 'soc_pct 10', margin: 2 degC,"
    " spreads: 3, least_peers: 3, samples: 3, clear_after: 2 min}}"
)
SCHEMA = {
    "tenant": pl.String(),
    "device_id": pl.String(),
    "measured_at": TIME,
    "received_at": TIME,
    "offset": pl.Int64(),
    "record": pl.Int32(),
    "flags": pl.String(),
    "heat_c": pl.Float64(),
    "cool_c": pl.Float64(),
    "current_a": pl.Float64(),
    "soc_pct": pl.Float64(),
}


class Reading(msgspec.Struct, frozen=True):
    """A reading; it was received `late_s` after it was measured."""

    device: str
    at_s: float
    heat_c: float | None = None
    current_a: float | None = None
    soc_pct: float | None = None
    cool_c: float | None = 0.0
    late_s: float = 0.0
    tenant: str = "t"


class Tick(msgspec.Struct, frozen=True):
    """A tick, received so many seconds after the start."""

    at_s: float


Journal = Sequence[Reading | Tick]


def contracts(*rules: str) -> ContractSet:
    """Return the contract with these rules, as in a file."""
    return ContractSet([parse_contract(CONTRACT.format(rules="\n".join(rules)), file="probe.yaml")])


def stage(*rules: str) -> AnomalyStage:
    """Return the stage of the contract with these rules."""
    return AnomalyStage(contracts(*rules))


def with_ticks(readings: Iterable[Reading], every_s: float = 20.0) -> list[Reading | Tick]:
    """Return the journal of the readings in order of receipt, with ticks among them and two minutes after them."""
    ordered = sorted(readings, key=lambda reading: reading.at_s + reading.late_s)
    journal: list[Reading | Tick] = []
    tick = 0.0
    for reading in ordered:
        while tick <= reading.at_s + reading.late_s:
            journal.append(Tick(tick))
            tick += every_s
        journal.append(reading)
    return [*journal, *(Tick(tick + after) for after in (0.0, 60.0, 120.0))]


def run(
    stage: AnomalyStage,
    journal: Journal,
    cuts: Iterable[int] = (),
    *,
    restart: bool = False,
    state: AnomalyState | None = None,
) -> tuple[pl.DataFrame, AnomalyState]:
    """Return the findings of a journal whose entries are cut into batches before these offsets, and the state after."""
    state = AnomalyState.empty() if state is None else state
    found = []
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(journal)}), len(journal)]
    for low, high in pairwise(bounds):
        frame, ticks = _frames(journal, low, high)
        findings, state = stage.run(state, {"probe": frame}, ticks)
        found.append(findings)
        if restart:
            state = AnomalyState.from_bytes(state.to_bytes())
    return pl.concat(found), state


def events(findings: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Return device, rule, event and minute of the reading of each finding."""
    rows = findings.select("device_id", "rule", "event", pl.col("at").dt.epoch("us")).rows()
    return [(device, rule, event, (at - START) / MINUTE) for device, rule, event, at in rows]


def _frames(journal: Journal, low: int, high: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows, ticks = [], []
    for offset in range(low, high):
        entry = journal[offset]
        at_us = START + round(entry.at_s * S)
        if isinstance(entry, Tick):
            ticks.append((offset, at_us, False))
            continue
        received_us = at_us + round(entry.late_s * S)
        values = (entry.heat_c, entry.cool_c, entry.current_a, entry.soc_pct)
        rows.append((entry.tenant, entry.device, at_us, received_us, offset, 0, None, *values))
    raw = {name: pl.Int64() if dtype == TIME else dtype for name, dtype in SCHEMA.items()}
    frame = pl.DataFrame(rows, schema=raw, orient="row").cast({"measured_at": TIME, "received_at": TIME})
    tick_schema = {"offset": pl.Int64(), "received_at": pl.Int64(), "is_start": pl.Boolean()}
    return frame, pl.DataFrame(ticks, schema=tick_schema, orient="row").cast({"received_at": TIME})
