"""Files that are no slices: what they are, and what makes slices of them."""

import logging
from collections.abc import Sequence
from pathlib import Path

from autoddpm.data.files import files_below
from autoddpm.data.image_file import CUT
from autoddpm.data.integrity import first_few

log = logging.getLogger(__name__)

PICTURES = (".jpg", ".jpeg", ".jp2", ".bmp", ".tif", ".tiff", ".gif", ".webp")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".gz", ".bz2", ".xz", ".7z")
VOLUMES = (".mgz", ".mgh", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img", ".mnc", ".mif")
TO_NIFTI = "python -c \"import SimpleITK as s; s.WriteImage(s.ReadImage('FILE'), 'x.nii.gz')\""
DICOM_MARK = slice(128, 132)


def what_they_are(files: Sequence[Path]) -> str:
    """The kind of the first of these files, and what makes slices of it.

    Empty if the kind is not known.
    """
    for file in files:
        if told := what_it_is(file):
            return told
    return ""


def not_read(files: Sequence[Path]) -> str:
    """How many of the files that are not read hold images, and what the first is. Else empty."""
    told = {file: what for file in files if (what := what_it_is(file))}
    if not told:
        return ""
    names = first_few(file.name for file in told)
    return f"{len(told)} other files are not read: {names}; {next(iter(told.values()))}"


def warn_of_not_read(folder: Path, files: Sequence[Path]) -> None:
    """Log `not_read` of the other files of a folder."""
    if said := not_read(files):
        log.warning("%s: %s", folder, said)


def what_it_is(file: Path) -> str:
    """What a file is that is no slice, and what to do with it. Empty if that is not known."""
    name = file.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return ""
    if _is_dicom(file):
        return f"this is DICOM: `dcm2niix -z y -o DIR {file.parent}` makes volumes of it, and {CUT}"
    if name.endswith(PICTURES):
        return (
            "this is a picture of another format: save it as PNG, without loss, as "
            "`mogrify -format png FILE` does"
        )
    if name.endswith(".h5"):
        return (
            "this is raw data, as fastMRI's: python -m src.prepare +experiment=fastmri "
            "paths.raw=DIR paths.annotations=brain.csv"
        )
    if name.endswith((".mgz", ".mgh")):
        return f"this is a volume of FreeSurfer, not a slice: {CUT}"
    if name.endswith(VOLUMES):
        return f"this is a volume, not a slice: `{TO_NIFTI}` makes NIfTI of it, and {CUT}"
    if name.endswith(ARCHIVES):
        unpack = "unzip" if name.endswith(".zip") else "tar xf" if ".t" in name else "7z x"
        return f"this is an archive: unpack it first (`{unpack} {file.name}`)"
    return ""


def below(folder: Path, suffixes: tuple[str, ...]) -> str:
    """What lies in the folders of a folder that holds no slice itself. Empty if nothing does."""
    found = files_below(folder)
    slices = [file for file in found if file.name.lower().endswith(suffixes)]
    if slices:
        inside = sorted({str(file.parent.relative_to(folder)) for file in slices} - {"."})
        return (
            f"{len(slices)} lie in folders of it ({first_few(inside)}): give a csv that lists them "
            "instead, one path a line"
        )
    return what_they_are(found)


def _is_dicom(file: Path) -> bool:
    if file.suffix.lower() in (".dcm", ".ima", ".dicom") or file.name == "DICOMDIR":
        return True
    try:
        with file.open("rb") as opened:
            return opened.read(132)[DICOM_MARK] == b"DICM"
    except OSError:
        return False
