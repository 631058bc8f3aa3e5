"""What alerts are worth: which faults they showed in time, how long before harm, and which of them were false."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from simulators.truth import FaultTruth
from tests.quality.fault_journal import US_PER_S, Alert, to_us

EXPLAINED_AFTER_S = 120


class Injected(msgspec.Struct, frozen=True, kw_only=True):
    """A fault and the first alert that showed it.

    Attributes:
        kind: Of the fault.
        is_noticed: Before its deadline.
        after_s: From its beginning to the alert, None where there was none.
        lead_s: From the alert to the critical moment, negative after it; None where there is none of both.
    """

    kind: str
    is_noticed: bool
    after_s: float | None
    lead_s: float | None


class KindScore(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all faults of a kind; times in seconds, None where there are none."""

    kind: str
    injected: int
    noticed: int
    after_median_s: float | None
    after_max_s: float | None
    lead_median_s: float | None
    lead_min_s: float | None

    @property
    def recall(self) -> float:
        """Part that was noticed in time."""
        return self.noticed / self.injected


def judge(fault: FaultTruth, alerts: Sequence[Alert]) -> Injected:
    """Return what the alerts of its device made of a fault."""
    began_us = to_us(fault.began_at)
    shown = [one.fired_us for one in alerts if one.rule in fault.rules and one.fired_us >= began_us]
    first_us = min(shown, default=None)
    deadline_us = to_us(fault.deadline_at) if fault.deadline_at else None
    lead_s = None
    if first_us is not None and fault.critical_at is not None:
        lead_s = (to_us(fault.critical_at) - first_us) / US_PER_S
    return Injected(
        kind=fault.kind,
        is_noticed=first_us is not None and (deadline_us is None or first_us <= deadline_us),
        after_s=None if first_us is None else (first_us - began_us) / US_PER_S,
        lead_s=lead_s,
    )


def judge_all(faults: Iterable[FaultTruth], alerts: Iterable[Alert]) -> list[Injected]:
    """Return what the alerts made of each fault."""
    of_device = _by_device(alerts)
    return [judge(fault, of_device.get(fault.device_id, [])) for fault in faults]


def score(injected: Sequence[Injected]) -> list[KindScore]:
    """Return the scores by kind, in the order in which kinds first come."""
    scores = []
    for kind in dict.fromkeys(one.kind for one in injected):
        those = [one for one in injected if one.kind == kind]
        after_s = [one.after_s for one in those if one.after_s is not None]
        lead_s = [one.lead_s for one in those if one.lead_s is not None]
        scores.append(
            KindScore(
                kind=kind,
                injected=len(those),
                noticed=sum(one.is_noticed for one in those),
                after_median_s=median(after_s) if after_s else None,
                after_max_s=max(after_s, default=None),
                lead_median_s=median(lead_s) if lead_s else None,
                lead_min_s=min(lead_s, default=None),
            )
        )
    return scores


def false_alerts(alerts: Iterable[Alert], faults: Iterable[FaultTruth], holes: Iterable[FaultTruth]) -> list[Alert]:
    """Return the alerts of devices that nothing was wrong with; what a hole's own rules say of it is right."""
    began_us = {fault.device_id: to_us(fault.began_at) for fault in faults}
    explained: dict[str, list[FaultTruth]] = {}
    for hole in holes:
        explained.setdefault(hole.device_id, []).append(hole)
    return [
        one
        for one in alerts
        if one.fired_us < began_us.get(one.device_id, one.fired_us + 1) and not _is_explained(one, explained)
    ]


def count_by_rule(alerts: Iterable[Alert]) -> Counter[tuple[str, str]]:
    """Return (rule, severity) -> number."""
    return Counter((one.rule, one.severity) for one in alerts)


def _is_explained(alert: Alert, explained: dict[str, list[FaultTruth]]) -> bool:
    return any(
        alert.rule in hole.rules
        and to_us(hole.began_at) <= alert.fired_us < to_us(str(hole.ended_at)) + EXPLAINED_AFTER_S * US_PER_S
        for hole in explained.get(alert.device_id, ())
    )


def _by_device(alerts: Iterable[Alert]) -> dict[str, list[Alert]]:
    found: dict[str, list[Alert]] = {}
    for alert in alerts:
        found.setdefault(alert.device_id, []).append(alert)
    return found
