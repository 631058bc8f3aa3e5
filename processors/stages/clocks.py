"""Which time of a device is believed: a clock that runs ahead is set back to the moment of receipt."""

from datetime import timedelta
from typing import Final

import msgspec
import polars as pl

CLAMPED: Final = "clock_clamped"


class Clamped(msgspec.Struct, frozen=True):
    """Readings with believable times, and how many of them were changed."""

    readings: pl.DataFrame
    clamped_rows: int


def clamp_clocks(readings: pl.DataFrame, *, skew_max_s: float) -> Clamped:
    """Set `measured_at` to `received_at` where it is further ahead of it than `skew_max_s`, and flag the row.

    A time in the past is believed however old: a device may have been out of coverage for weeks. One ahead would push
    the device's watermark on and make everything after it late, so it never gets through. Row order is kept; doing it
    again changes nothing.

    Args:
        readings: Readings frame of one stream.
        skew_max_s: Largest lead that is believed, seconds, not negative.
    """
    assert skew_max_s >= 0
    ahead = readings["measured_at"] - readings["received_at"] > timedelta(seconds=skew_max_s)
    rows = int(ahead.sum())
    if rows == 0:
        return Clamped(readings, 0)
    # Flags are sorted, and every other code that can stand beside this one begins with a later letter.
    flags = pl.concat_str([pl.lit(CLAMPED), "flags"], separator=",", ignore_nulls=True)
    clamped = readings.with_columns(
        measured_at=pl.when(ahead).then("received_at").otherwise("measured_at"),
        flags=pl.when(ahead).then(flags).otherwise("flags"),
    )
    return Clamped(clamped, rows)
