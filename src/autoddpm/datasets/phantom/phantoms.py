"""Phantoms: a synthetic data set of healthy heads and of heads with a stroke, that needs no
download."""

import hashlib
import json
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import nibabel
import numpy as np
import pandas as pd
import torch
from PIL import Image
from rich.progress import track
from scipy import ndimage

from autoddpm.atomic import folder_written_whole, written_whole
from autoddpm.data.preprocess import pad_to_square, resize_image, window98
from autoddpm.data.sample import Record
from autoddpm.datasets.phantom.anatomy import Array, Axes, Head, Mask, atlas
from autoddpm.datasets.phantom.lesion import Lesion
from autoddpm.datasets.slice_folder import slice_folder
from autoddpm.preparation.template import SHAPE, SLICE_Z

#: Part of the folder's hash: raise it with any change of what is drawn.
VERSION = 2

#: The kinds of subjects. Their place in this list is part of a subject's key, so that no two kinds
# share a head.
GROUPS = ("healthy_train", "healthy_val", "healthy_test", "lesion_test")


def phantoms(
    root: str | Path,
    size: int = 64,
    seed: int = 0,
    train: int = 1000,
    val: int = 40,
    test_healthy: int = 30,
    test_lesion: int = 60,
    processes: int | None = None,
) -> list[Record]:
    """Mid-axial phantom slices, one a subject; drawn at the first call, read from
    `root/phantom-<hash>/` later.

    The folder holds images/ and lesions/ (8-bit PNG, size x size, windowed at the 98th percentile),
    index.csv and montage.png to judge them by. A subject's slice depends on (size, seed, its group,
    its number) alone: neither on how many others there are, nor on `processes` (None: one for each
    usable core).
    A third of the lesions falls in each size group: at 128 x 128 small <= 71 < medium <= 570 <
    large pixels.

    Returns records sorted by id, `phantom/lesion_test_0003`. Raises ValueError for a size or counts
    that cannot be.
    """
    counts = dict(zip(GROUPS, (train, val, test_healthy, test_lesion), strict=True))
    if size < 32:
        raise ValueError(
            f"size={size}: phantoms need at least 32 pixels, below that small lesions vanish."
        )
    if seed < 0 or min(counts.values()) < 0 or sum(counts.values()) == 0:
        raise ValueError(
            f"seed={seed}, {counts}: seed and counts must not be negative, nor all counts 0."
        )
    settings = {"version": VERSION, "size": size, "seed": seed, "counts": counts}
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    folder = Path(root) / f"phantom-{key}"
    if not folder.is_dir():
        _build(folder, size, seed, counts, processes or len(_cores()))
    lesions = folder / "lesions" if test_lesion else None
    return slice_folder(folder / "images", lesions, index=folder / "index.csv", name="phantom")


def phantom_slice(
    group: str, number: int, seed: int = 0, lesion: bool = True
) -> tuple[Array, Array]:
    """The mid-axial slice of a subject at 1 mm: rows from anterior to posterior, columns from left
    to right.

    lesion: False draws the same subject before its stroke (subjects of the healthy groups have
    none). Returns (image, strength), each (233, 197): T1 intensities, not windowed, and how much of
    the tissue is lesion, in [0, 1].
    """
    image, strength = _Subject(group, number, seed, lesion).slice(SLICE_Z)
    return np.rot90(image), np.rot90(strength)


def phantom_volume(group: str, number: int, seed: int = 0) -> tuple[Array, Mask, Array]:
    """The whole head (about 10 s); its axial slice 95 is the subject's slice in `phantoms`.

    Returns (image, lesion, affine): float32 and bool (197, 233, 189) on the grid of ICBM 2009a at 1
    mm, and the (4, 4) matrix from voxels to millimetres.
    """
    subject = _Subject(group, number, seed)
    slices = [subject.slice(z) for z in range(SHAPE[2])]
    image = np.stack([image for image, _ in slices], axis=-1).astype(np.float32)
    lesion = np.stack([strength for _, strength in slices], axis=-1) >= 0.5
    return image, lesion, atlas().affine


def save_nifti(path: str | Path, volume: Array | Mask, affine: Array) -> None:
    """Write a volume as .nii or .nii.gz (bool as 0 and 1); an older file is there until the new one
    is whole."""
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path}: a NIfTI file is named .nii or .nii.gz; rename it.")
    data = volume.astype(np.uint8) if volume.dtype == bool else volume
    with written_whole(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(data, affine), temporary)


