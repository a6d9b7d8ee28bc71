"""Healthy slices as older patients and other scanners give them.

The changes are pure functions of slices of one channel and of given random numbers.

Lengths are in pixels of a slice of 128 pixels and scale with the image's longer side. The same
numbers are the same change at any resolution. Computed in the image's own precision: in
float64 the result is the same on every machine, to far below the step of 8 bits.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from autoddpm.random import Draw, Stage, normal, slice_keys, uniform

VERSION = 1  # of what this file computes: part of the names of what is written with it
#: A scan is drawn anew, this often, until its field of view holds this share of a lesion.
SCANS, SEEN = 20, 0.8

SIDE = 128  # pixels that lengths refer to
GAMMA = (0.6, 1.6)
CONTRAST = 0.6  # slope of the tone curve at its ends and its middle: 1 plus and minus this
FIELD = 1.5  # the bias field's largest factor, about
BLUR = (0.5, 1.5)
NOISE = (0.01, 0.06)  # of the 98th percentile
GRAIN = 0.8  # correlation length of the noise, at most: scans were interpolated
CUT = (0.6, 1.0)  # distance of a cut from the middle, in halves of the side
SULCI, VENTRICLES = 7.0, 45.0  # movement of edges per unit of slope; coarser slopes are flatter
HEAD = 0.1  # of the image's range: above it is the head
COARSE = 32  # cells a side of the grid on which the head is found

SHARE = 0.5  # how probable each change is

AGE_NUMBERS, SCAN_NUMBERS = 4, 19


def age(image: Tensor, u: Tensor, share: float = SHARE) -> Tensor:
    """Atrophy: a smooth deformation that widens sulci by up to a pixel and ventricles by four.

    image: (B, 1, H, W) in [0, 1], fluid dark.
    u: (B, AGE_NUMBERS) uniforms in [0, 1): whether and how much, for sulci and for ventricles. All
        1 is no change.
    share: how probable each of the two is.
    Returns (B, 1, H, W) in [0, 1]. The skull stays as it is. Raises ValueError for volumes, or for
    several channels.
    """
    _check(image)
    with torch.autocast(image.device.type, enabled=False):
        amounts = torch.where(u[:, 0::2] < share, u[:, 1::2], 0).to(image.dtype)
        deep, middle = _inside(image)
        moved = SULCI * _each(amounts[:, 0]) * deep * _slope(image, 1.2)
        moved = moved + VENTRICLES * _each(amounts[:, 1]) * middle * _slope(image, 4.0)
        rows, columns = image.shape[-2:]
        theta = torch.eye(2, 3, dtype=image.dtype, device=image.device).expand(len(image), 2, 3)
        grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
        moved = torch.stack([moved[:, 0] / columns, moved[:, 1] / rows], dim=-1) * (
            2 * _unit(image)
        )
        grid = grid - moved  # a place shows what was on its darker side
        aged = functional.grid_sample(
            image, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return aged.clamp(0, 1)


def scan(image: Tensor, u: Tensor, normals: Tensor, share: float = SHARE) -> tuple[Tensor, Tensor]:
    """Another scanner: gamma, tone curve, bias field, blur, a slanted end of the field of view, and
    Rician noise.

    image: (B, 1, H, W) in [0, 1].
    u: (B, SCAN_NUMBERS) uniforms in [0, 1). All 1 is no change.
    normals: (B, 2, H, W) standard normals for the two channels of the noise.
    share: how probable each of the six changes is (of a cut: half of it).

    Returns the image, (B, 1, H, W), and the field of view, (B, 1, H, W) bool. An image that was
    changed is divided by its 98th percentile and clipped to [0, 1] again. Behind the end of the
    field of view there is nothing or, in half of the cases, noise alone. Raises ValueError for
    volumes, or for several channels.
    """
    _check(image)
    with torch.autocast(image.device.type, enabled=False):
        u = u.to(image.dtype)
        warped, bent, biased, blurred, noisy = (_each(value) for value in (u[:, :5] < share).T)
        cut = _each(u[:, 5] < share / 2)
        x = torch.where(
            warped, image.pow(_each(_between(u[:, 6], *map(math.log, GAMMA)).exp())), image
        )
        bend = CONTRAST * _each(2 * u[:, 7] - 1)
        x = torch.where(bent, x + bend * torch.sin(2 * math.pi * x) / (2 * math.pi), x)
        x = torch.where(biased, x * _field(image, u[:, 8:13]), x)
        x = torch.where(blurred, _blurred(x, _between(u[:, 13], *BLUR), BLUR[1]), x)
        seen = ~cut | _kept(image, u[:, 14:16])
        x = x * seen
        grain = _blurred(normals, GRAIN * u[:, 16], GRAIN, unit_variance=True)
        grain = grain * _each(_between(u[:, 17], *map(math.log, NOISE)).exp())
        magnitude = (
            (x + grain[:, :1]).square() + grain[:, 1:].square()
        ).sqrt()  # Rician: also outside the head
        x = torch.where(noisy & (seen | _each(u[:, 18] < 0.5)), magnitude, x)
        top = x.flatten(1).quantile(0.98, dim=1).clamp(min=1e-3)
        changed = warped | bent | biased | blurred | noisy | cut
        return torch.where(changed, x / _each(top), image).clamp(0, 1), seen


def older(image: NDArray, key: str) -> NDArray[np.float64]:
    """One slice (H, W) in [0, 1] after atrophy that is a function of `key`."""
    u = uniform(slice_keys(0, [key]), AGE_NUMBERS, Stage.VALIDATION, Draw.AGE)
    return age(torch.from_numpy(image.astype(np.float64))[None, None], u)[0, 0].numpy()


def rescanned(
    image: NDArray, lesion: NDArray[np.bool_], key: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One slice as another scanner, a function of `key`, gives it, and the lesion that it shows.

    image: (H, W) in [0, 1].
    lesion: (H, W). The field of view holds most of it.
    Raises ValueError if no such scan was drawn.
    """
    for attempt in range(SCANS):
        scanned, seen = _scanned(image, f"{key}/{attempt}" if attempt else key)
        if np.count_nonzero(lesion & seen) >= SEEN * np.count_nonzero(lesion):
            return scanned, lesion & seen
    raise ValueError(f"{key}: no field of view of {SCANS} holds the lesion")


