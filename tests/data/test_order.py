"""The order of training: laws of the stream, and that Lightning follows it through interruptions
and processes."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.data.order import TrainingOrder, training_rows
from autoddpm.data.sample import Record


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def data(folder: Path, train: int = 10, test: int = 1, **settings) -> SliceDataModule:
    """Healthy slices of 16 x 16: a/00 ... to train, b/00 b/01 b/02 to calibrate, c/00 ... to
    test."""
    records = []
    for name, split, n in (("a", "train", train), ("b", "val", 3), ("c", "test", test)):
        for i in range(n):
            image = folder / f"{name}{i:02d}.png"
            if not image.exists():
                Image.fromarray(
                    np.random.default_rng([ord(name), i]).integers(0, 200, (16, 16), dtype=np.uint8)
                ).save(image)
            records.append(Record(f"{name}/{i:02d}", image.stem, split, {"T1": image}))
    settings = {
        "size": 16,
        "prepared": folder / "prepared",
        "batch_size": 2,
        "eval_batch_size": 1,
    } | settings
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
    datamodule: SliceDataModule,
    folder: Path,
    max_steps: int,
    ckpt_path: Path | None = None,
    **settings,
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
        callbacks=[
            ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        ],
        **settings,
    )
    trainer.fit(recorder, datamodule, ckpt_path=ckpt_path)
    return recorder


def stream(n: int, samples: int, seed: int = 0, prefix: str = "a") -> list[tuple[str, int]]:
    rows, epochs = training_rows(seed, n, np.arange(samples))
    return [(f"{prefix}/{row:02d}", epoch) for row, epoch in zip(rows, epochs, strict=True)]


# --- the order of training
# -------------------------------------------------------------------------------------------


def test_each_epoch_is_another_permutation_of_all_slices():
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


def test_a_set_smaller_than_a_batch_fills_it_with_later_epochs():
    order = TrainingOrder(3, 8, 0, lambda: 0)
    assert len(order) == 1
    [(rows, epochs)] = order
    assert epochs == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(rows[:3]) == sorted(rows[3:6]) == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_follows_the_stream_past_epochs_and_validations(tmp_path, workers):
    recorder = fit(
        data(tmp_path, train=11, num_workers=workers), tmp_path, 13, val_check_interval=2
    )
    assert recorder.seen == stream(11, 26)
    assert recorder.validated == 5 * 3
    assert recorder.places == [(step // 5, step % 5) for step in range(13)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [1, 3, 4, 5, 6, 10])
def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(tmp_path, workers, step):
    settings = {"val_check_interval": 2}
    first = fit(data(tmp_path), tmp_path, step, **settings)
    resumed = fit(
        data(tmp_path, num_workers=workers),
        tmp_path,
        12,
        tmp_path / f"step={step}.ckpt",
        **settings,
    )
    assert first.seen + resumed.seen == stream(10, 24)
    assert first.places + resumed.places == [(step // 5, step % 5) for step in range(12)]


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path):
    straight = fit(data(tmp_path), tmp_path, 9)
    resumed = fit(data(tmp_path), tmp_path, 9, tmp_path / "step=3.ckpt")
    assert resumed.seen == straight.seen[6:]
    assert torch.equal(resumed.weight, straight.weight)


def test_accumulation_that_does_not_divide_epochs_keeps_order(tmp_path):
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


# --- several processes
# ------------------------------------------------------------------------------------------------


class RankRecorder(Recorder):
    """Writes down also which process tests which slice."""

    def note_tested(self, batch, batch_idx):
        self.seen += [(name, self.global_rank) for name in batch.id]

    test_step = note_tested  # Lightning's name for it; it is no test of its own


def _test_on_rank(rank: int, port: int, folder: Path) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": "2",
    }
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    torch.set_num_threads(1)

    module = RankRecorder()
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
    trainer.fit(module, data(folder, train=9, test=3))
    trained, module.seen = module.seen, []
    trainer.test(module, data(folder, train=9, test=3), verbose=False)
    torch.save((trained, module.seen), folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_follow_the_stream_and_test_slices_once(tmp_path):
    data(tmp_path, train=9, test=3)  # the files; both processes write the same
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A fork would inherit the threads of autograd, if a test before this one went backward.
    mp.spawn(_test_on_rank, (port, tmp_path), nprocs=2)
    trained, tested = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
    expected = stream(9, 20)
    assert trained[0] == expected[0::2]
    assert trained[1] == expected[1::2]
    assert tested == ([("c/00", 0), ("c/02", 0)], [("c/01", 1)])
