"""One slice: its files, and the batch."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from PIL import Image

from autoddpm.data.image_file import read_image, read_lesion, stem
from autoddpm.data.sample import Batch

GREY = np.random.default_rng(0).integers(1, 255, (18, 21), dtype=np.uint8)


def png(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def test_a_batch_stays_a_batch_on_its_way_to_a_device():
    batch = Batch(
        torch.rand(2, 1, 4, 4),
        torch.zeros(2, 1, 4, 4, dtype=torch.bool),
        ["a/1", "a/2"],
        torch.zeros(2),
    )
    moved = move_data_to_device(batch, "meta")
    assert isinstance(moved, Batch)
    assert moved.image.is_meta
    assert moved.lesion.is_meta
    assert moved.id == ["a/1", "a/2"]


def test_the_stem_takes_nii_gz_for_one_suffix():
    names = ["a.png", "a.nii.gz", "b.v1.png", "b.v1.nii.gz", "c.nii"]
    assert [stem(Path(name)) for name in names] == ["a", "a", "b.v1", "b.v1", "c"]


@pytest.mark.parametrize("dtype", [np.uint16, np.float64])
def test_npy_slices_of_any_real_type_are_read_as_they_are(tmp_path, dtype):
    array = GREY.astype(dtype)
    read = read_image(npy(tmp_path / "a.npy", array))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array)


def test_grey_images_of_8_and_16_bits_are_read_as_they_are(tmp_path):
    np.testing.assert_array_equal(read_image(png(tmp_path / "a.PNG", GREY)), GREY)
    wide = GREY.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_image(png(tmp_path / "b.png", wide)), wide)


@pytest.mark.parametrize("mode", ["RGB", "LA", "P"])
def test_a_grey_image_saved_in_colour_is_read_without_loss(tmp_path, mode):
    np.testing.assert_array_equal(read_image(png(tmp_path / "a.png", GREY, mode)), GREY)


def test_channels_that_differ_and_transparency_are_refused(tmp_path):
    colour = np.stack([GREY] * 3, axis=-1)
    colour[3, 4, 1] ^= 1
    with pytest.raises(ValueError, match=r"a\.png: its 3 channels differ"):
        read_image(png(tmp_path / "a.png", colour))
    with pytest.raises(ValueError, match=r"a\.npy: its 3 channels differ"):
        read_image(npy(tmp_path / "a.npy", colour))
    with pytest.raises(ValueError, match=r"b\.png: has transparent pixels"):
        read_image(png(tmp_path / "b.png", np.stack([GREY, GREY], axis=-1)))


def test_nifti_slices_of_either_form_stand_upright(tmp_path):
    """The array of a NIfTI is (x, y): with the identity affine x grows to the right and y to the
    front, that is up."""
    for array, name in ((GREY, "a.nii"), (GREY[:, :, None], "b.nii.gz")):
        nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.eye(4)), tmp_path / name)
        read = read_image(tmp_path / name)
        assert read.shape == (21, 18)
        assert read[0, 0] == GREY[0, -1]  # left, front
        assert read[-1, -1] == GREY[-1, 0]  # right, back


def test_a_mirrored_nifti_slice_is_turned_by_its_affine(tmp_path):
    nibabel.save(
        nibabel.Nifti1Image(GREY[::-1, :, None].astype(np.float32), np.diag([-1, 1, 1, 1])),
        tmp_path / "a.nii",
    )
    nibabel.save(
        nibabel.Nifti1Image(GREY[:, :, None].astype(np.float32), np.eye(4)), tmp_path / "b.nii"
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii"), read_image(tmp_path / "b.nii"))


def test_a_volume_is_refused_as_no_slice(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.random.rand(18, 18, 2), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(
        ValueError, match=r"a\.nii: its shape is 18 x 18 x 2, a volume and .* src\.prepare"
    ):
        read_image(tmp_path / "a.nii")
    with pytest.raises(ValueError, match=r"a\.npy: its shape is 18 x 18 x 5, not one slice"):
        read_image(npy(tmp_path / "a.npy", np.random.rand(18, 18, 5)))


def test_truncated_empty_and_foreign_files_are_refused_by_name(tmp_path):
    png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_text("no picture")
    npy(tmp_path / "d.npy", GREY)
    (tmp_path / "d.npy").write_bytes((tmp_path / "d.npy").read_bytes()[:-9])
    np.save(tmp_path / "e.npy", np.array([{}], dtype=object))
    (tmp_path / "f.nii.gz").write_bytes(b"\x1f\x8b broken")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(
            ValueError, match=rf"{path.name}: cannot be read .*; restore it or leave it out"
        ):
            read_image(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.png: there is no such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a * 0 + 7, "every pixel is 7; an empty slice"),
        (lambda a: np.where(a == a.max(), np.inf, a), "contains NaN or infinite"),
        (lambda a: a[:15], "15 x 21 pixels are too few; a slice has at least 16"),
        (lambda a: a * 1j, "holds complex"),
    ],
)
def test_a_slice_that_nothing_can_be_learned_from_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"a\.npy: {message}"):
        read_image(npy(tmp_path / "a.npy", change(GREY.astype(float))))


def test_an_image_of_few_values_is_refused_as_a_mask(tmp_path):
    for number, values in ((2, GREY > 100), (3, GREY // 100)):
        path = png(tmp_path / f"p{number}.png", values.astype(np.uint8) * 40)
        with pytest.raises(
            ValueError, match=rf"p{number}\.png: has only {number} different values.*_mask"
        ):
            read_image(path)


@pytest.mark.parametrize(("x", "y"), [(1.2, 2.4), (2.4, 1.2), (1, 1.1)])
def test_pixels_that_are_no_squares_are_refused(tmp_path, x, y):
    nibabel.save(
        nibabel.Nifti1Image(GREY[:, :, None].astype(np.float32), np.diag([-x, y, 5, 1])),
        tmp_path / "a.nii.gz",
    )
    with pytest.raises(ValueError, match=rf"a\.nii\.gz: its pixels have {x} x {y} mm, .*resample"):
        read_image(tmp_path / "a.nii.gz")


# --- masks: what their values mean is in test_mask.py, where they lie in test_grid.py ------------


def lesion(mask: Path, image: Path) -> np.ndarray:
    return read_lesion(mask, read_image(image), image).pixels


def test_a_lesion_is_read_from_any_picture(tmp_path):
    image = png(tmp_path / "a.png", GREY)
    mask = np.zeros_like(GREY)
    mask[2, 3], mask[4, 5] = 255, 255
    for file in (png(tmp_path / "m.png", mask), npy(tmp_path / "m.npy", mask / 255)):
        found = lesion(file, image)
        assert found.dtype == bool
        assert np.argwhere(found).tolist() == [[2, 3], [4, 5]]


def test_a_lesion_of_another_size_or_without_sense_is_named(tmp_path):
    image = png(tmp_path / "a.png", GREY)
    with pytest.raises(
        ValueError, match=r"m\.png: the lesion mask has 18 x 20 pixels, its image 18 x 21"
    ):
        lesion(png(tmp_path / "m.png", GREY[:, :-1]), image)
    for value in (np.nan, -1):
        with pytest.raises(ValueError, match=r"m\.npy: holds NaN, infinite or negative values"):
            lesion(npy(tmp_path / "m.npy", np.where(GREY > 200, value, 0.0)), image)
