"""Maintenance windows that come back: when, by the clock on the wall of a time zone, nobody wants to be told."""

from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from processors.stages.alert_record import Matcher

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_SECOND_US: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Maintenance(msgspec.Struct, frozen=True, kw_only=True):
    """A window that comes back on days of the week.

    Where clocks are put forward over its beginning or end, that is the moment of the change; where they are put back
    over one, it begins at the first and ends at the second of the two equal times.

    Attributes:
        matchers: All must match; none matches every alert.
        days: Days on which it begins, 0 is Monday.
        from_min: Minute of the day at which it begins.
        until_min: Minute at which it ends; on the next day if that is not after `from_min`.
        zone: IANA name of the time zone.
        why: Reason for people.
    """

    matchers: tuple[Matcher, ...] = ()
    days: tuple[int, ...] = tuple(range(7))
    from_min: int
    until_min: int
    zone: str = "UTC"
    why: str = ""

    def span(self, now_us: int) -> tuple[int, int]:
        """Return the first stay of the window that has not ended at `now_us`: its beginning and its end."""
        zone = ZoneInfo(self.zone)
        today = (_EPOCH + timedelta(microseconds=now_us)).astimezone(zone).date()
        for ahead in range(-2, 16):
            day = today + timedelta(days=ahead)
            if day.weekday() not in self.days:
                continue
            last = day if self.until_min > self.from_min else day + timedelta(days=1)
            begins = _instant(day, self.from_min, zone, is_end=False)
            ends = _instant(last, self.until_min, zone, is_end=True)
            if begins < ends and now_us < ends:
                return begins, ends
        raise AssertionError("a window on a day of the week comes back within two weeks")


def _instant(day: date, minute: int, zone: ZoneInfo, *, is_end: bool) -> int:
    """Return when the clock on the wall shows that minute of that day, in microseconds since 1970."""
    day += timedelta(days=minute // _DAY_MINUTES)
    hour, rest = divmod(minute % _DAY_MINUTES, 60)
    wall = datetime(day.year, day.month, day.day, hour, rest, tzinfo=zone)
    first, second = wall.timestamp(), wall.replace(fold=1).timestamp()
    if first <= second:
        return int(second if is_end else first) * _SECOND_US
    # The clock never shows it: between the two moments it jumps, from before `wall` to after it.
    low, high = int(second), int(first)
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high * _SECOND_US
