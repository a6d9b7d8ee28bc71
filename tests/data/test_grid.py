"""Where a mask lies on its image, by the files' own headers."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image
from scipy.spatial.transform import Rotation

from autoddpm.data.grid import forms, in_order_of
from autoddpm.data.image_file import read_image, read_lesion

IMAGE = np.random.default_rng(0).integers(100, 999, (24, 20, 1)).astype(np.float32)
LESION = np.zeros(IMAGE.shape, np.uint8)
LESION[4:8, 12:15] = 1
IMAGE[LESION > 0] = 50  # it is where the image is dark
AFFINE = np.eye(4)
AFFINE[:3, :3] = 1.5 * Rotation.from_euler("xyz", [5, -8, 12], degrees=True).as_matrix()
AFFINE[:3, 3] = -20, 31, 7


def stored_as(image: Nifti1Image, axes: str) -> Nifti1Image:
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(axes)))


def save(path: Path, image: Nifti1Image) -> Path:
    nibabel.save(image, path)
    return path


def dark(mask: Path, image: Path) -> bool:
    """Whether the lesion is exactly where the image is dark."""
    picture = read_image(image)
    return bool(np.array_equal(read_lesion(mask, picture, image).pixels, picture < 100))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR", "AIL"])
@pytest.mark.parametrize("of_image", ["RAS", "LAS", "SRP"])
def test_one_grid_may_be_stored_in_any_order(tmp_path: Path, axes: str, of_image: str) -> None:
    image = save(tmp_path / "a.nii.gz", stored_as(Nifti1Image(IMAGE, AFFINE), of_image))
    mask = save(tmp_path / "m.nii.gz", stored_as(Nifti1Image(LESION, AFFINE), axes))
    assert dark(mask, image)


def two_forms(data: np.ndarray, sform: np.ndarray | None, qform: np.ndarray | None) -> Nifti1Image:
    image = Nifti1Image(data, None)
    image.set_sform(sform, 0 if sform is None else 1)
    image.set_qform(qform, 0 if qform is None else 1)
    return Nifti1Image.from_bytes(Nifti1Image(data, None, image.header).to_bytes())


FLIPPED = AFFINE @ np.diag([-1, 1, 1, 1])
MOVED = AFFINE + np.array([[0, 0, 0, 20]] + 3 * [[0, 0, 0, 0]])


@pytest.mark.parametrize("qform", [MOVED, FLIPPED])
def test_a_mask_may_lie_on_either_form_of_its_image(tmp_path: Path, qform: np.ndarray) -> None:
    image = save(tmp_path / "a.nii", two_forms(IMAGE, AFFINE, qform))
    for name, form in (("s", AFFINE), ("q", qform)):
        assert dark(save(tmp_path / f"{name}.nii", two_forms(LESION, None, form)), image)


def test_forms_are_those_that_the_header_states() -> None:
    both = forms(two_forms(IMAGE, AFFINE, MOVED))
    np.testing.assert_allclose(both, [AFFINE, MOVED], atol=1e-4)
    assert len(forms(two_forms(IMAGE, AFFINE, None))) == 1


ELSEWHERE: dict[str, Callable[[], Nifti1Image]] = {
    "flipped": lambda: Nifti1Image(LESION, FLIPPED),
    "the identity": lambda: Nifti1Image(LESION, np.eye(4)),
    "no orientation": lambda: Nifti1Image(LESION, None),
    "20 mm off": lambda: Nifti1Image(LESION, MOVED),
    "another slice": lambda: Nifti1Image(LESION, AFFINE + np.eye(4)[2][:, None] * [0, 0, 0, 4]),
    "half a pixel off": lambda: Nifti1Image(LESION, AFFINE @ (np.eye(4) + 0.5 * np.eye(4, k=3))),
    "a larger pixel": lambda: Nifti1Image(LESION, AFFINE @ np.diag([1.1, 1.1, 1, 1])),
}


@pytest.mark.parametrize("how", ELSEWHERE)
def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path, how: str) -> None:
    image = save(tmp_path / "a.nii.gz", Nifti1Image(IMAGE, AFFINE))
    mask = save(tmp_path / "m.nii.gz", ELSEWHERE[how]())
    with pytest.raises(
        ValueError, match=r"m\.nii\.gz: is on another grid than its image .*a\.nii\.gz: .* mm apart"
    ):
        dark(mask, image)


def test_a_nifti_and_a_picture_are_not_laid_on_each_other(tmp_path: Path) -> None:
    image = save(tmp_path / "a.nii.gz", Nifti1Image(IMAGE, np.eye(4)))
    seen = np.rot90(IMAGE[:, :, 0])
    np.save(tmp_path / "m.npy", LESION[:, :, 0])
    Image.fromarray(255 * np.rot90(LESION[:, :, 0])).save(tmp_path / "m.png")
    for name in ("m.npy", "m.png"):
        with pytest.raises(ValueError, match=rf"{name}: belongs to .*one of the two is NIfTI"):
            read_lesion(tmp_path / name, read_image(image), image)
    Image.fromarray((seen / 4).astype(np.uint8)).save(tmp_path / "a.png")
    mask = save(tmp_path / "m.nii.gz", Nifti1Image(LESION, np.eye(4)))
    with pytest.raises(ValueError, match=r"m\.nii\.gz: belongs to .*save both as NIfTI, or both"):
        dark(mask, tmp_path / "a.png")


def test_a_modality_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    t1 = save(tmp_path / "T1.nii", Nifti1Image(IMAGE, AFFINE))
    flair = save(tmp_path / "FLAIR.nii", Nifti1Image(IMAGE, FLIPPED))
    same = save(tmp_path / "same.nii", stored_as(Nifti1Image(IMAGE, AFFINE), "LPS"))
    np.testing.assert_array_equal(read_image(same, like=t1), read_image(t1))
    with pytest.raises(ValueError, match=r"FLAIR\.nii: is on another grid"):
        read_image(flair, like=t1)


def test_an_affine_that_cannot_be_inverted_is_said() -> None:
    flat = np.diag([1.0, 1, 0, 1])
    with pytest.raises(ValueError, match="cannot be inverted"):
        in_order_of(IMAGE, flat, IMAGE.shape, (AFFINE,))


def test_a_header_of_more_voxels_than_its_file_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.nii"
    content = bytearray(nibabel.Nifti1Image(np.zeros((20, 20, 1), "u1"), np.eye(4)).to_bytes())
    content[42:48] = np.array([32000, 32000, 1], "<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"huge\.nii: .*states 1024000352 bytes, it has 752"):
        read_image(path)
