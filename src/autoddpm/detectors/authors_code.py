"""AutoDDPM and AnoDDPM as in the authors' first code, which made the published numbers."""

from itertools import pairwise

import torch
from torch import Tensor

from autoddpm.detectors.anoddpm import AnoDDPM, check_time
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.sampler import step_noise
from autoddpm.random import Draw

CLIP = (-1.0, 1.0)  # of estimated clean images, whatever the model's range


class AuthorsCodeAnoDDPM(AnoDDPM):
    """AnoDDPM as in the authors' first code. Settings as `AnoDDPM`.

    `t` is their time, which counts from 0, plus 1. Estimated clean images are clipped to [-1, 1].
    Their anomaly map is anomaly_map=clahe_residual.
    """

    variant = "authors_code"

    def used(self, model: DDPM) -> DDPM:
        return model.clipped(*CLIP)

    @property
    def label(self) -> str:
        return f"AnoDDPM authors_code (t={self.t - 1})"


class AuthorsCode(AutoDDPM):
    """AutoDDPM with the re-sampling of the authors' first code. Settings as `AutoDDPM`.

    It differs from the text in this:

    - Re-sampling starts one time later, since their times count from 0. It ends at time 1, whose
      patch is taken as it is.
    - Re-noising takes the beta of one step before.
    - The final image is not clamped, so that SSIM sees values outside of [0, 1].
    - In both stages estimated clean images are clipped to [-1, 1], though the model's range is
      [0, 1].
    - The settings are those of conf/detector/authors_code.yaml, and the mask is looked for in the
      whole image.
    """

    variant = "authors_code"
    # Another name: with another clip its reconstructions are not those of AnoDDPM.
    first_stage = AuthorsCodeAnoDDPM

    def used(self, model: DDPM) -> DDPM:
        return model.clipped(*CLIP)

    def check(self) -> None:
        super().check()
        check_time("detector.t_resample + 1", self.t_resample + 1, self.model)

    @property
    def label(self) -> str:
        return super().label.replace("AutoDDPM", "AutoDDPM authors_code")

    def resample_times(self) -> list[int]:
        """The times of re-sampling, from `t_resample` + 1 down to 1."""
        times = [time for time in self.sampler.times(self.t_resample + 1) if time > 0]
        return times if times[-1] == 1 else [*times, 1]

    def finished(self, x: Tensor) -> Tensor:
        """The re-sampled patch as an image, not clamped."""
        return (x - self.model.low) / (self.model.high - self.model.low)

    def resample(self, x0: Tensor, x_hat: Tensor, mask: Tensor, noise: NoiseOf) -> Tensor:
        """As `AutoDDPM.resample`, over `resample_times`.

        Returns x at time 1.
        """
        ddpm, times = self.model, self.resample_times()
        x_t = ddpm.q_sample(x_hat, times[0], noise(Draw.FORWARD, times[0]))
        for t, s in pairwise(times):
            for repeat in range(self.resample_steps):
                if repeat:  # (13), with their betas[t - 1], counted from 0
                    x_t = ddpm.q_step(x_t, s - 1, t - 1, noise(Draw.RENOISE, t, repeat))
                context = ddpm.q_sample(x0, s, noise(Draw.CONTEXT, t, repeat))  # (10)
                eps = step_noise(self.sampler, x_t, noise, t, s, repeat)
                healthy = self.sampler.step(ddpm, x_t, t, s, eps)  # (11)
                x_t = torch.where(mask, healthy, context)  # (12)
        return x_t
