"""Long form: every measured value of an experiment as a line, with its interval and origin."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from autoddpm.metrics.statistics import Interval
from autoddpm.report.rows.seeds import seed_of
from autoddpm.report.tables.intervals import Resamples
from autoddpm.runs.row import Row

MADE_BY = (
    "variant",
    "data_hash",
    "weights_hash",
    "weights_step",
    "data_range",
    "commit",
    "seed",
    "device",
    "precision",
    "sampler",
    "perceptual",
)


def to_long_form(rows: Sequence[Row], resamples: Resamples) -> str:
    """measured.csv: a line per row and metric, with the bounds of its 95 % interval if it has one.

    An undefined value has none and says why. Of several seeds there are the means with their
    standard deviation, and then each seed.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["method", "metric", "value", "low", "high", "sd", "seeds", "undefined", *MADE_BY, "date"]
    )
    for title, row in _lines(rows):
        made_by = [_flat(row.provenance.get(key)) for key in MADE_BY]
        for metric, value in row.metrics.items():
            bounds, reason = resamples.interval(row, metric), row.undefined.get(metric, "")
            low, high = bounds if isinstance(bounds, Interval) else (None, None)
            numbers = [_number(one) for one in (value, low, high, row.spread.get(metric))]
            seeds = len(row.members) or ""
            writer.writerow(
                [title, metric, *numbers, seeds, reason, *made_by, row.provenance.get("date")]
            )
    return text.getvalue()


def _lines(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    lines = []
    for row in rows:
        lines += [
            (row.title, row),
            *((f"{row.title} ({seed_of(one, row.members)})", one) for one in row.members),
        ]
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return " to ".join(f"{part:g}" for part in value)
    return (
        " ".join(f"{key}={part}" for key, part in value.items())
        if isinstance(value, dict)
        else value
    )
