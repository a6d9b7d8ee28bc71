"""From an image and its reconstruction to an anomaly map (paper, Eq. 9, and its parts).

Image and reconstruction are (B, C, *space) in [0, 1]. The result is (B, 1, *space) >= 0, the mean
over channels. A map that compares the two by a perceptual distance takes it as a third argument,
called `distance`. Every map can be used with every detector.
"""

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.networks.layers import median_filter
from skimage.exposure import equalize_adapthist
from torch import Tensor
from torch.nn.functional import (
    avg_pool2d,
    avg_pool3d,
    conv2d,
    conv3d,
    max_pool2d,
    max_pool3d,
    pad,
)
from torchmetrics.functional.image import structural_similarity_index_measure

from autoddpm.float64 import double

#: Standard deviations, in pixels, of the Gaussian windows of the SSIM maps.
SSIM_WIDTHS = (0.5, 1.0, 1.5, 2.0)
MAX_POOL = {2: max_pool2d, 3: max_pool3d}
AVG_POOL = {2: avg_pool2d, 3: avg_pool3d}
CONVOLUTION = {2: conv2d, 3: conv3d}

Distance = Callable[[Tensor, Tensor], Tensor]
AnomalyMap = Callable[..., Tensor]


def needs_distance(anomaly_map: AnomalyMap) -> bool:
    """Whether a map takes the perceptual distance."""
    return "distance" in inspect.signature(anomaly_map).parameters


def compare(
    anomaly_map: AnomalyMap, image: Tensor, reconstruction: Tensor, distance: Distance
) -> Tensor:
    """The map of an image and its reconstruction, (B, 1, *space).

    distance: perceptual distance (reconstruction, image) -> (B, 1, *space), for maps that take it.
    """
    if needs_distance(anomaly_map):
        return anomaly_map(image, reconstruction, distance)
    return anomaly_map(image, reconstruction)


def head(image: Tensor) -> Tensor:
    """The head as a mask, (B, 1, *space) bool, of images (B, C, *space) in [0, 1].

    It is what is brighter than 0.15 after a blur, which the noise of a background is not. Holes,
    such as ventricles, are closed.
    """
    dimensions = image.ndim - 2
    grey = image.mean(1, keepdim=True)
    blurred = AVG_POOL[dimensions](grey, 5, 1, 2, count_include_pad=False)
    reach = image.shape[-1] // 8
    margin = [2 * reach] * (2 * dimensions)
    grown = MAX_POOL[dimensions](pad((blurred > 0.15).float(), margin), 2 * reach + 1, 1)
    return -MAX_POOL[dimensions](-grown, 2 * reach + 1, 1) > 0


def dilated(values: Tensor, side: int) -> Tensor:
    """The maximum of each pixel's surroundings: a square of `side` pixels, odd, cut at the edge."""
    return MAX_POOL[values.ndim - 2](values, side, stride=1, padding=side // 2)


def closed(values: Tensor, side: int) -> Tensor:
    """Grey closing: fill dark gaps into which a square of `side` pixels, odd, does not fit."""
    return -dilated(-dilated(values, side), side)


def smoothed(values: Tensor, width: float) -> Tensor:
    """Values (B, 1, *space) after a Gaussian filter; the edge goes on beyond the edge.

    width: standard deviation in pixels. The filter is cut at four of them.
    """
    reach = round(4 * width)
    weights = torch.arange(-reach, reach + 1, device=values.device, dtype=torch.float32)
    weights = (-0.5 * (weights / width).square()).exp()
    weights = weights / weights.sum()
    dimensions = values.ndim - 2
    with torch.autocast(values.device.type, enabled=False):
        result = pad(values.float(), [reach] * (2 * dimensions), mode="replicate")
        for axis in range(dimensions):
            shape = [1, 1, *(-1 if one == axis else 1 for one in range(dimensions))]
            result = CONVOLUTION[dimensions](result, weights.view(shape))
    return result


def median5(values: Tensor) -> Tensor:
    """Values (B, 1, *space) after a median of 5 pixels along each axis; the edge goes on."""
    with torch.autocast(values.device.type, enabled=False):
        return median_filter(values.float(), 5, values.ndim - 2)


#: What may follow a detector's map, as a row of its own: `postprocess` of `conf/evaluate.yaml`.
POSTPROCESS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda values: values,
    "median5": median5,
}


