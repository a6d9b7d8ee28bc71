"""Grids of image files: whether two lie alike, in whatever order their voxels are stored."""

from contextlib import suppress
from itertools import product
from math import prod
from typing import cast

import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Pair
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import NDArray

Array = NDArray[np.floating]

#: Corners of one grid may lie this far apart in two files, in voxels.
TOLERANCE = 0.25
FURTHEST = 1e6
#: Sides of a pixel that differ by more than this factor are unequal.
UNEQUAL = 1.02


def refuse_overlong(image: SpatialImage, length: int) -> None:
    """Refuse a header that states more voxels than its file holds, before memory is taken for them.

    length: of the file, uncompressed, in bytes.

    Raises ValueError.
    """
    stored = cast(ArrayProxy, image.dataobj)
    needed = int(stored.offset) + prod(map(int, stored.shape)) * stored.dtype.itemsize
    if min(stored.shape, default=1) < 0 or needed > length:
        raise ValueError(f"it is not whole: its header states {needed} bytes, it has {length}")


def forms(image: SpatialImage) -> tuple[Array, ...]:
    """The affines, (4, 4), that a header states, first the one that is used.

    A NIfTI header may state two: its sform, which is used, and its qform.
    """
    stated = [np.asarray(image.affine, dtype=float)]
    if isinstance(image, Nifti1Pair):
        with suppress(HeaderDataError):  # a qform that is no rotation
            qform = image.get_qform(coded=True)[0]
            if qform is not None and can_be_inverted(qform):
                stated.append(qform)
    return tuple(stated)


def can_be_inverted(affine: Array) -> bool:
    """Whether an affine, (4, 4), is finite and gives each place one voxel.

    An origin that is further away than `FURTHEST` voxels does not: headers keep seven digits.
    """
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        return False
    side = np.linalg.norm(affine[:3, :3], axis=0).min()
    return bool(np.abs(affine[:3, 3]).max() <= FURTHEST * side)


def apart(affine: Array, other: Array, shape: tuple[int, ...]) -> float:
    """The largest distance between the corners of a grid under two affines, in millimetres."""
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape[:3]))])
    return float(np.linalg.norm((corners @ (affine - other).T)[:, :3], axis=1).max())


def tolerance(affine: Array) -> float:
    """How far corners may lie apart, in millimetres."""
    return TOLERANCE * float(np.linalg.norm(affine[:3, :3], axis=0).min())


def in_order_of(
    data: NDArray, affine: Array, shape: tuple[int, ...], stated: tuple[Array, ...]
) -> NDArray:
    """Data in the order in which another file stores the same grid.

    data: (X, Y, Z), its axes in any order and direction.
    affine: (4, 4) of the data.
    shape: (X, Y, Z) of the other file.
    stated: the forms of the other file. The data may lie on either.

    Raises ValueError, which says how far the two lie apart, if the grids are not the same.
    """
    if not all(map(can_be_inverted, (affine, *stated))):
        raise ValueError("an affine cannot be inverted")
    nearest = np.inf
    for form in stated:
        order = io_orientation(np.linalg.inv(form) @ affine)
        ordered = apply_orientation(data, order)
        if ordered.shape != shape:
            continue
        placed = affine @ inv_ornt_aff(order, data.shape)
        distance = apart(placed, form, shape)
        if distance <= tolerance(form):
            return ordered
        nearest = min(nearest, distance)
    if np.isinf(nearest):
        raise ValueError(f"it has {by(data.shape)} voxels and not {by(shape)}")
    raise ValueError(f"their corners lie up to {nearest:.3g} mm apart")


def unequal_sides(sides: Array) -> str:
    """The sides of a pixel in words, such as "1.2 x 2.4 mm". Empty if they are equal."""
    if max(sides) <= UNEQUAL * min(sides):
        return ""
    return f"{by([f'{side:.3g}' for side in sides])} mm"


def by(shape: object) -> str:
    """Sides in words, such as "256 x 256"."""
    return " x ".join(map(str, shape))  # type: ignore[call-overload]
