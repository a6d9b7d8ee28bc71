"""An image, or its lesion mask, on disk: a slice as PNG, NPY or NIfTI, a volume as NIfTI."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from PIL import Image

from autoddpm.data.grid import (
    by,
    can_be_inverted,
    forms,
    in_order_of,
    refuse_overlong,
    unequal_sides,
)
from autoddpm.data.mask import Mask, covering, mask_of

NIFTI = (".nii", ".nii.gz")
#: The first bytes of a NIfTI-2 file, in either order.
NIFTI_2 = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
SUFFIXES = (".png", ".npy", *NIFTI)
MIN_SIDE = 16
#: Makes slices of volumes.
CUT = "python -m src.prepare +experiment=volumes paths.raw=DIR paths.volumes=OUT"
#: An image has at least so many different values; what has fewer is a mask or labels.
MIN_VALUES = 10


def stem(path: Path) -> str:
    """The file's name without its suffix, `.nii.gz` being one suffix."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def read_image(path: Path, dimensions: int = 2, like: Path | None = None) -> NDArray[np.float32]:
    """Read one image as it is on disk: float32, any scale, finite, at least 10 different values.

    dimensions: 2 for a slice, (H, W); 3 for a volume, (D, H, W), a NIfTI file.
    like: the file of another modality, which must lie on the same grid.

    NIfTI is brought to the closest canonical (RAS) orientation, and each axial slice is turned. Its
    rows run from anterior to posterior, its columns from left to right. A volume's slices run
    upwards. Its pixels are squares, or cubes. Each side must have at least 16 pixels.

    Raises ValueError that names the file, what is wrong and what to do.
    """
    image = _read(path, dimensions, like).astype(np.float32)
    what = "slice" if dimensions == 2 else "volume"
    if min(image.shape) < MIN_SIDE:
        raise ValueError(
            f"{path}: {by(image.shape)} pixels are too few; a {what} has at least {MIN_SIDE} a "
            "side."
        )
    if not np.isfinite(image).all():
        raise ValueError(
            f"{path}: contains NaN or infinite pixels; replace them or leave the {what} out."
        )
    if image.min() == image.max():
        raise ValueError(
            f"{path}: every pixel is {image.flat[0]:g}; an empty {what} must be left out."
        )
    if number := few_values(image):
        raise ValueError(
            f"{path}: has only {number} different values, as a mask or labels have; if it is a "
            "mask, name it as its image with _mask at the end, else leave it out."
        )
    return image


def few_values(image: NDArray) -> int:
    """How many different values an image has, if they are fewer than `MIN_VALUES`; else 0."""
    rest = image.ravel()
    for number in range(MIN_VALUES):
        if not rest.size:
            return number
        rest = rest[rest != rest[0]]
    return 0


def read_lesion(
    path: Path, image: NDArray[np.float32], image_path: Path, above_0: bool = False
) -> Mask:
    """Read the lesion of `image`: the pixels of at least half of the file's maximum.

    image_path: the image's file. A NIfTI image has a NIfTI mask that lies on the same grid, by
        either form of the image's header, its voxels in any order. Pictures (PNG, NPY) have the
        same rows and columns.
    above_0: see `mask_of`.

    Raises ValueError that names the file if it is broken, lies elsewhere, or holds no lesion's
    values (`mask_of`).
    """
    values = _read(path, image.ndim, image_path).astype(np.float32)
    if values.shape != image.shape:
        raise ValueError(
            f"{path}: the lesion mask has {by(values.shape)} pixels, its image {by(image.shape)}; "
            "save both alike."
        )
    try:
        mask = mask_of(values, above_0)
    except ValueError as error:
        raise ValueError(f"{path}: {error}.") from error
    remarks = [remark for remark in (mask.remark, covering(mask.pixels, image)) if remark]
    return mask._replace(remark="; ".join(remarks))


def write_picture(path: Path, image: NDArray) -> None:
    """Write a slice in [0, 1], or a mask, with 8 bits."""
    Image.fromarray(np.round(255 * image.astype(np.float32)).astype(np.uint8)).save(path)


