"""ixi_stroke: built from a small folder in IXI's layout, twice, with equal bytes; and read."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_table
from PIL import Image
from tiny import one_thread as one_thread

from autoddpm.data.image_file import read_image, read_lesion
from autoddpm.data.preprocess import window98
from autoddpm.data.sample import Record
from autoddpm.datasets.ixi_stroke import Recipe, build_ixi_stroke, ixi_stroke, plan
from autoddpm.datasets.phantom.phantoms import phantom_slice

RECIPE = Recipe(per_group=2)


def write_heads(root: Path, splits: list[str]) -> Path:
    """Phantom heads on the template's grid in IXI's layout."""
    (root / "slices").mkdir()
    rows = [["subject", "file", "split"]]
    for number, split in enumerate(splits):
        image = (255 * window98(phantom_slice("healthy_val", number)[0])).round()
        name = f"IXI{number:03d}"
        Image.fromarray(image.astype(np.uint8)).save(root / "slices" / f"{name}.png")
        rows.append([name, f"{name}.png", split])
    write_table(root / "split.csv", rows)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heads of split test, and one to train on, as PNG."""
    return write_heads(tmp_path_factory.mktemp("ixi"), ["test"] * 3 + ["train"])


@pytest.fixture(scope="module")
def built(root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "ixi_stroke"
    build_ixi_stroke(root, folder, RECIPE)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_the_same_slices_give_the_same_bytes(root, built, tmp_path):
    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    build_ixi_stroke(elsewhere, tmp_path / "again", RECIPE)
    assert digests(tmp_path / "again") == digests(built)
    assert len(digests(built)) == 9 + 6 + 2  # slices, lesions, index and settings


def test_every_subject_is_healthy_once_and_each_size_is_as_asked(built):
    records = ixi_stroke(built)
    assert len(records) == 3 + 3 * 2
    assert sum(record.lesion is None for record in records) == 3
    assert {record.split for record in records} == {"test"}
    assert {record.subject for record in records} == {"IXI000", "IXI001", "IXI002"}
    index = pd.read_csv(built / "index.csv")
    assert index["size_group"].value_counts().to_dict() == {
        "healthy": 3,
        "small": 2,
        "medium": 2,
        "large": 2,
    }
    assert (index.loc[index["lesion_file"].notna(), "contrast"] < 0.1).all()


def test_its_slices_are_in_0_to_1_as_they_are(root, built):
    for record in ixi_stroke(built):
        image = read_image(record.images["T1"])
        assert record.windowed
        assert image.shape == (233, 197)
        assert image.max() == pytest.approx(1, abs=1e-6)
        if record.lesion is not None:
            assert read_lesion(record.lesion, image, record.images["T1"]).pixels.any()
    whole = pd.read_csv(built / "index.csv").query("not shifted and size_group == 'healthy'")
    for row in whole.itertuples():
        original = window98(read_image(root / "slices" / f"{row.subject}.png"))
        np.testing.assert_allclose(read_image(built / row.file), original, atol=0.5 / 255 + 1e-6)


def test_half_of_each_kind_is_shifted():
    records = [
        Record(f"ixi/{n}", f"IXI{n:03d}", "test", {"T1": Path(f"{n}.png")}) for n in range(81)
    ]
    planned = list(plan(records, Recipe()))
    for group, count in (("healthy", 81), ("small", 63), ("medium", 63), ("large", 63)):
        chosen = [one for one in planned if one.group == group]
        assert len({one.of.subject for one in chosen}) == len(chosen) == count
        assert sum(one.is_shifted for one in chosen) == count // 2


def test_a_second_call_changes_nothing(root, built):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    build_ixi_stroke(root, built, RECIPE)
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before
    assert not list(built.parent.glob(".*"))


def test_a_folder_of_something_else_is_left_alone(root, built, tmp_path):
    with pytest.raises(ValueError, match="was built from other slices"):
        build_ixi_stroke(root, built, Recipe(per_group=1))
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="not written by this command"):
        build_ixi_stroke(root, tmp_path / "mine", RECIPE)


def test_what_cannot_be_used_is_named(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "ixi")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(
        copy / "slices" / "IXI001.png"
    )
    with pytest.raises(ValueError, match=r"IXI001\.png: has \(64, 64\) pixels, not 233 x 197"):
        build_ixi_stroke(copy, tmp_path / "out", RECIPE)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))
    (copy / "split.csv").write_text("subject,file,split\nIXI003,IXI003.png,train\n")
    with pytest.raises(ValueError, match="no subject of split test"):
        build_ixi_stroke(copy, tmp_path / "out", RECIPE)


def test_without_it_the_command_that_builds_it_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"src\.prepare \+experiment=ixi_stroke paths\.ixi=DIR"
    ):
        ixi_stroke(tmp_path / "ixi_stroke")
    (tmp_path / "old" / "images").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"old: was not written by src\.prepare .*paths\.ixi_stroke=DIR"
    ):
        ixi_stroke(tmp_path / "old")
