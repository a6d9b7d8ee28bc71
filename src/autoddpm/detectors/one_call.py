"""One-call detectors: their model returns the healthy slice for a scan in one call."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from autoddpm.detectors.anoddpm import refuse_non_finite
from autoddpm.detectors.anomaly_map import AnomalyMap, compare
from autoddpm.detectors.detector import PlainDetector, Reconstruction, Slices
from autoddpm.detectors.perceptual import Perceptual


class OneCall(PlainDetector):
    """Base of the detectors that reconstruct a slice by one call of their model's `restore`.

    model: of the detector's own family. `restore` takes and gives (B, C, *space).
    perceptual: the distance for maps that take one.
    map: how the input and the restored slice are compared.
    """

    only_of_map: Collection[str] = ("map", "perceptual")

    def __init__(self, model: Any, perceptual: Perceptual, map: AnomalyMap) -> None:
        self.model, self.perceptual, self.map = model, perceptual, map

    @property
    def most_calls(self) -> int:
        """Network calls per slice."""
        return 1

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        self.model.to(batch.image.device)  # a part of another detector is moved by nobody else
        restored = self.model.restore(batch.image)
        refuse_non_finite(restored, batch)
        return Reconstruction(restored.clamp(0, 1), torch.ones(len(restored), dtype=torch.int64))

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        return compare(
            self.map, batch.image, made.image, lambda a, b: self.perceptual(self.model, a, b)
        )


def check_family(detector: str, model: object, family: type, models: str) -> None:
    """Refuse a model of another family than a detector takes.

    detector: its name in `conf/detector`.
    models: the family's names in `conf/model`.

    Raises ValueError.
    """
    if not isinstance(model, family):
        raise ValueError(
            f"detector={detector}: needs weights of {models}; these are of a {type(model).__name__}"
        )
