"""ATLAS v2.0 (Liew et al., 2022): chronic strokes, T1-weighted, on the grid of ICBM 2009a."""

import logging
import re
from dataclasses import replace
from pathlib import Path

from autoddpm.data.files import files_below
from autoddpm.data.image_file import NIFTI
from autoddpm.data.other_files import warn_of_not_read
from autoddpm.data.sample import Record
from autoddpm.datasets.others import not_understood
from autoddpm.datasets.paths import existing
from autoddpm.datasets.published import published
from autoddpm.datasets.slice_folder import slice_folder
from autoddpm.preparation.folder import prepared
from autoddpm.preparation.volume import RawVolume, Source

log = logging.getLogger(__name__)

LIKE = "sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz"
IMAGE = re.compile(
    r"sub-(?P<subject>r\d+s\d+)_ses-\d+_space-MNI152NLin2009aSym_T1w(?P<suffix>\.nii(\.gz)?)"
)
SUBJECT = r"^(?:.*?(r\d+s\d+).*|(?:.*/)?([^/]+))$"  # the file's own name if it holds none
ARTEFACT = "artefact (the authors' list of 20)"


def atlas(root: str | Path) -> list[Record]:
    """Test slices. The id is `atlas/r001s001`, or the file's path.

    root: a folder that `src.prepare` wrote, or the authors' own slices (NAME.png and NAME_mask.png,
        128 px). Of the latter, those whose name holds one of the 20 subjects with artefacts are
        left out. Their masks were shrunk, and every pixel above 0 is lesion, as in the authors'
        code. If names hold no subject this is impossible, and said.

    Raises ValueError or FileNotFoundError as `slice_folder` does.
    """
    root = existing(root, "paths.atlas")
    if (root / "preparation.json").is_file():
        return prepared(root, "atlas")
    artefacts = _artefacts()
    records = slice_folder(root, split="test", name="atlas", subject=SUBJECT)
    subjects = [
        found[0] if (found := re.search(r"r\d+s\d+", record.id)) else "" for record in records
    ]
    if unnamed := subjects.count(""):
        log.warning(
            "%s: %d names hold no subject such as r042s010: slices of the 20 subjects with "
            "artefacts cannot be told from the others and are not left out",
            root,
            unnamed,
        )
    return [
        replace(record, above_0=True)
        for record, subject in zip(records, subjects, strict=True)
        if subject not in artefacts
    ]


def atlas_volumes(raw: str | Path | None, artefacts: str = "leave_out") -> list[RawVolume]:
    """The training volumes of the BIDS tree ATLAS_2 and their masks.

    raw: the tree's folder.
    artefacts: "leave_out" marks the 20 subjects with artefacts as left out; "only" lists them alone
        (for Figure 3).
    Volumes below Testing/, whose masks are not public, are not listed. Those of other names are
    marked as left out. Raises FileNotFoundError if there is no volume. A mask that is absent is
    refused by `prepare_volumes`.
    """
    raw = existing(raw, "paths.raw")
    if artefacts not in ("leave_out", "only"):
        raise ValueError(f"artefacts={artefacts}: must be leave_out or only")
    spoilt, volumes, others, hidden = _artefacts(), [], [], 0
    every = files_below(raw)
    warn_of_not_read(raw, every)
    for path in every:
        match = IMAGE.fullmatch(path.name)
        if "Testing" in path.relative_to(raw).parts:
            hidden += match is not None
            continue
        if match is None:
            is_mask = path.name.lower().endswith(("_mask.nii.gz", "_mask.nii"))
            if path.name.lower().endswith(NIFTI) and not is_mask:
                others.append(Source(path))
            continue
        subject = match["subject"]
        mask = path.with_name(
            path.name.replace(
                f"_T1w{match['suffix']}", f"_label-L_desc-T1lesion_mask{match['suffix']}"
            )
        )
        if artefacts == "only" and subject not in spoilt:
            continue
        excluded = ARTEFACT if subject in spoilt and artefacts == "leave_out" else ""
        site = subject.split("s")[0].upper()
        volumes.append(
            RawVolume(
                subject, subject, "test", Source(path), Source(mask), site=site, excluded=excluded
            )
        )
    if not volumes:
        raise FileNotFoundError(
            f"{raw}: holds no ATLAS v2.0 volume such as Training/R001/sub-r001s001/ses-1/anat/"
            f"{LIKE}; correct paths.raw"
        )
    if hidden:
        log.warning("%s: %d volumes below Testing/ have no masks and are not used", raw, hidden)
    return volumes + not_understood(others, raw, LIKE)


def _artefacts() -> set[str]:
    table = published("atlas_index.csv")
    return set(table.loc[table["excluded_artefact"] == "1", "subject"])
