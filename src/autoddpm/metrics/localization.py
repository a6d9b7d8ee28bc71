"""Localisation of lesions: AUPRC and Dice over pooled pixels (paper, section 4)."""

from typing import NamedTuple

import numpy as np

from autoddpm.metrics.counts import Counts, every_score, histograms
from autoddpm.metrics.statistics import ratio

#: Share of healthy validation pixels that each calibrated threshold may flag.
HEALTHY_FPRS = {
    "healthy_fpr0.2": 0.002,
    "healthy_fpr1": 0.01,
    "healthy_fpr2": 0.02,
    "healthy_fpr5": 0.05,
}
GRID = np.arange(101) / 100  # thresholds of the authors' code
RESAMPLES_AT_ONCE = 100  # what a product holds in memory: resamples x thresholds x 8 bytes
CURVE_POINTS = 300


class Localization(NamedTuple):
    """AUPRC, highest Dice and the threshold that gives it, each (R,), of R resamples.

    The threshold flags the scores that are at least as high.
    """

    auprc: np.ndarray
    max_dice: np.ndarray
    best_threshold: np.ndarray


def pooled_counts(
    maps: np.ndarray, lesion: np.ndarray, weights: np.ndarray
) -> tuple[Counts, np.ndarray]:
    """Counts at the scores of lesion pixels, and the weights of what they count.

    Resamples that draw each slice equally often, such as a row of ones, are counted exactly, see
    `every_score`. All others are counted in bins, whose small error `histograms` bounds.

    maps: (N, *space) scores.
    lesion: (N, *space) bool.
    weights: (R, N), how often each slice is drawn.
    """
    if (weights == weights[:, :1]).all():
        return every_score(maps, lesion), weights[:, :1]
    return histograms(maps, lesion), weights


def localization(counts: Counts, weights: np.ndarray | None = None) -> Localization:
    """AUPRC and highest Dice of the pooled pixels, with a threshold of its own in each resample.

    AUPRC is the average precision: the sum of precision times gain in recall. The Dice coefficient
    is twice the hits over flagged and lesion pixels.

    counts: at the scores of lesion pixels, from high to low; see `pooled_counts`.
    weights: (R, N), how often each slice is drawn. Each once by default.

    NaN in resamples without a lesion pixel.
    """
    weights = np.ones((1, len(counts.hits))) if weights is None else weights
    floats = counts._replace(
        hits=counts.hits.astype(np.float64), flagged=counts.flagged.astype(np.float64)
    )
    starts = range(RESAMPLES_AT_ONCE, len(weights), RESAMPLES_AT_ONCE)
    parts = [_localization(floats, part) for part in np.split(weights, starts)]
    return Localization(*map(np.concatenate, zip(*parts, strict=True)))


def _localization(counts: Counts, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    hits, flagged, positives = counts.drawn(weights)
    gain = np.diff(hits, axis=1, prepend=0) / positives
    auprc = np.sum(gain * hits / np.maximum(flagged, 1), axis=1)
    dice = 2 * hits / (flagged + positives)
    best = np.argmax(dice, axis=1)
    return auprc, np.take_along_axis(dice, best[:, None], axis=1)[:, 0], counts.threshold[best]


def pooled_dice(counts: Counts, weights: np.ndarray) -> np.ndarray:
    """(R, T) Dice of the pooled pixels at each threshold. NaN in resamples without a lesion pixel.

    weights: (R, N), how often each slice is drawn.
    """
    hits, flagged, positives = counts.drawn(weights)
    return 2 * hits / (flagged + positives)


def slice_dice(counts: Counts) -> np.ndarray:
    """(N, T) Dice of each slice by itself. Raises ValueError if one has no lesion pixel."""
    if not counts.positives.all():
        raise ValueError(
            "a slice has no lesion pixel: choose the lesion slices for a Dice of each image"
        )
    hits, flagged = counts.hits.astype(np.float64), counts.flagged.astype(np.float64)
    return 2 * hits / (flagged + counts.positives[:, None])


def max_slice_dice(counts: Counts, weights: np.ndarray) -> np.ndarray:
    """(R,) the highest, over thresholds, of the mean Dice of the drawn slices.

    A slice without a lesion counts 1 if nothing of it is flagged, else 0. So a map that flags
    nothing has the share of healthy slices: it is one of the thresholds. MAD-AD and REFLECT report
    this mean.

    counts: at the scores of lesion pixels; between two of them only healthy pixels are added.
    weights: (R, N), how often each slice is drawn.
    """
    hits, flagged = counts.hits.astype(np.float64), counts.flagged.astype(np.float64)
    each = np.where(
        counts.positives[:, None] > 0,
        2 * hits / np.maximum(flagged + counts.positives[:, None], 1),
        flagged == 0,
    )
    each = np.column_stack([counts.positives == 0, each])  # nothing is flagged
    starts = range(RESAMPLES_AT_ONCE, len(weights), RESAMPLES_AT_ONCE)
    best = [(part @ each).max(axis=1) for part in np.split(weights, starts)]
    return ratio(np.concatenate(best), weights.sum(axis=1))


def dice(flagged: np.ndarray, lesion: np.ndarray) -> float:
    """Dice coefficient of two boolean arrays of one shape; at least one pixel must be set."""
    return float(
        2
        * np.count_nonzero(flagged & lesion)
        / (np.count_nonzero(flagged) + np.count_nonzero(lesion))
    )


def healthy_threshold(scores: np.ndarray, false_positive_rate: float) -> float:
    """The smallest value above which at most this share of the pixels of healthy slices lies.

    Pixels above it are flagged. Raises ValueError without pixels and on non-finite scores.
    """
    scores = np.ravel(scores)
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError(
            "cannot calibrate a threshold: the healthy anomaly maps are empty or hold NaN or "
            "infinity"
        )
    allowed = int(false_positive_rate * len(scores))
    allowed += (allowed + 1) / len(scores) <= false_positive_rate  # 0.29 * 100 is below 29
    allowed = min(allowed, len(scores) - 1)
    return float(np.partition(scores, len(scores) - 1 - allowed)[len(scores) - 1 - allowed])


def precision_recall(counts: Counts) -> np.ndarray:
    """(2, K) recall and precision of the pooled pixels, from high thresholds to low.

    Of at most CURVE_POINTS thresholds, evenly in recall, and that of the highest Dice. Two that
    follow each other may have recalls far apart, if many scores are equal. Between them precision
    is that of the lower threshold, as in the area that is AUPRC.
    """
    hits, flagged = counts.hits.sum(axis=0, dtype=float), counts.flagged.sum(axis=0, dtype=float)
    recall, precision = hits / hits[-1], hits / flagged
    even = np.searchsorted(recall, np.linspace(recall[0], 1, CURVE_POINTS - 1))
    best = np.argmax(2 * hits / (flagged + hits[-1]))
    kept = np.union1d(even.clip(max=len(recall) - 1), [best])
    recall, precision = recall[kept], precision[kept]
    gaps = np.flatnonzero(np.diff(recall) > 4 / CURVE_POINTS)
    return np.stack(
        [
            np.insert(recall, gaps + 1, recall[gaps]),
            np.insert(precision, gaps + 1, precision[gaps + 1]),
        ]
    )
