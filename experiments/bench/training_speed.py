"""Training: Lightning's loop as src.train has it, and a bare PyTorch loop over the same network and
batch."""

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_speed import random_slices
from detection_speed import configuration, device, images, network
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from turns import Variants

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.machine.acceleration import Acceleration
from autoddpm.machine.memory import can_keep_freed_memory, keep_freed_memory
from autoddpm.machine.progress import TimeLeft, quiet_lightning
from autoddpm.training.callbacks import EMA
from autoddpm.training.module import TrainingModule

SLICES = 64


class StepTimes(Callback):
    """Seconds from the end of each step to the end of the next: data, logging and averaging are in
    them."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def bare(model: str, size: int, batch: int, steps: int) -> Variants:
    """One fixed batch, noise and times from the global stream, no average, no log, no data."""
    if can_keep_freed_memory():
        keep_freed_memory()
    return {
        "step bf16": lambda: _bare_step(model, size, batch, steps, torch.bfloat16),
        "step fp32": lambda: _bare_step(model, size, batch, steps, torch.float32),
    }


def lightning(model: str, size: int, batch: int, steps: int) -> Variants:
    """Slices from a store, augmentation, noise by identity, averaged weights, a CSV log."""
    quiet_lightning()
    warnings.filterwarnings("ignore", module="lightning|torchvision")
    return {"step bf16": lambda: _lightning_step(model, size, batch, steps)}


def _bare_step(model: str, size: int, batch: int, steps: int, precision: torch.dtype) -> float:
    ddpm = network(model).to(device()).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(ddpm.parameters(), lr=1e-4)
    x0, ends = ddpm.encode(images(batch, size)), []
    for _ in range(steps):
        with torch.autocast(device(), precision, enabled=precision != torch.float32):
            t = torch.randint(1, 1001, (batch,), device=x0.device)
            loss = ddpm.noise_error(x0, t, torch.randn_like(x0)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(ddpm.parameters(), 1.0)
        optimizer.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
    return _mean_step(ends)


def _lightning_step(model: str, size: int, batch: int, steps: int) -> float:
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        data = SliceDataModule(
            {"bench": lambda: random_slices(Path(folder), SLICES, size)},
            ["bench"],
            [],
            [],
            size,
            Path(folder) / "store",
            batch,
        )
        module = TrainingModule(
            configuration(model), {"hash": "bench", "size": size, "train_subjects": []}
        )
        trainer = Trainer(
            accelerator=device(),
            devices=1,
            precision="bf16-mixed",
            max_steps=steps,
            gradient_clip_val=1.0,
            callbacks=[Acceleration(), EMA(), TimeLeft(), times],
            logger=CSVLogger(folder),
            log_every_n_steps=4,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=data)
    return _mean_step(times.ends)


def _mean_step(ends: list[float]) -> float:
    """Without the first, which allocates."""
    return float(np.diff(ends)[1:].mean())
