"""The slices that are cut out of one volume in memory, and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from scipy.spatial.transform import Rotation

from autoddpm.data.preprocess import preprocess
from autoddpm.preparation import cutting
from autoddpm.preparation.cutting import Cut, ImplausibleError, Steps
from autoddpm.preparation.geometry import to_volume
from autoddpm.preparation.volume import RawVolume, Source, Volume, volume_of

SHAPE = (18, 21, 6)
AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("xyz", [12, -20, 25], degrees=True).as_matrix() @ np.diag(
    [0.9, 0.9, 2.5]
)
AFFINE[:3, 3] = -9, 4, 30
PLAIN = Steps(n4=False, brain_mask="none", register=False, slices=3)


def data(seed: int) -> np.ndarray:
    """(X, Y, Z) in 100 to 1000, around it 0."""
    volume = np.zeros(SHAPE, np.float32)
    volume[2:-2, 3:-2] = np.random.default_rng(seed).integers(100, 1000, (14, 16, 6))
    return volume


def stored(volume: np.ndarray) -> Nifti1Image:
    """From right to left, as many scanners store it."""
    flipped = AFFINE @ np.diag([-1, 1, 1, 1.0])
    flipped[:3, 3] = (AFFINE @ [SHAPE[0] - 1, 0, 0, 1])[:3]
    return Nifti1Image(volume[::-1], flipped)


def in_memory(seed: int) -> Volume:
    return volume_of(stored(data(seed)))


def save(path: Path, volume: np.ndarray) -> Source:
    nibabel.save(stored(volume), path)
    return Source(path)


def raw(
    folder: Path, name: str, seed: int = 0, lesion: np.ndarray | None = None, **more: Any
) -> RawVolume:
    folder.mkdir(exist_ok=True)
    mask = None if lesion is None else save(folder / f"{name}_mask.nii.gz", lesion.astype(np.uint8))
    return RawVolume(name, name, "test", save(folder / f"{name}.nii.gz", data(seed)), mask, **more)


def cut(*arguments: Any, **settings: Any) -> list[Cut]:
    """The slices, if none was left out."""
    cuts, empty = cutting.cut(*arguments, **settings)
    assert not empty
    return cuts


def test_a_slice_is_the_volume_s_own_voxels() -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[4:7, 9:14, 2:4] = True
    (one,) = cut(in_memory(1), PLAIN, lesion)
    np.testing.assert_array_equal(one.image, data(1)[:, :, 3])
    np.testing.assert_array_equal(one.lesion, lesion[:, :, 3])
    assert (one.image.dtype, one.z, one.done, one.brain_dice) == (np.float32, 3, (), None)


def test_a_map_of_a_volume_in_memory_is_put_back_into_it() -> None:
    (one,) = cut(in_memory(1), PLAIN)
    corner = one.geometry.slice_affine @ [5, 7, 0, 1]
    np.testing.assert_allclose(corner, AFFINE @ [5, 7, 3, 1], atol=1e-4)
    seen = preprocess(np.rot90(one.image), None, 21).image  # as the network sees it
    back = to_volume([seen], [one.geometry])
    source = stored(data(1))
    np.testing.assert_array_equal(back.affine, source.affine)
    assert back.shape == source.shape
    planes = np.asarray(back.dataobj)
    assert np.flatnonzero(planes.any(axis=(0, 1))).tolist() == [3]
    expected = np.clip(data(1)[:, :, 3] / np.percentile(data(1)[:, :, 3], 98), 0, 1)
    np.testing.assert_allclose(planes[::-1, :, 3], expected, atol=2e-4)


def test_cutting_changes_neither_the_volume_nor_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    volume = in_memory(1)
    before = volume.data.copy()
    steps = replace(PLAIN, slices="0:6", window="brain", brain_mask="nonzero")
    cut(volume, steps, boxes={3: [(2, 3, 4, 5)]})
    np.testing.assert_array_equal(volume.data, before)
    assert list(tmp_path.iterdir()) == []


def test_a_box_is_a_rectangle_with_the_front_of_the_head_above() -> None:
    one, other = cut(in_memory(1), PLAIN, boxes={3: [(2, 5, 4, 3), (-1, -1, 2, 2)]}, slices=[3, 4])
    picture = np.zeros((21, 18), bool)
    picture[5:8, 2:6] = picture[0, 0] = True
    np.testing.assert_array_equal(np.rot90(one.lesion), picture)
    assert not other.lesion.any()
    with pytest.raises(ValueError, match=r"slice 3 has 18 x 21 pixels.*\(18, 0\) lies outside"):
        cut(in_memory(1), PLAIN, boxes={3: [(18, 0, 2, 2)]})


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        (5, [5]),
        ("2", [2]),
        ("middle", [3]),
        ("1:4", [1, 2, 3]),
        ("4:", [4, 5]),
        (":2", [0, 1]),
        ("::2", [0, 2, 4]),
        ("all", [0, 1, 2, 3, 4, 5]),
        ([4, 1], [1, 4]),
        ("1,4", [1, 4]),
        ("[1, 4, 4]", [1, 4]),
        ("0:6:2", [0, 2, 4]),
    ],
)
def test_any_slices_can_be_chosen(slices: int | str | list[int], expected: list[int]) -> None:
    cuts = cut(in_memory(1), replace(PLAIN, slices=slices))
    assert [one.z for one in cuts] == expected
    for one, z in zip(cuts, expected, strict=True):
        np.testing.assert_array_equal(one.image, data(1)[:, :, z])


def test_the_middle_of_an_even_and_of_an_odd_number_of_slices() -> None:
    assert [replace(PLAIN, slices="middle").axial(n) for n in (15, 16, 17)] == [[7], [8], [8]]


def test_a_volume_s_own_slices_come_before_the_settings() -> None:
    assert [one.z for one in cut(in_memory(1), PLAIN, slices=[1, 4])] == [1, 4]


@pytest.mark.parametrize("window", ["volume", "brain"])
def test_a_percentile_of_the_volume_or_of_its_brain_becomes_1(window: str) -> None:
    (one,) = cut(in_memory(1), replace(PLAIN, window=window, brain_mask="nonzero"))
    volume = data(1)
    scale = np.percentile(volume if window == "volume" else volume[volume > 0], 98)
    expected = np.clip(volume[:, :, 3] / scale, 0, 1)
    np.testing.assert_allclose(one.image, expected, rtol=1e-6)
    assert one.done == (("brain:nonzero",) if window == "brain" else ())


def test_a_record_of_steps_is_of_plain_values() -> None:
    steps = replace(PLAIN, slices="85:106", window="volume")
    record = json.loads(json.dumps(steps.record("T1")))
    assert (record["slices"], record["modality"]) == ("85:106", "T1")
    assert Steps(**record["steps"], slices=record["slices"]) == steps


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"brain_mask": "bet"}, "brain_mask=bet: must be deepbet, nonzero or none"),
        ({"window": "head"}, "window=head: must be slice, volume or brain"),
        ({"register": True}, "brain_mask=none: registration"),
        ({"window": "brain"}, "brain_mask=none: registration"),
        *[
            ({"slices": s}, f"slices={re.escape(str(s))}: must be an index")
            for s in (-1, "top", "4:2", "1:9:0", "1:2:3:4", "-3:", "3:1:-1", "1,,2", "")
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
        (empty_above(3), replace(PLAIN, slices="9:"), "has no slice of 9:, it has 6"),
        (empty_above(3), PLAIN, "slice 3 is empty; choose others"),
        (empty_above(1), replace(PLAIN, slices="3:"), "3 is empty, and so are the other 2; choose"),
        (
            nothing_above_0(),
            replace(PLAIN, window="brain", brain_mask="nonzero"),
            "no brain was found",
        ),
        (nothing_above_0(), replace(PLAIN, window="volume"), "not above 0"),
    ],
)
def test_a_volume_without_the_slice_is_refused_by_name(
    volume: np.ndarray, steps: Steps, words: str
) -> None:
    with pytest.raises(ValueError, match=f"^head: .*{words}"):
        cut(volume_of(stored(volume), "head"), steps)


def test_empty_slices_are_left_out_and_named() -> None:
    volume = empty_above(3)
    volume[4, 5, 4] = 7  # one voxel
    for window in ("slice", "volume"):
        steps = replace(PLAIN, slices="1:", window=window)
        cuts, empty = cutting.cut(volume_of(stored(volume)), steps)
        assert [one.z for one in cuts] == [1, 2]
        assert empty == {z: f"the volume: slice {z} is empty" for z in (3, 4, 5)}


def test_a_slice_with_next_to_nothing_in_it_is_left_out() -> None:
    volume = data(1)
    volume[:, :, 4] = 0
    volume[4, 3:17, 4] = np.arange(14)
    volume[5, 3:17, 4] = np.arange(14) / 2
    volume[:2, :, 4], volume[6:, :, 4] = -1e-3, -1e-3
    volume[4:6, 6:, 4] = 0
    cuts, empty = cutting.cut(volume_of(stored(volume)), replace(PLAIN, slices="3:"))
    assert [one.z for one in cuts] == [3, 5]
    assert list(empty) == [4]


def test_what_the_store_would_refuse_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="the lesion in slice 3 holds no 0"):
        cut(in_memory(1), PLAIN, boxes={3: [(0, 0, 18, 21)]})
    frame = np.ones(SHAPE, bool)
    frame[1:-1, 1:-1] = False
    with pytest.raises(ValueError, match="the lesion in slice 3 covers 100% of the image's border"):
        cut(in_memory(1), PLAIN, frame)
    with pytest.raises(ValueError, match=r"its slices have 18 x 15 pixels; at least 16 each"):
        cut(volume_of(stored(data(1)[:, :15])), PLAIN)


STRETCHED = np.diag([-1.2, 2.4, 5, 1])


def test_pixels_of_slices_are_squares() -> None:
    """A disc of the scanner's stays a disc, of 20 mm, in image, lesion and box."""
    x, y = np.meshgrid(1.2 * np.arange(40), 2.4 * np.arange(20), indexing="ij")
    disc = np.hypot(x - 24, y - 24) < 10
    image = np.where(disc, 500, 100 + np.add.outer(np.arange(40), np.arange(20)))
    data = np.stack([image] * 4, -1).astype(np.float32)
    lesion = np.stack([disc] * 4, -1)
    volume = volume_of(Nifti1Image(data, STRETCHED))
    (one,) = cut(volume, replace(PLAIN, slices=2), lesion[::-1])
    assert one.image.shape == (40, 40)
    for seen in (one.image > 400, one.lesion):
        width, height = np.ptp(np.argwhere(seen), axis=0) + 1
        assert abs(width - height) <= 1
        assert abs(1.2 * width - 20) < 2.5
    np.testing.assert_allclose(np.linalg.norm(one.geometry.slice_affine[:3, :2], axis=0), 1.2)
    centre = one.geometry.slice_affine @ [*np.argwhere(one.image > 400).mean(0), 0, 1]
    expected = volume.affine @ [*np.argwhere(volume.data[..., 2] > 400).mean(0), 2, 1]
    np.testing.assert_allclose(centre, expected, atol=0.7)
    (boxed,) = cut(volume, replace(PLAIN, slices=2), boxes={2: [(10, 5, 10, 5)]})
    assert np.ptp(np.argwhere(boxed.lesion), axis=0).tolist() == [9, 9]


@pytest.mark.parametrize(
    ("dice", "millimetres", "words"),
    [
        (0.39, 9, "covers the template's with a Dice of 0.39, below 0.8"),
        (0.95, 1, "its brain has 1 ml, outside of 400 to 2800"),
        (0.95, 20, "outside of 400 to 2800"),
    ],
)
def test_a_brain_that_cannot_be_one_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, dice: float, millimetres: float, words: str
) -> None:
    monkeypatch.setattr(cutting, "register", lambda *_: np.eye(4))
    monkeypatch.setattr(cutting, "brain_dice", lambda *_: dice)
    affine = np.diag([*[float(millimetres)] * 3, 1.0])
    head = Volume(data(1), affine, SHAPE, affine, name="head")
    steps = replace(PLAIN, register=True, brain_mask="nonzero")
    with pytest.raises(ImplausibleError, match=f"^head: .*{words}"):
        cutting.cut(head, steps)
