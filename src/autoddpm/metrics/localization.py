"""How well lesions are found: AUPRC and Dice over pooled pixels, whole and by lesion size (paper,
section 4)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from autoddpm.data.lesion_size import GROUPS, HEALTHY
from autoddpm.metrics.histogram import flagged_pixels, refuse_non_finite

#: Share of healthy validation pixels that each calibrated threshold may flag.
HEALTHY_FPRS = {"healthy_fpr1": 0.01, "healthy_fpr2": 0.02, "healthy_fpr5": 0.05}
GRID = np.arange(101) / 100  # thresholds of the authors' code


class Counts(NamedTuple):
    """For each distinct score of lesion pixels, from high to low, what flagging all pixels of at
    least it would give.

    Between two of them only healthy pixels are added: neither AUPRC nor the highest Dice needs to
    look there.

    threshold: the score.  hits: flagged lesion pixels.  flagged: flagged pixels.  positives: all
        lesion pixels.
    """

    threshold: np.ndarray
    hits: np.ndarray
    flagged: np.ndarray
    positives: int


def threshold_counts(scores: np.ndarray, lesion: np.ndarray) -> Counts:
    """Exact counts. scores, lesion: of one shape, any. Raises ValueError on non-finite scores and
    without a lesion."""
    refuse_non_finite(scores, "an anomaly map")
    thresholds, pixels = np.unique(scores[lesion.astype(bool)], return_counts=True)
    if not len(thresholds):
        raise ValueError("no lesion pixel in these slices: AUPRC and Dice are undefined")
    hits = np.cumsum(pixels[::-1])
    return Counts(thresholds[::-1], hits, flagged_pixels(scores, thresholds)[::-1], int(hits[-1]))


def auprc(counts: Counts) -> float:
    """Area under the precision-recall curve as average precision: sum of precision times gain in
    recall."""
    gain = np.diff(counts.hits, prepend=0) / counts.positives
    return float(np.sum(gain * counts.hits / counts.flagged))


def max_dice(counts: Counts) -> tuple[float, float]:
    """The highest Dice coefficient over all thresholds, and the threshold (flag scores of at least
    it)."""
    dice = 2 * counts.hits / (counts.flagged + counts.positives)
    best = int(np.argmax(dice))
    return float(dice[best]), float(counts.threshold[best])


def dice_above(scores: np.ndarray, lesion: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Dice of the pixels whose score is above each threshold. scores, lesion: of one shape; NaN
    without a lesion."""
    lesion = lesion.astype(bool)
    hits = flagged_pixels(scores[lesion], thresholds, "right")
    return 2 * hits / (flagged_pixels(scores, thresholds, "right") + np.count_nonzero(lesion))


def grid_dice(scores: np.ndarray, lesion: np.ndarray) -> float:
    """The highest Dice over the thresholds 0, 0.01, ..., 1 (flag scores above), as in the authors'
    code."""
    return float(dice_above(scores, lesion, GRID).max())


def dice(flagged: np.ndarray, lesion: np.ndarray) -> float:
    """Dice coefficient of two boolean arrays of one shape; at least one pixel must be set."""
    return float(
        2
        * np.count_nonzero(flagged & lesion)
        / (np.count_nonzero(flagged) + np.count_nonzero(lesion))
    )


def healthy_threshold(scores: np.ndarray, false_positive_rate: float) -> float:
    """The smallest value above which at most this share of the pixels of healthy slices lies (flag
    scores above it)."""
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


class LesionLocalization(Metric):
    """AUPRC and Dice over the pooled pixels of the lesion slices, and of each size group.

    Keys: `lesion/auprc`, `lesion/max_dice` (over all thresholds, the paper's), `lesion/grid_dice`
    (the authors' grid), `lesion/best_threshold` (of `max_dice`), and for each of `HEALTHY_FPRS`
    `lesion/dice@healthy_fpr5` (at the threshold calibrated on healthy validation slices), each also
    with `/small`, `/medium`, `/large`; and `healthy/fpr@...`, the share of the test set's healthy
    pixels that a calibrated threshold flags.
    """

    anomaly_map: list[Tensor]
    lesion: list[Tensor]
    group: list[Tensor]
    thresholds: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("anomaly_map", "lesion", "group"):
            self.add_state(name, [], dist_reduce_fx="cat")
        unset = torch.full((len(HEALTHY_FPRS),), float("nan"), dtype=torch.float64)
        self.add_state("thresholds", unset, dist_reduce_fx="max")

    def update(
        self, anomaly_map: Tensor, lesion: Tensor, group: Tensor, thresholds: Mapping[str, float]
    ) -> None:
        """anomaly_map, lesion: (N, H, W); group: (N,) from `size_group`; thresholds: by the names
        in HEALTHY_FPRS."""
        self.anomaly_map.append(anomaly_map)
        self.lesion.append(lesion)
        self.group.append(group)
        self.thresholds = self.thresholds.new_tensor([thresholds[name] for name in HEALTHY_FPRS])

    def compute(self) -> dict[str, float | str]:
        """Every key with its value, or with a text that says why it is undefined."""
        maps, lesions, group = (
            dim_zero_cat(state).cpu().numpy()
            for state in (self.anomaly_map, self.lesion, self.group)
        )
        refuse_non_finite(maps, "an anomaly map")
        thresholds = dict(zip(HEALTHY_FPRS, self.thresholds.tolist(), strict=True))
        values = _scores(maps, lesions, group != HEALTHY, thresholds, "", "the test set")
        for index, name in enumerate(GROUPS[1:], start=1):
            values |= _scores(
                maps, lesions, group == index, thresholds, f"/{name}", f"the group {name}"
            )
        healthy = maps[group == HEALTHY]
        for name, threshold in thresholds.items():
            rate = (
                float((healthy > threshold).mean())
                if healthy.size
                else "no healthy slice in the test set"
            )
            values[f"healthy/fpr@{name}"] = rate
        return values


def _scores(
    maps: np.ndarray,
    lesions: np.ndarray,
    chosen: np.ndarray,
    thresholds: Mapping[str, float],
    suffix: str,
    where: str,
) -> dict[str, float | str]:
    names = [
        "auprc",
        "max_dice",
        "grid_dice",
        "best_threshold",
        *(f"dice@{name}" for name in thresholds),
    ]
    keys = [f"lesion/{name}{suffix}" for name in names]
    if not chosen.any():
        return dict.fromkeys(keys, f"no lesion slice in {where}")
    scores, lesion = maps[chosen], lesions[chosen].astype(bool)
    counts = threshold_counts(scores, lesion)
    highest, best_threshold = max_dice(counts)
    calibrated = dice_above(scores, lesion, np.array([*thresholds.values()])).tolist()
    values = (auprc(counts), highest, grid_dice(scores, lesion), best_threshold, *calibrated)
    return dict(zip(keys, values, strict=True))
