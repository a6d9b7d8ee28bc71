"""Read the rows of an experiment: one finished evaluation run folder is one row of a table."""

import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype

NOT_RECORDED = (
    "not in metrics.json, which another version wrote: delete the run folder and evaluate again"
)
NOT_SETTINGS = (
    "paths",
    "hydra",
    "checkpoint",
    "name",
    "experiment",
    "report",
    "logger",
)  # where, not what


class UnreadableRunError(ValueError):
    """A file of a run folder is missing, not whole, or not what an evaluation writes; the message
    names it."""


@dataclass(frozen=True)
class Row:
    """What one finished run folder says of itself.

    label:      the method's name, as in the paper's tables, without what sets it apart from a twin.
    variant:    the settings that set this row apart from others of the same label
        ("sampler.stride=10"); else empty.
    detector:   the detector's class name (`name`) and constructor settings.
    metrics:    fractions in [0, 1], calls and seconds; None where undefined, with the reason in
        `undefined`.
    settings:   the composed configuration, flat ("sampler.stride": 10), without paths.
    members:    the rows of single seeds of which this one holds the means; empty where it is a row
        of one seed.
    spread:     standard deviation of each metric over the members.
    """

    folder: Path
    label: str
    detector: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    undefined: Mapping[str, str]
    thresholds: Mapping[str, float | None]
    provenance: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    members: tuple["Row", ...] = ()
    spread: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The label, with what sets this row apart in brackets: "AutoDDPM [sampler.stride=10]"."""
        return f"{self.label} [{self.variant}]" if self.variant else self.label

    def undefined_because(self, key: str) -> str:
        """Why a metric has no value, in words."""
        return self.undefined.get(key, NOT_RECORDED)

    @property
    def runs(self) -> tuple["Row", ...]:
        """The rows of single run folders: the members, or this row itself."""
        return self.members or (self,)


def read_rows(folder: Path) -> tuple[list[Row], list[str]]:
    """Every finished row under `folder`, in the order of the folders' names, and a remark for each
    that is left out.

    A run folder without metrics.json is unfinished, since that file is written last; or failed.json
    says why it failed. Raises FileNotFoundError where no finished row is found, with the command
    that makes one.
    """
    rows, remarks = [], []
    runs = (
        sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
        if folder.is_dir()
        else []
    )
    for run in runs:
        if not (run / "metrics.json").is_file() and (run / "failed.json").is_file():
            why = _failure(run / "failed.json")
            remarks.append(
                f"Failed: {run}: {why}. Mend that and run the same evaluate command again."
            )
            continue
        if not (run / "metrics.json").is_file():
            remarks.append(
                f"Unfinished, left out: {run} has no metrics.json. Run the same evaluate command "
                "again."
            )
            continue
        try:
            rows.append(read_row(run))
        except UnreadableRunError as error:
            remarks.append(f"Unreadable, left out: {error}. Delete the folder and evaluate again.")
    if not rows:
        found = " ".join(remarks) or (
            "It holds no run folder." if folder.is_dir() else "The folder does not exist."
        )
        raise FileNotFoundError(
            f"no finished evaluation row in {folder}. {found} Make one first: "
            f"python -m src.evaluate +experiment={folder.parent.name} checkpoint=CHECKPOINT "
            "detector=autoddpm"
        )
    return rows, remarks


def _failure(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["error"]).strip().rstrip(".")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"for a reason that is lost, since failed.json is not readable ({error})"


def read_row(folder: Path) -> Row:
    """Read metrics.json and config.yaml of a run folder; UnreadableRunError names the one that is
    not whole."""
    path = folder / "metrics.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableRunError(f"{path} is not readable as JSON ({error})") from error
    parts = ("detector", "metrics", "provenance")
    further: dict[str, Any] = {"undefined": {}, "thresholds": {}}
    content = further | content if isinstance(content, dict) else {}
    if not (
        content.get("label") and all(isinstance(content.get(p), dict) for p in (*parts, *further))
    ):
        raise UnreadableRunError(f"{path} needs a label and the objects {', '.join(parts)}")
    metrics: dict[str, float | None] = {}
    undefined = {key: str(reason) for key, reason in content["undefined"].items()}
    for key, value in (content["metrics"] | content["thresholds"]).items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UnreadableRunError(f"{path}: {key} is {value!r}, not a number or null")
    for key, value in content["metrics"].items():
        metrics[key] = float(value) if value is not None and math.isfinite(value) else None
        if value is not None and not math.isfinite(value):
            undefined[key] = f"metrics.json holds {value}"
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        config = {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnreadableRunError(
            f"{folder / 'config.yaml'} is not readable as YAML ({error})"
        ) from error
    flat = _flat({"detector": content["detector"]}) | _flat(
        config if isinstance(config, dict) else {}
    )
    settings = {key: value for key, value in flat.items() if key.split(".")[0] not in NOT_SETTINGS}
    label, detector, provenance = str(content["label"]), content["detector"], content["provenance"]
    return Row(
        folder, label, detector, metrics, undefined, content["thresholds"], provenance, settings
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif str(key) == "_target_":  # a choice is named by its group: anomaly_map=product
            flat[prefix.removesuffix(".")] = str(value).rsplit(".", 1)[-1]
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_slices(row: Row) -> pd.DataFrame:
    """The row's slices.csv, one line a slice; UnreadableRunError, naming the file, where it is
    missing or not whole."""
    path = row.folder / "slices.csv"
    try:
        slices = pd.read_csv(path, dtype={"id": str, "subject": str, "size_group": str})
    except (OSError, ValueError) as error:
        raise UnreadableRunError(f"{path} is not readable ({error})") from error
    if missing := {"id", "size_group", "lesion_pixels"} - set(slices.columns):
        raise UnreadableRunError(f"{path} has no column {', '.join(sorted(missing))}")
    if not slices["id"].is_unique:
        raise UnreadableRunError(
            f"{path} has {slices['id'][slices['id'].duplicated()].iloc[0]} twice"
        )
    for column in slices.columns.difference(["id", "subject", "size_group"]):
        if not is_numeric_dtype(slices[column]):
            raise UnreadableRunError(f"{path}: not every {column} is a number")
    return slices


def read_ids(row: Row) -> list[str]:
    """The slice ids of the row's maps.npz, in its order; UnreadableRunError, naming the file, where
    it is not whole."""
    return [str(i) for i in _load(row, ["id"])["id"]]


def has_stage(row: Row, stage: str) -> bool:
    """Whether the row's maps.npz holds a stage."""
    with zipfile.ZipFile(row.folder / "maps.npz") as archive:
        return f"{stage}.npy" in archive.namelist()


