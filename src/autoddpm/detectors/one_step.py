"""One-step reconstruction: the clean image that single calls at a few noise levels imply."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from autoddpm.detectors.anoddpm import check_times, refuse_non_finite
from autoddpm.detectors.anomaly_map import AnomalyMap, compare
from autoddpm.detectors.detector import PlainDetector, Reconstruction, Slices
from autoddpm.detectors.perceptual import Perceptual
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.random import Draw, Stage


class OneStep(PlainDetector):
    """Noise a slice to each of a few times, estimate it in one call each, and take the mean.

    It is the test of cDDPM (Behrendt et al., 2024), on a DDPM that estimates the noise. There is no
    chain: each call sees the slice itself, with noise of its own.

    model: the DDPM that estimates.
    perceptual: the distance for maps that take one.
    map: how the slice and the mean estimate are compared.
    seed: of the noise, with each slice's id.
    times: noise levels, 1..T, at least one, each once. One call each.
    """

    only_of_map: Collection[str] = ("map", "perceptual")

    def __init__(
        self,
        model: DDPM,
        perceptual: Perceptual,
        map: AnomalyMap,
        seed: int = 0,
        times: Sequence[int] = (250, 500, 750),
    ) -> None:
        if not times:
            raise ValueError("detector.times=[]: at least one noise level is needed")
        check_times("detector.times", times, model)
        self.model, self.perceptual, self.map = model, perceptual, map
        self.seed, self.times = seed, tuple(times)

    @property
    def label(self) -> str:
        return f"One step (t={', '.join(str(t) for t in self.times)})"

    @property
    def most_calls(self) -> int:
        """Network calls per slice."""
        return len(self.times)

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        image, ddpm = batch.image, self.model
        noise = NoiseOf.batch(ddpm.noise, self.seed, batch.id, image, Stage.RECONSTRUCTION)
        x = ddpm.encode(image)
        total = torch.zeros_like(x)
        for t in self.times:
            x_t = ddpm.q_sample(x, t, noise(Draw.FORWARD, t))
            total += ddpm.predict_x0(x_t, t, ddpm.predict_eps(x_t, t))
        reconstruction = ddpm.decode(total / len(self.times))
        refuse_non_finite(reconstruction, batch)
        return Reconstruction(reconstruction, torch.full((len(image),), self.most_calls))

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        return compare(
            self.map, batch.image, made.image, lambda a, b: self.perceptual(self.model, a, b)
        )
