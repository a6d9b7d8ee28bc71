"""Are fewer network calls as good? AutoDDPM at longer strides against stride 1, seed by seed.

    python experiments/gpu/fewer_calls.py runs/gpu/runs/ixi_stroke [RESAMPLES]

Of the finished rows in evaluate/, with the resamples of the report, if it was made before. Means
over the seeds that both have, in each resample of the subjects. A stride is as good if the lower
ends of the 95 % intervals of the change are above -5 % of the Dice and -0.5 points of SSIM.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoddpm.metrics.statistics import Interval, interval
from autoddpm.report.tables.intervals import Resamples, bootstrap_rows
from autoddpm.report.write import CACHE
from autoddpm.runs.row import Row, read_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "samplers"))
from choose import LEAST_DICE, LEAST_SSIM, samples

HEADINGS = (
    "precision",
    "stride",
    "calls",
    "seeds",
    "SSIM",
    "max Dice",
    "Dice against stride 1",
    "SSIM against stride 1",
    "as good",
)


class Change(NamedTuple):
    """Of a stride against stride 1; ssim and dice: its own values. Fractions."""

    precision: str
    stride: int
    calls: float
    seeds: int
    ssim: float
    dice: float
    dice_change: Interval
    ssim_change: Interval

    @property
    def is_as_good(self) -> bool:
        return self.dice_change.low > LEAST_DICE and self.ssim_change.low > LEAST_SSIM


def seeds_of(rows: list[Row]) -> dict[tuple[str, int], dict[int, Row]]:
    """AutoDDPM's rows with the paper's sampler, by precision and stride, and then by seed."""
    found: dict[tuple[str, int], dict[int, Row]] = defaultdict(dict)
    for row in rows:
        sampler = row.provenance["sampler"]
        if row.label == "AutoDDPM" and sampler["name"] == "Ancestral":
            key = str(row.provenance["precision"]), int(sampler["stride"])
            found[key][int(row.provenance["seed"])] = row
    return found


def changes(rows: list[Row], resamples: Resamples) -> Iterator[Change]:
    kinds = seeds_of(rows)
    for (precision, stride), ours in sorted(kinds.items()):
        exact = kinds.get((precision, 1), {})
        both = sorted(ours.keys() & exact.keys())
        if stride == 1 or not both:
            continue
        long, short = (
            mean([samples(resamples, of[seed]) for seed in both]) for of in (exact, ours)
        )
        calls = float(np.mean([ours[seed].metrics["calls_per_slice"] or np.nan for seed in both]))
        dice = interval((short["dice"] / long["dice"] - 1)[1:])
        ssim = interval((short["ssim"] - long["ssim"])[1:])
        own = float(short["ssim"][0]), float(short["dice"][0])
        yield Change(precision, stride, calls, len(both), *own, dice, ssim)


def mean(of_seeds: list[dict[str, NDArray[np.floating]]]) -> dict[str, NDArray[np.floating]]:
    return {key: np.mean([one[key] for one in of_seeds], axis=0) for key in of_seeds[0]}


def cells(one: Change) -> list[str]:
    dice, ssim = (f"{100 * bounds.low:+.1f} to {100 * bounds.high:+.1f}" for bounds in one[-2:])
    return [
        one.precision,
        str(one.stride),
        f"{one.calls:.1f}",
        str(one.seeds),
        f"{100 * one.ssim:.1f}",
        f"{100 * one.dice:.1f}",
        f"{dice} %",
        ssim,
        "yes" if one.is_as_good else "not shown",
    ]


def table(found: list[Change]) -> str:
    """In markdown, with the answer below."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *map(cells, found)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    tenth = [one for one in found if one.stride == 10]
    for one in tenth:
        answer = "as good as stride 1" if one.is_as_good else "not shown to be as good as stride 1"
        text += (
            f"\nTen times fewer calls (stride 10), {one.precision}, {one.seeds} seed(s): {answer}."
        )
    return text + ("\n" if tenth else "\nStride 10 and stride 1 have no seed in common yet.\n")


def main(folder: str, number: str = "1000") -> None:
    rows, _ = read_rows(Path(folder) / "evaluate")
    resamples = bootstrap_rows(rows, Path(folder) / "report" / CACHE, int(number), seed=0)
    print(table(list(changes(rows, resamples))), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
