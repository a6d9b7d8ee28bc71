"""Restoration: one call from a slice with anomalies to the healthy slice.

Trained on synthetic anomalies alone, as foreign patch interpolation (Tan et al., 2020) and DISYRE
(Naval Marimont et al., 2024): the lesions of patients are never seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoddpm.autoencoder.corruption import Corrupted, Corruption
from autoddpm.random import Stage, slice_keys

VISIBLE = 0.05  # of a pixel's share: above it the pixel belongs to an anomaly


@dataclass(frozen=True)
class RestorationObjective(Corruption):
    """Corruptions that a restoration is trained on, and its loss.

    lesion_weight: weight of the error in a corrupted pixel, beside 1 in the others.
    """

    lesion_weight: float = 9.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lesion_weight > 0:
            raise ValueError(f"objective.lesion_weight={self.lesion_weight}: must be above 0")

    def errors(self, restored: Tensor, image: Tensor, share: Tensor) -> Tensor:
        """Weighted absolute error per image, (B,)."""
        weight = torch.where(share > VISIBLE, self.lesion_weight, 1.0)
        return (weight * (restored - image).abs()).flatten(1).mean(1)


class Restoration(nn.Module):
    """A network that returns the change from an image to the healthy one.

    Images are (B, C, *space) in [0, 1].

    unet: network (image, times (B,)) -> change, as the image. A DDPM's denoiser is one.
    time: the second argument of the network, always the same. A denoiser knows it as a faint noise.
    channels: C.
    dimensions: of space, 2 or 3.
    objective: what it is trained on. None: the defaults.
    """

    def __init__(
        self,
        unet: nn.Module,
        time: int = 20,
        channels: int = 1,
        dimensions: int = 2,
        objective: RestorationObjective | None = None,
    ) -> None:
        super().__init__()
        self.unet, self.time = unet, time
        self.channels, self.dimensions = channels, dimensions
        self.objective = objective or RestorationObjective()
        self.forget_output()

    @property
    def network(self) -> nn.Module:
        """The U-Net."""
        return self.unet

    def forget_output(self) -> None:
        """Set the last layer to 0: a restoration begins with changing nothing."""
        layers = [one for one in self.unet.modules() if isinstance(one, (nn.Conv2d, nn.Conv3d))]
        for values in layers[-1].parameters():
            nn.init.zeros_(values)

    def begin_with(self, other: Any) -> None:
        """Take the weights of another family's network, such as a DDPM's denoiser.

        Raises ValueError if that network is another, or knows images of another range.
        """
        if (known := other.record().get("data_range")) != self.record()["data_range"]:
            raise ValueError(
                f"its network knows images of {known}, a restoration sees [0, 1]; begin with one "
                "that was trained on [0, 1], or without (begin_from=null)"
            )
        try:
            self.unet.load_state_dict(other.network.state_dict())
        except RuntimeError as error:
            differences = [line.strip() for line in str(error).splitlines()[1:]]
            raise ValueError(
                f"its network is not that of `model`: {differences[0][:200]}; choose the model "
                "that it was trained with, such as model.unet.channels"
            ) from error
        self.forget_output()

    def restore(self, image: Tensor) -> Tensor:
        """The healthy image, as the network estimates it. It may leave [0, 1]."""
        times = torch.full((len(image),), self.time, device=image.device)
        return image + self.unet(image, times).to(image.dtype)

    def seen(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Images as the network sees them in training: corrupted."""
        return self.objective(image, keys, Stage.TRAINING, epoch).image

    def loss(self, image: Tensor, keys: Tensor, epoch: Tensor) -> Tensor:
        """Training's loss, (B,): the weighted absolute error. Arguments as `Model`."""
        corrupted = self.objective(image, keys, Stage.TRAINING, epoch)
        return self.objective.errors(self.restore(corrupted.image), image, corrupted.share)

    @property
    def validation_names(self) -> list[str]:
        """The weighted error; the parts of it in anomalies and outside, and of untouched images."""
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
        corrupted: Corrupted = self.objective(image, keys, Stage.VALIDATION)
        restored = self.restore(corrupted.image).clamp(0, 1)
        difference = (restored - corrupted.image).abs()
        return {
            "healthy": image,
            "corrupted": corrupted.image,
            "restored": restored,
            "difference": difference,
        }

    def record(self) -> dict[str, Any]:
        """The range of the images."""
        return {"data_range": [0.0, 1.0]}
