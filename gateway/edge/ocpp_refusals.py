"""Log lines about what chargers do wrong: one each, until one charger has had enough of them.

A charger that sends a bad frame a second would fill the log in a day and hide its neighbours. The counters count them
all; the line that comes through after a silence says how many did not.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from gateway.core.limits import (
    FAILURE_BUCKETS_MAX,
    REFUSAL_LINE_REFILL_ALL_S,
    REFUSAL_LINE_REFILL_S,
    REFUSAL_LINES_BURST,
    REFUSAL_LINES_BURST_ALL,
)
from gateway.edge.admission import FailureBuckets


class Log(Protocol):
    """What a structlog logger has and this needs."""

    def warning(self, event: str, *args: Any, **fields: Any) -> Any:
        """Write a line."""
        ...


class RefusalLog:
    """Writes warnings, few per subject and not many in all.

    Args:
        log: Makes peer text in its fields inert.
        now_s: Monotonic seconds.
    """

    def __init__(self, log: Log, *, now_s: Callable[[], float]) -> None:
        self._log = log
        self._now_s = now_s
        self._buckets = FailureBuckets(burst=REFUSAL_LINES_BURST, refill_s=REFUSAL_LINE_REFILL_S)
        self._all = FailureBuckets(burst=REFUSAL_LINES_BURST_ALL, refill_s=REFUSAL_LINE_REFILL_ALL_S)
        self._suppressed: OrderedDict[Hashable, int] = OrderedDict()

    def warn(self, subject: Hashable, event: str, **fields: object) -> None:
        """Write a line about a subject (a station, an address), or count it as suppressed."""
        now_s = self._now_s()
        if not (self._buckets.allows(subject, now_s=now_s) and self._all.allows(None, now_s=now_s)):
            self._suppressed[subject] = self._suppressed.pop(subject, 0) + 1
            if len(self._suppressed) > FAILURE_BUCKETS_MAX:
                self._suppressed.popitem(last=False)
            return
        self._buckets.charge(subject, now_s=now_s)
        self._all.charge(None, now_s=now_s)
        suppressed = self._suppressed.pop(subject, 0)
        if suppressed:
            fields["suppressed"] = suppressed
        self._log.warning(event, **fields)
