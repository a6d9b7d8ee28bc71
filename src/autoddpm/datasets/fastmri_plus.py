"""fastMRI's axial T1-weighted brains with the labels of fastMRI+ (Zhao et al., 2022)."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from autoddpm.data.sample import SliceRecord
from autoddpm.datasets.ixi import existing
from autoddpm.datasets.published import published
from autoddpm.datasets.slice_folder import split_by_subject
from autoddpm.preparation.folder import prepared
from autoddpm.preparation.volume import RawVolume, Source

HEALTHY = ("Normal for age", "Normal variant")
COLUMNS = ("file", "slice", "study_level", "x", "y", "width", "height", "label")
FRACTIONS = {"train": 0.75, "val": 0.08, "test": 0.17}  # near the published 131 / 15 / 30


def fastmri_plus(root: str | Path) -> list[SliceRecord]:
    """A folder that `src.prepare` wrote: healthy middle slices in three splits, and slices with
    boxes, all test."""
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
    """The AXT1 files in a folder (however deep): healthy ones, those with boxes, and the rest as
    left out.

    annotations: fastMRI+'s brain.csv.  healthy: "published", the authors' list of 176 (131 / 15 /
    30); or "labels", the files whose labels are all of `HEALTHY`, split by a hash.  What either
    list names and the folder has not is
    marked as left out.  labels: boxes of these labels only; None: of all but `HEALTHY`.  Boxes
    without area (one of fastMRI+'s in AXT1) mark nothing.
    """
    raw, table = existing(raw, "paths.raw"), read_annotations(annotations)
    paths = sorted(raw.rglob("file_brain_AXT1_*.h5"))
    files = {path.stem: path for path in paths}
    if twice := [path for path in paths if files[path.stem] != path]:
        raise ValueError(f"{twice[0]} and {files[twice[0].stem]} have the same name; leave one out")
    if not files:
        raise FileNotFoundError(f"{raw}: holds no file_brain_AXT1_*.h5; correct paths.raw")
    if healthy not in ("published", "labels"):
        raise ValueError(f"healthy={healthy}: must be published or labels")
    if labels and (unknown := sorted(set(labels) - set(table["label"]))):
        raise ValueError(f"labels: {annotations} has no {unknown[0]!r}")
    splits = published_splits() if healthy == "published" else derived_splits(table)
    said = (
        table.groupby("file")["label"].agg(lambda column: ", ".join(sorted(set(column)))).to_dict()
    )
    local = table[table["study_level"] != "Yes"]
    chosen = local[
        ~local["label"].isin(HEALTHY) if labels is None else local["label"].isin(list(labels))
    ]
    boxes: dict[str, dict[int, list[tuple[int, int, int, int]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for file, *numbers in (
        chosen[["file", "slice", "x", "y", "width", "height"]].to_numpy().tolist()
    ):
        z, x, y, width, height = map(int, numbers)
        if width and height:
            boxes[file][z].append((x, y, width, height))

    volumes = []
    labelled = {name for name in table["file"] if name.startswith("file_brain_AXT1_")}
    for name in sorted(files.keys() | splits.keys() | labelled):
        source, about = Source(files.get(name, raw / f"{name}.h5")), {"labels": said.get(name, "")}
        short = name.removeprefix("file_brain_AXT1_")
        if name not in files:
            listed = healthy == "published" and name in splits
            excluded = f"{'on the published list' if listed else 'labelled'}, not in this folder"
            volumes.append(
                RawVolume(
                    short, name, splits.get(name, "test"), source, excluded=excluded, about=about
                )
            )
        elif name in splits:
            volumes.append(RawVolume(short, name, splits[name], source, about=about))
        elif boxes.get(name):
            slices = sorted(boxes[name])
            volumes.append(
                RawVolume(short, name, "test", source, None, boxes[name], slices, about=about)
            )
        else:
            excluded = (
                f"neither healthy nor with a box: {said[name]}"
                if name in said
                else "not labelled by fastMRI+"
            )
            volumes.append(RawVolume(short, name, "test", source, excluded=excluded, about=about))
    return volumes


def read_annotations(path: str | Path | None) -> pd.DataFrame:
    """fastMRI+'s brain.csv, every column as text; ValueError where it is not that table."""
    if path is None or not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; give paths.annotations=brain.csv of fastMRI+"
        )
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # as pandas' own are
        raise ValueError(
            f"{path}: is no csv table ({error}); give paths.annotations=brain.csv of fastMRI+"
        ) from error
    if absent := [column for column in COLUMNS if column not in table]:
        raise ValueError(f"{path}: has no column {absent[0]}; it is not fastMRI+'s brain.csv")
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
    axial = table[table["file"].str.startswith("file_brain_AXT1_")]
    is_healthy = axial.groupby("file")["label"].agg(lambda column: set(column) <= set(HEALTHY))
    names = pd.Series(sorted(is_healthy[is_healthy].index))
    return dict(zip(names, split_by_subject(names, FRACTIONS, 0), strict=True))
