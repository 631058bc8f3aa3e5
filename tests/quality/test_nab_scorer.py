"""The benchmark's scorer gives what was published, and the shipped detector what is promised."""

import json

import numpy as np
import pytest

from tests.quality.nab import (
    PUBLISHED,
    STANDARD_LEAST,
    needed_corpus,
    published_scores,
    read_corpus,
    shipped_scores,
)
from tests.quality.nab_scorer import PROFILES, Series, Sweep, worth_of

STANDARD = PROFILES["standard"]
SERIES = Series(name="x", timestamps=[str(n) for n in range(100)], values=np.zeros(100), windows=((40, 49),))


def scores(**rows: float) -> dict[str, np.ndarray]:
    """Return the scores of SERIES, as row_40=0.5."""
    found = np.zeros(100)
    for name, score in rows.items():
        found[int(name.removeprefix("row_"))] = score
    return {"x": found}


@pytest.mark.parametrize("detector", PUBLISHED)
def test_published_detectors_score_as_published(detector: str) -> None:
    """All three profiles, to a tenth."""
    folder = needed_corpus()
    stated = json.loads((folder / "published" / "final_results.json").read_text())[detector]
    sweep = Sweep.of(read_corpus(folder), published_scores(folder, detector))
    computed = {name: sweep.best(profile).score for name, profile in PROFILES.items()}
    assert stated == pytest.approx(computed, abs=0.1)


def test_shipped_detector_scores_what_is_promised() -> None:
    """Its standard score, with the parameters that rules have by default."""
    corpus = read_corpus(needed_corpus())
    assert Sweep.of(corpus, shipped_scores(corpus)).best(STANDARD).score >= STANDARD_LEAST


def test_finding_a_window_at_its_beginning_is_perfect() -> None:
    """100 for the first row of the only window and nothing else, a little less for a later one."""
    first = Sweep.of([SERIES], scores(row_40=0.5)).best(STANDARD).score
    last = Sweep.of([SERIES], scores(row_49=0.5)).best(STANDARD).score
    assert 100.0 == pytest.approx(first)
    assert 50.0 < last < 70.0


def test_silence_scores_nothing() -> None:
    """So does a detector whose every row is the same."""
    assert 0.0 == Sweep.of([SERIES], scores()).best(STANDARD).score


def test_of_a_window_only_the_earliest_row_counts() -> None:
    """Later rows of it neither add nor cost."""
    once = Sweep.of([SERIES], scores(row_42=0.5)).best(STANDARD).score
    often = Sweep.of([SERIES], scores(row_42=0.5, row_43=0.5, row_48=0.5)).best(STANDARD).score
    assert once == pytest.approx(often)


def test_false_positive_costs_its_weight() -> None:
    """Half of it where one window stands for 200 points of raw score, and none in the probation."""
    both = Sweep.of([SERIES], scores(row_40=0.5, row_30=0.5)).best(STANDARD).score
    early = Sweep.of([SERIES], scores(row_40=0.5, row_3=0.5)).best(STANDARD).score
    assert 100.0 - 100.0 * 0.11 / 2 == pytest.approx(both)
    assert 100.0 == pytest.approx(early)


def test_threshold_of_others_is_taken_as_it_is() -> None:
    """A threshold between scores reports those above it."""
    sweep = Sweep.of([SERIES], scores(row_40=0.5, row_30=0.2))
    assert 100.0 == pytest.approx(sweep.with_threshold(STANDARD, 0.3))
    assert 0.0 == sweep.with_threshold(STANDARD, 0.6)


def test_row_soon_after_a_window_is_a_smaller_mistake() -> None:
    """Right behind it nearly none, three widths later a whole one."""
    weight = worth_of(SERIES).weight
    assert -0.6 < weight[50] < 0.0
    assert -1.0 == weight[49 + 28]
    assert -1.0 == weight[39]
