"""Toy data sets of volumes and of slices of two modalities, for networks of other shapes."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from autoddpm.data.sample import Record, Split

SIDE = 16
COUNTS: dict[Split, int] = {"train": 4, "val": 2, "test": 3}


def volumes(folder: str | Path, lesions: bool = True) -> list[Record]:
    """Phantom volumes of 16 x 16 x 16; those to test on have a dark ball for a lesion."""

    def draw(rng: np.random.Generator, ill: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
        head = _head(rng, (SIDE,) * 3)
        lesion = _ball(rng, (SIDE,) * 3) & ill
        return {"T1": np.where(lesion, 0.2 * head, head)}, lesion

    return _written(Path(folder), "volumes", draw, lesions, dimensions=3)


def two_modalities(folder: str | Path, lesions: bool = True) -> list[Record]:
    """Slices of 16 x 16 in T1 and FLAIR; a lesion is dark in the one and bright in the other."""

    def draw(rng: np.random.Generator, ill: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
        head = _head(rng, (SIDE, SIDE, 1))
        lesion = _ball(rng, (SIDE, SIDE, 1)) & ill
        t1, flair = np.where(lesion, 0.2 * head, head), np.where(lesion, 0.9, 0.6 * head)
        return {"T1": t1, "FLAIR": flair}, lesion

    return _written(Path(folder), "two", draw, lesions, dimensions=2)


Drawing = Callable[[np.random.Generator, bool], tuple[dict[str, np.ndarray], np.ndarray]]


def _written(
    folder: Path, name: str, draw: Drawing, lesions: bool, dimensions: int
) -> list[Record]:
    """The records of drawings that are written to `folder`, NIfTI files."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for split, count in COUNTS.items():
        for number in range(count):
            subject = f"{name}_{split}{number}"
            rng = np.random.default_rng([*subject.encode()])
            images, lesion = draw(rng, lesions and split == "test")
            paths = {
                modality: _save(folder / f"{subject}_{modality}.nii", image)
                for modality, image in images.items()
            }
            mask = _save(folder / f"{subject}_mask.nii", lesion) if lesion.any() else None
            record = Record(
                f"{name}/{split}{number}", subject, split, paths, mask, dimensions=dimensions
            )
            records.append(record)
    return records


def _head(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A textured ball, or disc."""
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    return (_distance(shape, np.zeros(3)) < 7) * (0.6 + 0.1 * texture / texture.std()).clip(0.2, 1)


def _ball(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return _distance(shape, rng.uniform(-2, 2, 3)) < 2.5


def _distance(shape: tuple[int, ...], centre: np.ndarray) -> np.ndarray:
    axes = [np.arange(n) - (n - 1) / 2 for n in shape]
    grid = np.meshgrid(*axes, indexing="ij")
    inside = [(g - c if n > 1 else 0 * g) for g, c, n in zip(grid, centre, shape, strict=True)]
    return np.sqrt(sum(np.square(g) for g in inside))


def _save(path: Path, data: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), np.eye(4)), path)
    return path
