"""Samples of other shapes than one slice of one channel: volumes, and slices of two modalities."""

from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import toy_data
from tiny import one_thread as one_thread

from autoddpm.data.augmentation import augment
from autoddpm.data.datamodule import SliceDataModule
from autoddpm.data.image_file import read_image, read_lesion
from autoddpm.data.preprocess import preprocess, resize_image
from autoddpm.data.shift import AGE_NUMBERS, SCAN_NUMBERS, age, scan
from autoddpm.data.store import build_store

SOURCES = {"volumes": toy_data.volumes, "two": toy_data.two_modalities}


def module(tmp_path: Path, *names: str, size: int = 16) -> SliceDataModule:
    sources = {name: partial(SOURCES[name], tmp_path / name) for name in names}
    roles = [list(names)] * 3
    return SliceDataModule(sources, *roles, size, tmp_path / "stores", 2, 2)


@pytest.mark.parametrize(
    ("name", "channels", "space", "modalities"),
    [("volumes", 1, (16, 16, 16), ("T1",)), ("two", 2, (16, 16), ("T1", "FLAIR"))],
)
def test_a_batch_has_a_channel_per_modality_and_its_space(
    tmp_path: Path, name: str, channels: int, space: tuple[int, ...], modalities: tuple[str, ...]
) -> None:
    data = module(tmp_path, name)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert batch.image.shape == (len(batch.id), channels, *space)
            assert batch.lesion.shape == (len(batch.id), 1, *space)
            assert batch.image.dtype == torch.float32
            assert (batch.image.amin(dim=0).amin(), batch.image.amax()) == (0, 1)
    assert batch.lesion.any()
    assert data.modalities == modalities
    assert data.dimensions == len(space)


def test_no_channel_is_dropped_or_moved(tmp_path: Path) -> None:
    data = module(tmp_path, "two")
    records = {record.id: record for record in toy_data.two_modalities(tmp_path / "two")}
    for batch in data.test_dataloader():
        for image, lesion, name in zip(batch.image, batch.lesion, batch.id, strict=True):
            files = records[name].images
            for channel, modality in zip(image, ("T1", "FLAIR"), strict=True):
                expected = preprocess(read_image(files[modality]), None, 16).image
                np.testing.assert_array_equal(channel, expected)
            mask = lesion[0].numpy()
            assert image[0][mask].mean() < 0.4 < 0.8 < image[1][mask].mean()


