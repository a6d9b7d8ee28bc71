"""Tables of a report: `table.yaml` in a folder of experiments/, beside the paper's numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from autoddpm.report.tables.table import Column

FILE, EXPECTED = "table.yaml", "expected.csv"


@dataclass(frozen=True)
class Definition:
    """A table as its `table.yaml` says it.

    rows: kinds of rows, of `report.methods`.
    compares: a setting. The table is left out if all rows have the same. None: always shown.
    differences: whether a second table compares the rows with `report.differences.reference`.
    expected: file of the paper's numbers, None without one.
    """

    title: str
    caption: str
    rows: Sequence[str]
    columns: Sequence[Column]
    compares: str | None = None
    differences: bool = False
    expected: str | None = None


def register_tables(experiments: Path) -> None:
    """Make the tables of `experiments` the value of `report.tables`, as conf/report.yaml asks.

    Each can be changed on the command line: `report.tables.NAME=null`.
    """
    node = {"report": {"tables": read_tables(experiments)}}
    ConfigStore.instance().store(name="report_tables", node=node)


def read_tables(experiments: Path) -> dict[str, dict[str, Any]]:
    """The tables of all folders by name, sorted by their `place` on the page and then by name.

    Raises ValueError, naming the file, if one is not a mapping or two tables have one name.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(experiments.glob(f"*/{FILE}")):
        try:
            tables = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not readable as YAML ({error})") from error
        if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
            raise ValueError(f"{path} must hold tables by name, each with rows and columns")
        if twice := found.keys() & tables.keys():
            raise ValueError(f"{path}: another folder has a table {', '.join(sorted(twice))}")
        expected = path.with_name(EXPECTED)
        numbers = {"expected": str(expected)} if expected.is_file() else {}
        found |= {name: numbers | table for name, table in tables.items()}
    order = sorted(found, key=lambda name: (found[name].pop("place", float("inf")), name))
    return {name: found[name] for name in order}


def definitions(tables: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Definition]:
    """The tables of the settings that are not null.

    Raises ValueError if one lacks a key or has one that is not known.
    """
    found = {}
    for name, table in tables.items():
        if table is None:
            continue
        try:
            columns = [Column(**column) for column in table["columns"]]
            found[name] = Definition(**{**table, "columns": columns})
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"report.tables.{name} has a key that is missing or not known: {error}"
            ) from error
    return found
