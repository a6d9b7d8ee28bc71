"""Phantoms: a synthetic data set of healthy heads and of heads with a stroke, that needs no
download."""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from autoddpm.allowance import processes_that_fit
from autoddpm.atomic import folder_written_whole
from autoddpm.data.image_file import write_picture
from autoddpm.data.montage import montage, outlined
from autoddpm.data.preprocess import pad_to_square, resize_image, window98
from autoddpm.data.sample import Record
from autoddpm.datasets.phantom.anatomy import MIDDLE, Array, Head, atlas
from autoddpm.datasets.phantom.lesion import Lesion
from autoddpm.datasets.slice_folder import slice_folder
from autoddpm.processes import in_processes

#: Part of the folder's hash: raise it with any change of what is drawn.
VERSION = 2

#: The kinds of subjects. Their place in this list is part of a subject's key, so that no two kinds
# share a head.
GROUPS = ("healthy_train", "healthy_val", "healthy_test", "lesion_test")
COLUMNS, ROWS, TILE = 8, 3, 160  # of the montage: at most so many rows of each kind

#: Bytes of a process that makes heads.
MEMORY_EACH = 2**30


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
    its number) alone, not on how many others there are, or on the number of processes.
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
        _build(folder, size, seed, counts, processes or processes_that_fit(MEMORY_EACH))
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
    if group not in GROUPS:
        raise ValueError(
            f"unknown group {group!r}; a phantom's group is one of {', '.join(GROUPS)}."
        )
    key = (seed, GROUPS.index(group), number)
    head = Head(*key)
    cut = head.cut(MIDDLE)
    image, strength = cut.image, np.zeros_like(cut.image)
    if lesion and group == "lesion_test":
        stroke = Lesion(key, cut, MIDDLE)
        strength = stroke.strength(cut, MIDDLE)
        image = stroke.apply(cut, strength, MIDDLE)
    return np.rot90(head.acquire(image, MIDDLE)[..., 0]), np.rot90(strength[..., 0])


def _build(folder: Path, size: int, seed: int, counts: dict[str, int], processes: int) -> None:
    """Draw all subjects, and a montage of some."""
    tasks = [(group, number) for group, count in counts.items() for number in range(count)]
    atlas()  # once, for the processes that are forked from this one
    with folder_written_whole(folder) as temporary:
        for name in ("images", "lesions"):
            (temporary / name).mkdir()
        draw = partial(_draw, temporary, size, seed)
        title = f"Drawing {len(tasks)} phantoms at {size} x {size}"
        method = "fork" if sys.platform == "linux" else "spawn"
        drawn = in_processes(draw, tasks, processes, threads=1, method=method)
        rows = list(track(drawn, title, total=len(tasks)))
        index = pd.DataFrame(rows)
        index.to_csv(temporary / "index.csv", index=False)
        overview(temporary, index).save(temporary / "montage.png")


def _draw(folder: Path, size: int, seed: int, task: tuple[str, int]) -> dict[str, str | int]:
    """Write one subject's slice and return its row of the index."""
    group, number = task
    image, strength = phantom_slice(group, number, seed)
    square = resize_image(pad_to_square(window98(image), 0), size)
    lesion = resize_image(pad_to_square(strength, 0), size) >= 0.5
    kind, split = group.split("_")
    file = f"{group}_{number:04d}.png"
    write_picture(folder / "images" / file, window98(square))
    if kind == "lesion":
        write_picture(folder / "lesions" / file, lesion)
    pixels = int(lesion.sum())
    return {
        "file": file,
        "subject": f"phantom{seed}_{group}_{number:04d}",
        "split": split,
        "kind": kind,
        "lesion_pixels": pixels,
    }


def overview(folder: Path, index: pd.DataFrame) -> Image.Image:
    """Healthy slices above, lesion slices below, the lesions outlined; `folder` and `index` as
    `phantoms` writes."""
    tiles = []
    for kind in ("healthy", "lesion"):
        files = index.loc[index["kind"] == kind, "file"].tolist()
        chosen = np.unique(np.linspace(0, max(0, len(files) - 1), COLUMNS * ROWS).astype(int))
        shown = [_tile(folder, files[n], kind == "lesion") for n in chosen if files]
        tiles += shown + [np.zeros((TILE, TILE, 3), np.uint8)] * (-len(shown) % COLUMNS)
    return montage(tiles, COLUMNS)


def _tile(folder: Path, file: str, is_outlined: bool) -> NDArray[np.uint8]:
    image = np.asarray(Image.open(folder / "images" / file))
    lesion = np.asarray(Image.open(folder / "lesions" / file)) if is_outlined else 0 * image
    return outlined(image, lesion > 0, TILE)
