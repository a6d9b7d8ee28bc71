"""Make the report of an experiment: read its rows, check that they may be compared, write tables, figures and page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoddpm.atomic import write_bytes
from autoddpm.report.html import page
from autoddpm.report.measured import to_measured
from autoddpm.report.methods import Method, set_apart
from autoddpm.report.pictures import draw_pictures
from autoddpm.report.rows import read_rows
from autoddpm.report.table import Column, Table, make_table, to_csv, to_markdown


@dataclass(frozen=True)
class Report:
    """What was written.  remarks: on rows that were left out or stand in no table."""

    page: Path
    tables: list[Table]
    remarks: list[str]


def write_report(runs: Path, folder: Path, name: str, settings: Mapping[str, Any]) -> Report:
    """Write the report of the finished rows in `runs` to `folder`: a csv and a markdown file a table, measured.csv with
    every value, PNGs, index.html.

    settings: as `report` in conf/report.yaml. Raises, before anything is written, FileNotFoundError where there is no
    finished row, and ValueError where the settings cannot be meant, rows must not be compared (`allow_mixed`), or
    `slices` names a slice that is not there.
    """
    methods, columns = _definitions(settings)
    rows, remarks = read_rows(runs)
    rows, twins = set_apart(rows)
    remarks += twins
    tables = [
        make_table(key, t["title"], t["caption"], [methods[m] for m in t["rows"]], columns[key], rows)
        for key, t in settings["tables"].items()
    ]
    _refuse_mixed(tables, runs, settings["allow_mixed"])
    in_tables = {row.folder: row for table in tables for row in table.rows}
    others = {row.folder: row for row in rows if row.folder not in in_tables}
    if others:
        remarks.append(f"In no table: {', '.join(f'{row.title} ({row.folder})' for row in others.values())}.")
    pictures = draw_pictures(settings, methods, rows)

    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        write_bytes(folder / f"{table.name}.csv", to_csv(table).encode())
        write_bytes(folder / f"{table.name}.md", to_markdown(table).encode())
    write_bytes(folder / "measured.csv", to_measured(rows).encode())
    for picture in pictures:
        if picture.light is None:  # an older picture would pass for one of these rows
            (folder / f"{picture.name}.png").unlink(missing_ok=True)
        else:
            write_bytes(folder / f"{picture.name}.png", picture.light)
    html = page(name, settings["note"], tables, pictures, remarks, [*in_tables.values(), *others.values()])
    write_bytes(folder / "index.html", html.encode())
    return Report(folder / "index.html", tables, remarks)


def _definitions(settings: Mapping[str, Any]) -> tuple[dict[str, Method], dict[str, list[Column]]]:
    methods, columns = {}, {}
    try:
        for key, value in settings["methods"].items():
            where = f"report.methods.{key}"
            methods[key] = Method(**value)
        for group in ("tables", "figures"):
            for key, value in settings[group].items():
                where = f"report.{group}.{key}"
                columns[key] = [Column(**column) for column in value.get("columns", [])]
                named = [*value.get("rows", []), *(value[k] for k in ("baselines", "method") if k in value)]
                if unknown := [m for m in named if m not in methods]:
                    raise ValueError(f"{where} names {', '.join(unknown)}; report.methods has {', '.join(methods)}")
    except TypeError as error:
        raise ValueError(f"{where} has a key that is missing or not known: {error}") from error
    return methods, columns


def _refuse_mixed(tables: Sequence[Table], runs: Path, allow_mixed: bool) -> None:
    mixed = {warning: table.name for table in reversed(tables) for warning in table.warnings}
    if mixed and not allow_mixed:
        words = " ".join(f"{table}: {warning}" for warning, table in reversed(mixed.items()))
        raise ValueError(
            f"{words} Move the folders that do not belong here out of {runs}, or say report.allow_mixed=true to see "
            "them side by side with a warning."
        )
