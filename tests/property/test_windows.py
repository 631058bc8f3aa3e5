"""Windows are a function of the journal: the oracle says the same, whatever the cuts, restarts, order or duplicates."""

import itertools
import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.contracts.windows import Aggregate, AggregateKind, WindowPlan
from processors.stages.duplicates import DuplicateState, drop_duplicates
from processors.stages.windows import WindowState, advance
from tests.property.window_oracle import Key, Reading, S, Said, Tick, say_windows

FIELDS = {"x": pl.Float64(), "k": pl.Int32(), "mode": pl.String()}
EXACT = {AggregateKind.FIRST, AggregateKind.LAST, AggregateKind.MIN, AggregateKind.MAX, AggregateKind.COUNT}
PLAN = WindowPlan(
    pane_s=10,
    sizes_s=(10, 20, 60),
    disorder_s=5.0,
    lateness_s=30.0,
    idle_s=15.0,
    gap_max_s=4.0,
    aggregates=tuple(
        Aggregate(field=field, kind=kind, column=f"{field}_{kind.value}", unit="1", scale=1 / 3600)
        for field, kinds in {"x": AggregateKind, "k": AggregateKind, "mode": EXACT}.items()
        for kind in kinds
    ),
)
START = 1_790_000_000 * S
TIME = pl.Datetime("us", "UTC")


def to_readings(entries: list) -> pl.DataFrame:
    rows = [e for e in entries if isinstance(e, Reading)]
    return pl.DataFrame(
        {
            "tenant": ["t"] * len(rows),
            "device_id": [r.device for r in rows],
            "measured_at": [r.at for r in rows],
            "received_at": [r.received for r in rows],
            "offset": [r.offset for r in rows],
            "record": [r.record for r in rows],
            **{field: [r.values[field] for r in rows] for field in FIELDS},
        },
        schema={
            "tenant": pl.String(),
            "device_id": pl.String(),
            "measured_at": TIME,
            "received_at": TIME,
            "offset": pl.Int64(),
            "record": pl.Int32(),
            **FIELDS,
        },
        orient="col",
    )


def to_ticks(entries: list) -> pl.DataFrame:
    ticks = [e for e in entries if isinstance(e, Tick)]
    return pl.DataFrame(
        {"offset": [t.offset for t in ticks], "received_at": [t.received for t in ticks]},
        schema={"offset": pl.Int64(), "received_at": TIME},
    )


def run(entries: list, cuts: list[int], *, restart: bool, dedupe: bool = False) -> tuple[dict[Key, Said], list[int]]:
    """Return the highest revision of each window, and `late` of each reading, of a run cut at these offsets."""
    state, known = WindowState.empty(PLAN), DuplicateState.empty()
    said: dict[Key, Said] = {}
    lates: list[int] = []
    bounds = [-1, *sorted(cuts), 10**9]
    for low, high in itertools.pairwise(bounds):
        batch = [e for e in entries if low < e.offset <= high]
        readings = to_readings(batch)
        if dedupe:
            readings, _, known = drop_duplicates(readings, ("device_id", "measured_at"), known)
        done = advance(PLAN, state, readings, to_ticks(batch))
        state = WindowState.from_bytes(PLAN, done.state.to_bytes()) if restart else done.state
        known = DuplicateState.from_bytes(known.to_bytes()) if restart else known
        lates += done.readings["late"].to_list()
        assert done.windows.select("device_id", "window_s", "window_start").is_unique().all()
        for row in done.windows.with_columns(pl.col("window_start", "received_at").dt.epoch("us")).iter_rows(
            named=True
        ):
            key = (row["device_id"], row["window_s"], row["window_start"])
            assert key not in said or row["revision"] > said[key].revision
            values = {a.column: row[a.column] for a in PLAN.aggregates}
            said[key] = Said(row["revision"], row["offset"], row["received_at"], row["n"], values)
    return said, lates


def assert_same(expected: dict[Key, Said], actual: dict[Key, Said], *, revisions: bool = True) -> None:
    assert expected.keys() == actual.keys()
    for key, one in expected.items():
        other = actual[key]
        if revisions:
            assert (key, one[:4]) == (key, other[:4])
        assert (key, one.n) == (key, other.n)
        for column, value in one.values.items():
            if isinstance(value, float):
                assert other.values[column] == pytest.approx(value, rel=1e-9, abs=1e-9), (key, column)
            else:
                assert (key, column, value) == (key, column, other.values[column])


