"""The denoising diffusion probabilistic model: its steps and its loss (paper, section 2)."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autoddpm.diffusion.noise import Noise, NoiseOf
from autoddpm.diffusion.objective import Objective, bins
from autoddpm.diffusion.schedule import LinearSchedule
from autoddpm.float64 import double
from autoddpm.random import Draw, Stage, uniform
from autoddpm.settings import describe

EXAMPLE_T = 200  # of the pictures of a training


class DDPM(nn.Module):
    """A denoiser with its schedule, its kind of noise and its range: all that a trained model is.

    Times are the paper's: t in 1..T is noisy, 0 is the clean image. A time is an int, or (B,) for
    one per slice. `x`, `x_t`, `x0` are (B, C, *space) in the model's range. Images outside of this
    package are in [0, 1]: `encode` and `decode` are the only places in which the range changes.

    denoiser: network (x_t, timesteps (B,)) -> estimated noise, as x_t. It numbers times 0..T-1.
    data_range: range of the images the denoiser is trained on. [0, 1] is the authors'. On [-1, 1]
        the noise of the same t is half as strong, relative to the image: their t=200 is then 331.
    channels: C.
    dimensions: of space, 2 or 3.
    objective: what it is trained on. None: the paper's.
    half_log_snr: (T+1,) log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)), infinite at 0. It is in the
        machine's own memory, so that samplers that choose times by it need not wait for the device.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        schedule: LinearSchedule,
        noise: Noise,
        data_range: Sequence[float] = (0.0, 1.0),
        channels: int = 1,
        dimensions: int = 2,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.noise = denoiser, schedule, noise
        self.channels, self.dimensions = channels, dimensions
        self.objective = objective or Objective()
        self.low, self.high = (float(value) for value in data_range)
        if not self.low < self.high:
            raise ValueError(
                f"data_range: the first value must be below the second, got {list(data_range)}"
            )
        self.clip = (self.low, self.high)
        alpha_bar = double(schedule.alpha_bar.cpu())
        self.half_log_snr = (0.5 * (alpha_bar.log() - (1 - alpha_bar).log())).numpy()

    @property
    def network(self) -> nn.Module:
        """The denoiser."""
        return self.denoiser

    def encode(self, image: Tensor) -> Tensor:
        """From [0, 1] to the model's range."""
        return image * (self.high - self.low) + self.low

    def decode(self, x: Tensor) -> Tensor:
        """From the model's range to [0, 1], clamped. Infinity becomes NaN, and stays seen.

        The authors' code does not clamp the final image.
        """
        image = (x - self.low) / (self.high - self.low)
        return image.clamp(0, 1).masked_fill(image.isinf(), torch.nan)

    def q_sample(self, x0: Tensor, t: Tensor | int, eps: Tensor) -> Tensor:
        """Noise a clean image to time t in one step. t=0 returns x0."""
        alpha_bar = self._alpha_bar(t, x0)
        return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps  # (4)

    def q_step(self, x_s: Tensor, s: Tensor | int, t: Tensor | int, eps: Tensor) -> Tensor:
        """Noise x_s on to a later time t >= s.

        For t = s+1 the ratio is 1 - beta_t, the paper's single step.
        """
        ratio = self._alpha_bar(t, x_s) / self._alpha_bar(s, x_s)
        return ratio.sqrt() * x_s + (1 - ratio).sqrt() * eps  # (1), (13)

    def predict_eps(self, x_t: Tensor, t: Tensor | int) -> Tensor:
        """The denoiser's estimate of the noise in x_t.

        Here the time becomes the network's index, which counts from 0.
        """
        times = t if isinstance(t, Tensor) else torch.full((len(x_t),), t, device=x_t.device)
        return self.denoiser(x_t, times - 1).to(x_t.dtype)

    def predict_x0(self, x_t: Tensor, t: Tensor | int, eps_hat: Tensor) -> Tensor:
        """The clean image that x_t and the estimated noise imply.

        It is clipped to `clip`: the range, as in Ho et al. (2020), or that of `clipped`.
        """
        alpha_bar = self._alpha_bar(t, x_t)
        x0 = (x_t - (1 - alpha_bar).sqrt() * eps_hat) / alpha_bar.sqrt()
        return x0.clamp(*self.clip)

    def clipped(self, low: float, high: float) -> "DDPM":
        """The same model with shared weights that clips estimated clean images to [low, high]."""
        other = copy.copy(self)
        other.clip = (low, high)
        return other

    def p_sample(self, x_t: Tensor, t: Tensor | int, s: Tensor | int, eps: Tensor) -> Tensor:
        """One ancestral step from time t to an earlier time s.

        It is a draw of q(x_s | x_t, x0) with x0 estimated. For s = t-1 this is Eq. (2) with its
        fixed variance beta_tilde. A longer step uses ratios of alpha_bar. For s = 0 the variance is
        0 and the result is the estimated clean image.
        """
        alpha_bar_t = self._alpha_bar(t, x_t)
        alpha_bar_s = self._alpha_bar(s, x_t)
        ratio = alpha_bar_t / alpha_bar_s
        beta = 1 - ratio
        x0 = self.predict_x0(x_t, t, self.predict_eps(x_t, t))
        mean = (alpha_bar_s.sqrt() * beta * x0 + ratio.sqrt() * (1 - alpha_bar_s) * x_t) / (
            1 - alpha_bar_t
        )
        variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) * beta
        return mean + variance.sqrt() * eps  # (2), (11)

    def noise_error(self, x0: Tensor, t: Tensor | int, eps: Tensor) -> Tensor:
        """Mean squared error of the estimated noise per slice, (B,)."""
        residual = eps - self.predict_eps(self.q_sample(x0, t, eps), t)
        return residual.square().flatten(1).mean(1)  # (8)

    def _drawn(self, image: Tensor, keys: Tensor, epoch: Tensor) -> tuple[Tensor, Tensor]:
        """Times (B,) and noise of training samples."""
        u = uniform(keys, 1, Stage.TRAINING, Draw.TIME, epoch)[:, 0]
        t = self.objective.times(u, self.schedule.T)
        return t, self.noise(keys, image.shape[1:], Stage.TRAINING, Draw.FORWARD, epoch)

    def seen(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Images as the network sees them in training: noised."""
        return self.q_sample(self.encode(image), *self._drawn(image, keys, epoch))

    def loss(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Training's loss, (B,): Algorithm 1 of Ho et al. (2020). Arguments as `Model`."""
        t, eps = self._drawn(image, keys, epoch)
        weights = self.objective.weights(self.schedule.alpha_bar[t])
        return weights * self.noise_error(self.encode(image), t, eps)

    @property
    def validation_names(self) -> list[str]:
        """The names of `validation_losses`: "loss" over all times, and one per range of t."""
        ranges = bins(self.schedule.T)
        return ["loss", *(f"loss_t{low + 1:04d}-{high:04d}" for low, high in ranges)]

    def validation_losses(self, image: Tensor, keys: Tensor) -> dict[str, Tensor]:
        """Losses by name, (B,) each, with noise that is the same at each validation."""
        x0, steps = self.encode(image), self.schedule.T
        mean = torch.zeros(len(x0), device=x0.device)
        losses = {"loss": mean}
        for index, (low, high) in enumerate(bins(steps)):
            u = uniform(keys, 1, Stage.VALIDATION, Draw.TIME, index)[:, 0]
            t = 1 + low + (u * (high - low)).long()
            eps = self.noise(keys, x0.shape[1:], Stage.VALIDATION, Draw.FORWARD, index)
            loss = self.noise_error(x0, t, eps)
            mean += loss * (high - low) / steps
            losses[f"loss_t{low + 1:04d}-{high:04d}"] = loss
        return losses

    def trial(self, image: Tensor) -> Tensor:
        """One call of the denoiser."""
        return self.predict_eps(self.encode(image), 1)

    def example(self, image: Tensor, ids: Sequence[str]) -> dict[str, Tensor]:
        """Images and their reconstructions from t=200, by every tenth time."""
        from autoddpm.diffusion.sampler import Ancestral, reconstruct  # late: it imports this file

        noise = NoiseOf.batch(self.noise, 0, ids, image, Stage.VALIDATION)
        t = min(EXAMPLE_T, self.schedule.T)
        made = reconstruct(self, Ancestral(stride=10), self.encode(image), t, noise)
        return {"healthy": image, "reconstruction": self.decode(made)}

    def record(self) -> dict[str, Any]:
        """Kind of noise and range."""
        return {"noise": describe(self.noise), "data_range": [self.low, self.high]}

    def _alpha_bar(self, t: Tensor | int, like: Tensor) -> Tensor:
        """alpha_bar[t] in the shape (B, 1, ..., 1) of a batch, or (1, 1, ..., 1) for an int."""
        return self.schedule.alpha_bar[t].view(-1, *[1] * (like.ndim - 1))
