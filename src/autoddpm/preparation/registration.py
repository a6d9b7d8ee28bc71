"""Affine registration of a brain to the template's, with SimpleITK."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoddpm.preparation.geometry import Array, interpolate_slice
from autoddpm.preparation.itk import simple_itk, to_itk
from autoddpm.preparation.template import template
from autoddpm.preparation.volume import Volume

Mask = NDArray[np.bool_]

SHRINK = (4, 2)  # of the template's 1 mm, from coarse to fine
SMOOTH = (2.0, 1.0)  # mm
COARSE = 2  # every second voxel of the template is compared by `brain_dice`


def register(volume: Volume, brain: Mask) -> Array:
    """Affine map, (4, 4), from the template's millimetres to the volume's, brain to brain.

    Mattes mutual information of the two brains is maximised from coarse to fine, on one thread:
    the numbers are the same wherever it runs.
    """
    fixed, moving = template(), np.where(brain, volume.data, 0).astype(np.float32)
    # Both images lie in their own axis-aligned millimetres; the scanner's only start the search.
    straight = np.diag([*volume.spacing, 1.0])
    start = straight @ np.linalg.inv(volume.affine) @ fixed.affine
    start[:3, :3] = _rotation(start[:3, :3])
    centre = _centre(fixed.brain)
    start[:3, 3] = volume.spacing * _centre(brain) - start[:3, :3] @ centre

    transform = _affine_transform(start, centre)
    method = _method()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(to_itk(fixed.data, np.ones(3)), to_itk(moving, volume.spacing))
    found = _matrix(transform, centre)
    return volume.affine @ np.linalg.inv(straight) @ found @ np.linalg.inv(fixed.affine)


def brain_dice(brain: Mask, affine: Array, to_source: Array) -> float:
    """Dice of the template's brain and a volume's that was carried to it: how well they align.

    brain: (X, Y, Z) of the volume.
    affine: (4, 4) of the volume.
    to_source: (4, 4), the map that `register` found.
    """
    grid = template()
    coarse = grid.affine @ np.diag([COARSE, COARSE, COARSE, 1.0])
    target = grid.brain[::COARSE, ::COARSE, ::COARSE]
    shape = (target.shape[0], target.shape[1])
    slices = [
        interpolate_slice(brain.astype(np.float32), affine, to_source, coarse, shape, z)
        for z in range(target.shape[2])
    ]
    moved = np.stack(slices, axis=-1) >= 0.5
    both = np.count_nonzero(moved & target)
    return float(2 * both / (np.count_nonzero(moved) + np.count_nonzero(target)))


def _method() -> Any:
    """The optimiser of a registration, without its images."""
    method = simple_itk().ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, 1)  # its seed is else the time of day
    method.SetInterpolator(simple_itk().sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(SMOOTH)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _affine_transform(matrix: Array, centre: Array) -> Any:
    """(4, 4) as SimpleITK's transform about a centre."""
    transform = simple_itk().AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation((matrix[:3, 3] + matrix[:3, :3] @ centre - centre).tolist())
    return transform


def _matrix(transform: Any, centre: Array) -> Array:
    """The inverse of `_affine_transform`."""
    found = np.eye(4)
    found[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    found[:3, 3] = np.array(transform.GetTranslation()) + centre - found[:3, :3] @ centre
    return found


def _rotation(matrix: Array) -> Array:
    """The nearest rotation."""
    u, _, v = np.linalg.svd(matrix)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v


def _centre(mask: Mask) -> Array:
    return np.array(ndimage.center_of_mass(mask))
