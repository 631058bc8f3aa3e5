"""Percentiles from a histogram are near those of the sorted samples."""

import random

import pytest

from simulators.latency import LatencyHistogram


@pytest.mark.parametrize("pct", [1, 50, 90, 99, 99.9, 100])
def test_percentile_is_within_five_percent_of_the_sorted_samples(pct: float):
    """The oracle sorts ten thousand log-normal latencies around a millisecond."""
    random_ = random.Random(7)
    samples = sorted(random_.lognormvariate(-7, 1) for _ in range(10_000))
    histogram = LatencyHistogram()
    for sample in samples:
        histogram.add(sample)
    exact = samples[max(int(len(samples) * pct / 100) - 1, 0)]
    assert pytest.approx(exact, rel=0.05) == histogram.percentile_s(pct)


def test_maximum_is_exact_and_no_percentile_exceeds_it():
    """Buckets have an upper edge, which is not a latency anybody saw."""
    histogram = LatencyHistogram()
    histogram.add(0.0123)
    assert (histogram.max_s, histogram.percentile_s(99)) == (0.0123, 0.0123)


def test_latencies_outside_the_range_are_counted_at_its_ends():
    """A clock that did not move and one that ran for an hour."""
    histogram = LatencyHistogram()
    histogram.add(0.0)
    histogram.add(3600.0)
    assert histogram.samples == 2
    assert histogram.max_s == 3600.0


def test_without_samples_every_percentile_is_zero():
    """A run that ended before the first acknowledgement still has a summary."""
    assert LatencyHistogram().percentile_s(99) == 0.0
