"""Volumes of one's own: every NIfTI or .mgz file of a folder, as volumes and then as slices."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autoddpm.data.files import files_below
from autoddpm.data.integrity import first_few
from autoddpm.data.names import no_scan
from autoddpm.data.other_files import warn_of_not_read, what_they_are
from autoddpm.data.sample import Record
from autoddpm.datasets.paths import existing
from autoddpm.datasets.slice_folder import split_by_subject
from autoddpm.datasets.subjects import subjects_of
from autoddpm.preparation.folder import prepared
from autoddpm.preparation.volume import RawVolume, Source

log = logging.getLogger(__name__)

SUFFIX = re.compile(r"\.(nii|nii\.gz|mgz|mgh)$", re.IGNORECASE)
SPLIT = {"train": 0.8, "val": 0.1, "test": 0.1}
CONTRAST = "T1w"
REMEDY = (
    "give preparation.volumes.subject=REGEX, whose first group in a name is the subject "
    "('.+' if each volume is of a person of its own)"
)


def volumes(root: str | Path) -> list[Record]:
    """The slices that `src.prepare +experiment=volumes` wrote.

    Raises ValueError or FileNotFoundError as `prepared` does.
    """
    return prepared(existing(root, "paths.volumes"), "volumes")


def own_volumes(
    raw: str | Path | None, seed: int = 0, subject: str | None = None
) -> list[RawVolume]:
    """Every T1-weighted volume of a folder, however deep.

    raw: the folder, or one file.
    seed: of the draw of splits, by subject: 80 % train, 10 % val, 10 % test.
    subject: a regular expression, whose first group in a name is the subject. Without it names say
        it, see `subjects_of`.

    Files whose names are those of masks or of other contrasts are marked as left out, and files of
    other formats are counted and named.

    Raises FileNotFoundError that says what the files are if none is a volume, ValueError if names
    may hold a subject and do not say it.
    """
    raw = existing(raw, "paths.raw")
    every = files_below(raw) if raw.is_dir() else [raw]
    files = [file for file in every if SUFFIX.search(file.name)]
    others = [file for file in every if not SUFFIX.search(file.name)]
    if not files:
        what = what_they_are(others)
        raise FileNotFoundError(
            f"{raw}: holds no volume (.nii, .nii.gz, .mgz); {what or 'correct paths.raw'}"
        )
    warn_of_not_read(raw, others)
    base = raw if raw.is_dir() else raw.parent
    names = [_name(file.relative_to(base)) for file in files]
    reasons = [no_scan(SUFFIX.sub("", file.name), CONTRAST) for file in files]
    _say_left_out(raw, [file for file, reason in zip(files, reasons, strict=True) if reason])
    scans = [name for name, reason in zip(names, reasons, strict=True) if not reason]
    subjects = subjects_of(scans, "volumes", subject, REMEDY)
    splits = split_by_subject(pd.Series(subjects, dtype=str), SPLIT, seed)
    who = dict(zip(scans, zip(subjects, splits, strict=True), strict=True))
    found = []
    for name, reason, file in zip(names, reasons, files, strict=True):
        person, split = who.get(name, (name, "train"))
        found.append(RawVolume(name, person, split, Source(file), excluded=reason))
    return found


def _say_left_out(raw: Path, files: Sequence[Path]) -> None:
    if files:
        log.warning(
            "%s: %d files are left out, since their names are of masks or of other contrasts: %s",
            raw,
            len(files),
            first_few(file.name for file in files),
        )


def _name(file: Path) -> str:
    """A file's place as one name."""
    return "_".join(SUFFIX.sub("", str(file)).split("/"))
