"""Meter samples of a session: merged, thinned, the same in any order."""

import random
from itertools import pairwise
from math import isnan, nan

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import SESSION_SAMPLES_MAX
from processors.stages.session_samples import Sample, Samples

S = 1_000_000


def of(*samples: Sample) -> Samples:
    """Return the samples taken in one after another."""
    taken = Samples()
    for sample in samples:
        taken.add(sample)
    return taken


def shown(samples: Samples) -> list[tuple[int, float, float]]:
    """Return (s, register, power or -1) of each sample kept."""
    kept = (samples[place] for place in range(len(samples)))
    return [(one.at_us // S, one.register_wh, -1.0 if isnan(one.power_kw) else one.power_kw) for one in kept]


def test_samples_of_one_time_become_one_with_the_larger_of_each_value() -> None:
    """Of 0 and 1000 at the same time 0 is the odd one; a missing value is no value."""
    samples = of(Sample(60 * S, 1000.0), Sample(60 * S, 0.0, 7.0), Sample(60 * S, nan, 5.0))
    assert [(60, 1000.0, 7.0)] == shown(samples)


def test_too_many_samples_are_thinned_evenly_and_the_newest_stays() -> None:
    """Ten hours at one a minute keep the first of each 128 s and the newest; peak and count know all."""
    samples = of(*[Sample(i * 60 * S, float(i), 90.0 if i == 301 else 7.0) for i in range(600)])
    assert len(samples) <= SESSION_SAMPLES_MAX
    kept = shown(samples)
    assert ((0, 0.0, 7.0), (599 * 60, 599.0, 7.0)) == (kept[0], kept[-1])
    assert (90.0, 600) == (samples.peak_kw, len(samples) + samples.dropped)
    assert {120, 180} == {later[0] - one[0] for one, later in pairwise(kept[:-1])}


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=700), st.randoms(use_true_random=False))
def test_order_and_repetition_leave_the_same_samples(times: list[int], rng: random.Random) -> None:
    """Whatever the order, and however often: the same times, values, width and peak."""
    samples = [Sample(at * S, float(at % 97)) for at in times]
    shuffled = [*samples, *rng.choices(samples, k=20)]
    rng.shuffle(shuffled)
    one, other = of(*sorted(samples, key=lambda sample: sample.at_us)), of(*shuffled)
    assert (shown(one), one.width_us) == (shown(other), other.width_us)


@given(st.lists(st.integers(0, 4000), max_size=700), st.integers(0, 700))
def test_merging_two_parts_is_taking_all(times: list[int], cut: int) -> None:
    """Samples of an orphan that turn out to be of a session are as if they had come to it at once."""
    samples = [Sample(at * S, float(at)) for at in times]
    one, other = of(*samples[:cut]), of(*samples[cut:])
    one.merge(other)
    whole = of(*samples)
    assert (shown(whole), whole.width_us) == (shown(one), one.width_us)


def test_a_clone_does_not_change_with_its_original() -> None:
    """States are values, so what they share is copied before it grows."""
    samples = of(Sample(S, 1.0))
    clone = samples.clone()
    clone.add(Sample(2 * S, 2.0))
    assert (1, 2) == (len(samples), len(clone))
