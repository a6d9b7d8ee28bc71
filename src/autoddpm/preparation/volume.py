"""Volumes as they are downloaded: NIfTI files (in a folder or in a tar) and fastMRI's h5 files."""

import gzip
import hashlib
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

SPACING = (0.2, 8.0)  # mm a voxel: what is outside is in other units


@dataclass(frozen=True)
class Source:
    """A file, or a member of an uncompressed tar: `member`, and where its bytes are."""

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
        """All of it."""
        if not self.member:
            return self.path.read_bytes()
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


def members(tar: Path) -> list[Source]:
    """The files in an uncompressed tar. Raises ValueError that names it where it is damaged or
    compressed."""
    try:
        with tarfile.open(tar, "r:") as archive:
            return [Source(tar, m.name, m.offset_data, m.size) for m in archive if m.isfile()]
    except tarfile.TarError as error:
        raise ValueError(
            f"{tar}: cannot be read as a tar ({error}); download it again, or unpack it first"
        ) from error


@dataclass(frozen=True)
class Volume:
    """A volume in closest canonical orientation: axes to the right, to the front, upwards.

    data: (X, Y, Z) float32, finite.  affine: (4, 4) from its voxels to millimetres.
    file_shape, file_affine: of the file itself, before the reorientation.  sha256: of the file; of
    an h5, whose k-space is not read, of the reconstruction.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    file_shape: tuple[int, ...]
    file_affine: NDArray[np.float64]
    sha256: str

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Millimetres a voxel along each axis, (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def read_volume(source: Source) -> Volume:
    """Read one 3-D NIfTI (.nii, .nii.gz; scaled integers as their header says), or a fastMRI h5.

    Raises ValueError that names the file, what is wrong and what to do: not whole, 4-D, NaN,
    constant, without orientation, or in other units than millimetres.
    """
    is_h5 = source.name.endswith(".h5")
    try:
        content = b"" if is_h5 else source.read_bytes()
        image = _from_h5(source.path) if is_h5 else _from_nifti(content)
    except Exception as error:  # either reader has its own dozen of exceptions for a broken file
        raise ValueError(
            f"{source}: {_reason(error)}; download or convert it again, or leave it out"
        ) from error
    if (
        any(side > 1 for side in image.shape[3:])
        or len(image.shape) < 3
        or min(image.shape[:3]) < 2
    ):
        raise ValueError(
            f"{source}: its shape is {_by(image.shape)}, not one volume; save one 3-D image"
        )
    image = Nifti1Image(
        np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3]), image.affine
    )
    canonical = nibabel.as_closest_canonical(image)
    data = np.asarray(canonical.dataobj, dtype=np.float32)
    if broken := int(np.count_nonzero(~np.isfinite(data))):
        raise ValueError(
            f"{source}: {broken} voxels are NaN or infinite; replace them or leave it out"
        )
    if data.min() == data.max():
        raise ValueError(f"{source}: every voxel is {data.flat[0]:g}; leave it out")
    digest = hashlib.sha256(np.asarray(image.dataobj).tobytes() if is_h5 else content).hexdigest()
    volume = Volume(data, canonical.affine, image.shape, image.affine, digest)
    if not (SPACING[0] <= volume.spacing).all() or not (volume.spacing <= SPACING[1]).all():
        raise ValueError(
            f"{source}: its voxels have {' x '.join(f'{s:.3g}' for s in volume.spacing)} mm; "
            "correct the header's units"
        )
    return volume


def read_mask(source: Source, volume: Volume, image: Source) -> NDArray[np.bool_]:
    """Read the lesion mask of a volume, (X, Y, Z) bool as `volume.data`: True above 0.

    Raises ValueError where it is on another grid than its image, negative, or not to be read.
    """
    try:
        mask = _from_nifti(source.read_bytes())
    except Exception as error:  # as in `read_volume`
        raise ValueError(
            f"{source}: {_reason(error)}; download it again, or leave it out"
        ) from error
    same_shape = mask.shape[:3] == volume.file_shape and mask.shape[3:] in ((), (1,))
    if not same_shape or not np.allclose(mask.affine, volume.file_affine, atol=0.05):
        raise ValueError(
            f"{source}: is on another grid ({_by(mask.shape)}) than its image {image} "
            f"({_by(volume.file_shape)}, "
            "or another position); resample it to the image"
        )
    values = np.asarray(nibabel.as_closest_canonical(mask).dataobj, dtype=np.float32).reshape(
        volume.data.shape
    )
    if not (values >= 0).all():  # NaN is not >= 0
        raise ValueError(
            f"{source}: holds NaN or negative voxels; save 0 for healthy and 1 for lesion"
        )
    return values > 0


def _from_nifti(content: bytes) -> Nifti1Image:
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    kind = nibabel.Nifti2Image if content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else Nifti1Image
    image = kind.from_bytes(content)
    if not (image.header["qform_code"] or image.header["sform_code"]):
        raise ValueError("its header states no orientation (qform and sform codes are 0)")
    if np.linalg.matrix_rank(image.affine[:3, :3]) < 3:
        raise ValueError("its affine cannot be inverted")
    if (dtype := image.get_data_dtype()).kind not in "buif":
        raise ValueError(f"it holds {dtype} instead of real numbers")
    np.asarray(image.dataobj)  # a truncated file shows here
    return image


def _from_h5(path: Path) -> Nifti1Image:
    """`reconstruction_rss`, (slices, rows, columns); its rows run from the back of the head to the
    front.

    The voxel size is read from the ISMRMRD header; without one it is 1 mm. Left and right are as
    stored.
    """
    try:
        import h5py
    except ImportError as error:
        raise ValueError("reading h5 needs h5py: pip install -e '.[prepare]'") from error
    with h5py.File(path) as file:
        if "reconstruction_rss" not in file:
            raise ValueError(f"has no reconstruction_rss (it holds {', '.join(file) or 'nothing'})")
        stack = np.asarray(file["reconstruction_rss"], dtype=np.float32)
        header = file["ismrmrd_header"][()] if "ismrmrd_header" in file else b""
    if stack.ndim != 3:
        raise ValueError(
            f"its reconstruction_rss has shape {_by(stack.shape)}, not slices x rows x columns"
        )
    return Nifti1Image(stack.transpose(2, 1, 0), np.diag([*_voxel_size(header), 1.0]))


def _voxel_size(header: bytes | str) -> list[float]:
    """Millimetres along columns, rows and slices, from the ISMRMRD header's reconSpace, whose x
    runs along the rows."""
    text = header.decode(errors="replace") if isinstance(header, bytes) else header
    space = re.search(r"<reconSpace>(.*?)</reconSpace>", text, re.DOTALL)
    if not space:
        return [1.0, 1.0, 1.0]
    found = {}
    for what in ("matrixSize", "fieldOfView_mm"):
        block = re.search(rf"<{what}>(.*?)</{what}>", space[1], re.DOTALL)
        values = [
            re.search(rf"<{axis}>\s*([\d.eE+-]+)\s*</{axis}>", block[1] if block else "")
            for axis in "xyz"
        ]
        found[what] = [float(value[1]) for value in values if value]
        if len(found[what]) != 3:
            return [1.0, 1.0, 1.0]
    rows, columns, slices = (
        fov / max(matrix, 1)
        for fov, matrix in zip(found["fieldOfView_mm"], found["matrixSize"], strict=True)
    )
    return [columns, rows, slices]


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return (
        "is not whole" if isinstance(error, EOFError | zlib.error) else f"cannot be used ({text})"
    )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
