"""AnoDDPM: noise to time t, denoise, compare (Wyatt et al., 2022; the paper's baseline)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from autoddpm.detectors.anomaly_map import AnomalyMap, uses_distance
from autoddpm.detectors.detector import Detection, Slices
from autoddpm.detectors.perceptual import Perceptual
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.sampler import Sampler, count_calls, reconstruct
from autoddpm.random import Stage


class AnoDDPM:
    """Reconstruct a slice from noise level `t` and map its difference from the input.

    t: noise level, 1..T.  anomaly_map: how the two images are compared.  seed: of the noise, with
        each slice's id.
    """

    def __init__(
        self,
        ddpm: DDPM,
        sampler: Sampler,
        perceptual: Perceptual,
        anomaly_map: AnomalyMap,
        seed: int = 0,
        t: int = 200,
    ) -> None:
        check_time("detector.t", t, ddpm)
        self.ddpm, self.sampler, self.perceptual, self.anomaly_map = (
            ddpm,
            sampler,
            perceptual,
            anomaly_map,
        )
        self.seed, self.t = seed, t

    #: What its reconstructions do not depend on.
    only_of_map = ("anomaly_map", "perceptual", "perceptual_settings")

    @property
    def label(self) -> str:
        return f"AnoDDPM (t={self.t})"

    @property
    def uses_perceptual(self) -> bool:
        """Whether the perceptual distance has a part in the result."""
        return uses_distance(self.anomaly_map)

    @property
    def most_calls(self) -> int:
        """Network calls of a slice."""
        return count_calls(self.sampler, self.sampler.times(self.t))

    @torch.no_grad()
    def __call__(self, batch: Slices) -> Detection:
        noise = NoiseOf.batch(
            self.ddpm.noise, self.seed, batch.id, batch.image, Stage.RECONSTRUCTION
        )
        x_hat = reconstruct(self.ddpm, self.sampler, self.ddpm.encode(batch.image), self.t, noise)
        reconstruction = self.ddpm.decode(x_hat)
        whole = reconstruction.isfinite().flatten(1).all(1).tolist()
        broken = [
            slice_id for slice_id, is_whole in zip(batch.id, whole, strict=True) if not is_whole
        ]
        if broken:
            raise ValueError(
                f"{', '.join(broken)}: the reconstruction holds NaN, as the image or the weights "
                "must"
            )
        anomaly_map = self.remap(batch.image, reconstruction, {})
        calls = torch.full((len(batch.image),), self.most_calls)
        return Detection(anomaly_map, reconstruction, calls)

    def remap(self, image: Tensor, reconstruction: Tensor, stages: Mapping[str, Tensor]) -> Tensor:
        """The anomaly map of a reconstruction that this detector made before."""
        return self.anomaly_map(
            image, reconstruction, lambda a, b: self.perceptual(self.ddpm, a, b)
        )


def check_time(name: str, t: int, ddpm: DDPM) -> None:
    """Raise ValueError where t is not a noise level of this model's schedule."""
    if not isinstance(t, int) or not 1 <= t <= ddpm.schedule.T:
        raise ValueError(
            f"{name}={t}: must be a noise level from 1 to T={ddpm.schedule.T} of this model's "
            "schedule"
        )
