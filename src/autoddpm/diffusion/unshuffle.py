"""A denoiser that works on fewer, deeper pixels: the cheap shape for CPUs."""

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class Unshuffled(nn.Module):
    """A network between a pixel-unshuffle and a pixel-shuffle: `factor` x `factor` pixels are one of as many channels.

    network: (x (B, factor^2, H/factor, W/factor), timesteps (B,)) -> the same shape. Nothing is lost on the way in, and
    every layer costs `factor`^2 times less. H and W must be multiples of `factor`.
    """

    def __init__(self, network: nn.Module, factor: int = 2) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 1, H, W)."""
        return pixel_shuffle(self.network(self.unshuffle(x), timesteps), self.factor)

    def unshuffle(self, x: Tensor) -> Tensor:
        """What the network sees of (B, 1, H, W)."""
        return pixel_unshuffle(x, self.factor)
