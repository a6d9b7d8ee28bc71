"""From one volume to its slices, in memory: correct, find the brain, register, window, cut."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoddpm.data.grid import by, unequal_sides
from autoddpm.data.image_file import MIN_SIDE, few_values
from autoddpm.data.mask import mask_of
from autoddpm.data.preprocess import EmptyError, window_scale
from autoddpm.preparation.correction import brain_mask, n4
from autoddpm.preparation.geometry import Array, SliceGeometry, interpolate_slice
from autoddpm.preparation.registration import brain_dice, register
from autoddpm.preparation.template import SHAPE, SLICE_Z, is_on_template_grid, template
from autoddpm.preparation.volume import Boxes, Volume

Mask = NDArray[np.bool_]

DEEPEST = 10_000  # slices; no volume has more

#: Brains outside of these are none, in ml: the smallest and the largest of people of any age.
BRAIN_ML = (400.0, 2800.0)
#: Below this Dice with the template's brain a registration has failed.
LEAST_DICE = 0.8


class ImplausibleError(ValueError):
    """What was taken for a volume's brain is none, or was not aligned with the template."""


@dataclass(frozen=True)
class Steps:
    """The steps that each volume goes through, in this order.

    Volumes that lie on the template's grid already are neither corrected nor registered.

    n4: correct the bias field.
    brain_mask: "deepbet", "nonzero" (volumes without skull) or "none".
    register: affinely to ICBM 2009a symmetric at 1 mm, brain to brain.
    slices: axial indices, of the template's grid after a registration, else of the volume. A
        number, a list of numbers, "all", "middle" (n // 2, counted from 0), or a range as Python's:
        "FIRST:END", "FIRST:", ":END", "FIRST:END:STEP".
    window: whose 98th percentile becomes 1: "slice" (done by `preprocess`, the paper's), "volume"
        or "brain".
    """

    n4: bool = True
    brain_mask: str = "deepbet"
    register: bool = True
    slices: int | str | Sequence[int] = SLICE_Z
    window: str = "slice"

    def __post_init__(self) -> None:
        if not isinstance(self.slices, int | str):  # a list of plain numbers, for the record
            object.__setattr__(self, "slices", list(self.slices))
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
        if not _axial(self.slices, DEEPEST):
            raise _unknown(self.slices)

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


class Cuts(NamedTuple):
    """What was cut out of a volume.

    cuts: the slices.
    empty: why each of the other chosen slices was left out, by its index.
    """

    cuts: list[Cut]
    empty: Mapping[int, str]


