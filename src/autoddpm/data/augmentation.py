"""Augmentation of training images, pure functions of the images and of given random numbers."""

import math

import torch
from torch import Tensor
from torch.nn import functional

DEGREES, SHIFT, SCALE = 10.0, 0.1, 0.1  # the published authors' ranges
GAMMA, FIELD = 1.25, 1.2


def augment(image: Tensor, u: Tensor) -> Tensor:
    """Rotate by up to 10 degrees, shift by up to 0.1 of the width, scale by 0.9 to 1.1, and mirror half the images.

    image: (B, 1, H, W) in [0, 1], square.  u: (B, 5) uniforms in [0, 1) for angle, x-shift, y-shift, scale and mirror;
    0.5 is no change, below 0.5 in the last mirrors left and right.  Returns (B, 1, H, W) in [0, 1] on the same device;
    what comes from outside is the image's minimum. No image depends on another.
    """
    angle, shift_x, shift_y, scale = ((2 * u[:, :4] - 1) * u.new_tensor([math.radians(DEGREES), SHIFT, SHIFT, SCALE])).T
    scale, mirror = 1 + scale, torch.where(u[:, 4] < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # affine_grid asks where each output pixel comes from, in units of half the width: the inverse of the change.
    theta = torch.stack([mirror * cos, sin, -2 * shift_x, -mirror * sin, cos, -2 * shift_y], dim=1).view(-1, 2, 3)
    minimum = image.amin(dim=(1, 2, 3), keepdim=True)
    with torch.autocast(image.device.type, enabled=False):  # a grid in bfloat16 would be off by half a pixel
        grid = functional.affine_grid(theta.to(image.dtype), list(image.shape), align_corners=False)
        moved = functional.grid_sample(image - minimum, grid, mode="bilinear", align_corners=False)
    return (moved + minimum).clamp(0, 1)


def augment_intensity(image: Tensor, u: Tensor, strength: float) -> Tensor:
    """Other scanners: a gamma of up to 1.25 (or its inverse), and a smooth field of up to 20 % on top.

    image: (B, 1, H, W) in [0, 1].  u: (B, 6) uniforms in [0, 1): gamma, and the field's terms x, y, x^2, y^2, x y; 0.5
    is no change.  strength: 1 as said, 0 nothing.  Returns (B, 1, H, W) in [0, 1]; 0 stays 0, and each image's own
    maximum stays.
    """
    v = strength * (2 * u - 1).view(len(u), -1, 1, 1, 1)
    y = torch.linspace(-1, 1, image.shape[-2], device=image.device).view(1, -1, 1)
    x = torch.linspace(-1, 1, image.shape[-1], device=image.device).view(1, 1, -1)
    field = v[:, 1] * x + v[:, 2] * y + v[:, 3] * (x**2 - 0.5) + v[:, 4] * (y**2 - 0.5) + v[:, 5] * x * y
    top = image.amax(dim=(1, 2, 3), keepdim=True)
    changed = image.pow(torch.exp(math.log(GAMMA) * v[:, 0])) * torch.exp(math.log(FIELD) * field / 2)
    return (changed * top / changed.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)).clamp(0, 1)