def read_maps(row: Row, ids: Iterable[str], stages: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Chosen stages of chosen slices: {stage: (len(ids), H, W)}, in the order of `ids`.

    Raises UnreadableRunError, naming the file, where it is truncated, or a stage or a slice is not
    in it.
    """
    stages = list(stages)
    arrays = _load(row, ["id", *stages])
    position = {str(slice_id): n for n, slice_id in enumerate(arrays["id"])}
    if absent := [i for i in ids if i not in position]:
        raise UnreadableRunError(f"{row.folder / 'maps.npz'} has no slice {', '.join(absent)}")
    chosen = [position[i] for i in ids]
    for stage in stages:
        if arrays[stage].ndim != 3 or len(arrays[stage]) != len(position):
            raise UnreadableRunError(
                f"{row.folder / 'maps.npz'}: {stage} has shape {arrays[stage].shape}, expected (N, "
                "H, W)"
            )
        if not np.isfinite(arrays[stage]).all():
            raise UnreadableRunError(
                f"{row.folder / 'maps.npz'}: {stage} holds values that are no numbers"
            )
    return {stage: arrays[stage][chosen] for stage in stages}


def _load(row: Row, names: list[str]) -> dict[str, NDArray[Any]]:
    path = row.folder / "maps.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except KeyError as error:
        raise UnreadableRunError(f"{path} is not whole ({error.args[0]})") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UnreadableRunError(f"{path} is not readable ({error})") from error