def test_a_slice_of_a_volume_is_read_as_that_slice_alone_is(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((18, 21, 17)).astype(np.float32)
    affine = np.array([[-1, 0, 0, 5], [0, 1, 0, 2], [0, 0, 1, 1], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(values, affine)
    nibabel.save(image, tmp_path / "volume.nii.gz")
    volume = read_image(tmp_path / "volume.nii.gz", 3)
    assert volume.shape == (17, 21, 18)
    for z in (0, 9, 16):
        nibabel.save(image.slicer[:, :, z : z + 1], tmp_path / "slice.nii.gz")
        np.testing.assert_array_equal(volume[z], read_image(tmp_path / "slice.nii.gz"))


def test_the_lesion_of_a_volume_lies_where_the_volume_does(tmp_path: Path) -> None:
    records = [r for r in toy_data.volumes(tmp_path) if r.lesion is not None]
    image = read_image(records[0].images["T1"], 3)
    lesion = read_lesion(records[0].lesion, image, records[0].images["T1"]).pixels
    assert lesion.shape == image.shape
    assert image[lesion].max() < image[~lesion & (image > 0)].min() + 0.2


@pytest.mark.parametrize("size", [8, 16, 24])
def test_a_volume_is_resized_alike_along_each_axis(size: int) -> None:
    volume = np.random.default_rng(0).random((16, 16, 16))
    resized = resize_image(volume, size)
    assert resized.shape == (size,) * 3
    turned = resize_image(np.transpose(volume, (2, 0, 1)), size)
    np.testing.assert_allclose(np.transpose(resized, (2, 0, 1)), turned, atol=1e-6)
    flat = np.broadcast_to(volume[:1], volume.shape)
    for plane in resize_image(flat, size):
        np.testing.assert_allclose(plane, resize_image(volume[0], size), atol=1e-6)


def test_a_volume_of_other_sides_becomes_a_cube() -> None:
    volume = np.random.default_rng(0).random((10, 20, 16))
    image, lesion, pixels = preprocess(volume, volume > 0.9, 20)
    assert image.shape == lesion.shape == (20, 20, 20)
    assert not lesion[:5].any()
    assert lesion.sum() == pixels
    assert (image[:5] == image.min()).all()


def test_modalities_are_part_of_the_hash(tmp_path: Path) -> None:
    data = module(tmp_path, "two")
    before = data.hash("test")
    path = tmp_path / "two" / "two_test0_FLAIR.nii"
    other = np.asarray(nibabel.load(path).dataobj).copy()
    other[8, 8] += 0.01
    records = toy_data.two_modalities(tmp_path / "two")
    nibabel.save(nibabel.Nifti1Image(other, np.eye(4)), path)
    changed = SliceDataModule({"two": lambda: records}, [], [], ["two"], 16, tmp_path / "stores")
    assert changed.hash("test") != before


def test_sources_of_different_kinds_are_refused(tmp_path: Path) -> None:
    words = r"volumes has volumes of T1, two has slices of T1 \+ FLAIR"
    with pytest.raises(ValueError, match=words):
        module(tmp_path, "volumes", "two").setup()
    flat, deep = toy_data.two_modalities(tmp_path / "two"), toy_data.volumes(tmp_path / "volumes")
    with pytest.raises(ValueError, match=r"has the modalities T1, .* has T1, FLAIR"):
        build_store("s", [*flat, *deep], 16, tmp_path / "stores")


def test_modalities_of_different_sizes_are_refused(tmp_path: Path) -> None:
    records = toy_data.two_modalities(tmp_path)
    small = np.random.default_rng(0).random((16, 17, 1)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(small, np.eye(4)), tmp_path / "two_test0_FLAIR.nii")
    with pytest.raises(ValueError, match=r"FLAIR\.nii: is on another grid.* 16 x 17 x 1 voxels"):
        build_store("two", records, 16, tmp_path / "stores")


def test_what_is_no_volume_is_refused_by_name(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.random.rand(18, 18, 1), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ValueError, match=r"a\.nii: .*shape is 18 x 18 x 1, not one volume"):
        read_image(tmp_path / "a.nii", 3)
    np.save(tmp_path / "b.npy", np.random.rand(18, 18, 18))
    with pytest.raises(ValueError, match=r"b\.npy: a volume is a NIfTI file"):
        read_image(tmp_path / "b.npy", 3)


def test_the_channels_of_a_slice_move_together() -> None:
    one = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    u = torch.rand(2, 5, generator=torch.Generator().manual_seed(1))
    moved = augment(torch.cat([one, 0.5 * one + 0.25], 1), u)
    torch.testing.assert_close(moved[:, :1], augment(one, u))
    torch.testing.assert_close(moved[:, 1:], 0.5 * moved[:, :1] + 0.25)


def test_changes_of_slices_refuse_volumes_and_name_their_setting() -> None:
    volume = torch.rand(1, 1, 16, 16, 16)
    with pytest.raises(ValueError, match=r"set module\.augmentation=false"):
        augment(volume, torch.rand(1, 5))
    for image in (volume, torch.rand(1, 2, 16, 16)):
        with pytest.raises(ValueError, match=r"set module\.shift=0"):
            age(image, torch.rand(1, AGE_NUMBERS))
        with pytest.raises(ValueError, match=r"set module\.shift=0"):
            scan(image, torch.rand(1, SCAN_NUMBERS), torch.rand(1, 2, 16, 16))
