"""The checks between slices: refusals before an experiment begins, and findings for a person.

A check raises one clear message. A finding (a leak between splits, twins, a doubtful preparation)
is something that no single file shows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from autoddpm.data.sample import HEALTHY_PIXELS, Record

#: Correlation of two slices at 64 x 64 above which they are taken for the same head. Among the 581
#: subjects of IXI the nearest two have .983; a slice and its copy after a gamma of 1.2, noise of
#: .03 or a blur of 1 pixel have .997.
TWINS = 0.99
COMPARED = 64
#: Brain Dice with the template below which a registration is to be looked at.
ALIGNED = 0.90
#: Standard deviation of an image below which it has hardly any contrast.
CONTRAST = 0.05


@dataclass(frozen=True)
class Finding:
    """Something doubtful.

    text: the finding in words.
    is_leak: it would make results too good.
    """

    text: str
    is_leak: bool = False


def check_records(records: Mapping[str, Sequence[Record]]) -> None:
    """Raise ValueError unless each source has slices, ids are unique, and a source has each subject
    in one split."""
    seen: dict[str, Record] = {}
    for source, slices in records.items():
        if not slices:
            raise ValueError(f"the source {source} lists no slice; correct its folder or its list.")
        splits: dict[str, Record] = {}
        for record in slices:
            if (other := seen.setdefault(record.id, record)) is not record:
                raise ValueError(
                    f"{record.files} and {other.files} have the same id {record.id!r}; "
                    f"rename one, or give one of two sources another `name`."
                )
            if (other := splits.setdefault(record.subject, record)).split != record.split:
                raise ValueError(
                    f"subject {record.subject} of {source} is in two splits: {other.split} "
                    f"({other.files}) and {record.split} ({record.files}); put all its slices in "
                    "one."
                )


def check_separate(used: Mapping[str, pd.DataFrame]) -> None:
    """Raise ValueError if a subject is used for two roles.

    used: the index of each role's slices, columns as a store's.
    Subjects are compared by name over all sources: who has another name in another source cannot be
    recognised.
    """
    first: dict[str, tuple[str, str]] = {}
    for role, index in used.items():
        for subject, image in zip(index["subject"], index["image"], strict=True):
            other, at = first.setdefault(subject, (role, image))
            if other != role:
                raise ValueError(
                    f"subject {subject} is used to {other} ({at}) and to {role} ({image}); leave "
                    "it out of one, or, if these are two people, name them differently in the "
                    "column `subject` of their csv."
                )


def check_healthy(role: str, index: pd.DataFrame) -> None:
    """Raise ValueError if a slice has more than one lesion pixel, on disk or in its store."""
    pixels = index[["lesion_pixels", "lesion_pixels_full"]].max(axis=1)
    ill = list(index.loc[pixels > HEALTHY_PIXELS, "image"])
    if ill:
        raise ValueError(
            f"lesion slices among those to {role} on, which must be healthy: {first_few(ill)}; "
            f"move them to the split test or leave them out."
        )


def first_few(names: Iterable[str], shown: int = 5) -> str:
    """The first names and how many more there are."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def twins(images: NDArray[np.float32], index: pd.DataFrame, between: str) -> list[Finding]:
    """Pairs of slices of different subjects that are identical or nearly so.

    images: (N, C, *space); below 64 pixels all heads look alike, and only identical ones are found.
        Volumes are compared by their middle slice.
    index: N rows with id and subject.
    between: the column of `index` that says what must not mix: a pair is a leak if it differs.
    """
    if len(images) < 2:
        return []
    x = _compared(images)
    group, subject, ids = (index[column].to_numpy() for column in (between, "subject", "id"))
    found = []
    for start in range(0, len(x), 1024):
        rows, columns = np.nonzero((x[start : start + 1024] @ x.T > TWINS).numpy())
        for i, j in zip(rows + start, columns, strict=True):
            if i >= j or subject[i] == subject[j]:
                continue
            same = bool(np.array_equal(images[i], images[j]))
            if not same and images.shape[-1] < COMPARED:
                continue
            how = "are identical" if same else f"are nearly identical (correlation above {TWINS})"
            pair = f"{ids[i]} ({group[i]}) and {ids[j]} ({group[j]})"
            text = f"{pair} {how}: the same person under two names?"
            is_leak = bool(group[i] != group[j])
            found.append(Finding(text, is_leak))
    return found


