"""What rules see of a device's past: how old it is, when it is missing, and that it is bounded."""

import polars as pl
import pytest

from processors.stages import rule_past
from processors.stages.rule_past import RING, Look, Looked, Past, look_back
from processors.stages.rule_rows import NEVER, Rows

US = 1_000_000
START = 1_790_000_000 * US
FUNCTIONS = ("rate", "change", "lowest", "highest")


def rows_of(*rows: tuple[int, float, float | None]) -> pl.DataFrame:
    """Return rows from (device code, seconds since the start, x), sorted by device."""
    return pl.DataFrame(
        [(device, START + round(at_s * US), x) for device, at_s, x in rows],
        schema={"device": pl.UInt32(), "at": pl.Int64(), "x": pl.Float64()},
        orient="row",
    )


def look(span_s: float, past: Past, rows: pl.DataFrame) -> tuple[Looked, Past]:
    """Return what the rows see in one series of x."""
    looks = [Look(span_us=round(span_s * US), has_extremes=True)]
    return look_back(looks, past, Rows(rows, None, rows["device"], rows["at"]), [rows["x"]], 3)


def values(
    *batches: pl.DataFrame, span_s: float = 8.0, functions: tuple[str, ...] = FUNCTIONS
) -> list[tuple[float | None, ...]]:
    """Return the functions' values at all rows of the batches."""
    past, found = Past(), []
    for rows in batches:
        looked, past = look(span_s, past, rows)
        found += [*zip(*(looked.values(function, 0) for function in functions), strict=True)]
    return found


def test_past_is_about_the_span_ago() -> None:
    """At one reading a second and a span of 8 s, `then` is 8 s before; the lowest and highest are since then."""
    rows = rows_of(*((0, i, float(i * i)) for i in range(12)))
    assert [(112 / 8, 112.0, 9.0, 121.0)] == values(rows)[-1:]
    assert values(rows) == values(*rows.iter_slices(1))


def test_past_of_less_than_half_the_span_is_missing() -> None:
    """The fifth reading is the first that has one."""
    found = values(rows_of(*((0, i, float(i)) for i in range(6))))
    assert [None, None, None, None, 1.0, 1.0] == [rate for rate, *_ in found]


def test_gap_is_a_missing_past() -> None:
    """After two spans of silence nothing is known, and the past begins anew."""
    found = values(rows_of(*((0, at, 1.0) for at in (0, 2, 4, 20, 22, 24))))
    assert [None, None, 0.0, None, None, 0.0] == [change for _, change, *_ in found]


def test_missing_value_is_no_point_of_the_past() -> None:
    """A null has no rate, and is not what a later reading is compared with."""
    found = values(rows_of((0, 0, 5.0), (0, 4, None), (0, 5, 6.0), (0, 8, None), (0, 9, 7.0)), functions=("change",))
    assert [(None,), (None,), (1.0,), (None,), (1.0,)] == found


def test_only_the_first_reading_of_a_bucket_is_a_sample() -> None:
    """What lies between samples is in no lowest or highest, except the reading itself."""
    rows = rows_of((0, 0, 1.0), (0, 0.5, 99.0), (0, 4, 50.0), (0, 4.5, 0.0), (0, 5, 20.0))
    assert [(1.0, 50.0), (0.0, 50.0), (1.0, 50.0)] == values(rows, functions=("lowest", "highest"))[2:]


@pytest.mark.parametrize("span_s", [0.8, 8.0, 300.0])
@pytest.mark.parametrize("cells_max", [1, 1 << 21], ids=["short rings", "long rings"])
def test_batch_longer_than_the_ring_is_as_reading_by_reading(
    monkeypatch: pytest.MonkeyPatch, cells_max: int, span_s: float
) -> None:
    """Hours of a device in one batch, with gaps, beside devices with a little: values do not depend on the cut."""
    monkeypatch.setattr(rule_past, "_LONG_CELLS_MAX", cells_max)
    ats = [i * 1.0 + (500 * (i // 100)) for i in range(240)]
    rows = rows_of(
        *((0, 7.0 * i, float(i % 9)) for i in range(3)),
        *((1, at, float(i * 7 % 31)) for i, at in enumerate(ats)),
        *((2, at * 3, float(i * 5 % 17) if i % 4 else None) for i, at in enumerate(ats)),
    )
    later = rows_of((0, 30.0, 1.0), (1, ats[-1] + 0.4, 3.0), (2, ats[-1] * 3 + 2, 4.0))
    found = (
        rows.vstack(later)["device"]
        .to_frame()
        .with_columns(pl.Series("found", values(rows, later, span_s=span_s), dtype=pl.List(pl.Float64())))
    )
    for device in range(3):
        own = [*rows.filter(device=device).iter_slices(2), later.filter(device=device)]
        expected = [[*one] for one in values(*own, span_s=span_s)]
        assert expected == found.filter(device=device)["found"].to_list()
    assert found["found"].list.get(1).abs().max()


def test_samples_of_a_device_are_bounded() -> None:
    """A thousand readings take the room of RING samples."""
    _, past = look(8.0, Past(), rows_of(*((0, i, 1.0) for i in range(1000))))
    assert RING >= (past.at != NEVER).sum()


def test_history_is_what_the_function_saw() -> None:
    """Nine samples and no more, the reading itself last, also where it is no sample."""
    rows = rows_of(*((0, i, float(i)) for i in range(20)), (0, 19.5, 7.0))
    seen, _ = look(8.0, Past(), rows)
    histories = seen.histories(0, [20, 3])
    assert [0.0, 1.0, 2.0, 3.0] == [value for _, value in histories[3]]
    assert [float(i) for i in range(11, 20)] + [7.0] == [value for _, value in histories[20]]
