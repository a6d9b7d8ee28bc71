"""Samplers: the times that a chain visits, and the step from one to the next."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.random import Draw


class Sampler(Protocol):
    """A grid of times and the step between two of them."""

    @property
    def adds_noise(self) -> bool:
        """Whether `step` uses its noise; if not, none is drawn for it."""

    def times(self, t: int) -> list[int]:
        """Falling times from t to 0, both included."""

    def step(self, ddpm: DDPM, x_t: Tensor, t: int, s: int, eps: Tensor) -> Tensor:
        """Go from x_t at time t to the earlier time s.

        eps: standard normal noise, see `step_noise`.
        """

    def calls(self, t: int, s: int) -> int:
        """Network calls of the step from t to s."""


def count_calls(sampler: Sampler, times: Sequence[int]) -> int:
    """Network calls of a chain over these times."""
    return sum(sampler.calls(t, s) for t, s in pairwise(times))


class Strided:
    """Times t, t - stride, ..., 0, of which the last jump may be shorter. One call for each step.

    Raises ValueError, with the first times, if the stride is below 1.
    """

    def __init__(self, stride: int = 1) -> None:
        self.stride = stride

    def times(self, t: int) -> list[int]:
        if self.stride < 1:
            raise ValueError(f"sampler.stride: must be at least 1, got {self.stride}")
        return [*range(t, 0, -self.stride), 0]

    def calls(self, t: int, s: int) -> int:
        return 1


class Ancestral(Strided):
    """The DDPM's own sampler, Eq. (2).

    stride: 1 is the paper's. A longer one is faster and does not give the same.
    """

    adds_noise = True

    def step(self, ddpm: DDPM, x_t: Tensor, t: int, s: int, eps: Tensor) -> Tensor:
        return ddpm.p_sample(x_t, t, s, eps)


class DDIM(Strided):
    """The sampler of Song et al. (ICLR 2021).

    stride: between two times.
    eta: 0 adds no noise on the way, 1 has the ancestral variance.
    """

    def __init__(self, stride: int = 1, eta: float = 0.0) -> None:
        super().__init__(stride)
        self.eta = eta

    @property
    def adds_noise(self) -> bool:
        return self.eta != 0

    def step(self, ddpm: DDPM, x_t: Tensor, t: int, s: int, eps: Tensor) -> Tensor:
        alpha_bar_t, alpha_bar_s = ddpm.schedule.alpha_bar[t], ddpm.schedule.alpha_bar[s]
        x0 = ddpm.predict_x0(x_t, t, ddpm.predict_eps(x_t, t))
        eps_hat = (x_t - alpha_bar_t.sqrt() * x0) / (1 - alpha_bar_t).sqrt()  # of the clipped x0
        variance = (
            self.eta**2 * (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
        )
        direction = (1 - alpha_bar_s - variance).clamp(min=0).sqrt()
        return alpha_bar_s.sqrt() * x0 + direction * eps_hat + variance.sqrt() * eps


class DPMSolver(Strided):
    """DPM-Solver++(2S) of Lu et al. (2022): deterministic, second order, two calls per step.

    Each step is complete in itself, so that it may also be repeated between re-noisings. The
    intermediate time is the integer whose log signal-to-noise ratio is nearest to the middle of the
    step's. A step without one, and the last to 0, is of first order, with one call.

    stride: between two times.
    """

    adds_noise = False

    def __init__(self, stride: int = 10) -> None:
        super().__init__(stride)

    def step(self, ddpm: DDPM, x_t: Tensor, t: int, s: int, eps: Tensor) -> Tensor:
        x0 = ddpm.predict_x0(x_t, t, ddpm.predict_eps(x_t, t))
        if self.calls(t, s) == 1:
            return self._move(ddpm, x_t, t, s, x0)
        half_log_snr = ddpm.half_log_snr
        middle = 0.5 * (half_log_snr[t] + half_log_snr[s])
        r = s + 1 + int(np.abs(half_log_snr[s + 1 : t] - middle).argmin())
        between = self._move(ddpm, x_t, t, r, x0)
        x0_between = ddpm.predict_x0(between, r, ddpm.predict_eps(between, r))
        share = float((half_log_snr[r] - half_log_snr[t]) / (half_log_snr[s] - half_log_snr[t]))
        slope = (x0_between - x0) / (2 * share)
        return self._move(ddpm, x_t, t, s, x0 + slope)

    def calls(self, t: int, s: int) -> int:
        return 2 if s > 0 and t - s > 1 else 1

    @staticmethod
    def _move(ddpm: DDPM, x_t: Tensor, t: int, s: int, x0: Tensor) -> Tensor:
        """DDIM's step: the exact solution from t to s if the clean image stays x0 on the way."""
        alpha_bar_t, alpha_bar_s = ddpm.schedule.alpha_bar[t], ddpm.schedule.alpha_bar[s]
        ratio = ((1 - alpha_bar_s) / (1 - alpha_bar_t)).sqrt()
        return ratio * x_t + (alpha_bar_s.sqrt() - ratio * alpha_bar_t.sqrt()) * x0


def step_noise(
    sampler: Sampler, x_t: Tensor, noise: NoiseOf, t: int, s: int, repeat: int = 0
) -> Tensor:
    """The noise of a step from t to s, in the shape of x_t.

    If the sampler adds no noise, or if s = 0, nothing is drawn and the result is a single 0.

    repeat: number of the pass at time t, in re-sampling.
    """
    return noise(Draw.ANCESTRAL, t, repeat) if sampler.adds_noise and s else x_t.new_zeros(())


@torch.no_grad()
def reconstruct(ddpm: DDPM, sampler: Sampler, x: Tensor, t: int, noise: NoiseOf) -> Tensor:
    """Noise a clean x to time t and denoise it back to 0 (paper, section 3.1).

    `count_calls` tells how many network calls that takes.
    """
    x_t = ddpm.q_sample(x, t, noise(Draw.FORWARD, t))
    for now, following in pairwise(sampler.times(t)):
        x_t = sampler.step(
            ddpm, x_t, now, following, step_noise(sampler, x_t, noise, now, following)
        )
    return x_t
