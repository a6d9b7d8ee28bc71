"""Slices in a folder or in a csv list, with or without lesion masks."""

import hashlib
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from autoddpm.data.files import entries
from autoddpm.data.image_file import SUFFIXES, stem
from autoddpm.data.integrity import first_few
from autoddpm.data.names import image_of_mask
from autoddpm.data.other_files import below, what_they_are
from autoddpm.data.sample import SPLITS, Record
from autoddpm.data.table import read_lines, read_table
from autoddpm.datasets.subjects import subjects_of
from autoddpm.home import at_home

log = logging.getLogger(__name__)

MODALITY = "T1"
#: Files that may lie beside slices.
NOT_SLICES = (".csv", ".tsv", ".txt", ".md", ".json", ".yaml", ".db")


def slice_folder(
    images: str | Path,
    lesions: str | Path | None = None,
    *,
    index: str | Path | None = None,
    split: str | Mapping[str, float] = "test",
    name: str = "slice_folder",
    seed: int = 0,
    subject: str | None = None,
) -> list[Record]:
    """List the slices of a folder of PNG, NPY or NIfTI files (.png, .npy, .nii, .nii.gz).

    images: the folder, or a csv with one path per line, relative to the csv's own folder, with or
        without a header. A file holds one slice.
    lesions: a folder with masks of the same names. Without it the mask of `NAME.png` is
        `NAME_mask.png` beside it. `_seg`, `_label`, `_lesion`, `_gt` and the like are masks too, in
        any case, also in that folder. An image without a mask is healthy. A mask without an image
        is refused.
    index: a csv with the column `file` and, as there are, `subject`, `split` and `kind`. Without a
        subject, names say it (`subjects_of`). The kind is healthy or lesion, and a lesion slice
        must have a mask. Only images listed there are used.
    split: used if `index` has no column of that name. One split for all, or fractions such as
        {train: 0.8, val: 0.1, test: 0.1}, which are drawn by subject.
    name: the first part of every slice's id, `name/path-without-suffix`.
    seed: of the draw of splits: the order of a hash of (seed, subject).
    subject: a regular expression, whose first group in a file's name is the subject.

    Returns the records, sorted by id. Raises FileNotFoundError or ValueError in one message for bad
    files or lists.
    """
    images = Path(images)
    try:
        files, masks = _files_and_masks(images, None if lesions is None else Path(lesions))
    except FileNotFoundError as error:
        of_images, of_lesions = _settings(name)
        said = str(error).replace("{images}", of_images).replace("{lesions}", of_lesions)
        raise FileNotFoundError(said) from error
    root = images.parent if images.suffix == ".csv" else images
    if index is None:
        table = pd.DataFrame({"key": list(files)})
    else:
        table = _read_index(Path(index), root, files, masks)
    if "subject" not in table:
        table["subject"] = subjects_of(list(table["key"]), name, subject)
    if "kind" in table:
        _check_masks(table, files, masks)
    if "split" not in table:
        table["split"] = split_by_subject(table["subject"], split, seed, name)
    if unknown := sorted(set(table["split"]) - set(SPLITS)):
        raise ValueError(
            f"{index or images}: unknown split {unknown[0]!r}; a split is one of "
            f"{', '.join(SPLITS)}."
        )
    rows = zip(table["key"], table["subject"], table["split"], strict=True)
    records = [
        Record(f"{name}/{key}", subject, part, {MODALITY: files[key]}, masks.get(key))
        for key, subject, part in rows
    ]
    return sorted(records, key=lambda record: record.id)


