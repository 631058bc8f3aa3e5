"""How far a number lies outside what its own long history says is usual, for many series at once.

Three *aspects* of a series have a band each: the value, its level (mean over about `span` samples) and its roughness
(mean change from one sample to the next over about as many). A band is what lies between the 0.1 % and the 99.9 %
quantile of all earlier samples. The excess is the distance outside, in widths of the band; that of a series is the
largest of its aspects. So it needs no labels, no unit and no shape of the distribution, and it looks only back.

One disturbance has many samples outside. An excess is *fresh* if none was fresh in the last `quiet` samples, or if it
is `rise` times as large as the one before: an episode speaks once, and again only when it grows.

Memory is bounded: of each aspect the EDGE largest and EDGE smallest samples, which hold both quantiles exactly for
RANK / share samples (8,000). Then every second of them goes and the count is halved, so the far past weighs less and
less. `python -m tests.quality nab` scores this on the Numenta Anomaly Benchmark and prints the bytes and the time.
"""

from typing import Final

import msgspec
import numpy as np

from processors.stages.anomaly_table import Column, Flags, Floats, Ints, Table

VALUE, LEVEL, ROUGHNESS = 0, 1, 2
ASPECTS: Final = ("value", "level", "roughness")
EDGE: Final = 16
RANK: Final = EDGE // 2
"""Samples beyond the band at which the history is halved. Half of the places are in reserve: after a
halving, what was forgotten would otherwise be missing, and 3.5 % lie outside a band that leaves out 2 %."""
EXCESS_MAX: Final = 50.0
"""An excess is cut here: past a band without any width everything is infinitely far."""

_NUMBER_MAX: Final = 1e38
"""Numbers are cut here, where the differences of two still fit into 32 bits."""
_HIGH, _LOW = 0, 1
_KEPT: Final = EDGE // 2

BAND_LAYOUT: Final = {
    # The largest samples, descending, and the smallest, negated and descending: one code for both sides.
    "edges": Column("<f4", -np.inf, (len(ASPECTS), 2, EDGE)),
    "weight": Column("<f4", 0.0),  # samples that the edges stand for
    "seen": Column("<i4", 0),  # samples ever
    "last": Column("<f8", np.nan),
    "level": Column("<f8", np.nan),
    "roughness": Column("<f8", 0.0),
}
EPISODE_LAYOUT: Final = {
    "peak": Column("<f4", 0.0),  # the last fresh excess
    "quiet": Column("<i4", 0),  # samples until any excess is fresh again
}


class BandSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What decides an excess and whether it is fresh.

    Attributes:
        share: Share of the history beyond each edge of the band.
        span: Samples that level and roughness are means of, about.
        quiet: Samples after a fresh excess in which only a larger one is fresh.
        rise: How many times larger.
        warm_up: Samples before which nothing is outside.
        least_width: A band counts as at least this wide, in the unit of the values: what the sensor resolves, or what
            nobody would act on.
    """

    share: float = 0.001
    span: int = 30
    quiet: int = 100
    rise: float = 2.0
    warm_up: int = 30
    least_width: float = 0.0


class Outside(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How far one sample of each of some series lies outside, by the samples before it.

    Attributes:
        excess: Distance outside the band in its widths, 0 inside.
        aspect: VALUE, LEVEL or ROUGHNESS: the aspect that is furthest outside.
        low, high: The band of that aspect.
        aspects: All aspects of the sample, shape (n, 3).
    """

    excess: Floats
    aspect: Ints
    low: Floats
    high: Floats
    aspects: Floats


def observe(bands: Table, rows: Ints, values: Floats, settings: BandSettings) -> Outside:
    """Return how far outside the samples are, and make them part of the history.

    Args:
        bands: Table of BAND_LAYOUT; it is changed.
        rows: Series, each at most once.
        values: A finite number for each.
        settings: The same at every call.
    """
    aspects = _aspects(bands, rows, values, settings.span)
    weight, warm = bands["weight"][rows], bands["seen"][rows] >= settings.warm_up
    edges = _band(bands["edges"], rows, weight, settings.share)
    excess = _excess(aspects, edges, settings.least_width)
    excess[~warm] = 0.0
    worst = excess.argmax(axis=1)
    chosen = np.arange(len(rows)), worst
    _learn(bands, rows, aspects, settings.share)
    return Outside(
        excess=excess[chosen],
        aspect=worst,
        low=-edges[*chosen, _LOW],
        high=edges[*chosen, _HIGH],
        aspects=aspects,
    )


