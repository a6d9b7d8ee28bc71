"""Make the report of an experiment: select rows, read them once, draw tables, figures and page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from autoddpm.atomic import write_bytes
from autoddpm.report.figures.curve import Curve, curves
from autoddpm.report.figures.draw import draw_figures
from autoddpm.report.figures.examples import Examples
from autoddpm.report.figures.figure import ReportFigure
from autoddpm.report.page.browser import draw_browser
from autoddpm.report.page.browser_data import browser_data
from autoddpm.report.page.html import page
from autoddpm.report.read import read_pictures
from autoddpm.report.select import Selection, select
from autoddpm.report.tables.differences import DIFFERENCES, make_differences
from autoddpm.report.tables.formats import to_csv, to_latex, to_markdown
from autoddpm.report.tables.intervals import Resamples, resample_rows
from autoddpm.report.tables.long_form import to_long_form
from autoddpm.report.tables.table import Table, make_table
from autoddpm.runs.row import Row

CACHE = "resamples"  # in the report's folder
FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


@dataclass(frozen=True)
class Report:
    """What was written, and of what.

    page: path of the HTML page.
    remarks: on rows that were left out or stand in no table.
    curves: against the noise level, by figure.
    """

    page: Path
    tables: Sequence[Table]
    remarks: Sequence[str]
    rows: Sequence[Row]
    curves: Mapping[str, Sequence[Curve]]
    examples: Examples


def write_report(
    runs: Path,
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    console: Console | None = None,
) -> Report:
    """Write the report of the finished rows in `runs` to `folder`.

    Written are a csv, a markdown and a LaTeX file per table, measured.csv with every value, PNGs,
    and index.html. What was resampled is kept for the next time.

    settings: as `report` in conf/report.yaml.
    console: shows progress.

    Raises as `select` does, before anything is written.
    """
    selection = select(runs, settings)
    resamples = resample_rows(
        selection.rows, folder / CACHE, settings["resamples"], settings["seed"], console
    )
    tracked = [run for row in selection.rows for run in row.runs] if settings["wandb"] else []
    pictures = read_pictures(selection, tracked)
    tables = _tables(selection, resamples, settings["resamples"])
    lines = {key: curves(one, resamples) for key, one in selection.figures.items() if one.columns}
    figures = draw_figures(
        selection.figures, lines, resamples, selection.examples, pictures.examples
    )
    slices = browser_data(pictures.browsed, pictures.rows)
    if browser := selection.figures.get("browser"):
        remarks = [*selection.browsed.remarks, *pictures.remarks]
        figures.append(draw_browser(browser, slices, remarks))

    folder.mkdir(parents=True, exist_ok=True)
    _write_tables(tables, folder, settings["tables"])
    write_bytes(folder / "measured.csv", to_long_form(selection.rows, resamples).encode())
    _write_pngs(figures, folder)
    shown = [*selection.in_tables, *selection.in_no_table]
    html = page(name, settings["note"], tables, figures, selection.remarks, shown, slices)
    write_bytes(folder / "index.html", html.encode())
    return Report(
        folder / "index.html", tables, selection.remarks, selection.rows, lines, pictures.examples
    )


def _tables(selection: Selection, resamples: Resamples, number: int) -> list[Table]:
    """Each table, followed by that of its differences if it has one."""
    tables = []
    for chosen in selection.tables:
        tables.append(make_table(chosen, resamples))
        compared = make_differences(tables[-1], chosen.references, resamples, number)
        tables += [compared] if compared else []
    return tables


def _write_tables(tables: Sequence[Table], folder: Path, known: Iterable[str]) -> None:
    for name in known:  # what an earlier report left would pass for one of these rows
        for stale, suffix in product((name, f"{name}{DIFFERENCES}"), FORMATS):
            (folder / f"{stale}.{suffix}").unlink(missing_ok=True)
    for table in tables:
        for suffix, written in FORMATS.items():
            write_bytes(folder / f"{table.name}.{suffix}", written(table).encode())


def _write_pngs(figures: Sequence[ReportFigure], folder: Path) -> None:
    for figure in figures:
        path = folder / f"{figure.name}.png"
        if figure.light is None:  # an older picture would pass for one of these rows
            path.unlink(missing_ok=True)
        else:
            write_bytes(path, figure.light)