class _Subject:
    """A head, with its lesion if it has one."""

    def __init__(self, group: str, number: int, seed: int, lesion: bool = True) -> None:
        if group not in GROUPS:
            raise ValueError(
                f"unknown group {group!r}; a phantom's group is one of {', '.join(GROUPS)}."
            )
        key = (seed, GROUPS.index(group), number)
        self.head = Head(*key)
        self.middle = self.head.cut(_axial(SLICE_Z))
        self.lesion = (
            Lesion(key, self.middle, _axial(SLICE_Z)) if lesion and group == "lesion_test" else None
        )

    def slice(self, z: int) -> tuple[Array, Array]:
        axes = _axial(z)
        cut = self.middle if z == SLICE_Z else self.head.cut(axes)
        image, strength = cut.image, np.zeros_like(cut.image)
        if self.lesion is not None:
            strength = self.lesion.strength(cut, axes)
            image = self.lesion.apply(cut, strength, axes)
        return self.head.acquire(image, axes)[..., 0], strength[..., 0]


def _axial(z: int) -> Axes:
    return np.arange(SHAPE[0], dtype=float), np.arange(SHAPE[1], dtype=float), np.array([float(z)])


def _cores() -> list[int]:
    return (
        list(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )


def _build(folder: Path, size: int, seed: int, counts: dict[str, int], processes: int) -> None:
    """Draw all subjects, and a montage of some."""
    tasks = [(group, number) for group, count in counts.items() for number in range(count)]
    atlas()  # once, for the processes that are forked from this one
    with folder_written_whole(folder) as temporary:
        for name in ("images", "lesions"):
            (temporary / name).mkdir()
        draw = partial(_draw, temporary, size, seed)
        title = f"Drawing {len(tasks)} phantoms at {size} x {size}"
        if processes == 1:
            rows = [draw(task) for task in track(tasks, title)]
        else:
            context = get_context("fork" if sys.platform == "linux" else "spawn")
            with ProcessPoolExecutor(processes, context, _start_worker) as pool:
                try:
                    rows = list(track(pool.map(draw, tasks, chunksize=4), title, total=len(tasks)))
                finally:  # after Ctrl-C, too, those that are not begun are left
                    pool.shutdown(cancel_futures=True)
        index = pd.DataFrame(rows)
        index.to_csv(temporary / "index.csv", index=False)
        montage(temporary, index).save(temporary / "montage.png")


def _start_worker() -> None:
    """One thread, Ctrl-C left to the parent, and an end when the parent is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _draw(folder: Path, size: int, seed: int, task: tuple[str, int]) -> dict[str, str | int]:
    """Write one subject's slice and return its row of the index."""
    group, number = task
    image, strength = phantom_slice(group, number, seed)
    square = resize_image(pad_to_square(window98(image), 0), size)
    lesion = resize_image(pad_to_square(strength, 0), size) >= 0.5
    kind, split = group.split("_")
    file = f"{group}_{number:04d}.png"
    _save(folder / "images" / file, window98(square))
    if kind == "lesion":
        _save(folder / "lesions" / file, lesion)
    pixels = int(lesion.sum())
    return {
        "file": file,
        "subject": f"phantom{seed}_{group}_{number:04d}",
        "split": split,
        "kind": kind,
        "lesion_pixels": pixels,
    }


def _save(path: Path, image: Array | Mask) -> None:
    Image.fromarray(np.round(255 * image.astype(np.float32)).astype(np.uint8)).save(path)


def montage(
    folder: Path, index: pd.DataFrame, columns: int = 8, rows: int = 3, tile: int = 160
) -> Image.Image:
    """Healthy slices above, lesion slices below, the lesions outlined; `folder` and `index` as
    `phantoms` writes."""
    tiles = []
    for kind in ("healthy", "lesion"):
        files = index.loc[index["kind"] == kind, "file"]
        chosen = (
            files.iloc[np.unique(np.linspace(0, len(files) - 1, columns * rows).astype(int))]
            if len(files)
            else files
        )
        shown = [_tile(folder, file, kind == "lesion", tile) for file in chosen]
        shown += [np.zeros((tile, tile, 3), np.uint8)] * (-len(shown) % columns)
        tiles += [np.hstack(shown[i : i + columns]) for i in range(0, len(shown), columns)]
    return Image.fromarray(np.vstack(tiles))


def _tile(folder: Path, file: str, outlined: bool, side: int) -> Array:
    def enlarged(name: str, how: Image.Resampling) -> Array:
        return np.asarray(Image.open(folder / name / file).resize((side, side), how))

    picture = np.repeat(enlarged("images", Image.Resampling.BICUBIC)[..., None], 3, axis=2)
    if outlined:
        lesion = enlarged("lesions", Image.Resampling.NEAREST) > 0
        picture[ndimage.binary_dilation(lesion) & ~lesion] = (255, 170, 0)
    return picture
