"""White Gaussian noise, the noise of the DDPM (paper, section 2)."""

import math
from collections.abc import Sequence

from torch import Tensor

from autoddpm.random import Draw, Stage, normal


class Gaussian:
    """Independent standard normals in every pixel."""

    def __call__(
        self,
        keys: Tensor,
        shape: Sequence[int],
        stage: Stage,
        draw: Draw,
        t: Tensor | int = 0,
        repeat: int = 0,
    ) -> Tensor:
        """(B, *shape) float32; arguments as `Noise`."""
        return normal(keys, math.prod(shape), stage, draw, t, repeat).view(-1, *shape)
