"""Synthetic anomalies: healthy images with regions of something else in them.

A corruption is a pure function of an image and of its key: alone, in a batch or on another device
it is the same. It needs no network and no outline of a real lesion.

How it differs from the lesions of the test sets: regions are noisy ellipsoids of any place, size,
sharpness and content, dark or bright. The strokes of `ixi_stroke` have outlines of patients and
looks of a cavity. The phantom lesions of `ixi_tuning` grow within tissue and push the midline.

Lengths are in pixels of an image of 128 pixels, and scale with the image's last side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from autoddpm.float64 import double
from autoddpm.random import Draw, Stage, normal, uniform

SIDE = 128  # pixels that lengths refer to
CELLS = 32  # per side of the grid on which the head is found
HEAD = 0.1  # of the range: above it is the head
SKULL = 4.0  # half of the widest gap between scalp and brain
FIELD = 8  # cells per side of the field that makes an outline irregular
REACH = 2.5  # the field ends at this many radii
ROUGH = (0.05, 0.4)  # standard deviation of an outline, in radii
LONG = 0.3  # standard deviation of the logarithms that stretch an ellipsoid
DARK_SHARE = 0.7  # of the regions of one grey value or of scaled intensities
TEXTURE = 0.05  # largest standard deviation of a region's own texture
MOVE = 30.0  # largest distance of a foreign patch in each direction, once it is turned
SCALES = (0.3, 0.9), (1.1, 1.8)  # of intensities, darker and brighter
CLASS_WIDTH = 0.08  # of a class of intensities
CLASS_BIAS = 0.5  # largest change of a class
#: Kinds of content, and how often each is drawn.
CONTENTS = {"grey": 0.45, "foreign": 0.25, "scaled": 0.2, "class": 0.1}
NUMBERS = 32  # uniforms per region


class Corrupted(NamedTuple):
    """A batch of images with synthetic anomalies.

    image: (B, C, *space) in [0, 1].
    share: (B, 1, *space) in [0, 1], how much of a pixel is anomalous. 0 is untouched.
    """

    image: Tensor
    share: Tensor


@dataclass(frozen=True)
class Corruption:
    """A family of synthetic anomalies.

    untouched: share of the images that stay as they are.
    regions: the largest number per image; an image has any number from 1 to it.
    area: smallest and largest area in pixels of a slice of 128, drawn log-uniformly. A volume's
        region is as wide as a slice's.
    edge: range of the standard deviation of an edge's blur, in pixels of 128.
    strength: range of the share of a region's content in its middle; the rest is the image.
    """

    untouched: float = 0.1
    regions: int = 3
    area: Sequence[float] = (5.0, 2000.0)
    edge: Sequence[float] = (0.3, 2.0)
    strength: Sequence[float] = (0.25, 1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.untouched < 1:
            raise ValueError(f"objective.untouched={self.untouched}: must be in [0, 1)")
        if not isinstance(self.regions, int) or self.regions < 1:
            raise ValueError(
                f"objective.regions={self.regions}: must be a whole number of 1 or more"
            )
        for name in ("area", "edge", "strength"):
            if len(getattr(self, name)) != 2:
                raise ValueError(
                    f"objective.{name}={list(getattr(self, name))}: must be two numbers, "
                    "the smallest and the largest"
                )
        for name, (low, high) in {"area": self.area, "edge": self.edge}.items():
            if not 0 < low <= high:
                raise ValueError(
                    f"objective.{name}=[{low},{high}]: must be above 0, the smaller value first"
                )
        low, high = self.strength
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"objective.strength=[{low},{high}]: must be above 0 and at most 1, the smaller "
                "value first"
            )

    def __call__(
        self, image: Tensor, keys: Tensor, stage: Stage, epoch: Tensor | int = 0
    ) -> Corrupted:
        """Corrupt a batch.

        image: (B, C, *space) in [0, 1].
        keys: (B, 2), see `autoddpm.random`; the result is a function of them, `stage` and `epoch`.
        """
        with torch.autocast(image.device.type, enabled=False):
            x = image.float()
            u = uniform(keys, 2 + self.regions * NUMBERS, stage, Draw.CORRUPTION, epoch).float()
            head, deep = inside(x)
            grain = normal(keys, x[0].numel(), stage, Draw.TEXTURE, epoch).view_as(x)
            coarser = 3 ** ((x.ndim - 2) / 2) * smooth(grain)  # of the same variance
            grain = torch.stack([grain, coarser], 1)
            anomalous = torch.zeros_like(x[:, :1])
            number = torch.where(u[:, 0] < self.untouched, 0, 1 + (u[:, 1] * self.regions).long())
            for n in range(self.regions):
                v = Numbers(u[:, 2 + n * NUMBERS : 2 + (n + 1) * NUMBERS])
                region = self.region(v, deep, self._field(keys, stage, epoch, n, x.ndim - 2))
                share = _each(_between(v.take(), *self.strength), x) * region * head
                share = share * _each(n < number, x)
                x = (1 - share) * x + share * content(v, x, share, grain)
                anomalous = torch.maximum(anomalous, share)
            return Corrupted(x.clamp(0, 1).to(image.dtype), anomalous.to(image.dtype))

    def region(self, v: "Numbers", deep: Tensor, field: Tensor) -> Tensor:
        """A noisy ellipsoid with a soft edge, (B, 1, *space) in [0, 1].

        deep: (B, 1, *space) bool, the pixels in which its middle may be.
        field: (B, 1, FIELD, ...) standard normals.
        """
        dimensions, unit = deep.ndim - 2, deep.shape[-1] / SIDE
        offsets = _places(deep) - _pick(deep, v.take())  # (B, *space, D), in pixels
        area = _between(v.take(), *map(math.log, self.area)).exp()
        radius = (area / math.pi).sqrt() * unit
        stretched = _stretched(offsets, v.take(dimensions * (dimensions + 1) // 2))
        stretched = stretched / _each(radius, stretched)
        rough = functional.grid_sample(
            field, stretched.flip(-1) / REACH, padding_mode="border", align_corners=False
        )
        rough = rough * _each(_between(v.take(), *ROUGH), deep)
        inwards = _each(radius, deep) * (1 + rough - stretched.norm(dim=-1).unsqueeze(1))
        edge = _each(_between(v.take(), *self.edge), deep) * unit
        return 0.5 * (1 + torch.erf(inwards / (math.sqrt(2) * edge)))

    def _field(
        self, keys: Tensor, stage: Stage, epoch: Tensor | int, n: int, dimensions: int
    ) -> Tensor:
        values = normal(keys, FIELD**dimensions, stage, Draw.OUTLINE, epoch, repeat=n)
        return values.view(-1, 1, *[FIELD] * dimensions)


class Numbers:
    """Uniforms of a region, taken one after the other.

    values: (B, N) in (0, 1).
    """

    def __init__(self, values: Tensor) -> None:
        self.values, self.taken = values, 0

    def take(self, count: int | None = None) -> Tensor:
        """The next number per image, (B,), or the next `count`, (B, count)."""
        first, self.taken = self.taken, self.taken + (count or 1)
        assert self.taken <= self.values.shape[1]
        return self.values[:, first : self.taken] if count else self.values[:, first]


def content(v: Numbers, x: Tensor, share: Tensor, grain: Tensor) -> Tensor:
    """What a region holds instead of the image, (B, C, *space).

    A foreign patch is of the image itself, mirrored, turned and moved: a corruption would depend on
    the batch if it were another head's. Its mean is drawn towards the region's, by a random share.

    share: (B, 1, *space), the region.
    grain: (B, 2, C, *space) standard normals, fine and coarser.
    """
    kind, is_dark = v.take(), _each(v.take() < DARK_SHARE, x)
    strength, texture, detail = (_each(v.take(), x) for _ in range(3))
    weight = share / share.flatten(1).sum(1).clamp(min=1e-6).view(-1, *[1] * (x.ndim - 1))
    mean = (weight * x).flatten(2).sum(2).view(*x.shape[:2], *[1] * (x.ndim - 2))

    def middle(image: Tensor) -> Tensor:
        return (weight * image).flatten(2).sum(2).view_as(mean)

    own = detail * (x - smooth(smooth(x)))  # so that noise and fine structure may go on inside
    pattern = torch.where(_each(v.take() < 0.5, x), grain[:, 0], grain[:, 1])
    value = torch.where(is_dark, 0.9 * mean * strength, mean + (1 - mean) * (0.2 + 0.8 * strength))
    grey = value + TEXTURE * texture * pattern + own
    patch = moved(x, v.take(4))
    foreign = patch + texture * (mean - middle(patch))
    low, high = (_between(strength, *ends) for ends in SCALES)
    scaled = x * torch.where(is_dark, low, high)
    centre = x.flatten(2).gather(2, _nearest(weight, x)).view_as(mean)
    bump = (-((x - centre) / CLASS_WIDTH).square() / 2).exp()
    biased = x + torch.where(is_dark, -1, 1) * CLASS_BIAS * strength * bump
    result, low_end = grey, 0.0
    for name, candidate in {"foreign": foreign, "scaled": scaled, "class": biased}.items():
        chosen = (kind >= low_end) & (kind < low_end + CONTENTS[name])
        result = torch.where(_each(chosen, x), candidate, result)
        low_end += CONTENTS[name]
    return result


def moved(x: Tensor, u: Tensor) -> Tensor:
    """The image mirrored, turned by up to a half, scaled and moved: tissue of another place.

    u: (B, 4) uniforms: angle, scale, and movement in the last two directions.
    """
    batch, dimensions = len(x), x.ndim - 2
    angle, scale = math.pi * (2 * u[:, 0] - 1), (0.7 * (2 * u[:, 1] - 1)).exp()
    theta = torch.zeros(batch, dimensions, dimensions + 1, dtype=x.dtype, device=x.device)
    for axis in range(2, dimensions):
        theta[:, axis, axis] = 1
    theta[:, 0, 0], theta[:, 0, 1] = -angle.cos() * scale, angle.sin() * scale
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin() * scale, angle.cos() * scale
    theta[:, :2, -1] = 2 * MOVE / SIDE * (2 * u[:, 2:] - 1)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def inside(image: Tensor) -> tuple[Tensor, Tensor]:
    """The head, and the part of it below the skull, (B, 1, *space) bool.

    Below the skull is what is bright on a coarse grid, with its holes, without its rim. The rim
    is looked at pixel by pixel, so that the head ends where the scalp ends.
    """
    dimensions = image.ndim - 2
    pool = {2: functional.max_pool2d, 3: functional.max_pool3d}[dimensions]
    grey = image.mean(1, keepdim=True)
    cells = functional.interpolate(grey, [CELLS] * dimensions, mode="area")
    wide = functional.pad((cells > HEAD).to(image.dtype), [8] * 2 * dimensions)
    coarse = -pool(-pool(wide, 9, 1), 9, 1)  # closed
    eroded = -pool(-functional.pad(coarse, [2] * 2 * dimensions), 5, 1)
    mode = {2: "bilinear", 3: "trilinear"}[dimensions]
    deep = functional.interpolate(eroded, image.shape[2:], mode=mode) > 0.5
    near = functional.interpolate(coarse, image.shape[2:], mode=mode) > 0
    bright = (smooth(grey) > HEAD).to(image.dtype)
    radius = max(1, round(SKULL * image.shape[-1] / SIDE))
    side = 2 * radius + 1
    closed = -pool(-pool(bright, side, 1, radius), side, 1, radius)
    return (closed > 0.5) & near | deep, deep


def smooth(x: Tensor) -> Tensor:
    """The mean over 3 pixels in each direction."""
    pool = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[x.ndim - 2]
    return pool(x, 3, 1, 1, count_include_pad=False)


def _places(like: Tensor) -> Tensor:
    """Indices of the pixels, (*space, D)."""
    axes = [torch.arange(n, dtype=torch.float32, device=like.device) for n in like.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def _pick(mask: Tensor, u: Tensor) -> Tensor:
    """Indices of one of a mask's pixels per image, (B, 1, ..., D); the first if it has none."""
    cdf = double(mask.flatten(1)).cumsum(1)
    flat = torch.searchsorted(cdf, double(u)[:, None] * cdf[:, -1:]).clamp(max=cdf.shape[1] - 1)
    indices = (
        torch.stack(torch.unravel_index(flat[:, 0], mask.shape[2:]), -1).float().to(mask.device)
    )
    return indices.view(len(mask), *[1] * (mask.ndim - 2), -1)


def _nearest(weight: Tensor, x: Tensor) -> Tensor:
    """Flat index of the region's heaviest pixel per image and channel, (B, C, 1)."""
    return weight.flatten(1).argmax(1).view(-1, 1, 1).expand(-1, x.shape[1], 1)


def _stretched(offsets: Tensor, u: Tensor) -> Tensor:
    """Offsets in the units of a random ellipsoid of the same volume.

    u: (B, D (D + 1) / 2) uniforms.
    """
    dimensions = offsets.shape[-1]
    normals = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-0.999, 0.999))
    rows, columns = torch.triu_indices(dimensions, dimensions, device=u.device)
    symmetric = torch.zeros(len(u), dimensions, dimensions, device=u.device)
    symmetric[:, rows, columns] = LONG * normals
    symmetric = (symmetric + symmetric.mT) / 2
    trace = symmetric.diagonal(dim1=1, dim2=2).mean(1)
    symmetric = symmetric - trace[:, None, None] * torch.eye(dimensions, device=u.device)
    return torch.einsum("bij,b...j->b...i", torch.linalg.matrix_exp(symmetric), offsets)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _each(values: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, ..., 1), to be multiplied with `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))
