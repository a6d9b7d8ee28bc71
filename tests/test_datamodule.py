"""The data module: the training order, resume, evaluation, and the checks between data sets."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.data.ixi import ixi, ixi_stroke
from autoddpm.data.order import EvaluationOrder, TrainingOrder, training_rows
from autoddpm.data.slices import SliceRecord

DATA = Path(os.environ.get("AUTODDPM_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def slices(folder: Path, name: str, split: str, n: int, lesion_pixels: int = 0) -> list[SliceRecord]:
    """n slices of 16 x 16 whose mean tells them apart; one subject each."""
    folder.mkdir(exist_ok=True, parents=True)
    records = []
    for i in range(n):
        image = np.random.default_rng(i).integers(0, 200, (16, 16), dtype=np.uint8)
        path = folder / f"{name}{i}.png"
        Image.fromarray(image).save(path)
        lesion = None
        if lesion_pixels:
            mask = np.zeros(256, np.uint8)
            mask[:lesion_pixels] = 255
            lesion = folder / f"{name}{i}_lesion.png"
            Image.fromarray(mask.reshape(16, 16)).save(lesion)
        records.append(SliceRecord(f"{name}/{i:02d}", f"{name}{i}", split, path, lesion))
    return records


def data(folder: Path, train: int = 10, calibrate: int = 3, test: int = 5, **settings) -> SliceDataModule:
    records = (
        slices(folder / "train", "a", "train", train)
        + slices(folder / "val", "b", "val", calibrate)
        + slices(folder / "test", "c", "test", test, lesion_pixels=9)
    )
    settings = {"size": 16, "prepared": folder / "prepared", "batch_size": 2, "eval_batch_size": 2} | settings
    return SliceDataModule({"s": lambda: records}, ["s"], ["s"], ["s"], **settings)


class Recorder(LightningModule):
    """Learns one number, and writes down every training sample that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen: list[tuple[str, int]] = []
        self.places: list[tuple[int, int]] = []
        self.validated = 0

    def training_step(self, batch, batch_idx):
        self.seen += zip(batch.id, batch.epoch.tolist(), strict=True)
        self.places.append((self.current_epoch, batch_idx))
        return (self.weight * batch.image.mean()) ** 2

    def validation_step(self, batch, batch_idx):
        self.validated += len(batch.id)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    datamodule: SliceDataModule, folder: Path, max_steps: int, ckpt_path: Path | None = None, **settings
) -> Recorder:
    recorder = Recorder()
    trainer = Trainer(
        max_steps=max_steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=[ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)],
        **settings,
    )
    trainer.fit(recorder, datamodule, ckpt_path=ckpt_path)
    return recorder


def stream(n: int, samples: int, seed: int = 0, prefix: str = "a") -> list[tuple[str, int]]:
    rows, epochs = training_rows(seed, n, np.arange(samples))
    return [(f"{prefix}/{row:02d}", epoch) for row, epoch in zip(rows, epochs, strict=True)]


# --- the order of training -------------------------------------------------------------------------------------------


def test_each_epoch_of_the_stream_is_another_permutation_of_all_slices():
    rows, epochs = training_rows(0, 7, np.arange(21))
    assert epochs == [0] * 7 + [1] * 7 + [2] * 7
    parts = [rows[:7], rows[7:14], rows[14:]]
    assert all(sorted(part) == list(range(7)) for part in parts)
    assert len(set(map(tuple, parts))) == 3


def test_the_stream_is_a_function_of_seed_and_position_alone():
    whole, epochs = training_rows(3, 5, np.arange(40))
    some = np.array([33, 2, 17])
    assert training_rows(3, 5, some) == ([whole[i] for i in some], [epochs[i] for i in some])
    assert training_rows(4, 5, np.arange(40))[0] != whole


def test_the_ranks_together_consume_the_stream_of_one_process(monkeypatch):
    def batches(rank: int, world: int, batch_size: int):
        monkeypatch.setattr("autoddpm.data.order.rank_and_world", lambda: (rank, world))
        return list(TrainingOrder(24, batch_size, 0, lambda: 2))

    alone = batches(0, 1, 6)
    shares = [batches(rank, 3, 2) for rank in range(3)]
    assert len(alone) == len(shares[0]) == 4
    for j, (rows, epochs) in enumerate(alone):
        for rank in range(3):
            assert shares[rank][j] == (rows[rank::3], epochs[rank::3])


