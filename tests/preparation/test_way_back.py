"""Maps on a scan's own grid: every orientation, one interpolation, the header kept."""

from functools import reduce

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from autoddpm.data.preprocess import preprocess
from autoddpm.preparation import cutting
from autoddpm.preparation.cutting import Steps, align, slice_of
from autoddpm.preparation.template import SHAPE as TEMPLATE
from autoddpm.preparation.volume import volume_of
from autoddpm.preparation.way_back import as_stored, composed, like, transforms, way_back

SHAPE, SPACING, CENTRE = (40, 52, 30), (1.2, 0.9375, 0.9375), np.array([26, 17, 13])
PLAIN = Steps(n4=False, brain_mask="none", register=False, slices="8:20")
ORIENTATIONS = ["RAS", "LAS", "LPI", "PSR", "RSA", "AIL", "SPL", "IRP"]


def scanned(axes: str) -> tuple[nibabel.Nifti1Image, np.ndarray]:
    """A blob in an oblique scan, and its place in millimetres."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [6, -4, 8], degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(SPACING)
    affine[:3, 3] = [-20, -30, -11]
    offset = (np.indices(SHAPE) - CENTRE[:, None, None, None]) * np.array(SPACING)[
        :, None, None, None
    ]
    blob = 1000 * np.exp(-((np.linalg.norm(offset, axis=0) / 3) ** 2) / 2)
    image = nibabel.Nifti1Image((100 + blob).astype(np.float32), affine)
    target = nibabel.orientations.axcodes2ornt(axes)
    now = nibabel.io_orientation(affine)
    stored = image.as_reoriented(nibabel.orientations.ornt_transform(now, target))
    return stored, (affine @ [*CENTRE, 1])[:3]


def seen(aligned: cutting.Aligned, slices: range, size: int) -> np.ndarray:
    """The slices as a network sees them."""
    return np.stack(
        [
            preprocess(np.rot90(slice_of(aligned, z, 1100.0)[0]), None, size, window=False).image
            for z in slices
        ]
    )


def found_mm(image: nibabel.Nifti1Image) -> np.ndarray:
    data = np.asarray(image.dataobj, np.float64)
    centre = ndimage.center_of_mass(np.where(data > 0.5 * data.max(), data, 0))
    return (image.affine @ [*centre, 1])[:3]


@pytest.mark.parametrize("axes", ORIENTATIONS)
@pytest.mark.parametrize("size", [52, 32])
def test_a_lesion_comes_back_to_its_place(axes: str, size: int) -> None:
    image, place = scanned(axes)
    aligned, slices = align(volume_of(image), PLAIN), range(8, 20)
    back = way_back(transforms(aligned, slices, size), image.shape, slices)
    stack = seen(aligned, slices, size)
    for values in (back.linear(stack), back.nearest(stack > 0.5).astype(np.float32)):
        made = like(image, back.filled(values))
        assert np.linalg.norm(found_mm(made) - place) < 1.5
        np.testing.assert_allclose(made.affine, image.affine, atol=1e-6)


@pytest.mark.parametrize("axes", ["PSR", "LAS"])
def test_a_registered_scan_s_lesion_comes_back_too(
    axes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_source = np.eye(4)
    to_source[:3, :3] = Rotation.from_euler("xyz", [5, 3, -8], degrees=True).as_matrix() @ np.diag(
        [1.05, 0.95, 1.02]
    )
    to_source[:3, 3] = 6, -4, 2
    monkeypatch.setattr(cutting, "register", lambda volume, brain: to_source)
    image, place = scanned(axes)
    steps = Steps(n4=False, brain_mask="nonzero", register=True)
    aligned = align(volume_of(image), steps)
    z = round((np.linalg.inv(to_source @ aligned.grid) @ [*place, 1])[2])
    slices = range(z - 3, z + 4)
    assert aligned.shape == TEMPLATE
    back = way_back(transforms(aligned, slices, 128), image.shape, slices)
    made = like(image, back.filled(back.linear(seen(aligned, slices, 128))))
    assert np.linalg.norm(found_mm(made) - place) < 1.5


def test_the_steps_one_by_one_are_the_composed_map() -> None:
    image, place = scanned("LPI")
    steps = transforms(align(volume_of(image), PLAIN), range(8, 20), 32)
    voxel = np.linalg.inv(image.affine) @ [*place, 1]
    one_by_one = reduce(lambda at, step: step.matrix @ at, steps, voxel)
    np.testing.assert_allclose(composed(steps) @ voxel, one_by_one, atol=1e-9)
    assert one_by_one[2] == pytest.approx(CENTRE[2] - 8)  # the number of the slice


def test_slices_at_a_distance_are_interpolated_between() -> None:
    image, _ = scanned("RAS")
    aligned, slices = align(volume_of(image), PLAIN), range(8, 21, 4)
    back = way_back(transforms(aligned, slices, 52), image.shape, slices)
    stack = np.stack([np.full((52, 52), z, np.float32) for z in slices])
    planes = back.filled(back.linear(stack))[20, 26]
    np.testing.assert_allclose(planes[8:21], np.arange(8, 21), atol=1e-3)
    assert not planes[:8].any()
    assert not planes[21:].any()


@pytest.mark.parametrize("axes", ["RAS", "LPI"])
def test_a_ramp_comes_back_to_the_fraction_of_a_voxel(axes: str) -> None:
    # A filter keeps a ramp nearly: a shift of half a pixel would be 1.6 in x and 2.5 in y.
    x, y, _ = np.indices(SHAPE)
    ramp = (220 + 5 * x + 8 * y).astype(np.float32)
    target = nibabel.orientations.axcodes2ornt(axes)
    image = nibabel.Nifti1Image(ramp, np.diag([*SPACING, 1])).as_reoriented(target)
    aligned, slices = align(volume_of(image), PLAIN), range(8, 20)
    back = way_back(transforms(aligned, slices, 32), image.shape, slices)
    made = like(image, back.filled(back.linear(seen(aligned, slices, 32))))
    inner = np.s_[6:-6, 6:-6, 10:18]
    found = nibabel.as_closest_canonical(made).get_fdata()[inner]
    np.testing.assert_allclose(1100 * found, ramp[inner], atol=0.8)


def test_a_volume_goes_back_to_its_file_s_own_order() -> None:
    image, _ = scanned("SPL")
    volume = volume_of(image)
    np.testing.assert_array_equal(
        as_stored(volume.data, volume.file_affine), np.asarray(image.dataobj)
    )


def test_both_of_a_header_s_transforms_are_kept() -> None:
    image, _ = scanned("LAS")
    other = image.affine.copy()
    other[:3, 3] += 5
    image.header.set_qform(other, "scanner")
    image.header.set_sform(image.affine, "mni")
    image.header["cal_max"] = 900
    made = like(image, np.zeros(image.shape, np.uint8), "said")
    np.testing.assert_allclose(made.get_qform(), other, atol=1e-5)
    np.testing.assert_array_equal(made.get_sform(), image.get_sform())
    assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (1, 4)
    assert (made.header["cal_max"], made.header["descrip"].item()) == (0, b"said")
    assert made.get_data_dtype() == np.uint8
