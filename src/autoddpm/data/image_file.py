"""Reading one slice, or the mask of one, from a PNG, NPY or NIfTI file."""

from pathlib import Path

import nibabel
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = (".png", ".npy", ".nii", ".nii.gz")
MIN_SIDE = 16


def stem(path: Path) -> str:
    """The file's name without its suffix, where `.nii.gz` is one suffix."""
    return Path(path.stem).stem if path.suffix == ".gz" else path.stem


def read_image(path: Path) -> NDArray[np.float32]:
    """Read one slice as it is on disk: (H, W) float32, any scale, finite, not constant, at least 16
    pixels a side.

    NIfTI is brought to the closest canonical (RAS) orientation and turned so that the second of its
    two axes goes
    up: rows of an axial slice run from anterior to posterior, columns from left to right.
    Raises ValueError that names the file, what is wrong and what to do.
    """
    image = _one_channel(path, _read(path)).astype(np.float32)
    if min(image.shape) < MIN_SIDE:
        raise ValueError(
            f"{path}: {_by(image)} pixels are too few; a slice has at least {MIN_SIDE} a side."
        )
    if not np.isfinite(image).all():
        raise ValueError(
            f"{path}: contains NaN or infinite pixels; replace them or leave the slice out."
        )
    if image.min() == image.max():
        raise ValueError(
            f"{path}: every pixel is {image.flat[0]:g}; an empty slice must be left out."
        )
    return image


def read_lesion(path: Path, image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Read the lesion of `image`: (H, W) bool, True where the file is above 0, as the published
    authors load theirs.

    Raises ValueError if the file is broken, holds NaN or negative values, or differs in size from
    the image.
    """
    lesion = _one_channel(path, _read(path)).astype(np.float32)
    if not (lesion >= 0).all():  # NaN is not >= 0
        raise ValueError(
            f"{path}: a lesion mask holds NaN or negative pixels; save 0 for healthy, 1 or 255 for "
            "lesion."
        )
    if lesion.shape != image.shape:
        raise ValueError(
            f"{path}: the lesion mask has {_by(lesion)} pixels, its image {_by(image)}; save both "
            "alike."
        )
    return lesion > 0


def _by(image: NDArray) -> str:
    return " x ".join(map(str, image.shape))


def _read(path: Path) -> NDArray:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; correct the list that names it.")
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return _read_nifti(path)
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        with Image.open(path) as png:
            return np.asarray(
                png.convert("RGBA" if "transparency" in png.info else "RGB")
                if png.mode == "P"
                else png
            )
    except (
        Exception
    ) as error:  # each of the three readers has its own dozen of exceptions for a broken file
        raise ValueError(
            f"{path}: cannot be read ({error}); restore it or leave it out."
        ) from error


def _read_nifti(path: Path) -> NDArray:
    volume = nibabel.load(path)
    if not isinstance(volume, SpatialImage):
        raise ValueError("it is no NIfTI image")
    data = np.asarray(volume.dataobj, dtype=np.float32)
    if sum(side > 1 for side in data.shape) > 2:
        raise ValueError(f"its shape is {_by(data)}, not one slice: cut the slice out first")
    three = nibabel.Nifti1Image(data.reshape((*data.shape, 1)[:3]), volume.affine)
    return np.rot90(np.asarray(nibabel.as_closest_canonical(three).dataobj).squeeze())


def _one_channel(path: Path, data: NDArray) -> NDArray:
    """(H, W) from one slice whose colour channels are equal and whose alpha channel, if any, is
    opaque."""
    if data.dtype.kind not in "buif":
        raise ValueError(
            f"{path}: holds {data.dtype} instead of real numbers; save one grey value a pixel."
        )
    channels = data.shape[-1] if data.ndim == 3 and min(data.shape[:2]) > 1 else 1
    data = data if channels > 1 else data.squeeze()
    if data.ndim == 2:
        return data
    if data.ndim != 3 or channels > 4:
        raise ValueError(
            f"{path}: its shape is {_by(data)}, not one slice; save one slice of one channel."
        )
    colours, alpha = (data[..., :-1], data[..., -1]) if channels in (2, 4) else (data, None)
    if alpha is not None and (alpha.min() != alpha.max() or alpha.max() == 0):
        raise ValueError(f"{path}: has transparent pixels; save it as one grey channel.")
    if (colours != colours[..., :1]).any():
        raise ValueError(
            f"{path}: its {colours.shape[-1]} channels differ; a slice has one grey channel."
        )
    return colours[..., 0]
