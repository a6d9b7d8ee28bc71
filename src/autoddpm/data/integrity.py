"""Findings about slices that no single file shows: leaks between splits, twins, and doubtful
preparations."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn import functional

from autoddpm.data.sample import HEALTHY_PIXELS

#: Correlation of two slices at 64 x 64 above which they are taken for the same head. Among the 581
# subjects of IXI the : nearest two have .983; a slice and its copy after a gamma of 1.2, noise of
# .03 or a blur of 1 pixel have .997.
TWINS = 0.99
COMPARED = 64
#: Brain Dice with the template below which a registration is to be looked at.
ALIGNED = 0.90


@dataclass(frozen=True)
class Finding:
    """kind: what was looked for.  ids: the slices.  text: in words.  is_leak: it would make results
    too good."""

    kind: str
    ids: tuple[str, ...]
    text: str
    is_leak: bool = False


def twins(images: NDArray[np.float32], index: pd.DataFrame, between: str) -> list[Finding]:
    """Pairs of slices of different subjects that are identical or nearly so, a leak where `between`
    differs.

    images: (N, size, size); below 64 pixels all heads look alike, and only identical slices are
        found.
    index: N rows with id and subject; between: its column that says what must not mix.
    """
    if len(images) < 2:
        return []
    x = torch.tensor(images)[:, None]
    x = functional.interpolate(x, (COMPARED, COMPARED), mode="bilinear", antialias=True).flatten(1)
    x = functional.normalize(x - x.mean(1, keepdim=True), dim=1)
    group, subject, ids = (index[column].to_numpy() for column in (between, "subject", "id"))
    found = []
    for start in range(0, len(x), 1024):
        rows, columns = np.nonzero((x[start : start + 1024] @ x.T > TWINS).numpy())
        for i, j in zip(rows + start, columns, strict=True):
            if i < j and subject[i] != subject[j]:
                same = bool(np.array_equal(images[i], images[j]))
                if not same and images.shape[-1] < COMPARED:
                    continue
                how = (
                    "are identical" if same else f"are nearly identical (correlation above {TWINS})"
                )
                pair = f"{ids[i]} ({group[i]}) and {ids[j]} ({group[j]})"
                text = f"{pair} {how}: the same person under two names?"
                found.append(
                    Finding("twins", (ids[i], ids[j]), text, is_leak=bool(group[i] != group[j]))
                )
    return found


def inspect(
    images: NDArray[np.float32], index: pd.DataFrame, prepared: pd.DataFrame | None = None
) -> list[Finding]:
    """Everything that is doubtful in one data set.

    images, index: of its store.  prepared: the index of the folder that `src.prepare` wrote, if it
        did.
    """
    found = [
        Finding(
            "split",
            tuple(slices["id"]),
            f"subject {subject} is in {', '.join(sorted(set(slices['split'])))}",
            True,
        )
        for subject, slices in index.groupby("subject")
        if slices["split"].nunique() > 1
    ]
    found += twins(images, index, "split")
    lesions = index[(index["split"] != "test") & (index["lesion_pixels"] > HEALTHY_PIXELS)]
    found += [
        Finding("lesion", (i,), f"{i} has a lesion and is in {s}", True)
        for i, s in zip(lesions["id"], lesions["split"], strict=True)
    ]
    contrast = np.asarray(images).std(axis=(1, 2))
    found += [
        Finding("contrast", (i,), f"{i} has hardly any contrast (standard deviation {c:.3f})")
        for i, c in zip(index["id"], contrast, strict=True)
        if c < 0.05
    ]
    lost = index[index["lesion_lost"]]
    found += [
        Finding("lost", (i,), f"{i}: the resize lost its lesion of {n} pixels")
        for i, n in zip(lost["id"], lost["lesion_pixels_full"], strict=True)
    ]
    if prepared is not None:
        used = prepared[prepared["excluded"] == ""]
        dice = pd.to_numeric(used.get("brain_dice", pd.Series(dtype=float)), errors="coerce")
        found += [
            Finding(
                "registration",
                (i,),
                f"{i}: its brain covers the template's with a Dice of {d:.2f} only",
            )
            for i, d in zip(used["id"], dice, strict=False)
            if d < ALIGNED
        ]
        failed = prepared[prepared["excluded"].str.startswith("error: ")]
        found += [
            Finding("error", (i,), text)
            for i, text in zip(failed["id"], failed["excluded"], strict=True)
        ]
    return found


def leaks_between(used: Mapping[str, tuple[NDArray[np.float32], pd.DataFrame]]) -> list[Finding]:
    """Twins of different subjects in two roles ("train", "calibrate", "test"). used: each role's
    images and index."""
    parts = {role: part for role, part in used.items() if len(part[1])}
    if len(parts) < 2:
        return []
    images = np.concatenate([images for images, _ in parts.values()])
    index = pd.concat(
        [table.assign(role=role) for role, (_, table) in parts.items()], ignore_index=True
    )
    return [finding for finding in twins(images, index, "role") if finding.is_leak]
