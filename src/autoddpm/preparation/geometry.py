"""Where a slice lies in the volume that it was cut from, and the way back."""

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
    """One slice of one volume.

    slice_shape: (X, Y), to the right and to the front.  slice_affine: (4, 4) from its voxels (x, y,
        0) to the
    millimetres of the space it was cut in.  to_source: (4, 4) from there to the millimetres of the
    source; the
    identity where nothing was registered.  source_shape, source_affine: of the volume's file.
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
        """The inverse of `to_json`. Raises ValueError where the text is not such a line."""
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


def unprepare(image: Array, slice_shape: tuple[int, int]) -> NDArray[np.float32]:
    """Undo resize, padding and turn of `preprocess`: (size, size) as the network sees it to (X, Y)
    of the slice."""
    rows, columns = slice_shape[1], slice_shape[0]
    side = max(rows, columns)
    x = torch.tensor(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    square = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)[0, 0].numpy()
    top, left = (side - rows) // 2, (side - columns) // 2
    return np.rot90(square[top : top + rows, left : left + columns], -1)


def to_volume(maps: Sequence[Array], geometries: Sequence[SliceGeometry]) -> Nifti1Image:
    """Put maps of slices of one volume back into it: float32 on the source file's grid, 0 where no
    slice was.

    maps: each (size, size), as the network sees a slice.  geometries: where each lies; all of one
    volume. A voxel takes the value, linear within the plane, of the slice that is nearest to it, if
    it is within half a slice or, where the source's voxels are thicker, within half of one of them.
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
        plane = unprepare(image, geometry.slice_shape)
        volume[near] = ndimage.map_coordinates(
            plane, [x, y], order=1, mode="grid-constant", cval=0.0
        )
        nearest[near] = np.abs(z[near])
    return Nifti1Image(volume, first.source_affine)
