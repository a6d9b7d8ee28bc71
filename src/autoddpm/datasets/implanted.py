"""ixi_tuning: IXI's validation subjects with phantom lesions, to choose recipes and thresholds by.

Results on it are not to be reported.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from rich.progress import track

from autoddpm.atomic import folder_written_whole
from autoddpm.data import shift
from autoddpm.data.image_file import write_picture
from autoddpm.data.sample import Record, Split
from autoddpm.data.shift import older, rescanned
from autoddpm.datasets.ixi import ixi, windowed_on_template
from autoddpm.datasets.phantom.anatomy import CENTRE, MIDDLE, Array, Cut, atlas, step
from autoddpm.datasets.phantom.lesion import Lesion
from autoddpm.preparation.template import SHAPE, SLICE_Z

VERSION = 1
TISSUE = 0.4  # of the windowed slice: what is darker is fluid, and no place for a lesion


def ixi_tuning(
    root: str | Path,
    folder: str | Path,
    lesions: int = 4,
    seed: int = 0,
    shifted: Sequence[Split] = (),
) -> list[Record]:
    """IXI's validation subjects: every second one to calibrate on, the others to test on.

    A subject to test on has a healthy slice, and `lesions` slices with a phantom lesion, in turn
    small, medium and large. The lesions are of the phantoms' kind and not of the outlines of
    `ixi_stroke`.

    root: IXI's slices on the template's grid, see `ixi`.
    folder: slices with lesions, and shifted ones, are written once to its ixi_tuning-<hash>/.
    lesions: slices with a lesion per subject.
    seed: of the lesions.
    shifted: splits whose slices are seen by other scanners and at an older age, each in its own way
        (`autoddpm.data.shift`). A shifted test set has `lesions` healthy slices of each subject,
        too.

    Raises ValueError if a slice is not 233 x 197.
    """
    healthy = sorted((r for r in ixi(root) if r.split == "val"), key=lambda record: record.id)
    digests = [[r.id, hashlib.sha256(r.images["T1"].read_bytes()).hexdigest()] for r in healthy]
    settings = [VERSION, lesions, seed, digests]
    settings += [shift.VERSION, *sorted(shifted)] if shifted else []
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    place = Path(folder) / f"ixi_tuning-{key}"
    variants = list(_variants(healthy, lesions, seed, shifted))
    if not place.is_dir():
        _build(place, [variant for variant in variants if variant.is_written], seed)
    return sorted((variant.as_record(place) for variant in variants), key=lambda r: r.id)


@dataclass(frozen=True)
class Variant:
    """A slice of the tuning set.

    of: IXI's slice.
    split: of the tuning set.
    name: tells it from others of the subject.
    lesion: the key of its phantom lesion.
    is_shifted: it is seen by another scanner and at an older age.
    """

    of: Record
    split: Split
    name: str
    lesion: tuple[int, ...] | None
    is_shifted: bool

    @property
    def file(self) -> str:
        return f"{self.of.subject}_{self.name}.png"

    @property
    def is_written(self) -> bool:
        return self.is_shifted or self.lesion is not None

    def as_record(self, place: Path) -> Record:
        """The record; `place` holds images/ and lesions/."""
        slice_id = f"ixi_tuning/{self.of.subject}" + (f"_{self.name}" if self.name else "")
        image = place / "images" / self.file if self.is_written else self.of.images["T1"]
        mask = place / "lesions" / self.file if self.lesion is not None else None
        return Record(slice_id, self.of.subject, self.split, {"T1": image}, mask)

    def draw(self, seed: int) -> tuple[Array, Array]:
        """Image (233, 197) in [0, 1], and lesion, bool."""
        image: Array = windowed_on_template(self.of)
        key = f"ixi_tuning/{seed}/{self.of.subject}/{self.name}"
        lesion = np.zeros(image.shape, bool)
        if self.is_shifted:
            image = older(image, key)
        if self.lesion is not None:
            image, lesion = implant(image, self.lesion)
        if self.is_shifted:
            image, lesion = rescanned(image, lesion, key)
        return image, lesion


def _variants(
    healthy: Sequence[Record], lesions: int, seed: int, shifted: Sequence[Split]
) -> Iterator[Variant]:
    """All slices of the tuning set."""
    for position, record in enumerate(healthy):
        split: Split = "test" if position % 2 else "val"
        is_shifted = split in shifted
        for n in range(lesions if is_shifted and split == "test" else 1):
            yield Variant(record, split, f"h{n}" if is_shifted else "", None, is_shifted)
        if split == "test":
            row = position // 2
            for n in range(lesions):
                yield Variant(record, split, str(n), (seed, row * lesions + n), is_shifted)


def _build(place: Path, variants: list[Variant], seed: int) -> None:
    with folder_written_whole(place) as temporary:
        for part in ("images", "lesions"):
            (temporary / part).mkdir()
        for variant in track(variants, "Drawing slices to choose by"):
            image, lesion = variant.draw(seed)
            write_picture(temporary / "images" / variant.file, image)
            if variant.lesion is not None:
                write_picture(temporary / "lesions" / variant.file, lesion)


def implant(image: Array, key: tuple[int, ...]) -> tuple[Array, Array]:
    """A slice with a phantom lesion in it, and the lesion, bool.

    image: windowed, (233, 197) in [0, 1].
    key: of the lesion. Its last number modulo 3 is the size group.
    """
    head = _cut(np.rot90(image, -1)[..., None])
    lesion = Lesion(key, head, MIDDLE)
    tissue = step(head.image - TISSUE, 0.05)
    strength = lesion.strength(head, MIDDLE) * tissue
    changed = lesion.apply(head, strength, MIDDLE)
    return np.rot90(changed[..., 0]), np.rot90(strength[..., 0] >= 0.5)


@lru_cache(maxsize=1)
def template_planes() -> tuple[Array, Array, Array]:
    """Distances in mm at the slices' height in the template, as pictures (233, 197).

    They are those to the brain's outline and to the ventricles, both negative inside, and to the
    right of the midline.
    """
    cut = _cut(np.zeros((SHAPE[0], SHAPE[1], 1)))
    hull, ventricle, side = (
        np.rot90(one[..., 0]).astype(float) for one in (cut.hull, cut.ventricle, cut.side)
    )
    return hull, ventricle, side


def _cut(image: Array) -> Cut:
    """A registered slice with the template's distances."""
    template, plane = atlas(), SLICE_Z / 2
    below = int(plane)

    def fine(channel: Array) -> Array:
        middle = (
            0.5 * (channel[:, :, below] + channel[:, :, below + 1])
            if plane != below
            else channel[:, :, below]
        )
        rows = np.minimum(np.arange(SHAPE[0]) // 2, middle.shape[0] - 1)
        columns = np.minimum(np.arange(SHAPE[1]) // 2, middle.shape[1] - 1)
        return middle[np.ix_(rows, columns)][..., None]

    side = np.broadcast_to((np.arange(SHAPE[0]) - CENTRE[0])[:, None, None], image.shape)
    return Cut(image, fine(template.hull), fine(template.ventricle), side)
