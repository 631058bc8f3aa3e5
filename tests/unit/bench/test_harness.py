"""The accounting that every benchmark rests on."""

import pytest

from tests.bench.harness import ThreadCpu, parse_rss_bytes, parse_stat, percentile

STAT = (
    "4242 (python -m (x) y) S 1 4242 4242 0 -1 4194304 5000 70 0 0 1234 566 99 88 20 0 3 0 123456 500000000 20000 "
    "18446744073709551615 1 1 0 0 0 0 0 16781312 17642 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0"
)


def test_cpu_time_is_user_plus_system_without_children() -> None:
    """Fields 14 and 15 count, the children's 16 and 17 do not."""
    assert ThreadCpu("python -m (x) y", 18.0) == parse_stat(STAT, ticks_per_s=100)


def test_ticks_are_converted_with_the_rate_given() -> None:
    """A kernel with 250 ticks a second gives other seconds for the same line."""
    assert parse_stat(STAT, ticks_per_s=250).cpu_s == 7.2


def test_resident_memory_is_read_in_kib() -> None:
    """The kernel writes kB and means KiB."""
    assert parse_rss_bytes("Name:\tx\nVmPeak:\t 9999 kB\nVmRSS:\t    2048 kB\nThreads:\t3\n") == 2048 * 1024


def test_a_process_without_memory_is_an_error() -> None:
    """A zombie has no VmRSS; zero would look like a measurement."""
    with pytest.raises(ValueError, match="no VmRSS"):
        parse_rss_bytes("Name:\tx\nState:\tZ (zombie)\n")


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    """A hundred values from 1 to 100 in any order."""
    assert expected == percentile([float(n) for n in range(100, 0, -1)], share)
