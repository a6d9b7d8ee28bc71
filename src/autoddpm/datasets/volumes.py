"""Volumes of one's own: every NIfTI or .mgz file of a folder, as volumes and then as slices."""

import re
from pathlib import Path

import pandas as pd

from autoddpm.data.sample import Record
from autoddpm.datasets.other_files import what_they_are
from autoddpm.datasets.paths import existing, files_below
from autoddpm.datasets.slice_folder import split_by_subject
from autoddpm.datasets.subjects import BIDS
from autoddpm.preparation.folder import prepared
from autoddpm.preparation.volume import RawVolume, Source

SUFFIX = re.compile(r"\.(nii|nii\.gz|mgz|mgh)$", re.IGNORECASE)
SPLIT = {"train": 0.8, "val": 0.1, "test": 0.1}


def volumes(root: str | Path) -> list[Record]:
    """The slices that `src.prepare +experiment=volumes` wrote.

    Raises ValueError or FileNotFoundError as `prepared` does.
    """
    return prepared(existing(root, "paths.volumes"), "volumes")


def own_volumes(raw: str | Path | None, seed: int = 0) -> list[RawVolume]:
    """Every T1-weighted volume of a folder, however deep.

    raw: the folder. A file is a volume of one subject, the one of its BIDS name (sub-01), or else
        of its own name.
    seed: of the draw of splits, by subject: 80 % train, 10 % val, 10 % test.

    Raises FileNotFoundError that says what the files are if none is a volume.
    """
    raw = existing(raw, "paths.raw")
    every = files_below(raw) if raw.is_dir() else [raw]
    files = [file for file in every if SUFFIX.search(file.name)]
    if not files:
        what = what_they_are(every)
        raise FileNotFoundError(
            f"{raw}: holds no volume (.nii, .nii.gz, .mgz); {what or 'correct paths.raw'}"
        )
    base = raw if raw.is_dir() else raw.parent
    names = ["_".join(SUFFIX.sub("", str(file.relative_to(base))).split("/")) for file in files]
    subjects = [found[1] if (found := BIDS.search(name)) else name for name in names]
    splits = split_by_subject(pd.Series(subjects), SPLIT, seed)
    rows = zip(names, subjects, splits, files, strict=True)
    return [RawVolume(name, who, split, Source(file)) for name, who, split, file in rows]
