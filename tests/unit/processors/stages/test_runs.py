"""Piles of rows keep order, stay few in runs and drop what they may."""

import polars as pl

from processors.stages.runs import Runs, from_ipc, to_ipc


def rows_of(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"_device": [n % 3 for n in numbers], "number": numbers}, schema={"_device": pl.UInt32(), "number": pl.Int64()}
    )


def everything(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def test_rows_stay_in_order_of_arrival_in_few_runs() -> None:
    """Five hundred appends of one to three rows leave at most eight runs and every row in its place."""
    pile, expected = Runs(), []
    for n in range(500):
        added = [10 * n + k for k in range(1 + n % 3)]
        pile = pile.with_rows(rows_of(*added), everything)
        expected += added
        assert len(pile.frames) <= 8
    frame = pile.to_frame(everything)
    assert frame is not None
    assert expected == frame["number"].to_list()
    assert pile.height == len(expected)


def test_rows_that_a_fold_drops_do_not_pile_up() -> None:
    """With the last hundred rows live, no more than a few hundred are ever held."""
    pile = Runs()
    for n in range(0, 5_000, 5):
        pile = pile.with_rows(rows_of(*range(n, n + 5)), lambda frame, n=n: frame.filter(pl.col("number") > n - 100))
        assert pile.height <= 400


def test_look_up_finds_exactly_the_rows_with_the_keys() -> None:
    """Rows of all runs are found oldest first, others not, and no keys find nothing."""
    pile = Runs()
    for n in range(30):
        pile = pile.with_rows(rows_of(n, n + 100), everything)
    keys = rows_of(4, 104, 105, 29, 999)
    found = [n for frame in pile.matching(keys, "number") for n in frame["number"].to_list()]
    assert found == [4, 104, 105, 29]
    assert list(pile.matching(keys.clear(), "number")) == []


def test_appending_leaves_the_older_pile_alone() -> None:
    """A pile is a value."""
    older = Runs().with_rows(rows_of(1), everything)
    older.with_rows(rows_of(2), everything)
    assert older.height == 1


def test_pile_survives_bytes() -> None:
    """An IPC file gives the same rows back, and nothing gives nothing."""
    frame = rows_of(1, 2, 3)
    back = from_ipc(to_ipc(frame))
    assert back is not None
    assert frame.equals(back)
    assert from_ipc(to_ipc(None)) is None
    assert Runs().to_frame(everything) is None
