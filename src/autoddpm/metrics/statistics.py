"""How sure a number is: bootstrap over subjects, paired differences, spread over seeds; and the
protocol's statistics.

A statistic of N slices takes `weights` (R, N), how often each slice is drawn in each of R
resamples, and gives an array (R,). A row of ones, `np.ones((1, N))`, gives the statistic of the
data themselves. Slices are left out by leaving out
their columns: `resampled_mean(ssim[healthy], weights[:, healthy])`. The same weights for two
methods pair their values. A resample in which a statistic is undefined (no lesion drawn, say) holds
NaN; `interval` and `difference` leave those out, count them, and refuse if they are more than
MOST_UNDEFINED of all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from autoddpm.metrics.histogram import refuse_non_finite

MOST_UNDEFINED = 0.1
TOP_SHARE = 0.01  # of a slice's pixels, whose mean is the slice's score
# of lesion-wise sensitivity, which flag from the first to the second of these shares of all pixels
THRESHOLDS = 200
FLAGGED_SHARES = (1e-6, 0.2)
SLICES_AT_ONCE = 256  # whose regions are numbered at once
MOST_FALSE_POSITIVES = 5  # a slice, that its sensitivity can be asked for
IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
IN_PLANE[1] = True  # a pixel's eight neighbours in its own slice


def subject_weights(
    subjects: Sequence[str], is_lesion: np.ndarray, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """How often each slice is drawn where subjects are drawn with replacement: (resamples, N) whole
    numbers as float64.

    subjects: of each slice.  is_lesion: (N,) bool.  Subjects with a lesion slice and subjects
    without are drawn apart, each as many as there are, with all their slices. The weights depend on
    the seed and on the subjects' names, not on
    the order of the slices. Raises ValueError where one of the two has a single subject: it shows
    no spread.
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


def resampled_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the drawn slices of a value of each, such as SSIM, Dice, or the share of pixels
    flagged.

    values: (N,), finite.  NaN in resamples without a slice.
    """
    refuse_non_finite(values, "a value of each slice")
    return _ratio(weights @ values, weights.sum(axis=1))


class PixelCounts(NamedTuple):
    """Pixels of each of N slices at one threshold: flagged lesion pixels, flagged pixels, lesion
    pixels."""

    hits: np.ndarray
    flagged: np.ndarray
    positives: np.ndarray


def pixel_counts(flagged: np.ndarray, lesion: np.ndarray) -> PixelCounts:
    """Count the pixels of each slice. flagged, lesion: (N, H, W) bool."""
    return PixelCounts(
        *(np.count_nonzero(pixels, axis=(1, 2)) for pixels in (flagged & lesion, flagged, lesion))
    )


def slice_dice(counts: PixelCounts) -> np.ndarray:
    """(N,) Dice of each slice by itself; raises ValueError where one has no lesion: its Dice says
    nothing."""
    if not counts.positives.all():
        raise ValueError(
            "a slice has no lesion pixel: choose the lesion slices for a Dice of each image"
        )
    return 2 * counts.hits / (counts.flagged + counts.positives)


def resampled_dice(counts: PixelCounts, weights: np.ndarray) -> np.ndarray:
    """Dice of the pooled pixels at the fixed threshold of the counts. NaN in resamples without a
    lesion pixel."""
    positives = weights @ counts.positives
    return np.where(
        positives > 0,
        _ratio(2 * (weights @ counts.hits), weights @ counts.flagged + positives),
        np.nan,
    )


def slice_scores(maps: np.ndarray) -> np.ndarray:
    """(N,) anomaly of each slice as a whole: the mean of the highest TOP_SHARE of its pixels,
    rounded up to a pixel."""
    refuse_non_finite(maps, "an anomaly map")
    top = int(np.ceil(TOP_SHARE * maps[0].size))
    return np.array(
        [np.partition(one, -top, axis=None)[-top:].mean(dtype=np.float64) for one in maps]
    )


def resampled_auroc(scores: np.ndarray, is_lesion: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of lesion slices against healthy ones, from a score of each (N,):
    the chance that a lesion slice has the higher score, ties counting half. NaN in resamples that
    lack one of the two."""
    refuse_non_finite(scores, "a score of each slice")
    healthy = np.flatnonzero(~is_lesion)
    healthy = healthy[np.argsort(scores[healthy])]
    first = np.pad(
        np.cumsum(weights[:, healthy], axis=1), ((0, 0), (1, 0))
    )  # drawn among the k lowest of the healthy
    lower, not_higher = (
        first[:, np.searchsorted(scores[healthy], scores[is_lesion], side)]
        for side in ("left", "right")
    )
    lesions = weights[:, is_lesion]
    return _ratio(
        (lesions * (lower + not_higher) / 2).sum(axis=1), lesions.sum(axis=1) * first[:, -1]
    )


class Detections(NamedTuple):
    """For each of T thresholds, from high to low, what flagging scores of at least it gives in each
    of N slices.

    threshold: (T,).  lesions: (N,) lesions.  found: (N, T) lesions with a flagged pixel.
    false_positives: (N, T) flagged regions that touch no lesion.
    """

    threshold: np.ndarray
    lesions: np.ndarray
    found: np.ndarray
    false_positives: np.ndarray