def tell_fresh(episodes: Table, rows: Ints, excess: Floats, *, quiet: int | Ints, rise: float | Floats) -> Flags:
    """Return which excesses begin an episode or let it grow, and remember them.

    Args:
        episodes: Table of EPISODE_LAYOUT; it is changed.
        rows: Series, each at most once.
        excess: Of each its newest excess.
        quiet: As in the settings; one number, or one for each.
        rise: The same.
    """
    left = episodes["quiet"][rows]
    peak = np.where(left > 0, episodes["peak"][rows], 0.0)
    is_fresh = (excess > 0.0) & (excess > rise * peak)
    episodes["peak"][rows] = np.where(is_fresh, excess, peak)
    episodes["quiet"][rows] = np.where(is_fresh, quiet, np.maximum(left - 1, 0))
    return np.asarray(is_fresh)


def _aspects(bands: Table, rows: Ints, values: Floats, span: int) -> Floats:
    """Return (n, 3) aspects of the samples, rounded as the edges are, and remember what the next ones need."""
    last, level, roughness = bands["last"][rows], bands["level"][rows], bands["roughness"][rows]
    first = np.isnan(last)
    level = np.where(first, values, level + (values - level) / span)
    roughness = np.where(first, 0.0, roughness + (np.abs(values - last) - roughness) / span)
    bands["last"][rows], bands["level"][rows], bands["roughness"][rows] = values, level, roughness
    # Rounded first and compared then, or the rounding of an edge alone would put a constant outside its own band.
    aspects = np.stack([values, level, roughness], axis=1).clip(-_NUMBER_MAX, _NUMBER_MAX)
    return aspects.astype(np.float32).astype(np.float64)


def _band(edges: Floats, rows: Ints, weight: Floats, share: float) -> Floats:
    """Return (n, 3, 2) quantiles: the upper edge, and the lower one negated; -inf without history."""
    place = share * (np.maximum(weight, 1.0).astype(np.float64) - 1.0)
    whole = np.minimum(place.astype(np.int64), EDGE - 1)
    here = edges[rows, :, :, whole].astype(np.float64)
    after = edges[rows, :, :, np.minimum(whole + 1, EDGE - 1)].astype(np.float64)
    # A place whose sample was forgotten, or never was, is the place before.
    after = np.where(np.isfinite(after), after, here)
    with np.errstate(invalid="ignore"):
        between = here + (after - here) * (place - whole)[:, None, None]
    return np.where(np.isfinite(here), between, -np.inf)


def _excess(aspects: Floats, edges: Floats, least_width: float) -> Floats:
    """Return (n, 3) distances outside in widths, at most EXCESS_MAX."""
    distance = np.maximum(aspects - edges[:, :, _HIGH], -aspects - edges[:, :, _LOW])
    width = np.maximum(edges[:, :, _HIGH] + edges[:, :, _LOW], least_width)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        excess = np.where(distance > 0.0, distance / width, 0.0)
    return np.minimum(excess, EXCESS_MAX)


def _learn(bands: Table, rows: Ints, aspects: Floats, share: float) -> None:
    """Make the samples part of the history."""
    edges = bands["edges"]
    signed = np.stack([aspects, -aspects], axis=2).astype(np.float32)
    changed = (signed > edges[rows, :, :, -1]).any(axis=(1, 2))
    if changed.any():
        at, new = rows[changed], signed[changed][..., None]
        kept = edges[at]
        # Sorted insertion: each place holds the larger of what it held and of what is pushed down to it.
        kept[..., 1:] = np.maximum(kept[..., 1:], np.minimum(kept[..., :-1], new))
        kept[..., :1] = np.maximum(kept[..., :1], new)
        edges[at] = kept
    bands["seen"][rows] += 1
    weight = bands["weight"][rows] + np.float32(1.0)
    full = weight >= RANK / share
    if full.any():
        at = rows[full]
        kept = edges[at]
        kept[..., :_KEPT] = kept[..., ::2]
        kept[..., _KEPT:] = -np.inf
        edges[at] = kept
        weight[full] /= 2
    bands["weight"][rows] = weight
