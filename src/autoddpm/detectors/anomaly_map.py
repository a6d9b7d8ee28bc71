"""From an image and its reconstruction to an anomaly map, image by image (paper, Eq. 9, and its
parts).

Every map has the same form, so that each can be used with each detector: image and reconstruction
are (B, 1, H, W) in [0, 1], `distance` gives the perceptual distance of the two where a map asks for
it; the result is (B, 1, H, W) >= 0.
"""

from collections.abc import Callable

import numpy as np
import torch
from skimage.exposure import equalize_adapthist
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad
from torchmetrics.functional.image import structural_similarity_index_measure

#: Standard deviations, in pixels, of the Gaussian windows of the SSIM maps.
SSIM_WIDTHS = (0.5, 1.0, 1.5, 2.0)

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


def head(image: Tensor) -> Tensor:
    """Where the head is: (B, 1, H, W) bool, of images (B, 1, H, W) in [0, 1].

    What is brighter than 0.15 after a blur, as the noise of a background is not; holes, as
    ventricles, are closed.
    """
    bright = (avg_pool2d(image, 5, 1, 2, count_include_pad=False) > 0.15).float()
    reach = image.shape[-1] // 8
    grown = max_pool2d(pad(bright, [2 * reach] * 4), 2 * reach + 1, 1)
    return -max_pool2d(-grown, 2 * reach + 1, 1) > 0


def norm95(residual: Tensor, region: Tensor | None = None) -> Tensor:
    """Divide each image by its own 95th percentile and clip at 1, as in Eq. (9).

    residual: (B, 1, H, W), non-negative. Returns (B, 1, H, W) in [0, 1]. The percentile is of the
    whole image, background included, as the authors', or of a region, (B, 1, H, W) bool. If it is
    0, pixels above 0 become 1 and the rest is 0 (they divide by 0).
    """
    values = residual.float().flatten(1)
    if region is None:
        percentile = values.quantile(0.95, dim=1)
    else:
        percentile = (
            values.masked_fill(~region.flatten(1), torch.nan).nanquantile(0.95, dim=1).nan_to_num()
        )
    percentile = percentile.view(-1, 1, 1, 1)
    return (residual / percentile.clamp(min=torch.finfo(residual.dtype).tiny)).clamp(max=1)


def residual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """Absolute difference: the plain map of AnoDDPM."""
    return (reconstruction - image).abs()


def clahe_residual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """Absolute difference after contrast-limited adaptive histogram equalisation of both (the
    authors' first code)."""

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


def head_product(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """Eq. (9) inside the head, the percentile of its pixels alone; 0 outside, whatever noise is
    there."""
    inside = head(image)
    return norm95((reconstruction - image).abs(), inside) * distance(reconstruction, image) * inside


def residual_product(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """Absolute difference times Eq. (9): what AutoDDPM's last multiplication does, for any
    reconstruction."""
    return residual(image, reconstruction, distance) * product(image, reconstruction, distance)


def ssim(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """1 - SSIM: what is unlike in structure, averaged over several widths of the window (Behrendt
    et al., 2024)."""
    with torch.autocast(image.device.type, enabled=False):  # variances of nearly equal numbers
        maps = [
            structural_similarity_index_measure(
                reconstruction.double(),
                image.double(),
                sigma=width,
                data_range=1.0,
                return_full_image=True,
            )[1]
            for width in SSIM_WIDTHS
        ]
    return (1 - torch.stack(maps).mean(0)).clamp(min=0).to(image.dtype)


def brighter_residual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """The difference if the reconstruction is brighter than the scan, else 0: strokes are dark in
    T1-weighted scans."""
    return (reconstruction - image).clamp(min=0)


def brighter_perceptual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """`perceptual` if the reconstruction is brighter than the scan, else 0."""
    return perceptual(image, reconstruction, distance) * (reconstruction > image)


def brighter_product(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """`product`, Eq. (9), if the reconstruction is brighter than the scan, else 0."""
    return product(image, reconstruction, distance) * (reconstruction > image)


def brighter_ssim(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """`ssim` times `brighter_residual`."""
    return ssim(image, reconstruction, distance) * brighter_residual(
        image, reconstruction, distance
    )
