"""DAE: one call of a denoising autoencoder on the scan as it is, and a smoothed difference."""

from collections.abc import Collection

import torch
from torch import Tensor

from autoddpm.autoencoder.dae import DAE, foreground
from autoddpm.detectors.anomaly_map import AVG_POOL, AnomalyMap
from autoddpm.detectors.detector import Reconstruction, Slices
from autoddpm.detectors.one_call import OneCall, check_family
from autoddpm.detectors.perceptual import Perceptual

FULL = 0.95  # share of a pixel's surroundings: with more in the foreground the pixel stays


class DAEDetector(OneCall):
    """Take what the network removes from the untouched slice for anomalous.

    Kascenas et al., MIDL 2022, with their post-processing. Their scans have no skull.

    model: a DAE.
    perceptual: the distance for maps that take one.
    map: how the input and the reconstruction are compared; theirs is `residual`.
    erosion: side in pixels, odd, of the surroundings that must be foreground, else the map is 0.
        1 keeps the foreground, 0 everything.
    median: side in pixels, odd, of the median filter over the map. 1 changes nothing.
    """

    label = "DAE"
    only_of_map: Collection[str] = ("map", "perceptual", "erosion", "median")

    def __init__(
        self,
        model: DAE,
        perceptual: Perceptual,
        map: AnomalyMap,
        erosion: int = 5,
        median: int = 5,
    ) -> None:
        check_family("dae", model, DAE, "model=dae")
        if erosion != 0 and not (erosion > 0 and erosion % 2):
            raise ValueError(f"detector.erosion={erosion}: must be odd, or 0 for none")
        if not (median > 0 and median % 2):
            raise ValueError(f"detector.median={median}: must be odd; 1 is no filter")
        super().__init__(model, perceptual, map)
        self.erosion, self.median = erosion, median

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        found = super().anomaly_map(batch, made)
        if self.erosion:
            pool, image = AVG_POOL[batch.image.ndim - 2], batch.image
            inside = foreground(image).to(image.dtype)
            found = found * (pool(inside, self.erosion, 1, self.erosion // 2) > FULL)
        return median_filtered(found, self.median)


def median_filtered(values: Tensor, side: int) -> Tensor:
    """The median of each pixel's surroundings, a square of `side` pixels, odd.

    values: (B, C, *space). The edge goes on beyond the edge.
    """
    reach, dimensions = side // 2, values.ndim - 2
    padding = [reach] * (2 * dimensions)
    windows = torch.nn.functional.pad(values, padding, mode="replicate")
    for axis in range(2, values.ndim):
        windows = windows.unfold(axis, side, 1)
    return windows.flatten(values.ndim).median(-1).values
