"""Samplers: which times a chain visits, and how it goes from one to the next."""

from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.random import Draw


class Sampler(Protocol):
    """A grid of times and the step between two of them."""

    def times(self, t: int) -> list[int]:
        """Falling times from t to 0, both included."""

    def step(self, ddpm: DDPM, x_t: Tensor, t: int, s: int, eps: Tensor) -> Tensor:
        """From x_t at time t to the earlier time s, with one network call."""


def strided_times(t: int, stride: int) -> list[int]:
    """[t, t - stride, ..., 0]; any stride is valid, the last jump to 0 may be shorter."""
    if stride < 1:
        raise ValueError(f"sampler.stride: must be at least 1, got {stride}")
    return [*range(t, 0, -stride), 0]


class Ancestral:
    """The DDPM's own sampler, Eq. (2). Stride 1 is the paper's; a longer one is faster and not the same."""

    def __init__(self, stride: int = 1) -> None:
        self.stride = stride

    def times(self, t: int) -> list[int]:
        return strided_times(t, self.stride)

    def step(self, ddpm: DDPM, x_t: Tensor, t: int, s: int, eps: Tensor) -> Tensor:
        return ddpm.p_sample(x_t, t, s, eps)


class DDIM:
    """The sampler of Song et al. (ICLR 2021). eta 0 adds no noise on the way; eta 1 has the ancestral variance."""

    def __init__(self, stride: int = 1, eta: float = 0.0) -> None:
        self.stride, self.eta = stride, eta

    def times(self, t: int) -> list[int]:
        return strided_times(t, self.stride)

    def step(self, ddpm: DDPM, x_t: Tensor, t: int, s: int, eps: Tensor) -> Tensor:
        alpha_bar_t, alpha_bar_s = ddpm.schedule.alpha_bar[t], ddpm.schedule.alpha_bar[s]
        x0 = ddpm.predict_x0(x_t, t, ddpm.predict_eps(x_t, t))
        eps_hat = (x_t - alpha_bar_t.sqrt() * x0) / (1 - alpha_bar_t).sqrt()  # of the clipped x0
        variance = self.eta**2 * (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
        direction = (1 - alpha_bar_s - variance).clamp(min=0).sqrt()
        return alpha_bar_s.sqrt() * x0 + direction * eps_hat + variance.sqrt() * eps


@torch.no_grad()
def reconstruct(ddpm: DDPM, sampler: Sampler, x: Tensor, t: int, noise: NoiseOf) -> Tensor:
    """Noise a clean x to time t and denoise it back to 0 (paper, section 3.1). Network calls: len(times(t)) - 1."""
    x_t = ddpm.q_sample(x, t, noise(Draw.FORWARD, t))
    for now, following in pairwise(sampler.times(t)):
        x_t = sampler.step(ddpm, x_t, now, following, noise(Draw.ANCESTRAL, now))
    return x_t
