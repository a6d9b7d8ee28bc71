"""Phantom lesions in real slices: where they lie, what they change, and that nobody is used
twice."""

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_ixi_stroke import write_heads

from autoddpm.data.image_file import read_image
from autoddpm.data.preprocess import window98
from autoddpm.datasets.implanted import implant, ixi_tuning
from autoddpm.datasets.ixi import ixi


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six heads on the template's grid in IXI's layout: four for validation, one to train and one
    to test on."""
    splits = ["val"] * 4 + ["train", "test"]
    return write_heads(tmp_path_factory.mktemp("ixi"), splits)


def test_half_of_the_subjects_calibrate_and_the_rest_are_tested(root, tmp_path):
    records = ixi_tuning(root, tmp_path, lesions=3)
    assert {r.subject for r in records if r.split == "val"} == {"IXI000", "IXI002"}
    assert {r.subject for r in records if r.split == "test"} == {"IXI001", "IXI003"}
    assert all(r.lesion is None for r in records if r.split == "val")
    assert sum(r.lesion is not None for r in records) == 2 * 3
    assert len({r.id for r in records}) == len(records) == 2 + 2 + 6


def test_an_implanted_lesion_is_darker_and_the_rest_is_untouched(root):
    (record,) = [r for r in ixi(root) if r.subject == "IXI001"]
    healthy = window98(read_image(record.images["T1"]))
    for group, (low, high) in enumerate(((2, 71), (60, 570), (400, 1500))):
        image, lesion = implant(healthy, (0, group))
        pixels = lesion.sum() * (128 / 233) ** 2
        assert low <= pixels <= high
        assert (image <= healthy + 1e-6).all()
        assert image[lesion].mean() < healthy[lesion].mean() - 0.15
        far = np.abs(image - healthy) < 1e-6
        assert far[~lesion].mean() > 0.95
        assert healthy[lesion].min() > 0.3  # no fluid


def test_it_is_drawn_once_and_the_same_again(root, tmp_path):
    first, second = (ixi_tuning(root, tmp_path / name, lesions=1) for name in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.images["T1"].read_bytes() == other.images["T1"].read_bytes()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.png")}
    ixi_tuning(root, tmp_path / "a", lesions=1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.png")} == before


def test_each_slice_of_a_shifted_test_set_changes_in_its_own_way(root, tmp_path):
    plain, shifted = (
        ixi_tuning(root, tmp_path, lesions=3, shifted=which) for which in ((), ("test",))
    )
    assert [r for r in shifted if r.split == "val"] == [r for r in plain if r.split == "val"]
    test = [r for r in shifted if r.split == "test"]
    assert sum(r.lesion is None for r in test) == 2 * 3
    assert sum(r.lesion is not None for r in test) == 2 * 3
    images = [
        read_image(r.images["T1"]) for r in test if r.subject == "IXI001" and r.lesion is None
    ]
    assert all(np.abs(one - other).max() > 10 for one, other in combinations(images, 2))


def test_the_slices_to_calibrate_on_can_be_of_the_target_s_kind(root, tmp_path):
    both, one = (
        ixi_tuning(root, tmp_path, lesions=1, shifted=which)
        for which in (("val", "test"), ("test",))
    )
    assert {r.id.rsplit("_", 1)[-1] for r in both if r.split == "val"} == {"h0"}
    written = {r.id: r.images["T1"].read_bytes() for r in one if r.split == "test"}
    assert written == {r.id: r.images["T1"].read_bytes() for r in both if r.split == "test"}


def test_a_slice_on_another_grid_is_refused(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "ixi")
    with Image.open(root / "slices" / "IXI000.png") as picture:
        picture.crop((0, 0, 64, 64)).save(copy / "slices" / "IXI001.png")
    with pytest.raises(ValueError, match=r"IXI001\.png: .*not 233 x 197"):
        ixi_tuning(copy, tmp_path / "phantoms", lesions=1)
