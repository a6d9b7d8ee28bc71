"""One finished evaluation, a row of a table: written to and read from its run folder."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype

from autoddpm.atomic import write_json, write_text
from autoddpm.runs.folder import (
    CONFIG,
    MAPS,
    METRICS,
    SLICES,
    UnreadableRunError,
    is_finished,
    read_failure,
)
from autoddpm.runs.former_names import class_as_now, row_as_now
from autoddpm.runs.maps import MapReader, write_npz

NOT_RECORDED = (
    "not in metrics.json, which another version wrote: delete the run folder and evaluate again"
)
#: Sections of the configuration that say where a run lies, or what is measured, not what was run.
NOT_SETTINGS = (
    *("paths", "hydra", "checkpoint", "name", "experiment", "report", "logger"),
    *("metrics", "lpips"),
)
#: Columns of slices.csv. `ssim` and `mse` are empty in lesion slices, the two Dice in healthy ones,
#: `site` if nobody says it.
COLUMNS = (
    *("id", "subject", "site", "lesion_pixels", "size_group", "ssim", "mse"),
    *("dice@healthy_fpr5", "max_dice", "calls", "seconds"),
)
TEXTS = ["id", "subject", "size_group", "site"]


@dataclass(frozen=True)
class Row:
    """The record of one finished run folder.

    label: the method's name, as in the paper's tables, without what sets it apart from a twin.
    detector: the detector's class name (`name`) and constructor settings.
    metrics: fractions in [0, 1], calls and seconds. None if undefined.
    undefined: why a metric is None.
    thresholds: of the mask, and calibrated ones of the map.
    provenance: of data, weights, code and machine.
    settings: the composed configuration, flat ("sampler.stride": 10), without paths.
    variant: the settings that set this row apart from others of the same label
        ("sampler.stride=10"); else empty.
    members: the rows of single seeds whose means this one holds; empty if it is of one seed.
    spread: standard deviation of each metric over the members.
    reader: of maps.npz; rows that are read together share it.
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
    reader: MapReader = field(default_factory=MapReader, repr=False, compare=False)

    @property
    def title(self) -> str:
        """The label, with what sets this row apart in brackets: "AutoDDPM [sampler.stride=10]"."""
        return f"{self.label} [{self.variant}]" if self.variant else self.label

    @property
    def sees_lesion(self) -> bool:
        """Whether it was given the true lesion: an upper bound, and no method."""
        return bool(self.provenance.get("sees_lesion", False))

    def undefined_because(self, key: str) -> str:
        """Why a metric has no value, in words."""
        return self.undefined.get(key, NOT_RECORDED)

    @property
    def runs(self) -> tuple["Row", ...]:
        """The rows of single run folders: the members, or this row itself."""
        return self.members or (self,)


def write_row(
    folder: Path,
    record: Mapping[str, Any],
    config: str,
    arrays: Mapping[str, np.ndarray],
    slices: Sequence[Mapping[str, Any]],
) -> None:
    """Write a finished row: config.yaml, maps.npz, slices.csv and, last, metrics.json.

    record: label, detector, metrics, undefined, thresholds and provenance, as in `Row`.
    config: the composed configuration, YAML.
    arrays: by name: id, calls and seconds (N,), and stages as `runs.maps` stores them.
    slices: one mapping per slice, of COLUMNS. What is undefined is left out.
    """
    write_text(folder / CONFIG, config)
    write_npz(folder / MAPS, arrays)
    text = io.StringIO()
    lines = csv.DictWriter(text, COLUMNS)
    lines.writeheader()
    lines.writerows(slices)
    write_text(folder / SLICES, text.getvalue())
    write_json(folder / METRICS, record)


def read_rows(folder: Path) -> tuple[list[Row], list[str]]:
    """Every finished row under `folder`, in the order of the folders' names.

    Also a remark for each run folder that is left out, with the reason. Raises FileNotFoundError if
    there is no finished row, with the command that makes one.
    """
    rows, remarks, reader = [], [], MapReader()
    found = folder.iterdir() if folder.is_dir() else ()
    for run in sorted(path for path in found if path.is_dir() and path.name[0] != "."):
        if why := read_failure(run):
            remarks.append(
                f"Failed: {run}: {why}. Mend that and run the same evaluate command again."
            )
            continue
        if not is_finished(run):
            remarks.append(
                f"Unfinished, left out: {run} has no {METRICS}. Run the same evaluate command "
                "again."
            )
            continue
        try:
            rows.append(read_row(run, reader))
        except UnreadableRunError as error:
            remarks.append(f"Unreadable, left out: {error}. Delete the folder and evaluate again.")
    if not rows:
        raise FileNotFoundError(_none_in(folder, remarks))
    return rows, remarks


