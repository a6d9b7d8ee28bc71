"""THOR: denoising that is led back to the scan where nothing seems to have changed."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from autoddpm.detectors.anoddpm import check_time, check_times, refuse_non_finite
from autoddpm.detectors.anomaly_map import closed, dilated, residual, smoothed
from autoddpm.detectors.detector import PlainDetector, Reconstruction, Slices
from autoddpm.detectors.perceptual import Perceptual
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.sampler import Sampler, step_noise
from autoddpm.random import Draw, Stage

SIDE = 13  # pixels: of the square that a map is closed and dilated with, at 128 px
WIDTH = 2.0  # pixels: standard deviation of the filter over the perceptual distance
SMALL = 1e-8  # the authors': a map that is 0 everywhere stays 0


class THOR(PlainDetector):
    """Temporal harmonization for optimal restoration (Bercea et al., MICCAI 2024).

    The slice is noised to `t` and denoised. At each harmonising time the estimated clean image is
    compared with the slice. Where they agree, the slice takes its place; the blend is noised again
    with the first noise, and the chain goes on. The anomaly map is the harmonic mean of the maps of
    these times and of the last image.

    Where the authors' code differs, it does so in this: it noises the blend to the harmonising time
    itself, one step more than the chain then takes it for. It stores a map at every 50th time as
    well. It divides a map by the maximum of a batch, which is one slice there as here.

    model: the DDPM that denoises.
    sampler: the times of denoising and the step between two. Harmonising times that it would pass
        over are visited too.
    perceptual: the distance that the maps are weighted with; the authors' is lpips.
    seed: of the noise, with each slice's id.
    t: noise level of the start, 1..T.
    harmonise: the harmonising times, 1..t, each once. [] is AnoDDPM with another map.
    """

    def __init__(
        self,
        model: DDPM,
        sampler: Sampler,
        perceptual: Perceptual,
        seed: int = 0,
        t: int = 350,
        harmonise: Sequence[int] = (300, 150, 50),
    ) -> None:
        check_time("detector.t", t, model)
        check_times("detector.harmonise", harmonise, model)
        if late := [time for time in harmonise if time > t]:
            raise ValueError(f"detector.harmonise: {late[0]} is above detector.t={t}")
        self.model, self.sampler, self.perceptual = model, sampler, perceptual
        self.seed, self.t, self.harmonise = seed, t, tuple(harmonise)

    @property
    def label(self) -> str:
        return f"THOR (t={self.t}{'' if self.harmonise else ', w/o harmonising'})"

    @property
    def times(self) -> list[int]:
        """The falling times of the chain, from t to 0."""
        return sorted({*self.sampler.times(self.t), *self.harmonise}, reverse=True)

    @property
    def most_calls(self) -> int:
        """Network calls per slice. Harmonising takes one."""
        return sum(
            1 if now in self.harmonise else self.sampler.calls(now, following)
            for now, following in pairwise(self.times)
        )

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        image, ddpm, maps = batch.image, self.model, {}
        noise = NoiseOf.batch(ddpm.noise, self.seed, batch.id, image, Stage.RECONSTRUCTION)
        e0 = noise(Draw.FORWARD, self.t)
        x_t = ddpm.q_sample(ddpm.encode(image), self.t, e0)
        for now, following in pairwise(self.times):
            if now in self.harmonise:
                estimate = ddpm.decode(ddpm.predict_x0(x_t, now, ddpm.predict_eps(x_t, now)))
                maps[f"map_at_{now}"] = changed = self.changed(image, estimate)
                blend = torch.lerp(image, estimate, replaced(changed))
                x_t = ddpm.q_sample(ddpm.encode(blend), following, e0)
            else:
                eps = step_noise(self.sampler, x_t, noise, now, following)
                x_t = self.sampler.step(ddpm, x_t, now, following, eps)
        reconstruction = ddpm.decode(x_t)
        refuse_non_finite(reconstruction, batch)
        maps["map_at_0"] = self.changed(image, reconstruction)
        return Reconstruction(reconstruction, torch.full((len(image),), self.most_calls), maps)

    def changed(self, image: Tensor, estimate: Tensor) -> Tensor:
        """What differs between a slice and an estimate, (B, 1, *space), each slice's largest is 1.

        It is the absolute difference times the smoothed perceptual distance.
        """
        distance = smoothed(self.perceptual(self.model, estimate, image), WIDTH).clamp(0, 1)
        values = residual(image, estimate) * distance
        most = values.flatten(1).amax(1).view(-1, *[1] * (values.ndim - 1))
        return values / (most + SMALL)

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        """Harmonic mean of the maps. A pixel that is 0 in one is 0."""
        return torch.stack(list(made.stages.values())).reciprocal().mean(0).reciprocal()


def replaced(changed: Tensor) -> Tensor:
    """The share of the estimate in the blend, (B, 1, *space) in [0, 1], from a map of changes."""
    return ((dilated(closed(changed, SIDE), SIDE) + changed) / 2).clamp(0, 1)
