"""Pictures from maps.npz for the figures: each file is opened once, one after the other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoddpm.report.figures.examples import Example, Examples, Stages
from autoddpm.report.page.browser_data import BrowsedRow, browsed_row
from autoddpm.report.select import Selection
from autoddpm.runs.folder import SLICES, UnreadableRunError
from autoddpm.runs.row import Row, has_stage, read_maps, read_slices

INPUT = ("image", "lesion")
STAGES = ("reconstruction", "anomaly_map", "mask", "initial_reconstruction", "stitched")


@dataclass(frozen=True)
class Pictures:
    """Slices in memory.

    examples: of Figures 4 and 5, and of a tracked report.
    browsed: of the browser.
    rows: what each row of the browser holds of them.
    remarks: on rows that the browser does not show.
    """

    examples: Examples
    browsed: Sequence[Example]
    rows: Sequence[BrowsedRow]
    remarks: Sequence[str]


def read_pictures(selection: Selection, further: Iterable[Row] = ()) -> Pictures:
    """Read the slices that were selected, of every row of which a figure shows slices.

    further: other rows of which the examples are wanted.
    """
    browser = {row.folder: row for row in selection.browser_rows}
    chosen, browsed = selection.examples.slices, selection.browsed.slices
    inputs: dict[str, Example] = {}
    stages: dict[Path, Stages] = {}
    problems: dict[Path, str] = {}
    rows: list[BrowsedRow] = []
    for folder, row in {row.folder: row for row in (*selection.with_pictures, *further)}.items():
        lacking = [one for one in (*chosen, *browsed) if one.id not in inputs]
        try:
            slices = read_slices(row).set_index("id") if folder in browser else None
            ids = [one.id for one in chosen] if slices is None else list(slices.index)
            maps = _planes(read_maps(row, ids, _stages(row, bool(lacking))))
            at = _places(row, ids, [one.id for one in chosen])
            if slices is not None:
                places = _places(row, ids, [one.id for one in browsed])
                rows.append(browsed_row(browser[folder], slices, maps, places))
        except UnreadableRunError as error:
            problems[folder] = str(error)
            continue
        for one in lacking:
            if one.id in ids:
                n = ids.index(one.id)
                inputs[one.id] = Example(*one, maps["image"][n], maps["lesion"][n] > 0)
        stages[folder] = {name: maps[name][at] for name in STAGES if name in maps}
    remarks = [
        f"{row.title} is not shown: {problems[folder]}."
        for folder, row in browser.items()
        if folder in problems
    ]
    found, of_browser = (
        [inputs[one.id] for one in each if one.id in inputs] for each in (chosen, browsed)
    )
    return Pictures(Examples(found, stages, problems), of_browser, rows, remarks)


def _stages(row: Row, with_input: bool) -> list[str]:
    """The stages to read: maps and reconstruction, and what else the file holds of them."""
    further = [stage for stage in STAGES[2:] if has_stage(row, stage)]
    return [*(INPUT if with_input else ()), *STAGES[:2], *further]


def _planes(maps: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Stages as they are drawn, (N, H, W): the first modality, the middle plane of a volume."""
    dimensions = maps["anomaly_map"].ndim - 1
    planes = {name: one if one.ndim == dimensions + 1 else one[:, 0] for name, one in maps.items()}
    if dimensions == 2:
        return planes
    middle = {name: one[..., one.shape[-1] // 2] for name, one in planes.items()}
    return {name: np.rot90(one, axes=(1, 2)) for name, one in middle.items()}


def _places(row: Row, ids: Sequence[str], wanted: Sequence[str]) -> list[int]:
    if absent := [one for one in wanted if one not in ids]:
        raise UnreadableRunError(f"{row.folder / SLICES} has no slice {', '.join(absent)}")
    return [ids.index(one) for one in wanted]
