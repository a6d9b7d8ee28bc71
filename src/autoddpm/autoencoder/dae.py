"""Denoising autoencoder (DAE): a U-Net that takes coarse noise out of a healthy image.

Kascenas, Pugeault and O'Neil, "Denoising Autoencoders for Unsupervised Anomaly Detection in Brain
MRI", MIDL 2022. The noise is that of their code, not that of later copies in benchmarks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from autoddpm.autoencoder.corruption import Corrupted
from autoddpm.autoencoder.restorer import Restorer
from autoddpm.random import Draw, Stage, normal, uniform

FOREGROUND = 0.01  # the sum over channels above it is foreground, as in their code


def foreground(image: Tensor) -> Tensor:
    """The pixels that are not empty, (B, 1, *space) bool, of images (B, C, *space) in [0, 1]."""
    return image.sum(1, keepdim=True) > FOREGROUND


@dataclass(frozen=True)
class CoarseNoise:
    """Gaussian noise of a coarse grid in the foreground, and the squared error there.

    Normals on a grid are enlarged linearly and moved in a circle by a random offset, so that the
    grid has no place of its own. Between nodes the noise is weaker than at them.

    std: standard deviation at the grid's nodes.
    cells: nodes per side of the grid.
    """

    std: float = 0.2
    cells: int = 16

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"objective.std={self.std}: must be above 0")
        if self.cells < 2:
            raise ValueError(f"objective.cells={self.cells}: must be 2 or more")

    def __call__(
        self, image: Tensor, keys: Tensor, stage: Stage, epoch: Tensor | int = 0
    ) -> Corrupted:
        """Add noise to a batch. Arguments as `Corruption`. The result may leave [0, 1].

        The offset is drawn per slice; in their code it is drawn per batch.
        """
        share = foreground(image).to(image.dtype)
        return Corrupted(image + share * self.noise(image, keys, stage, epoch), share)

    def noise(self, image: Tensor, keys: Tensor, stage: Stage, epoch: Tensor | int = 0) -> Tensor:
        """Noise of every pixel, shaped as the image."""
        channels, *space = image.shape[1:]
        grid = [channels, *[self.cells] * len(space)]
        count = channels * self.cells ** len(space)
        nodes = self.std * normal(keys, count, stage, Draw.TEXTURE, epoch).view(-1, *grid)
        mode = {2: "bilinear", 3: "trilinear"}[len(space)]
        field = functional.interpolate(nodes, space, mode=mode, align_corners=True)
        return rolled(field, uniform(keys, len(space), stage, Draw.CORRUPTION, epoch))

    def errors(self, restored: Tensor, image: Tensor, share: Tensor) -> Tensor:
        """Squared error in the foreground, as a mean over all pixels of an image, (B,)."""
        return (share * (restored - image).square()).flatten(1).mean(1)


def rolled(field: Tensor, u: Tensor) -> Tensor:
    """A batch moved in a circle, each image by its own offset.

    field: (B, C, *space).
    u: (B, D) uniforms: the offsets as shares of the sides.
    """
    for axis in range(u.shape[1]):
        side, shape = field.shape[2 + axis], [1] * field.ndim
        shape[2 + axis] = side
        steps = (u[:, axis] * side).long().view(-1, *[1] * (field.ndim - 1))
        places = torch.arange(side, device=field.device).view(shape)
        field = torch.take_along_dim(field, (places - steps) % side, 2 + axis)
    return field


class DAE(Restorer):
    """A network that returns the healthy image itself, not its difference from what it is given.

    Their network is twice as wide, and Adam (amsgrad) trained it for 67,200 steps of 16. Here it is
    trained as all models are.

    Images are (B, C, *space) in [0, 1].

    unet: network with skip connections, image -> healthy image.
    channels: C.
    dimensions: of space, 2 or 3.
    objective: the noise it is trained to remove. None: theirs.
    """

    def __init__(
        self,
        unet: nn.Module,
        channels: int = 1,
        dimensions: int = 2,
        objective: CoarseNoise | None = None,
    ) -> None:
        super().__init__(unet, objective or CoarseNoise(), channels, dimensions)
