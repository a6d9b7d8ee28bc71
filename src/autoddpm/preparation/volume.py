"""Volumes as they are downloaded: NIfTI files (in a folder or in a tar) and fastMRI's h5 files."""

import gzip
import hashlib
import logging
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

import nibabel
import numpy as np
from nibabel.freesurfer.mghformat import MGHImage
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import apply_orientation, io_orientation
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from autoddpm.data.grid import (
    apart,
    by,
    can_be_inverted,
    forms,
    in_order_of,
    refuse_overlong,
    tolerance,
)
from autoddpm.data.image_file import NIFTI_2
from autoddpm.data.mask import mask_of
from autoddpm.data.other_files import what_it_is

log = logging.getLogger(__name__)

SPACING = (0.2, 8.0)  # mm per voxel: what is outside is in other units
INSTALL = "pip install 'autoddpm[prepare]'"

#: For each slice, the rectangles (x, y, width, height) of what is not healthy. Slices count from 0
#: as stored, pixels in the picture with the front of the head above.
Boxes = Mapping[int, Sequence[tuple[int, int, int, int]]]


@dataclass(frozen=True)
class Source:
    """A file, or a member of an uncompressed tar.

    path: of the file, or of the tar.
    member: its name in the tar.
    offset: of its first byte in the tar.
    length: of it, in bytes.
    """

    path: Path
    member: str = ""
    offset: int = 0
    length: int = 0

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """The file's own name."""
        return Path(self.member or self.path).name

    @property
    def size(self) -> int:
        """Bytes."""
        return self.length if self.member else self.path.stat().st_size

    def read_bytes(self) -> bytes:
        """The whole content."""
        if not self.member:
            return self.path.read_bytes()
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


def members(tar: Path) -> list[Source]:
    """The files in an uncompressed tar.

    Raises ValueError that names the tar if it is damaged or compressed.
    """
    try:
        with tarfile.open(tar, "r:") as archive:
            files = [Source(tar, m.name, m.offset_data, m.size) for m in archive if m.isfile()]
            end = archive.offset
        with tar.open("rb") as file:
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it has no end")
    except tarfile.TarError as error:
        what = what_it_is(tar) if not tar.name.lower().endswith(".tar") else ""
        remedy = what or "download it again, or unpack it first"
        raise ValueError(f"{tar}: cannot be read as a tar ({error}); {remedy}") from error
    return files


@dataclass(frozen=True)
class RawVolume:
    """One volume of a data set as it was downloaded.

    id: of the volume and, with `_zNNN` if it gives several, of its slices.
    subject: the person.
    split: train, val or test.
    image: the volume's file.
    lesion: the file of a mask on the volume's grid.
    boxes: rectangles instead of a mask.
    slices: axial indices instead of the settings'.
    site: the hospital or scanner.
    excluded: why it is not to be used; then nothing is read.
    about: further columns of the index.
    modality: of the image.
    """

    id: str
    subject: str
    split: str
    image: Source
    lesion: Source | None = None
    boxes: Boxes = field(default_factory=dict)
    slices: Sequence[int] | None = None
    site: str = ""
    excluded: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    modality: str = "T1"


