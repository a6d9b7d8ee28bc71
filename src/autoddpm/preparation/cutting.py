"""From one raw volume to its slices: correct, find the brain, register, cut, window, save."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from autoddpm.atomic import written_whole
from autoddpm.data.lesion_size import GROUPS, size_group
from autoddpm.data.preprocess import pad_to_square, resize_lesion, window98
from autoddpm.preparation.geometry import Array, SliceGeometry
from autoddpm.preparation.registration import (
    brain_dice,
    brain_mask,
    cut,
    is_on_template_grid,
    n4,
    register,
    template,
)
from autoddpm.preparation.volume import Source, Volume, read_mask, read_volume


@dataclass(frozen=True)
class RawVolume:
    """One volume of a data set as it was downloaded.

    id: of the volume and, with `_zNNN` where it gives several, of its slices.  lesion: mask on the
        volume's grid.
    boxes: instead of a mask, for each slice (z from 0, as stored) the rectangles (x, y, width,
        height) of what is not
    healthy, in the picture with the front of the head above.  slices: instead of the settings',
    these.
    excluded: why it is not to be used; then nothing is read.  about: further columns of the index.
    """

    id: str
    subject: str
    split: str
    image: Source
    lesion: Source | None = None
    boxes: Mapping[int, Sequence[tuple[int, int, int, int]]] = field(default_factory=dict)
    slices: Sequence[int] | None = None
    site: str = ""
    excluded: str = ""
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Steps:
    """What is done to each volume, in this order. Volumes on the template's grid already are
    neither corrected nor registered.

    n4: correct the bias field.  brain_mask: "deepbet", "nonzero" (volumes without skull) or "none".
    register: affinely to ICBM 2009a symmetric at 1 mm, brain to brain.
    slices: axial indices, of the template's grid after a registration, else of the volume: a
        number, "middle" (n // 2, counted from 0), or "FIRST:END" or "FIRST:END:STEP" as Python's
        ranges.
    window: whose 98th percentile becomes 1: "slice" (done by `preprocess`, the paper's), "volume"
        or "brain".
    """

    n4: bool = True
    brain_mask: str = "deepbet"
    register: bool = True
    slices: int | str = 95
    window: str = "slice"

    def __post_init__(self) -> None:
        if self.brain_mask not in ("deepbet", "nonzero", "none"):
            raise ValueError(
                f"steps.brain_mask={self.brain_mask}: must be deepbet, nonzero or none"
            )
        if self.window not in ("slice", "volume", "brain"):
            raise ValueError(f"steps.window={self.window}: must be slice, volume or brain")
        if self.brain_mask == "none" and (self.register or self.window == "brain"):
            raise ValueError(
                "steps.brain_mask=none: registration and window=brain need the brain; choose "
                "deepbet"
            )
        _axial(self.slices, 200)

    def axial(self, depth: int) -> list[int]:
        """The indices in a volume of this depth; ValueError where one is outside."""
        return _axial(self.slices, depth)


def cut_volume(raw: RawVolume, steps: Steps, folder: Path) -> list[dict[str, Any]]:
    """Write a volume's slices to `folder`/slices (and lesions); returns a row of the index for
    each.

    The lesion's pixels and size group are those at 128 x 128, whatever the size of the store.

    Raises ValueError that names the file, as `read_volume` and `read_mask` do, and where no brain
    is found, or a slice is empty or not there; then nothing is written.
    """
    volume = read_volume(raw.image)
    lesion = read_mask(raw.lesion, volume, raw.image) if raw.lesion else None
    data, quality, done = volume.data, "", []
    placed = is_on_template_grid(volume)
    to_source: Array = np.eye(4)
    grid: Array = volume.affine
    shape = volume.data.shape
    if steps.n4 and not placed:
        data = n4(volume)
        done.append("n4")
    corrected = Volume(data, volume.affine, volume.file_shape, volume.file_affine, volume.sha256)
    register_it = steps.register and not placed
    brain = None
    if register_it or steps.window == "brain":
        brain = brain_mask(corrected, steps.brain_mask)
        if not brain.any():
            raise ValueError(f"{raw.image}: no brain was found in it; look at it, or leave it out")
        done.append(f"brain:{steps.brain_mask}")
    if register_it and brain is not None:
        to_source, grid, shape = (
            register(corrected, brain),
            template().affine,
            template().data.shape,
        )
        quality = f"{brain_dice(brain, volume.affine, to_source):.4f}"
        done.append("registered")
    region = {"slice": None, "volume": data, "brain": None if brain is None else data[brain]}[
        steps.window
    ]
    scale = None if region is None else float(np.percentile(region, 98))
    if scale is not None and scale <= 0:
        raise ValueError(
            f"{raw.image}: 98 % of its voxels are not above 0; leave it out, or window=brain"
        )

    indices = steps.axial(shape[2]) if raw.slices is None else list(raw.slices)
    if wrong := [z for z in indices if not 0 <= z < shape[2]]:
        raise ValueError(f"{raw.image}: has no slice {wrong[0]}, it has {shape[2]}")
    rows, files = [], []
    for z in indices:
        plane = (shape[0], shape[1])
        image = cut(data, volume.affine, to_source, grid, plane, z).astype(np.float32)
        if image.min() == image.max():
            raise ValueError(
                f"{raw.image}: slice {z} is empty; choose another, or leave the volume out"
            )
        if scale is None:
            try:
                window98(
                    image
                )  # as `preprocess` will: refused here, where the volume can be left out
            except ValueError as error:
                raise ValueError(f"{raw.image}: slice {z} cannot be used: {error}") from error
        else:
            image = np.clip(image / scale, 0, 1)
        name = raw.id if len(indices) == 1 else f"{raw.id}_z{z:03d}"
        affine = grid @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, z], [0, 0, 0, 1.0]])
        files.append((f"slices/{name}.nii.gz", image, affine))
        row = {"id": name, "file": f"slices/{name}.nii.gz", "lesion_file": "", "slice": str(z)}
        mask, pixels = _lesion(raw, lesion, volume, to_source, grid, plane, z), 0
        if mask is not None and mask.any():
            row["lesion_file"] = f"lesions/{name}.nii.gz"
            files.append((row["lesion_file"], mask.astype(np.uint8), affine))
            pixels = int(np.count_nonzero(resize_lesion(pad_to_square(np.rot90(mask), False), 128)))
        source_shape = (volume.file_shape[0], volume.file_shape[1], volume.file_shape[2])
        geometry = SliceGeometry(plane, affine, to_source, source_shape, volume.file_affine)
        rows.append(
            row
            | {
                "lesion_pixels_128": str(pixels),
                "size_group": GROUPS[size_group([pixels], 128)[0]],
                "excluded": "",
                "source_sha256": volume.sha256,
                "steps": " ".join(done),
                "brain_dice": quality,
                "windowed": "" if scale is None else steps.window,
                "geometry": geometry.to_json(),
            }
        )
    for file, content, affine in files:
        _save(folder / file, content, affine)
    return rows


def _lesion(
    raw: RawVolume,
    lesion: np.ndarray | None,
    volume: Volume,
    to_source: np.ndarray,
    grid: np.ndarray,
    plane: tuple[int, int],
    z: int,
) -> np.ndarray | None:
    """(X, Y) bool, or None where nothing says that there might be one."""
    if lesion is not None:
        return cut(lesion.astype(np.float32), volume.affine, to_source, grid, plane, z) >= 0.5
    if not raw.boxes:
        return None
    mask = np.zeros((plane[1], plane[0]), bool)  # as a picture
    for x, y, width, height in raw.boxes.get(z, ()):
        if not (x < mask.shape[1] and y < mask.shape[0] and x + width > 0 and y + height > 0):
            raise ValueError(
                f"{raw.image}: slice {z} has {mask.shape[1]} x {mask.shape[0]} pixels, and the box "
                f"at ({x}, {y}) lies "
                "outside; the annotations are of another image"
            )
        mask[max(y, 0) : y + height, max(x, 0) : x + width] = True
    return np.rot90(mask, -1)


def _save(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    with written_whole(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(data[..., None], affine), temporary)


def _axial(slices: int | str, depth: int) -> list[int]:
    text = str(slices)
    try:
        if text == "middle":
            return [depth // 2]
        numbers = [int(part) for part in text.split(":")]
        chosen = numbers if len(numbers) == 1 else list(range(*numbers))
    except (TypeError, ValueError):
        chosen = []
    if not chosen or min(chosen) < 0:
        raise ValueError(
            f"steps.slices={slices}: must be an index from 0, middle, FIRST:END or FIRST:END:STEP"
        )
    return chosen
