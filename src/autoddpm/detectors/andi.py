"""ANDi: how far single steps of denoising go astray, over many noise levels."""

import torch
from torch import Tensor

from autoddpm.detectors.anoddpm import check_time, refuse_non_finite
from autoddpm.detectors.detector import PlainDetector, Reconstruction, Slices
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.random import Draw, Stage


class ANDi(PlainDetector):
    """Aggregated normative diffusion (Frotscher et al., 2023).

    At each time the slice is noised anew, and one call tells the mean of the step before. Its
    squared deviation from the true posterior mean is taken for each pixel; the map is the geometric
    mean over times. The calls do not depend on each other.

    The estimate is not clipped, as in the authors' code. Of several channels the map is the
    largest. The authors train with pyramidal noise, and set the map to 0 where the image is 0.
    Here the noise is the model's, and the whole image is mapped.

    The reconstruction is a by-product: the mean of the clean images that the same calls imply.

    model: the DDPM that denoises.
    seed: of the noise, with each slice's id.
    low: times are above it, 0 or more.
    high: times are at most it, up to T. The authors' 25 to 125 count from 0 and leave out the last:
        the same 100 times.
    every: distance of the times, from `high` down. 1 is the authors'.
    """

    def __init__(
        self, model: DDPM, seed: int = 0, low: int = 25, high: int = 125, every: int = 1
    ) -> None:
        check_time("detector.high", high, model)
        if not isinstance(low, int) or not 0 <= low < high:
            raise ValueError(f"detector.low={low}: must be from 0 to below detector.high={high}")
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"detector.every={every}: must be at least 1")
        self.model, self.seed = model, seed
        self.low, self.high, self.every = low, high, every

    @property
    def label(self) -> str:
        return f"ANDi (t={self.low}-{self.high})"

    @property
    def times(self) -> range:
        """The noise levels, falling."""
        return range(self.high, self.low, -self.every)

    @property
    def most_calls(self) -> int:
        """Network calls per slice."""
        return len(self.times)

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        image, ddpm = batch.image, self.model
        noise = NoiseOf.batch(ddpm.noise, self.seed, batch.id, image, Stage.RECONSTRUCTION)
        x = ddpm.encode(image)
        logarithms, estimates = torch.zeros_like(x), torch.zeros_like(x)
        for t in self.times:
            eps = noise(Draw.FORWARD, t)
            x_t = ddpm.q_sample(x, t, eps)
            eps_hat = ddpm.predict_eps(x_t, t)
            logarithms += self.deviation(t, eps, eps_hat).log()
            estimates += ddpm.predict_x0(x_t, t, eps_hat)
        reconstruction = ddpm.decode(estimates / len(self.times))
        refuse_non_finite(reconstruction, batch)
        deviation = (logarithms / len(self.times)).exp().amax(1, keepdim=True)
        calls = torch.full((len(image),), self.most_calls)
        return Reconstruction(reconstruction, calls, {"deviation": deviation})

    def deviation(self, t: int, eps: Tensor, eps_hat: Tensor) -> Tensor:
        """Squared difference of the posterior means that two noises imply, at time t - 1.

        The mean is (x_t - beta_t / sqrt(1 - alpha_bar_t) eps) / sqrt(1 - beta_t).
        """
        beta, alpha_bar = self.model.schedule.beta[t], self.model.schedule.alpha_bar[t]
        weight = beta.square() / ((1 - beta) * (1 - alpha_bar))
        return weight * (eps - eps_hat).square()

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        return made.stages["deviation"]