def _read(path: Path, dimensions: int, like: Path | None) -> NDArray:
    """The one channel of a slice or a volume.

    like: a file whose grid it must have.
    """
    for file in (path, like):
        if file is not None and not file.is_file():
            raise FileNotFoundError(
                f"{file}: there is no such file; correct the list that names it."
            )
    is_nifti = _is_nifti(path)
    if dimensions == 3 and not is_nifti:
        raise ValueError(f"{path}: a volume is a NIfTI file; save it as .nii.gz.")
    if like is not None and _is_nifti(like) != is_nifti:
        raise ValueError(
            f"{path}: belongs to {like}, and one of the two is NIfTI: how they lie on each other "
            "is stated nowhere; save both as NIfTI, or both as PNG or NPY."
        )
    try:
        data = _read_nifti(path, dimensions, like) if is_nifti else _read_picture(path)
    except MisplacedError as error:
        raise ValueError(f"{path}: {error}.") from error
    except Exception as error:  # each reader has its own dozen of exceptions for a broken file
        raise ValueError(
            f"{path}: cannot be read ({error}); restore it or leave it out."
        ) from error
    return data if dimensions == 3 else _one_channel(path, data)


class MisplacedError(ValueError):
    """The file is whole, and its grid or shape is not one that can be used."""


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI)


def _read_picture(path: Path) -> NDArray:
    if path.suffix.lower() == ".npy":
        data = np.load(path, allow_pickle=False)
        if not isinstance(data, np.ndarray):
            raise ValueError("it is an .npz of several arrays, not one array")
        return data
    with Image.open(path) as png:
        if (number := getattr(png, "n_frames", 1)) > 1:
            raise ValueError(f"it holds {number} pictures, not one slice: save each as a file")
        colours = "RGBA" if "transparency" in png.info else "RGB"
        return np.asarray(png.convert(colours) if png.mode == "P" else png)


def _read_nifti(path: Path, dimensions: int, like: Path | None) -> NDArray:
    """(H, W) of a slice, (D, H, W) of a volume."""
    image = _load(path)
    shape = _three(image)
    sides = sum(side > 1 for side in image.shape)
    if sides > 2 and dimensions == 2:
        raise MisplacedError(
            f"its shape is {by(image.shape)}, a volume and not one slice; {CUT} makes slices of "
            "volumes, and `autoddpm predict FILE -o OUT` maps one as it is"
        )
    if dimensions == 3 and (sides != 3 or min(image.shape[:3]) < 2):
        raise ValueError(f"its shape is {by(image.shape)}, not one volume: save one 3-D image")
    data = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    affine = image.affine
    if not can_be_inverted(affine):
        raise ValueError("its affine cannot be inverted")
    if like is not None:
        other = _load(like)
        try:
            data = in_order_of(data, affine, _three(other), forms(other))
        except ValueError as error:
            raise MisplacedError(
                f"is on another grid than its image {like}: {error}; if it was drawn on the image, "
                "save it with the image's affine, else resample it to the image"
            ) from error
        affine = other.affine
    sizes = np.linalg.norm(affine[:3, :3], axis=0)[[side > 1 for side in data.shape]]
    if len(sizes) and (unequal := unequal_sides(sizes)):
        raise MisplacedError(
            f"its pixels have {unequal}, and a network sees squares; resample it to equal sides, "
            "or prepare it anew from the volume"
        )
    return _upright(data, affine, dimensions)


def _load(path: Path) -> SpatialImage:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    kind = nibabel.Nifti2Image if content[:4] in NIFTI_2 else nibabel.Nifti1Image
    image = kind.from_bytes(content)
    refuse_overlong(image, len(content))
    return image


def _three(image: SpatialImage) -> tuple[int, ...]:
    """Its shape, with three axes if it has fewer."""
    return (*image.shape, 1, 1)[:3]


def _upright(data: NDArray, affine: NDArray, dimensions: int) -> NDArray:
    """(X, Y, Z) voxels as pictures with the front of the head above."""
    canonical = apply_orientation(data, io_orientation(affine))
    turned = np.rot90(canonical.squeeze())
    return turned if dimensions == 2 else np.moveaxis(turned, -1, 0)


def _one_channel(path: Path, data: NDArray) -> NDArray:
    """(H, W) of one slice, whose colour channels are equal and whose alpha channel is opaque."""
    if not data.size:
        raise ValueError(f"{path}: its shape is {by(data.shape)}, it is empty; leave it out.")
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
            f"{path}: its shape is {by(data.shape)}, not one slice; save one slice of one channel."
        )
    colours, alpha = (data[..., :-1], data[..., -1]) if channels in (2, 4) else (data, None)
    if alpha is not None and (alpha.min() != alpha.max() or alpha.max() == 0):
        raise ValueError(f"{path}: has transparent pixels; save it as one grey channel.")
    if (colours != colours[..., :1]).any():
        raise ValueError(
            f"{path}: its {colours.shape[-1]} channels differ; a slice has one grey channel."
        )
    return colours[..., 0]
