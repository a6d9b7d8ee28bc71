"""An image, or its lesion mask, on disk: a slice as PNG, NPY or NIfTI, a volume as NIfTI."""

from pathlib import Path

import nibabel
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = (".png", ".npy", ".nii", ".nii.gz")
MIN_SIDE = 16


def stem(path: Path) -> str:
    """The file's name without its suffix, `.nii.gz` being one suffix."""
    return Path(path.stem).stem if path.suffix == ".gz" else path.stem


def read_image(path: Path, dimensions: int = 2) -> NDArray[np.float32]:
    """Read one image as it is on disk: float32, any scale, finite, not constant.

    dimensions: 2 for a slice, (H, W); 3 for a volume, (D, H, W), a NIfTI file.

    NIfTI is brought to the closest canonical (RAS) orientation, and each axial slice is turned. Its
    rows run from anterior to posterior, its columns from left to right. A volume's slices run
    upwards. Each side must have at least 16 pixels.

    Raises ValueError that names the file, what is wrong and what to do.
    """
    image = _read(path, dimensions).astype(np.float32)
    what = "slice" if dimensions == 2 else "volume"
    if min(image.shape) < MIN_SIDE:
        raise ValueError(
            f"{path}: {_by(image)} pixels are too few; a {what} has at least {MIN_SIDE} a side."
        )
    if not np.isfinite(image).all():
        raise ValueError(
            f"{path}: contains NaN or infinite pixels; replace them or leave the {what} out."
        )
    if image.min() == image.max():
        raise ValueError(
            f"{path}: every pixel is {image.flat[0]:g}; an empty {what} must be left out."
        )
    return image


def read_lesion(path: Path, image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Read the lesion of `image`: bool, True if the file is above 0, as the published authors do.

    Raises ValueError if the file is broken, holds NaN or negative values, or differs in size from
    the image.
    """
    lesion = _read(path, image.ndim).astype(np.float32)
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


def write_picture(path: Path, image: NDArray) -> None:
    """Write a slice in [0, 1], or a mask, with 8 bits."""
    Image.fromarray(np.round(255 * image.astype(np.float32)).astype(np.uint8)).save(path)


def _by(image: NDArray) -> str:
    return " x ".join(map(str, image.shape))


def _read(path: Path, dimensions: int) -> NDArray:
    """The one channel of a slice or a volume."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; correct the list that names it.")
    is_nifti = path.name.lower().endswith((".nii", ".nii.gz"))
    if dimensions == 3 and not is_nifti:
        raise ValueError(f"{path}: a volume is a NIfTI file; save it as .nii.gz.")
    try:
        data = _read_nifti(path, dimensions) if is_nifti else _read_picture(path)
    except Exception as error:  # each reader has its own dozen of exceptions for a broken file
        raise ValueError(
            f"{path}: cannot be read ({error}); restore it or leave it out."
        ) from error
    return data if dimensions == 3 else _one_channel(path, data)


def _read_picture(path: Path) -> NDArray:
    if path.suffix.lower() == ".npy":
        return np.load(path, allow_pickle=False)
    with Image.open(path) as png:
        colours = "RGBA" if "transparency" in png.info else "RGB"
        return np.asarray(png.convert(colours) if png.mode == "P" else png)


def _read_nifti(path: Path, dimensions: int) -> NDArray:
    """(H, W) of a slice, (D, H, W) of a volume."""
    stored = nibabel.load(path)
    if not isinstance(stored, SpatialImage):
        raise ValueError("it is no NIfTI image")
    data = np.asarray(stored.dataobj, dtype=np.float32)
    sides = sum(side > 1 for side in data.shape)
    if sides > 2 and dimensions == 2:
        raise ValueError(f"its shape is {_by(data)}, not one slice: cut the slice out first")
    if dimensions == 3 and (sides != 3 or min(data.shape[:3]) < 2):
        raise ValueError(f"its shape is {_by(data)}, not one volume: save one 3-D image")
    three = nibabel.Nifti1Image(data.reshape((*data.shape, 1)[:3]), stored.affine)
    turned = np.rot90(np.asarray(nibabel.as_closest_canonical(three).dataobj).squeeze())
    return turned if dimensions == 2 else np.moveaxis(turned, -1, 0)


def _one_channel(path: Path, data: NDArray) -> NDArray:
    """(H, W) of one slice, whose colour channels are equal and whose alpha channel is opaque."""
    if data.dtype.kind not in "buif":
        raise ValueError(
            f"{path}: holds {data.dtype} instead of real numbers; save one grey value per pixel."
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
