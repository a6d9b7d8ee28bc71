"""Place of a slice in the volume that it is cut from: the way there, and the way back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

Array = NDArray[np.floating]


@dataclass(frozen=True)
class SliceGeometry:
    """The place of one slice in one volume.

    slice_shape: (X, Y), to the right and to the front.
    slice_affine: (4, 4) from its voxels (x, y, 0) to the millimetres of the space it was cut in.
    to_source: (4, 4) from there to the source's millimetres. The identity if nothing was
        registered.
    source_shape: (X, Y, Z) of the volume's file.
    source_affine: (4, 4) of the volume's file.
    """

    slice_shape: tuple[int, int]
    slice_affine: Array
    to_source: Array
    source_shape: tuple[int, int, int]
    source_affine: Array

    def to_json(self) -> str:
        """One line, exact."""
        content = {
            name: value.tolist() if isinstance(value, np.ndarray) else list(value)
            for name, value in vars(self).items()
        }
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> "SliceGeometry":
        """The inverse of `to_json`. Raises ValueError if the text is not such a line."""
        try:
            c = json.loads(text)
            return cls(
                tuple(c["slice_shape"]),
                np.array(c["slice_affine"]),
                np.array(c["to_source"]),
                tuple(c["source_shape"]),
                np.array(c["source_affine"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no geometry of a slice: {text[:80]!r} ({error})") from error

    @property
    def voxels_from_source(self) -> Array:
        """(4, 4) from the source file's voxels to the slice's (x, y, z), z in voxels off its
        plane."""
        return np.linalg.inv(self.slice_affine) @ np.linalg.inv(self.to_source) @ self.source_affine


def interpolate_slice(
    data: Array, affine: Array, to_source: Array, grid: Array, shape: tuple[int, int], z: int
) -> Array:
    """Axial slice of a volume on another grid, by linear interpolation; 0 outside the volume.

    data: (X, Y, Z), the volume.
    affine: (4, 4) of the volume.
    to_source: (4, 4) from the grid's millimetres to the volume's.
    grid: (4, 4), the grid's affine.
    shape: (X, Y) of the slice.
    z: index of the slice on the grid.
    """
    is_same_grid = np.array_equal(grid, affine) and np.array_equal(to_source, np.eye(4))
    if is_same_grid and data.shape[:2] == shape:
        return data[:, :, z]
    index = np.linalg.inv(affine) @ to_source @ grid
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    points = index @ np.stack([x.ravel(), y.ravel(), np.full(x.size, z), np.ones(x.size)])
    values = ndimage.map_coordinates(data, points[:3], order=1, mode="grid-constant", cval=0.0)
    return values.reshape(shape)


def undo_preprocess(image: Array, slice_shape: tuple[int, int]) -> NDArray[np.float32]:
    """Undo resize, padding and turn of `preprocess`.

    image: (size, size), as the network sees it.
    slice_shape: (X, Y), the shape of the result.
    """
    rows, columns = slice_shape[1], slice_shape[0]
    side = max(rows, columns)
    x = torch.tensor(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    square = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)[0, 0].numpy()
    top, left = (side - rows) // 2, (side - columns) // 2
    return np.rot90(square[top : top + rows, left : left + columns], -1)


def to_volume(maps: Sequence[Array], geometries: Sequence[SliceGeometry]) -> Nifti1Image:
    """Put maps of slices of one volume back into it: float32 on the source file's grid.

    maps: each (size, size), as the network sees a slice.
    geometries: the place of each. All of one volume.
    A voxel takes the value of the nearest slice, linear within its plane. The slice must be within
    half a slice or, if the source's voxels are thicker, within half a voxel; else the voxel is 0.
    Raises ValueError if the slices are of volumes on different grids.
    """
    first = geometries[0]
    if any(
        g.source_shape != first.source_shape
        or not np.array_equal(g.source_affine, first.source_affine)
        for g in geometries
    ):
        raise ValueError("slices of volumes on different grids cannot form one map")
    volume = np.zeros(first.source_shape, np.float32)
    nearest = np.full(first.source_shape, np.inf, np.float32)
    i, j, k = np.ogrid[tuple(slice(0, n) for n in first.source_shape)]
    for image, geometry in zip(maps, geometries, strict=True):
        m = geometry.voxels_from_source
        z = (m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3]).astype(np.float32)
        half = 0.5 * max(1.0, float(np.abs(m[2, :3]).max())) + 1e-4
        near = np.abs(z) <= np.minimum(half, nearest)
        voxels = np.stack([*np.nonzero(near), np.ones(np.count_nonzero(near))])
        x, y = (m @ voxels)[:2]
        plane = undo_preprocess(image, geometry.slice_shape)
        volume[near] = ndimage.map_coordinates(
            plane, [x, y], order=1, mode="grid-constant", cval=0.0
        )
        nearest[near] = np.abs(z[near])
    return Nifti1Image(volume, first.source_affine)
