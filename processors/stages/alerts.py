"""The life of alerts: a fold over what detectors find and operators order, in the order of the journal.

    firing -> acknowledged -> resolved

An alert is one episode of one rule on one device, or on a part of it: at most one of a place is open. It fires with the
finding that begins the episode and is resolved by the one that ends it; hysteresis and waiting are the detectors'.
Each change is a revision: a row of `alert_revisions` and an AlertEvent, which repeat all that is known.

**Names.** `alert_id` is a hash of tenant, device, part, stream, rule and the offset at which the episode began to hold.

**Coming back.** If the rule holds again at most ALERT_REOPEN_S after the condition ended it (both as received), it is
the same alert: back to `firing`, no longer acknowledged, and `evidence.flaps` counts how often. After an operator
resolved it, or its rule was changed, what comes is a new alert; so it is when more time has passed.

**Orders.** `ack`, `unack` and `resolve` change an open alert; one that an operator resolved stays so for as long as its
condition holds, and only a new episode is a new alert. `silence`, `unsilence` and `test` go to the notifier. What names
nothing known or changes nothing is counted.

**Rules that change.** An alert whose rule is gone, switched off or decides otherwise than before is resolved by `rule`
at the next tick, or when the rule as it is now begins to hold there.

**Together.** A rule with the detector `together` begins when all the rules it names have an alert whose condition
holds on one device, whatever part of it and whatever operators said, and ends with the first of them.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import msgspec
import polars as pl

from processors.contracts.model import Contract
from processors.stages.alert_fold import Fold, LiveRules, read_findings
from processors.stages.alert_orders import ORDERS, read_orders
from processors.stages.alert_record import AlertEvent, LifeEvent
from processors.stages.alert_rows import ALERTS_SCHEMA, NO_ALERTS, to_rows
from processors.stages.alert_store import AlertState, AlertStore

__all__ = ["ALERTS", "ALERTS_SCHEMA", "AlertOutput", "AlertStage", "AlertState"]

ALERTS: Final = "alert_revisions"
"""Table of this stage."""

_ASSETS: Final = "asset"
_Step = tuple[int, Callable[[], None]]
"""Offset, and what to do."""


class AlertOutput(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a batch changed.

    Attributes:
        rows: One of ALERTS_SCHEMA per revision, in order of the journal.
        events: The same revisions, and what else the notifier must know, in order of the journal.
        counts: Reason -> findings and orders that changed nothing.
    """

    rows: pl.DataFrame
    events: tuple[LifeEvent, ...] = ()
    counts: Mapping[str, int] = {}


NO_OUTPUT: Final = AlertOutput(rows=NO_ALERTS)


class AlertStage:
    """The life cycle under the rules of today, made once per process.

    Args:
        contracts: All contracts of the deployment.
    """

    def __init__(self, contracts: Iterable[Contract]) -> None:
        self._rules = LiveRules(contracts)

    def run(
        self, state: AlertState, findings: pl.DataFrame, frames: Mapping[str, pl.DataFrame], ticks: pl.DataFrame
    ) -> tuple[AlertOutput, AlertState]:
        """Return what a batch changes about alerts, and the state after it.

        Args:
            state: The state after all earlier entries; it is left as it is.
            findings: What all detectors found, rows of FINDINGS_SCHEMA sorted by (offset, record).
            frames: Stream -> this batch's readings sorted by (offset, record), duplicates dropped; `alert_order` and
                `asset` are looked at where they are.
            ticks: `offset` and `received_at` of the batch's ticks, sorted by offset.
        """
        orders, assets = frames.get(ORDERS), frames.get(_ASSETS)
        is_changed = state.rules != self._rules.digest and not ticks.is_empty()
        if findings.is_empty() and not is_changed and not _height(orders) and not _height(assets):
            return NO_OUTPUT, state
        store = AlertStore(state)
        fold = Fold(self._rules, store)
        steps = [
            *(_findings(fold, findings) if findings.height else ()),
            *(_orders(fold, orders) if orders is not None and orders.height else ()),
            *(_sites(fold, assets) if assets is not None and assets.height else ()),
        ]
        if is_changed:
            offset, received_us = ticks["offset"][0], ticks["received_at"].to_physical()[0]
            steps.append((offset, partial(fold.rules_changed, offset, received_us)))
        # What one entry causes is of one kind, or its order does not matter, and keeps it: sorting is stable.
        for _, take in sorted(steps, key=lambda step: step[0]):
            take()
        events = tuple(fold.events)
        output = AlertOutput(
            rows=to_rows(event for event in events if isinstance(event, AlertEvent)),
            events=events,
            counts=fold.counts,
        )
        return output, store.to_state(self._rules.digest if is_changed else state.rules)


def _height(frame: pl.DataFrame | None) -> int:
    return 0 if frame is None else frame.height


def _findings(fold: Fold, frame: pl.DataFrame) -> Iterable[_Step]:
    for finding in read_findings(frame):
        yield finding.offset, partial(fold.finding, finding)


def _orders(fold: Fold, frame: pl.DataFrame) -> Iterable[_Step]:
    for order in read_orders(frame):
        yield order.offset, partial(fold.order, order)


def _sites(fold: Fold, frame: pl.DataFrame) -> Iterable[_Step]:
    stated = frame.filter(pl.col("site").is_not_null()).select("offset", "tenant", "device_id", "site")
    for offset, tenant, device_id, site in stated.iter_rows():
        yield offset, partial(fold.site, (tenant, device_id), site)
