"""Windows that come back, by the clock on the wall."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from processors.notices.calendar import Maintenance


def span(now: str, **fields: Any) -> tuple[str, str]:
    """Return the window's first stay that has not ended, as UTC."""
    begins, ends = Maintenance(**fields).span(_us(now))
    return _text(begins), _text(ends)


def _us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def _text(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M")


NIGHT: dict[str, Any] = {"from_min": 120, "until_min": 240, "zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("now", "fields", "expected"),
    [
        ("2026-03-02T00:00", NIGHT, ("2026-03-02T01:00", "2026-03-02T03:00")),
        ("2026-03-02T02:59", NIGHT, ("2026-03-02T01:00", "2026-03-02T03:00")),
        ("2026-03-02T03:00", NIGHT, ("2026-03-03T01:00", "2026-03-03T03:00")),
        ("2026-07-02T00:00", NIGHT, ("2026-07-02T00:00", "2026-07-02T02:00")),
        ("2026-03-02T00:00", NIGHT | {"days": (5,)}, ("2026-03-07T01:00", "2026-03-07T03:00")),
        ("2026-03-02T00:00", {"from_min": 1320, "until_min": 240}, ("2026-03-01T22:00", "2026-03-02T04:00")),
        ("2026-03-02T12:00", {"from_min": 0, "until_min": 1440}, ("2026-03-02T00:00", "2026-03-03T00:00")),
        ("2026-03-01T23:30", NIGHT | {"days": (0,), "from_min": 0}, ("2026-03-01T23:00", "2026-03-02T03:00")),
        ("2026-03-28T20:00", NIGHT, ("2026-03-29T01:00", "2026-03-29T02:00")),
        ("2026-03-28T20:00", NIGHT | {"from_min": 90, "until_min": 150}, ("2026-03-29T00:30", "2026-03-29T01:00")),
        ("2026-03-28T20:00", NIGHT | {"from_min": 130, "until_min": 170}, ("2026-03-30T00:10", "2026-03-30T00:50")),
        ("2026-10-24T20:00", NIGHT, ("2026-10-25T00:00", "2026-10-25T03:00")),
        ("2026-10-24T20:00", NIGHT | {"from_min": 130, "until_min": 170}, ("2026-10-25T00:10", "2026-10-25T01:50")),
    ],
    ids=[
        "ahead",
        "inside",
        "over",
        "summer",
        "next Saturday",
        "over midnight",
        "whole day",
        "day of the zone",
        "clock jumps over its beginning",
        "clock jumps over its end",
        "clock jumps over all of it",
        "clock shows its beginning twice",
        "clock shows all of it twice",
    ],
)
def test_window_follows_the_clock_on_the_wall(now: str, fields: dict[str, Any], expected: tuple[str, str]) -> None:
    """Days are those of the zone, and changes of the clock neither double a window nor turn it round."""
    assert expected == span(now, **fields)


def test_every_moment_of_a_year_has_its_window() -> None:
    """Hour by hour the stay never goes back, never overlaps the one before, and is at most an hour off its length."""
    window = Maintenance(days=(6,), from_min=120, until_min=180, zone="Europe/Berlin")
    hour_us = 3_600_000_000
    now_us = _us("2026-01-01T00:00")
    stays = [window.span(now_us + n * hour_us) for n in range(365 * 24)]
    assert stays == sorted(stays)
    different = sorted(set(stays))
    assert 52 == len(different)
    assert all(before[1] <= after[0] for before, after in pairwise(different))
    assert {hour_us, 2 * hour_us} == {ends - begins for begins, ends in different}
