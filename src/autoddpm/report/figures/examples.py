"""Slices that the figures show: which ones, and what rows hold of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoddpm.runs.folder import MAPS, SLICES, UnreadableRunError
from autoddpm.runs.row import Row, read_slices

Stages = Mapping[str, NDArray[Any]]


class Slice(NamedTuple):
    """A slice that is to be shown. pixels: of its lesion."""

    id: str
    size_group: str
    pixels: int


@dataclass(frozen=True)
class Choice:
    """Slices that a figure shows.

    how: how they were chosen, in words.
    remarks: why they were not chosen by the rows before, or why there are none.
    """

    slices: Sequence[Slice] = ()
    how: str = ""
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Example:
    """A slice with its pixels.

    image: (H, W) in [0, 1].
    lesion: (H, W) bool.
    """

    id: str
    size_group: str
    pixels: int
    image: NDArray[Any]
    lesion: NDArray[Any]


@dataclass(frozen=True)
class Shown:
    """The examples as a row has them.

    stages: {stage: (len(examples), H, W)}.
    """

    row: Row
    stages: Stages


@dataclass(frozen=True)
class Examples:
    """The examples, and what each row that was read holds of them.

    stages: of a run folder, as `Shown.stages`.
    problems: of a run folder, why it has none.
    """

    examples: Sequence[Example] = ()
    stages: Mapping[Path, Stages] = field(default_factory=dict)
    problems: Mapping[Path, str] = field(default_factory=dict)

    def of(self, rows: Sequence[Row], needed: Sequence[str]) -> tuple[list[Shown], list[str]]:
        """What `rows` hold of the examples, and a remark on each that lacks a stage `needed`."""
        shown, remarks = [], []
        for row in rows if self.examples else ():
            if problem := self.problems.get(row.folder) or self._lacks(row, needed):
                remarks.append(f"{row.title} is not shown: {problem}.")
            else:
                shown.append(Shown(row, self.stages[row.folder]))
        return shown, remarks

    def _lacks(self, row: Row, needed: Sequence[str]) -> str:
        stages, shape = self.stages[row.folder], np.shape(self.examples[0].image)
        if missing := [stage for stage in needed if stage not in stages]:
            return f"{row.folder / MAPS} has no {', '.join(missing)}"
        if any(values.shape[1:] != shape for values in stages.values()):
            return f"{row.folder / MAPS} has images of another size than {shape}"
        return ""


def choose_examples(
    rows: Sequence[Row], groups: Sequence[str], by: str, ids: Sequence[str] | None = None
) -> Choice:
    """The slices called `ids`, or one slice per size group of the first row that can be read.

    groups: in the order of the figure.
    by: column of slices.csv. In each group the slice nearest to the median of this column is
        chosen, of equals the first by id. A group without such a slice has none.

    Raises ValueError if an id is not among the row's slices.
    """
    remarks: list[str] = []
    for row in rows:
        try:
            slices = read_slices(row).sort_values("id").set_index("id")
            chosen = _named(row, slices, ids) if ids else _near_median(row, slices, groups, by)
        except UnreadableRunError as error:
            remarks.append(f"{row.title} is not shown: {error}.")
            continue
        if not chosen:
            remarks.append(f"{row.title} has no lesion slice in the groups {', '.join(groups)}.")
            continue
        near = f"each the slice whose {by} is nearest to the median of its size group for"
        how = "chosen by report.slices" if ids else f"{near} {row.title}"
        found = [slice_of(slices, one) for one in chosen]
        texts = ", ".join(f"{one.id} ({one.pixels} lesion pixels)" for one in found)
        return Choice(found, f"Slices from top to bottom, {how}: {texts}.", remarks)
    return Choice(remarks=remarks)


def slice_of(slices: pd.DataFrame, slice_id: str) -> Slice:
    """A line of slices.csv, whose index are the ids."""
    group, pixels = (slices[name].to_dict()[slice_id] for name in ("size_group", "lesion_pixels"))
    return Slice(slice_id, str(group), int(pixels))


def _named(row: Row, slices: pd.DataFrame, ids: Sequence[str]) -> list[str]:
    if unknown := [one for one in ids if one not in slices.index]:
        raise ValueError(
            f"report.slices names {', '.join(unknown)}, which is not among the {len(slices)} "
            f"slices of {row.folder}. Their ids are like {', '.join(slices.index[:3])}"
        )
    return list(ids)


def _near_median(row: Row, slices: pd.DataFrame, groups: Sequence[str], by: str) -> list[str]:
    if by not in slices.columns:
        raise UnreadableRunError(
            f"{row.folder / SLICES} has no column {by}, by which the examples are chosen"
        )
    chosen = []
    for group in groups:
        values = slices.loc[slices["size_group"] == group, by].dropna()
        if len(values):
            chosen.append(str((values - values.median()).abs().idxmin()))
    return chosen
