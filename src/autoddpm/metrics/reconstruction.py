"""How well healthy slices are kept: SSIM and MSE of input and reconstruction (paper, section 4)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics import Metric

from autoddpm.data.lesion_size import HEALTHY


def ssim(image: np.ndarray, reconstruction: np.ndarray) -> float:
    """Structural similarity of two (H, W) images in [0, 1]: scikit-image's defaults, as the
    published numbers."""
    return float(structural_similarity(image, reconstruction, data_range=1.0))


def mse(image: np.ndarray, reconstruction: np.ndarray) -> float:
    """Mean squared error of two (H, W) images in [0, 1]."""
    return float(np.mean((image.astype(np.float64) - reconstruction) ** 2))


class HealthyReconstruction(Metric):
    """Means over the healthy slices: `healthy/ssim`, `healthy/mse` and, where `lpips` is given,
    `healthy/lpips`.

    lpips: a callable (reconstruction, image), both (1, 1, H, W) in [0, 1] -> (1, 1, H, W).
    """

    total: Tensor
    count: Tensor

    def __init__(
        self, lpips: Callable[[Tensor, Tensor], Tensor] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.lpips = lpips
        self.keys = ("healthy/ssim", "healthy/mse", *(["healthy/lpips"] if lpips else []))
        self.add_state(
            "total", torch.zeros(len(self.keys), dtype=torch.float64), dist_reduce_fx="sum"
        )
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, image: Tensor, reconstruction: Tensor, group: Tensor) -> None:
        """image, reconstruction: (N, H, W) in [0, 1]; group: (N,) from `size_group`."""
        healthy = group == HEALTHY
        for one, other in zip(image[healthy], reconstruction[healthy], strict=True):
            values = [
                ssim(one.cpu().numpy(), other.cpu().numpy()),
                mse(one.cpu().numpy(), other.cpu().numpy()),
            ]
            values += (
                [float(self.lpips(other[None, None], one[None, None]).mean())] if self.lpips else []
            )
            self.total += torch.tensor(values, dtype=torch.float64, device=self.total.device)
            self.count += 1

    def compute(self) -> dict[str, float | str]:
        """Every key with its mean, or with a text that says why it is undefined."""
        if not self.count:
            return dict.fromkeys(self.keys, "no healthy slice in the test set")
        return dict(zip(self.keys, (self.total / self.count).tolist(), strict=True))
