"""Restoration: one call from a slice with anomalies to the healthy slice.

Trained on synthetic anomalies alone, as foreign patch interpolation (Tan et al., 2020) and DISYRE
(Naval Marimont et al., 2024): the lesions of patients are never seen.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoddpm.autoencoder.corruption import Corruption
from autoddpm.autoencoder.restorer import VISIBLE, Restorer


@dataclass(frozen=True)
class RestorationObjective(Corruption):
    """Corruptions that a restoration is trained on, and its loss.

    lesion_weight: weight of the error in a corrupted pixel, beside 1 in the others.
    loss: "l1", the absolute error, or "mse", the squared one.
    """

    lesion_weight: float = 30.0
    loss: str = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lesion_weight > 0:
            raise ValueError(f"objective.lesion_weight={self.lesion_weight}: must be above 0")
        if self.loss not in ("l1", "mse"):
            raise ValueError(f"objective.loss={self.loss}: must be l1 or mse")

    def errors(self, restored: Tensor, image: Tensor, share: Tensor) -> Tensor:
        """Weighted error per image, (B,)."""
        weight = torch.where(share > VISIBLE, self.lesion_weight, 1.0)
        error = (restored - image).abs()
        if self.loss == "mse":
            error = error.square()
        return (weight * error).flatten(1).mean(1)


class Restoration(Restorer):
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
        if not isinstance(time, int) or time < 0:
            raise ValueError(f"model.time={time}: must be a whole number of 0 or more")
        super().__init__(unet, objective or RestorationObjective(), channels, dimensions)
        self.time = time
        self.forget_output()

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
