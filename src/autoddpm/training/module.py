"""One LightningModule for all families of models: from healthy slices to weights."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import Timer
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from autoddpm.data.augmentation import augment
from autoddpm.data.sample import Batch
from autoddpm.data.shift import AGE_NUMBERS, SCAN_NUMBERS, age, scan
from autoddpm.models.trained import build_model
from autoddpm.random import Draw, Stage, normal, slice_keys, uniform


class TrainingModule(LightningModule):
    """Fits a model to healthy slices.

    model: its configuration (plain containers), kept in the checkpoint to build it again.
    data: `hash`, `size`, `train_subjects` and `preparation` of the training data, kept in the
        checkpoint.
    objective: configuration of what the model is trained on, if its family has such a choice.
    lr: of AdamW, after a linear warm-up. From there it falls as a cosine to 0, at the trainer's
        last step, or at the end of trainer.max_time if that comes first.
    weight_decay: of AdamW.
    warmup_steps: until `lr` is reached.
    augmentation: random affine and flip of each training slice.
    shift: share of the training slices that are changed as by another scanner or by age
        (`autoddpm.data.shift`).
    seed: all of training's randomness is a function of (seed, slice id, epoch), validation's of
        (seed, slice id).
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        data: Mapping[str, Any],
        objective: Mapping[str, Any] | None = None,
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 100,
        augmentation: bool = True,
        shift: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if not 0 <= shift <= 1:
            raise ValueError(f"module.shift={shift}: must be in [0, 1]")
        if not 0 < lr < math.inf:
            raise ValueError(f"module.lr={lr}: must be above 0")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"module.weight_decay={weight_decay}: must be 0 or more")
        self.seed, self.augmentation, self.shift = seed, augmentation, shift
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = build_model(model, **({"objective": objective} if objective else {}))
        # A look for NaN would wait for the device, and is not needed: a NaN stays one.
        means: dict[str, Metric | MetricCollection] = {
            f"val/{name}": MeanMetric("disable") for name in self.model.validation_names
        }
        self.validation = MetricCollection(means, compute_groups=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        keys = slice_keys(self.seed, batch.id, batch.image.device)
        image = self.augmented(batch.image, keys, batch.epoch)
        loss = self.model.loss(image, keys, batch.epoch).mean()
        # With prog_bar it would wait for the device at each step.
        self.log("train/loss", loss, batch_size=len(image))
        return loss

    def seen(self, batch: Batch, epoch: Tensor) -> Tensor:
        """A batch's images as the network sees them in an epoch."""
        keys = slice_keys(self.seed, batch.id, batch.image.device)
        return self.model.seen(self.augmented(batch.image, keys, epoch), keys, epoch)

    def augmented(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Training images as they are seen in an epoch: older, moved, from another scanner."""
        others = uniform(
            keys, 1 + AGE_NUMBERS + SCAN_NUMBERS, Stage.TRAINING, Draw.SHIFT, epoch
        ).float()
        others = torch.where(others[:, :1] < self.shift, others[:, 1:], 1.0)  # 1 changes nothing
        if self.shift:
            image = age(image, others[:, :AGE_NUMBERS])
        if self.augmentation:
            image = augment(image, uniform(keys, 5, Stage.TRAINING, Draw.AUGMENT, epoch).float())
        if self.shift:
            normals = normal(keys, 2 * image[0, 0].numel(), Stage.TRAINING, Draw.GRAIN, epoch)
            image, _ = scan(image, others[:, AGE_NUMBERS:], normals.view(-1, 2, *image.shape[-2:]))
        return image

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        keys = slice_keys(self.seed, batch.id, batch.image.device)
        for name, values in self.model.validation_losses(batch.image, keys).items():
            self.validation[f"val/{name}"].update(values)
        # A plain mean is wrong if ranks differ in size.
        self.log_dict(self.validation, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> Any:
        weights = cast(nn.Module, self.model).parameters()
        optimizer = torch.optim.AdamW(weights, lr=self.lr, weight_decay=self.weight_decay)
        total = self.trainer.estimated_stepping_batches  # infinite if only a time ends the training
        callbacks = getattr(self.trainer, "callbacks", ())
        timer = next((one for one in callbacks if isinstance(one, Timer)), None)
        # Several processes would each have a learning rate by its own clock.
        if timer is not None and getattr(self.trainer, "world_size", 1) > 1:
            raise ValueError("trainer.max_time: only on one process; say trainer.max_steps instead")

        def factor(step: int) -> float:
            if step < self.warmup_steps:
                return (step + 1) / self.warmup_steps
            progress = (step - self.warmup_steps) / max(1, total - self.warmup_steps)
            if timer is not None:
                elapsed, left = timer.time_elapsed(), max(0.0, timer.time_remaining() or 0.0)
                progress = max(progress, elapsed / max(1e-9, elapsed + left))
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
