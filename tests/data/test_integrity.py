"""What the integrity report finds: leaks, twins, doubtful slices; and what it does not cry wolf
about."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import REAL_DATA
from PIL import Image
from scipy import ndimage

from autoddpm.data.integrity import ALIGNED, Finding, inspect, leaks_between, twins
from autoddpm.data.preprocess import preprocess

IXI = REAL_DATA / "ixi" / "slices"
SIZE = 64


def head(seed: int) -> np.ndarray:
    """A smooth texture within a disc, as a head that no other seed has."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    texture = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 4)
    return ((np.hypot(x, y) < 26) * (0.5 + 0.3 * texture / texture.std()).clip(0, 1)).astype(
        np.float32
    )


def table(n: int, **columns: list[object]) -> pd.DataFrame:
    """The index of n healthy training slices of n subjects, with some columns otherwise."""
    index = pd.DataFrame(
        {
            "id": [f"s/{i}" for i in range(n)],
            "subject": [f"p{i}" for i in range(n)],
            "split": "train",
        }
    )
    return index.assign(
        **({"lesion_pixels": 0, "lesion_pixels_full": 0, "lesion_lost": False} | columns)
    )


def heads(n: int) -> np.ndarray:
    return np.stack([head(seed) for seed in range(n)])[:, None]


def slices_of(finding: Finding) -> tuple[str, ...]:
    return tuple(re.findall(r"\b[st]/\d+", finding.text))


def said(found: list[Finding]) -> list[tuple[tuple[str, ...], bool]]:
    return [(slices_of(finding), finding.is_leak) for finding in found]


def test_a_sound_set_has_no_findings() -> None:
    assert inspect(heads(6), table(6, split=["train", "train", "val", "val", "test", "test"])) == []
    assert twins(heads(6) + 3, table(6), "split") == []  # bright all over is not alike


COPIES = {
    "itself": lambda x: x,
    "another gamma": lambda x: x**1.2,
    "noise": lambda x: x + np.random.default_rng(9).normal(0, 0.02, x.shape).astype(np.float32),
    "another brightness": lambda x: 0.8 * x + 0.05,
}


@pytest.mark.parametrize("how", COPIES)
def test_one_head_under_two_names_is_a_leak_between_splits(how: str) -> None:
    images = heads(5)
    images[3] = COPIES[how](images[1])
    same = table(5)
    (finding,) = twins(images, same, "split")
    assert (slices_of(finding), finding.is_leak) == (("s/1", "s/3"), False)
    assert ("are identical" if how == "itself" else "nearly identical") in finding.text
    (finding,) = inspect(images, table(5, split=["train", "train", "val", "test", "val"]))
    assert (slices_of(finding), finding.is_leak) == (("s/1", "s/3"), True)
    assert "s/1 (train) and s/3 (test)" in finding.text


def test_below_64_pixels_only_an_identical_image_is_a_twin() -> None:
    images = heads(4)[..., ::2, ::2]
    images[2], images[3] = images[0] ** 1.01, images[1]
    assert [slices_of(finding) for finding in twins(images, table(4), "split")] == [("s/1", "s/3")]


def test_slices_of_one_subject_may_be_alike() -> None:
    images = heads(3)
    images[2] = images[0]
    assert twins(images, table(3, subject=["p", "q", "p"]), "split") == []


def test_twins_are_found_beyond_the_slices_compared_at_once() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((1030, 1, 8, 8)).astype(np.float32)
    images[1025], images[1029] = images[7], images[1026]
    found = twins(images, table(1030), "split")
    assert sorted(slices_of(finding) for finding in found) == [
        ("s/1026", "s/1029"),
        ("s/7", "s/1025"),
    ]


def test_volumes_are_compared_whole_if_their_middles_are_alike() -> None:
    rng = np.random.default_rng(0)
    volumes = rng.random((4, 1, 16, 16, 16)).astype(np.float32)
    volumes[2] = volumes[0]
    volumes[3, :, 8] = volumes[1, :, 8]
    assert [slices_of(finding) for finding in twins(volumes, table(4), "split")] == [("s/0", "s/2")]