def _check(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 1:
        raise ValueError(
            f"module.shift: changes slices of one channel, not images of {tuple(image.shape[1:])} "
            "values; set module.shift=0"
        )


def _scanned(image: NDArray, key: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    keys = slice_keys(0, [key])
    u = uniform(keys, SCAN_NUMBERS, Stage.VALIDATION, Draw.SHIFT)
    normals = (
        normal(keys, 2 * image.size, Stage.VALIDATION, Draw.GRAIN).double().view(1, 2, *image.shape)
    )
    x, seen = scan(torch.from_numpy(image.astype(np.float64))[None, None], u, normals)
    return x[0, 0].numpy(), seen[0, 0].numpy()


def _inside(image: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, H, W) each: 1 in the brain and 0 from the skull outwards; 1 in the head's middle,
    fading outwards."""
    cells = functional.interpolate(image, (COARSE, COARSE), mode="area")
    head = functional.pad((cells > HEAD).to(image.dtype), [8] * 4)
    head = -functional.max_pool2d(
        -functional.max_pool2d(head, 9, 1), 9, 1
    )  # closed over the ventricles
    unit = _unit(image)
    weight = head / head.sum((2, 3), keepdim=True).clamp(min=1)
    squares = []
    for axis in (2, 3):
        n = image.shape[axis]
        shape = [1, 1, -1, 1] if axis == 2 else [1, 1, 1, -1]
        places = (
            (torch.arange(COARSE, dtype=image.dtype, device=image.device) + 0.5).view(shape)
            * n
            / COARSE
        )
        centre = (weight * places).sum((2, 3), keepdim=True)
        at = (torch.arange(n, dtype=image.dtype, device=image.device) + 0.5).view(shape)
        squares.append(((at - centre) / (unit * (22 if axis == 2 else 15))).square())
    depth = _blurred(head, torch.full_like(image[:, 0, 0, 0], SIDE / COARSE * 2), SIDE / COARSE * 2)
    depth = functional.interpolate(depth, image.shape[-2:], mode="bilinear")
    return ((depth - 0.68) / 0.1).clamp(0, 1), (-(squares[0] + squares[1]) / 2).exp()


def _slope(image: Tensor, width: float) -> Tensor:
    """(B, 2, H, W): rise of the blurred image to the right, and downwards, per pixel of 128."""
    smooth = _blurred(image, torch.full_like(image[:, 0, 0, 0], width), width)
    wide = functional.pad(smooth, (1, 1, 1, 1), mode="replicate")
    right, down = (
        wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2],
        wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1],
    )
    return torch.cat([right, down], 1) * (_unit(image) / 2)


def _blurred(image: Tensor, sigma: Tensor, largest: float, unit_variance: bool = False) -> Tensor:
    """Each image after its own Gaussian.

    sigma: (B,), in pixels of 128.
    largest: bound of `sigma`.
    unit_variance: keep the variance of white noise.
    """
    batch, channels = image.shape[:2]
    sigma = sigma.to(image.dtype) * _unit(image)
    radius = math.ceil(3 * largest * _unit(image))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = (-offsets.square() / (2 * sigma.clamp(min=1e-3).square()[:, None])).exp()
    kernel = kernel / (
        kernel.square().sum(1, keepdim=True).sqrt()
        if unit_variance
        else kernel.sum(1, keepdim=True)
    )
    kernel = kernel.repeat_interleave(channels, 0)[:, None, None]
    x = image.reshape(1, batch * channels, *image.shape[-2:])
    x = functional.conv2d(
        functional.pad(x, (radius, radius, 0, 0), mode="replicate"), kernel, groups=len(kernel)
    )
    x = functional.pad(x, (0, 0, radius, radius), mode="replicate")
    return functional.conv2d(x, kernel.mT, groups=len(kernel)).view_as(image)


def _field(image: Tensor, u: Tensor) -> Tensor:
    """A smooth factor, quadratic in x and y; u: (B, 5)."""
    y, x = _places(image)
    v = (2 * u - 1)[:, :, None, None, None]
    terms = (
        v[:, 0] * x
        + v[:, 1] * y
        + v[:, 2] * (x**2 - 0.5)
        + v[:, 3] * (y**2 - 0.5)
        + v[:, 4] * x * y
    )
    return (math.log(FIELD) * terms / 1.5).exp()


def _kept(image: Tensor, u: Tensor) -> Tensor:
    """(B, 1, H, W) bool: the near side of a straight line.

    u: (B, 2), its direction and distance.
    """
    y, x = _places(image)
    angle, distance = 2 * math.pi * _each(u[:, 0]), _each(_between(u[:, 1], *CUT))
    return x * angle.cos() + y * angle.sin() < distance


def _places(image: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (H, 1) and columns (1, W), from the middle, in halves of the longer side."""
    rows, columns = image.shape[-2:]
    y, x = (
        torch.arange(n, dtype=image.dtype, device=image.device) - (n - 1) / 2
        for n in (rows, columns)
    )
    return y[:, None] * 2 / max(rows, columns), x[None] * 2 / max(rows, columns)


def _unit(image: Tensor) -> float:
    """Pixels of this image that one of 128 is."""
    return max(image.shape[-2:]) / SIDE


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _each(values: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)
