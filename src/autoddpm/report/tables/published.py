"""Numbers that the paper printed, which a report sets beside those that were measured."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoddpm.report.rows.methods import is_seed
from autoddpm.runs.row import Row

NUMBER = re.compile(r"-?\d+(\.\d+)?")
COLUMNS = ["method", "metric", "value"]
DATA, CONFIGURED = "ATLAS v2.0", "atlas"  # of the paper's tables, and as `data.test` calls it


@dataclass(frozen=True)
class Published:
    """A table of the paper.

    heading: of its columns.
    values: {(method, key of metrics.json): the number as printed}.
    """

    heading: str
    values: Mapping[tuple[str, str], str]

    def of(self, row: Row, key: str) -> str | None:
        """The paper's number for the row's method, or None if it has none.

        A row with another setting than most rows of its method is another method than the paper's.
        """
        differing = [part.split("=")[0] for part in row.variant.split(", ")] if row.variant else []
        if any(not is_seed(key) and key != "weights_hash" for key in differing):
            return None
        variant = row.provenance.get("variant", "paper")
        return self.values.get((row.label.replace(f" {variant}", ""), key))

    def is_best(self, value: str, key: str, best: str | None) -> bool:
        """Whether the paper has no higher (best: max) or lower (min) value for this key."""
        printed = [float(text) for (_, metric), text in self.values.items() if metric == key]
        return best in ("max", "min") and float(value) == (max if best == "max" else min)(printed)


def read_published(path: Path, shown: str | bool) -> Published:
    """Read an expected.csv: method, key of metrics.json, value as printed.

    shown: `report.paper`. True is for rows on the paper's own data, else the heading names them.

    Raises FileNotFoundError or ValueError, naming the file, if it is missing or no such table.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there, from which the paper's numbers come; or say report.paper=false"
        )
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if not lines or lines[0] != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
        raise ValueError(f"{path} must have the columns {', '.join(COLUMNS)} in every line")
    values: dict[tuple[str, str], str] = {}
    for number, (method, metric, value) in enumerate(lines[1:], start=2):
        if not NUMBER.fullmatch(value):
            raise ValueError(
                f"{path}, line {number}: {value!r} is not a number as printed, such as 22.75"
            )
        if (method, metric) in values:
            raise ValueError(f"{path}, line {number}: {method}, {metric} is there twice")
        values[method, metric] = value
    return Published("paper" if shown is True else f"paper ({DATA})", values)


def other_data(rows: Sequence[Row]) -> str:
    """A remark on rows that were not measured on the paper's data; empty if all were."""
    names = {_data(row) for row in rows} - {CONFIGURED}
    if not names:
        return ""
    return (
        f"The paper's numbers are of {DATA}, these rows of {', '.join(sorted(names))}: "
        "compare how the rows are ordered, not the values."
    )


def _data(row: Row) -> str:
    sources = row.settings.get("data.test") or ["data that config.yaml does not name"]
    return " + ".join(map(str, sources)) if isinstance(sources, list) else str(sources)
