"""What is cut out of one raw volume, and what is refused."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from scipy.spatial.transform import Rotation

from autoddpm.data.image_file import read_image, read_lesion
from autoddpm.preparation.cutting import RawVolume, Steps, cut_volume
from autoddpm.preparation.geometry import SliceGeometry, to_volume
from autoddpm.preparation.volume import Source

SHAPE = (18, 21, 6)
AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("xyz", [12, -20, 25], degrees=True).as_matrix() @ np.diag(
    [1.2, 0.9, 2.5]
)
AFFINE[:3, 3] = -9, 4, 30
PLAIN = Steps(n4=False, brain_mask="none", register=False, slices=3)


def data(seed: int) -> np.ndarray:
    """(X, Y, Z) in 100 to 1000, around it 0."""
    volume = np.zeros(SHAPE, np.float32)
    volume[2:-2, 3:-2] = np.random.default_rng(seed).integers(100, 1000, (14, 16, 6))
    return volume


def save(path: Path, volume: np.ndarray) -> Source:
    """Written from right to left, as many scanners do."""
    flipped = AFFINE @ np.diag([-1, 1, 1, 1.0])
    flipped[:3, 3] = (AFFINE @ [SHAPE[0] - 1, 0, 0, 1])[:3]
    nibabel.save(Nifti1Image(volume[::-1], flipped), path)
    return Source(path)


def raw(
    folder: Path, name: str, seed: int = 0, lesion: np.ndarray | None = None, **more: Any
) -> RawVolume:
    folder.mkdir(exist_ok=True)
    mask = None if lesion is None else save(folder / f"{name}_mask.nii.gz", lesion.astype(np.uint8))
    return RawVolume(name, name, "test", save(folder / f"{name}.nii.gz", data(seed)), mask, **more)


def plane(folder: Path, file: str) -> np.ndarray:
    array = np.asarray(nibabel.load(folder / file).dataobj)
    assert array.shape[2:] == (1,)
    return array[..., 0]


def test_a_slice_is_the_volume_s_own_voxels_turned_with_the_front_above(tmp_path: Path) -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[4:7, 9:14, 2:4] = True
    (row,) = cut_volume(raw(tmp_path, "a", 1, lesion), PLAIN, tmp_path)
    np.testing.assert_array_equal(plane(tmp_path, row["file"]), data(1)[:, :, 3])
    np.testing.assert_array_equal(plane(tmp_path, row["lesion_file"]), lesion[:, :, 3])
    image = read_image(tmp_path / row["file"])
    np.testing.assert_array_equal(image, np.rot90(data(1)[:, :, 3]))
    np.testing.assert_array_equal(
        read_lesion(tmp_path / row["lesion_file"], image), np.rot90(lesion[:, :, 3])
    )
    assert (row["id"], row["file"], row["slice"], row["windowed"]) == (
        "a",
        "slices/a.nii.gz",
        "3",
        "",
    )
    assert row["source_sha256"] == hashlib.sha256((tmp_path / "a.nii.gz").read_bytes()).hexdigest()


def test_a_slice_lies_in_the_scanner_where_it_was_cut(tmp_path: Path) -> None:
    (row,) = cut_volume(raw(tmp_path, "a", 1), PLAIN, tmp_path)
    corner = nibabel.load(tmp_path / row["file"]).affine @ [5, 7, 0, 1]
    np.testing.assert_allclose(corner, AFFINE @ [5, 7, 3, 1], atol=1e-4)
    geometry = SliceGeometry.from_json(row["geometry"])
    back = to_volume([np.ones((21, 21))], [geometry])
    source = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(back.affine, source.affine)
    assert back.shape == source.shape
    assert np.flatnonzero(np.asarray(back.dataobj).any(axis=(0, 1))).tolist() == [3]


def test_a_slice_without_lesion_of_a_volume_with_one_has_no_lesion_file(tmp_path: Path) -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[4:7, 9:14, 2] = True
    rows = cut_volume(raw(tmp_path, "a", 1, lesion), replace(PLAIN, slices="1:4"), tmp_path)
    assert [row["lesion_file"] for row in rows] == ["", "lesions/a_z002.nii.gz", ""]
    assert sorted(path.name for path in (tmp_path / "lesions").iterdir()) == ["a_z002.nii.gz"]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    for name in ("slices", "lesions"):
        (tmp_path / name).mkdir()


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        (0, [0]),
        (5, [5]),
        ("2", [2]),
        ("middle", [3]),
        ("1:4", [1, 2, 3]),
        ("0:6:2", [0, 2, 4]),
        ("2:3", [2]),
    ],
)
def test_any_slices_can_be_chosen(tmp_path: Path, slices: int | str, expected: list[int]) -> None:
    rows = cut_volume(raw(tmp_path, "a", 1), replace(PLAIN, slices=slices), tmp_path)
    assert [int(row["slice"]) for row in rows] == expected
    names = [f"a_z{z:03d}" for z in expected] if len(expected) > 1 else ["a"]
    assert [row["id"] for row in rows] == names
    for row, z in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(plane(tmp_path, row["file"]), data(1)[:, :, z])


def test_the_middle_of_an_even_and_of_an_odd_number_of_slices() -> None:
    assert [replace(PLAIN, slices="middle").axial(n) for n in (15, 16, 17)] == [[7], [8], [8]]


def test_a_volume_s_own_slices_come_before_the_settings(tmp_path: Path) -> None:
    rows = cut_volume(raw(tmp_path, "a", 1, slices=[1, 4]), PLAIN, tmp_path)
    assert [row["slice"] for row in rows] == ["1", "4"]


@pytest.mark.parametrize("window", ["volume", "brain"])
def test_a_percentile_of_the_volume_or_of_its_brain_becomes_1(tmp_path: Path, window: str) -> None:
    steps = replace(PLAIN, window=window, brain_mask="nonzero")
    (row,) = cut_volume(raw(tmp_path, "a", 1), steps, tmp_path)
    volume = data(1)
    scale = np.percentile(volume if window == "volume" else volume[volume > 0], 98)
    np.testing.assert_allclose(
        plane(tmp_path, row["file"]), np.clip(volume[:, :, 3] / scale, 0, 1), rtol=1e-6
    )
    assert row["windowed"] == window
    assert row["steps"] == ("brain:nonzero" if window == "brain" else "")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"brain_mask": "bet"}, "brain_mask=bet: must be deepbet, nonzero or none"),
        ({"window": "head"}, "window=head: must be slice, volume or brain"),
        ({"register": True}, "brain_mask=none: registration"),
        ({"window": "brain"}, "brain_mask=none: registration"),
        *[
            ({"slices": s}, f"slices={s}: must be an index")
            for s in (-1, "", "top", "4:2", "1:9:0", "1:2:3:4", 2.5)
        ],
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(PLAIN, **setting)


def nothing_above_0() -> np.ndarray:
    return -data(1)


def empty_above(z: int) -> np.ndarray:
    volume = data(1)
    volume[:, :, z:] = 0
    return volume


@pytest.mark.parametrize(
    ("volume", "steps", "words"),
    [
        (data(1), replace(PLAIN, slices=6), "has no slice 6, it has 6"),
        (empty_above(3), replace(PLAIN, slices="1:5"), "slice 3 is empty"),
        (
            nothing_above_0(),
            replace(PLAIN, window="brain", brain_mask="nonzero"),
            "no brain was found",
        ),
        (nothing_above_0(), replace(PLAIN, window="volume"), "not above 0"),
    ],
)
def test_a_volume_without_the_slice_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, volume: np.ndarray, steps: Steps, words: str
) -> None:
    source = save(tmp_path / "a.nii.gz", volume)
    with pytest.raises(ValueError, match=words) as refused:
        cut_volume(RawVolume("a", "a", "test", source), steps, tmp_path)
    assert str(refused.value).startswith(f"{tmp_path}/a.nii.gz: ")
    assert not list(tmp_path.glob("slices/*"))
