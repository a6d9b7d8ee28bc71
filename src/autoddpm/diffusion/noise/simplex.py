"""Multi-octave simplex noise (Wyatt et al., AnoDDPM, CVPR Workshops 2022)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from autoddpm.extras import need
from autoddpm.random import Draw, Stage, random_words


class Simplex:
    """Smooth noise: a sum of fields of simplex noise, each of half the wave length of the last.

    As AnoDDPM's, the sum is not normalised to unit variance, and the plane is cut from a 3-D field
    at height t. It is computed on the CPU, field by field (some milliseconds each), and any other
    device waits for it.

    octaves: number of fields.
    persistence: amplitude of each field over that of the last.
    frequency: wave length of the first octave in pixels.
    """

    def __init__(self, octaves: int = 6, persistence: float = 0.8, frequency: float = 64) -> None:
        self.octaves, self.persistence, self.frequency = octaves, persistence, frequency

    def __call__(
        self,
        keys: Tensor,
        shape: Sequence[int],
        stage: Stage,
        draw: Draw,
        t: Tensor | int = 0,
        repeat: int = 0,
    ) -> Tensor:
        """(B, *shape) float32 on the keys' device; arguments as `Noise`.

        Raises ValueError if the shape is not (C, H, W).
        """
        if len(shape) != 3:
            raise ValueError("noise=simplex is a plane of noise: it goes with slices, not volumes")
        channels, *size = shape
        words = random_words(keys, 2 * channels, stage, draw, t, repeat).cpu()
        # 63 bits: opensimplex takes a signed 64-bit seed.
        seeds = (words[:, 0::2] << 31 ^ words[:, 1::2]).tolist()
        heights = torch.as_tensor(t).expand(len(keys)).tolist()
        fields = [
            [self._field(seed, height, size) for seed in of_channels]
            for of_channels, height in zip(seeds, heights, strict=True)
        ]
        return torch.from_numpy(np.array(fields)).float().to(keys.device)

    def _field(self, seed: int, height: float, size: Sequence[int]) -> np.ndarray:
        # Late: it is needed for this noise alone, and compiles where it can.
        need("train", "opensimplex")
        from opensimplex import OpenSimplex

        generator = OpenSimplex(seed)
        field = np.zeros(tuple(size))
        for octave in range(self.octaves):
            wave_length = self.frequency / 2**octave
            rows, columns = (np.arange(n) / wave_length for n in size)
            plane = generator.noise3array(columns, rows, np.array([height / wave_length]))
            field += self.persistence**octave * plane[0]
        return field
