"""Further ways to count: healthy slices too, each image by itself, each lesion, whole slices."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from autoddpm.data.lesion_size import HEALTHY
from autoddpm.metrics.localization import auprc, dice_above, max_dice, threshold_counts
from autoddpm.metrics.statistics import (
    detections,
    pixel_counts,
    resampled_auroc,
    resampled_sensitivity,
    slice_dice,
    slice_scores,
)

CALIBRATED = "healthy_fpr5"
FALSE_POSITIVES = (1, 2)  # a slice


class LesionDetection(Metric):
    """What the pooled pixels of lesion slices do not show.

    Keys: `all/auprc`, `all/max_dice`, `all/dice@healthy_fpr5` (lesion and healthy slices pooled);
    `all/slice_auroc` (is a slice's score, the mean of the highest 1 % of its map, higher with a
    lesion?); `lesion/slice_dice` (the mean over lesion slices of each one's Dice, at the threshold
    that is best for the pooled pixels) and `lesion/slice_dice@healthy_fpr5`;
    `lesion/sensitivity@1fp`, `@2fp` (the share of lesions, 8-connected components, that are hit at
    so many false positives a slice, of all slices).
    """

    anomaly_map: list[Tensor]
    lesion: list[Tensor]
    group: list[Tensor]
    threshold: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("anomaly_map", "lesion", "group"):
            self.add_state(name, [], dist_reduce_fx="cat")
        self.add_state(
            "threshold", torch.tensor(float("nan"), dtype=torch.float64), dist_reduce_fx="max"
        )

    def update(
        self, anomaly_map: Tensor, lesion: Tensor, group: Tensor, thresholds: Mapping[str, float]
    ) -> None:
        """anomaly_map, lesion: (N, H, W); group: (N,) from `size_group`; thresholds: by the names
        in HEALTHY_FPRS."""
        self.anomaly_map.append(anomaly_map)
        self.lesion.append(lesion)
        self.group.append(group)
        self.threshold = self.threshold.new_tensor(thresholds[CALIBRATED])

    def compute(self) -> dict[str, float | str]:
        """Every key with its value, or with a text that says why it is undefined."""
        maps, lesions, group = (
            dim_zero_cat(state).cpu().numpy()
            for state in (self.anomaly_map, self.lesion, self.group)
        )
        ill, threshold = group != HEALTHY, float(self.threshold)
        if not ill.any():
            return dict.fromkeys(self._keys(), "no lesion slice in the test set")
        lesions = lesions.astype(bool) & ill[:, None, None]  # a single pixel counts as healthy
        pooled, own = threshold_counts(maps, lesions), threshold_counts(maps[ill], lesions[ill])
        best = [maps[ill] >= max_dice(own)[1], maps[ill] > threshold]
        once, found = np.ones((1, len(maps))), detections(maps, lesions)
        auroc = (
            "no healthy slice in the test set"
            if ill.all()
            else resampled_auroc(slice_scores(maps), ill, once)[0]
        )
        values = (
            auprc(pooled),
            max_dice(pooled)[0],
            float(dice_above(maps, lesions, np.array([threshold]))[0]),
            auroc,
            *(float(slice_dice(pixel_counts(flagged, lesions[ill])).mean()) for flagged in best),
            *(float(resampled_sensitivity(found, once, number)[0]) for number in FALSE_POSITIVES),
        )
        return dict(zip(self._keys(), values, strict=True))

    @staticmethod
    def _keys() -> list[str]:
        return [
            "all/auprc",
            "all/max_dice",
            f"all/dice@{CALIBRATED}",
            "all/slice_auroc",
            "lesion/slice_dice",
            f"lesion/slice_dice@{CALIBRATED}",
            *(f"lesion/sensitivity@{number}fp" for number in FALSE_POSITIVES),
        ]
