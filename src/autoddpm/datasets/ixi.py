"""IXI (brain-development.org, CC BY-SA 3.0): as downloaded, and as 2-D slices."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoddpm.data.files import files_below
from autoddpm.data.image_file import NIFTI, read_image
from autoddpm.data.integrity import first_few
from autoddpm.data.other_files import warn_of_not_read
from autoddpm.data.preprocess import window98
from autoddpm.data.sample import Record, Split
from autoddpm.datasets.others import not_understood
from autoddpm.datasets.paths import existing
from autoddpm.datasets.published import published
from autoddpm.datasets.slice_folder import slice_folder
from autoddpm.preparation.folder import prepared
from autoddpm.preparation.template import SHAPE
from autoddpm.preparation.volume import RawVolume, Source, members

LIKE = "IXI012-HH-1211-T1.nii.gz"
#: As downloaded, or as others write it: IXI012-HH-1211_t1.nii.gz. After Clinica's t1-linear:
#: sub-IXI012_ses-M00_T1w_space-..._T1w.nii.gz.
AS_DOWNLOADED = re.compile(
    r"(?P<subject>IXI\d+)-(?P<site>[^-_]+)-\d+[-_]T1w?\.nii(\.gz)?", re.IGNORECASE
)
REGISTERED = re.compile(r"sub-(?P<subject>IXI\d+)_.*T1w\.nii(\.gz)?", re.IGNORECASE)
#: The other modalities that IXI has.
NO_T1 = re.compile(r"IXI\d+-[^-_]+-\d+[-_](T2|PD|MRA|DTI(-\d+)?)\.nii(\.gz)?", re.IGNORECASE)


def ixi(root: str | Path, everyone: Split | None = None) -> list[Record]:
    """Healthy axial slices. The id is the subject's, `ixi/IXI002`.

    root: a folder that `src.prepare` wrote; or one slice per subject as PNG, root/slices/*.png and
        root/split.csv (subject, file, split).
    everyone: the split of all subjects, instead of the csv's. "train" is as published, if the test
        set is another.
    Raises ValueError or FileNotFoundError as `slice_folder` does.
    """
    root = existing(root, "paths.ixi")
    if (root / "preparation.json").is_file():
        records = prepared(root, "ixi")
    else:
        listed = slice_folder(root / "slices", index=root / "split.csv", name="ixi")
        records = [replace(record, id=f"ixi/{record.subject}") for record in listed]
    return [replace(record, split=everyone) for record in records] if everyone else records


def windowed_on_template(record: Record) -> NDArray[np.float64]:
    """A slice of IXI, windowed, (233, 197) in [0, 1].

    Raises ValueError that names the file if it is on another grid than the template's.
    """
    image = window98(read_image(record.images["T1"])).astype(np.float64)
    if image.shape != (SHAPE[1], SHAPE[0]):
        raise ValueError(
            f"{record.files}: has {image.shape} pixels, not 233 x 197 on the template's grid"
        )
    return image


def ixi_volumes(raw: str | Path | None) -> list[RawVolume]:
    """The T1 volumes of IXI, as downloaded or registered already.

    raw: a folder (however deep), or IXI-T1.tar.
    The split is this project's (`published/ixi_split.csv`). A subject that is not in it is used for
    training. T2, PD, MRA and DTI are not listed. A volume of any other name is marked as left out.
    """
    raw = existing(raw, "paths.raw")
    every = members(raw) if raw.is_file() else list(map(Source, files_below(raw)))
    files = [f for f in every if f.name[0] != "." and f.name.lower().endswith(NIFTI)]
    if raw.is_dir():
        warn_of_not_read(raw, [f.path for f in every])
    split = published("ixi_split.csv").set_index("subject")["split"].to_dict()
    volumes: dict[str, RawVolume] = {}
    others = []
    for file in files:
        match = AS_DOWNLOADED.fullmatch(file.name) or REGISTERED.fullmatch(file.name)
        if match is None:
            others += [] if NO_T1.fullmatch(file.name) else [file]
            continue
        subject = match["subject"].upper()
        if subject in volumes:
            raise ValueError(
                f"{file} and {volumes[subject].image} are of the same subject; leave one out"
            )
        site = match.groupdict().get("site") or ""
        volumes[subject] = RawVolume(subject, subject, split.get(subject, "train"), file, site=site)
    if not volumes:
        raise FileNotFoundError(
            f"{raw}: holds no IXI volume such as {LIKE}"
            + (f", and {len(others)} others: {first_few(f.name for f in others)}" if others else "")
            + "; correct paths.raw, or for volumes of other names +experiment=volumes"
        )
    return [*(volumes[subject] for subject in sorted(volumes)), *not_understood(others, raw, LIKE)]
