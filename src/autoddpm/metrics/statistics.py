"""Uncertainty of a number: bootstrap over subjects, and paired differences.

A statistic of N slices takes `weights` (R, N), how often each slice is drawn in each of R
resamples, and gives an array (R,). A row of ones, `np.ones((1, N))`, gives the statistic of the
data themselves. Slices are left out by leaving out their columns:
`weighted_mean(dice[lesion], weights[:, lesion])`. The same weights for two methods pair their
values. A resample in which a statistic is undefined holds NaN, for example if no lesion was drawn.
`interval` and `difference` leave those out, and refuse if they are more than MOST_UNDEFINED of all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autoddpm.metrics.counts import refuse_non_finite

MOST_UNDEFINED = 0.1


def subject_weights(
    subjects: Sequence[str], is_lesion: np.ndarray, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """(R, N) how often each slice is drawn, if subjects are drawn with replacement.

    Subjects with a lesion slice and subjects without are drawn apart, each as many as there are,
    with all their slices. The weights are whole numbers as float64. They depend on the seed and on
    the subjects' names, not on the order of the slices.

    subjects: of each of N slices.
    is_lesion: (N,) bool.
    resamples: R.

    Raises ValueError if one of the two kinds has a single subject: it shows no spread.
    """
    names, subject = np.unique(np.asarray(subjects), return_inverse=True)
    with_lesion = np.bincount(subject, weights=is_lesion) > 0
    drawn = np.empty((resamples, len(names)))
    for stratum, kind in enumerate(("healthy subject", "subject with a lesion")):
        members = np.flatnonzero(with_lesion == bool(stratum))
        if len(members) == 1:
            raise ValueError(
                f"one {kind}, {names[members[0]]}: a bootstrap over subjects needs two at least, "
                "or none"
            )
        if len(members):
            chances = np.full(len(members), 1 / len(members))
            generator = np.random.default_rng((seed, stratum))
            drawn[:, members] = generator.multinomial(len(members), chances, size=resamples)
    return drawn[:, subject]


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) mean over the drawn slices of a value of each. NaN in resamples without a slice.

    values: (N,), finite.
    """
    refuse_non_finite(values, "a value of each slice")
    weights = np.ascontiguousarray(weights)  # a row's sum does not depend on the others
    return ratio((weights * values).sum(axis=1), weights.sum(axis=1))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient, NaN if the denominator is not positive."""
    return numerator / np.where(denominator > 0, denominator, np.nan)


class Interval(NamedTuple):
    """Bounds of a percentile interval; undefined resamples are left out."""

    low: float
    high: float


def interval(samples: np.ndarray, level: float = 0.95) -> Interval:
    """Percentile interval of a statistic's resampled values.

    samples: (R,), NaN if undefined.
    level: share of the samples that lies within.

    Raises ValueError if too many are undefined.
    """
    defined = samples[~np.isnan(samples)]
    undefined = len(samples) - len(defined)
    if not len(defined) or undefined > MOST_UNDEFINED * len(samples):
        raise ValueError(
            f"undefined in {undefined} of {len(samples)} resamples: too few subjects for an "
            "interval"
        )
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


class Difference(NamedTuple):
    """Interval of a paired difference, and its two-sided p-value."""

    low: float
    high: float
    p_value: float


def difference(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> Difference:
    """First minus second: one statistic of two methods under the same weights.

    The p-value is twice (1 + c) / (R + 1), at most 1. c counts the resamples whose difference is
    zero, or on the rarer side of it. The p-value is at least 2 / (R + 1): for m comparisons
    corrected by `holm` to fall below 0.05, R >= 40 m.

    first, second: (R,) resampled values.
    level: as in `interval`.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"{len(first)} and {len(second)} resamples: a difference is paired only under the same "
            "weights"
        )
    samples = first - second
    bounds, defined = interval(samples, level), np.count_nonzero(~np.isnan(samples))
    count = min(np.count_nonzero(samples <= 0), np.count_nonzero(samples >= 0))
    return Difference(*bounds, min(1.0, 2 * (1 + count) / (defined + 1)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values of a family of comparisons, corrected for their number (Holm, 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
