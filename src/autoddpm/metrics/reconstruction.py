"""Fidelity of healthy slices: SSIM, MSE and LPIPS of input and reconstruction.

See the paper, section 4.
"""

from collections.abc import Callable

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

#: (reconstruction, image), both (1, C, *space) in [0, 1], to a map of distances.
Lpips = Callable[[Tensor, Tensor], Tensor]


def ssim(image: np.ndarray, reconstruction: np.ndarray, dimensions: int = 2) -> float:
    """Structural similarity, with scikit-image's defaults, as the published numbers.

    image, reconstruction: (*space) or (C, *space) in [0, 1]; over channels the mean is taken.
    dimensions: of space.
    """
    axis = 0 if image.ndim > dimensions else None
    return float(structural_similarity(image, reconstruction, data_range=1.0, channel_axis=axis))


def mse(image: np.ndarray, reconstruction: np.ndarray) -> float:
    """Mean squared error of two images of one shape in [0, 1]."""
    return float(np.mean((image.astype(np.float64) - reconstruction) ** 2))


def fidelity(
    image: np.ndarray,
    reconstruction: np.ndarray,
    chosen: np.ndarray,
    dimensions: int = 2,
    lpips: Lpips | None = None,
) -> dict[str, np.ndarray]:
    """Each chosen slice's "ssim", "mse" and, if it is given, "lpips", (N,). NaN in the others.

    image, reconstruction: (N, *space) or (N, C, *space) in [0, 1].
    chosen: (N,) bool.
    dimensions: of space.
    lpips: a distance, of which the mean over the map is taken.
    """

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        shape = (1, *((1,) if one.ndim == dimensions else ()), *one.shape)
        pair = (torch.from_numpy(array).reshape(shape) for array in (other, one))
        return float(lpips(*pair).mean()) if lpips else np.nan

    measures: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "ssim": lambda one, other: ssim(one, other, dimensions),
        "mse": mse,
        **({"lpips": distance} if lpips else {}),
    }
    found = {name: np.full(len(image), np.nan) for name in measures}
    for n in np.flatnonzero(chosen):
        for name, measure in measures.items():
            found[name][n] = measure(image[n], reconstruction[n])
    return found
