"""Latency percentiles in bounded memory."""

import math

_STEPS = 48
"""Buckets per factor of ten: neighbours differ by 4.9 %, finer than two runs on one machine agree."""
_FLOOR_S = 1e-6
_BUCKETS = 8 * _STEPS
"""1 us to 100 s."""


class LatencyHistogram:
    """Counts of latencies in logarithmic buckets from 1 us to 100 s."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.samples = 0
        self.max_s = 0.0

    def add(self, latency_s: float) -> None:
        """Count one latency in seconds."""
        bucket = int(math.log10(max(latency_s, _FLOOR_S) / _FLOOR_S) * _STEPS)
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self.samples += 1
        self.max_s = max(self.max_s, latency_s)

    def percentile_s(self, pct: float) -> float:
        """Return the latency under which `pct` percent of the samples lie, within 5 %; 0 without samples."""
        wanted = self.samples * pct / 100
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(_FLOOR_S * 10 ** ((bucket + 1) / _STEPS), self.max_s)
        return 0.0