def _files_and_masks(images: Path, lesions: Path | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """The images by key, and the masks by the key of their image."""
    is_list = images.suffix == ".csv"
    every = _listed(images) if is_list else _in_folder(images, "images", lesions)
    files = {key: path for key, path in every.items() if image_of_mask(key) is None}
    masks = _by_image({key: path for key, path in every.items() if key not in files})
    if lesions is not None:
        if masks:
            raise ValueError(
                f"{next(iter(masks.values()))}: a mask among the images, though the masks' folder "
                f"is {lesions}; move it there, or give no folder of masks (paths.lesions=null)."
            )
        masks = _in_lesions(lesions, files, images)
    elif is_list:
        masks = _beside(files) | masks
    if orphans := sorted(str(masks[key]) for key in masks.keys() - files.keys()):
        raise ValueError(
            _several("masks without an image", orphans, "add the image or remove the mask")
        )
    if not files:
        raise FileNotFoundError(
            f"{images}: lists no image of {', '.join(SUFFIXES)}; point {{images}} at the slices."
        )
    return files, masks


def _in_lesions(lesions: Path, files: Mapping[str, Path], images: Path) -> dict[str, Path]:
    """The masks in a folder of their own, by the key of the image of the same name."""
    key_of = {stem(path): key for key, path in files.items()}
    if len(key_of) < len(files):
        raise ValueError(
            f"{images}: two images have the same name, so masks cannot be told by name; rename one."
        )
    return {key_of.get(n, n): path for n, path in _by_image(_in_folder(lesions, "lesions")).items()}


def _by_image(masks: Mapping[str, Path]) -> dict[str, Path]:
    """Masks by the key of their image."""
    by_image: dict[str, Path] = {}
    for key, path in masks.items():
        image = image_of_mask(key) or key
        if image in by_image:
            raise ValueError(
                f"{by_image[image]} and {path} are two masks of one image; leave one of them."
            )
        by_image[image] = path
    return by_image


def _check_masks(table: pd.DataFrame, files: Mapping[str, Path], masks: Mapping[str, Path]) -> None:
    """Refuse slices that are said to have a lesion, and have no mask."""
    ill = table.loc[table["kind"] == "lesion", "key"]
    if absent := [str(files[key]) for key in ill if key not in masks]:
        raise ValueError(
            _several("lesion slices without a mask", absent, "add the mask or correct their `kind`")
        )


def _in_folder(folder: Path, what: str, known: Path | None = None) -> dict[str, Path]:
    """The slice files of a folder by stem.

    known: a folder in it that is read elsewhere.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder; correct {{{what}}}.")
    found = entries(folder)
    every = [path for path in found if path.is_file()]
    if folders := [path.name for path in found if path.is_dir() and path != known]:
        log.warning(
            "%s: %d folders in it are not searched: %s", folder, len(folders), first_few(folders)
        )
    files = [path for path in every if path.name.lower().endswith(SUFFIXES)]
    if not files:
        raise FileNotFoundError(
            f"{folder}: holds no file of {', '.join(SUFFIXES)}; "
            f"{below(folder, SUFFIXES) or f'correct {{{what}}}'}."
        )
    if others := [
        path for path in every if path not in files and path.suffix.lower() not in NOT_SLICES
    ]:
        remedy = what_they_are(others) or f"save {', '.join(SUFFIXES)}, or move them away"
        raise ValueError(_several("files that are no slice", list(map(str, others)), remedy))
    return _by_key({path: stem(path) for path in files})


def _listed(table: Path) -> dict[str, Path]:
    """The paths that a csv lists, by their path without suffix below the csv's folder."""
    lines = [cells[0] for _, cells in read_lines(table, "give it one path per line")]
    if lines and not lines[0].lower().endswith(SUFFIXES):
        lines = lines[1:]  # the header
    if strange := [line for line in lines if not line.lower().endswith(SUFFIXES)]:
        raise ValueError(
            _several(
                f"{table}: lines that name no slice", strange, f"list {', '.join(SUFFIXES)} files"
            )
        )
    paths = [table.parent / at_home(line) for line in lines]
    if absent := [str(path) for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            _several(
                f"{table}: lists files that are absent", absent, "add them or correct the list"
            )
        )
    if twice := sorted({line for line in lines if lines.count(line) > 1}):
        raise ValueError(_several(f"{table}: lists files twice", twice, "list each once"))
    return _by_key({path: _key(line) for path, line in zip(paths, lines, strict=True)})


def _key(file: str) -> str:
    """The id of a listed file within its source: its normal path without suffix and leading
    `../`."""
    path = Path(os.path.normpath(file))
    parents = [part for part in path.parent.parts if part not in ("..", path.anchor)]
    return Path(*parents, stem(path)).as_posix()


def _by_key(keys: dict[Path, str]) -> dict[str, Path]:
    by_key: dict[str, Path] = {}
    for path, key in keys.items():
        if key in by_key:
            raise ValueError(
                f"{path} and {by_key[key]} have the same id {key!r}; rename one of them."
            )
        by_key[key] = path
    return by_key


def _beside(files: Mapping[str, Path]) -> dict[str, Path]:
    """The masks that lie beside listed images, by the images' keys."""
    masks: dict[Path, dict[str, Path]] = {}
    for folder in {path.parent for path in files.values()}:
        slices = [path for path in entries(folder) if path.name.lower().endswith(SUFFIXES)]
        named = {stem(path): path for path in slices if image_of_mask(stem(path)) is not None}
        masks[folder] = _by_image(named)
    return {
        key: masks[path.parent][stem(path)]
        for key, path in files.items()
        if stem(path) in masks[path.parent]
    }


def _read_index(
    index: Path, root: Path, files: Mapping[str, Path], masks: Mapping[str, Path]
) -> pd.DataFrame:
    """The columns key, and subject, split, kind as there are; every row checked."""
    table = read_table(index, ["file"], "give it a header and one row per slice")
    table["key"] = [_key(file) for file in table["file"]]
    if listed := [file for file in table["file"] if image_of_mask(_key(file)) in masks]:
        raise ValueError(_several(f"{index}: lists masks as slices", listed, "list images alone"))
    if absent := [
        str(root / file)
        for file, key in zip(table["file"], table["key"], strict=True)
        if key not in files
    ]:
        raise FileNotFoundError(
            _several(
                f"{index}: lists files that are absent", absent, "add them or correct the list"
            )
        )
    if twice := sorted(set(table.loc[table["key"].duplicated(), "file"])):
        raise ValueError(_several(f"{index}: lists files twice", twice, "list each once"))
    for column in {"subject", "split", "kind"} & set(table.columns):
        if empty := list(table.loc[table[column] == "", "file"]):
            raise ValueError(_several(f"{index}: rows without a {column}", empty, "fill them in"))
    if "kind" in table and (unknown := sorted(set(table["kind"]) - {"healthy", "lesion"})):
        raise ValueError(f"{index}: unknown kind {unknown[0]!r}; a kind is healthy or lesion.")
    if unlisted := len(files) - len(table):
        log.warning("%s: %d images of %s are not listed there and not used", index, unlisted, root)
    return table


def split_by_subject(
    subjects: pd.Series, split: str | Mapping[str, float], seed: int, name: str = "NAME"
) -> list[str]:
    """A split for each subject: one for all, or by fractions, drawn from the order of a hash of
    (seed, subject)."""
    if isinstance(split, str):
        return [split] * len(subjects)
    if unknown := sorted(set(split) - set(SPLITS)):
        raise ValueError(
            f"unknown split {unknown[0]!r}; fractions are given for {', '.join(SPLITS)}."
        )
    if not math.isclose(sum(split.values()), 1, abs_tol=1e-6) or min(split.values()) < 0:
        raise ValueError(
            f"the fractions {dict(split)} do not add up to 1; correct data.sources.{name}.split"
        )
    ranked = sorted(
        set(subjects), key=lambda subject: hashlib.sha256(f"{seed}/{subject}".encode()).digest()
    )
    chosen: dict[str, str] = {}
    upper = 0.0
    for part, fraction in split.items():
        first, upper = round(upper * len(ranked)), upper + fraction
        chosen |= dict.fromkeys(ranked[first : round(upper * len(ranked))], part)
    return [chosen[subject] for subject in subjects]


def _settings(name: str) -> tuple[str, str]:
    """The settings of a source's images and masks, as a user gives them."""
    if name in ("healthy", "test", "ixi"):
        return f"paths.{name}", "paths.lesions"
    return f"data.sources.{name}.images", f"data.sources.{name}.lesions"


def _several(what: str, names: list[str], remedy: str) -> str:
    return f"{what}: {first_few(names)}; {remedy}."
