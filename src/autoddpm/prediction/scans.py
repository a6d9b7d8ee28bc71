"""Which scans a prediction is asked of, and where their results go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoddpm.data.files import files_below
from autoddpm.data.names import no_scan
from autoddpm.data.other_files import not_read
from autoddpm.home import at_home

SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")
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
    modality: that the weights know, such as T1. A file whose name says another, or a mask, is left
        out.

    Links are followed. Raises FileNotFoundError if there is nothing, PermissionError that names a
    folder that may not be read. Raises ValueError if it is no scan, if two scans
    have one name, if `out` holds the folder, or if a brain mask is given for several scans.
    """
    source, out = at_home(source), at_home(out)
    if source.is_file():
        if not is_scan(source):
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
    every = [f for f in files_below(source) if not f.resolve().is_relative_to(out.resolve())]
    files = [file for file in every if is_scan(file)]
    others = not_read([file for file in every if not is_scan(file)])
    wanted = contrast_of(modality)
    left_out = {str(file): why for file in files if (why := no_scan(stem_of(file), wanted))}
    left_out |= {str(source): others} if others else {}
    scans = [
        _plain(file, f"{file.parent.relative_to(source) / stem_of(file)}")
        for file in files
        if str(file) not in left_out
    ]
    if not scans:
        more = "".join(f"; left out: {file}: {why}" for file, why in [*left_out.items()][:1])
        raise FileNotFoundError(f"{source}: holds no {', '.join(SUFFIXES)} scan{more}")
    _check_names(scans)
    return Listing(scans, left_out)


def existing_file(path: str | Path, setting: str) -> Path:
    """A path. Raises FileNotFoundError, naming the setting, if there is no such file."""
    path = at_home(path)
    if not path.is_file():
        raise FileNotFoundError(f"{setting} {path}: there is no such file; correct the path")
    return path


def is_scan(file: Path) -> bool:
    """Whether a file has a scan's suffix."""
    return file.name.lower().endswith(SUFFIXES)


def stem_of(file: Path) -> str:
    """A scan's name without its suffixes."""
    suffix = next(suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix))
    return file.name[: -len(suffix)]


def contrast_of(modality: str) -> str:
    """A modality as the end of a BIDS name."""
    return MODALITY_ENDS.get(modality, modality)


def _plain(file: Path, name: str, brain_mask: Path | None = None) -> Scan:
    places = {what: f"{name}/{end}" for what, end in FILES.items()}
    return Scan(name, file, places, brain_mask=brain_mask)


def _check_names(scans: Sequence[Scan]) -> None:
    """Refuse a.nii beside a.nii.gz: their results would have one place."""
    first: dict[str, Scan] = {}
    for scan in scans:
        if scan is not (other := first.setdefault(scan.name, scan)):
            raise ValueError(f"{scan.file} and {other.file} are both {scan.name}; leave one out")
