"""Metrics: cheap to count, bounded in series, base units."""

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.limits import METRIC_REASONS_MAX
from gateway.observe.metrics import (
    OTHER,
    Counted,
    EventCounter,
    Sampled,
    by_reason,
    commit_histogram,
    lag_histogram,
    process_registry,
)


def scraped(registry: object) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples as a scraper reads them."""
    text = generate_latest(registry).decode()  # type: ignore[arg-type]
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_events_are_counted_by_reason() -> None:
    """One event or many at once."""
    count = EventCounter()
    count("wrong_password")
    count("wrong_password", 2)
    assert (count["wrong_password"], count["never"], count.counts()) == (3, 0, {"wrong_password": 3})


def test_reasons_are_bounded() -> None:
    """If something of a peer leaks into a reason, the metrics do not grow with it, and nothing goes uncounted."""
    count = EventCounter()
    for i in range(METRIC_REASONS_MAX + 50):
        count(f"reason_{i}")
    assert (len(count.counts()), count[OTHER]) == (METRIC_REASONS_MAX + 1, 50)
    assert sum(count.counts().values()) == METRIC_REASONS_MAX + 50


def test_values_are_read_when_scraped() -> None:
    """A counter gets its suffix, a gauge keeps its name, labels carry the reason."""
    registry, count = process_registry(process="gateway", version="1.2.3"), EventCounter()
    Counted("voltgate_rejected", "Refused.", ["reason"], by_reason(count.counts), registry=registry)
    Sampled("voltgate_connections", "Connected.", [], lambda: {(): count["topic"] * 10}, registry=registry)
    count("topic", 2)
    samples = scraped(registry)
    assert samples["voltgate_rejected_total", (("reason", "topic"),)] == 2
    assert samples["voltgate_connections", ()] == 20


def test_every_process_says_what_it_is() -> None:
    """Build, memory and open files come with the registry."""
    samples = scraped(process_registry(process="processors", version="1.2.3"))
    (build,) = [dict(labels) for name, labels in samples if name == "voltgate_build_info"]
    assert (build["process"], build["version"]) == ("processors", "1.2.3")
    assert samples["process_resident_memory_bytes", ()] > 0


def test_durations_are_histograms_in_seconds() -> None:
    """The 99th percentile of commits and of the loop's lag can be asked for."""
    registry = process_registry(process="gateway", version="1")
    commit_histogram(registry, journal="ingest")(0.002)
    lag_histogram(registry)(0.3)
    samples = scraped(registry)
    assert samples["voltgate_ingest_journal_commit_seconds_bucket", (("le", "0.0025"),)] == 1
    assert samples["voltgate_loop_lag_seconds_bucket", (("le", "0.25"),)] == 0
    assert samples["voltgate_loop_lag_seconds_count", ()] == 1
