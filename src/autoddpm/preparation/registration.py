"""From a volume to the grid of ICBM 2009a: bias field, brain mask, affine registration (SimpleITK,
deepbet)."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autoddpm.preparation.volume import Volume

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

SHAPE = (197, 233, 189)  # of the template
SHRINK = (4, 2)  # of the template's 1 mm, from coarse to fine
SMOOTH = (2.0, 1.0)  # mm
HOW = "pip install -e '.[prepare]'"


class Template(NamedTuple):
    """ICBM 2009a symmetric T1 at 1 mm, skull-stripped: data (197, 233, 189) in [0, 1], its brain,
    its affine."""

    data: NDArray[np.float32]
    brain: Mask
    affine: Array


@lru_cache(maxsize=1)
def template() -> Template:
    """The template that nilearn ships."""
    from nilearn.datasets import (
        load_mni152_template,
    )  # takes seconds, and most users of this package never need it

    image = load_mni152_template(resolution=1)
    data = np.asarray(image.dataobj, dtype=np.float32)
    return Template(data, data > 0, image.affine)


def is_on_template_grid(volume: Volume) -> bool:
    """Whether a volume lies on the template's grid already, voxel by voxel."""
    return volume.data.shape == SHAPE and np.allclose(volume.affine, template().affine, atol=0.01)


def n4(volume: Volume) -> NDArray[np.float32]:
    """The data without its bias field, by N4 (Tustison et al., 2010) on every fourth voxel."""
    sitk = _simple_itk()
    image = _image(volume.data, volume.spacing)
    head = sitk.OtsuThreshold(image, 0, 1, 200)
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([50, 50, 30])
    corrector.Execute(sitk.Shrink(image, [4] * 3), sitk.Shrink(head, [4] * 3))
    field = sitk.Exp(corrector.GetLogBiasFieldAsImage(image))
    return _array(sitk.Cast(image / field, sitk.sitkFloat32))


def brain_mask(volume: Volume, how: str) -> Mask:
    """Where the brain is. how: "deepbet" (Fisch et al., 2023), or "nonzero" for volumes without
    skull."""
    if how == "nonzero":
        return volume.data > 0
    probability = _deepbet().run_model(volume.data.copy())
    mask = _deepbet().postprocess(probability > 0.5)
    return np.asarray(mask, dtype=bool)


def register(volume: Volume, brain: Mask) -> Array:
    """Affine registration of a volume's brain to the template: (4, 4) from the template's to the
    volume's millimetres.

    Mattes mutual information of the two brains, coarse to fine, one thread: the same numbers
    wherever it runs.
    """
    sitk = _simple_itk()
    fixed, moving = template(), np.where(brain, volume.data, 0).astype(np.float32)
    # Both in their own axis-aligned millimetres; where the volume lies in the scanner only starts
    # the search.
    fixed_from_index = np.diag([1.0, 1.0, 1.0, 1.0])
    moving_from_index = np.diag([*volume.spacing, 1.0])
    start = (
        moving_from_index
        @ np.linalg.inv(volume.affine)
        @ fixed.affine
        @ np.linalg.inv(fixed_from_index)
    )
    start[:3, :3] = _rotation(start[:3, :3])
    centre = _centre(fixed.brain)
    start[:3, 3] = volume.spacing * _centre(brain) - start[:3, :3] @ centre

    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(start[:3, :3].ravel().tolist())
    transform.SetTranslation((start[:3, 3] + start[:3, :3] @ centre - centre).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, 1)  # its seed is else the time of day
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(SMOOTH)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(_image(fixed.data, np.ones(3)), _image(moving, volume.spacing))

    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    found = np.eye(4)
    found[:3, :3] = matrix
    found[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix @ centre
    return volume.affine @ np.linalg.inv(moving_from_index) @ found @ np.linalg.inv(fixed.affine)


def cut(
    data: Array, affine: Array, to_source: Array, grid: Array, shape: tuple[int, int], z: int
) -> Array:
    """Axial slice z of a volume on another grid, by linear interpolation: (X, Y) = `shape`, 0
    outside the volume.

    affine: of `data`.  to_source: from the grid's millimetres to the volume's.  grid: (4, 4), the
        grid's affine.
    """
    if (
        np.array_equal(grid, affine)
        and np.array_equal(to_source, np.eye(4))
        and data.shape[:2] == shape
    ):
        return data[:, :, z]  # as it is
    index = np.linalg.inv(affine) @ to_source @ grid
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    points = index @ np.stack([x.ravel(), y.ravel(), np.full(x.size, z), np.ones(x.size)])
    return ndimage.map_coordinates(
        data, points[:3], order=1, mode="grid-constant", cval=0.0
    ).reshape(shape)


def brain_dice(brain: Mask, affine: Array, to_source: Array) -> float:
    """Dice of a volume's brain, carried to the template, and the template's brain: how well the two
    were aligned."""
    grid = template()
    step = 2
    coarse = grid.affine @ np.diag([step, step, step, 1.0])
    target = grid.brain[::step, ::step, ::step]
    shape = (target.shape[0], target.shape[1])
    slices = [
        cut(brain.astype(np.float32), affine, to_source, coarse, shape, z)
        for z in range(target.shape[2])
    ]
    moved = np.stack(slices, axis=-1) >= 0.5
    return float(
        2 * np.count_nonzero(moved & target) / (np.count_nonzero(moved) + np.count_nonzero(target))
    )


def _rotation(matrix: Array) -> Array:
    """The nearest rotation."""
    u, _, v = np.linalg.svd(matrix)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v


def _centre(mask: Mask) -> Array:
    return np.array(ndimage.center_of_mass(mask))


def _image(data: Array, spacing: Array) -> Any:
    image = _simple_itk().GetImageFromArray(
        np.ascontiguousarray(data.transpose(2, 1, 0), dtype=np.float32)
    )
    image.SetSpacing(spacing.tolist())
    return image


def _array(image: Any) -> NDArray[np.float32]:
    return np.ascontiguousarray(_simple_itk().GetArrayFromImage(image).transpose(2, 1, 0))


@lru_cache(maxsize=1)
def _simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise ValueError(f"N4 and registration need SimpleITK: {HOW}") from error
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(
        1
    )  # sums in another order are other numbers
    return SimpleITK


@lru_cache(maxsize=1)
def _deepbet() -> Any:
    try:
        from deepbet import BrainExtraction  # imports a second or two; its weights come with it
    except ImportError as error:
        raise ValueError(
            f"the brain mask needs deepbet: {HOW}; or preparation.steps.brain_mask=nonzero for "
            "volumes without skull"
        ) from error
    return BrainExtraction(no_gpu=True)
