"""What the rules `drift`, `peers` and `stuck` of a contract ask for, made ready for samples.

Their parameters are in `processors.contracts.detectors`. A span that counts samples counts those of a device that is
heard: a warm-up of 7 days is 10,080 samples of one a minute, and takes longer for a bus that sleeps at night.
"""

import math
from typing import Final

import msgspec

from processors.contracts.conditions import FieldRef, Node
from processors.contracts.load import ContractSet
from processors.contracts.model import Contract
from processors.contracts.rules import Rule
from processors.stages.anomaly_drift import DriftPlan
from processors.stages.anomaly_peers import PeersPlan
from processors.stages.anomaly_stuck import StuckPlan
from processors.stages.band import BandSettings
from processors.stages.roster import owner_of

DETECTORS: Final = frozenset({"drift", "peers", "stuck"})
_US_PER_S: Final = 1_000_000
_GAP_SAMPLES: Final = 3
"""A pause of more than this many samples is one of which nobody knows what was in it."""

Plan = DriftPlan | PeersPlan | StuckPlan


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """One rule.

    Attributes:
        name: Of the rule, within its stream.
        detector: One of DETECTORS.
        unit: Of the value that it shows.
        fingerprint: What its memory is worth nothing under another of.
        every_us: Width of the buckets of its samples.
        quantities: Numbers that it looks at, made of the fields.
        plan: What it asks for.
    """

    name: str
    detector: str
    unit: str
    fingerprint: str
    every_us: int
    quantities: tuple[Node, ...]
    plan: Plan


class StreamWatch(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one stream.

    Attributes:
        owner: Columns that say whose a reading is.
    """

    stream: str
    owner: tuple[str, ...]
    watches: tuple[Watch, ...]


def watches_of(contracts: ContractSet) -> tuple[StreamWatch, ...]:
    """Return the streams that have rules of these detectors."""
    found = []
    for contract in contracts:
        rules = [rule for rule in contract.rules if rule.enabled and rule.detector in DETECTORS]
        if rules:
            watches = tuple(to_watch(contract, rule) for rule in rules)
            found.append(StreamWatch(stream=contract.stream, owner=owner_of(contract.part), watches=watches))
    return tuple(found)


def to_watch(contract: Contract, rule: Rule) -> Watch:
    """Return what a rule of one of the detectors asks for."""
    given = _Given(contract, rule)
    nodes = [rule.expressions["of"]]
    match rule.detector:
        case "drift":
            plan: Plan = _drift(rule, given)
        case "peers":
            plan = _peers(rule, given)
            nodes += [FieldRef(name) for name, _ in plan.like]
        case "stuck":
            plan = _stuck(rule, given)
            nodes.append(rule.expressions["moving"])
        case _:
            raise AssertionError(f"{rule.id} is no rule about anomalies")
    return Watch(
        name=rule.name,
        detector=rule.detector,
        unit=rule.unit,
        fingerprint=rule.fingerprint(),
        every_us=given.us("every"),
        quantities=tuple(nodes),
        plan=plan,
    )


def _drift(rule: Rule, given: "_Given") -> DriftPlan:
    return DriftPlan(
        of=given.text("of"),
        unit=rule.unit,
        settings=BandSettings(warm_up=given.samples_in("warm_up"), least_width=given.number("least_width")),
        threshold=given.number("threshold"),
        clear_samples=given.samples_in("clear_after"),
        settle_us=given.us("settle"),
    )


def _peers(rule: Rule, given: "_Given") -> PeersPlan:
    like = [part.split() for part in given.text("like").split(",")]
    return PeersPlan(
        of=given.text("of"),
        unit=rule.unit,
        like=tuple((name, float(step)) for name, step in like),
        margin=given.number("margin"),
        spreads=given.number("spreads"),
        least_peers=round(given.number("least_peers")),
        far_samples=round(given.number("samples")),
        near_samples=given.samples_in("clear_after"),
    )


def _stuck(rule: Rule, given: "_Given") -> StuckPlan:
    needs_us = round((rule.needs_s or 0.0) * _US_PER_S)
    return StuckPlan(
        of=given.text("of"),
        moving=given.text("moving"),
        unit=rule.unit,
        moving_unit=given.unit_of("moving"),
        span_us=given.us("span"),
        tolerance=given.number("by"),
        gap_us=max(needs_us, _GAP_SAMPLES * given.us("every")),
    )


class _Given:
    """The parameters of a rule, which the contract has checked and completed."""

    def __init__(self, contract: Contract, rule: Rule) -> None:
        self._contract, self._rule = contract, rule

    def text(self, name: str) -> str:
        return str(self._rule.parameters[name])

    def number(self, name: str) -> float:
        return float(self._rule.parameters[name])

    def us(self, name: str) -> int:
        return max(round(self.number(name) * _US_PER_S), 1)

    def samples_in(self, name: str) -> int:
        """Return how many samples a span holds, at least one."""
        return max(math.ceil(self.number(name) / self.number("every")), 1)

    def unit_of(self, name: str) -> str:
        """Return the unit of an expression that is a field, none of others."""
        node = self._rule.expressions[name]
        return self._contract.field(node.name).unit_symbol if isinstance(node, FieldRef) else ""
