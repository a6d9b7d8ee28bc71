"""Augmentation of training slices, a pure function of the images and of given random numbers."""

import math

import torch
from torch import Tensor
from torch.nn import functional

DEGREES, SHIFT, SCALE = 10.0, 0.1, 0.1  # the published authors' ranges


def augment(image: Tensor, u: Tensor) -> Tensor:
    """Rotate by up to 10 degrees, shift by up to 0.1 of the width, scale by 0.9 to 1.1, and mirror
    half of the slices.

    image: (B, C, H, W) in [0, 1], square. The channels of a slice move together.
    u: (B, 5) uniforms in [0, 1) for angle, x-shift, y-shift, scale and mirror. 0.5 is no change.
        Below 0.5 the last one mirrors left and right.

    Returns (B, C, H, W) in [0, 1] on the same device. What comes from outside is the channel's
    minimum. No slice depends on another. Raises ValueError for volumes.
    """
    if image.ndim != 4:
        raise ValueError(
            f"module.augmentation=true: moves slices, and these are volumes of {image.ndim - 2} "
            "dimensions; set module.augmentation=false"
        )
    angle, shift_x, shift_y, scale = (2 * u[:, :4] - 1).T
    angle, shift_x, shift_y, scale = (
        math.radians(DEGREES) * angle,
        SHIFT * shift_x,
        SHIFT * shift_y,
        1 + SCALE * scale,
    )
    mirror = torch.where(u[:, 4] < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # affine_grid asks for the place that each output pixel comes from, in units of half the width:
    # the inverse of the change.
    theta = torch.stack(
        [mirror * cos, sin, -2 * shift_x, -mirror * sin, cos, -2 * shift_y], dim=1
    ).view(-1, 2, 3)
    minimum = image.amin(dim=(2, 3), keepdim=True)
    with torch.autocast(
        image.device.type, enabled=False
    ):  # a grid in bfloat16 would be off by half a pixel
        grid = functional.affine_grid(theta.to(image.dtype), list(image.shape), align_corners=False)
        moved = functional.grid_sample(image - minimum, grid, mode="bilinear", align_corners=False)
    return (moved + minimum).clamp(0, 1)
