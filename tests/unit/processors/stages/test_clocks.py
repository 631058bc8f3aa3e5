"""A clock that runs ahead is set back, a slow one is believed."""

from datetime import UTC, datetime, timedelta

import polars as pl

from processors.stages.clocks import clamp_clocks

RECEIVED = datetime(2026, 11, 22, 10, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")


def _readings(*rows: tuple[datetime, str | None], received: datetime = RECEIVED) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "measured_at": [measured for measured, _ in rows],
            "received_at": [received] * len(rows),
            "flags": [flags for _, flags in rows],
        },
        schema={"measured_at": TIME, "received_at": TIME, "flags": pl.String},
    )


def test_time_ahead_of_the_bound_becomes_the_time_of_receipt() -> None:
    """Exactly the bound is still believed; a microsecond more is not, and is flagged in sorted order."""
    bound = RECEIVED + timedelta(minutes=5)
    late = timedelta(microseconds=1)
    clamped = clamp_clocks(
        _readings((bound, None), (bound + late, None), (bound + late, "range:soc_pct")), skew_max_s=300.0
    )
    expected = _readings((bound, None), (RECEIVED, "clock_clamped"), (RECEIVED, "clock_clamped,range:soc_pct"))
    assert expected.equals(clamped.readings)
    assert clamped.clamped_rows == 2


def test_old_times_are_believed() -> None:
    """A bus may have been out of coverage, or its clock may be at 1970: that is for windows to judge."""
    readings = _readings((datetime(1970, 1, 1, tzinfo=UTC), None), (RECEIVED - timedelta(days=30), None))
    clamped = clamp_clocks(readings, skew_max_s=0.0)
    assert readings.equals(clamped.readings)
    assert clamped.clamped_rows == 0


def test_the_end_of_32_bit_clocks_is_ahead_like_any_other() -> None:
    """2106-02-07, all bits set, and the year 9999 are clamped without overflow."""
    ends = [datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]
    clamped = clamp_clocks(_readings(*[(end, None) for end in ends]), skew_max_s=300.0)
    assert clamped.readings["measured_at"].to_list() == [RECEIVED, RECEIVED]


def test_clamping_again_changes_nothing() -> None:
    """The stage may run twice over the same rows."""
    once = clamp_clocks(_readings((RECEIVED + timedelta(days=1), "range:x")), skew_max_s=300.0).readings
    assert once.equals(clamp_clocks(once, skew_max_s=300.0).readings)


def test_no_rows_are_no_problem() -> None:
    """An empty frame keeps its columns."""
    empty = _readings()
    assert empty.equals(clamp_clocks(empty, skew_max_s=300.0).readings)