def _none_in(folder: Path, remarks: Sequence[str]) -> str:
    nothing = "It holds no run folder." if folder.is_dir() else "The folder does not exist."
    name = folder.parent.name
    return (
        f"no finished evaluation row in {folder}. {' '.join(remarks) or nothing} Make one first: "
        f"python -m src.evaluate +experiment={name} checkpoint=CHECKPOINT detector=autoddpm "
        f"(name={name}, if no experiment has that name)"
    )


def read_row(folder: Path, reader: MapReader | None = None) -> Row:
    """Read metrics.json and config.yaml of a run folder, with the present names of its detector.

    reader: of the maps; by default one of its own.

    Raises UnreadableRunError, naming the file, if one is damaged.
    """
    content = read_record(folder)
    metrics: dict[str, float | None] = {}
    undefined = {key: str(reason) for key, reason in content["undefined"].items()}
    for key, value in content["metrics"].items():
        metrics[key] = float(value) if value is not None and math.isfinite(value) else None
        if value is not None and not math.isfinite(value):
            undefined[key] = f"{METRICS} holds {value}"
    config = read_config(folder)
    if isinstance(own := config.get("detector"), Mapping):  # its parts are groups of their own
        config |= {"detector": {k: v for k, v in own.items() if not isinstance(v, Mapping)}}
    flat = _flat({"detector": content["detector"]}) | _flat(config)
    if "detector" in flat:
        flat["detector"] = class_as_now(flat["detector"])
    return Row(
        folder,
        str(content["label"]),
        content["detector"],
        metrics,
        undefined,
        content["thresholds"],
        content["provenance"],
        {key: value for key, value in flat.items() if key.split(".")[0] not in NOT_SETTINGS},
        reader=reader or MapReader(),
    )


def read_record(folder: Path) -> dict[str, Any]:
    """The content of metrics.json, with the present names of its detector.

    Raises UnreadableRunError, naming the file, if it is damaged or lacks a part.
    """
    path = folder / METRICS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableRunError(f"{path} is not readable as JSON ({error})") from error
    parts, further = ("detector", "metrics", "provenance"), ("undefined", "thresholds")
    content = {part: {} for part in further} | content if isinstance(content, dict) else {}
    is_whole = all(isinstance(content.get(part), dict) for part in (*parts, *further))
    if not content.get("label") or not is_whole:
        raise UnreadableRunError(f"{path} needs a label and the objects {', '.join(parts)}")
    for key, value in (content["metrics"] | content["thresholds"]).items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UnreadableRunError(f"{path}: {key} is {value!r}, not a number or null")
    return row_as_now(content)


def read_config(folder: Path) -> dict[str, Any]:
    """The composed configuration of a run; empty if it was not written.

    Raises UnreadableRunError, naming the file, if it is damaged.
    """
    path = folder / CONFIG
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnreadableRunError(f"{path} is not readable as YAML ({error})") from error
    return config if isinstance(config, dict) else {}


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
    """The row's slices.csv, one line per slice.

    Raises UnreadableRunError, naming the file, if it is missing or damaged.
    """
    path = row.folder / SLICES
    try:
        slices = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str))
    except (OSError, ValueError) as error:
        raise UnreadableRunError(f"{path} is not readable ({error})") from error
    if missing := {"id", "size_group", "lesion_pixels"} - set(slices.columns):
        raise UnreadableRunError(f"{path} has no column {', '.join(sorted(missing))}")
    if not slices["id"].is_unique:
        twice = slices["id"][slices["id"].duplicated()].iloc[0]
        raise UnreadableRunError(f"{path} has {twice} twice")
    for column in slices.columns.difference(TEXTS):
        if not is_numeric_dtype(slices[column]):
            raise UnreadableRunError(f"{path}: not every {column} is a number")
    return slices


def read_ids(row: Row) -> list[str]:
    """The slice ids of the row's maps.npz, in its order; UnreadableRunError if it is damaged."""
    return [str(slice_id) for slice_id in row.reader.read(row.folder / MAPS, "id")]


def has_stage(row: Row, stage: str) -> bool:
    """Whether the row's maps.npz holds a stage; UnreadableRunError if it is damaged."""
    return stage in row.reader.contents(row.folder / MAPS)


def read_maps(row: Row, ids: Iterable[str], stages: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Chosen stages of chosen slices: {stage: (len(ids), *space)}, in the order of `ids`.

    A stage of several channels is (len(ids), C, *space).

    Raises UnreadableRunError, naming the file, if it is damaged, or a stage or slice is not in it.
    """
    path, ids = row.folder / MAPS, list(ids)
    position = {slice_id: n for n, slice_id in enumerate(read_ids(row))}
    if absent := [slice_id for slice_id in ids if slice_id not in position]:
        raise UnreadableRunError(f"{path} has no slice {', '.join(absent)}")
    chosen = [position[slice_id] for slice_id in ids]
    return {stage: row.reader.read(path, stage)[chosen] for stage in stages}
