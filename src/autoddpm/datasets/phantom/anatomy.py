"""A model of healthy heads in T1-weighted MRI: the ICBM 2009a template with a new shape and
contrast for each subject.

Everything lives on the template's voxel grid (197, 233, 189) at 1 mm: left to right, posterior to
anterior, upwards. A slice is the cut of a subject's volume at one z.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from autoddpm.preparation.template import SHAPE, SLICE_Z, template

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Axes = tuple[Array, Array, Array]

CENTRE = np.array([98.0, 116.0, 80.0])
#: Places of the voxels of the slice that is shown.
MIDDLE: Axes = (
    np.arange(SHAPE[0], dtype=float),
    np.arange(SHAPE[1], dtype=float),
    np.array([float(SLICE_Z)]),
)


@dataclass(frozen=True)
class Atlas:
    """Template channels on the grid `SHAPE`. The distances are on every second voxel of it.

    grey, white: tissue probabilities.  texture: T1 minus what grey, white and CSF explain.
    hull: signed distance in mm to the brain's smooth outline, positive outside.
    ventricle: the same for the lateral ventricles.
    away: (2, ...) direction away from the ventricles in x and y, fading with distance and towards
        the outline.
    """

    grey: Array
    white: Array
    texture: Array
    hull: Array
    ventricle: Array
    away: Array


def _signed_distance(inside: Mask, sigma: float) -> Array:
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    return ndimage.gaussian_filter(2.0 * distance, sigma).astype(np.float32)


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """Load the template with its tissues, and derive its distance maps (1 s)."""
    # Imported here, since it takes seconds and phantoms that were drawn before do not need it.
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    t1, brain, _ = template()
    grey, white = (
        np.asarray(image.dataobj, dtype=np.float32)
        for image in (load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1))
    )
    csf = np.where(brain, np.clip(1 - grey - white, 0, 1), 0)
    texture = np.where(brain, t1 - 0.655 * grey - 0.875 * white - 0.255 * csf, 0).astype(np.float32)

    cavities, _ = ndimage.label(ndimage.binary_opening(csf > 0.5))
    ventricle = cavities == cavities[86, 118, SLICE_Z]
    hull_distance = _signed_distance(
        ndimage.binary_closing(np.pad(brain[::2, ::2, ::2], 8), iterations=8)[8:-8, 8:-8, 8:-8], 2.5
    )
    ventricle_distance = _signed_distance(ventricle[::2, ::2, ::2], 1.0)
    fade = np.exp(-np.maximum(ventricle_distance, 0) / 14) * np.clip(-hull_distance / 15, 0, 1)
    away = np.stack([np.gradient(ventricle_distance, 2.0, axis=axis) for axis in (0, 1)]) * fade
    return Atlas(grey, white, texture, hull_distance, ventricle_distance, away.astype(np.float32))


def _sample(channel: Array, points: Array, spacing: int = 1) -> Array:
    """Linear interpolation of a channel at points (3, N) of the full grid; `spacing`: of the
    channel, in mm."""
    return ndimage.map_coordinates(
        channel, points / spacing, order=1, mode="nearest", prefilter=False
    )


def _basis(positions: Array, knots: int, spacing: float) -> Array:
    """Cubic B-spline weights (positions, knots)."""
    t = np.abs(positions[:, None] / spacing - (np.arange(knots)[None] - 1.0))
    near, far = np.maximum(1 - t, 0), np.maximum(2 - t, 0)
    return (far * far * far - 4 * near * near * near) / 6


class SmoothField:
    """A random smooth function on the grid, about unit variance: cubic B-splines with knots every
    `spacing` mm."""

    def __init__(self, rng: np.random.Generator, spacing: float) -> None:
        self.spacing = spacing
        self.coefficients = (
            rng.standard_normal([int(np.ceil(n / spacing)) + 3 for n in SHAPE]) / 0.35
        )

    def __call__(self, axes: Axes) -> Array:
        """Values on the grid that three vectors of positions span."""
        field = self.coefficients
        for positions in reversed(
            axes
        ):  # einsum without BLAS: the same bits whatever the number of threads
            field = np.einsum(
                "...k,nk->n...", field, _basis(positions, field.shape[-1], self.spacing)
            )
        return field


def step(x: Array, width: float | Array) -> Array:
    """0 below zero, 1 above, smooth over about `width`."""
    return 0.5 * (1 + np.tanh(x / width))


class Cut(NamedTuple):
    """A part of a head on a grid (X, Y, Z) of its voxels.

    image: noise-free T1, white matter near 0.9, before the bias field and gamma of `Head.acquire`.
    hull: signed distance in mm to the brain's outline, positive outside.
    ventricle: the same for the lateral ventricles.
    side: mm to the right of the plane between the hemispheres.
    """

    image: Array
    hull: Array
    ventricle: Array
    side: Array


class Head:
    """One healthy subject: its random shape, tissue contrast, bias field and noise level.

    key: the integers that identify it. The same key is the same head on every machine.
    """

    def __init__(self, *key: int) -> None:
        rng = np.random.default_rng([*key, 0])
        self.key = key
        flip = np.diag([rng.choice([-1.0, 1.0]), 1.0, 1.0])
        turn = Rotation.from_euler("xyz", rng.normal(0, [2.0, 1.0, 1.5]), degrees=True).as_matrix()
        self.matrix = flip @ turn @ np.diag(1 / rng.normal(1, [0.025, 0.025, 0.03]))
        self.offset = np.clip(rng.normal([0.0, 0.0, -1.0], [1.0, 1.5, 2.5]), -6, 3)
        self.large_shift = [SmoothField(rng, 45) for _ in range(3)]
        self.small_shift = [SmoothField(rng, 15) for _ in range(3)]
        self.ventricle_growth = np.clip(rng.normal(1.0, 1.8), -2.0, 5.0)

        self.fold = SmoothField(rng, 7)
        self.fold_strength = rng.uniform(0.6, 1.0)
        self.fold_depth = rng.uniform(16, 24)
        self.atrophy = rng.uniform(0, 1)
        self.grey, self.white, self.csf = rng.uniform([0.66, 0.86, 0.18], [0.76, 0.94, 0.30])
        self.texture = rng.uniform(0.3, 0.8)

        self.gap, self.skull, self.scalp = rng.uniform([1.0, 3.5, 3.5], [2.5, 6.0, 6.0])
        self.gap += 1.5 * self.atrophy
        self.fat, self.marrow = rng.uniform([0.75, 0.0], [1.1, 0.5])
        self.layers = [SmoothField(rng, 35) for _ in range(4)]
        self.skin = SmoothField(rng, 4)

        self.bias = SmoothField(rng, 80)
        self.bias_strength, self.gamma, self.noise = rng.uniform(
            [0.02, 0.9, 0.008], [0.09, 1.15, 0.025]
        )

    def cut(self, axes: Axes) -> Cut:
        """The head at the voxels that three vectors of positions span."""
        a = atlas()
        centred = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1) - CENTRE[:, None]
        points = np.einsum("ij,jn->in", self.matrix, centred) + (CENTRE + self.offset)[:, None]
        points += [2.0 * field(axes).ravel() for field in self.large_shift]
        inner = np.clip(
            -_sample(a.hull, points, spacing=2) / 8, 0, 1
        )  # the finer shifts leave the skull's shape alone
        points += [1.8 * inner * field(axes).ravel() for field in self.small_shift]
        points[:2] -= [self.ventricle_growth * _sample(away, points, spacing=2) for away in a.away]
        hull, ventricle = (_sample(channel, points, spacing=2) for channel in (a.hull, a.ventricle))

        image = self._skull(hull, axes)
        near = hull < 2
        brain = self._brain(
            points[:, near], hull[near], ventricle[near], self.fold(axes).ravel()[near]
        )
        edge = step(hull[near] + 0.2, 0.8)
        image[near] = (1 - edge) * brain + edge * image[near]
        side = self.matrix[0, 0] * (points[0] - CENTRE[0])
        shape = tuple(len(positions) for positions in axes)
        return Cut(*(channel.reshape(shape) for channel in (image, hull, ventricle, side)))

    def _brain(self, points: Array, hull: Array, ventricle: Array, fold: Array) -> Array:
        """Intensities of points (3, N) inside the outline.

        The template is an average of 152 brains without fine sulci. So each brain gets its own:
        dark furrows in a grey ribbon along the zeros of a random field, only near the surface.
        """
        a = atlas()
        grey, white, texture = (
            _sample(channel, points) for channel in (a.grey, a.white, a.texture)
        )
        cortex = self.fold_strength * step(self.fold_depth + hull, 6) * step(ventricle - 8, 3)
        ribbon = cortex * np.exp(-((fold / 0.7) ** 2))
        furrow = cortex * np.exp(-((fold / 0.24) ** 2))
        csf = np.clip((1 - grey - white) * (1.5 + self.atrophy), 0, 1)
        csf = np.maximum(csf, furrow * (0.35 + 0.5 * self.atrophy))
        share = step(white / (grey + white + 1e-3) - 0.5, 0.35) * (1 - 0.9 * ribbon)
        tissue = self.grey + (self.white - self.grey) * share + self.texture * texture
        return (1 - csf) * tissue + csf * self.csf

    def _skull(self, hull: Array, axes: Axes) -> Array:
        """Intensities by the distance to the outline: fluid, dark bone with some marrow, bright
        scalp, air."""
        f0, f1, f2, f3 = (field(axes).ravel() for field in self.layers)
        gap = self.gap + 0.5 * f0
        skull = gap + self.skull * np.exp(0.1 * f1)
        scalp = skull + self.scalp * np.exp(0.18 * f2)
        fluid = 0.8 * self.csf * step(gap - hull, 0.8)
        marrow = self.marrow * step(f3, 0.8) * np.exp(-(((hull - (gap + skull) / 2) / 1.2) ** 2))
        skin = (
            1
            + 0.1 * f0
            + 0.07 * self.skin(axes).ravel()
            - 0.35 * np.exp(-((hull - scalp + 2) ** 2))
        )
        return fluid + marrow + self.fat * skin * step(hull - skull, 0.8) * step(scalp - hull, 0.8)

    def acquire(self, image: Array, axes: Axes) -> Array:
        """A cut's image after the scanner: bias field, gamma, Rician noise less its floor.

        Air is black.
        """
        biased = np.maximum(image * np.exp(self.bias_strength * self.bias(axes)), 0) ** self.gamma
        # Keyed by the first z, so that a slice has the same noise alone and in its volume.
        noise = np.random.default_rng([*self.key, 1, int(axes[2][0])]).standard_normal(
            (2, *image.shape)
        )
        magnitude = np.hypot(biased + self.noise * noise[0], self.noise * noise[1])
        return np.maximum(magnitude - 2 * self.noise, 0)
