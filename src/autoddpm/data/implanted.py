"""Phantom lesions in IXI's validation subjects: what to choose a recipe or a threshold by, never to report."""

import hashlib
import json
import shutil
import uuid
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from autoddpm.data.image_file import read_image
from autoddpm.data.ixi import ixi
from autoddpm.data.phantom_anatomy import CENTRE, SHAPE, SLICE_Z, Array, Axes, Cut, atlas, step
from autoddpm.data.phantom_lesion import Lesion
from autoddpm.data.preprocess import window98
from autoddpm.data.slices import SliceRecord

VERSION = 1
TISSUE = 0.4  # of the windowed slice: what is darker is fluid, and no place for a lesion


def ixi_tuning(root: str | Path, folder: str | Path, lesions: int = 4, seed: int = 0) -> list[SliceRecord]:
    """IXI's validation subjects (slices on the template's grid), every second one to calibrate on (split val), the
    others to test on: once healthy, and `lesions` times with a phantom lesion, in turn small, medium and large.

    The slices with lesions are written once to `folder`/ixi_tuning-<hash>/. The lesions are of the phantoms' kind and
    not of the outlines of `ixi_stroke`. Raises ValueError where a slice is not 233 x 197.
    """
    healthy = sorted((r for r in ixi(root) if r.split == "val"), key=lambda record: record.id)
    settings = [VERSION, lesions, seed, [[r.id, hashlib.sha256(r.image.read_bytes()).hexdigest()] for r in healthy]]
    place = Path(folder) / f"ixi_tuning-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"
    calibrate, test = healthy[::2], healthy[1::2]
    if not place.is_dir():
        _build(place, test, lesions, seed)
    records = [_renamed(r, "val") for r in calibrate] + [_renamed(r, "test") for r in test]
    for record in test:
        for number in range(lesions):
            name = f"{record.subject}_{number}.png"
            slice_id = f"ixi_tuning/{record.subject}_{number}"
            files = place / "images" / name, place / "lesions" / name
            records.append(SliceRecord(slice_id, record.subject, "test", *files))
    return sorted(records, key=lambda record: record.id)


def _renamed(record: SliceRecord, split: str) -> SliceRecord:
    return SliceRecord(f"ixi_tuning/{record.subject}", record.subject, split, record.image)  # type: ignore[arg-type]


def _build(place: Path, records: list[SliceRecord], lesions: int, seed: int) -> None:
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        for part in ("images", "lesions"):
            (temporary / part).mkdir(parents=True)
        for row, record in enumerate(track(records, "Implanting phantom lesions")):
            for number in range(lesions):
                image, mask = implant(record, (seed, row * lesions + number))
                _save(temporary / "images" / f"{record.subject}_{number}.png", image)
                _save(temporary / "lesions" / f"{record.subject}_{number}.png", mask)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def implant(record: SliceRecord, key: tuple[int, ...]) -> tuple[Array, Array]:
    """A slice with a phantom lesion in it: the windowed image (233, 197) in [0, 1], and the lesion, bool.

    key: of the lesion; its last number modulo 3 is the size group. Raises ValueError on another size.
    """
    image = window98(read_image(record.image))
    if image.shape != (SHAPE[1], SHAPE[0]):
        raise ValueError(f"{record.image}: has {image.shape} pixels, not 233 x 197 on the template's grid")
    axes: Axes = np.arange(SHAPE[0], dtype=float), np.arange(SHAPE[1], dtype=float), np.array([float(SLICE_Z)])
    head = _cut(np.rot90(image, -1)[..., None])
    lesion = Lesion(key, head, axes)
    tissue = step(head.image - TISSUE, 0.05)
    strength = lesion.strength(head, axes) * tissue
    changed = lesion.apply(head, strength, axes)
    return np.rot90(changed[..., 0]), np.rot90(strength[..., 0] >= 0.5)


def _cut(image: Array) -> Cut:
    """A registered slice with the template's distances."""
    template, plane = atlas(), SLICE_Z / 2
    below = int(plane)

    def fine(channel: Array) -> Array:
        middle = 0.5 * (channel[:, :, below] + channel[:, :, below + 1]) if plane != below else channel[:, :, below]
        rows = np.minimum(np.arange(SHAPE[0]) // 2, middle.shape[0] - 1)
        columns = np.minimum(np.arange(SHAPE[1]) // 2, middle.shape[1] - 1)
        return middle[np.ix_(rows, columns)][..., None]

    side = np.broadcast_to((np.arange(SHAPE[0]) - CENTRE[0])[:, None, None], image.shape)
    return Cut(image, fine(template.hull), fine(template.ventricle), side)


def _save(path: Path, image: Array) -> None:
    Image.fromarray(np.round(255 * image.astype(np.float32)).astype(np.uint8)).save(path)
