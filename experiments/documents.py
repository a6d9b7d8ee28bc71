"""Write the tables of results in the documents, from the csv files that hold what was measured.

    python experiments/documents.py

A folder's documents.yaml says which tables: {document: {table: settings}}. In the document a table
stands between `<!-- table NAME: FOLDER -->` and `<!-- end -->`, and all between them is replaced.

columns: {heading: column}; a column is a metric, or {metric, file, map, scale, digits}.
rows: {first cell: method, or {file: method}}; `{map}` in a method is the column's anomaly map.
file: csv file of the report, "measured.csv" without one; scale: 100 without one.
digits: behind the point, 2 without any.
first: heading of the first column.

`front_matter` is no table: it is the YAML at the document's head that hubs of models read.
card: its fixed entries.
task, dataset: of each model's result, as `model-index` has them.
models: {name: {file, metrics, rows}}.
metrics: {type: {name, metric}}, for each of `rows`, in percent with the interval of 95 %.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from autoddpm.atomic import write_text

ROOT = Path(__file__).resolve().parents[1]
FILE, UNDEFINED = "measured.csv", "–"


@cache
def measured(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The lines of a report's measured.csv by (method, metric)."""
    with path.open(newline="", encoding="utf-8") as file:
        return {(line["method"], line["metric"]): line for line in csv.DictReader(file)}


def table(folder: Path, settings: Mapping[str, Any]) -> str:
    """A table as markdown. Raises KeyError if a row or metric was not measured."""
    columns = {
        heading: {"metric": column} if isinstance(column, str) else column
        for heading, column in settings["columns"].items()
    }
    lines = [[settings.get("first", "Method"), *columns], ["---", *["---:"] * len(columns)]]
    for label, method in settings["rows"].items():
        cells = [
            cell(folder, method, {"digits": settings.get("digits", 2)} | column)
            for column in columns.values()
        ]
        lines.append([label, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def front_matter(folder: Path, settings: Mapping[str, Any]) -> str:
    """The head of the models' card, both lines `---` included. Raises KeyError as `table`."""
    index = []
    for name, model in settings["models"].items():
        of_task = {key: settings[key] for key in ("task", "dataset")}
        index.append({"name": name, "results": [of_task | {"metrics": scores(folder, model)}]})
    how: dict[str, Any] = {"sort_keys": False, "width": 100, "default_flow_style": None}
    return f"---\n{yaml.safe_dump(settings['card'] | {'model-index': index}, **how)}---\n"


def scores(folder: Path, model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was measured with a model, as hubs read it."""
    lines, found = measured(folder / model.get("file", FILE)), []
    for label, method in model["rows"].items():
        for kind, one in model["metrics"].items():
            line = lines[method, one["metric"]]
            value, low, high = (round(100 * float(line[p]), 2) for p in ("value", "low", "high"))
            name = f"{one['name']}, percent ({label})"
            interval = {"interval_95": [low, high]}
            found.append({"type": kind, "name": name, "value": value, "args": interval})
    return found


def headed(text: str, front: str) -> str:
    """A document with this front matter in the place of its own, if it has one."""
    return front + re.sub(r"\A---\n.*?^---\n", "", text, count=1, flags=re.DOTALL | re.MULTILINE)


def cell(folder: Path, method: str | Mapping[str, str], column: Mapping[str, Any]) -> str:
    """A value with its interval if it has one; a dash if the row has no such anomaly map."""
    file, anomaly_map = column.get("file", FILE), column.get("map")
    name = method if isinstance(method, str) else method[file]
    lines = measured(folder / file)
    key = name.replace("{map}", anomaly_map or ""), column["metric"]
    if anomaly_map and key not in lines:
        return UNDEFINED
    line, scale, digits = lines[key], column.get("scale", 100), column["digits"]
    value, low, high = (
        f"{scale * float(line[part]):.{digits}f}" if line[part] else ""
        for part in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]" if low else value


def written(text: str, folder: str, tables: Mapping[str, str]) -> str:
    """A document with its tables of a folder. Raises ValueError if it lacks the place of one."""
    for name, content in tables.items():
        start = f"<!-- table {name}: {folder} -->\n"
        pattern = re.compile(f"({re.escape(start)}).*?(<!-- end -->)", re.DOTALL)
        text, places = pattern.subn(lambda found, new=content: found[1] + new + found[2], text)
        if places != 1:
            raise ValueError(f"{start.strip()} must be there once, and end with <!-- end -->")
    return text


def documents(folders: Iterable[Path]) -> dict[Path, str]:
    """Each document that has such tables, as it should be."""
    found: dict[Path, str] = {}
    for folder in folders:
        settings = yaml.safe_load((folder / "documents.yaml").read_text(encoding="utf-8"))
        for name, tables in settings.items():
            path = ROOT / name
            text = found.get(path, path.read_text(encoding="utf-8"))
            if front := tables.pop("front_matter", None):
                text = headed(text, front_matter(folder, front))
            made = {key: table(folder, one) for key, one in tables.items()}
            found[path] = written(text, str(folder.relative_to(ROOT)), made)
    return found


def main() -> None:
    """Write all of them."""
    folders = sorted(path.parent for path in ROOT.glob("experiments/*/documents.yaml"))
    for path, text in documents(folders).items():
        write_text(path, text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
