"""Training does not wait for its device: nothing in a step, or in validation, asks for a value of a
tensor.

Shown on a CPU, by every operation that PyTorch is asked for; on a GPU also by its own check
(test_gpu_speed.py).
"""

import logging
from collections import Counter
from typing import Any

import pytest
import torch
from conftest import Site, compose_config
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from tiny import Waits
from tiny import one_thread as one_thread

from autoddpm.models.trained import build_model
from autoddpm.random import slice_keys
from autoddpm.training.module import TrainingModule

HOST = r"torch/(optim/adam|optim/optimizer|utils/data/dataloader)\.py"
STEPS = 6


class Watch(Callback):
    """Waits from the end of the first step to the end of the last, and in validation."""

    def __init__(self, asks: bool = False) -> None:
        self.mode, self.asks, self.on = Waits(HOST), asks, False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        if self.asks:
            outputs["loss"].item()
        if trainer.global_step == 1:
            self.mode.__enter__()
            self.on = True
        elif trainer.global_step == STEPS - 1 and self.on:
            self.mode.__exit__(None, None, None)
            self.on = False


def train(site: Site, watch: Watch) -> Counter[str]:
    cfg = compose_config(
        "train", "+experiment=ixi", "model=tiny", "data.size=32", "data.batch_size=4", *site.paths
    )
    data = instantiate(cfg.data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    model = OmegaConf.to_container(cfg.model, resolve=True)
    objective = model.pop("objective") | {"t_focus_share": 0.5}
    module = TrainingModule(model, {"size": 32}, objective, shift=1.0)
    del cfg.callbacks.picture, cfg.callbacks.seen, cfg.callbacks.best, cfg.callbacks.last
    callbacks = [*instantiate(cfg.callbacks).values(), watch]
    trainer = Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        logger=False,
        enable_checkpointing=False,
        callbacks=callbacks,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        log_every_n_steps=100,
        precision="bf16-mixed",
    )
    trainer.fit(module, datamodule=data)
    return watch.mode.seen


def test_a_training_step_with_every_callback_waits_for_nothing(site, caplog):
    caplog.set_level(logging.ERROR)
    assert train(site, Watch()) == Counter()


def test_a_wait_is_found(site):
    assert train(site, Watch(asks=True))["_local_scalar_dense"] == STEPS - 2


@pytest.mark.parametrize("name", ["dae", "cevae", "pddpm", "restoration"])
def test_a_step_of_the_other_families_waits_for_nothing(name: str) -> None:
    cfg = compose_config("train", f"model={name}").model
    model = build_model(OmegaConf.to_container(cfg, resolve=True))
    image, keys = torch.rand(2, 1, 32, 32), slice_keys(0, ["a", "b"])
    with Waits() as waits:
        model.loss(image, keys, torch.zeros(2).long()).mean().backward()
    assert waits.seen == Counter()
