"""Which slices the figures show, and what each row says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoddpm.report.rows.row import Row, UnreadableRunError, read_ids, read_maps, read_slices


@dataclass(frozen=True)
class Example:
    """A slice that the figures show.  image: (H, W) in [0, 1].  lesion: (H, W) bool.  pixels: of
    the lesion."""

    id: str
    size_group: str
    pixels: int
    image: NDArray[Any]
    lesion: NDArray[Any]


def pick_examples(
    row: Row, groups: Sequence[str], by: str, ids: Sequence[str] | None = None
) -> list[Example]:
    """The slices called `ids`; or of each size group the one whose `by` (a column of slices.csv) is
    nearest to the group's median, of equals the first by id. A group without such a slice has no
    example.

    Raises ValueError where an id is not among the row's slices, UnreadableRunError where a file is
    not whole.
    """
    slices, stored = read_slices(row), read_ids(row)
    if absent := {*stored} - {*slices["id"]}:
        raise UnreadableRunError(
            f"{row.folder / 'slices.csv'} lacks {len(absent)} of the {len(stored)} slices of "
            "maps.npz"
        )
    slices = slices[slices["id"].isin(stored)].sort_values("id").set_index("id")
    if ids:
        if unknown := [i for i in ids if i not in slices.index]:
            raise ValueError(
                f"report.slices names {', '.join(unknown)}, which is not among the {len(slices)} "
                "slices of "
                f"{row.folder}. Their ids are like {', '.join(slices.index[:3])}"
            )
        chosen = list(ids)
    else:
        if by not in slices.columns:
            raise UnreadableRunError(
                f"{row.folder / 'slices.csv'} has no column {by}, by which the examples are chosen"
            )
        chosen = []
        for group in groups:
            values = slices.loc[slices["size_group"] == group, by].dropna()
            if len(values):
                chosen.append(str((values - values.median()).abs().idxmin()))
    maps = read_maps(row, chosen, ["image", "lesion"])
    return [
        Example(
            i,
            str(slices["size_group"][i]),
            int(slices["lesion_pixels"][i]),
            maps["image"][n],
            maps["lesion"][n] > 0,
        )
        for n, i in enumerate(chosen)
    ]


@dataclass(frozen=True)
class Shown:
    """What a row says of the examples.  stages: {stage: (len(examples), H, W)}."""

    row: Row
    stages: dict[str, NDArray[Any]]


def read_shown(
    rows: Sequence[Row], examples: Sequence[Example], stages: Sequence[str]
) -> tuple[list[Shown], list[str]]:
    """What `rows` say of the examples; a remark for each row whose maps are not whole, or of
    another size."""
    shown, remarks = [], []
    for row in rows:
        try:
            maps = read_maps(row, [example.id for example in examples], stages)
        except UnreadableRunError as error:
            remarks.append(f"{row.title} is not shown: {error}.")
            continue
        shape = np.shape(examples[0].image)
        if any(m.shape[1:] != shape for m in maps.values()):
            remarks.append(
                f"{row.title} is not shown: {row.folder / 'maps.npz'} has images of another size "
                f"than {shape}."
            )
            continue
        shown.append(Shown(row, maps))
    return shown, remarks