def test_a_set_smaller_than_the_batch_fills_it_and_counts_its_epochs():
    order = TrainingOrder(3, 8, 0, lambda: 0)
    assert len(order) == 1
    [(rows, epochs)] = order
    assert epochs == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(rows[:3]) == sorted(rows[3:6]) == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_follows_the_stream_over_epochs_and_through_validations(tmp_path, workers):
    recorder = fit(data(tmp_path, train=11, num_workers=workers), tmp_path, 13, val_check_interval=2)
    assert recorder.seen == stream(11, 26)
    assert recorder.validated == 5 * 3
    assert recorder.places == [(step // 5, step % 5) for step in range(13)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [1, 3, 4, 5, 6, 10])
def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(tmp_path, workers, step):
    settings = {"val_check_interval": 2}
    first = fit(data(tmp_path), tmp_path, step, **settings)
    resumed = fit(data(tmp_path, num_workers=workers), tmp_path, 12, tmp_path / f"step={step}.ckpt", **settings)
    assert first.seen + resumed.seen == stream(10, 24)
    assert first.places + resumed.places == [(step // 5, step % 5) for step in range(12)]


def test_a_training_killed_between_checkpoints_goes_on_from_the_last_one(tmp_path):
    straight = fit(data(tmp_path), tmp_path, 9)
    resumed = fit(data(tmp_path), tmp_path, 9, tmp_path / "step=3.ckpt")
    assert resumed.seen == straight.seen[6:]
    assert torch.equal(resumed.weight, straight.weight)


def test_gradient_accumulation_that_does_not_divide_the_epoch_keeps_the_order(tmp_path):
    straight = fit(data(tmp_path), tmp_path, 7, accumulate_grad_batches=2)  # 5 batches are 3 steps
    assert straight.seen == stream(10, 24)
    resumed = fit(data(tmp_path), tmp_path, 7, tmp_path / "step=4.ckpt", accumulate_grad_batches=2)
    assert resumed.seen == straight.seen[14:]


def test_shortened_epochs_keep_the_order(tmp_path):
    recorder = fit(data(tmp_path), tmp_path, 7, limit_train_batches=3)
    assert recorder.seen == stream(10, 14)


def test_lightning_is_not_told_that_the_loader_cannot_resume(tmp_path, recwarn):
    fit(data(tmp_path), tmp_path, 3)
    fit(data(tmp_path), tmp_path, 6, tmp_path / "step=3.ckpt")
    assert not [warning for warning in recwarn if "not resumable" in str(warning.message)]


# --- batches ---------------------------------------------------------------------------------------------------------


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
            file = np.asarray(Image.open(tmp_path / "test" / f"c{int(name[2:])}.png")).astype(np.float32)
            expected = np.clip(file / np.percentile(file, 98), 0, 1)
            np.testing.assert_allclose(image[0].numpy(), expected, atol=1e-6)


def test_slices_that_are_done_are_left_out_of_the_loader(tmp_path):
    module = data(tmp_path)
    assert [name for batch in module.loader("test", skip=["c/00", "c/03"]) for name in batch.id] == [
        "c/01",
        "c/02",
        "c/04",
    ]
    assert list(module.loader("test", skip=[f"c/{i:02d}" for i in range(5)])) == []


def test_the_ranks_share_the_slices_of_an_evaluation_without_padding(monkeypatch):
    shares = []
    for rank in range(3):
        monkeypatch.setattr("autoddpm.data.order.rank_and_world", lambda rank=rank: (rank, 3))
        order = EvaluationOrder([5, 6, 7, 8], batch_size=1)
        assert len(order) == len(list(order)) == [2, 1, 1][rank]
        shares += [row for rows, _ in order for row in rows]
    assert sorted(shares) == [5, 6, 7, 8]


def _test_on_rank(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    torch.set_num_threads(1)

    class Tester(Recorder):
        def test_step(self, batch, batch_idx):
            self.seen += [(name, rank) for name in batch.id]

    module = Tester()
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        use_distributed_sampler=False,
        enable_checkpointing=False,
        max_steps=5,
        limit_val_batches=0,
        **options,
    )
    trainer.fit(module, data(folder, train=9, test=3, eval_batch_size=1))
    trained, module.seen = module.seen, []
    trainer.test(module, data(folder, train=9, test=3, eval_batch_size=1), verbose=False)
    torch.save((trained, module.seen), folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_train_on_the_stream_and_test_every_slice_once(tmp_path):
    data(tmp_path, train=9, test=3)  # the files; both processes write the same
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_test_on_rank, (port, tmp_path), nprocs=2, start_method="fork")  # spawn imports for a minute
    trained, tested = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
    expected = stream(9, 20)
    assert trained[0] == expected[0::2]
    assert trained[1] == expected[1::2]
    assert tested == ([("c/00", 0), ("c/02", 0)], [("c/01", 1)])


# --- what the module knows -------------------------------------------------------------------------------------------


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
    def missing() -> list[SliceRecord]:
        raise AssertionError

    records = slices(tmp_path, "c", "test", 2)
    module = SliceDataModule({"s": lambda: records, "gone": missing}, [], [], ["s"], 16, tmp_path / "p")
    module.prepare_data()
    assert len(module.index("test")) == 2
    assert module.val_dataloader() == []
    with pytest.raises(ValueError, match="no source to train on"):
        module.train_dataloader()


# --- refusals, all before anything is trained ------------------------------------------------------------------------


def module_of(tmp_path: Path, train=(), calibrate=(), test=(), **sources: list[SliceRecord]) -> Callable[[], None]:
    listed = {name: partial(list, records) for name, records in sources.items()}
    return SliceDataModule(listed, train, calibrate, test, 16, tmp_path / "prepared").prepare_data


@pytest.mark.parametrize(("role", "split"), [("train", "train"), ("calibrate", "val")])
def test_a_lesion_slice_to_train_or_calibrate_on_is_refused(tmp_path, role, split):
    records = slices(tmp_path, "a", split, 3) + slices(tmp_path, "ill", split, 7, lesion_pixels=2)
    with pytest.raises(ValueError, match=rf"to {role} on.*ill0\.png.*and 2 more; move them"):
        module_of(tmp_path, **{role: ["s"]}, s=records)()


def test_one_pixel_of_lesion_is_still_healthy(tmp_path):
    module_of(tmp_path, train=["s"], s=slices(tmp_path, "a", "train", 3, lesion_pixels=1))()


def test_a_subject_in_two_splits_of_a_source_is_refused(tmp_path):
    records = slices(tmp_path, "a", "train", 3) + slices(tmp_path, "b", "test", 2)
    records[4] = replace(records[4], subject="a1")
    with pytest.raises(ValueError, match=r"subject a1 of s is in two splits: train \(.*a1\.png\) and test \(.*b1\.png"):
        module_of(tmp_path, test=["s"], s=records)()


def test_a_subject_of_one_source_to_train_on_is_refused_in_the_test_of_another(tmp_path):
    one, other = slices(tmp_path / "1", "a", "train", 3), slices(tmp_path / "2", "b", "test", 3)
    other[2] = replace(other[2], subject="a0")
    with pytest.raises(ValueError, match=r"subject a0 is used to train .* and to test .*b2\.png.*column `subject`"):
        module_of(tmp_path, train=["one"], test=["other"], one=one, other=other)()
    module_of(tmp_path, test=["other"], one=one, other=other)()


def test_one_id_for_two_slices_is_refused(tmp_path):
    one, other = slices(tmp_path / "1", "a", "train", 3), slices(tmp_path / "2", "b", "test", 3)
    other[2] = replace(other[2], id="a/01")
    with pytest.raises(ValueError, match=r"b2\.png and .*a1\.png have the same id 'a/01'"):
        module_of(tmp_path, train=["one"], test=["other"], one=one, other=other)()


def test_an_unknown_source_and_a_source_without_the_split_are_refused(tmp_path):
    records = slices(tmp_path, "a", "test", 3)
    with pytest.raises(ValueError, match="unknown source 'ixy'; the sources are s"):
        module_of(tmp_path, test=["ixy"], s=records)
    with pytest.raises(ValueError, match="no slice to calibrate on: s has none of split val"):
        module_of(tmp_path, calibrate=["s"], s=records)()
    with pytest.raises(ValueError, match="the source s lists no slice"):
        module_of(tmp_path, test=["s"], s=[])()


@pytest.mark.skipif(not (DATA / "ixi_stroke").is_dir(), reason=f"no ixi and ixi_stroke in {DATA} (AUTODDPM_DATA)")
def test_ixi_and_ixi_stroke_prepare_as_one_experiment(tmp_path):
    sources = {"ixi": partial(ixi, DATA / "ixi"), "ixi_stroke": partial(ixi_stroke, DATA / "ixi_stroke")}
    module = SliceDataModule(sources, ["ixi"], ["ixi"], ["ixi_stroke"], 64, tmp_path)
    module.prepare_data()
    assert [len(module.index(role)) for role in ("train", "calibrate", "test")] == [470, 30, 131]
    assert (module.index("test")["lesion_pixels_full"] > 0).sum() == 100
    assert module.index("test")["subject"].nunique() == 81
    batch = next(iter(module.train_dataloader()))
    assert batch.image.min() == 0
    assert batch.image.max() == 1
    assert not batch.lesion.any()
