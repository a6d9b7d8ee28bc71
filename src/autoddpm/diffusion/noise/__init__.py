"""Noise: a callable (keys, size, stage, draw, t, repeat) -> (B, 1, H, W) float32."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from autoddpm.random import Draw, Stage, slice_keys


class Noise(Protocol):
    """What a kind of noise is: a pure function of the slices' keys and of what the noise is for."""

    def __call__(
        self,
        keys: Tensor,
        size: Sequence[int],
        stage: Stage,
        draw: Draw,
        t: Tensor | int = 0,
        repeat: int = 0,
    ) -> Tensor: ...


@dataclass(frozen=True)
class NoiseOf:
    """The noise of one batch in one stage of a method: `noise_of(draw, t, repeat)` is (B, 1, H,
    W)."""

    noise: Noise
    keys: Tensor
    size: tuple[int, int]
    stage: Stage

    @classmethod
    def batch(
        cls, noise: Noise, seed: int, ids: Sequence[str], image: Tensor, stage: Stage
    ) -> "NoiseOf":
        """For the slices `ids`, whose images are (B, 1, H, W), on the images' device."""
        return cls(
            noise, slice_keys(seed, ids, image.device), (image.shape[-2], image.shape[-1]), stage
        )

    def __call__(self, draw: Draw, t: Tensor | int = 0, repeat: int = 0) -> Tensor:
        return self.noise(self.keys, self.size, self.stage, draw, t, repeat)
