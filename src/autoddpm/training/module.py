"""Training of the DDPM: Algorithm 1 of Ho et al. (2020) with the paper's loss, Eq. (8)."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection

from autoddpm.data.augmentation import augment
from autoddpm.data.sample import Batch
from autoddpm.data.shift import AGE_NUMBERS, SCAN_NUMBERS, age, scan
from autoddpm.models.trained import build_ddpm
from autoddpm.random import Draw, Stage, normal, slice_keys, uniform

BINS = (0, 50, 100, 200, 300, 500, 1000)  # validation loss is logged for each of these ranges of t


class DDPMModule(LightningModule):
    """Fits a DDPM to healthy slices.

    model: configuration of the DDPM (plain containers), kept in the checkpoint so that it can be
        built again.
    data: `hash`, `size` and `train_subjects` of the training data, kept in the checkpoint.
    lr, weight_decay, warmup_steps: AdamW, a linear warm-up and then a cosine to 0 at the trainer's
        last step, or at the end of trainer.max_time if that comes first.
    augmentation: random affine and flip of each training slice.
    shift: share of the training slices that are changed as by another scanner or by age
        (`autoddpm.data.shift`).
    t_focus, t_focus_share: that share of the samples has t in 1..t_focus, the others in 1..T. The
        paper's detectors never visit t above 300 (the paper's share: 0, all of 1..T).
    min_snr: gamma of Min-SNR (Hang et al., ICCV 2023): a sample's loss counts min(SNR, gamma) /
        SNR, SNR being alpha_bar / (1 - alpha_bar) at its t. None: all count 1 (the paper's).
    seed: all of training's randomness is a function of (seed, slice id, epoch); validation's of
        (seed, slice id, bin).
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        data: Mapping[str, Any],
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 100,
        augmentation: bool = True,
        shift: float = 0.0,
        t_focus: int = 330,
        t_focus_share: float = 0.0,
        min_snr: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if not 0 <= t_focus_share < 1 or not 0 <= shift <= 1:
            raise ValueError(
                f"module: t_focus_share={t_focus_share}: in [0, 1); shift={shift}: in [0, 1]"
            )
        if min_snr is not None and not min_snr > 0:
            raise ValueError(f"module.min_snr={min_snr}: must be above 0, or null")
        self.seed, self.augmentation, self.shift = seed, augmentation, shift
        self.t_focus, self.t_focus_share, self.min_snr = t_focus, t_focus_share, min_snr
        self.lr, self.weight_decay, self.warmup_steps = lr, weight_decay, warmup_steps
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.ddpm = build_ddpm(model)
        ranges = [f"_t{low + 1:04d}-{high:04d}" for low, high in bins(self.ddpm.schedule.T)]
        means: dict[str, Metric | MetricCollection] = {
            f"val/loss{name}": MeanMetric("disable") for name in ["", *ranges]
        }  # a look for NaN would wait for the device, and is not needed: a NaN stays one
        self.validation = MetricCollection(means, compute_groups=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        keys = slice_keys(self.seed, batch.id, batch.image.device)
        image = self.augmented(batch.image, keys, batch.epoch)
        t = self.training_time(uniform(keys, 1, Stage.TRAINING, Draw.TIME, batch.epoch)[:, 0])
        eps = self.ddpm.noise(keys, image.shape[-2:], Stage.TRAINING, Draw.FORWARD, batch.epoch)
        loss = (self.weight(t) * self.ddpm.loss(self.ddpm.encode(image), t, eps)).mean()
        self.log(
            "train/loss", loss, batch_size=len(image)
        )  # prog_bar would wait for it at each step
        return loss

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

    def training_time(self, u: Tensor) -> Tensor:
        """(B,) uniforms in [0, 1) to times 1..T."""
        share, T = self.t_focus_share, self.ddpm.schedule.T  # noqa: N806
        anywhere = (u - share) / (1 - share) * T
        return (
            1
            + (
                torch.where(u < share, u / share * min(self.t_focus, T), anywhere)
                if share
                else u * T
            ).long()
        )

    def weight(self, t: Tensor) -> Tensor:
        """(B,) times to what each sample's loss counts in training."""
        alpha_bar = self.ddpm.schedule.alpha_bar[t]
        snr = alpha_bar / (1 - alpha_bar)
        return torch.ones_like(snr) if self.min_snr is None else snr.clamp(max=self.min_snr) / snr

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        keys = slice_keys(self.seed, batch.id, batch.image.device)
        x0, T = self.ddpm.encode(batch.image), self.ddpm.schedule.T  # noqa: N806
        mean = torch.zeros(len(x0), device=x0.device)
        for index, (low, high) in enumerate(bins(T)):
            u = uniform(keys, 1, Stage.VALIDATION, Draw.TIME, index)[:, 0]
            t = 1 + low + (u * (high - low)).long()
            eps = self.ddpm.noise(keys, x0.shape[-2:], Stage.VALIDATION, Draw.FORWARD, index)
            loss = self.ddpm.loss(x0, t, eps)
            mean += loss * (high - low) / T
            self.validation[f"val/loss_t{low + 1:04d}-{high:04d}"].update(loss)
        self.validation["val/loss"].update(mean)
        self.log_dict(
            self.validation, on_step=False, on_epoch=True
        )  # a plain mean is wrong where ranks differ in size

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.ddpm.parameters(), lr=self.lr, weight_decay=self.weight_decay
        )
        total = (
            self.trainer.estimated_stepping_batches
        )  # infinite if only the time ends the training
        callbacks = getattr(self.trainer, "callbacks", ())
        timer = next(
            (one for one in callbacks if isinstance(one, Timer)), None
        )  # of trainer.max_time
        if (
            timer is not None and getattr(self.trainer, "world_size", 1) > 1
        ):  # each would have a learning rate by its own clock
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


def bins(T: int) -> Sequence[tuple[int, int]]:  # noqa: N803
    """The ranges (low, high] of t for which validation loss is logged, up to T."""
    edges = [edge for edge in BINS if edge < T] + [T]
    return list(pairwise(edges))
