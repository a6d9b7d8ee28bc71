"""fastMRI's axial T1-weighted brains with the labels of fastMRI+ (Zhao et al., 2022)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from autoddpm.data.files import files_below
from autoddpm.data.other_files import warn_of_not_read
from autoddpm.data.sample import Record
from autoddpm.data.table import read_table
from autoddpm.datasets.others import not_understood
from autoddpm.datasets.paths import existing
from autoddpm.datasets.published import published
from autoddpm.datasets.slice_folder import split_by_subject
from autoddpm.preparation.folder import prepared
from autoddpm.preparation.volume import Boxes, RawVolume, Source

PREFIX = "file_brain_AXT1_"
LIKE = f"{PREFIX}200_6002646.h5"
#: Other contrasts: file_brain_AXT2_..., file_brain_AXT1POST_...
NO_AXT1 = re.compile(r"file_brain_AX(?!T1_)[A-Z0-9]+_.*\.h5")
HEALTHY = ("Normal for age", "Normal variant")
COLUMNS = ("file", "slice", "study_level", "x", "y", "width", "height", "label")
FRACTIONS = {"train": 0.75, "val": 0.08, "test": 0.17}  # near the published 131 / 15 / 30


def fastmri_plus(root: str | Path) -> list[Record]:
    """Healthy middle slices in three splits, and slices with boxes, all of split test.

    root: a folder that `src.prepare` wrote.
    """
    root = existing(root, "paths.fastmri")
    if not (root / "preparation.json").is_file():
        raise FileNotFoundError(
            f"{root}: was not written by `python -m src.prepare +experiment=fastmri`; run that"
        )
    return prepared(root, "fastmri")


def fastmri_volumes(
    raw: str | Path | None,
    annotations: str | Path | None,
    healthy: str = "published",
    labels: Collection[str] | None = None,
) -> list[RawVolume]:
    """The AXT1 files of fastMRI: healthy ones, those with boxes, and the rest as left out.

    raw: a folder that holds them, however deep.
    annotations: fastMRI+'s brain.csv.
    healthy: "published", the authors' list of 176 (131 / 15 / 30); or "labels", the files whose
        labels are all of `HEALTHY`, split by a hash.
    labels: boxes of these labels only. None: of all but `HEALTHY`. Boxes without area (one of
        fastMRI+'s in AXT1) mark nothing.

    Files that the list or the annotations name and the folder lacks are marked as left out, and so
    are those whose names are not fastMRI's. Other contrasts are not listed.
    """
    raw, table = existing(raw, "paths.raw"), read_annotations(annotations)
    files, others = _files(raw)
    if healthy not in ("published", "labels"):
        raise ValueError(f"healthy={healthy}: must be published or labels")
    if labels and (unknown := sorted(set(labels) - set(table["label"]))):
        raise ValueError(f"labels: {annotations} has no {unknown[0]!r}")
    splits = published_splits() if healthy == "published" else derived_splits(table)
    said = table.groupby("file")["label"].agg(lambda column: ", ".join(sorted(set(column))))
    boxes = _boxes(table, labels)
    labelled = {name for name in table["file"] if name.startswith(PREFIX)}
    volumes = []
    for name in sorted(files.keys() | splits.keys() | labelled):
        volume = RawVolume(
            name.removeprefix(PREFIX),
            name,
            splits.get(name, "test"),
            Source(files.get(name, raw / f"{name}.h5")),
            about={"labels": said.get(name, "")},
        )
        if name not in files:
            listed = healthy == "published" and name in splits
            who = "on the published list" if listed else "labelled"
            volume = replace(volume, excluded=f"{who}, not in this folder")
        elif name not in splits and boxes.get(name):
            volume = replace(volume, boxes=boxes[name], slices=sorted(boxes[name]))
        elif name not in splits:
            is_said = f"neither healthy nor with a box: {said.get(name)}"
            volume = replace(
                volume, excluded=is_said if name in said else "not labelled by fastMRI+"
            )
        volumes.append(volume)
    return volumes + not_understood(others, raw, LIKE)


def _files(raw: Path) -> tuple[dict[str, Path], list[Source]]:
    """The AXT1 files of a folder by stem, and files of unknown names."""
    found = files_below(raw)
    warn_of_not_read(raw, [path for path in found if path.suffix.lower() != ".h5"])
    every = [path for path in found if path.suffix.lower() == ".h5"]
    paths = [path for path in every if path.name.startswith(PREFIX) and path.suffix == ".h5"]
    others = [path for path in every if path not in paths and not NO_AXT1.fullmatch(path.name)]
    files = {path.stem: path for path in paths}
    if twice := [path for path in paths if files[path.stem] != path]:
        raise ValueError(f"{twice[0]} and {files[twice[0].stem]} have the same name; leave one out")
    if not files:
        raise FileNotFoundError(f"{raw}: holds no {PREFIX}*.h5; correct paths.raw")
    return files, list(map(Source, others))


def _boxes(table: pd.DataFrame, labels: Collection[str] | None) -> dict[str, Boxes]:
    """The boxes of each file."""
    local = table[table["study_level"] != "Yes"]
    is_chosen = ~local["label"].isin(HEALTHY) if labels is None else local["label"].isin([*labels])
    boxes: dict[str, dict[int, list[tuple[int, int, int, int]]]] = {}
    columns = ["file", "slice", "x", "y", "width", "height"]
    for file, *numbers in local.loc[is_chosen, columns].to_numpy().tolist():
        z, x, y, width, height = map(int, numbers)
        if width and height:
            boxes.setdefault(file, {}).setdefault(z, []).append((x, y, width, height))
    return dict(boxes)


def read_annotations(path: str | Path | None) -> pd.DataFrame:
    """fastMRI+'s brain.csv, every column as text; ValueError if it is not that table."""
    if path is None or not Path(path).is_file():
        what = f"{path}: there is no such file" if path else "paths.annotations is not given"
        raise FileNotFoundError(f"{what}; give paths.annotations=brain.csv of fastMRI+")
    table = read_table(path, COLUMNS, "give paths.annotations=brain.csv of fastMRI+")
    local = table[table["study_level"] != "Yes"]
    for column in ("slice", "x", "y", "width", "height"):
        wrong = local[~local[column].str.fullmatch(r"\d+")]
        if len(wrong):
            line, value = wrong.index[0] + 2, wrong[column].iloc[0]
            raise ValueError(
                f"{path}: line {line} has {column}={value!r}, no integer from 0; correct it"
            )
    return table


def published_splits() -> dict[str, str]:
    """The authors' 176 healthy files and their split: 131 train, 15 val, 30 test."""
    table = published("fastmri_split.csv")
    return dict(zip(table["file"], table["split"], strict=True))


def derived_splits(table: pd.DataFrame) -> Mapping[str, str]:
    """The AXT1 files whose every label is one of `HEALTHY`, split by a hash of their names."""
    axial = table[table["file"].str.startswith(PREFIX)]
    is_healthy = axial.groupby("file")["label"].agg(lambda column: set(column) <= set(HEALTHY))
    names = pd.Series(sorted(is_healthy[is_healthy].index))
    return dict(zip(names, split_by_subject(names, FRACTIONS, 0), strict=True))
