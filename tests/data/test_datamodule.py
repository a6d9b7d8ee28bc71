"""The data module: batches, evaluation, and the checks between data sets (test_order.py has the
training order)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REAL_DATA
from PIL import Image
from tiny import one_thread as one_thread

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.data.order import EvaluationOrder
from autoddpm.data.sample import Record
from autoddpm.datasets.ixi import ixi


def slices(folder: Path, name: str, split: str, n: int, lesion_pixels: int = 0) -> list[Record]:
    """n slices of 16 x 16 whose mean tells them apart; one subject each."""
    folder.mkdir(exist_ok=True, parents=True)
    records = []
    for i in range(n):
        image = np.random.default_rng([i, *name.encode()]).integers(
            0, 200, (16, 16), dtype=np.uint8
        )
        path = folder / f"{name}{i}.png"
        Image.fromarray(image).save(path)
        lesion = None
        if lesion_pixels:
            mask = np.zeros(256, np.uint8)
            mask[:lesion_pixels] = 255
            lesion = folder / f"{name}{i}_lesion.png"
            Image.fromarray(mask.reshape(16, 16)).save(lesion)
        records.append(Record(f"{name}/{i:02d}", f"{name}{i}", split, {"T1": path}, lesion))
    return records


def data(
    folder: Path, train: int = 10, calibrate: int = 3, test: int = 5, **settings
) -> SliceDataModule:
    records = (
        slices(folder / "train", "a", "train", train)
        + slices(folder / "val", "b", "val", calibrate)
        + slices(folder / "test", "c", "test", test, lesion_pixels=9)
    )
    settings = {
        "size": 16,
        "prepared": folder / "prepared",
        "batch_size": 2,
        "eval_batch_size": 2,
    } | settings
    return SliceDataModule({"s": lambda: records}, ["s"], ["s"], ["s"], **settings)


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_holds_the_prepared_slices_under_their_names(tmp_path):
    module = data(tmp_path)
    module.setup()
    batches = list(module.test_dataloader())
    assert [len(batch.id) for batch in batches] == [2, 2, 1]
    assert [name for batch in batches for name in batch.id] == [f"c/{i:02d}" for i in range(5)]
    for batch in batches:
        assert batch.image.dtype == torch.float32
        assert batch.lesion.dtype == torch.bool
        assert batch.image.shape == batch.lesion.shape == (len(batch.id), 1, 16, 16)
        assert batch.epoch.tolist() == [0] * len(batch.id)
        assert batch.lesion.sum(dim=(1, 2, 3)).tolist() == [9] * len(batch.id)
        for image, name in zip(batch.image, batch.id, strict=True):
            file = np.asarray(Image.open(tmp_path / "test" / f"c{int(name[2:])}.png")).astype(
                np.float32
            )
            expected = np.clip(file / np.percentile(file, 98), 0, 1)
            np.testing.assert_allclose(image[0].numpy(), expected, atol=1e-6)


def test_slices_that_are_done_are_left_out_of_the_loader(tmp_path):
    module = data(tmp_path)
    left = [name for batch in module.loader("test", skip=["c/00", "c/03"]) for name in batch.id]
    assert left == ["c/01", "c/02", "c/04"]
    assert list(module.loader("test", skip=[f"c/{i:02d}" for i in range(5)])) == []


def test_ranks_share_the_slices_of_an_evaluation_unpadded(monkeypatch):
    shares = []
    for rank in range(3):
        monkeypatch.setattr("autoddpm.data.order.rank_and_world", lambda rank=rank: (rank, 3))
        order = EvaluationOrder([5, 6, 7, 8], batch_size=1)
        assert len(order) == len(list(order)) == [2, 1, 1][rank]
        shares += [row for rows, _ in order for row in rows]
    assert sorted(shares) == [5, 6, 7, 8]


# --- what the module knows -----------------------------------------------------------------------


def test_roles_use_their_split_of_their_sources(tmp_path):
    module = data(tmp_path)
    assert module.subjects("train") == [f"a{i}" for i in range(10)]
    assert module.subjects("calibrate") == ["b0", "b1", "b2"]
    assert list(module.index("test")["lesion_pixels"]) == [9] * 5
    assert module.size == 16


def test_the_hash_changes_with_a_pixel_of_its_own_role_only(tmp_path):
    before = data(tmp_path)
    hashes = {role: before.hash(role) for role in ("train", "calibrate", "test")}
    assert len(set(hashes.values())) == 3
    after = data(tmp_path)
    image = np.asarray(Image.open(tmp_path / "val" / "b1.png")).copy()
    image[3, 3] ^= 1
    Image.fromarray(image).save(tmp_path / "val" / "b1.png")
    assert after.hash("train") == hashes["train"]
    assert after.hash("test") == hashes["test"]
    assert after.hash("calibrate") != hashes["calibrate"]
    assert data(tmp_path, size=32).hash("train") != hashes["train"]


def test_only_the_sources_that_a_role_names_are_read(tmp_path):
    def missing() -> list[Record]:
        raise AssertionError

    records = slices(tmp_path, "c", "test", 2)
    module = SliceDataModule(
        {"s": lambda: records, "gone": missing}, [], [], ["s"], 16, tmp_path / "p"
    )
    module.prepare_data()
    assert len(module.index("test")) == 2
    assert module.val_dataloader() == []
    with pytest.raises(ValueError, match="no source to train on"):
        module.train_dataloader()


# --- refusals, all before anything is trained ----------------------------------------------------


def module_of(
    tmp_path: Path, train=(), calibrate=(), test=(), **sources: list[Record]
) -> Callable[[], None]:
    listed = {name: partial(list, records) for name, records in sources.items()}
    return SliceDataModule(listed, train, calibrate, test, 16, tmp_path / "prepared").prepare_data


@pytest.mark.parametrize(("role", "split"), [("train", "train"), ("calibrate", "val")])
def test_a_lesion_slice_to_train_or_calibrate_on_is_refused(tmp_path, role, split):
    records = slices(tmp_path, "a", split, 3, lesion_pixels=1)  # still healthy
    records += slices(tmp_path, "ill", split, 7, lesion_pixels=2)
    with pytest.raises(ValueError, match=rf"to {role} on.*ill0\.png.*and 2 more; move them"):
        module_of(tmp_path, **{role: ["s"]}, s=records)()


def test_a_subject_in_two_splits_of_a_source_is_refused(tmp_path):
    records = slices(tmp_path, "a", "train", 3) + slices(tmp_path, "b", "test", 2)
    records[4] = replace(records[4], subject="a1")
    with pytest.raises(
        ValueError,
        match=r"subject a1 of s is in two splits: train \(.*a1\.png\) and test \(.*b1\.png",
    ):
        module_of(tmp_path, test=["s"], s=records)()


def test_a_training_subject_is_refused_in_another_source_s_test(tmp_path):
    one, other = slices(tmp_path / "1", "a", "train", 3), slices(tmp_path / "2", "b", "test", 3)
    other[2] = replace(other[2], subject="a0")
    with pytest.raises(
        ValueError, match=r"subject a0 is used to train .* and to test .*b2\.png.*column `subject`"
    ):
        module_of(tmp_path, train=["one"], test=["other"], one=one, other=other)()
    module_of(tmp_path, test=["other"], one=one, other=other)()


def test_one_id_for_two_slices_is_refused(tmp_path):
    one, other = slices(tmp_path / "1", "a", "train", 3), slices(tmp_path / "2", "b", "test", 3)
    other[2] = replace(other[2], id="a/01")
    with pytest.raises(ValueError, match=r"b2\.png and .*a1\.png have the same id 'a/01'"):
        module_of(tmp_path, train=["one"], test=["other"], one=one, other=other)()


def test_a_source_that_is_unknown_or_lacks_the_split_is_refused(tmp_path):
    records = slices(tmp_path, "a", "test", 3)
    with pytest.raises(ValueError, match="unknown source 'ixy'; the sources are s"):
        module_of(tmp_path, test=["ixy"], s=records)
    with pytest.raises(ValueError, match="no slice to calibrate on: s has none of split val"):
        module_of(tmp_path, calibrate=["s"], s=records)()
    with pytest.raises(ValueError, match="the source s lists no slice"):
        module_of(tmp_path, test=["s"], s=[])()


@pytest.mark.skipif(not (REAL_DATA / "ixi").is_dir(), reason=f"no ixi in {REAL_DATA}")
def test_ixi_prepares_as_one_experiment(tmp_path):
    module = SliceDataModule(
        {"ixi": partial(ixi, REAL_DATA / "ixi")}, ["ixi"], ["ixi"], ["ixi"], 64, tmp_path
    )
    module.prepare_data()
    assert [len(module.index(role)) for role in ("train", "calibrate", "test")] == [470, 30, 81]
    batch = next(iter(module.train_dataloader()))
    assert batch.image.min() == 0
    assert batch.image.max() == 1
    assert not batch.lesion.any()


def test_one_slice_under_two_names_is_refused_unless_allowed(tmp_path, caplog):
    one = slices(tmp_path / "train", "a", "train", 3)
    other = replace(one[1], id="z/9", subject="z9", split="test")
    sources = {"s": lambda: [*one, *slices(tmp_path / "val", "b", "val", 2), other]}
    settings = {"size": 16, "prepared": tmp_path / "prepared"}
    with pytest.raises(
        ValueError, match=r"a/01 \(train\) and z/9 \(test\) are identical.*data.allow_leaks=true"
    ):
        SliceDataModule(sources, ["s"], ["s"], ["s"], **settings).setup()
    SliceDataModule(sources, ["s"], ["s"], ["s"], **settings, allow_leaks=True).setup()
    assert "a/01 (train) and z/9 (test)" in caplog.text


# --- how the slices were made --------------------------------------------------------------------


def prepared_alike(folder: Path, name: str, preparation: dict | None) -> list[Record]:
    return [
        replace(record, preparation=preparation)
        for record in slices(folder / name, name, "train", 2)
    ]


def test_the_preparation_of_all_training_sources_is_one(tmp_path):
    made = {"steps": {"n4": True}, "slices": 95, "modality": "T1"}
    other = made | {"slices": "85:106"}

    def module(**preparations: dict | None) -> SliceDataModule:
        sources = {
            name: partial(prepared_alike, tmp_path, name, preparation)
            for name, preparation in preparations.items()
        }
        train = [name for name in sources if name != "unused"]
        return SliceDataModule(sources, train, [], [], 16, tmp_path / "stores")

    assert module(a=made).preparation() == made
    assert module(a=made, b=dict(made), unused=other).preparation() == made
    assert module(a=None).preparation() is None
    assert module(a=made, b=None).preparation() is None
    assert module(a=made, b=other).preparation() is None
    assert SliceDataModule({}, [], [], [], 16, tmp_path).preparation() is None
    records = prepared_alike(tmp_path, "a", made)
    records[1] = replace(records[1], preparation=other)
    mixed = SliceDataModule({"a": lambda: records}, ["a"], [], [], 16, tmp_path / "stores")
    assert mixed.preparation() is None
