"""Every measured value of an experiment in one long table, with what made it."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from autoddpm.report.rows import Row

MADE_BY = (
    "data_hash",
    "weights_hash",
    "weights_step",
    "commit",
    "seed",
    "device",
    "precision",
    "sampler",
    "perceptual",
)


def to_measured(rows: Sequence[Row]) -> str:
    """measured.csv: one line a row and metric; an undefined one has no value and says why."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "metric", "value", "undefined", *MADE_BY, "date"])
    for row in rows:
        provenance = row.provenance
        made_by = [_flat(provenance.get(key)) for key in MADE_BY]
        for metric, value in row.metrics.items():
            reason = row.undefined.get(metric, "")
            shown = "" if value is None else f"{value:.6g}"
            writer.writerow([row.title, metric, shown, reason, *made_by, provenance.get("date")])
    return text.getvalue()


def _flat(value: Any) -> Any:
    return " ".join(f"{key}={part}" for key, part in value.items()) if isinstance(value, dict) else value
