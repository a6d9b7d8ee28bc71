"""A scan made ready for the network: corrected, aligned, cut, with the way back.

It runs in a process beside the detection of other scans and raises nothing: a scan that cannot be
used becomes a reason.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from autoddpm.data.preprocess import preprocess
from autoddpm.preparation.correction import brain_mask
from autoddpm.preparation.cutting import (
    Aligned,
    Mask,
    Steps,
    align,
    scale_of,
    slice_of,
    timed,
)
from autoddpm.preparation.registration import brain_dice
from autoddpm.preparation.volume import Source, Volume, read_mask, read_volume
from autoddpm.preparation.way_back import (
    Transform,
    WayBack,
    as_stored,
    transforms,
    way_back,
)


@dataclass(frozen=True)
class Preparation:
    """How scans are prepared: the same for all of a prediction.

    steps: those that the weights' slices went through.
    size: pixels a side of what the network sees.
    margin_mm: how far above and below the slices that the weights know the map reaches.
    skip_registration: the scans are in the template's space.

    Raises ValueError if registration is skipped that the steps do not have: their slices are none
    of the template's.
    """

    steps: Steps
    size: int
    margin_mm: float = 2.0
    skip_registration: bool = False

    def __post_init__(self) -> None:
        if self.skip_registration and not self.steps.register:
            raise ValueError(
                "--skip-registration: scans are not registered for these weights; leave it out"
            )


@dataclass(frozen=True)
class Prepared:
    """A scan as the network sees it.

    images: (N, size, size) float32 in [0, 1].
    slices: N axial indices, those that could be cut.
    known: those of them that the weights know. The others are margin.
    absent: slices that the weights know, or of the margin, which the scan does not show.
    z_mm: height of each slice's centre in millimetres of the grid that was cut.
    scales: (N,) the scan's intensity that is 1 in the images.
    key: of the slices' noise: a hash of the scan's voxels and place, and not of its file's name.
    sha256: of the file.
    steps: from the file's voxels to the images.
    back: the way to the scan's own voxels, all steps at once.
    gain: (covered voxels,), the bias field there. The scan divided by it is what was cut.
    brain: the brain on the file's grid. None if the steps have none.
    brain_dice: how well it covers the template's brain, None if that was not compared.
    done: the steps that were carried out.
    seconds: that each took, by name.
    """

    images: NDArray[np.float32]
    slices: Sequence[int]
    known: Sequence[int]
    absent: Sequence[int]
    z_mm: Sequence[float]
    scales: NDArray[np.float64]
    key: str
    sha256: str
    steps: Sequence[Transform]
    back: WayBack
    gain: NDArray[np.float32]
    brain: Mask | None
    brain_dice: float | None
    done: Sequence[str]
    seconds: dict[str, float]

    @property
    def ids(self) -> list[str]:
        """Of the slices, which their noise depends on."""
        return [f"{self.key}/z{z:03d}" for z in self.slices]


@dataclass(frozen=True)
class Failed:
    """Why a scan cannot be used."""

    reason: str


def attempted(task: tuple[Path, Path | None, Preparation]) -> Prepared | Failed:
    """A scan's file, a brain mask of one's own, and how: prepared, or the reason why not."""
    file, mask, how = task
    try:
        seconds: dict[str, float] = {}
        with timed("read", seconds):
            volume = read_volume(Source(file))
            brain = None if mask is None else read_mask(Source(mask), volume, above_0=True)
        return prepare(volume, how, brain, seconds)
    except MemoryError:
        return Failed(f"{file}: does not fit into memory; crop it, or use a larger machine")
    except Exception as error:  # of any library: the other scans go on
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ValueError) and reason.startswith((f"{file}: ", f"{mask}: ")):
            return Failed(reason)
        return Failed(f"{file}: cannot be prepared ({reason}); look at it, or leave it out")


def prepare(
    volume: Volume,
    how: Preparation,
    brain: Mask | None = None,
    seconds: dict[str, float] | None = None,
) -> Prepared:
    """Prepare a volume.

    brain: (X, Y, Z) as `volume.data`, instead of the brain that the steps would find.
    seconds: spent already, by name.

    Raises ValueError that names the volume if none of its slices can be used, or if a given brain
    is empty.
    """
    if brain is not None and not brain.any():
        raise ValueError(f"{volume.name}: its brain mask is 0 everywhere; give another")
    seconds = dict(seconds or {})
    aligned, dice = _aligned(volume, how, brain, seconds)
    with timed("slices", seconds):
        wanted, known = wanted_slices(how, aligned)
        done = _cut(aligned, how, wanted, known)
        every = wanted[1] - wanted[0] if len(wanted) > 1 else 1
        slices = list(range(min(done), max(done) + 1, every))
        empty = np.zeros((how.size, how.size), np.float32), 0.0
        chosen = [done.get(z, empty) for z in slices]  # without a head, between two others
        shape = volume.file_shape
        steps = transforms(aligned, slices, how.size)
        back = way_back(steps, (shape[0], shape[1], shape[2]), slices)
        gain = _gain(volume, aligned, back)
        centre = [(n - 1) / 2 for n in aligned.shape[:2]]
    return Prepared(
        images=np.stack([image for image, _ in chosen]),
        slices=slices,
        known=[z for z in known if z in done],
        absent=sorted({*wanted, *known} - set(done)),
        z_mm=[float((aligned.grid @ [*centre, z, 1])[2]) for z in slices],
        scales=np.array([scale for _, scale in chosen]),
        key=content_key(volume),
        sha256=volume.sha256,
        steps=steps,
        back=back,
        gain=gain,
        brain=None if aligned.brain is None else as_stored(aligned.brain, volume.file_affine),
        brain_dice=dice,
        done=aligned.done,
        seconds=seconds,
    )


def wanted_slices(how: Preparation, aligned: Aligned) -> tuple[list[int], list[int]]:
    """The slices to map, margin included, and those of them that the weights know."""
    depth = aligned.shape[2]
    known = how.steps.axial(depth)
    if not known:
        raise ValueError(
            f"{aligned.volume.name}: has {depth} slices, and none of {how.steps.slices}; leave it "
            "out"
        )
    every = int(np.gcd.reduce(np.diff(known))) if len(known) > 1 else 1
    spacing = float(np.linalg.norm(aligned.grid[:3, 2]))
    more = int(how.margin_mm // (every * spacing) + 1e-9)
    wanted = range(known[0] - more * every, known[-1] + more * every + 1, every)
    return [z for z in wanted if 0 <= z < depth], known


def content_key(volume: Volume) -> str:
    """16 hex digits of a volume's voxels and place, whatever its file is called or packed as."""
    digest = hashlib.sha256((np.round(volume.affine, 4) + 0.0).tobytes())  # no -0
    digest.update(np.ascontiguousarray(volume.data).tobytes())
    return digest.hexdigest()[:16]