def cut(
    volume: Volume,
    steps: Steps,
    lesion: Mask | None = None,
    boxes: Boxes | None = None,
    slices: Sequence[int] | None = None,
) -> Cuts:
    """Slices of a volume. Nothing is read or written.

    lesion: (X, Y, Z) as `volume.data`.
    boxes: rectangles in the slices, instead of a mask.
    slices: axial indices instead of those of `steps`.

    Slices that are empty are left out. Raises ValueError that names the volume if it holds no
    brain, if a slice is not there or cannot be windowed, or if all are empty. Raises
    ImplausibleError if its brain cannot be one, or was not aligned.
    """
    aligned = align(volume, steps)
    _check_plausible(aligned)
    scale = scale_of(aligned, steps.window)
    depth = aligned.shape[2]
    chosen = steps.axial(depth) if slices is None else list(slices)
    if wrong := [z for z in chosen if not 0 <= z < depth]:
        raise ValueError(f"{volume.name}: has no slice {wrong[0]}, it has {depth}")
    if not chosen:
        raise ValueError(f"{volume.name}: has no slice of {steps.slices}, it has {depth}")
    if min(aligned.shape[:2]) < MIN_SIDE:
        sides = by(aligned.shape[:2])
        raise ValueError(f"{volume.name}: its slices have {sides} pixels; at least {MIN_SIDE} each")
    if lesion is None and boxes:
        lesion = _lesion_of_boxes(volume, boxes)
    cuts, empty = [], {}
    for z in chosen:
        try:
            image, _ = slice_of(aligned, z, scale)
        except EmptyError as error:
            empty[z] = str(error)
            continue
        mask = None if lesion is None else _lesion(aligned, z, lesion)
        cuts.append(Cut(image, mask, z, aligned.geometry(z), aligned.done, aligned.brain_dice))
    if not cuts:
        more = f", and so are the other {len(empty) - 1}" if len(empty) > 1 else ""
        raise ValueError(f"{empty[chosen[0]]}{more}; choose others, or leave the volume out")
    return Cuts(cuts, empty)


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
        return Aligned(
            volume, template().affine, SHAPE, to_source, brain, steps_done, dice, seconds
        )
    grid, shape = (
        (template().affine, SHAPE) if is_in_template_space else _with_square_pixels(volume)
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


def _with_square_pixels(volume: Volume) -> tuple[Array, tuple[int, ...]]:
    """The affine and the shape of a volume's own grid, with square pixels in its axial slices.

    If they are none, the longer side is cut into more. Corners stay.
    """
    sides, shape = volume.spacing[:2], np.array(volume.data.shape)
    if not unequal_sides(sides):
        return volume.affine, volume.data.shape
    scale = sides.min() / sides
    shape[:2] = np.round(shape[:2] / scale)
    finer = np.diag([*scale, 1.0, 1.0])
    finer[:2, 3] = (scale - 1) / 2
    return volume.affine @ finer, tuple(shape.tolist())


def _check_plausible(aligned: Aligned) -> None:
    """Refuse a registered volume whose brain is none, or does not cover the template's."""
    if aligned.brain_dice is None or aligned.brain is None:
        return
    volume = aligned.volume
    ml = np.count_nonzero(aligned.brain) * float(np.prod(volume.spacing)) / 1000
    if not BRAIN_ML[0] <= ml <= BRAIN_ML[1]:
        raise ImplausibleError(
            f"{volume.name}: its brain has {ml:.0f} ml, outside of {BRAIN_ML[0]:g} to "
            f"{BRAIN_ML[1]:g}"
        )
    if aligned.brain_dice < LEAST_DICE:
        raise ImplausibleError(
            f"{volume.name}: its brain covers the template's with a Dice of "
            f"{aligned.brain_dice:.2f}, below {LEAST_DICE:g}"
        )


def slice_of(aligned: Aligned, z: int, scale: float | None) -> tuple[NDArray[np.float32], float]:
    """Slice z, (X, Y), windowed if there is a scale, and the intensity that is or becomes 1 in it.

    Raises EmptyError that names the volume if the slice holds nothing, ValueError if it cannot be
    windowed.
    """
    image = aligned.plane(aligned.volume.data, z).astype(np.float32)
    where = f"{aligned.volume.name}: slice {z}"
    windowed = image if scale is None else np.clip(image / scale, 0, 1)
    if few_values(windowed):
        raise EmptyError(f"{where} is empty")
    if scale is not None:
        return windowed, scale
    try:
        return image, window_scale(image)  # as `preprocess` will
    except EmptyError as error:
        raise EmptyError(f"{where} is nearly empty") from error
    except ValueError as error:
        raise ValueError(f"{where} cannot be used: {error}") from error


def _lesion(aligned: Aligned, z: int, lesion: Mask) -> Mask:
    """The lesion in slice z, (X, Y). Raises ValueError if it will be refused as no lesion's."""
    mask = aligned.plane(lesion.astype(np.float32), z) >= 0.5
    try:
        mask_of(mask.astype(np.float32))
    except ValueError as error:
        raise ValueError(f"{aligned.volume.name}: the lesion in slice {z} {error}") from error
    return mask


def _lesion_of_boxes(volume: Volume, boxes: Boxes) -> Mask:
    """Boxes as a mask, (X, Y, Z) as `volume.data`."""
    columns, rows, depth = volume.data.shape
    lesion = np.zeros(volume.data.shape, bool)
    for z, rectangles in boxes.items():
        picture = np.zeros((rows, columns), bool)
        for x, y, width, height in rectangles:
            if not (x < columns and y < rows and x + width > 0 and y + height > 0):
                raise ValueError(
                    f"{volume.name}: slice {z} has {columns} x {rows} pixels, and the box at "
                    f"({x}, {y}) lies outside; the annotations are of another image"
                )
            picture[max(y, 0) : y + height, max(x, 0) : x + width] = True
        if not 0 <= z < depth:
            raise ValueError(f"{volume.name}: has no slice {z}, it has {depth}")
        lesion[:, :, z] = np.rot90(picture, -1)
    return lesion


def _axial(slices: int | str | Sequence[int], depth: int) -> list[int]:
    """The indices that are meant in a volume of `depth` slices, rising."""
    try:
        chosen = _meant(slices, depth)
    except (TypeError, ValueError) as error:
        raise _unknown(slices) from error
    if min(chosen, default=0) < 0:
        raise _unknown(slices)
    return sorted(set(chosen))


def _unknown(slices: object) -> ValueError:
    return ValueError(
        f"steps.slices={slices}: must be an index from 0, a list of them, all, middle, FIRST:END, "
        "FIRST:, :END or FIRST:END:STEP"
    )


def _meant(slices: int | str | Sequence[int], depth: int) -> list[int]:
    if not isinstance(slices, int | str):
        return [int(str(z)) for z in slices]
    text = str(slices).strip()
    if text == "middle":
        return [depth // 2]
    if text == "all":
        return list(range(depth))
    if ":" not in text:
        return [int(part) for part in text.strip("[]").split(",")]
    first, end, *step = (int(part) if part.strip() else None for part in text.split(":"))
    numbers = (first or 0, depth if end is None else end)
    if min(numbers) < 0 or len(step) > 1 or any(each is not None and each < 1 for each in step):
        raise ValueError(text)
    return list(range(*numbers, *(each or 1 for each in step)))
