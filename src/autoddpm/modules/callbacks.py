"""Lightning callbacks of training: averaged weights, the last checkpoint, a picture."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from PIL import Image
from torch.optim.swa_utils import get_ema_multi_avg_fn

from autoddpm.atomic import written_whole
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.random import Stage
from autoddpm.diffusion.sampler import Ancestral, reconstruct


class EMA(WeightAveraging):
    """Exponential moving average of the weights with a warm-up: decay min(decay, (1+n)/(10+n)) after n updates.

    Validation and the checkpoint's `state_dict` use the average. Without the warm-up, .999 would still keep 44 % of the
    initial weights after 820 steps. The updates are counted here: `AveragedModel` counts them on the device, and would
    wait for it at each step.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__(use_buffers=False)
        self.decay, self._updates = decay, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._average_model is not None:  # copied before the module was moved: each step would copy it to the CPU
            self._average_model.to(pl_module.device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        self._updates = int(self._average_model.n_averaged)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step <= self._latest_update_step or self._average_model is None:
            return
        averaged = [p.detach() for p in self._average_model.module.parameters()]
        current, n = [p.detach() for p in pl_module.parameters()], self._updates
        if n:
            get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))(averaged, current, n)
        buffers = zip(self._average_model.module.buffers(), pl_module.buffers(), strict=True)
        for kept, new in [*buffers, *([] if n else zip(averaged, current, strict=True))]:
            kept.copy_(new)
        self._average_model.n_averaged += 1
        self._updates, self._latest_update_step = n + 1, trainer.global_step


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`: written every `every_n_steps` optimiser steps and at the last one."""

    def __init__(self, dirpath: str | Path, every_n_steps: int = 100) -> None:
        self.path, self.every_n_steps, self._saved_at = Path(dirpath) / "last.ckpt", every_n_steps, -1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        is_due = step > 0 and (step % self.every_n_steps == 0 or step == trainer.max_steps)
        if is_due and step != self._saved_at:
            self._saved_at = step
            trainer.save_checkpoint(self.path)


class ReconstructionPicture(Callback):
    """Writes a PNG of validation slices (top) and their reconstructions from noise level t (bottom), now and then.

    Stands before `EMA` in the list of callbacks, so that it sees the averaged weights.
    """

    def __init__(self, dirpath: str | Path, every_n_validations: int = 5, slices: int = 6, t: int = 200) -> None:
        self.dirpath, self.every_n_validations, self.slices, self.t = Path(dirpath), every_n_validations, slices, t
        self._validations = 0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        self._validations += 1
        if self._validations % self.every_n_validations and trainer.global_step < trainer.max_steps:
            return
        batch = next(iter(_loaders(trainer.val_dataloaders)))
        ddpm, image = cast(DDPM, pl_module.ddpm), batch.image[: self.slices].to(pl_module.device)
        noise = NoiseOf.batch(ddpm.noise, 0, batch.id[: self.slices], image, Stage.VALIDATION)
        x_hat = reconstruct(ddpm, Ancestral(stride=10), ddpm.encode(image), min(self.t, ddpm.schedule.T), noise)
        rows = [torch.cat(list(images[:, 0]), dim=1) for images in (image, ddpm.decode(x_hat))]
        pixels = (torch.cat(rows).cpu().numpy() * 255).round().astype(np.uint8)
        self.dirpath.mkdir(parents=True, exist_ok=True)
        destination = self.dirpath / f"reconstruction_step{trainer.global_step:07d}.png"
        with written_whole(destination) as temporary:
            Image.fromarray(pixels).save(temporary)


def _loaders(loaders: Any) -> Iterable[Any]:
    return loaders[0] if isinstance(loaders, (list, tuple)) else loaders