def _aligned(
    volume: Volume, how: Preparation, brain: Mask | None, seconds: dict[str, float]
) -> tuple[Aligned, float | None]:
    """The volume aligned, with its brain if the steps find one, and how well that fits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order are other numbers
    try:
        aligned = align(volume, how.steps, brain, how.skip_registration)
        seconds |= aligned.seconds
        if aligned.brain is None and how.steps.brain_mask != "none":
            with timed("brain", seconds):
                found = brain_mask(aligned.volume, how.steps.brain_mask)
            done = (*aligned.done, f"brain:{how.steps.brain_mask}")
            aligned = replace(aligned, brain=found, done=done)
    finally:
        torch.set_num_threads(threads)
    dice, known = aligned.brain_dice, aligned.brain
    if dice is None and how.steps.register and known is not None:
        dice = brain_dice(known, aligned.volume.affine, aligned.to_source)
    return aligned, dice


def _cut(
    aligned: Aligned, how: Preparation, wanted: Sequence[int], known: Sequence[int]
) -> dict[int, tuple[NDArray[np.float32], float]]:
    """Image and scale of the slices that can be used, by index.

    Raises ValueError if none that the weights know can be used.
    """
    scale, done, why = scale_of(aligned, how.steps.window), {}, {}
    for z in wanted:
        try:
            image, one = slice_of(aligned, z, scale)
        except ValueError as error:
            why[z] = str(error)
            continue
        seen = preprocess(np.rot90(image), None, how.size, window=how.steps.window == "slice")
        done[z] = seen.image, one
    if not any(z in done for z in known):
        named = f"slice {known[0]}" if len(known) == 1 else f"slices {known[0]} to {known[-1]}"
        reasons = (why[z] for z in known if z in why)
        reason = next(reasons, f"{aligned.volume.name}: has {aligned.shape[2]} slices")
        raise ValueError(
            f"{reason}. The weights know {named} alone, and this scan does not show it; leave it "
            "out"
        )
    return done


def _gain(volume: Volume, aligned: Aligned, back: WayBack) -> NDArray[np.float32]:
    """The bias field at the covered voxels, 1 where it is not known."""
    before = as_stored(volume.data, volume.file_affine).ravel()[back.voxels]
    after = as_stored(aligned.volume.data, volume.file_affine).ravel()[back.voxels]
    is_known = np.abs(after) > 1e-6
    return np.where(is_known, before / np.where(is_known, after, 1), 1).astype(np.float32)
