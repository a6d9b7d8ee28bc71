"""Which scans a prediction is asked of, and where their results go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoddpm.home import at_home

SUFFIXES = (".nii.gz", ".nii", ".mgz")
#: Ends of BIDS names of what is no scan, or another contrast than T1w.
OTHER_ENDS = {
    *("FLAIR", "T2w", "T2star", "PDw", "inplaneT2", "angio", "bold", "sbref", "dwi", "epi"),
    *("phasediff", "magnitude1", "magnitude2", "mask", "dseg", "probseg", "label"),
}
MODALITY_ENDS = {"T1": "T1w"}
#: The results of a scan, by what they are.
FILES = {
    "anomaly_map": "anomaly_map.nii.gz",
    "mask": "mask.nii.gz",
    "pseudo_healthy": "pseudo_healthy.nii.gz",
    "brain_mask": "brain_mask.nii.gz",
    "mosaic": "mosaic.png",
    "report": "report.html",
    "record": "record.json",
}


@dataclass(frozen=True)
class Scan:
    """One scan, and the places of its results.

    name: unique among the scans of a prediction.
    file: the scan.
    places: by what it is, see `FILES`, the path of a result relative to the folder of all.
    uri: of the scan in its dataset, for BIDS. Else empty.
    brain_mask: a mask of one's own, on the scan's grid.
    """

    name: str
    file: Path
    places: Mapping[str, str]
    uri: str = ""
    brain_mask: Path | None = None


@dataclass(frozen=True)
class Listing:
    """Scans, and the files that were left out, each with the reason."""

    scans: Sequence[Scan]
    left_out: Mapping[str, str] = field(default_factory=dict)


def list_scans(
    source: str | Path, out: str | Path, modality: str, brain_mask: str | Path | None = None
) -> Listing:
    """The scans of a file or of a folder, however deep.

    out: the folder of the results. What is in it is no scan.
    modality: that the weights know, such as T1. A file whose BIDS name says another is left out.

    Raises FileNotFoundError if there is nothing. Raises ValueError if it is no scan, if two scans
    have one name, if `out` holds the folder, or if a brain mask is given for several scans.
    """
    source, out = at_home(source), at_home(out)
    if source.is_file():
        if not source.name.endswith(SUFFIXES):
            raise ValueError(
                f"{source}: is no {', '.join(SUFFIXES)} file; convert it to NIfTI "
                "(`dcm2niix -z y -o DIR FOLDER` for DICOM), or unpack it if it is an archive"
            )
        mask = None if brain_mask is None else existing_file(brain_mask, "--brain-mask")
        return Listing([_plain(source, stem_of(source), mask)])
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: there is no such file or folder; correct the path")
    if brain_mask is not None:
        raise ValueError(
            f"--brain-mask {brain_mask}: is of one scan, and {source} is a folder; give one scan"
        )
    if source.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"-o {out}: holds the scans of {source}; give a folder of its own")
    files = [
        file
        for file in sorted(source.rglob("*"))
        if file.name.endswith(SUFFIXES)
        and file.is_file()
        and not file.name.startswith(".")
        and not file.resolve().is_relative_to(out.resolve())
    ]
    left_out = {str(file): reason for file in files if (reason := other_contrast(file, modality))}
    scans = [
        _plain(file, f"{file.parent.relative_to(source) / stem_of(file)}")
        for file in files
        if str(file) not in left_out
    ]
    if not scans:
        more = f" ({len(left_out)} files are of another contrast)" if left_out else ""
        raise FileNotFoundError(f"{source}: holds no {', '.join(SUFFIXES)} scan{more}")
    _check_names(scans)
    return Listing(scans, left_out)


def existing_file(path: str | Path, setting: str) -> Path:
    """A path. Raises FileNotFoundError, naming the setting, if there is no such file."""
    path = at_home(path)
    if not path.is_file():
        raise FileNotFoundError(f"{setting} {path}: there is no such file; correct the path")
    return path


def stem_of(file: Path) -> str:
    """A scan's name without its suffixes."""
    suffix = next(suffix for suffix in SUFFIXES if file.name.endswith(suffix))
    return file.name.removesuffix(suffix)


def other_contrast(file: Path, modality: str) -> str:
    """Why a file is left out by its BIDS name: "" unless it ends with another contrast."""
    end = stem_of(file).rsplit("_", 1)[-1]
    wanted = MODALITY_ENDS.get(modality, modality)
    if end in OTHER_ENDS and end != wanted:
        return f"its name says {end}, the weights know {wanted}"
    return ""


def _plain(file: Path, name: str, brain_mask: Path | None = None) -> Scan:
    places = {what: f"{name}/{end}" for what, end in FILES.items()}
    return Scan(name, file, places, brain_mask=brain_mask)


def _check_names(scans: Sequence[Scan]) -> None:
    """Refuse a.nii beside a.nii.gz: their results would have one place."""
    first: dict[str, Scan] = {}
    for scan in scans:
        if scan is not (other := first.setdefault(scan.name, scan)):
            raise ValueError(f"{scan.file} and {other.file} are both {scan.name}; leave one out")
