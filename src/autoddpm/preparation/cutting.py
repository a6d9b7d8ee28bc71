"""From one volume to its slices, in memory: correct, find the brain, register, window, cut."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoddpm.data.preprocess import window_scale
from autoddpm.preparation.correction import brain_mask, n4
from autoddpm.preparation.geometry import Array, SliceGeometry, interpolate_slice
from autoddpm.preparation.registration import brain_dice, register
from autoddpm.preparation.template import SHAPE, SLICE_Z, is_on_template_grid, template
from autoddpm.preparation.volume import Boxes, Volume

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Steps:
    """The steps that each volume goes through, in this order.

    Volumes that lie on the template's grid already are neither corrected nor registered.

    n4: correct the bias field.
    brain_mask: "deepbet", "nonzero" (volumes without skull) or "none".
    register: affinely to ICBM 2009a symmetric at 1 mm, brain to brain.
    slices: axial indices, of the template's grid after a registration, else of the volume. A
        number, "middle" (n // 2, counted from 0), or "FIRST:END" or "FIRST:END:STEP" as Python's
        ranges.
    window: whose 98th percentile becomes 1: "slice" (done by `preprocess`, the paper's), "volume"
        or "brain".
    """

    n4: bool = True
    brain_mask: str = "deepbet"
    register: bool = True
    slices: int | str = SLICE_Z
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
        """The chosen indices in a volume of `depth` slices."""
        return _axial(self.slices, depth)

    def record(self, modality: str) -> dict[str, Any]:
        """How slices were made, in plain containers: steps, slices, modality."""
        steps = asdict(self)
        return {"slices": steps.pop("slices"), "steps": steps, "modality": modality}


@dataclass(frozen=True)
class Cut:
    """One axial slice of a volume.

    image: (X, Y) float32, to the right and to the front. In [0, 1] unless each slice is windowed
        by itself (`Steps.window`).
    lesion: (X, Y) bool, or None if the volume has no annotation.
    z: its index on the grid that it was cut on.
    geometry: its place in the volume's file, to put a map back.
    done: the steps that the volume went through.
    brain_dice: how well the volume's brain covers the template's, None if it was not registered.
    """

    image: NDArray[np.float32]
    lesion: Mask | None
    z: int
    geometry: SliceGeometry
    done: tuple[str, ...]
    brain_dice: float | None


@dataclass(frozen=True)
class Aligned:
    """A volume that is ready to be cut.

    volume: without its bias field, if that was corrected.
    grid: (4, 4), the affine of the grid that slices are cut on.
    shape: (X, Y, Z) of that grid.
    to_source: (4, 4) from the grid's millimetres to the volume's.
    brain: mask of the volume, if it was needed.
    done: the steps that were carried out.
    brain_dice: as in `Cut`.
    seconds: that each step took, by its name.
    """

    volume: Volume
    grid: Array
    shape: tuple[int, ...]
    to_source: Array
    brain: Mask | None
    done: tuple[str, ...]
    brain_dice: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def plane(self, data: Array, z: int) -> Array:
        """Slice z, (X, Y), of data on the volume's voxels."""
        shape = (self.shape[0], self.shape[1])
        return interpolate_slice(data, self.volume.affine, self.to_source, self.grid, shape, z)

    def geometry(self, z: int) -> SliceGeometry:
        """The place of slice z."""
        shift = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, z], [0, 0, 0, 1.0]])
        x, y, depth = self.volume.file_shape[:3]
        return SliceGeometry(
            (self.shape[0], self.shape[1]),
            self.grid @ shift,
            self.to_source,
            (x, y, depth),
            self.volume.file_affine,
        )


def cut(
    volume: Volume,
    steps: Steps,
    lesion: Mask | None = None,
    boxes: Boxes | None = None,
    slices: Sequence[int] | None = None,
) -> list[Cut]:
    """Slices of a volume. Nothing is read or written.

    lesion: (X, Y, Z) as `volume.data`.
    boxes: rectangles in the slices, instead of a mask.
    slices: axial indices instead of those of `steps`.

    Raises ValueError that names the volume if it holds no brain, or if a slice is not there, is
    empty or cannot be windowed.
    """
    aligned = align(volume, steps)
    scale = scale_of(aligned, steps.window)
    depth = aligned.shape[2]
    chosen = steps.axial(depth) if slices is None else list(slices)
    if wrong := [z for z in chosen if not 0 <= z < depth]:
        raise ValueError(f"{volume.name}: has no slice {wrong[0]}, it has {depth}")
    return [
        Cut(
            slice_of(aligned, z, scale)[0],
            _lesion(aligned, z, lesion, boxes),
            z,
            aligned.geometry(z),
            aligned.done,
            aligned.brain_dice,
        )
        for z in chosen
    ]


