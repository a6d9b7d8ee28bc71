"""A plain AutoDDPM to compare speed with: what published codes do, written here from
PAPER_VS_CODE's description.

Float32, one slice after the other, noise from the global stream, the perceptual distance image by
image and once more at the end where its result is dropped, every slice through both loops whatever
its mask, the network's weights in the layout that they are made in. Times count from 0 and both
ends are visited: t + 1 and `t_resample` x `passes` calls of
the network. It is a measure of speed, not a variant of the method: `detector=authors_code` is that.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

Distance = Callable[[Tensor, Tensor], Tensor]


class PlainAutoDDPM:
    """`network` is (x_t, timesteps) -> eps; distance: of two images, or None."""

    def __init__(
        self,
        network: nn.Module,
        distance: Distance | None,
        t: int = 200,
        t_resample: int = 50,
        passes: int = 5,
        threshold: float = 0.13,
    ) -> None:
        self.network, self.distance = network, distance
        self.t, self.t_resample, self.passes, self.threshold = t, t_resample, passes, threshold
        self.beta = torch.linspace(1e-4, 0.02, 1000, device=next(network.parameters()).device)
        self.alpha_bar = torch.cumprod(1 - self.beta, 0)

    @property
    def calls(self) -> int:
        return self.t + 1 + self.t_resample * self.passes

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> anomaly maps of the same shape."""
        return torch.cat([self.detect(image[None]) for image in images])

    def detect(self, image: Tensor) -> Tensor:
        x = self.noised(image, self.t)
        for index in range(self.t, -1, -1):
            x = self.step(x, index)
        initial = x.clamp(0, 1)
        residual = (initial - image).abs()
        initial_map = (residual / residual.quantile(0.95)).clamp(max=1)
        if self.distance:
            initial_map = initial_map * self.distance(initial, image)
        mask = max_pool2d((initial_map > self.threshold).float(), 3, stride=1, padding=1)

        x = self.noised(initial, self.t_resample)
        for index in range(self.t_resample, 0, -1):
            for repeat in range(self.passes):
                context = self.noised(image * (1 - mask), index - 1)
                x = (1 - mask) * context + mask * self.step(x, index)
                if repeat < self.passes - 1:
                    beta = self.beta[index - 1]
                    x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn_like(x)
        final = ((1 - mask) * image + mask * x).clamp(0, 1)
        if self.distance:
            self.distance(final, image)
        return (final - image).abs() * initial_map

    def noised(self, image: Tensor, index: int) -> Tensor:
        alpha_bar = self.alpha_bar[index]
        return alpha_bar.sqrt() * image + (1 - alpha_bar).sqrt() * torch.randn_like(image)

    def step(self, x: Tensor, index: int) -> Tensor:
        """One reverse step, from `index` to the one before."""
        eps = self.network(x, torch.full((len(x),), index, device=x.device))
        alpha_bar, beta = self.alpha_bar[index], self.beta[index]
        before = self.alpha_bar[index - 1] if index else torch.ones_like(alpha_bar)
        x0 = ((x - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()).clamp(-1, 1)
        mean = (before.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - before) * x) / (1 - alpha_bar)
        if not index:
            return mean
        return mean + ((1 - before) / (1 - alpha_bar) * beta).sqrt() * torch.randn_like(x)
