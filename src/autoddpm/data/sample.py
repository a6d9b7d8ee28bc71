"""The sample: its record on disk, and the batch that a network or a detector is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

#: A slice is healthy if its lesion has at most this many pixels, as the published authors decided.
HEALTHY_PIXELS = 1


@dataclass(frozen=True)
class Record:
    """One slice or volume on disk. A data set is a function that returns a list of these.

    id: unique over all sources, e.g. "ixi/IXI002". The randomness of training and detection is
        keyed by it.
    subject: the person, e.g. "IXI002". The same person has the same subject in every source.
    split: train, val or test.
    images: the file of each modality, e.g. {"T1": path}, in the order of the channels.
    lesion: the file of the true lesion, on the images' grid; see `read_lesion`. None if it is
        healthy.
    windowed: the images are in [0, 1] already, as they are to be.
    origin: its provenance, for the index: see `ORIGIN` in `autoddpm.data.store`.
    dimensions: 2 if a file holds one slice, 3 if it holds a volume (NIfTI).
    above_0: every pixel above 0 of the mask is lesion; see `mask_of`.
    preparation: how slices were made from volumes, in plain containers. None if nobody says.
    """

    id: str
    subject: str
    split: Split
    images: Mapping[str, Path]
    lesion: Path | None = None
    windowed: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)
    dimensions: int = 2
    above_0: bool = False
    preparation: Mapping[str, Any] | None = None

    @property
    def files(self) -> str:
        """The image files, as messages name them."""
        return " + ".join(str(path) for path in self.images.values())


class Batch(NamedTuple):
    """B samples; their space is (H, W) or (D, H, W).

    image: (B, C, *space) float32 in [0, 1], one channel per modality.
    lesion: (B, 1, *space) bool, the true lesion, never the predicted mask.
    id: B names.
    epoch: (B,) int64, how often the training stream had gone through the set before this sample; 0
        outside training.
    """

    image: Tensor
    lesion: Tensor
    id: list[str]
    epoch: Tensor
