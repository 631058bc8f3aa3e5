"""A reading is kept once, whatever is repeated where, and however the journal is cut."""

import itertools

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.stages.duplicates import DuplicateState, drop_duplicates

TIME = pl.Datetime("us", "UTC")
SCHEMA = {
    "tenant": pl.String(),
    "device_id": pl.String(),
    "measured_at": TIME,
    "received_at": TIME,
    "offset": pl.Int64(),
    "record": pl.Int32(),
    "flags": pl.String(),
    "sequence": pl.Int32(),
    "power_kw": pl.Float64(),
    "mode": pl.String(),
    "doors_open": pl.Boolean(),
    "cells_v": pl.List(pl.Float64()),
}
READINGS = st.lists(
    st.tuples(
        st.sampled_from("tu"),
        st.sampled_from("ab"),
        st.integers(0, 5),
        st.none() | st.integers(0, 1),
        st.sampled_from([None, 0.0, 0.5]),
        st.sampled_from([None, "", "drive"]),
        st.sampled_from([None, True, False]),
        st.sampled_from([None, [], [3.5], [3.5, None]]),
    ),
    max_size=30,
)
KEYS = st.sampled_from([None, ("device_id", "measured_at"), ("sequence",), ("device_id", "sequence", "mode")])


def first_ones(readings: list[tuple], key: tuple[str, ...] | None) -> list[int]:
    """The oracle: offsets of the readings whose key was never seen before."""
    names = ["tenant", "device_id", "measured_at", *list(SCHEMA)[7:]]
    seen, kept = set(), []
    for offset, reading in enumerate(readings):
        values = dict(zip(names, reading, strict=True))
        parts = ["tenant", "device_id", "measured_at", *(names[3:] if key is None else key)]
        if (one := repr([values[name] for name in parts])) not in seen:
            seen.add(one)
            kept.append(offset)
    return kept


@settings(max_examples=60)
@given(READINGS, KEYS, st.lists(st.integers(0, 30), max_size=3), st.booleans())
def test_exactly_the_first_of_equal_readings_is_kept(
    readings: list[tuple], key: tuple[str, ...] | None, cuts: list[int], restart: bool
) -> None:
    """Kept offsets and the count of dropped readings equal the oracle's after any cut and restart."""
    state, kept, dropped = DuplicateState.empty(), [], 0
    for low, high in itertools.pairwise([0, *sorted(cuts), len(readings)]):
        rows = [
            (tenant, device, at, at, low + i, 0, None, *rest)
            for i, (tenant, device, at, *rest) in enumerate(readings[low:high])
        ]
        found, n, state = drop_duplicates(pl.DataFrame(rows, schema=SCHEMA, orient="row"), key, state)
        state = DuplicateState.from_bytes(state.to_bytes()) if restart else state
        kept += found["offset"].to_list()
        dropped += n
    assert first_ones(readings, key) == kept
    assert len(readings) - len(kept) == dropped
