"""Counts of flagged pixels, and of those of them that are lesion, at given thresholds."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

FLAGGED_STEP = 1e-3  # within a bin the flagged pixels grow by at most this share of themselves
RECALL_BINS = 2000  # and the recall by at most one part in these
SORTED_AT_ONCE = 2**22  # scores: what is held in memory besides the maps themselves

Side = Literal["left", "right"]


class Counts(NamedTuple):
    """For each of T thresholds, what flagging gives in each of N slices.

    threshold: (T,).
    hits: (N, T) flagged lesion pixels.
    flagged: (N, T) flagged pixels.
    positives: (N,) lesion pixels.

    Hits and flagged pixels have the smallest unsigned type that holds a slice's pixels.
    """

    threshold: np.ndarray
    hits: np.ndarray
    flagged: np.ndarray
    positives: np.ndarray

    def of(self, chosen: np.ndarray) -> "Counts":
        """The counts of the chosen slices, (N,) bool."""
        return Counts(
            self.threshold, self.hits[chosen], self.flagged[chosen], self.positives[chosen]
        )

    def drawn(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hits (R, T), flagged pixels (R, T) and lesion pixels (R, 1) of each resample, pooled.

        weights: (R, N), how often each slice is drawn. Whole numbers: the sums are exact. Lesion
        pixels are NaN in resamples that have none.
        """
        if weights.shape[1] != len(self.hits):
            raise ValueError(
                f"weights of {weights.shape[1]} slices do not fit counts of {len(self.hits)}"
            )
        hits, flagged = (weights @ one.astype(np.float64) for one in (self.hits, self.flagged))
        positives = (weights @ self.positives.astype(np.float64))[:, None]
        return hits, flagged, np.where(positives > 0, positives, np.nan)


def counts_at(
    maps: np.ndarray, lesion: np.ndarray, thresholds: np.ndarray, side: Side = "left"
) -> Counts:
    """Count each slice at the same thresholds.

    maps: (N, *space) scores.
    lesion: (N, *space) bool.
    thresholds: (T,), compared in the type of the maps.
    side: "left" flags scores of at least the threshold, "right" scores above it.
    """
    lesion = lesion.astype(bool)
    kind = np.min_scalar_type(maps[0].size)

    def counted(scores: np.ndarray) -> np.ndarray:
        return flagged_pixels(scores, thresholds, side).astype(kind)

    hits = np.stack([counted(one[at]) for one, at in zip(maps, lesion, strict=True)])
    flagged = np.stack([counted(one) for one in maps])
    return Counts(thresholds, hits, flagged, np.array([one.sum() for one in lesion]))


def every_score(maps: np.ndarray, lesion: np.ndarray) -> Counts:
    """Exact counts of pooled pixels at each distinct score of lesion pixels, from high to low.

    The slices are counted as one: N is 1. Between two of these thresholds only healthy pixels are
    added, so that neither AUPRC nor the highest Dice needs another. maps and lesion have one shape,
    any. Raises ValueError on non-finite scores and without a lesion pixel.
    """
    thresholds, _ = _lesion_scores(maps, lesion)
    return counts_at(np.reshape(maps, (1, -1)), np.reshape(lesion, (1, -1)), thresholds[::-1])


def histograms(
    maps: np.ndarray, lesion: np.ndarray, also: Sequence[float] | np.ndarray = ()
) -> Counts:
    """Counts of each slice at few of the scores of lesion pixels, from high to low.

    They make the AUPRC and the highest Dice of pooled pixels cheap in many resamples. Both depend
    only on the counts at the scores of lesion pixels. Of these the lowest of each bin is kept. In a
    bin the flagged pixels grow by at most FLAGGED_STEP and the recall by 1 / RECALL_BINS. Hence,
    whatever the scores and however rare the lesions,

        exact / (1 + FLAGGED_STEP) <= AUPRC from histograms <= exact + FLAGGED_STEP
        exact / (1 + FLAGGED_STEP) <= highest Dice from histograms <= exact,

    for the given slices. In a resample without the slices of the highest scores, bins are wider
    than FLAGGED_STEP, and the bins of recall keep its error small. Up to RECALL_BINS lesion pixels
    everything is exact, in every resample. There are about (1 + log(pixels FLAGGED_STEP)) /
    FLAGGED_STEP + RECALL_BINS bins at most: 12,000 for ten million pixels.

    maps: (N, *space) scores of the slices whose pixels are pooled.
    lesion: (N, *space) bool.
    also: further thresholds to count at.

    Raises ValueError on non-finite scores and without a lesion pixel.
    """
    scores, pixels = _lesion_scores(maps, lesion)
    hits = np.cumsum(pixels[::-1])
    flagged_bin = np.floor(np.log(flagged_pixels(maps, scores)[::-1]) / np.log1p(FLAGGED_STEP))
    recall_bin = hits * RECALL_BINS // hits[-1]
    lowest = np.append((np.diff(flagged_bin) != 0) | (np.diff(recall_bin) != 0), True)
    kept = scores[::-1][lowest]
    return counts_at(maps, lesion, np.union1d(kept, np.asarray(also, kept.dtype))[::-1])


def flagged_pixels(scores: np.ndarray, thresholds: np.ndarray, side: Side = "left") -> np.ndarray:
    """Number of scores that are at least ("left") or above ("right") each threshold.

    A part of the scores is sorted at a time.
    """
    parts = np.array_split(np.ravel(scores), max(1, -(-scores.size // SORTED_AT_ONCE)))
    thresholds = thresholds.astype(scores.dtype)
    return sum(
        (part.size - np.searchsorted(np.sort(part), thresholds, side) for part in parts),
        np.zeros(1, int),
    )


def refuse_non_finite(values: np.ndarray, name: str) -> None:
    """Raise ValueError on NaN and infinity, which would spread, or be lost among other numbers."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity: no statistic is defined on it")


def _lesion_scores(maps: np.ndarray, lesion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct scores of lesion pixels, rising, and how many pixels have each."""
    refuse_non_finite(maps, "an anomaly map")
    scores, pixels = np.unique(maps[lesion.astype(bool)], return_counts=True)
    if not len(scores):
        raise ValueError("no lesion pixel in these slices: AUPRC and Dice are undefined")
    return scores, pixels
