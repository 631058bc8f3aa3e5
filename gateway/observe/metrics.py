"""Prometheus metrics of a process: names, base units, bounded labels.

Hot paths count in plain dictionaries and are read when somebody scrapes: a labelled prometheus_client counter costs a
lock and about 1 us, half of what the gateway spends on a message. No label is ever a device, a topic or a text of a
peer, so the number of series is bounded by what this project's code can say.
"""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.core.limits import METRIC_REASONS_MAX

OTHER: Final = "other"
COMMIT_BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""From a good NVMe disk (0.1 ms) to one that a device's keep alive begins to notice."""
LAG_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
NOTICE_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
"""Around the second that is aimed at, and up to receivers that are down for long."""

Samples = Mapping[tuple[str, ...], float]
"""Label values to value."""


class EventCounter:
    """Counts events by reason; implements the port `Counter`.

    Written by one thread, read by any. Past `METRIC_REASONS_MAX` reasons everything new is counted as `other`.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __call__(self, reason: str, n: int = 1) -> None:
        """Add `n` under `reason`."""
        counts = self._counts
        if reason not in counts and len(counts) >= METRIC_REASONS_MAX:
            reason = OTHER
        counts[reason] = counts.get(reason, 0) + n

    def __getitem__(self, reason: str) -> int:
        return self._counts.get(reason, 0)

    def counts(self) -> dict[str, int]:
        """Return a copy of all counts by reason."""
        return self._counts.copy()


class Counted(Collector):
    """A counter whose values are read when scraped.

    Args:
        name: Metric name without `_total`.
        documentation: One sentence for people.
        labels: Label names.
        read: Returns the samples; called in the thread of a scrape.
    """

    family: Callable[..., CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        read: Callable[[], Samples],
        *,
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation, self._labels, self._read = name, documentation, list(labels), read
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Return the empty family, so that registering does not read."""
        yield type(self).family(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterable[Metric]:
        """Return the family with its samples of now."""
        family = type(self).family(self._name, self._documentation, labels=self._labels)
        for labels, value in sorted(self._read().items()):
            family.add_metric(list(labels), value)
        yield family


class Sampled(Counted):
    """A gauge whose values are read when scraped; arguments as `Counted`."""

    family = GaugeMetricFamily


class _BuildInfo(Collector):
    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("voltgate_build", "What runs here.", value=self._labels)


def process_registry(*, process: str, version: str) -> CollectorRegistry:
    """Return a registry of its own with what every process shows: build, CPU, memory, file descriptors."""
    registry = CollectorRegistry()
    registry.register(_BuildInfo({"process": process, "version": version, "python": platform.python_version()}))
    ProcessCollector(registry=registry)
    return registry


def by_reason(counts: Callable[[], Mapping[str, int]]) -> Callable[[], Samples]:
    """Return a reader of counts with the reason as their only label."""
    return lambda: {(reason,): n for reason, n in counts().items()}


def commit_histogram(registry: CollectorRegistry, *, journal: str) -> Callable[[float], None]:
    """Return what observes the seconds of one group commit of one journal: encode, write, fdatasync, answer."""
    name = f"voltgate_{journal}_journal_commit_seconds"
    return Histogram(name, "Duration of a group commit.", registry=registry, buckets=COMMIT_BUCKETS_S).observe


def lag_histogram(registry: CollectorRegistry) -> Callable[[float], None]:
    """Return what observes by how many seconds the event loop was late."""
    name = "voltgate_loop_lag_seconds"
    return Histogram(name, "How late the event loop ran a timer.", registry=registry, buckets=LAG_BUCKETS_S).observe


def notice_histogram(registry: CollectorRegistry) -> Callable[[float], None]:
    """Return what observes how old an alert is, in seconds, when a receiver has taken its notice."""
    text = "From the receipt of what fired an alert until a receiver took the notice."
    return Histogram("voltgate_notice_seconds", text, registry=registry, buckets=NOTICE_BUCKETS_S).observe
