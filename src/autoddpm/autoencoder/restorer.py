"""A network that returns a healthy image for an altered one: what restoration and DAE share."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from autoddpm.autoencoder.corruption import Corrupted
from autoddpm.random import Stage, slice_keys

VISIBLE = 0.05  # of a pixel's share: above it the pixel belongs to an anomaly


class Alteration(Protocol):
    """What a restorer is trained to undo, and the loss of what it returns."""

    def __call__(
        self, image: Tensor, keys: Tensor, stage: Stage, epoch: Tensor | int = 0
    ) -> Corrupted:
        """Alter a batch. Arguments as `Corruption`."""

    def errors(self, restored: Tensor, image: Tensor, share: Tensor) -> Tensor:
        """Loss per image, (B,).

        share: (B, 1, *space) in [0, 1], how much of a pixel was altered.
        """


class Restorer(nn.Module):
    """Base of the models that are trained to undo an alteration of healthy images.

    Images are (B, C, *space) in [0, 1].

    unet: network image -> healthy image, unless `restore` says otherwise.
    objective: what it is trained to undo.
    channels: C.
    dimensions: of space, 2 or 3.
    """

    def __init__(
        self, unet: nn.Module, objective: Alteration, channels: int = 1, dimensions: int = 2
    ) -> None:
        super().__init__()
        self.unet, self.objective = unet, objective
        self.channels, self.dimensions = channels, dimensions

    @property
    def network(self) -> nn.Module:
        """The U-Net."""
        return self.unet

    def restore(self, image: Tensor) -> Tensor:
        """The healthy image, as the network estimates it. It may leave [0, 1]."""
        restored: Tensor = self.unet(image)
        return restored.to(image.dtype)

    def seen(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Images as the network sees them in training: corrupted."""
        return self.objective(image, keys, Stage.TRAINING, epoch).image

    def loss(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Training's loss, (B,): that of the objective. Arguments as `Model`."""
        corrupted = self.objective(image, keys, Stage.TRAINING, epoch)
        return self.objective.errors(self.restore(corrupted.image), image, corrupted.share)

    @property
    def validation_names(self) -> list[str]:
        """The loss; errors in altered pixels and in the others; the error of untouched images."""
        return ["loss", "error_anomalous", "error_around", "error_untouched"]

    def validation_losses(self, image: Tensor, keys: Tensor) -> dict[str, Tensor]:
        """Losses by name, (B,) each, with the same corruptions at each validation.

        The errors are means of the absolute error over all pixels of an image.
        """
        corrupted = self.objective(image, keys, Stage.VALIDATION)
        restored = self.restore(corrupted.image)
        error, anomalous = (restored - image).abs(), corrupted.share > VISIBLE
        return {
            "loss": self.objective.errors(restored, image, corrupted.share),
            "error_anomalous": (error * anomalous).flatten(1).mean(1),
            "error_around": (error * ~anomalous).flatten(1).mean(1),
            "error_untouched": (self.restore(image) - image).abs().flatten(1).mean(1),
        }

    def trial(self, image: Tensor) -> Tensor:
        """One call of the network."""
        return self.restore(image)

    def example(self, image: Tensor, ids: Sequence[str]) -> dict[str, Tensor]:
        """Healthy, corrupted and restored images, and their difference."""
        keys = slice_keys(0, ids, image.device)
        corrupted = self.objective(image, keys, Stage.VALIDATION)
        seen = corrupted.image.clamp(0, 1)  # noise may leave the range
        restored = self.restore(corrupted.image).clamp(0, 1)
        return {
            "healthy": image,
            "corrupted": seen,
            "restored": restored,
            "difference": (restored - seen).abs(),
        }

    def record(self) -> dict[str, Any]:
        """The range of the images."""
        return {"data_range": [0.0, 1.0]}
