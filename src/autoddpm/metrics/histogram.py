"""Cumulative histograms of each slice's scores: they make the pooled AUPRC and Dice of a resample
cheap."""

from typing import Literal, NamedTuple

import numpy as np

FLAGGED_STEP = 1e-3  # within a bin the flagged pixels grow by at most this share of themselves
RECALL_BINS = 2000  # and the recall by at most one part in these
SORTED_AT_ONCE = 2**22  # scores: what is held in memory besides the maps themselves
RESAMPLES_AT_ONCE = 100  # what a product holds in memory: resamples x bins x 8 bytes


class Histograms(NamedTuple):
    """For each of B thresholds, from high to low, what flagging scores of at least it gives in each
    of N slices.

    threshold: (B,) scores of lesion pixels, the last the lowest of them.  hits: (N, B) flagged
        lesion pixels, in the
    last column all of them.  flagged: (N, B) flagged pixels.  Both in the smallest unsigned type
    for a slice's pixels.
    """

    threshold: np.ndarray
    hits: np.ndarray
    flagged: np.ndarray


def histograms(maps: np.ndarray, lesion: np.ndarray) -> Histograms:
    """Cumulative histograms of one population, the slices whose pixels are pooled.

    maps: (N, H, W) scores.  lesion: (N, H, W) bool.  Raises ValueError on non-finite scores and
        without lesion pixels.

    AUPRC and the highest Dice depend only on the counts at the scores of lesion pixels. Of these
    the lowest of each bin is kept; in a bin the flagged pixels grow by at most FLAGGED_STEP and the
    recall by 1 / RECALL_BINS. Hence, whatever the scores and however rare the lesions,

        exact / (1 + FLAGGED_STEP) <= AUPRC from histograms <= exact + FLAGGED_STEP
        exact / (1 + FLAGGED_STEP) <= highest Dice from histograms <= exact,

    for the given slices; in a resample without the slices of the highest scores bins are wider than
    FLAGGED_STEP, and the bins of recall keep its error small. Up to RECALL_BINS lesion pixels
    everything is exact, in every resample. There are about (1 + log(N H W FLAGGED_STEP)) /
    FLAGGED_STEP + RECALL_BINS bins at most: 12,000 for ten million pixels.
    """
    refuse_non_finite(maps, "an anomaly map")
    lesion = lesion.astype(bool)
    scores, pixels = np.unique(maps[lesion], return_counts=True)
    if not len(scores):
        raise ValueError("no lesion pixel in these slices: AUPRC and Dice are undefined")
    hits = np.cumsum(pixels[::-1])
    flagged_bin = np.floor(np.log(flagged_pixels(maps, scores)[::-1]) / np.log1p(FLAGGED_STEP))
    recall_bin = hits * RECALL_BINS // hits[-1]
    lowest = np.append((np.diff(flagged_bin) != 0) | (np.diff(recall_bin) != 0), True)
    kept = scores[lowest[::-1]][::-1]
    counts = np.min_scalar_type(maps[0].size)
    return Histograms(
        kept,
        np.stack(
            [
                flagged_pixels(one[where], kept).astype(counts)
                for one, where in zip(maps, lesion, strict=True)
            ]
        ),
        np.stack([flagged_pixels(one, kept).astype(counts) for one in maps]),
    )


def refuse_non_finite(values: np.ndarray, name: str) -> None:
    """Raise ValueError on NaN and infinity, which would spread into every number or, worse, into
    none."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity: no statistic is defined on it")


def flagged_pixels(
    scores: np.ndarray, thresholds: np.ndarray, side: Literal["left", "right"] = "left"
) -> np.ndarray:
    """How many scores are at least (side "left") or above ("right") each threshold, a part of the
    scores at a time."""
    parts = np.array_split(np.ravel(scores), max(1, -(-scores.size // SORTED_AT_ONCE)))
    thresholds = thresholds.astype(scores.dtype)
    return sum(
        (part.size - np.searchsorted(np.sort(part), thresholds, side) for part in parts),
        np.zeros(1, int),
    )


def resampled_localization(
    counts: Histograms, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled AUPRC and highest Dice in each resample, its threshold chosen anew in each: two arrays
    (R,).

    weights: (R, N), how often each slice is drawn; a row of ones gives the values of the data
    themselves. NaN in resamples without a lesion pixel.
    """
    if weights.shape[1] != len(counts.hits):
        raise ValueError(
            f"weights of {weights.shape[1]} slices do not fit histograms of {len(counts.hits)}"
        )
    hits, flagged = (
        counts.hits.astype(np.float64),
        counts.flagged.astype(np.float64),
    )  # whole numbers: sums are exact
    starts = range(RESAMPLES_AT_ONCE, len(weights), RESAMPLES_AT_ONCE)
    parts = [_localization(part @ hits, part @ flagged) for part in np.split(weights, starts)]
    auprc, max_dice = zip(*parts, strict=True)
    return np.concatenate(auprc), np.concatenate(max_dice)


def _localization(hits: np.ndarray, flagged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positives = np.where(hits[:, -1:] > 0, hits[:, -1:], np.nan)
    precision = hits / np.maximum(flagged, 1)
    auprc = np.sum(np.diff(hits, axis=1, prepend=0) * precision / positives, axis=1)
    return auprc, np.max(2 * hits / (flagged + positives), axis=1)
