"""What the slice browser shows: chosen slices, 8 bits a pixel, of some rows."""

import zlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoddpm.report.figures.examples import Shown, pick_examples, read_shown
from autoddpm.report.figures.figure import top_of_scale
from autoddpm.report.rows.row import (
    Row,
    UnreadableRunError,
    has_stage,
    read_ids,
    read_maps,
    read_slices,
)

STAGES = ("input", "reconstruction", "mask", "map", "lesion")
GROUPS = ("healthy", "small", "medium", "large")
LEVELS = 64  # thresholds of a map, beside the presets
LEAST_FLAGGED = 1e-5  # share of all pixels above the highest threshold
MOST_PIXELS = 14_000_000  # of all pictures together: about 10 MB of the page
DICE = "max_dice"  # column of slices.csv


def browser_data(rows: Sequence[Row], number: int) -> tuple[dict[str, Any] | None, list[str]]:
    """At most `number` slices of the first row whose files are whole, and what each row says of
    them, for browser.js.

    None where there is nothing to show; and remarks on rows that are not shown and on slices that
    are left out.
    """
    remarks: list[str] = []
    for first in rows if number else ():
        try:
            slices = read_slices(first)
            most = min(number, MOST_PIXELS // (_pixels(first) * (1 + 2 * len(rows))))
            chosen = spread_slices(slices, max(1, most))
            examples = pick_examples(first, GROUPS, DICE, chosen)
            break
        except (UnreadableRunError, ValueError) as error:
            remarks.append(f"{first.title} is not shown: {error}.")
    else:
        return None, remarks
    shown, lost = read_shown(rows, examples, ["reconstruction", "anomaly_map"])
    entries = []
    for one in shown:
        try:
            entries.append(_row(one, chosen))
        except UnreadableRunError as error:
            remarks.append(f"{one.row.title} is not shown: {error}.")
    if not entries:
        return None, [*remarks, *lost]
    left_out = len(slices) - len(chosen)
    if left_out:
        remarks.append(
            f"{len(chosen)} of {len(slices)} slices: equally many of each size, from well to badly "
            "found."
        )
    data = {
        "size": list(examples[0].image.shape),
        "stages": STAGES,
        "groups": [
            group for group in GROUPS if any(example.size_group == group for example in examples)
        ],
        "rows": [head for head, _ in entries],
        "slices": [
            {
                "id": example.id,
                "group": example.size_group,
                "pixels": example.pixels,
                "input": _grey(example.image),
                "lesion": _packed(example.lesion),
                "rows": [pictures[n] for _, pictures in entries],
            }
            for n, example in enumerate(examples)
        ],
    }
    return data, [*remarks, *lost]


def spread_slices(slices: pd.DataFrame, number: int) -> list[str]:
    """Ids of at most `number` slices: of each size group as many as of the others, or all it has,
    evenly from the best found to the worst."""
    groups = [slices[slices["size_group"] == group] for group in GROUPS]
    share = [0] * len(groups)
    while sum(share) < min(number, len(slices)) and any(
        s < len(g) for s, g in zip(share, groups, strict=True)
    ):
        smallest = min((s, n) for n, s in enumerate(share) if s < len(groups[n]))[1]
        share[smallest] += 1
    chosen = []
    for group, count in zip(groups, share, strict=True):
        ordered = group.sort_values([DICE, "id"] if DICE in group else ["id"])["id"]
        chosen += list(
            ordered.iloc[np.linspace(0, len(group) - 1, count).round().astype(int)] if count else []
        )
    return chosen


def _row(shown: Shown, chosen: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row's thresholds, and its pictures of each slice."""
    row, maps = shown.row, shown.stages["anomaly_map"]
    slices = read_slices(row).set_index("id")
    ids = read_ids(row)
    every = read_maps(row, ids, ["anomaly_map"])["anomaly_map"]
    presets = dict(_presets(row))
    levels = threshold_levels(every, list(presets.values()))
    healthy = every[(slices["size_group"].reindex(ids) == "healthy").to_numpy()]
    head = {
        "title": row.title,
        "levels": [float(f"{level:.6g}") for level in levels],
        "presets": {name: int(np.searchsorted(levels, value)) for name, value in presets.items()},
        "healthy": [round(float((healthy >= level).mean()), 6) for level in levels]
        if len(healthy)
        else None,
        "top": top_of_scale(list(maps)),
    }
    masks = read_maps(row, chosen, ["mask"])["mask"] if has_stage(row, "mask") else None
    pictures = []
    for n, slice_id in enumerate(chosen):
        dice = slices[DICE].get(slice_id) if DICE in slices else None
        picture = {
            "dice": None if dice is None or pd.isna(dice) else round(100 * float(dice), 1),
            "reconstruction": _grey(shown.stages["reconstruction"][n]),
            "map": _packed(np.searchsorted(levels, maps[n], side="right")),
        }
        pictures.append(picture | ({} if masks is None else {"mask": _packed(masks[n] > 0)}))
    return head, pictures


def _presets(row: Row) -> Iterator[tuple[str, np.float32]]:
    """Thresholds by name, such that a pixel is flagged where its map is at least the threshold."""
    best = row.metrics.get("lesion/best_threshold")
    if best is not None:
        yield "highest Dice of all lesions", np.float32(best)
    for share in (1, 2, 5):
        threshold = row.thresholds.get(f"healthy_fpr{share}")
        if threshold is not None:  # flags what is above it
            yield (
                f"{share} % of healthy validation pixels",
                np.nextafter(np.float32(threshold), np.float32(np.inf)),
            )


def threshold_levels(maps: NDArray[Any], presets: Sequence[np.float32]) -> NDArray[Any]:
    """Rising thresholds for the slider: at most LEVELS that flag geometric shares of all pixels,
    and the presets."""
    shares = np.geomspace(LEAST_FLAGGED, 1, LEVELS)
    return np.unique(
        np.concatenate(
            [np.quantile(maps, 1 - shares).astype(np.float32), np.asarray(presets, np.float32)]
        )
    )


def _pixels(row: Row) -> int:
    return int(np.prod(read_maps(row, read_ids(row)[:1], ["image"])["image"].shape))


def _grey(image: NDArray[Any]) -> str:
    return _packed((255 * np.clip(image, 0, 1)).round())


def _packed(picture: NDArray[Any]) -> str:
    return b64encode(zlib.compress(picture.astype(np.uint8).tobytes(), 9)).decode()
