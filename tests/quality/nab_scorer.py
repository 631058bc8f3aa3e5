"""The scoring rules of the Numenta Anomaly Benchmark, on arrays: what each row is worth, and the best threshold.

Written from the benchmark's description (A. Lavin, S. Ahmad: Evaluating Real-Time Anomaly Detection Algorithms, 2015)
and held against its published results; see `tests/quality/test_nab_scorer.py`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PROBATION_SHARE: Final = 0.15
PROBATION_ROWS_MAX: Final = 750
_FAR: Final = 3.0
"""Widths of a window behind its end from where a false positive counts in full."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What an application pays: per false positive, and per window that is missed."""

    false_positive: float
    missed: float


PROFILES: Final = {
    "standard": Profile(false_positive=0.11, missed=1.0),
    "reward_low_FP_rate": Profile(false_positive=0.22, missed=1.0),
    "reward_low_FN_rate": Profile(false_positive=0.11, missed=2.0),
}


class Series(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One series of the corpus.

    Attributes:
        name: Folder and name, without the suffix.
        timestamps: As written in the file.
        values: One a row.
        windows: First and last row of each labelled window, in order.
    """

    name: str
    timestamps: list[str]
    values: Floats
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """Rows at the beginning that do not count."""
        return min(math.floor(PROBATION_SHARE * len(self.values)), PROBATION_ROWS_MAX)


class Worth(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What reporting each row of a series is worth, before weights.

    Attributes:
        weight: 0..1 inside a window, where only the best reported row counts; -1..0 outside, where each counts.
        window: Number of the window within the series, -1 outside.
        counts: False for the rows of the probation.
    """

    weight: Floats
    window: Ints
    counts: npt.NDArray[np.bool_]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The result under one profile: 100 for perfect, 0 for a detector that reports nothing."""

    score: float
    threshold: float


def read_corpus(folder: Path) -> list[Series]:
    """Return all series in order of their names."""
    labels: dict[str, list[list[str]]] = json.loads((folder / "labels" / "combined_windows.json").read_text())
    return [_read_series(folder, name, windows) for name, windows in sorted(labels.items())]


def _read_series(folder: Path, name: str, windows: Sequence[Sequence[str]]) -> Series:
    frame = pl.read_csv(folder / "data" / name)
    timestamps = frame["timestamp"].to_list()
    # The labels have microseconds; a row's time is written without.
    found = [(timestamps.index(begin[:19]), timestamps.index(end[:19])) for begin, end in windows]
    return Series(
        name=name.removesuffix(".csv"),
        timestamps=timestamps,
        values=frame["value"].cast(pl.Float64).to_numpy().copy(),
        windows=tuple(found),
    )


def worth_of(series: Series) -> Worth:
    """Return what each row is worth: early in a window is 1, at its end 0, long after it -1."""
    rows = len(series.values)
    weight, window = np.full(rows, -1.0), np.full(rows, -1, dtype=np.int64)
    places = np.arange(rows)
    for number, (begin, end) in enumerate(series.windows):
        width = end - begin + 1
        inside = slice(begin, end + 1)
        weight[inside] = _sigmoid(-(end - places[inside] + 1) / width) / _sigmoid(np.array([-1.0]))[0]
        window[inside] = number
        after = slice(end + 1, series.windows[number + 1][0] if number + 1 < len(series.windows) else rows)
        distance = (places[after] - end) / (width - 1)
        weight[after] = np.where(distance > _FAR, -1.0, _sigmoid(distance))
    return Worth(weight=weight, window=window, counts=places >= series.probation)


def _sigmoid(position: Floats) -> Floats:
    return 2.0 / (1.0 + np.exp(5.0 * position)) - 1.0


class Sweep(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All thresholds at once: gains summed over the rows reported, from the highest score downwards.

    Attributes:
        thresholds: Distinct scores, descending.
        found: What the windows found at each threshold are worth; at most one each.
        caught: How many windows that is.
        false: What the false positives are worth, before their weight; negative.
        windows: Labelled windows.
    """

    thresholds: Floats
    found: Floats
    caught: Ints
    false: Floats
    windows: int

    @classmethod
    def of(cls, corpus: Sequence[Series], scores: Mapping[str, Floats]) -> "Sweep":
        """Return the sweep over every distinct score of the corpus."""
        worths = [worth_of(series) for series in corpus]
        values = np.concatenate([scores[s.name][w.counts] for s, w in zip(corpus, worths, strict=True)])
        weight = np.concatenate([w.weight[w.counts] for w in worths])
        window = np.concatenate(
            [np.where(w.window >= 0, w.window + 1000 * i, -1)[w.counts] for i, w in enumerate(worths)]
        )
        order = np.argsort(-values, kind="stable")
        values, weight, window = values[order], weight[order], window[order]
        gain, first = _window_gains(weight, window)
        last = np.append(values[1:] != values[:-1], True)
        return cls(
            thresholds=values[last],
            found=np.cumsum(gain)[last],
            caught=np.cumsum(first)[last],
            false=np.cumsum(np.where(window < 0, weight, 0.0))[last],
            windows=sum(len(series.windows) for series in corpus),
        )

    def at(self, profile: Profile) -> Floats:
        """Return the score at each threshold."""
        missed = self.windows - self.caught
        raw = self.found + profile.false_positive * self.false - profile.missed * missed
        null = -profile.missed * self.windows
        return np.asarray(100.0 * (raw - null) / (self.windows - null))

    def with_threshold(self, profile: Profile, threshold: float) -> float:
        """Return the score when every row of at least `threshold` is reported."""
        place = int(np.searchsorted(-self.thresholds, -threshold, side="right")) - 1
        return float(self.at(profile)[place]) if place >= 0 else 0.0

    def best(self, profile: Profile) -> Score:
        """Return the score at the best threshold, 0 above all scores if none is better."""
        found = self.at(profile)
        place = int(np.argmax(found))
        if found[place] <= 0.0:
            return Score(score=0.0, threshold=math.inf)
        return Score(score=float(found[place]), threshold=float(self.thresholds[place]))


def _window_gains(weight: Floats, window: Ints) -> tuple[Floats, Ints]:
    """Return by how much each row raises its window's best, and 1 where it is the first of its window."""
    gain, first = np.zeros(len(weight)), np.zeros(len(weight), dtype=np.int64)
    for number in np.unique(window[window >= 0]):
        rows = np.flatnonzero(window == number)
        best = np.maximum.accumulate(weight[rows])
        gain[rows] = np.diff(best, prepend=0.0)
        first[rows[0]] = 1
    return gain, first