def detections(maps: np.ndarray, lesion: np.ndarray) -> Detections:
    """Lesions found and false positives; a lesion, and a flagged region, is an 8-connected
    component of one slice.

    maps: (N, H, W) scores.  lesion: (N, H, W) bool.  The thresholds are the distinct scores among
    THRESHOLDS that flag geometric shares of all pixels, FLAGGED_SHARES, without the lowest score of
    all, which would flag everything, and down to the first at which half of the slices have more
    than four times MOST_FALSE_POSITIVES false positives.
    """
    refuse_non_finite(maps, "an anomaly map")
    lesion = lesion.astype(bool)
    ranks = np.ceil(np.geomspace(*FLAGGED_SHARES, THRESHOLDS) * maps.size).astype(int)
    thresholds = np.unique(np.partition(maps, np.unique(-ranks), axis=None)[-ranks])[::-1]
    thresholds = thresholds[thresholds > maps.min()]
    columns: list[np.ndarray] = []
    parts = [slice(first, first + SLICES_AT_ONCE) for first in range(0, len(maps), SLICES_AT_ONCE)]
    for threshold in thresholds:
        columns.append(
            np.concatenate(
                [_false_positives(maps[part] >= threshold, lesion[part]) for part in parts]
            )
        )
        if np.median(columns[-1]) > 4 * MOST_FALSE_POSITIVES:
            break
    false_positives = np.reshape(columns, (-1, len(maps))).T
    thresholds = thresholds[: len(columns)]
    numbered, lesions = ndimage.label(lesion, IN_PLANE)
    place = _slice_of_components(numbered, lesions)
    highest = np.full((lesions, 1), -np.inf, dtype=maps.dtype)
    np.maximum.at(highest[:, 0], numbered[lesion] - 1, maps[lesion])
    found = np.zeros(false_positives.shape, dtype=int)
    np.add.at(found, place, highest >= thresholds)
    return Detections(thresholds, np.bincount(place, minlength=len(maps)), found, false_positives)


def _false_positives(flagged: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Regions of each slice that touch no lesion."""
    regions, number = ndimage.label(flagged, IN_PLANE)
    alone = np.ones(number + 1, dtype=bool)
    alone[regions[lesion]] = False
    return np.bincount(_slice_of_components(regions, number)[alone[1:]], minlength=len(flagged))


def _slice_of_components(numbered: np.ndarray, components: int) -> np.ndarray:
    place = np.empty(components + 1, dtype=int)
    where = np.flatnonzero(numbered)
    place[numbered.ravel()[where]] = where // numbered[0].size
    return place[1:]


def resampled_sensitivity(
    counts: Detections, weights: np.ndarray, false_positives: float
) -> np.ndarray:
    """Share of the drawn lesions that are found at the given number of false positives a slice.

    The threshold, chosen anew in each resample, is the lowest that the number is not exceeded at,
    nor at any higher
    one: lower still, false positives melt into fewer. 0 where even the highest exceeds it. NaN in
    resamples without a lesion. Raises ValueError on more than MOST_FALSE_POSITIVES, for which no
    threshold was looked at.
    """
    if not 0 <= false_positives <= MOST_FALSE_POSITIVES:
        raise ValueError(
            f"{false_positives} false positives a slice: must be from 0 to {MOST_FALSE_POSITIVES}"
        )
    number = weights @ counts.false_positives
    within = np.logical_and.accumulate(
        number <= false_positives * weights.sum(axis=1, keepdims=True), axis=1
    )
    found = np.max(np.where(within, weights @ counts.found, 0), axis=1, initial=0)
    return _ratio(found, weights @ counts.lesions)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return numerator / np.where(denominator > 0, denominator, np.nan)


class Interval(NamedTuple):
    """Bounds of a percentile interval, and how many resamples were left out as undefined."""

    low: float
    high: float
    undefined: int


def interval(samples: np.ndarray, level: float = 0.95) -> Interval:
    """Percentile interval of a statistic's resampled values (R,); raises ValueError if too many are
    undefined."""
    defined = samples[~np.isnan(samples)]
    undefined = len(samples) - len(defined)
    if not len(defined) or undefined > MOST_UNDEFINED * len(samples):
        raise ValueError(
            f"undefined in {undefined} of {len(samples)} resamples: too few subjects for an "
            "interval"
        )
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), undefined)


class Difference(NamedTuple):
    """Interval of a paired difference, its two-sided p-value, and how many resamples were left out
    as undefined."""

    low: float
    high: float
    p_value: float
    undefined: int


def difference(first: np.ndarray, second: np.ndarray, level: float = 0.95) -> Difference:
    """First minus second, resampled values (R,) of one statistic for two methods under the same
    weights.

    The p-value is twice (1 + c) / (R + 1), at most 1, with c the resamples whose difference is on
    the rarer side of zero or zero. It is at least 2 / (R + 1): for m comparisons corrected by
    `holm` to fall below 0.05, R >= 40 m.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"{len(first)} and {len(second)} resamples: a difference is paired only under the same "
            "weights"
        )
    samples = first - second
    low, high, undefined = interval(samples, level)
    count = min(np.count_nonzero(samples <= 0), np.count_nonzero(samples >= 0))
    return Difference(
        low, high, min(1.0, 2 * (1 + count) / (len(samples) - undefined + 1)), undefined
    )


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values of a family of comparisons, in their order, corrected for their number (Holm,
    1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


class Spread(NamedTuple):
    """Mean and standard deviation (n - 1) over seeds, or a text that says why there is no
    deviation; and how many."""

    mean: float
    deviation: float | str
    seeds: int


def seed_spread(values: Sequence[float]) -> Spread:
    """Spread of a number over runs that differ only in their seed; raises ValueError without any,
    or if not finite."""
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("a spread over seeds needs a finite value of one seed at least")
    deviation = (
        float(np.std(values, ddof=1)) if len(values) > 1 else "one seed: no spread over seeds"
    )
    return Spread(float(np.mean(values)), deviation, len(values))
