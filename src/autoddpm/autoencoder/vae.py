"""Variational autoencoders of healthy images: VAE, and ceVAE, which also fills in masked squares.

VAE: Zimmerer et al., "Unsupervised Anomaly Localization using Variational Auto-Encoders", MICCAI
2019, arXiv 1907.02796. ceVAE: Zimmerer et al., "Context-encoding Variational Autoencoder for
Unsupervised Anomaly Detection", arXiv 1812.05941. Both are one network with two trainings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from autoddpm.random import Draw, Stage, normal, slice_keys, uniform


class Autoencoder(Protocol):
    """A network with a Gaussian code, such as MONAI's `AutoencoderKL`."""

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the code, both shaped alike."""

    def decode(self, code: Tensor) -> Tensor:
        """An image of a code."""


@dataclass(frozen=True)
class VAEObjective:
    """Weight of the code's divergence, and the squares that a ceVAE is shown.

    kl_weight: of the divergence beside half the squared error. It is the variance that a pixel of
        the decoder is taken to have: 1 is the plain evidence lower bound.
    boxes: the largest number of squares per image; an image has any number from 1 to it.
    box: the largest side of a square, as a share of the image's last side.
    """

    kl_weight: float = 0.005
    boxes: int = 3
    box: float = 0.5

    def __post_init__(self) -> None:
        if self.kl_weight < 0:
            raise ValueError(f"objective.kl_weight={self.kl_weight}: must be 0 or more")
        if not isinstance(self.boxes, int) or self.boxes < 1:
            raise ValueError(f"objective.boxes={self.boxes}: must be a whole number of 1 or more")
        if not 0 < self.box <= 1:
            raise ValueError(f"objective.box={self.box}: must be above 0 and at most 1")

    def masked(self, image: Tensor, keys: Tensor, stage: Stage, epoch: Tensor | int = 0) -> Tensor:
        """Images with squares of noise in them, shaped as the images.

        keys: (B, 2), see `autoddpm.random`; the result is a function of them, `stage` and `epoch`.
        """
        dimensions = image.ndim - 2
        u = uniform(keys, 1 + self.boxes * (dimensions + 1), stage, Draw.CORRUPTION, epoch)
        noise = uniform(keys, image[0].numel(), stage, Draw.TEXTURE, epoch).to(image.dtype)
        inside = torch.zeros_like(image[:, :1], dtype=torch.bool)
        for n, v in enumerate(u[:, 1:].split(dimensions + 1, 1)):
            is_drawn = n < 1 + (u[:, 0] * self.boxes).long()
            side = (v[:, 0] * self.box * image.shape[-1]).ceil()
            square = _per_image(is_drawn, image)
            for axis, length in enumerate(image.shape[2:]):
                room = (length - side + 1).clamp(min=1)
                first = _per_image((v[:, 1 + axis] * room).floor(), image)
                shape = [1] * image.ndim
                shape[2 + axis] = length
                place = torch.arange(length, device=image.device).view(shape)
                square = square & (place >= first) & (place < first + _per_image(side, image))
            inside |= square
        return torch.where(inside, noise.view_as(image), image)


class VAE(nn.Module):
    """An encoder to a Gaussian code and a decoder of it.

    Images are (B, C, *space) in [0, 1].

    network: encoder and decoder, see `Autoencoder`.
    context_weight: share of the loss that asks for the healthy image behind squares of noise.
        0 is the VAE, the ceVAE has one half.
    channels: C.
    dimensions: of space, 2 or 3.
    objective: further settings of the training alone. None: the defaults.
    """

    def __init__(
        self,
        network: nn.Module,
        context_weight: float = 0.0,
        channels: int = 1,
        dimensions: int = 2,
        objective: VAEObjective | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= context_weight < 1:
            raise ValueError(f"model.context_weight={context_weight}: must be in [0, 1)")
        self.network, self.context_weight = network, context_weight
        self.channels, self.dimensions = channels, dimensions
        self.objective = objective or VAEObjective()

    @property
    def _autoencoder(self) -> Autoencoder:
        return cast(Autoencoder, self.network)

    @property
    def name(self) -> str:
        """VAE or ceVAE, by its training."""
        return "ceVAE" if self.context_weight else "VAE"

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the code."""
        mean, deviation = self._autoencoder.encode(image)
        return mean.float(), deviation.float()

    def decode(self, code: Tensor) -> Tensor:
        """The image of a code. It may leave [0, 1]."""
        return self._autoencoder.decode(code).float()

    def restore(self, image: Tensor) -> Tensor:
        """The image of the mean code: nothing is drawn. It may leave [0, 1]."""
        return self.decode(self.encode(image)[0]).to(image.dtype)

    def kl_gradient(self, image: Tensor) -> Tensor:
        """Derivative of the code's divergence by each value of the image, shaped as the image.

        It is large for what takes the image away from the healthy ones. It costs a forward and a
        backward pass of the encoder, and works inside `torch.inference_mode` too.
        """
        with torch.inference_mode(False), torch.enable_grad():
            x = image.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(divergence(*self.encode(x)).sum(), x)
        return gradient

    def seen(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Images as the network sees them in training: a ceVAE's half with squares."""
        if not self.context_weight:
            return image
        return self.objective.masked(image, keys, Stage.TRAINING, epoch)

    def losses(
        self, image: Tensor, keys: Tensor, stage: Stage, epoch: Tensor | int = 0
    ) -> dict[str, Tensor]:
        """The loss and its parts per value of an image, (B,) each, by name. Arguments as `loss`."""
        mean, deviation = self.encode(image)
        eps = normal(keys, mean[0].numel(), stage, Draw.FORWARD, epoch).view_as(mean)
        kl = divergence(mean, deviation) / image[0].numel()
        error = half_squares(self.decode(mean + deviation * eps), image)
        loss = error + self.objective.kl_weight * kl  # minus the evidence lower bound, scaled
        if self.context_weight:
            masked = self.objective.masked(image, keys, stage, epoch)
            context = half_squares(self.restore(masked), image)
            loss = (1 - self.context_weight) * loss + self.context_weight * context
        return {"loss": loss, "error": error, "kl": kl}

    def loss(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Training's loss, (B,), of one code per image. Arguments as `Model`."""
        return self.losses(image, keys, Stage.TRAINING, epoch)["loss"]

    @property
    def validation_names(self) -> list[str]:
        """The loss; the errors of a drawn and of the mean code; the divergence per value."""
        return ["loss", "error", "kl", "error_untouched"]

    def validation_losses(self, image: Tensor, keys: Tensor) -> dict[str, Tensor]:
        """Losses by name, (B,) each, with the same codes and squares at each validation."""
        untouched = (self.restore(image) - image).abs().flatten(1).mean(1)
        return self.losses(image, keys, Stage.VALIDATION) | {"error_untouched": untouched}

    def trial(self, image: Tensor) -> Tensor:
        """One call of encoder and decoder."""
        return self.restore(image)

    def example(self, image: Tensor, ids: Sequence[str]) -> dict[str, Tensor]:
        """Healthy images, what they become, and of a ceVAE the same with squares."""
        shown = {"healthy": image, "restored": self.restore(image).clamp(0, 1)}
        if self.context_weight:
            keys = slice_keys(0, ids, image.device)
            masked = self.objective.masked(image, keys, Stage.VALIDATION)
            shown |= {"masked": masked, "filled": self.restore(masked).clamp(0, 1)}
        return shown

    def record(self) -> dict[str, Any]:
        """The range of the images, and the part of the training that may differ."""
        return {"data_range": [0.0, 1.0], "context_weight": self.context_weight}


def divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a Gaussian code from the standard normal, in nats, (B,)."""
    variance = deviation.square()
    return 0.5 * (mean.square() + variance - 1 - variance.log()).flatten(1).sum(1)


def half_squares(restored: Tensor, image: Tensor) -> Tensor:
    """Half the mean squared error per image, (B,)."""
    return 0.5 * (restored - image).square().flatten(1).mean(1)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, ..., 1), to go with `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))
