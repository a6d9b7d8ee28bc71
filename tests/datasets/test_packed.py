"""Stores in one file: lossless, the same data to every check, and damage refused by name."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import SIZE, Site

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.data.store import build_store
from autoddpm.datasets.ixi import ixi
from autoddpm.datasets.ixi_stroke import ixi_stroke
from autoddpm.datasets.packed import packed, write_packed

ROLES = {"train": ["ixi"], "calibrate": ["ixi"], "test": ["ixi_stroke"]}


@pytest.fixture(scope="module")
def sources(site: Site) -> dict:
    data = site.folder / "data"
    return {
        "ixi": partial(ixi, data / "ixi"),
        "ixi_stroke": partial(ixi_stroke, data / "ixi_stroke"),
    }


@pytest.fixture(scope="module")
def file(sources: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    stores = {name: build_store(name, source(), SIZE, folder) for name, source in sources.items()}
    return write_packed(stores, folder / "packed.npz")


def module(sources: dict, folder: Path, size: int = SIZE) -> SliceDataModule:
    made = SliceDataModule(sources, **ROLES, size=size, prepared=folder, batch_size=3)
    made.setup()
    return made


def test_a_packed_source_is_the_data_that_it_was_made_of(sources, file, tmp_path):
    plain = module(sources, tmp_path)
    taken = module({name: partial(packed, file, name) for name in sources}, tmp_path / "elsewhere")
    for role in ROLES:
        assert taken.hash(role) == plain.hash(role)
        assert (
            taken.index(role)
            .drop(columns=["image", "lesion"])
            .equals(plain.index(role).drop(columns=["image", "lesion"]))
        )
    for one, other in zip(plain.test_dataloader(), taken.test_dataloader(), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.lesion, other.lesion)
        assert one.id == other.id
    assert not (tmp_path / "elsewhere").exists()


def test_another_size_is_refused(sources, file, tmp_path):
    with pytest.raises(ValueError, match=rf"data\.size=64: .*packed\.npz has {SIZE} pixels a side"):
        module({name: partial(packed, file, name) for name in sources}, tmp_path, size=64)


def test_what_is_absent_or_damaged_is_named(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz: there is no such file; pack one"):
        packed(tmp_path / "nowhere.npz", "ixi")
    with pytest.raises(ValueError, match=r"packed\.npz: .*it holds ixi, ixi_stroke, and no atlas"):
        packed(file, "atlas")
    with np.load(file) as stored:
        arrays = {**stored, "about": np.array(str(stored["about"]).replace("[2,", "[1,", 1))}
    np.savez(tmp_path / "old.npz", **arrays)
    with pytest.raises(ValueError, match=r"old\.npz: .*by another version.*pack it again"):
        packed(tmp_path / "old.npz", "ixi")
    content = file.read_bytes()
    (tmp_path / "short.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"short\.npz: not a file of packed slices, or damaged"):
        packed(tmp_path / "short.npz", "ixi")
