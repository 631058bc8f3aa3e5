"""The band of a long history: exact while it is short, bounded when it is long, and only ever of the past."""

import bisect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.stages.anomaly_table import Table
from processors.stages.band import (
    BAND_LAYOUT,
    EPISODE_LAYOUT,
    EXCESS_MAX,
    LEVEL,
    RANK,
    ROUGHNESS,
    VALUE,
    BandSettings,
    _band,
    observe,
    tell_fresh,
)

SETTINGS = BandSettings(share=0.1, span=4, warm_up=3)


def excess_of(values: list[float], settings: BandSettings) -> list[float]:
    """The excesses of one series."""
    bands, row = Table(BAND_LAYOUT, 1), np.array([0])
    return [float(observe(bands, row, np.array([value]), settings).excess[0]) for value in values]


def naive(values: list[float], settings: BandSettings) -> list[float]:
    """The oracle: sort all that came before, of each aspect, and interpolate."""
    histories: list[list[float]] = [[], [], []]
    level = roughness = last = math.nan
    found = []
    for value in values:
        roughness = 0.0 if math.isnan(last) else roughness + (abs(value - last) - roughness) / settings.span
        level = value if math.isnan(last) else level + (value - level) / settings.span
        last, worst = value, 0.0
        for history, exact in zip(histories, (value, level, roughness), strict=True):
            aspect = float(np.float32(exact))
            if len(history) >= settings.warm_up:
                low, high = quantile(history, settings.share), quantile(history, 1.0 - settings.share)
                distance, width = max(aspect - high, low - aspect), max(high - low, settings.least_width)
                if distance > 0:
                    worst = max(worst, min(distance / width if width else math.inf, EXCESS_MAX))
            bisect.insort(history, aspect)
        found.append(worst)
    return found


def quantile(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place + 1e-12)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-30, 30).map(lambda n: n / 4), max_size=RANK * 10 - 1), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.5]),
)
def test_many_series_at_once_are_each_alone_and_as_sorted(series: list[list[float]], least_width: float) -> None:
    """Series of different lengths in one table give what sorting the history of each gives."""
    chosen = BandSettings(share=0.1, span=4, warm_up=3, least_width=least_width)
    bands = Table(BAND_LAYOUT, len(series))
    found: list[list[float]] = [[] for _ in series]
    for place in range(max(map(len, series))):
        rows = np.array([i for i, values in enumerate(series) if place < len(values)])
        values = np.array([series[i][place] for i in rows])
        for i, excess in zip(rows, observe(bands, rows, values, chosen).excess, strict=True):
            found[i].append(float(excess))
    for values, excesses in zip(series, found, strict=True):
        assert naive(values, chosen) == pytest.approx(excesses, rel=1e-4, abs=1e-4)


def test_history_longer_than_what_is_kept_keeps_its_band() -> None:
    """Of normal numbers, five times what is held exactly, 1 % lie outside each edge, give or take a tenth."""
    chosen, rows = BandSettings(share=0.01), np.arange(100)
    bands, outside = Table(BAND_LAYOUT, 100), 0
    exact = round(RANK / chosen.share)
    for place, sample in enumerate(np.random.default_rng(7).normal(size=(5 * exact, 100))):
        if place >= exact:
            edges = _band(bands["edges"], rows, bands["weight"], chosen.share)[:, VALUE]
            outside += int(((sample > edges[:, 0]) | (-sample > edges[:, 1])).sum())
        observe(bands, rows, sample, chosen)
    assert 0.02 == pytest.approx(outside / (4 * exact * 100), rel=0.1)


def test_memory_does_not_grow() -> None:
    """A table has the same bytes after any number of samples."""
    bands = Table(BAND_LAYOUT, 3)
    before = bands.nbytes
    for value in np.random.default_rng(1).normal(size=500):
        observe(bands, np.arange(3), np.full(3, value), SETTINGS)
    assert before == bands.nbytes


def test_far_past_is_forgotten_slowly() -> None:
    """A spike is inside for as long as it is remembered, and after many halvings of the history it is outside again."""
    quiet = [float(n % 5) for n in range(2_000)]
    found = excess_of([*quiet[:200], 100.0, *quiet, 100.0], SETTINGS)
    assert found[200] > 10.0
    assert found[-1] > 10.0


@pytest.mark.parametrize(
    ("values", "aspect"),
    [
        pytest.param([0.0, 1.0, 2.0, 1.0] * 10 + [9.0], VALUE, id="jump"),
        pytest.param([0.0, 8.0] * 20 + [8.0] * 12, LEVEL, id="stays high"),
        pytest.param([float(n % 20) for n in range(60)] + [0.0, 19.0] * 6, ROUGHNESS, id="shakes"),
    ],
)
def test_each_aspect_sees_its_kind_of_trouble(values: list[float], aspect: int) -> None:
    """The aspect that is furthest outside at the first excess after the history is the one made for it."""
    bands, row = Table(BAND_LAYOUT, 1), np.array([0])
    found = []
    for place, value in enumerate(values):
        outside = observe(bands, row, np.array([value]), BandSettings(share=0.001, span=5, warm_up=40))
        if place >= 40 and outside.excess[0] > 0:
            found.append(int(outside.aspect[0]))
    assert aspect == found[0]


def test_future_does_not_show() -> None:
    """The excess of a sample is the same whatever follows it."""
    values = list(np.random.default_rng(3).normal(size=300))
    assert excess_of(values[:200], SETTINGS) == excess_of([*values, 1e6], SETTINGS)[:200]


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.5, -1e300, 1e-30], ids=str)
def test_constant_is_never_outside(value: float) -> None:
    """However it is rounded."""
    assert [0.0] * 50 == excess_of([value] * 50, SETTINGS)


def test_episode_speaks_once_and_again_only_when_it_grows() -> None:
    """Within `quiet` samples only what is `rise` times as large is fresh; after them everything is."""
    episodes, row = Table(EPISODE_LAYOUT, 1), np.array([0])
    excesses = [0.0, 1.0, 1.9, 0.0, 2.1, 3.0, 0.0, 0.0, 0.5]
    fresh = [bool(tell_fresh(episodes, row, np.array([one]), quiet=3, rise=2.0)[0]) for one in excesses]
    assert [False, True, False, False, True, False, False, False, True] == fresh
