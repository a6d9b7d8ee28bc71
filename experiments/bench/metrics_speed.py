"""Metrics of a whole test set: 655 slices of 128 x 128, 440 of them with lesions of all sizes."""

import numpy as np
from turns import Variants

from autoddpm.data.lesion_size import GROUPS, HEALTHY, size_group
from autoddpm.metrics.counts import histograms
from autoddpm.metrics.localization import HEALTHY_FPRS, localization
from autoddpm.metrics.measure import measure
from autoddpm.metrics.scored_slices import ScoredSlices
from autoddpm.metrics.statistics import interval, subject_weights

HEALTHY_SHARE = 1 / 3


def metrics(slices: int, size: int, resamples: int) -> Variants:
    maps, lesions = test_set(slices, size)
    group = size_group(lesions.sum((1, 2)), size)
    ill = group != HEALTHY

    def measured(*keys: str) -> None:
        thresholds = dict.fromkeys(HEALTHY_FPRS, 0.9)
        measure(ScoredSlices(maps, lesions, group, thresholds), np.ones((1, slices)), {*keys})

    def intervals() -> None:
        weights = subject_weights([str(i) for i in range(slices)], ill, resamples)
        found = localization(histograms(maps[ill], lesions[ill]), weights[:, ill])
        for samples in (found.auprc, found.max_dice):
            interval(samples)

    return {
        "localization": lambda: measured("lesion/auprc", *(f"lesion/auprc/{g}" for g in GROUPS)),
        "detection": lambda: measured("all/auprc", "all/slice_auroc", "lesion/sensitivity@1fp"),
        "intervals": intervals,
    }


def test_set(slices: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps of distinct float32 values, higher in discs of 2 to 30 pixels at 128; maps and lesions
    are (N, H, W)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    maps = rng.random((slices, size, size), dtype=np.float32)
    lesions = np.zeros((slices, size, size), bool)
    for i in range(int(slices * HEALTHY_SHARE), slices):
        row, column = rng.uniform(0.3, 0.7, 2)
        lesions[i] = np.hypot(y - row, x - column) < rng.uniform(2, 30) / 256
    maps[lesions] += 0.5
    return maps, lesions
