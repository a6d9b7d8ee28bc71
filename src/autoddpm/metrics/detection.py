"""Whole slices and single lesions: AUROC, and lesions found at a number of false positives."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from autoddpm.metrics.counts import refuse_non_finite
from autoddpm.metrics.statistics import ratio

TOP_SHARE = 0.01  # of a slice's pixels, whose mean is the slice's score
# of lesion-wise sensitivity, which flags from the first to the second of these shares of all pixels
THRESHOLDS = 200
FLAGGED_SHARES = (1e-6, 0.2)
SLICES_AT_ONCE = 256  # whose regions are numbered at once
MOST_FALSE_POSITIVES = 5  # per slice, that its sensitivity can be asked for


def slice_scores(maps: np.ndarray) -> np.ndarray:
    """(N,) anomaly of each slice as a whole: the mean of the highest TOP_SHARE of its pixels.

    maps: (N, *space). The number of pixels is rounded up.
    """
    refuse_non_finite(maps, "an anomaly map")
    top = int(np.ceil(TOP_SHARE * maps[0].size))
    return np.array(
        [np.partition(one, -top, axis=None)[-top:].mean(dtype=np.float64) for one in maps]
    )


def auroc(scores: np.ndarray, is_lesion: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) area under the ROC curve of lesion slices against healthy ones.

    It is the chance that a lesion slice has the higher score. Equal scores count half.

    scores: (N,), finite.
    is_lesion: (N,) bool.
    weights: (R, N), how often each slice is drawn.

    NaN in resamples that lack one of the two kinds.
    """
    refuse_non_finite(scores, "a score of each slice")
    healthy = np.flatnonzero(~is_lesion)
    healthy = healthy[np.argsort(scores[healthy])]
    # drawn among the k lowest of the healthy
    first = np.pad(np.cumsum(weights[:, healthy], axis=1), ((0, 0), (1, 0)))
    lower, not_higher = (
        first[:, np.searchsorted(scores[healthy], scores[is_lesion], side)]
        for side in ("left", "right")
    )
    lesions = weights[:, is_lesion]
    return ratio(
        (lesions * (lower + not_higher) / 2).sum(axis=1), lesions.sum(axis=1) * first[:, -1]
    )


class Detections(NamedTuple):
    """For each of T thresholds, from high to low, the lesions found in each of N slices.

    threshold: (T,); scores of at least it are flagged.
    lesions: (N,) lesions.
    found: (N, T) lesions with a flagged pixel.
    false_positives: (N, T) flagged regions that touch no lesion.
    """

    threshold: np.ndarray
    lesions: np.ndarray
    found: np.ndarray
    false_positives: np.ndarray


class Regions(NamedTuple):
    """Lesions and flagged regions of each of N slices at one threshold, (N,) each.

    lesions: lesions.
    found: lesions with a flagged pixel.
    regions: flagged regions.
    false_positives: flagged regions that touch no lesion.
    """

    lesions: np.ndarray
    found: np.ndarray
    regions: np.ndarray
    false_positives: np.ndarray


def detections_above(maps: np.ndarray, lesion: np.ndarray, threshold: float) -> Regions:
    """Lesions found and false positives above a threshold; connected as in `detections`.

    maps: (N, *space) scores, finite.
    lesion: (N, *space) bool.
    threshold: scores above it are flagged, compared in the type of the maps.
    """
    refuse_non_finite(maps, "an anomaly map")
    lesion, flagged = lesion.astype(bool), maps > maps.dtype.type(threshold)
    numbered, lesions = _components(lesion)
    is_found = np.zeros(lesions + 1, dtype=bool)
    is_found[numbered[flagged & lesion]] = True
    place, count = _slice_of_components(numbered, lesions), len(maps)
    return Regions(
        np.bincount(place, minlength=count),
        np.bincount(place[is_found[1:]], minlength=count),
        np.bincount(_slice_of_components(*_components(flagged)), minlength=count),
        _false_positives(flagged, lesion),
    )


