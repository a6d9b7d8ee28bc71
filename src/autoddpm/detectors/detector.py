"""What every detector takes and gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from autoddpm.detectors.anomaly_map import AnomalyMap
from autoddpm.detectors.perceptual import Perceptual
from autoddpm.diffusion.sampler import Sampler


class Slices(Protocol):
    """The part of a batch that a detector may look at: never the lesion.

    image: (B, 1, H, W) float32 in [0, 1].  id: the slices' names, which seed their noise.
    """

    @property
    def image(self) -> Tensor: ...
    @property
    def id(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Detection:
    """What a detector says of a batch.

    anomaly_map:    (B, 1, H, W) float32 >= 0, higher is more anomalous.
    reconstruction: (B, 1, H, W) float32 in [0, 1], the pseudo-healthy image.
    calls:          (B,) int64, how often the denoiser was run for each slice.
    stages:         what happened on the way, by name, each (B, 1, H, W); for figures and
        calibration.
    """

    anomaly_map: Tensor
    reconstruction: Tensor
    calls: Tensor
    stages: dict[str, Tensor] = field(default_factory=dict)


class Detector(Protocol):
    """A callable over a batch of slices; nothing in a batch depends on another slice.

    It keeps every argument of its constructor as an attribute of the same name: they are the record
    of its results. One that has an attribute `uses_perceptual` which is False is recorded without
    its perceptual distance.
    """

    seed: int
    sampler: Sampler
    perceptual: Perceptual
    anomaly_map: AnomalyMap

    @property
    def label(self) -> str:
        """The name of the row in a table."""

    def __call__(self, batch: Slices) -> Detection: ...
