"""Metrics of a whole test set: 655 slices of 128 x 128, 440 of them with lesions of all sizes."""

import numpy as np
import torch
from turns import Variants

from autoddpm.data.lesion_size import HEALTHY, size_group
from autoddpm.metrics.detection import LesionDetection
from autoddpm.metrics.histogram import histograms, resampled_localization
from autoddpm.metrics.localization import HEALTHY_FPRS, LesionLocalization
from autoddpm.metrics.statistics import interval, subject_weights

HEALTHY_SHARE = 1 / 3


def metrics(slices: int, size: int, resamples: int) -> Variants:
    maps, lesions = test_set(slices, size)
    group = size_group(torch.from_numpy(lesions).flatten(1).sum(1), size)
    ill = (group != HEALTHY).numpy()

    def score(metric: LesionLocalization | LesionDetection) -> None:
        thresholds = dict.fromkeys(HEALTHY_FPRS, 0.9)
        metric.update(torch.from_numpy(maps), torch.from_numpy(lesions), group, thresholds)
        metric.compute()

    def intervals() -> None:
        weights = subject_weights([str(i) for i in range(slices)], ill, resamples)
        for values in resampled_localization(histograms(maps[ill], lesions[ill]), weights[:, ill]):
            interval(values)

    return {
        "localization": lambda: score(LesionLocalization()),
        "detection": lambda: score(LesionDetection()),
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
