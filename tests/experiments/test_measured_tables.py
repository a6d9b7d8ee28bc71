"""Tables in the documents: each cell with an interval is the value that experiments/ixi_stroke
keeps in a csv file."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STROKE = ROOT / "experiments" / "ixi_stroke"
METRICS = {
    "SSIM": "healthy/ssim",
    "healthy SSIM": "healthy/ssim",
    "AUPRC": "lesion/auprc",
    "Dice": "lesion/max_dice",
    "max Dice": "lesion/max_dice",
    "global": "lesion/max_dice",
    "Dice at 5 %": "lesion/dice@healthy_fpr5",
    "Dice, threshold from healthy slices": "lesion/dice@healthy_fpr5",
    "global at 5 %": "lesion/dice@healthy_fpr5",
    "FPR at 5 %": "healthy/fpr@healthy_fpr5",
    **{size: f"lesion/max_dice/{size}" for size in ("small", "medium", "large")},
}
CHOICES = {  # how the documents say a setting, and how the name of a row has it
    "mask at 2 %": "mask_false_positive_rate=0.02",
    "t_resample=100": "detector.t_resample=100",
    "denoiser features": "DenoiserFeatures",
    "no perceptual distance": "NoPerceptual",
}
SEED_1 = " (seed 1)"  # after the name of a column
CELL = re.compile(r"([\d.]+) \[([\d.]+), ([\d.]+)\]")
Values = dict[str, tuple[float, float, float]]


def measured(name: str) -> dict[str, Values]:
    """Row of a csv file of the report to metric to (value, low, high) in percent."""
    found: dict[str, Values] = {}
    with (STROKE / name).open() as file:
        for line in csv.DictReader(file):
            if line["low"]:
                low, value, high = (100 * float(line[key]) for key in ("low", "value", "high"))
                found.setdefault(line["method"], {})[line["metric"]] = (value, low, high)
    return found


def lines(document: str, wanted: str) -> Iterator[tuple[str, dict[str, str]]]:
    """First cell and the cells with an interval by column, of the tables below a heading ('': the
    title)."""
    heading, columns = "", []
    for line in (ROOT / document).read_text().splitlines():
        cells = (
            [cell.strip() for cell in line.strip("| ").split("|")] if line.startswith("|") else []
        )
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        if not columns or not cells:
            columns = [cell.strip() for cell in line.strip("|").split("|")] if cells else []
        elif heading == wanted and any(map(CELL.fullmatch, cells)):
            yield (
                cells[0],
                {c: cell for c, cell in zip(columns, cells, strict=True) if CELL.fullmatch(cell)},
            )


def identity(label: str, column: str = "") -> tuple[object, ...]:
    """What a row is, however it is written: detector, t, what is left out, anomaly map."""
    t, left_out = re.search(r"\bt ?= ?(\d+)", label), re.search(r"w/o ([\w-]+)", label)
    chosen = re.search(r"anomaly_map=(\w+)|`(\w+)`", label + column)
    anomaly_map = chosen[1] or chosen[2] if chosen else "residual"
    return (
        re.findall(r"A\w+DDPM", label)[0],
        t[1] if t else "200",
        left_out and left_out[1],
        anomaly_map,
    )


def agrees(text: str, value: float) -> bool:
    """Whether `text` is `value`, rounded to the digits that it has."""
    return (
        abs(float(text.replace(",", "")) - value) <= 0.5 * 10 ** -len(text.partition(".")[2]) + 1e-9
    )


def is_shown(cell: str, values: tuple[float, float, float]) -> bool:
    shown = CELL.fullmatch(cell)
    assert shown
    return all(map(agrees, shown.groups(), values))


@pytest.mark.parametrize(
    ("document", "heading"),
    [
        ("README.md", "Results"),
        ("weights/README.md", "What it achieves"),
        ("weights/README.md", "A second training"),
        ("experiments/ixi_stroke/README.md", "The tables of 0.1.0"),
    ],
)
def test_a_table_of_results_is_what_was_measured(document: str, heading: str) -> None:
    rows: dict[str, dict[tuple[object, ...], Values]] = {}
    for name in ("measured.csv", "seed1.csv"):
        rows[name] = {identity(method): values for method, values in measured(name).items()}
        assert len(rows[name]) == len(measured(name))
    count = 0
    for label, cells in lines(document, heading):
        for title, cell in cells.items():
            column, name = (
                title.removesuffix(SEED_1),
                "seed1.csv" if title.endswith(SEED_1) else "measured.csv",
            )
            assert column in METRICS or column.startswith("`")
            values = rows[name][identity(label, column)][METRICS.get(column, "lesion/max_dice")]
            assert is_shown(cell, values), (label, title, cell, values)
            count += 1
    assert count >= 20


def test_the_table_of_choices_is_what_was_measured() -> None:
    rows = measured("tuning.csv")
    shown = list(lines("experiments/ixi_stroke/README.md", "What was chosen, and on what"))
    used = [
        [
            name
            for name, values in rows.items()
            if all(is_shown(cell, values[METRICS[c]]) for c, cell in cells.items())
        ]
        for _, cells in shown
    ]
    assert sorted(name for names in used for name in names) == sorted(rows)
    for (label, _), names in zip(shown, used, strict=True):
        assert identity(label)[:2] == identity(names[0])[:2]
        for said, setting in CHOICES.items():
            assert (said in label) == (setting in names[0]), (label, names)
