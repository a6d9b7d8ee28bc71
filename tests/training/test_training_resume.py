"""Training repeats itself, and a training that was stopped ends as if it had not been, bit for
bit."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import SIZE, TINY_TRAINING, Site, Verb, compose_config, single_thread
from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf

from autoddpm.training.callbacks import EMA, LastCheckpoint
from autoddpm.training.checkpoint_io import AtomicCheckpointIO
from autoddpm.training.module import TrainingModule

STEPS = 7  # of 3 slices, of 8: an epoch is 2 steps, and batches span epochs


class PowerCutError(Exception):
    pass


class Curve(Callback):
    """Keeps each step's loss and the steps after which there was a validation; cuts the power
    before a step."""

    def __init__(self, cut_before: int | None = None) -> None:
        self.cut_before = cut_before
        self.losses: dict[int, float] = {}
        self.validations: dict[int, float] = {}

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step + 1 == self.cut_before:
            raise PowerCutError

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.losses[trainer.global_step] = outputs["loss"].item()

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.validations[trainer.global_step] = trainer.callback_metrics["val/loss"].item()


Train = Callable[..., tuple[Curve, dict[str, Any]]]


@pytest.fixture(scope="module")
def train(site: Site) -> Train:
    """Trains in a folder, or continues there, and gives the curve and what is in its checkpoint."""

    def run(
        folder: Path, cut_before: int | None = None, seed: int = 0
    ) -> tuple[Curve, dict[str, Any]]:
        cfg = compose_config("train", "+experiment=ixi", "model=tiny", *site.paths, f"seed={seed}")
        cfg.data.size, cfg.data.batch_size = SIZE, 3
        model = OmegaConf.to_container(cfg.model, resolve=True)
        assert isinstance(model, dict)
        module = TrainingModule(model, data={}, lr=1e-2, warmup_steps=2, seed=seed)
        curve, last = Curve(cut_before), folder / "last.ckpt"
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=STEPS,
            gradient_clip_val=1.0,
            val_check_interval=2,
            logger=False,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[curve, EMA(), LastCheckpoint(folder, every_n_steps=1)],
            plugins=[AtomicCheckpointIO()],
        )
        data = instantiate(cfg.data, _convert_="all")
        path = last if last.is_file() else None
        expected = nullcontext() if cut_before is None else pytest.raises(PowerCutError)
        with single_thread(), expected:
            trainer.fit(module, datamodule=data, ckpt_path=path)
        return curve, torch.load(last, weights_only=True)

    return run


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[Curve, dict[str, Any]]:
    """A training without a stop."""
    return train(tmp_path_factory.mktemp("whole"))


def same(a: Any, b: Any) -> bool:
    """Whether nested containers of tensors and numbers are equal, bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


STATE = (
    "global_step",
    "state_dict",
    "current_model_state",
    "averaging_state",
    "optimizer_states",
    "lr_schedulers",
)


def test_training_repeats_itself_and_differs_with_another_seed(
    whole: tuple[Curve, dict[str, Any]], train: Train, tmp_path: Path
) -> None:
    first, content = whole
    torch.rand(3)  # the global stream does not matter
    second, other_content = train(tmp_path / "b")
    another, _ = train(tmp_path / "c", seed=1)
    assert list(first.losses) == [1, 2, 3, 4, 5, 6, 7]
    assert list(first.validations) == [2, 4, 6]
    assert (first.losses, first.validations) == (second.losses, second.validations)
    assert all(same(content[key], other_content[key]) for key in STATE)
    assert all(first.losses[step] != another.losses[step] for step in first.losses)
    assert not same(content["state_dict"], content["current_model_state"])  # the average


@pytest.mark.parametrize("cut_before", [[3], [2, 6]])  # at the end and in the middle of an epoch
def test_a_stopped_training_ends_as_if_it_had_not_been_stopped(
    cut_before: list[int], whole: tuple[Curve, dict[str, Any]], train: Train, tmp_path: Path
) -> None:
    uncut, expected = whole
    losses: dict[int, float] = {}
    for cut in (*cut_before, None):
        curve, content = train(tmp_path / "cut", cut)
        assert not losses.keys() & curve.losses.keys()  # no step is done twice
        losses |= curve.losses
        assert set(curve.validations.items()) <= set(uncut.validations.items())
    assert losses == uncut.losses
    for key in STATE:
        assert same(content[key], expected[key]), key


def test_the_verb_resumes_a_stopped_training_and_keeps_its_curve(
    verb: Verb, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", "+experiment=ixi", *TINY_TRAINING, *site.paths, f"paths.runs={tmp_path}")
    original = LastCheckpoint.on_train_batch_end

    def cut(self: LastCheckpoint, trainer: Trainer, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == 3:
            raise PowerCutError

    with monkeypatch.context() as power:
        power.setattr(LastCheckpoint, "on_train_batch_end", cut)
        assert verb(*command).code != 0
    (run,) = tmp_path.glob("ixi/train/*")
    assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == 2
    outcome = verb(*command)
    assert outcome.code == 0
    assert "continuing from" in outcome.out
    assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == 4
    tables = [pd.read_csv(path) for path in sorted(run.glob("csv/*/metrics.csv"))]
    steps = pd.concat(tables).dropna(subset="train/loss")["step"].tolist()
    assert steps[:2] == [0, 1]  # of before the stop
    assert steps[-2:] == [2, 3]
    assert all(column in tables[-1] for column in ("val/loss", "val/loss_t0001-0050"))
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert list((run / "pictures").glob("*.png"))
    assert not list(run.rglob(".[0-9]*"))
