"""MHD: how far a slice lies from a cloud of its own reconstructions."""

import torch
from torch import Tensor

from autoddpm.detectors.anoddpm import check_time, refuse_non_finite
from autoddpm.detectors.anomaly_map import head, smoothed, unlikeness
from autoddpm.detectors.detector import PlainDetector, Reconstruction, Slices
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.sampler import Sampler, count_calls, reconstruct
from autoddpm.float64 import double
from autoddpm.random import Stage

RIDGE = 0.01  # the authors': added to the variance of each pixel
WIDTH = 1.0  # pixels: standard deviation of the filter over the distance
WINDOW = 1.5  # pixels: standard deviation of SSIM's window, which is then 11 wide


class MHD(PlainDetector):
    """Mahalanobis distance of several stochastic reconstructions (Behrendt et al., 2024).

    AnoDDPM reconstructs a slice several times. Pixels count more in which the reconstructions agree
    with each other and not with the slice. The map is each pixel's share of the Mahalanobis length
    of the mean difference, smoothed, times 1 - SSIM of the mean. It is 0 outside the head.

    The authors take cDDPM's one-step reconstructions, divide a volume's map by its maximum, and
    have a mask of the brain. Here the chains are AnoDDPM's, a slice keeps its length, and the head
    stands for the brain. Negative shares are 0, as there.

    model: the DDPM that denoises.
    sampler: the times of denoising and the step between two.
    seed: of the noise, with each slice's id.
    t: noise level, 1..T.
    samples: number of reconstructions, at least 2. The first is AnoDDPM's.
    """

    def __init__(
        self, model: DDPM, sampler: Sampler, seed: int = 0, t: int = 200, samples: int = 10
    ) -> None:
        check_time("detector.t", t, model)
        if not isinstance(samples, int) or samples < 2:
            raise ValueError(f"detector.samples={samples}: a covariance needs at least 2")
        self.model, self.sampler = model, sampler
        self.seed, self.t, self.samples = seed, t, samples

    @property
    def label(self) -> str:
        return f"MHD ({self.samples} x t={self.t})"

    @property
    def most_calls(self) -> int:
        """Network calls per slice: those of AnoDDPM, times `samples`."""
        return self.samples * count_calls(self.sampler, self.sampler.times(self.t))

    @torch.no_grad()
    def reconstruct(self, batch: Slices, first: Reconstruction | None = None) -> Reconstruction:
        image, ddpm = batch.image, self.model
        noise = NoiseOf.batch(ddpm.noise, self.seed, batch.id, image, Stage.RECONSTRUCTION)
        x = ddpm.encode(image)
        chains = (
            reconstruct(ddpm, self.sampler, x, self.t, noise.again(number))
            for number in range(self.samples)
        )
        made = torch.stack([ddpm.decode(x_hat) for x_hat in chains])
        mean = made.mean(0)
        refuse_non_finite(mean, batch)
        length = mahalanobis(image - mean, made - mean, head(image))
        calls = torch.full((len(image),), self.most_calls)
        return Reconstruction(mean, calls, {"length": length})

    @torch.no_grad()
    def anomaly_map(self, batch: Slices, made: Reconstruction) -> Tensor:
        unlike = unlikeness(batch.image, made.image, [WINDOW])
        return smoothed(made.stages["length"], WIDTH) * unlike * head(batch.image)


def mahalanobis(difference: Tensor, centred: Tensor, region: Tensor) -> Tensor:
    """Each pixel's share of the Mahalanobis length of a difference, (B, 1, *space) >= 0.

    difference: (B, C, *space), of the slice from the mean.
    centred: (N, B, C, *space), the samples less their mean.
    region: (B, 1, *space) bool. Pixels outside have no share, and do not count.

    The covariance S of all pixels has RIDGE on its diagonal besides. A share is the root of
    d_i (S^-1 d)_i, 0 if that is negative. S has rank N - 1 but for the diagonal, so that it is
    inverted by a matrix of N rows (Woodbury's identity).
    """
    count = len(centred)
    with torch.autocast(difference.device.type, enabled=False):
        d = double((difference * region).flatten(1)).unsqueeze(2)  # (B, P, 1)
        rows = double((centred * region).flatten(2)).transpose(0, 1)  # (B, N, P)
        identity = torch.eye(count, dtype=rows.dtype, device=rows.device)
        small = rows @ rows.mT + (count - 1) * RIDGE * identity
        whitened = (d - rows.mT @ torch.linalg.solve(small, rows @ d)) / RIDGE
        squared = (d * whitened).view_as(difference).sum(1, keepdim=True)
    return squared.clamp(min=0).sqrt().to(difference.dtype).to(difference.device)
