"""BIDS: which scans a dataset holds, and results as a derivative dataset of it."""

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoddpm import __version__
from autoddpm.atomic import write_json, write_text
from autoddpm.data.files import files_below
from autoddpm.prediction.scans import SUFFIXES, Listing, Scan, contrast_of, is_scan, stem_of

VERSION = "1.10.0"  # of the specification
INSTALL = "pip install 'autoddpm[predict]'"
#: Results that the specification has no name for.
IGNORED = (
    "*_anomalymap.nii.gz",
    "*_anomalymap.json",
    "*_record.json",
    "*_report.html",
    "*_mosaic.png",
    "summary.csv",
)
ENDS = {
    "anomaly_map": "space-orig_desc-autoddpm_anomalymap.nii.gz",
    "mask": "space-orig_label-L_desc-autoddpm_mask.nii.gz",
    "pseudo_healthy": "space-orig_desc-pseudohealthy_{end}.nii.gz",
    "brain_mask": "space-orig_desc-brain_mask.nii.gz",
    "mosaic": "desc-autoddpm_mosaic.png",
    "report": "desc-autoddpm_report.html",
    "record": "desc-autoddpm_record.json",
}


def list_bids(
    root: str | Path,
    modality: str,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
) -> Listing:
    """The scans of one contrast in a BIDS dataset, without its derivatives.

    modality: that the weights know, such as T1.
    participants, sessions: labels, with or without `sub-` and `ses-`. None named: all.

    Raises ValueError if it is no dataset, FileNotFoundError if it has no such scan.
    """
    root = Path(root)
    if not (root / "dataset_description.json").is_file():
        raise ValueError(
            f"{root}: is no BIDS dataset, it has no dataset_description.json; name its root, or "
            "leave --bids out"
        )
    try:
        import ancpbids  # late: not every prediction needs it
    except ImportError as error:
        raise ValueError(f"--bids needs ancpbids: {INSTALL}") from error
    end = contrast_of(modality)
    extensions = [suffix for suffix in SUFFIXES if suffix.startswith(".nii")]
    dataset: Any = ancpbids.load_dataset(str(root))
    found = dataset.query(suffix=end, extension=extensions, return_type="object")
    relative = sorted(Path(one.get_relative_path()).as_posix() for one in found)
    wanted_sub = {str(label).removeprefix("sub-") for label in participants}  # YAML has numbers
    wanted_ses = {str(label).removeprefix("ses-") for label in sessions}
    scans, seen_sub, seen_ses = [], set(), set()
    for path in relative:
        if not path.startswith("sub-"):
            continue  # derivatives, sourcedata
        labels = dict(re.findall(r"(sub|ses)-([A-Za-z0-9]+)", Path(path).name))
        seen_sub.add(labels.get("sub", ""))
        seen_ses.add(labels.get("ses", ""))
        if (not wanted_sub or labels.get("sub") in wanted_sub) and (
            not wanted_ses or labels.get("ses") in wanted_ses
        ):
            scans.append(_scan(root, path, end))
    _check_labels(root, "--participant-label", wanted_sub, seen_sub)
    _check_labels(root, "--session-label", wanted_ses, seen_ses)
    if not scans:
        raise FileNotFoundError(f"{root}: has no {end} scan of these labels")
    return Listing(scans, _not_understood(root, wanted_sub, end, relative))


def _not_understood(
    root: Path, wanted: Collection[str], end: str, found: Collection[str]
) -> dict[str, str]:
    """Files and subjects that a dataset has and that are not used, each with the reason.

    wanted: labels of the subjects that are asked for. Empty: all.
    end: of the names of the contrast.
    found: paths of its scans, relative to the root.
    """
    left_out: dict[str, str] = {}
    for subject in sorted(root.glob("sub-*")):
        if not subject.is_dir() or (wanted and subject.name.removeprefix("sub-") not in wanted):
            continue
        files = [file for file in files_below(subject) if is_scan(file)]
        strange = [
            file
            for file in files
            if stem_of(file).lower().endswith(f"_{end.lower()}")
            and file.relative_to(root).as_posix() not in found
        ]
        left_out |= {str(file): "its name is none of BIDS" for file in strange}
        if not strange and not any(one.startswith(f"{subject.name}/") for one in found):
            left_out[str(subject)] = f"has no {end} scan"
    return left_out


def _scan(root: Path, path: str, end: str) -> Scan:
    stem = stem_of(Path(path)).removesuffix(f"_{end}")
    folder = Path(path).parent.as_posix()
    places = {what: f"{folder}/{stem}_{name.format(end=end)}" for what, name in ENDS.items()}
    return Scan(stem, root / path, places, f"bids:raw:{path}")


def _check_labels(root: Path, option: str, wanted: set[str], seen: set[str]) -> None:
    if absent := sorted(wanted - seen):
        raise ValueError(
            f"{option} {absent[0]}: {root} has {', '.join(sorted(seen - {''})) or 'none'}"
        )


def write_description(out: Path, source: Path) -> None:
    """Write dataset_description.json, .bidsignore and README of a derivative dataset.

    Raises ValueError if `out` is a dataset of another program.
    """
    path = out / "dataset_description.json"
    if path.is_file():
        by = _described(path).get("GeneratedBy")
        if not (isinstance(by, list) and by and by[0].get("Name") == "autoddpm"):
            raise ValueError(f"{out}: is a dataset of another program; give another -o")
    raw = _described(source / "dataset_description.json")
    link = os.path.relpath(source.resolve(), out.resolve())
    write_json(
        path,
        {
            "Name": f"Anomaly maps of {raw.get('Name', source.name)}",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "autoddpm", "Version": __version__}],
            "SourceDatasets": [{"URL": source.resolve().as_uri()}],
            "DatasetLinks": {"raw": link},
        },
    )
    write_text(out / ".bidsignore", "\n".join(IGNORED) + "\n")
    write_text(
        out / "README",
        "Anomaly maps, masks and pseudo-healthy scans by autoddpm. For research; not a medical "
        "device.\nAn anomaly map is no probability; its name is therefore none of BIDS, see "
        ".bidsignore.\n",
    )


def _described(path: Path) -> dict[str, Any]:
    """A dataset_description.json. ValueError, naming the file, if it describes nothing."""
    try:
        described = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no JSON ({error}); correct it") from error
    if not isinstance(described, dict):
        raise ValueError(f"{path}: describes no dataset; correct it")
    return described


def sidecars(scan: Scan, record: Mapping[str, Any], has_brain: bool) -> dict[str, dict[str, Any]]:
    """The JSON files beside the images of a scan, by path relative to the dataset."""
    threshold = record["threshold"]
    common = {"Sources": [scan.uri], "SpatialReference": scan.uri}
    contents: dict[str, dict[str, Any]] = {
        "mask": {
            "Description": "1 where the anomaly map of the slices is above its threshold.",
            "Type": "Lesion",
            "Threshold": threshold["value"],
            "FalsePositiveRate": threshold["false_positive_rate"],
        },
        "pseudo_healthy": {
            "Description": "The scan, with the change to what the model takes for healthy.",
            "SkullStripped": False,
        },
        "anomaly_map": {"Description": "Higher is more anomalous; no probability."},
    }
    if has_brain:
        contents["brain_mask"] = {"Description": "The brain that was found.", "Type": "Brain"}
    return {
        scan.places[what].removesuffix(".nii.gz") + ".json": content | common
        for what, content in contents.items()
    }
