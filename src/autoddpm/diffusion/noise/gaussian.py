"""White Gaussian noise, the noise of the DDPM (paper, section 2)."""

from collections.abc import Sequence

from torch import Tensor

from autoddpm.random import Draw, Stage, normal


class Gaussian:
    """Independent standard normals in every pixel."""

    def __call__(
        self,
        keys: Tensor,
        size: Sequence[int],
        stage: Stage,
        draw: Draw,
        t: Tensor | int = 0,
        repeat: int = 0,
    ) -> Tensor:
        """keys: (B, 2), see `autoddpm.random`. Returns (B, 1, H, W) float32."""
        height, width = size
        return normal(keys, height * width, stage, draw, t, repeat).view(-1, 1, height, width)
