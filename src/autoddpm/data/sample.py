"""The slice: its record on disk, and the batch that a network or a detector is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from torch import Tensor

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

#: A slice is healthy if its lesion has at most this many pixels, as the published authors decided
# it.
HEALTHY_PIXELS = 1


@dataclass(frozen=True)
class SliceRecord:
    """One slice on disk. A data set is a function that returns a list of these.

    id: unique over all sources, e.g. "ixi/IXI002"; the randomness of training and detection is
        keyed by it.
    subject: who it is, e.g. "IXI002"; the same person has the same subject in every source.
    lesion: the file of the true lesion, of the image's size, any value above 0 is lesion; None is a
        healthy slice.
    windowed: the image is in [0, 1] already, as it is to be.
    origin: where the slice comes from, for the index: site, source, source_sha256, slice, geometry.
    """

    id: str
    subject: str
    split: Split
    image: Path
    lesion: Path | None = None
    windowed: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)


class Batch(NamedTuple):
    """B slices.

    image: (B, 1, H, W) float32 in [0, 1].  lesion: (B, 1, H, W) bool, the true lesion, never the
        predicted mask.
    id: B names.  epoch: (B,) int64, how often the training stream had gone through the set before
    this sample; 0 outside training.
    """

    image: Tensor
    lesion: Tensor
    id: list[str]
    epoch: Tensor
