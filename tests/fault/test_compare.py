"""The oracle itself: it must see a row that is gone, one that is there twice, and one that is not the same."""

from collections import Counter
from typing import Any

import polars as pl
import pytest

from simulators.truth import Expected
from tests.fault.compare import Comparison, differing, misjudged, missing, newest, repeated, total

DIGESTS = [bytes([i]) * 16 for i in range(6)]
ACKNOWLEDGED = pl.DataFrame({"device_id": ["a"] * 3 + ["b"] * 3, "seq": [0, 1, 2] * 2, "digest": DIGESTS})
RAW = pl.DataFrame({"offset": range(10, 16), "device_id": ["a"] * 3 + ["b"] * 3, "digest": DIGESTS})
WINDOWS = pl.DataFrame(
    {
        "tenant": ["default"] * 3,
        "device_id": ["a", "a", "b"],
        "window_s": [60, 60, 60],
        "window_start": [0, 60, 0],
        "revision": [0, 0, 1],
        "mean": [1.5, None, float("nan")],
    }
)


def test_nothing_is_missing_from_what_is_complete() -> None:
    """Rows nobody acknowledged yet are no fault, nor is a message that is there because it was sent again."""
    held = pl.concat([RAW, RAW.head(2)])
    assert missing(ACKNOWLEDGED.head(4), held, ("device_id", "digest")).height == 0
    assert repeated(RAW, ("offset",)) == 0


@pytest.mark.parametrize("row", range(6))
def test_a_dropped_row_is_lost(row: int) -> None:
    """Whichever it is, the oracle names it."""
    held = RAW.with_row_index().filter(pl.col("index") != row)
    lost = missing(ACKNOWLEDGED, held, ("device_id", "digest"))
    assert ACKNOWLEDGED.row(row) == lost.row(0)
    assert lost.height == 1


def test_other_bytes_under_the_same_sequence_number_are_lost() -> None:
    """A payload with a flipped bit is not the one that was acknowledged."""
    held = RAW.with_columns(pl.when(pl.col("offset") == 12).then(pl.lit(b"x" * 16)).otherwise("digest").alias("digest"))
    assert missing(ACKNOWLEDGED, held, ("device_id", "digest"))["seq"].to_list() == [2]


def test_the_same_bytes_of_another_device_are_no_excuse() -> None:
    """A row counts for the device that sent it."""
    held = RAW.with_columns(pl.lit("b").alias("device_id"))
    assert missing(ACKNOWLEDGED, held, ("device_id", "digest")).height == 3


def test_a_row_that_is_there_again_is_a_duplicate() -> None:
    """Each one beyond the first counts."""
    assert repeated(pl.concat([RAW, RAW.head(2), RAW.head(1)]), ("offset",)) == 3


def test_equal_tables_do_not_differ() -> None:
    """In any order; null equals null and NaN equals NaN."""
    assert differing(WINDOWS, WINDOWS.reverse()) == 0


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (WINDOWS.head(2), 1),
        (pl.concat([WINDOWS, WINDOWS.head(1)]), 1),
        (WINDOWS.with_columns(mean=pl.col("mean").fill_null(0.0)), 2),
        (WINDOWS.with_columns(mean=pl.col("mean") + 2**-50), 2),
        (WINDOWS.with_columns(revision=pl.lit(0)), 2),
    ],
    ids=["dropped", "doubled", "null made 0", "last bits changed", "other revision"],
)
def test_any_change_of_a_window_is_seen(changed: pl.DataFrame, expected: int) -> None:
    """A changed row is one that is there and one that is not."""
    assert expected == differing(changed.cast(WINDOWS.schema), WINDOWS)


def test_only_the_newest_revision_counts() -> None:
    """How many revisions there were on the way depends on how batches were cut."""
    older = WINDOWS.filter(pl.col("revision") == 1).with_columns(revision=pl.lit(0, pl.Int64), mean=pl.lit(7.0))
    assert differing(newest(pl.concat([WINDOWS, older])), newest(WINDOWS)) == 0


def test_windows_of_parts_are_windows_of_their_own() -> None:
    """Each connector of a charger has its own."""
    plain = WINDOWS.with_columns(pl.lit("2").alias("connector"))
    two = pl.concat([WINDOWS.with_columns(pl.lit("1").alias("connector")), plain])
    two = two.select("tenant", "device_id", "connector", "window_s", "window_start", "revision", "mean")
    assert differing(newest(two), two) == 0


def test_rejects_are_held_against_the_truth() -> None:
    """Too few, too many, possible because it was never acknowledged, and of a device nobody knows."""
    truth = {
        ("bus", "telemetry"): Expected(rejects=Counter(time=3), rejects_possible=Counter(time=1)),
        ("car", "telemetry"): Expected(rejects=Counter(syntax=2)),
    }
    found = {("bus", "telemetry"): {"time": 4}, ("car", "telemetry"): {"syntax": 1, "time": 1}, ("x", "y"): {"time": 5}}
    assert misjudged(truth, found) == (1, 1 + 5)


@pytest.mark.parametrize(
    "flaw",
    [
        {"lost": 1},
        {"duplicated": 1},
        {"windows_differing": 1},
        {"rows_differing": 1},
        {"sessions_differing": 1},
        {"findings": ("the ledger does not balance",)},
        {"found": 9},
        {"acknowledged": 0, "found": 0},
    ],
)
def test_any_flaw_fails_the_sum(flaw: dict[str, Any]) -> None:
    """One bad round among good ones is enough, and a run that acknowledged nothing shows nothing."""
    good: dict[str, Any] = {"acknowledged": 10, "found": 10}
    assert total([Comparison(**good), Comparison(**good)]).passed
    one = Comparison(**(good | flaw))
    assert not one.passed
    assert total([Comparison(**good), one]).passed == (one.acknowledged == 0)
