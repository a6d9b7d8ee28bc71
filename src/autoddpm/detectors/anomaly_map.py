"""From an image and its reconstruction to an anomaly map, image by image (paper, Eq. 9, and its parts).

Every map has the same form, so that each can be used with each detector: image and reconstruction are (B, 1, H, W)
in [0, 1], `distance` gives the perceptual distance of the two where a map asks for it; the result is (B, 1, H, W) >= 0.
"""

from collections.abc import Callable

import numpy as np
import torch
from skimage.exposure import equalize_adapthist
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]
AnomalyMap = Callable[[Tensor, Tensor, Distance], Tensor]


def uses_distance(anomaly_map: AnomalyMap) -> bool:
    """Whether a map asks for the perceptual distance; found by a trial on a small image."""
    asked = []

    def distance(a: Tensor, b: Tensor) -> Tensor:
        asked.append(True)
        return torch.ones_like(a)

    anomaly_map(torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16), distance)
    return bool(asked)


def norm95(residual: Tensor) -> Tensor:
    """Divide each image by its own 95th percentile and clip at 1, as in Eq. (9).

    residual: (B, 1, H, W), non-negative. Returns (B, 1, H, W) in [0, 1]. The percentile is of the whole image,
    background included, as the authors'. Where it is 0, pixels above 0 become 1 and the rest is 0 (they divide by 0).
    """
    percentile = residual.flatten(1).float().quantile(0.95, dim=1).view(-1, 1, 1, 1)
    return (residual / percentile.clamp(min=torch.finfo(residual.dtype).tiny)).clamp(max=1)


def residual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """Absolute difference: the plain map of AnoDDPM."""
    return (reconstruction - image).abs()


def clahe_residual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """Absolute difference after contrast-limited adaptive histogram equalisation of both (the authors' first code)."""

    def equalised(x: Tensor) -> Tensor:
        planes = [equalize_adapthist(plane) for plane in x[:, 0].double().cpu().numpy()]
        return torch.from_numpy(np.stack(planes)).to(x)[:, None]

    return (equalised(reconstruction) - equalised(image)).abs()


def norm95_residual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """The first factor of Eq. (9) alone."""
    return norm95((reconstruction - image).abs())


def perceptual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """The second factor of Eq. (9) alone."""
    return distance(reconstruction, image)


def product(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """The soft initial map: normalised residual times perceptual distance."""
    return norm95((reconstruction - image).abs()) * distance(reconstruction, image)  # (9)


def residual_product(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """Absolute difference times Eq. (9): what AutoDDPM's last multiplication does, for any reconstruction."""
    return residual(image, reconstruction, distance) * product(image, reconstruction, distance)