def align(
    volume: Volume, steps: Steps, brain: Mask | None = None, is_in_template_space: bool = False
) -> Aligned:
    """Correct a volume, find its brain and register it, as far as the steps and its grid ask.

    brain: (X, Y, Z) as `volume.data`, if it is known already.
    is_in_template_space: the volume's millimetres are the template's. It is not registered, and
        slices are cut on the template's grid.
    """
    is_placed = is_on_template_grid(volume)
    done: list[str] = []
    seconds: dict[str, float] = {}
    if steps.n4 and not is_placed:
        with timed("n4", seconds):
            volume = replace(volume, data=n4(volume))
        done.append("n4")
    is_to_register = steps.register and not is_placed and not is_in_template_space
    if brain is None and (is_to_register or steps.window == "brain"):
        with timed("brain", seconds):
            brain = brain_mask(volume, steps.brain_mask)
        done.append(f"brain:{steps.brain_mask}")
    elif brain is not None:
        done.append("brain:given")
    if brain is not None and is_to_register:
        with timed("registration", seconds):
            to_source = register(volume, brain)
            dice = brain_dice(brain, volume.affine, to_source)
        steps_done = (*done, "registered")
        grid = template().affine
        return Aligned(volume, grid, SHAPE, to_source, brain, steps_done, dice, seconds)
    grid, shape = (
        (template().affine, SHAPE) if is_in_template_space else (volume.affine, volume.data.shape)
    )
    return Aligned(volume, grid, shape, np.eye(4), brain, tuple(done), None, seconds)


@contextmanager
def timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add the time that is spent inside to `seconds` under a name."""
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


def scale_of(aligned: Aligned, window: str) -> float | None:
    """The 98th percentile of the volume or of its brain, which becomes 1.

    None if each slice is windowed by itself.

    Raises ValueError that names the volume if there is nothing to divide by.
    """
    if window == "slice":
        return None
    data, brain = aligned.volume.data, aligned.brain
    scale = float(np.percentile(data if window == "volume" else data[brain], 98))
    if scale <= 0:
        raise ValueError(
            f"{aligned.volume.name}: 98 % of its voxels are not above 0; leave it out, or "
            "window=brain"
        )
    return scale


def slice_of(aligned: Aligned, z: int, scale: float | None) -> tuple[NDArray[np.float32], float]:
    """Slice z, (X, Y), windowed if there is a scale, and the intensity that is or becomes 1 in it.

    Raises ValueError that names the volume if the slice is empty or cannot be windowed.
    """
    image = aligned.plane(aligned.volume.data, z).astype(np.float32)
    where = f"{aligned.volume.name}: slice {z}"
    if image.min() == image.max():
        raise ValueError(f"{where} is empty; choose another, or leave the volume out")
    if scale is not None:
        return np.clip(image / scale, 0, 1), scale
    try:
        return image, window_scale(image)  # as `preprocess` will
    except ValueError as error:
        raise ValueError(f"{where} cannot be used: {error}") from error


def _lesion(aligned: Aligned, z: int, lesion: Mask | None, boxes: Boxes | None) -> Mask | None:
    """The lesion in slice z, (X, Y). None if neither a mask nor boxes are given."""
    if lesion is not None:
        return aligned.plane(lesion.astype(np.float32), z) >= 0.5
    if not boxes:
        return None
    mask = np.zeros((aligned.shape[1], aligned.shape[0]), bool)  # as a picture
    rows, columns = mask.shape
    for x, y, width, height in boxes.get(z, ()):
        if not (x < columns and y < rows and x + width > 0 and y + height > 0):
            raise ValueError(
                f"{aligned.volume.name}: slice {z} has {columns} x {rows} pixels, and the box at "
                f"({x}, {y}) lies outside; the annotations are of another image"
            )
        mask[max(y, 0) : y + height, max(x, 0) : x + width] = True
    return np.rot90(mask, -1)


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