def detections(maps: np.ndarray, lesion: np.ndarray) -> Detections:
    """Lesions found and false positives.

    A lesion, and a flagged region, is a connected component of one slice or volume. Pixels that
    touch at a corner are connected: 8 neighbours in a slice, 26 in a volume. The thresholds are the
    distinct scores among THRESHOLDS that flag geometric shares of all pixels, FLAGGED_SHARES. The
    lowest score of all is left out, since it would flag everything. The search ends at the first
    threshold at which half of the slices have more than four times MOST_FALSE_POSITIVES false
    positives.

    maps: (N, *space) scores, finite.
    lesion: (N, *space) bool.
    """
    refuse_non_finite(maps, "an anomaly map")
    lesion = lesion.astype(bool)
    ranks = np.ceil(np.geomspace(*FLAGGED_SHARES, THRESHOLDS) * maps.size).astype(int)
    thresholds = np.unique(np.partition(maps, np.unique(-ranks), axis=None)[-ranks])[::-1]
    thresholds = thresholds[thresholds > maps.min()]
    columns: list[np.ndarray] = []
    parts = [slice(first, first + SLICES_AT_ONCE) for first in range(0, len(maps), SLICES_AT_ONCE)]
    for threshold in thresholds:
        alone = [_false_positives(maps[part] >= threshold, lesion[part]) for part in parts]
        columns.append(np.concatenate(alone))
        if np.median(columns[-1]) > 4 * MOST_FALSE_POSITIVES:
            break
    false_positives = np.reshape(columns, (-1, len(maps))).T
    thresholds = thresholds[: len(columns)]
    numbered, lesions = _components(lesion)
    place = _slice_of_components(numbered, lesions)
    highest = np.full((lesions, 1), -np.inf, dtype=maps.dtype)
    np.maximum.at(highest[:, 0], numbered[lesion] - 1, maps[lesion])
    found = np.zeros(false_positives.shape, dtype=int)
    np.add.at(found, place, highest >= thresholds)
    return Detections(thresholds, np.bincount(place, minlength=len(maps)), found, false_positives)


def _components(pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the connected components within each of N slices or volumes; and how many there are.

    pixels: (N, *space) bool.
    """
    within = np.zeros((3,) * pixels.ndim, dtype=bool)
    within[1] = True  # all neighbours, but for those in the slices before and behind
    numbered, number = ndimage.label(pixels, within)
    return numbered, number


def _false_positives(flagged: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Regions of each slice that touch no lesion."""
    regions, number = _components(flagged)
    alone = np.ones(number + 1, dtype=bool)
    alone[regions[lesion]] = False
    return np.bincount(_slice_of_components(regions, number)[alone[1:]], minlength=len(flagged))


def _slice_of_components(numbered: np.ndarray, components: int) -> np.ndarray:
    place = np.empty(components + 1, dtype=int)
    where = np.flatnonzero(numbered)
    place[numbered.ravel()[where]] = where // numbered[0].size
    return place[1:]


def sensitivity(counts: Detections, weights: np.ndarray, false_positives: float) -> np.ndarray:
    """(R,) share of the drawn lesions that are found at a number of false positives per slice.

    The threshold is chosen anew in each resample: the lowest at which, and at every higher one, the
    number is not exceeded. Lower still, false positives melt into fewer. The share is 0 if even the
    highest threshold exceeds the number.

    counts: from `detections`.
    weights: (R, N), how often each slice is drawn.
    false_positives: per slice, from 0 to MOST_FALSE_POSITIVES, else ValueError.

    NaN in resamples without a lesion.
    """
    if not 0 <= false_positives <= MOST_FALSE_POSITIVES:
        raise ValueError(
            f"{false_positives} false positives per slice: must be from 0 to {MOST_FALSE_POSITIVES}"
        )
    number = weights @ counts.false_positives
    within = np.logical_and.accumulate(
        number <= false_positives * weights.sum(axis=1, keepdims=True), axis=1
    )
    found = np.max(np.where(within, weights @ counts.found, 0), axis=1, initial=0)
    return ratio(found, weights @ counts.lesions)