@dataclass(frozen=True)
class Volume:
    """A volume in closest canonical orientation: axes to the right, to the front, upwards.

    data: (X, Y, Z) float32, finite.
    affine: (4, 4) from its voxels to millimetres.
    file_shape: of the file itself, before the reorientation.
    file_affine: (4, 4) of the file itself.
    sha256: of the file. Of an h5, whose k-space is not read, of the reconstruction.
    name: of the volume in messages.
    file_forms: the affines that the file states, `file_affine` and perhaps another.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    file_shape: tuple[int, ...]
    file_affine: NDArray[np.float64]
    sha256: str = ""
    name: str = "the volume"
    file_forms: tuple[NDArray[np.floating], ...] = ()

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Millimetres per voxel along each axis, (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def read_volume(source: Source) -> Volume:
    """Read one 3-D volume: NIfTI (.nii, .nii.gz), FreeSurfer's .mgz, or a fastMRI h5.

    Scaled integers are read as their header says.

    Raises ValueError that names the file, what is wrong and what to do. The file may not be whole,
    or `volume_of` refuses it.
    """
    is_h5 = source.name.lower().endswith(".h5")
    try:
        content = b"" if is_h5 else source.read_bytes()
        image = _from_h5(source.path) if is_h5 else image_of(content, source.name)
    except Exception as error:  # either reader has its own dozen of exceptions for a broken file
        raise ValueError(
            f"{source}: {_reason(error)}; download or convert it again, or leave it out"
        ) from error
    volume = volume_of(image, str(source))
    stored = _three_axes(image).tobytes() if is_h5 else content
    return replace(volume, sha256=hashlib.sha256(stored).hexdigest())


def volume_of(image: SpatialImage, name: str = "the volume") -> Volume:
    """A volume that is in memory already.

    image: one 3-D image of real numbers whose affine is in millimetres.
    name: what messages call it.
    Raises ValueError if it is 4-D, holds NaN, is constant, or is in other units.
    """
    if (
        any(side > 1 for side in image.shape[3:])
        or len(image.shape) < 3
        or min(image.shape[:3]) < 2
    ):
        raise ValueError(
            f"{name}: its shape is {by(image.shape)}, not one volume; save one 3-D image"
        )
    _check_codes(image, f"{name}: ")
    if not can_be_inverted(image.affine):
        raise ValueError(
            f"{name}: cannot be used (its affine cannot be inverted); convert it again, or leave "
            "it out"
        )
    stated = forms(image)
    image = Nifti1Image(_three_axes(image), image.affine)
    canonical = nibabel.as_closest_canonical(image)
    data = np.asarray(canonical.dataobj, dtype=np.float32)
    if broken := int(np.count_nonzero(~np.isfinite(data))):
        raise ValueError(
            f"{name}: {broken} voxels are NaN or infinite; replace them or leave it out"
        )
    if data.min() == data.max():
        raise ValueError(f"{name}: every voxel is {data.flat[0]:g}; leave it out")
    volume = Volume(data, canonical.affine, image.shape, image.affine, name=name, file_forms=stated)
    if not (SPACING[0] <= volume.spacing).all() or not (volume.spacing <= SPACING[1]).all():
        sides = " x ".join(f"{side:.3g}" for side in volume.spacing)
        raise ValueError(f"{name}: its voxels have {sides} mm; correct the header's units")
    _say_if_forms_differ(volume)
    return volume


def _say_if_forms_differ(volume: Volume) -> None:
    for other in volume.file_forms[1:]:
        distance = apart(volume.file_affine, other, volume.file_shape)
        if distance > tolerance(volume.file_affine):
            log.warning(
                "%s: its sform and its qform lie %.3g mm apart; the sform is used, and a mask may "
                "lie on either",
                volume.name,
                distance,
            )


def read_mask(source: Source, volume: Volume, above_0: bool = False) -> NDArray[np.bool_]:
    """Read a mask of a volume, such as its lesion's: (X, Y, Z) bool as `volume.data`.

    above_0: every voxel above 0 is meant, as in a brain that was cut out; see `mask_of`.

    True is half of the maximum or more. The mask lies on the volume's grid, by either form of the
    volume's header, its voxels in any order.

    Raises ValueError that names the file if it lies elsewhere, holds no mask's values
    (`mask_of`), or cannot be read.
    """
    try:
        mask = image_of(source.read_bytes(), source.name)
    except Exception as error:  # as in `read_volume`
        raise ValueError(
            f"{source}: {_reason(error)}; download it again, or leave it out"
        ) from error
    try:
        if any(side > 1 for side in mask.shape[3:]) or len(mask.shape) < 3:
            raise ValueError(f"its shape is {by(mask.shape)}")
        stored = in_order_of(
            _three_axes(mask),
            mask.affine,
            volume.file_shape,
            volume.file_forms or (volume.file_affine,),
        )
    except ValueError as error:
        raise ValueError(
            f"{source}: is on another grid than its image {volume.name}: {error}; if it was drawn "
            "on the image, save it with the image's affine, else resample it to the image"
        ) from error
    try:
        read = mask_of(apply_orientation(stored, io_orientation(volume.file_affine)), above_0)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    if read.remark:
        log.warning("%s: %s", source, read.remark)
    return read.pixels


def image_of(content: bytes, name: str) -> SpatialImage:
    """The image in a file's bytes.

    name: of the file. `.mgz` and `.mgh` are FreeSurfer's, all others NIfTI.
    """
    return _from_mgh(content) if name.lower().endswith((".mgz", ".mgh")) else _from_nifti(content)


def _from_mgh(content: bytes) -> MGHImage:
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    image = MGHImage.from_bytes(content)
    if not image.header["goodRASFlag"]:
        raise ValueError("its header states no orientation (goodRASFlag is 0)")
    refuse_overlong(image, len(content))
    np.asarray(image.dataobj)  # a truncated file shows here
    return image


def _from_nifti(content: bytes) -> Nifti1Image:
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    kind = nibabel.Nifti2Image if content[:4] in NIFTI_2 else Nifti1Image
    image = kind.from_bytes(content)
    _check_codes(image)
    if (dtype := image.get_data_dtype()).kind not in "buif":
        raise ValueError(f"it holds {dtype} instead of real numbers")
    refuse_overlong(image, len(content))
    np.asarray(image.dataobj)  # a truncated file shows here
    return image


def _check_codes(image: SpatialImage, before: str = "") -> None:
    if isinstance(image, nibabel.Nifti1Pair) and not (
        image.header["qform_code"] or image.header["sform_code"]
    ):
        raise ValueError(f"{before}its header states no orientation (qform and sform codes are 0)")


def _from_h5(path: Path) -> Nifti1Image:
    """The `reconstruction_rss` of a fastMRI file, (slices, rows, columns).

    Its rows run from the back of the head to the front; left and right are as stored. The voxel
    size is read from the ISMRMRD header. Without one it is 1 mm.
    """
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f"reading h5 needs h5py: {INSTALL}") from error
    with h5py.File(path) as file:
        if "reconstruction_rss" not in file:
            raise ValueError(f"has no reconstruction_rss (it holds {', '.join(file) or 'nothing'})")
        stack = np.asarray(file["reconstruction_rss"], dtype=np.float32)
        header = file["ismrmrd_header"][()] if "ismrmrd_header" in file else b""
    if stack.ndim != 3:
        raise ValueError(
            f"its reconstruction_rss has shape {by(stack.shape)}, not slices x rows x columns"
        )
    return Nifti1Image(stack.transpose(2, 1, 0), np.diag([*_voxel_size(header), 1.0]))


def _voxel_size(header: bytes | str) -> list[float]:
    """Millimetres along columns, rows and slices, from an ISMRMRD header; 1 if it does not say.

    The header's x runs along the rows.
    """
    if not isinstance(header, bytes | str):
        raise ValueError("its ismrmrd_header is no text")
    try:
        space = ElementTree.fromstring(header).find(".//{*}reconSpace")
        rows, columns, slices = (
            _number(space, "fieldOfView_mm", axis) / max(_number(space, "matrixSize", axis), 1)
            for axis in "xyz"
        )
    except (ElementTree.ParseError, ValueError):
        return [1.0, 1.0, 1.0]
    if not min(columns, rows, slices) > 0:  # a negative one would mirror the head
        raise ValueError("its header states voxels of 0 mm or less")
    return [columns, rows, slices]


def _number(space: ElementTree.Element | None, block: str, axis: str) -> float:
    """ValueError if the header does not say it."""
    text = None if space is None else space.findtext(f"{{*}}{block}/{{*}}{axis}")
    return float(text or "")


def _three_axes(image: SpatialImage) -> NDArray[np.float32]:
    """The voxels, without further axes of one."""
    return np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return (
        "is not whole" if isinstance(error, EOFError | zlib.error) else f"cannot be used ({text})"
    )
