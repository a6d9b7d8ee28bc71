"""How far two rows of the same slices and weights lie apart: python experiments/bench/sameness.py
ROW ROW

For rows that should be the same: other batch sizes, other numbers of processes; or in fp32 and in
    bf16.
"""

import sys
from pathlib import Path

import numpy as np

from autoddpm.atomic import read_json

METRICS = ("healthy/ssim", "lesion/auprc", "lesion/max_dice")


def compare(rows: list[Path]) -> dict[str, float]:
    """Of two run folders with equal ids: the share of mask pixels that differ, the largest
    difference of a map in the slices whose masks do not, and of each metric."""
    first, second = (np.load(row / "maps.npz") for row in rows)
    if first["id"].tolist() != second["id"].tolist():
        raise ValueError(f"{rows[0]} and {rows[1]} are of other slices")
    flipped = (
        first["mask"] != second["mask"] if "mask" in first else np.zeros(first["image"].shape, bool)
    )
    same = ~flipped.any(axis=(1, 2))
    off = np.abs(first["anomaly_map"].astype(float) - second["anomaly_map"])
    said = {
        "mask pixels that differ": float(flipped.mean()),
        "slices with such a pixel": float((~same).mean()),
        "largest difference of a map elsewhere": float(off[same].max(initial=0)),
        "largest value of a map": float(first["anomaly_map"].max()),
    }
    values = [read_json(row / "metrics.json")["metrics"] for row in rows]
    return said | {
        name: values[1][name] - values[0][name]
        for name in METRICS
        if None not in (v[name] for v in values)
    }


if __name__ == "__main__":
    for name, value in compare([Path(argument) for argument in sys.argv[1:3]]).items():
        print(f"{name}: {value:.3g}")
