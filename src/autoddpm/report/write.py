"""Make the report of an experiment: select rows, read them once, draw tables, figures and page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from autoddpm.atomic import write_bytes
from autoddpm.locks import alone
from autoddpm.report.figures.curve import Curve, curves
from autoddpm.report.figures.examples import Examples
from autoddpm.report.page.browser_data import browser_data
from autoddpm.report.read import Pictures, read_pictures
from autoddpm.report.select import Selection, select
from autoddpm.report.tables.differences import DIFFERENCES, make_differences
from autoddpm.report.tables.formats import to_csv, to_latex, to_markdown
from autoddpm.report.tables.intervals import Resamples, bootstrap_rows
from autoddpm.report.tables.long_form import to_long_form
from autoddpm.report.tables.table import Table, make_table
from autoddpm.runs.row import Row

CACHE = "resamples"  # in the report's folder
FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


@dataclass(frozen=True)
class Report:
    """A report that was written, and its rows.

    page: path of the HTML page. None if none was wanted.
    remarks: on rows that were left out or stand in no table.
    curves: against the noise level, by figure.
    """

    folder: Path
    page: Path | None
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
    with alone(folder, beside=True):
        return _write(selection, folder, name, settings, console)


def _write(
    selection: Selection,
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    console: Console | None,
) -> Report:
    """Write the report of what was selected."""
    number, seed = settings["resamples"], settings["seed"]
    resamples = bootstrap_rows(
        selection.rows, folder / CACHE, number, seed, console, settings["processes"]
    )
    tables = _tables(selection, resamples, number)
    lines = {key: curves(one, resamples) for key, one in selection.figures.items() if one.columns}
    pictures, files = Pictures(Examples(), [], [], []), _no_page(settings["figures"])
    if settings["page"]:
        tracked = [run for row in selection.rows for run in row.runs] if settings["wandb"] else []
        pictures = read_pictures(selection, tracked)
        files = _page(name, settings["note"], selection, resamples, tables, lines, pictures)

    folder.mkdir(parents=True, exist_ok=True)
    _write_tables(tables, folder, settings["tables"])
    write_bytes(folder / "measured.csv", to_long_form(selection.rows, resamples).encode())
    for file, content in files.items():
        if content is None:  # an older one would pass for one of these rows
            (folder / file).unlink(missing_ok=True)
        else:
            write_bytes(folder / file, content)
    written = folder / "index.html" if settings["page"] else None
    return Report(
        folder, written, tables, selection.remarks, selection.rows, lines, pictures.examples
    )


def _no_page(figures: Iterable[str]) -> dict[str, bytes | None]:
    return {"index.html": None, **{f"{name}.png": None for name in figures}}


def _page(
    name: str,
    note: str | None,
    selection: Selection,
    resamples: Resamples,
    tables: Sequence[Table],
    lines: Mapping[str, Sequence[Curve]],
    pictures: Pictures,
) -> dict[str, bytes | None]:
    """The page and each picture, by file. None for a picture that these rows do not have."""
    from autoddpm.report.figures.draw import draw_figures  # late: with Bokeh, only for a page
    from autoddpm.report.page.browser import draw_browser
    from autoddpm.report.page.html import page

    figures = draw_figures(
        selection.figures, lines, resamples, selection.examples, pictures.examples
    )
    slices = browser_data(pictures.browsed, pictures.rows)
    if browser := selection.figures.get("browser"):
        remarks = [*selection.browsed.remarks, *pictures.remarks]
        figures.append(draw_browser(browser, slices, remarks))
    shown = [*selection.in_tables, *selection.in_no_table]
    html = page(name, note, tables, figures, selection.remarks, shown, slices)
    return {f"{one.name}.png": one.light for one in figures} | {"index.html": html.encode()}


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
