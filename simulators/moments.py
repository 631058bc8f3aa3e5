"""Moments as devices write them."""

from datetime import UTC, datetime

US_PER_S = 1_000_000


def iso(at_us: int) -> str:
    """Return UTC microseconds since 1970 as ISO 8601."""
    second, us = divmod(at_us, US_PER_S)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{us:06d}Z"