VALUES = st.fixed_dictionaries(
    {
        "x": st.none() | st.floats(-100, 100, allow_nan=False),
        "k": st.none() | st.integers(-5, 5),
        "mode": st.sampled_from([None, "neutral", "drive"]),
    }
)


@st.composite
def journals(draw: st.DrawFn, *, behind_max_s: int = 70, clock_back: bool = True) -> list[Reading | Tick]:
    """Draw entries of up to three devices, in time, disordered, late and too late, with ticks and pauses between."""
    entries: list[Reading | Tick] = []
    now = START
    for offset in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([0, 1, 1, 1, 2, 3, 8, 20])) * S
        if clock_back and draw(st.integers(0, 30)) == 0:
            now -= 40 * S
        if draw(st.integers(0, 3)) == 0:
            entries.append(Tick(offset, now))
            continue
        device = draw(st.sampled_from("abc"))
        for record in range(draw(st.sampled_from([1, 1, 1, 4]))):
            behind = draw(st.sampled_from([0, 0, 0, 2, 4, 7]) | st.integers(0, behind_max_s))
            at = now - behind * S + draw(st.integers(0, 3)) * S // 4
            entries.append(Reading(offset, record, now, device, at, draw(VALUES)))
    return entries


@settings(max_examples=40)
@given(journals(), st.lists(st.integers(0, 40), max_size=4), st.booleans())
def test_any_cut_and_restart_says_what_the_oracle_says(entries: list, cuts: list[int], restart: bool) -> None:
    """Revision, offset, receipt, count and every aggregate of every window equal the oracle's."""
    expected, expected_lates = say_windows(PLAN, entries)
    actual, lates = run(entries, cuts, restart=restart)
    assert expected_lates == lates
    assert_same(expected, actual)


@settings(max_examples=20)
@given(journals(), st.lists(st.integers(0, 40), max_size=4))
def test_cuts_change_no_bit(entries: list, cuts: list[int]) -> None:
    """Floating point results of a cut run are equal, not just close, to those of one batch."""
    assert run(entries, [], restart=False) == run(entries, cuts, restart=True)


@settings(max_examples=20)
@given(journals(clock_back=False), st.lists(st.integers(0, 80), max_size=4), st.data())
def test_duplicates_anywhere_change_nothing(entries: list, cuts: list[int], data: st.DataObject) -> None:
    """A journal in which readings are sent again later gives the windows of the journal without them."""
    first_of: dict[tuple[str, int], Reading] = {}
    for entry in entries:
        if isinstance(entry, Reading):
            first_of.setdefault((entry.device, entry.at), entry)
    clean = [e for e in entries if isinstance(e, Tick) or first_of[e.device, e.at] is e]
    # Every entry gets an even offset; a duplicate goes into an odd one after its original's.
    spaced = [e._replace(offset=2 * e.offset) for e in entries]
    repeated: list[Reading | Tick] = []
    for reading in data.draw(st.lists(st.sampled_from(spaced), max_size=8)):
        if isinstance(reading, Reading):
            offset = 2 * data.draw(st.integers(reading.offset // 2, 40)) + 1
            repeated.append(reading._replace(offset=offset, record=len(repeated)))
    journal = sorted([*spaced, *repeated], key=lambda e: (e.offset, getattr(e, "record", 0)))
    expected, _ = run([e._replace(offset=2 * e.offset) for e in clean], [], restart=False)
    actual, _ = run(journal, cuts, restart=True, dedupe=True)
    assert_same(expected, actual)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 119), VALUES), min_size=1, max_size=40, unique_by=lambda s: s[0]), st.randoms()
)
def test_arrival_in_any_order_within_lateness_gives_the_sorted_content(samples: list, rng: random.Random) -> None:
    """Up to 25 s of disorder changes revisions at most, never what a window finally holds."""
    horizon = [(125 + 5 * i, {"x": None, "k": None, "mode": None}) for i in range(3)]

    def journal(order: list) -> list[Reading]:
        return [
            Reading(offset, 0, START + offset * S, "a", START + at * S, values)
            for offset, (at, values) in enumerate([*order, *horizon])
        ]

    in_order = sorted(samples, key=lambda s: s[0])
    disordered = sorted(in_order, key=lambda s: s[0] + rng.uniform(0, 25))
    expected, _ = say_windows(PLAN, journal(in_order))
    actual, lates = run(journal(disordered), [7, 20], restart=True)
    assert 2 not in lates
    ended = {key for key in expected if key[2] + key[1] * S <= START + 120 * S}
    assert_same({k: expected[k] for k in ended}, {k: v for k, v in actual.items() if k in ended}, revisions=False)
