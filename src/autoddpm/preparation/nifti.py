"""Maps of slices put back into the volumes that the slices were cut from."""

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from autoddpm.atomic import written_whole
from autoddpm.preparation.geometry import SliceGeometry, to_volume

NIFTI_2 = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # the first bytes of such a file


def check_volumes(index: pd.DataFrame) -> None:
    """Refuse what `write_nifti` could not do, before there are maps.

    index: source and geometry of each slice, as a store's.

    Raises ValueError if slices do not say which volumes they were cut from, or if a volume's header
    cannot be read any more; the message names the file.
    """
    if (index["geometry"] == "").any():
        raise ValueError(
            "nifti=true: the test slices do not say which volumes they were cut from; "
            "see src.prepare"
        )
    for source in index["source"].unique():
        try:
            header_of(Path(source))
        except (OSError, EOFError, zlib.error, HeaderDataError, WrapStructError) as error:
            raise ValueError(
                f"nifti=true: {source}: its header cannot be read ({error}); put the file back as "
                "it was prepared, or leave nifti=true out"
            ) from error


def header_of(source: Path) -> Nifti1Header | None:
    """The header of a NIfTI file, for a map on its grid. None of another or of no file.

    The content says whether it is compressed and whether it is NIfTI-2, not the name.
    """
    if not source.is_file() or not source.name.endswith((".nii", ".nii.gz")):
        return None
    with source.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    with gzip.open(source) if compressed else source.open("rb") as content:
        kind = nibabel.Nifti2Header if content.read(4) in NIFTI_2 else Nifti1Header
        content.seek(0)
        header = Nifti1Header.from_header(kind.from_fileobj(content))
    header.set_slope_inter(1, 0)
    header.set_data_dtype(np.float32)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0  # the scan's own would make a viewer show black
    return header


def write_nifti(folder: Path, maps: Mapping[str, np.ndarray], index: pd.DataFrame) -> list[Path]:
    """Write `folder`/SUBJECT_NAME.nii.gz for each of `maps`. Returns the paths.

    A file has the grid and the header of its source volume. Of a subject with several volumes it is
    VOLUME_NAME.nii.gz.

    maps: by name, (N, size, size), and "id": (N,).
    index: id, subject, volume, source, geometry of each slice, as a store's; none may be empty.
    """
    position = {slice_id: i for i, slice_id in enumerate(maps["id"].tolist())}
    index = index[index["id"].isin(list(position))]
    folder.mkdir(parents=True, exist_ok=True)
    volumes, written = index.groupby("subject")["source"].nunique(), []
    for source, slices in index.groupby("source"):
        header = header_of(Path(str(source)))
        first = slices.iloc[0]
        of = str(first["subject"] if volumes[first["subject"]] == 1 else first["volume"])
        geometries = [SliceGeometry.from_json(text) for text in slices["geometry"]]
        for name, values in maps.items():
            if name == "id":
                continue
            image = to_volume(
                [values[position[i]].astype(np.float32) for i in slices["id"]], geometries
            )
            if header is not None:
                image = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, header)
            path = folder / f"{of.rpartition('/')[2]}_{name}.nii.gz"
            with written_whole(path) as temporary:
                nibabel.save(image, temporary)
            written.append(path)
    return written