def test_slices_that_differ_in_one_modality_are_no_twins() -> None:
    images = np.concatenate([heads(6)[:3], heads(6)[3:]], axis=1)
    images[2, 0] = images[0, 0]
    assert twins(images, table(3), "split") == []
    images[2, 1] = images[0, 1]
    assert [slices_of(finding) for finding in twins(images, table(3), "split")] == [("s/0", "s/2")]


def test_one_slice_has_no_twin() -> None:
    assert twins(heads(1), table(1), "split") == []
    assert twins(np.zeros((0, 1, SIZE, SIZE), np.float32), table(0), "split") == []


@pytest.mark.skipif(not IXI.is_dir(), reason=f"the slices of IXI are not at {IXI}")
def test_no_two_of_120_subjects_of_ixi_are_taken_for_one() -> None:
    paths = sorted(IXI.glob("*.png"))[:120]
    images = np.stack(
        [preprocess(np.asarray(Image.open(path), np.float32), None, 64).image for path in paths]
    )[:, None]
    assert twins(images, table(120), "split") == []
    images[50] = images[4] ** 1.2
    assert [slices_of(finding) for finding in twins(images, table(120), "split")] == [
        ("s/4", "s/50")
    ]


def test_a_subject_in_two_splits_is_a_leak() -> None:
    found = inspect(
        heads(4), table(4, subject=["p", "q", "p", "r"], split=["train", "val", "test", "train"])
    )
    assert said(found) == [((), True)]
    assert found[0].text == "subject p is in test, train"


def test_a_lesion_of_2_pixels_in_a_healthy_split_is_a_leak() -> None:
    splits = ["train", "val", "test", "train", "val"]
    found = inspect(heads(5), table(5, split=splits, lesion_pixels=[2, 500, 500, 1, 0]))
    assert said(found) == [(("s/0",), True), (("s/1",), True)]
    assert "s/1 has a lesion and is in val" in found[1].text


def test_a_slice_without_contrast_is_doubtful() -> None:
    images = heads(3)
    images[1] = 0.3
    images[2] *= 0.1
    assert said(inspect(images, table(3))) == [
        (("s/1",), False),
        (("s/2",), False),
    ]


def test_a_lesion_that_the_resize_lost_is_named_with_its_size() -> None:
    index = table(3, split="test", lesion_lost=[False, True, False], lesion_pixels_full=[40, 3, 0])
    (finding,) = inspect(heads(3), index)
    assert (slices_of(finding), finding.is_leak) == (("s/1",), False)
    assert "3 pixels" in finding.text


def test_a_poor_registration_and_a_skipped_volume_are_found() -> None:
    prepared = pd.DataFrame(
        [
            ["a", "", f"{ALIGNED + 0.01:.4f}"],
            ["b", "", "0.4000"],
            ["c", "", ""],
            ["d", "error: c.nii.gz: is not whole", ""],
            ["e", "artefact", ""],
        ],
        columns=["id", "excluded", "brain_dice"],
    )
    found = inspect(heads(3), table(3), prepared)
    assert not any(finding.is_leak for finding in found)
    first, second = (finding.text for finding in found)
    assert first.startswith("b: ")
    assert "0.40" in first
    assert second.startswith("error: c.nii.gz: is not whole")
    assert (
        inspect(heads(3), table(3), prepared.drop(columns="brain_dice").iloc[:3]) == []
    )  # none was registered


def test_one_head_in_training_and_test_is_a_leak_across_sets() -> None:
    images, others = heads(6)[:3], heads(6)[3:]
    others[1] = images[2] ** 1.1
    index, other = (
        table(3),
        table(3).assign(id=["t/0", "t/1", "t/2"], subject=["q0", "q1", "q2"], split="train"),
    )
    empty = np.zeros((0, 1, SIZE, SIZE), np.float32), table(0)
    (leak,) = leaks_between({"train": (images, index), "calibrate": empty, "test": (others, other)})
    assert (slices_of(leak), leak.is_leak) == (("s/2", "t/1"), True)
    assert "s/2 (train) and t/1 (test)" in leak.text
    both = np.concatenate([images, others])
    assert (
        leaks_between({"train": (both, pd.concat([index, other])), "test": empty}) == []
    )  # within one role
    assert leaks_between({"train": (images, index), "test": (heads(9)[6:], other)}) == []
