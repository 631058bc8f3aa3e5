"""From readings to alerts: every detector, then the life cycle of what they find.

    1 rules (conditions, sequences, silence)   2 anomalies (own history, peers, stuck)   3 chargers   4 life cycle

One state for all of it. What a detector remembers under an earlier version is forgotten alone: it begins anew, which
`Detected.restarted` of the next batch counts, and the alerts that it had opened go on until it ends them or its rule
is gone.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol, Self, TypeVar

import msgspec
import polars as pl

from gateway.core.errors import CheckpointError
from processors.contracts.load import ContractSet
from processors.stages.alert_record import LifeEvent
from processors.stages.alerts import AlertStage, AlertState
from processors.stages.anomalies import AnomalyStage, AnomalyState
from processors.stages.charger_rules import ChargerRuleStage, ChargerRuleState
from processors.stages.findings import NO_FINDINGS
from processors.stages.rules import RuleStage, RuleState

_ORDER: Final = ("offset", "record", "stream", "rule", "part")


class _Bytes(Protocol):
    def to_bytes(self) -> bytes:
        """Return the state as bytes for a checkpoint."""
        ...


class DetectionState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What detectors and life cycle remember. A value: nothing changes it."""

    rules: RuleState
    anomalies: AnomalyState
    chargers: ChargerRuleState
    alerts: AlertState

    @classmethod
    def empty(cls) -> Self:
        """Return the state before the journal's first entry."""
        return cls(
            rules=RuleState.empty(),
            anomalies=AnomalyState.empty(),
            chargers=ChargerRuleState.empty(),
            alerts=AlertState.empty(),
        )

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map."""
        parts: dict[str, _Bytes] = {name: getattr(self, name) for name in self.__struct_fields__}
        return msgspec.msgpack.encode({name: part.to_bytes() for name, part in parts.items()})

    @classmethod
    def from_bytes(cls, payload: bytes) -> tuple[Self, dict[str, int]]:
        """Invert `to_bytes`; also return the parts that begin anew, because they were of another version.

        Raises: CheckpointError: The bytes are no state.
        """
        try:
            packed = msgspec.msgpack.decode(payload, type=dict[str, bytes])
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"state of the detectors is unreadable: {exc}") from exc
        restarted: dict[str, int] = {}
        empty = cls.empty()
        state = cls(
            rules=_part("rules", packed, RuleState.from_bytes, empty.rules, restarted),
            anomalies=_part("anomalies", packed, AnomalyState.from_bytes, empty.anomalies, restarted),
            chargers=_part("chargers", packed, ChargerRuleState.from_bytes, empty.chargers, restarted),
            alerts=_part("alerts", packed, AlertState.from_bytes, empty.alerts, restarted),
        )
        return state, restarted


P = TypeVar("P")


def _part(name: str, packed: Mapping[str, bytes], read: Callable[[bytes], P], empty: P, restarted: dict[str, int]) -> P:
    if name not in packed:
        return empty
    try:
        return read(packed[name])
    except CheckpointError:
        restarted[name] = 1
        return empty


class Detected(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a batch gave.

    Attributes:
        rows: One of ALERTS_SCHEMA per revision of an alert, in order of the journal.
        events: The same, and what else the notifier must know.
        counts: Word -> how many: revisions by state, and findings and orders that changed nothing by their reason.
    """

    rows: pl.DataFrame
    events: tuple[LifeEvent, ...]
    counts: dict[str, int]


class Detection:
    """Detectors and life cycle under the rules of today, made once per process."""

    def __init__(self, contracts: ContractSet) -> None:
        self._rules = RuleStage(contracts)
        self._anomalies = AnomalyStage(contracts)
        self._chargers = ChargerRuleStage(contracts)
        self._alerts = AlertStage(contracts)

    def run(
        self, state: DetectionState, frames: Mapping[str, pl.DataFrame], ticks: pl.DataFrame
    ) -> tuple[Detected, DetectionState]:
        """Return what a batch changes about alerts, and the state after it.

        Args:
            state: The state after all earlier entries; it is left as it is.
            frames: Table -> this batch's rows, readings of streams and session revisions, sorted by (offset, record).
            ticks: `offset`, `received_at`, `is_start` of the batch's ticks, sorted by offset.
        """
        by_rules, rules = self._rules.run(state.rules, frames, ticks)
        by_anomalies, anomalies = self._anomalies.run(state.anomalies, frames, ticks)
        by_chargers, chargers = self._chargers.run(state.chargers, frames, ticks)
        found = [frame for frame in (by_rules, by_anomalies, by_chargers) if frame.height]
        findings = NO_FINDINGS
        if found:
            findings = found[0] if len(found) == 1 else pl.concat(found).sort(_ORDER, maintain_order=True)
        output, alerts = self._alerts.run(state.alerts, findings, frames, ticks)
        counts = dict(output.counts)
        if output.rows.height:
            counts |= dict(output.rows["state"].value_counts().iter_rows())
        return (
            Detected(rows=output.rows, events=output.events, counts=counts),
            DetectionState(rules=rules, anomalies=anomalies, chargers=chargers, alerts=alerts),
        )
