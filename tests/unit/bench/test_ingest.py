"""From samples of a run to rate and CPU per message."""

import pytest

from tests.bench.generator import Sample
from tests.bench.harness import BenchError
from tests.bench.ingest import Measured, between, middle


def sample(at_s: float, acknowledged: int, server_cpu_s: float) -> Sample:
    """Return a sample whose event loop takes three quarters of the server's CPU, and the generator half of the time."""
    return Sample(
        at_s=at_s,
        connected=200,
        acknowledged=acknowledged,
        server_cpu_s=server_cpu_s,
        server_loop_cpu_s=server_cpu_s * 0.75,
        server_rss_bytes=0,
        generator_cpu_s=at_s / 2,
    )


def turn(rate_per_s: float, cpu_us: float) -> Measured:
    """Return a turn."""
    return Measured(rate_per_s=rate_per_s, cpu_us=cpu_us, loop_cpu_us=1.0, generator_busy=0.5)


def test_only_what_lies_between_the_samples_counts() -> None:
    """The warm-up before the first sample is in neither figure."""
    measured = between(sample(10.0, 1_000_000, 5.0), sample(14.0, 3_000_000, 9.0))
    assert Measured(rate_per_s=500_000.0, cpu_us=2.0, loop_cpu_us=1.5, generator_busy=0.5) == measured


def test_an_interval_without_messages_is_an_error() -> None:
    """A server that stopped acknowledging has no CPU per message."""
    with pytest.raises(BenchError, match="0 messages were acknowledged"):
        between(sample(1.0, 500, 1.0), sample(3.0, 500, 2.0))


def test_medians_are_taken_for_each_quantity_alone() -> None:
    """The turn with the middle rate need not have the middle cost."""
    assert turn(2.0, 6.0) == middle([turn(1.0, 6.0), turn(3.0, 5.0), turn(2.0, 9.0)])
