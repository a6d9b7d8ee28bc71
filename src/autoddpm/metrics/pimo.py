"""AUPIMO: recall of lesion slices at few false positives (Bertoldo et al., arXiv:2401.01984)."""

import numpy as np
from scipy.integrate import trapezoid

from autoddpm.metrics.counts import flagged_pixels, refuse_non_finite
from autoddpm.metrics.statistics import ratio

FPR_BOUNDS = (1e-3, 5e-2)  # of the rates whose logarithm the recall is averaged over
RATES = np.geomspace(*FPR_BOUNDS, 100)
#: Thresholds are those of the data at these rates; a resample chooses among them.
CANDIDATES = np.unique([*RATES, *np.geomspace(FPR_BOUNDS[0] / 3, FPR_BOUNDS[1] * 3, 300)])


def aupimo(
    maps: np.ndarray,
    lesion: np.ndarray,
    ill: np.ndarray,
    healthy: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """(R,) mean over lesion slices of the area under their recall, over the log of the rate.

    The rate is the share of all healthy slices' pixels that a threshold flags, which all lesion
    slices share. The recall at a rate is that of the lowest threshold that does not exceed it. A
    map that flags at random has .013; one that misses nothing has 1.

    maps: (N, *space) scores, finite.
    lesion: (N, *space) bool.
    ill, healthy: (N,) bool, the lesion slices and the healthy ones.
    weights: (R, N), how often each slice is drawn.

    NaN in resamples that lack one of the two kinds.
    """
    refuse_non_finite(maps, "an anomaly map")
    scores = np.sort(maps[healthy], axis=None)
    allowed = np.floor(CANDIDATES * scores.size * (1 + 1e-12)).astype(int)
    thresholds = np.unique(scores[scores.size - 1 - allowed])[::-1]

    def above(values: np.ndarray) -> np.ndarray:
        return flagged_pixels(values, thresholds, "right")

    recall = np.stack(
        [above(one[at]) / at.sum() for one, at in zip(maps[ill], lesion[ill], strict=True)]
    )
    flagged = np.stack([above(one) for one in maps[healthy]]).astype(np.float64)
    pixels, slices = weights[:, healthy].sum(axis=1) * maps[0].size, weights[:, ill].sum(axis=1)
    rate = ratio(weights[:, healthy] @ flagged, pixels[:, None])
    mean = np.pad(ratio(weights[:, ill] @ recall, slices[:, None]), ((0, 0), (1, 0)))
    # 0 if even the highest threshold exceeds a rate
    at = np.stack([np.searchsorted(one, RATES * (1 + 1e-12), "right") for one in rate])
    spread = np.log(RATES[-1] / RATES[0])
    found = trapezoid(np.take_along_axis(mean, at, axis=1), np.log(RATES)) / spread
    return np.where((pixels > 0) & (slices > 0), found, np.nan)
