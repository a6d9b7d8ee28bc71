"""Quality against calls: each row of a folder against the one with the most calls, paired over
subjects.

    python experiments/samplers/choose.py runs/samplers_demo/evaluate
    [runs/samplers_ixi_stroke/evaluate ...]

Writes `quality.csv` and `quality.md`, with 95 % intervals, beside each folder; prints the cheapest
setting whose lower bounds of the paired change are above -5 % of the Dice and -0.5 points of SSIM
in every folder.
"""

import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from autoddpm.atomic import write_text, written_whole
from autoddpm.metrics.statistics import interval
from autoddpm.report.rows.methods import disagreements
from autoddpm.report.tables.intervals import Resamples, bootstrap_rows
from autoddpm.runs.row import Row, read_rows

RESAMPLES, SEED = 2000, 0
LEAST_DICE, LEAST_SSIM = -0.05, -0.005  # relative; absolute
METRICS = {"ssim": "SSIM", "auprc": "AUPRC", "dice": "max Dice"}
KEYS = {"ssim": "healthy/ssim", "auprc": "lesion/auprc", "dice": "lesion/max_dice"}
CHANGES = {"dice_change": "Dice against exact, relative", "ssim_change": "SSIM against exact"}
MADE_BY = (
    "data_hash",
    "weights_hash",
    "weights_step",
    "commit",
    "precision",
    "perceptual",
    "device",
)


def samples(resamples: Resamples, row: Row) -> dict[str, np.ndarray]:
    """Dice, AUPRC and SSIM of the row itself (first) and of each resample, by subject."""
    found = resamples.by_folder[row.folder]
    if lacking := [key for key in KEYS.values() if key not in found.values]:
        sys.exit(
            f"{row.folder}: "
            f"{found.problem or '; '.join(found.reasons.get(key, key) for key in lacking)}"
        )
    return {name: found.values[key] for name, key in KEYS.items()}


def setting(row: Row) -> str:
    sampler = row.provenance["sampler"]
    return " ".join(
        [sampler["name"], *(f"{key}={value}" for key, value in sampler.items() if key != "name")]
    )


def quality(folder: Path) -> pd.DataFrame:
    """One line a row, from many calls to few: each metric and its change with `_low` and
    `_high`."""
    rows, remarks = read_rows(folder)
    precisions = {row.provenance.get("precision") for row in rows}
    disagreeing = (
        disagreements(rows)
        + remarks
        + ([f"precision differs: {precisions}"] if len(precisions) > 1 else [])
    )
    if disagreeing:
        sys.exit(f"{folder}: {'; '.join(disagreeing)}")
    rows.sort(key=lambda row: -(row.metrics["calls_per_slice"] or 0))
    resamples = bootstrap_rows(
        rows, folder.parent / "resamples", RESAMPLES, SEED, Console(stderr=True)
    )
    exact, lines = samples(resamples, rows[0]), []
    for row in rows:
        ours = samples(resamples, row)
        ours |= {
            "dice_change": ours["dice"] / exact["dice"] - 1,
            "ssim_change": ours["ssim"] - exact["ssim"],
        }
        line: dict[str, object] = {"setting": setting(row), "calls": row.metrics["calls_per_slice"]}
        for name in (*METRICS, *CHANGES):
            bounds = interval(ours[name][1:])
            numbers = {name: ours[name][0], f"{name}_low": bounds.low, f"{name}_high": bounds.high}
            line |= {key: round(float(value), 6) for key, value in numbers.items()}
        holds = line["dice_change_low"] > LEAST_DICE and line["ssim_change_low"] > LEAST_SSIM
        lines.append(
            line
            | {"passes": row is rows[0] or holds}
            | {key: row.provenance.get(key) for key in MADE_BY}
        )
    return pd.DataFrame(lines)


def shown(line: Mapping[Hashable, Any]) -> list[str]:
    """A line of the table, in percent."""
    cells = [line["setting"] + (" *" if line["passes"] else ""), f"{line['calls']:.1f}"]
    for name in METRICS:
        value, low, high = (100 * line[key] for key in (name, f"{name}_low", f"{name}_high"))
        cells.append(f"{value:.1f} [{low:.1f}, {high:.1f}]")
    low, high = (100 * line[f"dice_change_{end}"] for end in ("low", "high"))
    cells.append(f"{low:+.1f} to {high:+.1f} %")
    low, high = (100 * line[f"ssim_change_{end}"] for end in ("low", "high"))
    return [*cells, f"{low:+.2f} to {high:+.2f}"]


def main(folders: list[Path]) -> None:
    console, passing, calls = Console(width=160), [], {}
    headings = ["sampler", "calls", *METRICS.values(), *CHANGES.values()]
    for folder in folders:
        table = quality(folder)
        with written_whole(folder.parent / "quality.csv") as path:
            table.to_csv(path, index=False)
        lines = [shown(line) for line in table.to_dict("records")]
        written = [headings, ["---", *["---:"] * (len(headings) - 1)], *lines]
        write_text(
            folder.parent / "quality.md", "".join(f"| {' | '.join(line)} |\n" for line in written)
        )
        drawn = Table(*headings, title=str(folder))
        for line in lines:
            drawn.add_row(*line)
        console.print(drawn)
        passing.append(set(table.loc[table["passes"], "setting"]))
        calls |= dict(zip(table["setting"], table["calls"], strict=True))
    both = set.intersection(*passing)
    best = min(both, key=lambda name: calls[name])
    console.print(f"Cheapest that passes (*) everywhere: {best}, {calls[best]:.1f} calls per slice")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
