"""Noise: a callable (keys, shape, stage, draw, t, repeat) -> (B, *shape) float32."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from autoddpm.random import Draw, Stage, slice_keys


class Noise(Protocol):
    """A kind of noise: a pure function of the slices' keys and of what the noise is for.

    keys: (B, 2), see `autoddpm.random`.
    shape: of one sample, (C, *space).
    """

    def __call__(
        self,
        keys: Tensor,
        shape: Sequence[int],
        stage: Stage,
        draw: Draw,
        t: Tensor | int = 0,
        repeat: int = 0,
    ) -> Tensor: ...


@dataclass(frozen=True)
class NoiseOf:
    """The noise of one batch in one stage of a method: `noise_of(draw, t, repeat)`, (B, *shape).

    first_repeat: what every `repeat` is counted from.
    """

    noise: Noise
    keys: Tensor
    shape: tuple[int, ...]
    stage: Stage
    first_repeat: int = 0

    @classmethod
    def batch(
        cls, noise: Noise, seed: int, ids: Sequence[str], image: Tensor, stage: Stage
    ) -> "NoiseOf":
        """For the slices `ids`, whose images are (B, *shape), on the images' device."""
        return cls(noise, slice_keys(seed, ids, image.device), tuple(image.shape[1:]), stage)

    def again(self, number: int) -> "NoiseOf":
        """Other noise for the same slices: of chain `number`, if each time is passed once.

        Chain 0 is the one without `again`.
        """
        return replace(self, first_repeat=number)

    def __call__(self, draw: Draw, t: Tensor | int = 0, repeat: int = 0) -> Tensor:
        repeat += self.first_repeat
        return self.noise(self.keys, self.shape, self.stage, draw, t, repeat)
