"""The last validation losses of each training in a folder, by noise level, and the time it took."""

import sys
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

BINS = ("val/loss_t0001-0050", "val/loss_t0051-0100", "val/loss_t0101-0200", "val/loss_t0201-0300", "val/loss")


def main(folder: Path) -> None:
    table = Table("training", "steps", *(name.removeprefix("val/") for name in BINS), "t <= 300")
    for run in sorted(path.parents[1] for path in folder.glob("*/checkpoints/last.ckpt")):
        metrics = pd.concat([pd.read_csv(file) for file in sorted(run.glob("csv/*/metrics.csv"))])
        last = metrics.dropna(subset="val/loss").iloc[-1]
        steps = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
        detection = (50 * last[BINS[0]] + 50 * last[BINS[1]] + 100 * last[BINS[2]] + 100 * last[BINS[3]]) / 300
        table.add_row(run.name, str(steps), *(f"{last[name]:.4f}" for name in BINS), f"{detection:.4f}")
    Console(width=200).print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
