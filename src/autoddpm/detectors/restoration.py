"""Restoration: one call from a scan to the healthy scan, and what changed."""

from collections.abc import Collection

import torch
from torch import Tensor

from autoddpm.autoencoder.restoration import Restoration
from autoddpm.detectors.anoddpm import refuse_non_finite
from autoddpm.detectors.anomaly_map import AnomalyMap, compare
from autoddpm.detectors.detector import PlainDetector, Reconstruction, Slices


class RestorationDetector(PlainDetector):
    """Restore the untouched slice in one call and map what changed.

    model: a restoration network.
    map: how the input and the restored slice are compared; one without a perceptual distance.
    """

    label = "Restoration"
    most_calls = 1
    only_of_map: Collection[str] = ("map",)

    def __init__(self, model: Restoration, map: AnomalyMap) -> None:
        if not isinstance(model, Restoration):
            raise ValueError(
                "detector=restoration: needs the weights of a restoration network, "
                f"checkpoint=ixi-restoration; these are of a {type(model).__name__}"
            )
        self.model, self.map = model, map

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        restored = self.model.restore(batch.image).clamp(0, 1)
        refuse_non_finite(restored, batch)
        return Reconstruction(restored, torch.ones(len(restored), dtype=torch.int64))

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        return compare(self.map, batch.image, made.image, _no_distance)


def _no_distance(*_: Tensor) -> Tensor:
    raise ValueError("anomaly_map: restoration has no perceptual distance; choose another map")