def norm95(residual: Tensor, region: Tensor | None = None) -> Tensor:
    """Divide each image by its own 95th percentile and clip at 1, as in Eq. (9).

    residual: (B, 1, *space), non-negative.
    region: (B, 1, *space) bool, the pixels that the percentile is of. None: all, background
        included, as in the authors' code.

    Returns (B, 1, *space) in [0, 1]. If the percentile is 0, pixels above 0 become 1 and the rest
    is 0 (the authors divide by 0).
    """
    values = residual.float().flatten(1)
    if region is None:
        percentile = values.quantile(0.95, dim=1)
    else:
        percentile = (
            values.masked_fill(~region.flatten(1), torch.nan).nanquantile(0.95, dim=1).nan_to_num()
        )
    percentile = percentile.view(-1, *[1] * (residual.ndim - 1))
    return (residual / percentile.clamp(min=torch.finfo(residual.dtype).tiny)).clamp(max=1)


def residual(image: Tensor, reconstruction: Tensor) -> Tensor:
    """Absolute difference: the plain map of AnoDDPM."""
    return (reconstruction - image).abs().mean(1, keepdim=True)


def clahe_residual(image: Tensor, reconstruction: Tensor) -> Tensor:
    """Absolute difference after contrast-limited adaptive histogram equalisation of both.

    As the authors' first code has it.
    """

    def equalised(x: Tensor) -> Tensor:
        planes = [equalize_adapthist(plane) for plane in double(x.flatten(0, 1)).cpu().numpy()]
        return torch.from_numpy(np.stack(planes)).to(x.dtype).to(x.device).view_as(x)

    return (equalised(reconstruction) - equalised(image)).abs().mean(1, keepdim=True)


def norm95_residual(image: Tensor, reconstruction: Tensor) -> Tensor:
    """The first factor of Eq. (9) alone."""
    return norm95(residual(image, reconstruction))


def perceptual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """The second factor of Eq. (9) alone."""
    return distance(reconstruction, image)


def product(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """The soft initial map: normalised residual times perceptual distance."""
    return norm95(residual(image, reconstruction)) * distance(reconstruction, image)  # (9)


def head_product(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """Eq. (9) inside the head, with the percentile of its pixels alone; 0 outside."""
    inside = head(image)
    return (
        norm95(residual(image, reconstruction), inside) * distance(reconstruction, image) * inside
    )


def residual_product(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """Absolute difference times Eq. (9): AutoDDPM's last multiplication, for any reconstruction."""
    return residual(image, reconstruction) * product(image, reconstruction, distance)


def ssim(image: Tensor, reconstruction: Tensor) -> Tensor:
    """1 - SSIM: difference in structure, averaged over several widths of the window.

    Behrendt et al., 2024.
    """
    return unlikeness(image, reconstruction, SSIM_WIDTHS)


def unlikeness(image: Tensor, reconstruction: Tensor, widths: Sequence[float]) -> Tensor:
    """1 - SSIM, averaged over windows, (B, 1, *space) in [0, 2].

    widths: standard deviations of the Gaussian windows, in pixels.
    """
    with torch.autocast(image.device.type, enabled=False):  # variances of nearly equal numbers
        maps = [
            structural_similarity_index_measure(
                double(reconstruction),
                double(image),
                sigma=width,
                data_range=1.0,
                return_full_image=True,
            )[1]
            for width in widths
        ]
    unlike = (1 - torch.stack(maps).mean(0)).clamp(min=0).to(image.dtype).to(image.device)
    return unlike.mean(1, keepdim=True)


def brighter_residual(image: Tensor, reconstruction: Tensor) -> Tensor:
    """The difference if the reconstruction is brighter than the scan, else 0.

    Strokes are dark in T1-weighted scans.
    """
    return (reconstruction - image).clamp(min=0).mean(1, keepdim=True)


def brighter(image: Tensor, reconstruction: Tensor) -> Tensor:
    """The pixels at which the reconstruction is brighter than the scan, (B, 1, *space) bool."""
    return (reconstruction - image).mean(1, keepdim=True) > 0


def brighter_perceptual(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """`perceptual` if the reconstruction is brighter than the scan, else 0."""
    return distance(reconstruction, image) * brighter(image, reconstruction)


def brighter_product(image: Tensor, reconstruction: Tensor, distance: Distance) -> Tensor:
    """`product`, Eq. (9), if the reconstruction is brighter than the scan, else 0."""
    return product(image, reconstruction, distance) * brighter(image, reconstruction)


def brighter_ssim(image: Tensor, reconstruction: Tensor) -> Tensor:
    """`ssim` times `brighter_residual`."""
    return ssim(image, reconstruction) * brighter_residual(image, reconstruction)
