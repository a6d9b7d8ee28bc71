"""IXI (brain-development.org, CC BY-SA 3.0): as downloaded, and as 2-D slices."""

import re
from dataclasses import replace
from pathlib import Path

from autoddpm.data.sample import SliceRecord, Split
from autoddpm.datasets.published import published
from autoddpm.datasets.slice_folder import slice_folder
from autoddpm.preparation.folder import prepared
from autoddpm.preparation.volume import RawVolume, Source, members

#: IXI012-HH-1211-T1.nii.gz as downloaded; sub-IXI012_ses-M00_T1w_space-..._T1w.nii.gz after
# Clinica's t1-linear.
AS_DOWNLOADED = re.compile(r"(?P<subject>IXI\d+)-(?P<site>[^-]+)-\d+-T1\.nii(\.gz)?")
REGISTERED = re.compile(r"sub-(?P<subject>IXI\d+)_.*T1w\.nii(\.gz)?")


def ixi(root: str | Path, everyone: Split | None = None) -> list[SliceRecord]:
    """Healthy axial slices: a folder that `src.prepare` wrote; or one slice a subject as PNG,
    root/slices/*.png and root/split.csv (subject, file, split).

    everyone: all subjects in this split ("train": as published, where the test set is another), not
    as the csv says. The id is the subject's, `ixi/IXI002`. Raises what `slice_folder` raises.
    """
    root = existing(root, "paths.ixi")
    if (root / "preparation.json").is_file():
        records = prepared(root, "ixi")
    else:
        listed = slice_folder(root / "slices", index=root / "split.csv", name="ixi")
        records = [replace(record, id=f"ixi/{record.subject}") for record in listed]
    return [replace(record, split=everyone) for record in records] if everyone else records


def ixi_volumes(raw: str | Path | None) -> list[RawVolume]:
    """The T1 volumes of a folder (however deep), or of IXI-T1.tar: as downloaded, or registered
    already.

    The split is this project's (`published/ixi_split.csv`); a subject that is not in it is used for
    training.
    """
    raw = existing(raw, "paths.raw")
    files = (
        members(raw) if raw.is_file() else [Source(path) for path in sorted(raw.rglob("*.nii*"))]
    )
    split = published("ixi_split.csv").set_index("subject")["split"].to_dict()
    volumes: dict[str, RawVolume] = {}
    for file in files:
        match = AS_DOWNLOADED.fullmatch(file.name) or REGISTERED.fullmatch(file.name)
        if match is None:
            continue
        subject = match["subject"]
        if subject in volumes:
            raise ValueError(
                f"{file} and {volumes[subject].image} are of the same subject; leave one out"
            )
        site = match.groupdict().get("site") or ""
        volumes[subject] = RawVolume(subject, subject, split.get(subject, "train"), file, site=site)
    if not volumes:
        raise FileNotFoundError(
            f"{raw}: holds no IXI volume such as IXI012-HH-1211-T1.nii.gz; correct paths.raw"
        )
    return [volumes[subject] for subject in sorted(volumes)]


def existing(root: str | Path | None, key: str) -> Path:
    """`root` as an absolute path; FileNotFoundError that says which key to give where it is not
    there."""
    if root is None:
        raise FileNotFoundError(
            f"{key} is not given: give {key}=DIR, where the data set as downloaded lies"
        )
    if not Path(root).exists():
        raise FileNotFoundError(
            f"{root}: there is no such folder; give {key}=DIR, or set AUTODDPM_DATA to the folder "
            "that holds the sets"
        )
    return Path(root).absolute()  # what is written down must be true from another folder too
