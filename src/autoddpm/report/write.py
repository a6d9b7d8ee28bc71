"""Make the report of an experiment: read its rows, check that they may be compared, write tables,
figures and page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from autoddpm.atomic import write_bytes
from autoddpm.report.figures.examples import Example
from autoddpm.report.figures.pictures import choose_examples, draw_browser, draw_pictures
from autoddpm.report.page.html import page
from autoddpm.report.rows.methods import (
    Method,
    disagreements,
    noise_level,
    set_apart,
    without_copies,
)
from autoddpm.report.rows.row import Row, read_rows
from autoddpm.report.rows.seeds import pool_seeds
from autoddpm.report.tables.differences import DIFFERENCES, make_differences
from autoddpm.report.tables.formats import to_csv, to_latex, to_markdown
from autoddpm.report.tables.intervals import resample_rows
from autoddpm.report.tables.measured import to_measured
from autoddpm.report.tables.published import Published, read_published
from autoddpm.report.tables.table import Column, Table, chosen_rows, make_table

CACHE = "resamples"  # in the report's folder


@dataclass(frozen=True)
class Report:
    """What was written, and of what.  remarks: on rows that were left out or stand in no table."""

    page: Path
    tables: list[Table]
    remarks: list[str]
    rows: list[Row]
    examples: list[Example]


@dataclass(frozen=True)
class Definition:
    """A table of the settings, with the rows that stand in it."""

    name: str
    text: Mapping[str, Any]
    methods: list[Method]
    columns: list[Column]
    rows: list[Row]
    published: Published | None

    @property
    def is_shown(self) -> bool:
        """Whether its rows differ in what the table compares, if it says what that is."""
        compared = self.text.get("compares")
        return compared is None or len({repr(row.settings.get(compared)) for row in self.rows}) > 1


def write_report(
    runs: Path,
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    checkout: Path,
    console: Console | None = None,
) -> Report:
    """Write the report of the finished rows in `runs` to `folder`: a csv, a markdown and a LaTeX
    file a table, measured.csv with every value, PNGs, index.html; and what was resampled, for the
    next time.

    settings: as `report` in conf/report.yaml.  checkout: where the `expected` files of tables are
    found.  console: where to show progress. Raises, before anything is written, FileNotFoundError
    where there is no finished row or a file of the paper's numbers is not there, and ValueError
    where the settings cannot be meant, rows must not be compared (`allow_mixed`), or `slices` names
    a slice that is not there.
    """
    methods = _methods(settings)
    rows, remarks = read_rows(runs)
    rows, copies = without_copies(rows)
    rows, twins = set_apart(pool_seeds(rows, settings["pool_weights"]))
    remarks += copies + twins
    definitions = [one for one in _definitions(settings, methods, rows, checkout) if one.is_shown]
    _refuse_mixed(definitions, runs, settings["allow_mixed"])
    shown: list[Row] = []
    if figure4 := settings["figures"]["figure4"]:
        shown = [
            *methods[figure4["method"]].rows(rows),
            *reversed(methods[figure4["baselines"]].rows(rows)),
        ]
    examples, _, _ = choose_examples(shown, settings)
    in_tables = {row.folder: row for one in definitions for row in one.rows}
    others = {row.folder: row for row in rows if row.folder not in in_tables}
    if others:
        remarks.append(
            f"In no table: {', '.join(f'{row.title} ({row.folder})' for row in others.values())}."
        )

    number = settings["resamples"]
    resamples = resample_rows(rows, folder / CACHE, number, settings["seed"], console)
    tables, differences = [], settings["differences"]
    for one in definitions:
        caption = " ".join([one.text["caption"], *([noise_level(one.rows)] if one.rows else [])])
        table = make_table(
            one.name,
            one.text["title"],
            caption,
            one.methods,
            one.columns,
            rows,
            resamples,
            one.published,
        )
        compared = None
        if one.name in differences["tables"]:
            compared = make_differences(table, methods[differences["reference"]], resamples, number)
        tables += [table, *([compared] if compared else [])]
    pictures = draw_pictures(settings, methods, rows, resamples)
    browser, slices = draw_browser(settings, methods, rows)

    folder.mkdir(parents=True, exist_ok=True)
    _write_tables(tables, folder, settings["tables"])
    write_bytes(folder / "measured.csv", to_measured(rows, resamples).encode())
    for picture in pictures:
        if picture.light is None:  # an older picture would pass for one of these rows
            (folder / f"{picture.name}.png").unlink(missing_ok=True)
        else:
            write_bytes(folder / f"{picture.name}.png", picture.light)
    every = [*in_tables.values(), *others.values()]
    html = page(name, settings["note"], tables, [*pictures, *browser], remarks, every, slices)
    write_bytes(folder / "index.html", html.encode())
    return Report(folder / "index.html", tables, remarks, rows, examples)


def _write_tables(tables: Sequence[Table], folder: Path, known: Iterable[str]) -> None:
    formats = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
    for name in known:
        for stale, suffix in product(
            (name, f"{name}{DIFFERENCES}"), formats
        ):  # would pass for one of these rows
            (folder / f"{stale}.{suffix}").unlink(missing_ok=True)
    for table in tables:
        for suffix, written in formats.items():
            write_bytes(folder / f"{table.name}.{suffix}", written(table).encode())


def _methods(settings: Mapping[str, Any]) -> dict[str, Method]:
    methods = {}
    for key, value in settings["methods"].items():
        try:
            methods[key] = Method(**value)
        except TypeError as error:
            raise ValueError(
                f"report.methods.{key} has a key that is missing or not known: {error}"
            ) from error
    for group in ("tables", "figures"):
        for key, value in settings[group].items():
            named = [
                *(value or {}).get("rows", []),
                *(value[k] for k in ("baselines", "method") if k in (value or {})),
            ]
            _refuse_unknown(f"report.{group}.{key}", named, methods, "report.methods")
    _refuse_unknown(
        "report.differences.reference",
        [settings["differences"]["reference"]],
        methods,
        "report.methods",
    )
    _refuse_unknown(
        "report.differences.tables",
        settings["differences"]["tables"],
        settings["tables"],
        "report.tables",
    )
    return methods


def _refuse_unknown(where: str, named: Sequence[str], known: Mapping[str, Any], what: str) -> None:
    if unknown := [name for name in named if name not in known]:
        raise ValueError(f"{where} names {', '.join(unknown)}; {what} has {', '.join(known)}")


def _definitions(
    settings: Mapping[str, Any], methods: Mapping[str, Method], rows: Sequence[Row], checkout: Path
) -> list[Definition]:
    if settings["paper"] not in ("auto", True, False):
        raise ValueError(f"report.paper={settings['paper']}: must be auto, true or false")
    for key, least in (("resamples", 0), ("browser_slices", 0)):
        if not isinstance(settings[key], int) or settings[key] < least:
            raise ValueError(f"report.{key}={settings[key]}: must be a whole number from {least}")
    definitions = []
    for name, text in settings["tables"].items():
        if text is None:
            continue
        kinds = [methods[key] for key in text["rows"]]
        try:
            columns = [Column(**column) for column in text["columns"]]
        except TypeError as error:
            raise ValueError(
                f"report.tables.{name} has a key that is missing or not known: {error}"
            ) from error
        expected = text.get("expected") if settings["paper"] else None
        published = read_published(checkout / expected, settings["paper"]) if expected else None
        definitions.append(
            Definition(name, text, kinds, columns, chosen_rows(kinds, rows)[0], published)
        )
    return definitions


def _refuse_mixed(definitions: Sequence[Definition], runs: Path, allow_mixed: bool) -> None:
    mixed = {words: one.name for one in reversed(definitions) for words in disagreements(one.rows)}
    if mixed and not allow_mixed:
        said = [
            f"{name}: rows that should not be compared: {words}."
            for words, name in reversed(mixed.items())
        ]
        raise ValueError(
            f"{' '.join(said)} Move the folders that do not belong here out of {runs}, or say "
            "report.allow_mixed=true "
            "to see them side by side with a warning. Of one training with several seeds: "
            "report.pool_weights=true."
        )
