"""Patched diffusion: a part of an image is noised, and one call estimates its clean pixels.

pDDPM: Behrendt et al., "Patched Diffusion Models for Unsupervised Anomaly Detection in Brain MRI",
MIDL 2023, arXiv 2303.03758. With a patch as large as the image it is the diffusion model of their
cDDPM (arXiv 2312.04215) without its encoder. Neither has a chain of times.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from autoddpm.diffusion.noise import Noise
from autoddpm.diffusion.schedule import LinearSchedule
from autoddpm.random import Draw, Stage, slice_keys, uniform
from autoddpm.settings import describe


class PDDPM(nn.Module):
    """A network that estimates the clean image, of an image with one noised patch.

    Images are (B, C, *space) in [0, 1]. Times are the paper's: t in 1..T is noisy, 0 is the clean
    image. Noise is Eq. (4)'s, on [0, 1].

    denoiser: network (image with a noised patch, timesteps (B,)) -> estimated clean image. It
        numbers times 0..T-1.
    patch: side of the patch as a share of the image's, above 0. 1 is the whole image.
    channels: C.
    dimensions: of space, 2 or 3.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        schedule: LinearSchedule,
        noise: Noise,
        patch: float = 0.5,
        channels: int = 1,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        if not 0 < patch <= 1:
            raise ValueError(f"model.patch={patch}: must be above 0 and at most 1, the whole image")
        self.denoiser, self.schedule, self.noise, self.patch = denoiser, schedule, noise, patch
        self.channels, self.dimensions = channels, dimensions

    @property
    def network(self) -> nn.Module:
        """The denoiser."""
        return self.denoiser

    @property
    def calls(self) -> int:
        """Network calls per reconstruction: the number of patches that cover an image."""
        return self._per_side**self.dimensions

    @property
    def _per_side(self) -> int:
        return math.ceil(round(1 / self.patch, 6))  # 1 / 0.2 is 5, whatever is lost in rounding

    def side(self, length: int) -> int:
        """Pixels of a patch along a side of an image."""
        return math.ceil(round(self.patch * length, 6))

    def grid(self, space: Sequence[int], device: torch.device | str = "cpu") -> Iterator[Tensor]:
        """The patches that cover an image, each (1, 1, *space) bool, evenly spaced.

        They share pixels only if their number per side is not 1 / patch.
        """
        starts = []
        for length in space:
            last, steps = length - self.side(length), max(1, self._per_side - 1)
            starts.append([round(n * last / steps) for n in range(self._per_side)])
        for corner in product(*starts):
            yield self.inside(torch.tensor([corner], device=device), space)

    def inside(self, corner: Tensor, space: Sequence[int]) -> Tensor:
        """Patches by their first pixels, (B, 1, *space) bool.

        corner: (B, D) int64.
        """
        patch = torch.ones(1, dtype=torch.bool, device=corner.device)
        for axis, length in enumerate(space):
            shape = [1] * (2 + len(space))
            shape[2 + axis] = length
            place = torch.arange(length, device=corner.device).view(shape)
            first = corner[:, axis].view(-1, *[1] * (1 + len(space)))
            patch = patch & (place >= first) & (place < first + self.side(length))
        return patch

    def noised(self, x0: Tensor, t: Tensor | int, eps: Tensor, patch: Tensor) -> Tensor:
        """Images whose patch is noised to time t, the rest of them clean.

        patch: (B, 1, *space) bool.
        """
        alpha_bar = self.schedule.alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))
        return torch.where(patch, alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps, x0)  # (4)

    def predict_x0(self, x_t: Tensor, t: Tensor | int) -> Tensor:
        """The clean image, as the network estimates it. It may leave [0, 1]."""
        times = t if isinstance(t, Tensor) else torch.full((len(x_t),), t, device=x_t.device)
        estimate: Tensor = self.denoiser(x_t, times - 1)
        return estimate.to(x_t.dtype)

    def reconstruct(self, x0: Tensor, t: Tensor | int, eps: Tensor) -> Tensor:
        """Each patch of an image, estimated from the others and from itself with noise of time t.

        eps: the noise of all patches, shaped as the image. Pixels of several patches are averaged.
        """
        total, times = torch.zeros_like(x0), torch.zeros_like(x0[:1, :1])
        for patch in self.grid(x0.shape[2:], x0.device):
            total += patch * self.predict_x0(self.noised(x0, t, eps, patch), t)
            times += patch
        return total / times

    def drawn(
        self, image: Tensor, keys: Tensor, stage: Stage, epoch: Tensor | int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Training samples: times (B,), patches anywhere (B, 1, *space), and the noised images.

        All times are alike often. Arguments as `Model.loss`.
        """
        u = uniform(keys, 1 + self.dimensions, stage, Draw.TIME, epoch)
        t = 1 + (u[:, 0] * self.schedule.T).long()
        space = image.shape[2:]
        places = zip(u[:, 1:].unbind(1), space, strict=True)
        corner = [(v * (length - self.side(length) + 1)).long() for v, length in places]
        patch = self.inside(torch.stack(corner, 1), space)
        eps = self.noise(keys, image.shape[1:], stage, Draw.FORWARD, epoch)
        return t, patch, self.noised(image, t, eps, patch)

    def seen(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Images as the network sees them in training: with a noised patch."""
        return self.drawn(image, keys, Stage.TRAINING, epoch)[2]

    def loss(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Training's loss, (B,): the absolute error inside the patch. Arguments as `Model`."""
        t, patch, x_t = self.drawn(image, keys, Stage.TRAINING, epoch)
        error = (self.predict_x0(x_t, t) - image).abs().mean(1, keepdim=True)
        return (error * patch).flatten(1).sum(1) / patch.flatten(1).sum(1)

    @property
    def validation_names(self) -> list[str]:
        """The absolute error of reconstructions from half of T, at which their tests are."""
        return ["loss"]

    def validation_losses(self, image: Tensor, keys: Tensor) -> dict[str, Tensor]:
        """Losses by name, (B,) each, with noise that is the same at each validation."""
        made = self._half_way(image, keys)
        return {"loss": (made - image).abs().flatten(1).mean(1)}

    def trial(self, image: Tensor) -> Tensor:
        """One call of the denoiser."""
        return self.predict_x0(image, 1)

    def example(self, image: Tensor, ids: Sequence[str]) -> dict[str, Tensor]:
        """Healthy images, one noised patch of each, reconstructions from half of T."""
        keys = slice_keys(0, ids, image.device)
        return {
            "healthy": image,
            "noised": self.drawn(image, keys, Stage.VALIDATION)[2].clamp(0, 1),
            "reconstruction": self._half_way(image, keys).clamp(0, 1),
        }

    def record(self) -> dict[str, Any]:
        """Kind of noise, size of the patch and range."""
        noise = describe(self.noise)
        return {"noise": noise, "patch": self.patch, "data_range": [0.0, 1.0]}

    def _half_way(self, image: Tensor, keys: Tensor) -> Tensor:
        eps = self.noise(keys, image.shape[1:], Stage.VALIDATION, Draw.FORWARD)
        return self.reconstruct(image, math.ceil(self.schedule.T / 2), eps)
