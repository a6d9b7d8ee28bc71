"""The way of a scan's voxels to what a network sees, step by step, and back in one interpolation.

Each step is an affine map of coordinates, in which whole numbers are centres of voxels. Their
product leads from a voxel of the scan to a place in the stack of slices that the network saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage

from autoddpm.preparation.cutting import Aligned
from autoddpm.preparation.geometry import Array


@dataclass(frozen=True)
class Transform:
    """One step.

    name: what it does.
    matrix: (4, 4), from coordinates before it to those after it.
    """

    name: str
    matrix: Array


def transforms(aligned: Aligned, slices: Sequence[int], size: int) -> list[Transform]:
    """The steps from the voxels of a scan's file to a stack of slices, in their order.

    slices: axial indices at equal distances, rising.
    size: pixels a side, as the network sees them.

    The stack's coordinates are (column, row, number of the slice).
    """
    columns, rows = aligned.shape[:2]
    every = slices[1] - slices[0] if len(slices) > 1 else 1
    side = max(rows, columns)
    left, top, scale = (side - columns) // 2, (side - rows) // 2, size / side
    half = (scale - 1) / 2  # pixels are areas: the corners stay, not the centres
    return [
        Transform("to the scanner's millimetres", aligned.volume.file_affine),
        Transform("to the template's millimetres", np.linalg.inv(aligned.to_source)),
        Transform("to the grid that is cut", np.linalg.inv(aligned.grid)),
        Transform(
            "to the number of the slice", _scaled([1, 1, 1 / every], [0, 0, -slices[0] / every])
        ),
        Transform("front above", _scaled([1, -1, 1], [0, rows - 1, 0])),
        Transform("padded to a square", _scaled([1, 1, 1], [left, top, 0])),
        Transform("resized", _scaled([scale, scale, 1], [half, half, 0])),
    ]


def composed(steps: Sequence[Transform]) -> Array:
    """All steps as one, (4, 4)."""
    return reduce(lambda before, step: step.matrix @ before, steps, np.eye(4))


@dataclass(frozen=True)
class WayBack:
    """The voxels of a scan that a stack of slices covers, and their places in it.

    shape: (X, Y, Z) of the scan's file.
    voxels: (N,) indices into the flattened file.
    places: (3, N) float32: number of the slice, row, column.
    """

    shape: tuple[int, int, int]
    voxels: NDArray[np.int64]
    places: NDArray[np.float32]

    def linear(self, stack: Array) -> NDArray[np.float32]:
        """Values of a stack, (slices, rows, columns), at the covered voxels, (N,)."""
        return self._sampled(np.asarray(stack, np.float32), 1)

    def nearest(self, stack: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask, (slices, rows, columns), at the covered voxels, (N,)."""
        return self._sampled(stack.astype(np.uint8), 0) > 0

    def filled(self, values: NDArray) -> NDArray:
        """Values of the covered voxels, (N,), in a scan that is 0 elsewhere."""
        whole = np.zeros(int(np.prod(self.shape)), values.dtype)
        whole[self.voxels] = values
        return whole.reshape(self.shape)

    def _sampled(self, stack: NDArray, order: int) -> NDArray:
        k = np.clip(self.places[0], 0, len(stack) - 1)
        places = np.stack([k, self.places[1], self.places[2]])
        return ndimage.map_coordinates(stack, places, order=order, mode="grid-constant", cval=0)


def way_back(
    steps: Sequence[Transform], shape: tuple[int, int, int], slices: Sequence[int]
) -> WayBack:
    """The way from a stack to a scan.

    steps: of `transforms`.
    shape: (X, Y, Z) of the scan's file.
    slices: as for `transforms`.

    A voxel is covered if it lies between two slices, or within half a slice or, if its own are
    thicker, half a voxel of the first or the last.
    """
    every = slices[1] - slices[0] if len(slices) > 1 else 1
    matrix = composed(steps)
    i, j, k = np.ogrid[tuple(slice(0, n) for n in shape)]
    number = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + matrix[2, 3]
    margin = max(0.5 / every, 0.5 * float(np.abs(matrix[2, :3]).max())) + 1e-4
    voxels = np.flatnonzero((number >= -margin) & (number <= len(slices) - 1 + margin))
    at = np.stack([*np.unravel_index(voxels, shape), np.ones(len(voxels))])
    column, row, z = (matrix @ at)[:3].astype(np.float32)
    return WayBack(shape, voxels, np.stack([z, row, column]))


def as_stored(data: NDArray, file_affine: Array) -> NDArray:
    """Data of a `Volume`, (X, Y, Z) in closest canonical orientation, in the file's own order."""
    canonical = axcodes2ornt("RAS")
    back = ornt_transform(canonical, io_orientation(file_affine))
    return np.ascontiguousarray(apply_orientation(data, back))


def like(
    image: nibabel.spatialimages.SpatialImage, data: NDArray, said: str = ""
) -> nibabel.Nifti1Image:
    """Data, (X, Y, Z), on a scan's own grid, with its header if that is a NIfTI's.

    said: the header's description, of at most 79 letters.
    """
    if isinstance(image, nibabel.Nifti1Pair):
        header = nibabel.Nifti1Header.from_header(image.header)
    else:
        header = nibabel.Nifti1Header()
        header.set_data_shape(data.shape)
        header.set_zooms(np.linalg.norm(image.affine[:3, :3], axis=0))
        header.set_sform(image.affine, "scanner")
        header.set_qform(image.affine, "scanner")
        header.set_xyzt_units("mm")
    header.set_data_shape(data.shape)
    header.set_slope_inter(1, 0)
    header.set_data_dtype(data.dtype)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0  # the scan's own would show a map black
    header["descrip"] = said.encode("ascii", "replace")[:79]
    return nibabel.Nifti1Image(data, header.get_best_affine(), header)


def _scaled(factors: Sequence[float], offsets: Sequence[float]) -> Array:
    matrix = np.diag([*factors, 1.0])
    matrix[:3, 3] = offsets
    return matrix