def inspect(
    images: NDArray[np.float32], index: pd.DataFrame, prepared: pd.DataFrame | None = None
) -> list[Finding]:
    """Everything that is doubtful in one data set.

    images: of its store.
    index: of its store.
    prepared: the index of the folder that `src.prepare` wrote, if it did.
    """
    return [
        *_in_two_splits(index),
        *twins(images, index, "split"),
        *_lesions_to_train_on(index),
        *_without_contrast(images, index),
        *_lost_lesions(index),
        *(() if prepared is None else _doubtful_preparations(prepared)),
    ]


def leaks_between(used: Mapping[str, tuple[NDArray[np.float32], pd.DataFrame]]) -> list[Finding]:
    """Twins of different subjects in two roles.

    used: images and index of each role ("train", "calibrate", "test").
    """
    parts = {role: part for role, part in used.items() if len(part[1])}
    if len(parts) < 2:
        return []
    images = np.concatenate([images for images, _ in parts.values()])
    tables = [table.assign(role=role) for role, (_, table) in parts.items()]
    index = pd.concat(tables, ignore_index=True)
    return [finding for finding in twins(images, index, "role") if finding.is_leak]


def _compared(images: NDArray[np.float32]) -> Tensor:
    """(N, C * 64 * 64): each image centred and of unit length, so that products correlate."""
    planes = images if images.ndim == 4 else images[:, :, images.shape[2] // 2]
    x = torch.tensor(planes)
    x = functional.interpolate(x, (COMPARED, COMPARED), mode="bilinear", antialias=True).flatten(1)
    return functional.normalize(x - x.mean(1, keepdim=True), dim=1)


def _in_two_splits(index: pd.DataFrame) -> Iterator[Finding]:
    for subject, slices in index.groupby("subject"):
        if slices["split"].nunique() > 1:
            splits = ", ".join(sorted(set(slices["split"])))
            yield Finding(f"subject {subject} is in {splits}", is_leak=True)


def _lesions_to_train_on(index: pd.DataFrame) -> Iterator[Finding]:
    ill = index[(index["split"] != "test") & (index["lesion_pixels"] > HEALTHY_PIXELS)]
    for i, split in zip(ill["id"], ill["split"], strict=True):
        yield Finding(f"{i} has a lesion and is in {split}", is_leak=True)


def _without_contrast(images: NDArray[np.float32], index: pd.DataFrame) -> Iterator[Finding]:
    contrast = np.asarray(images).std(axis=tuple(range(1, images.ndim)))
    for i, c in zip(index["id"], contrast, strict=True):
        if c < CONTRAST:
            yield Finding(f"{i} has hardly any contrast (standard deviation {c:.3f})")


def _lost_lesions(index: pd.DataFrame) -> Iterator[Finding]:
    lost = index[index["lesion_lost"]]
    for i, n in zip(lost["id"], lost["lesion_pixels_full"], strict=True):
        yield Finding(f"{i}: the resize lost its lesion of {n} pixels")


def _doubtful_preparations(prepared: pd.DataFrame) -> Iterator[Finding]:
    used = prepared[prepared["excluded"] == ""]
    dice = pd.to_numeric(used.get("brain_dice", pd.Series(dtype=float)), errors="coerce")
    for i, d in zip(used["id"], dice, strict=False):
        if d < ALIGNED:
            yield Finding(f"{i}: its brain covers the template's with a Dice of {d:.2f} only")
    for reason in prepared["excluded"]:
        if reason.startswith(("error: ", "implausible brain: ")):
            yield Finding(reason)
