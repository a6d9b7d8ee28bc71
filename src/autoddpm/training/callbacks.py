"""Lightning callbacks of training: averaged weights, the last checkpoint, a picture."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from autoddpm.atomic import written_whole
from autoddpm.data.image_file import write_picture
from autoddpm.models.model import Model, Trained
from autoddpm.models.weights_file import write_weights
from autoddpm.training.module import TrainingModule


class EMA(WeightAveraging):
    """Exponential moving average of the weights, with a warm-up.

    After n updates the decay is min(decay, (1+n)/(10+n)). Without the warm-up, .999 would still
    keep 44 % of the initial weights after 820 steps. Validation and the checkpoint's `state_dict`
    use the average. The updates are counted here: `AveragedModel` counts them on the device, and
    would wait for it at each step.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__(use_buffers=False)
        self.decay, self._updates = decay, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # It was copied before the module was moved: each step would copy the weights to the CPU.
        if self._average_model is not None:
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
    """Keeps `last.ckpt`, written at intervals and at the last step, whatever ends the training.

    dirpath: the folder of `last.ckpt`.
    every_n_steps: optimiser steps between two checkpoints.
    every_minutes: time between two, instead of steps, for trainings that a time ends
        (trainer.max_time). On one process alone.
    """

    def __init__(
        self, dirpath: str | Path, every_n_steps: int = 100, every_minutes: float | None = None
    ) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_steps, self.every_minutes = every_n_steps, every_minutes
        self._saved_at, self._minute = -1, time.monotonic() / 60

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Each process would go by its own clock.
        if self.every_minutes is not None and trainer.world_size > 1:
            raise ValueError(
                "callbacks.last.every_minutes: only on one process; leave it and +ending=time out, "
                "and say trainer.max_steps instead"
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if self.every_minutes is None:
            is_due = step > 0 and step % self.every_n_steps == 0
        else:
            is_due = time.monotonic() / 60 - self._minute >= self.every_minutes
        is_last = step == trainer.max_steps or trainer.should_stop
        if (is_due or is_last) and step != self._saved_at:
            self._saved_at, self._minute = step, time.monotonic() / 60
            trainer.save_checkpoint(self.path)


class ReconstructionPicture(Callback):
    """Writes a PNG of validation slices (top) and what the model makes of them (below).

    It is before `EMA` in the list of callbacks, so that it sees the averaged weights.
    """

    def __init__(self, dirpath: str | Path, every_n_validations: int = 5, slices: int = 6) -> None:
        self.dirpath, self.every_n_validations = Path(dirpath), every_n_validations
        self.slices, self._validations = slices, 0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        self._validations += 1
        is_last = trainer.global_step >= trainer.max_steps or trainer.should_stop
        if self._validations % self.every_n_validations and not is_last:
            return
        batch = next(iter(_loaders(trainer.val_dataloaders)))
        image = batch.image[: self.slices].to(pl_module.device)
        made = cast(Model, pl_module.model).example(image, batch.id[: self.slices])
        rows = [torch.cat(list(_planes(images)), dim=1) for images in made.values()]
        save(rows, self.dirpath / f"reconstruction_step{trainer.global_step:07d}.png")


class TrainingPicture(Callback):
    """Writes a PNG of training images, as the network sees them: changed, noised or corrupted.

    dirpath: the folder of `training.png`.
    images: how many; they are the first of the training set, again and again, as in later epochs.
    across: images per row.
    """

    def __init__(self, dirpath: str | Path, images: int = 64, across: int = 8) -> None:
        self.path = Path(dirpath) / "training.png"
        self.images, self.across = images, across

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step or not trainer.is_global_zero or self.path.is_file():
            return
        seen: list[torch.Tensor] = []
        epoch = batch.epoch
        while sum(len(images) for images in seen) < self.images:
            seen.append(cast(TrainingModule, pl_module).seen(batch, epoch))
            epoch = epoch + 1
        planes = torch.cat([_planes(images) for images in seen])[: self.images]
        rows = [torch.cat(list(row), dim=1) for row in planes.split(self.across)]
        missing = rows[0].shape[1] - rows[-1].shape[1]
        rows[-1] = torch.nn.functional.pad(rows[-1], (0, missing))
        save(rows, self.path)


def save(rows: list[torch.Tensor], path: Path) -> None:
    """Write rows of pixels in [0, 1], below each other, as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        write_picture(temporary, torch.cat(rows).clamp(0, 1).float().cpu().numpy())


def _planes(images: torch.Tensor) -> torch.Tensor:
    """(B, H, W): all channels below each other, and the middle plane of a volume."""
    planes = images if images.ndim == 4 else images[..., images.shape[-1] // 2]
    return planes.flatten(1, 2)


def _loaders(loaders: Any) -> Iterable[Any]:
    return loaders[0] if isinstance(loaders, (list, tuple)) else loaders


class WeightsExport(Checkpoint):
    """Writes the averaged weights to a weights file while training goes on.

    A training that is cut off can still be used. This is a `Checkpoint`, since Lightning calls
    these last: after `EMA`, and after what ends a training by its time.

    path: of the file, x.safetensors, in half precision.
    every_minutes: how often. It is written at the last step too.
    shard_bytes: split into files of at most as many bytes.
    """

    def __init__(
        self, path: str | Path, every_minutes: float = 1.0, shard_bytes: int | None = None
    ) -> None:
        self.path, self.every_minutes, self.shard_bytes = Path(path), every_minutes, shard_bytes
        self._began = self._written = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = self._written = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        now = time.monotonic()
        is_last = trainer.global_step == trainer.max_steps or trainer.should_stop
        if not trainer.is_global_zero or not (
            is_last or now - self._written >= 60 * self.every_minutes
        ):
            return
        self._written = now
        ema = next((one for one in trainer.callbacks if isinstance(one, EMA)), None)  # type: ignore[attr-defined]
        averaged = (
            ema._average_model.module
            if ema is not None and ema._average_model is not None
            else pl_module
        )
        hparams = dict(pl_module.hparams)
        model, data = hparams.pop("model"), hparams.pop("data")
        record = {"training": hparams, "minutes": round((now - self._began) / 60, 2)}
        trained = Trained(
            cast(Model, averaged.model), model, data, trainer.global_step, self.path, "", record
        )
        write_weights(trained, self.path, half=True, shard_bytes=self.shard_bytes)
