"""AnoDDPM: noise to time t, denoise, compare (Wyatt et al., 2022; the paper's baseline)."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from autoddpm.detectors.anomaly_map import AnomalyMap, compare, residual
from autoddpm.detectors.detector import PlainDetector, Reconstruction, Slices
from autoddpm.detectors.perceptual import NoPerceptual, Perceptual
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.sampler import Ancestral, Sampler, count_calls, reconstruct
from autoddpm.random import Stage


class AnoDDPM(PlainDetector):
    """Reconstruct a slice from noise level `t` and map its difference from the input.

    model: the DDPM that denoises.
    sampler: the times of denoising and the step between two. None: Eq. (2), every time.
    perceptual: the distance for maps that take one. None: no distance.
    map: how the two images are compared.
    seed: of the noise, with each slice's id.
    t: noise level, 1..T.
    """

    only_of_map: Collection[str] = ("map", "perceptual")

    def __init__(
        self,
        model: DDPM,
        sampler: Sampler | None = None,
        perceptual: Perceptual | None = None,
        map: AnomalyMap = residual,
        seed: int = 0,
        t: int = 200,
    ) -> None:
        check_time("detector.t", t, model)
        self.model, self.sampler = self.used(model), sampler or Ancestral()
        self.perceptual, self.map = perceptual or NoPerceptual(), map
        self.seed, self.t = seed, t

    def used(self, model: DDPM) -> DDPM:
        """The model as this detector samples from it."""
        return model

    @property
    def label(self) -> str:
        return f"AnoDDPM (t={self.t})"

    @property
    def most_calls(self) -> int:
        """Network calls per slice."""
        return count_calls(self.sampler, self.sampler.times(self.t))

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        image = batch.image
        noise = NoiseOf.batch(self.model.noise, self.seed, batch.id, image, Stage.RECONSTRUCTION)
        x_hat = reconstruct(self.model, self.sampler, self.model.encode(image), self.t, noise)
        reconstruction = self.model.decode(x_hat)
        refuse_non_finite(reconstruction, batch)
        return Reconstruction(reconstruction, torch.full((len(image),), self.most_calls))

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        return compare(
            self.map, batch.image, made.image, lambda a, b: self.perceptual(self.model, a, b)
        )


def refuse_non_finite(reconstruction: Tensor, batch: Slices) -> None:
    """Refuse a reconstruction with NaN or infinity.

    Raises ValueError, naming the slices.
    """
    whole = reconstruction.isfinite().flatten(1).all(1).tolist()
    broken = [name for name, is_whole in zip(batch.id, whole, strict=True) if not is_whole]
    if broken:
        raise ValueError(
            f"{', '.join(broken)}: the reconstruction holds NaN or infinity. So do the image or "
            "the weights, or the precision is too low (trainer.precision=32-true)"
        )


def check_time(name: str, t: int, model: object) -> None:
    """Refuse a model that is no DDPM, or a t that is no noise level of its schedule.

    name: of the setting, for the message.

    Raises ValueError.
    """
    if not isinstance(model, DDPM):
        raise ValueError(
            f"{name}={t}: this detector noises and denoises, and needs a DDPM; these weights are "
            f"of a {type(model).__name__}; say detector=restoration, or that of their family, or "
            "give a DDPM's weights"
        )
    if not isinstance(t, int) or not 1 <= t <= model.schedule.T:
        raise ValueError(
            f"{name}={t}: must be a noise level from 1 to T={model.schedule.T} of this model's "
            "schedule"
        )


def check_times(name: str, times: Sequence[int], model: object) -> None:
    """Refuse times that `check_time` refuses, or of which one comes twice.

    Raises ValueError.
    """
    for t in times:
        check_time(name, t, model)
    if len(set(times)) < len(times):
        raise ValueError(f"{name}={list(times)}: each time may come once")
