"""Data of the slice browser: chosen slices of some rows, at 8 bits per pixel."""

import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoddpm.metrics.localization import HEALTHY_FPRS
from autoddpm.report.figures.examples import Choice, Example, slice_of
from autoddpm.report.figures.panels import top_of_scale
from autoddpm.runs.folder import UnreadableRunError
from autoddpm.runs.row import Row, read_slices

STAGES = ("input", "reconstruction", "mask", "map", "lesion")
GROUPS = ("healthy", "small", "medium", "large")
LEVELS = 64  # thresholds of a map, beside the presets
LEAST_FLAGGED = 1e-5  # share of all pixels above the highest threshold
MOST_PIXELS = 14_000_000  # of all pictures together: about 10 MB of the page
SIZE = 128  # of slices whose size is not recorded
DICE = "max_dice"  # column of slices.csv


@dataclass(frozen=True)
class BrowsedRow:
    """A row as the browser shows it.

    head: its title, its thresholds and the share of healthy pixels that each of them flags.
    pictures: of each slice, by name of the stage.
    """

    head: Mapping[str, Any]
    pictures: Sequence[Mapping[str, Any]]


def choose_slices(rows: Sequence[Row], number: int) -> Choice:
    """At most `number` slices of the first row that can be read, fewer if rows or slices are big.

    Equally many are of each size, from the best found to the worst.
    """
    remarks: list[str] = []
    for row in rows:
        try:
            slices = read_slices(row)
        except UnreadableRunError as error:
            remarks.append(f"{row.title} is not shown: {error}.")
            continue
        pixels = int(row.provenance.get("size") or SIZE) ** 2
        most = max(1, min(number, MOST_PIXELS // (pixels * (1 + 2 * len(rows)))))
        ids = spread_slices(slices, most)
        if len(ids) < len(slices):
            remarks.append(
                f"{len(ids)} of {len(slices)} slices: equally many of each size, from well to "
                "badly found."
            )
        by_id = slices.set_index("id")
        return Choice([slice_of(by_id, one) for one in ids], remarks=remarks)
    return Choice(remarks=remarks)


def browser_data(examples: Sequence[Example], rows: Sequence[BrowsedRow]) -> dict[str, Any] | None:
    """The slices and what each row holds of them, for browser.js. None if there is nothing."""
    if not examples or not rows:
        return None
    present = {example.size_group for example in examples}
    return {
        "size": list(examples[0].image.shape),
        "stages": STAGES,
        "groups": [group for group in GROUPS if group in present],
        "rows": [row.head for row in rows],
        "slices": [
            {
                "id": example.id,
                "group": example.size_group,
                "pixels": example.pixels,
                "input": _grey(example.image),
                "lesion": _packed(example.lesion),
                "rows": [row.pictures[n] for row in rows],
            }
            for n, example in enumerate(examples)
        ],
    }


def browsed_row(
    row: Row, slices: pd.DataFrame, maps: Mapping[str, NDArray[Any]], at: Sequence[int]
) -> BrowsedRow:
    """A row in the browser.

    slices: its slices.csv, a line per slice.
    maps: its stages in the order of `slices`, each (N, H, W).
    at: places of the slices that are shown.
    """
    heat = maps["anomaly_map"]
    presets = dict(_presets(row))
    levels = threshold_levels(heat, list(presets.values()))
    healthy = heat[(slices["size_group"] == "healthy").to_numpy()]
    head = {
        "title": row.title,
        "levels": [float(f"{level:.6g}") for level in levels],
        "presets": {name: int(np.searchsorted(levels, value)) for name, value in presets.items()},
        "healthy": [round(float((healthy >= level).mean()), 6) for level in levels]
        if len(healthy)
        else None,
        "top": top_of_scale(list(heat[list(at)])),
    }
    pictures = []
    for n in at:
        dice = slices[DICE].iloc[n] if DICE in slices else None
        picture = {
            "dice": None if dice is None or pd.isna(dice) else round(100 * float(dice), 1),
            "reconstruction": _grey(maps["reconstruction"][n]),
            "map": _packed(np.searchsorted(levels, heat[n], side="right")),
        }
        pictures.append(
            picture | ({"mask": _packed(maps["mask"][n] > 0)} if "mask" in maps else {})
        )
    return BrowsedRow(head, pictures)


def spread_slices(slices: pd.DataFrame, number: int) -> list[str]:
    """Ids of at most `number` slices, evenly from the best found to the worst.

    Of each size group there are as many as of the others, or all that it has.
    """
    groups = [slices[slices["size_group"] == group] for group in GROUPS]
    turns = sorted((turn, n) for n, group in enumerate(groups) for turn in range(len(group)))
    share = Counter(n for _, n in turns[:number])
    chosen = []
    for n, count in sorted(share.items()):
        ordered = groups[n].sort_values([DICE, "id"] if DICE in slices else ["id"])["id"]
        chosen += list(ordered.iloc[np.linspace(0, len(ordered) - 1, count).round().astype(int)])
    return chosen


def _presets(row: Row) -> Iterator[tuple[str, np.float32]]:
    """Thresholds by name: a pixel is flagged if its map is at least the threshold."""
    best = row.metrics.get("lesion/best_threshold")
    if best is not None:
        yield "highest Dice of all lesions", np.float32(best)
    for name, share in HEALTHY_FPRS.items():
        threshold = row.thresholds.get(name)
        if threshold is not None:  # flags what is above it
            yield (
                f"{100 * share:g} % of healthy validation pixels",
                np.nextafter(np.float32(threshold), np.float32(np.inf)),
            )


def threshold_levels(maps: NDArray[Any], presets: Sequence[np.float32]) -> NDArray[Any]:
    """Rising thresholds for the slider: the presets, and LEVELS or fewer others.

    The others flag geometric shares of all pixels.
    """
    shares = np.geomspace(LEAST_FLAGGED, 1, LEVELS)
    return np.unique(
        np.concatenate(
            [np.quantile(maps, 1 - shares).astype(np.float32), np.asarray(presets, np.float32)]
        )
    )


def _grey(image: NDArray[Any]) -> str:
    return _packed((255 * np.clip(image, 0, 1)).round())


def _packed(picture: NDArray[Any]) -> str:
    return b64encode(zlib.compress(picture.astype(np.uint8).tobytes(), 9)).decode()
