"""Anomalies without labels: drift against own history, deviation from peers, and sensors that are stuck.

    1 samples: the first reading of each bucket of each device, at every batch   2 a look at them: at minute ticks

Most readings cost a comparison with the bucket of the device's last sample. What was sampled waits for the first tick
of another minute (of receipt), where all devices are looked at together: so nothing depends on batches, a device is
held against what its peers showed in earlier minutes, and a finding is up to a minute late, which is soon for what
took hours. A look copies what it changes, once a minute.

Without ticks nothing is looked at. Readings older than a device's last sample are not sampled.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
import polars as pl

from processors.contracts.load import ContractSet
from processors.stages import anomaly_drift, anomaly_peers, anomaly_stuck
from processors.stages.anomaly_drift import DriftPlan
from processors.stages.anomaly_findings import Found, Row, Tick, to_findings, to_row
from processors.stages.anomaly_memory import AnomalyState, RuleMemory, StreamMemory
from processors.stages.anomaly_peers import Bins, PeersPlan
from processors.stages.anomaly_plan import DETECTORS, Plan, StreamWatch, watches_of
from processors.stages.anomaly_roster import Roster
from processors.stages.anomaly_samples import (
    Samples,
    join_samples,
    room_for,
    split_rounds,
    take_samples,
)
from processors.stages.anomaly_stuck import StuckPlan
from processors.stages.anomaly_table import Table
from processors.stages.findings import NO_FINDINGS
from processors.stages.rule_columns import Columns

__all__ = ["DETECTORS", "AnomalyStage", "AnomalyState"]

_MINUTE_US: Final = 60_000_000


class AnomalyStage:
    """The rules of all contracts that name one of `DETECTORS`, made once per process."""

    def __init__(self, contracts: ContractSet) -> None:
        self._streams = watches_of(contracts)

    def run(
        self, state: AnomalyState, frames: Mapping[str, pl.DataFrame], ticks: pl.DataFrame
    ) -> tuple[pl.DataFrame, AnomalyState]:
        """Return the findings of a batch, rows of FINDINGS_SCHEMA, sorted, and the state after it.

        Args:
            state: The state after all earlier entries; it is left as it is.
            frames: Stream -> this batch's readings sorted by (offset, record), duplicates dropped, clocks set.
            ticks: `offset`, `received_at` of the batch's ticks, sorted by offset.
        """
        if not self._streams:
            return NO_FINDINGS, state
        looks, minute = _looks(state.minute, ticks)
        rows: list[Row] = []
        memories: dict[str, StreamMemory] = {}
        for watch in self._streams:
            memory = _of_today(watch, state.streams.get(watch.stream))
            frame = frames.get(watch.stream)
            parts = _parts(frame, looks)
            for part, tick in zip(parts, [*looks, None], strict=True):
                if part is not None:
                    memory = _sample(watch, memory, part)
                if tick is not None:
                    memory = _look(watch, memory, tick, rows)
            memories[watch.stream] = memory
        return to_findings(rows), AnomalyState(minute=minute, streams=memories)


def _looks(minute: int, ticks: pl.DataFrame) -> tuple[list[Tick], int]:
    """Return the ticks at which samples are looked at, those of another minute than the tick before; and the last."""
    looks = []
    if ticks.height:
        for offset, received_us in zip(ticks["offset"], ticks["received_at"].to_physical(), strict=True):
            if received_us // _MINUTE_US != minute:
                minute = received_us // _MINUTE_US
                looks.append(Tick(offset, received_us))
    return looks, minute


def _parts(frame: pl.DataFrame | None, looks: Sequence[Tick]) -> list[pl.DataFrame | None]:
    """Return the readings before, between and after the looks; None for none."""
    if frame is None or frame.is_empty():
        return [None] * (len(looks) + 1)
    if not looks:
        return [frame]
    offsets = frame["offset"].to_numpy()
    bounds = [0, *np.searchsorted(offsets, [look.offset for look in looks]).tolist(), frame.height]
    return [frame.slice(low, high - low) if high > low else None for low, high in pairwise(bounds)]


def _of_today(watch: StreamWatch, memory: StreamMemory | None) -> StreamMemory:
    """Return the memory under the rules of today: of one that is new or was changed nothing is remembered."""
    if memory is None or tuple(memory.roster.names.columns) != watch.owner:
        memory = StreamMemory.empty(watch.owner)
    fingerprints = {one.name: one.fingerprint for one in watch.watches}
    if {name: rule.fingerprint for name, rule in memory.rules.items()} == fingerprints:
        return memory
    rules = {}
    for one in watch.watches:
        known = memory.rules.get(one.name)
        if known is None or known.fingerprint != one.fingerprint:
            known = RuleMemory.empty(one.fingerprint, one.detector)
        rules[one.name] = known
    return StreamMemory(roster=memory.roster, rules=rules)


def _sample(watch: StreamWatch, memory: StreamMemory, readings: pl.DataFrame) -> StreamMemory:
    """Return the memory with the samples among readings."""
    roster, codes = memory.roster.with_devices(readings)
    at_us, offset = readings["measured_at"].to_physical().to_numpy(), readings["offset"].to_numpy()
    columns = Columns(readings.height, readings.get_column, {})
    rules = dict(memory.rules)
    for one in watch.watches:
        rule = rules[one.name]
        values = np.column_stack([columns.numbers(node).to_numpy() for node in one.quantities])
        candidates = Samples(codes=codes, at_us=at_us, offset=offset, values=values)
        buckets = rule.buckets_of(roster.height)
        samples, buckets = take_samples(candidates, buckets, one.every_us, room_for(rule.waiting))
        if samples is not None:
            rules[one.name] = msgspec.structs.replace(rule, buckets=buckets, waiting=(*rule.waiting, samples))
    return StreamMemory(roster=roster, rules=rules)


def _look(watch: StreamWatch, memory: StreamMemory, tick: Tick, rows: list[Row]) -> StreamMemory:
    """Return the memory after a look at all samples that wait; append what was found."""
    rules = dict(memory.rules)
    for one in watch.watches:
        rule = rules[one.name]
        if not rule.waiting:
            continue
        rounds, rest = split_rounds(join_samples(rule.waiting))
        table = rule.table.copy(memory.roster.height)
        found, bins = _detect(one.plan, table, rounds, rule.bins, memory.roster)
        waiting = () if rest is None else (rest,)
        rules[one.name] = msgspec.structs.replace(rule, table=table, bins=bins, waiting=waiting)
        for each in found:
            owner = memory.roster.names.row(each.code)
            rows.append(to_row(each, tick, owner, stream=watch.stream, rule=one.name, unit=one.unit))
    return StreamMemory(roster=memory.roster, rules=rules).within_limit()


def _detect(
    plan: Plan, table: Table, rounds: Sequence[Samples], bins: Bins, roster: Roster
) -> tuple[list[Found], Bins]:
    """Return what the rounds begin and end, and the bins after them; the table is changed."""
    found: list[Found] = []
    match plan:
        case DriftPlan():
            for samples in rounds:
                found += anomaly_drift.look(plan, table, samples)
        case StuckPlan():
            for samples in rounds:
                found += anomaly_stuck.look(plan, table, samples)
        case PeersPlan():
            tenants = roster.names["tenant"]
            conditions = [anomaly_peers.bins_of(plan, samples, tenants[samples.codes]) for samples in rounds]
            for samples, where in zip(rounds, conditions, strict=True):
                against = anomaly_peers.refer(bins, samples, where)
                found += anomaly_peers.look(plan, table, samples, against, where)
            everywhere = [one for where in conditions for one in where]
            bins = anomaly_peers.with_samples(bins, join_samples(rounds), everywhere)
    return found, bins
