"""Which readings are samples, and in which order they are looked at."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.stages.anomaly_roster import Roster
from processors.stages.anomaly_samples import (
    BUCKET_BLANK,
    HISTORY,
    HISTORY_LAYOUT,
    Samples,
    history_of,
    remember,
    split_rounds,
    take_samples,
)
from processors.stages.anomaly_table import Table

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.none() | st.just(1.0)), max_size=40)


def samples_of(rows: list[tuple[int, int, float | None]]) -> Samples:
    return Samples(
        codes=np.array([code for code, _, _ in rows], np.int64),
        at_us=np.array([at for _, at, _ in rows], np.int64),
        offset=np.arange(len(rows)),
        values=np.array([[np.nan if value is None else value] for _, _, value in rows]).reshape(-1, 1),
    )


@given(ROWS, st.integers(0, 40), st.integers(0, 40))
def test_samples_are_the_first_of_each_new_bucket(
    rows: list[tuple[int, int, float | None]], cut: int, room: int
) -> None:
    """In two batches as in a walk through the journal, up to the room there is."""
    newest: dict[int, int] = {}
    expected = []
    for offset, (code, at, value) in enumerate(rows):
        if value is not None and at // 10 > newest.get(code, -1) and len(expected) < room:
            newest[code] = at // 10
            expected.append(offset)
    buckets = np.full(4, BUCKET_BLANK)
    found: list[int] = []
    whole = samples_of(rows)
    for part in (slice(0, cut), slice(cut, None)):
        taken, buckets = take_samples(whole.take(part), buckets, 10, room - len(found))
        found += [] if taken is None else taken.offset.tolist()
    # With room for no more, a batch that ends earlier has seen less: beyond it only the number is the same.
    assert expected == found


@given(ROWS.filter(bool))
def test_rounds_hold_each_device_once_and_keep_its_order(rows: list[tuple[int, int, float | None]]) -> None:
    """The k-th round has the k-th sample of every device."""
    rounds, rest = split_rounds(samples_of(rows))
    assert rest is None
    for code in range(4):
        assert [i for i, row in enumerate(rows) if row[0] == code] == [
            int(offset) for one in rounds for offset in one.offset[one.codes == code]
        ]
    assert all(len(set(one.codes.tolist())) == len(one) for one in rounds)


def test_more_rounds_than_the_limit_wait() -> None:
    """Of a device that tells of two days at once the second day is left for the next look."""
    rounds, rest = split_rounds(samples_of([(0, at, 1.0) for at in range(3_000)]))
    assert rest is not None
    assert (1_440, 1_560) == (len(rounds), len(rest))
    assert 1_440 == rest.offset[0]


def test_history_is_the_last_samples_oldest_first() -> None:
    """After more than it holds the oldest are gone."""
    table = Table(HISTORY_LAYOUT, 2)
    for n in range(HISTORY + 5):
        remember(table, samples_of([(1, n * 1_000_000, 1.0)]), 0)
    assert [(n, 1.0) for n in range(5, HISTORY + 5)] == history_of(table, 1)
    assert [] == history_of(table, 0)


@settings(max_examples=30)
@given(st.lists(st.lists(st.tuples(st.sampled_from("tu"), st.integers(0, 400)), max_size=60), max_size=5))
def test_codes_are_the_order_of_appearance(batches: list[list[tuple[str, int]]]) -> None:
    """Devices have the same code in every batch, each its own, tenants apart."""
    roster, known = Roster.empty(("tenant", "device_id")), {}
    for batch in batches:
        names = [(tenant, f"bus-{bus}") for tenant, bus in batch]
        rows = pl.DataFrame(names, schema={"tenant": pl.String(), "device_id": pl.String()}, orient="row")
        roster, codes = roster.with_devices(rows)
        for name in names:
            known.setdefault(name, len(known))
        assert [known[name] for name in names] == codes.tolist()
    assert list(known) == roster.names.rows()


def test_parts_of_a_device_have_codes_of_their_own() -> None:
    """A connector without a name is one, too."""
    rows = pl.DataFrame({"tenant": ["t"] * 4, "device_id": ["cs"] * 4, "connector": ["1", None, "2", None]})
    _, codes = Roster.empty(("tenant", "device_id", "connector")).with_devices(rows)
    assert [0, 1, 2, 1] == codes.tolist()
