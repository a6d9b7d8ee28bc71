"""Restoration: one call from a scan to the healthy scan, and what changed."""

from collections.abc import Collection
from typing import cast

import torch
from torch import Tensor

from autoddpm.autoencoder.restoration import Restoration
from autoddpm.detectors.anoddpm import refuse_non_finite
from autoddpm.detectors.anomaly_map import AnomalyMap, compare
from autoddpm.detectors.detector import PlainDetector, Reconstruction, Slices
from autoddpm.detectors.perceptual import Perceptual
from autoddpm.models.trained import load_checkpoint


class RestorationDetector(PlainDetector):
    """Restore the untouched slice in one call and map what changed.

    model: a restoration network.
    perceptual: the distance for maps that take one.
    map: how the input and the restored slice are compared.
    weights: of the model, to tell two apart if it is a part of another detector.
    """

    label = "Restoration"
    most_calls = 1
    only_of_map: Collection[str] = ("map", "perceptual")

    def __init__(
        self, model: Restoration, perceptual: Perceptual, map: AnomalyMap, weights: str = ""
    ) -> None:
        if not isinstance(model, Restoration):
            raise ValueError(
                "detector=restoration: needs the weights of a restoration network, of "
                f"model=restoration; these are of a {type(model).__name__}"
            )
        self.model, self.perceptual, self.map, self.weights = model, perceptual, map, weights

    @classmethod
    def of_weights(
        cls, weights: str, perceptual: Perceptual, map: AnomalyMap
    ) -> "RestorationDetector":
        """The detector with weights of its own, as a part of another one.

        weights: a checkpoint, a weights file or the name of released weights.
        """
        trained = load_checkpoint(weights)
        return cls(cast(Restoration, trained.model), perceptual, map, trained.weights_hash)

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        self.model.to(batch.image.device)  # one of its own is moved by nobody else
        restored = self.model.restore(batch.image).clamp(0, 1)
        refuse_non_finite(restored, batch)
        return Reconstruction(restored, torch.ones(len(restored), dtype=torch.int64))

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        return compare(
            self.map, batch.image, made.image, lambda a, b: self.perceptual(self.model, a, b)
        )
