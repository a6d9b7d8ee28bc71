"""Quality against calls: each row of a folder against the one with the most calls, paired over subjects.

    python experiments/samplers/choose.py runs/samplers_demo/evaluate [runs/samplers_ixi_stroke/evaluate ...]

Writes `quality.csv` beside each folder and prints the cheapest setting whose 95 % lower bounds are above -5 % of the
Dice and -0.5 points of SSIM in every folder.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from autoddpm.atomic import written_whole
from autoddpm.metrics.histogram import histograms, resampled_localization
from autoddpm.metrics.statistics import interval, resampled_mean, subject_weights
from autoddpm.report.rows import Row, read_maps, read_rows, read_slices

RESAMPLES, SEED = 2000, 0
LEAST_DICE, LEAST_SSIM = -0.05, -0.005  # relative; absolute
COLUMNS = ("setting", "calls", "ssim", "auprc", "dice", "dice_low", "dice_high", "ssim_low", "ssim_high", "passes")


def resampled(row: Row) -> dict[str, np.ndarray]:
    """Dice, AUPRC and SSIM of the row itself (first) and of each resample, by subject."""
    slices = read_slices(row)
    ids = slices["id"].tolist()
    maps = read_maps(row, ids, ["anomaly_map", "lesion"])
    ill = (slices["size_group"] != "healthy").to_numpy()
    weights = np.concatenate(
        [np.ones((1, len(ids))), subject_weights(slices["subject"].tolist(), ill, RESAMPLES, SEED)]
    )
    counts = histograms(maps["anomaly_map"][ill], maps["lesion"][ill].astype(bool))
    auprc, dice = resampled_localization(counts, weights[:, ill])
    return {"auprc": auprc, "dice": dice, "ssim": resampled_mean(slices["ssim"].to_numpy()[~ill], weights[:, ~ill])}


def setting(row: Row) -> str:
    sampler = row.provenance["sampler"]
    return " ".join([sampler["name"], *(f"{key}={value}" for key, value in sampler.items() if key != "name")])


def quality(folder: Path) -> pd.DataFrame:
    """One line a row, from many calls to few."""
    rows, _ = read_rows(folder)
    rows.sort(key=lambda row: -(row.metrics["calls_per_slice"] or 0))
    exact, lines = resampled(rows[0]), []
    for row in rows:
        ours = resampled(row)
        dice = interval((ours["dice"] / exact["dice"] - 1)[1:])
        ssim = interval((ours["ssim"] - exact["ssim"])[1:])
        passes = row is rows[0] or (dice.low > LEAST_DICE and ssim.low > LEAST_SSIM)
        calls = row.metrics["calls_per_slice"] or 0
        values = [calls, ours["ssim"][0], ours["auprc"][0], ours["dice"][0], *dice[:2], *ssim[:2]]
        lines.append([setting(row), *(round(float(value), 6) for value in values), passes])
    return pd.DataFrame(lines, columns=list(COLUMNS))


def main(folders: list[Path]) -> None:
    console, passing, calls = Console(width=140), [], {}
    for folder in folders:
        table = quality(folder)
        with written_whole(folder.parent / "quality.csv") as path:
            table.to_csv(path, index=False, quoting=csv.QUOTE_MINIMAL)
        shown = Table(
            "sampler",
            "calls",
            "SSIM",
            "AUPRC",
            "Dice",
            "Dice against exact, relative",
            "SSIM against exact",
            title=str(folder),
        )
        for line in table.to_dict("records"):
            shown.add_row(
                line["setting"] + (" *" if line["passes"] else ""), f"{line['calls']:.1f}", f"{100 * line['ssim']:.2f}",
                f"{100 * line['auprc']:.2f}", f"{100 * line['dice']:.2f}",
                f"{100 * line['dice_low']:+.1f} to {100 * line['dice_high']:+.1f} %",
                f"{100 * line['ssim_low']:+.2f} to {100 * line['ssim_high']:+.2f}",
            )  # fmt: skip
        console.print(shown)
        passing.append(set(table.loc[table["passes"], "setting"]))
        calls |= dict(zip(table["setting"], table["calls"], strict=True))
    both = set.intersection(*passing)
    best = min(both, key=lambda name: calls[name])
    console.print(f"Cheapest that passes (*) everywhere: {best}, {calls[best]:.1f} calls a slice")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
