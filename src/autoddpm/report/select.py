"""Choice of the rows of each table and figure: made once, before anything is read or drawn."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from autoddpm.report.figures.examples import Choice, choose_examples
from autoddpm.report.figures.figure import FigureRows, Kind
from autoddpm.report.page.browser_data import choose_slices
from autoddpm.report.rows.methods import (
    Method,
    disagreements,
    named_among,
    noise_level,
    set_apart,
    without_copies,
)
from autoddpm.report.rows.seeds import pool_seeds, seed_of
from autoddpm.report.tables.definition import Definition, definitions
from autoddpm.report.tables.published import read_published
from autoddpm.report.tables.table import Column, TableRows
from autoddpm.runs.row import Row, read_rows


@dataclass(frozen=True)
class Selection:
    """Rows, tables and figures of a report.

    rows: every row, seeds pooled, named by what sets it apart.
    tables: in the order of the page.
    figures: by name. The slice browser is one of them.
    examples: slices of Figures 4 and 5.
    browsed: slices of the browser.
    remarks: on rows that are left out or stand in no table.
    """

    rows: Sequence[Row]
    tables: Sequence[TableRows]
    figures: Mapping[str, FigureRows]
    examples: Choice
    browsed: Choice
    remarks: Sequence[str]

    @property
    def in_tables(self) -> list[Row]:
        """The rows that stand in a table, each once."""
        return _once(row for table in self.tables for row in table.rows)

    @property
    def in_no_table(self) -> list[Row]:
        """The other rows."""
        shown = {row.folder for row in self.in_tables}
        return [row for row in self.rows if row.folder not in shown]

    @property
    def browser_rows(self) -> Sequence[Row]:
        """The rows of the slice browser."""
        return self.figures["browser"].rows if "browser" in self.figures else []

    @property
    def with_pictures(self) -> list[Row]:
        """The rows of which a figure shows slices, each once."""
        names = ("browser", "figure4", "figure5")
        return _once(row for n in names if n in self.figures for row in self.figures[n].rows)


def select(runs: Path, settings: Mapping[str, Any]) -> Selection:
    """Read the finished rows in `runs` and decide where each one stands.

    settings: as `report` in conf/report.yaml.

    Raises FileNotFoundError if there is no finished row or a file of the paper's numbers is
    missing. Raises ValueError if the settings cannot be meant, if rows must not be compared
    (`allow_mixed`), or if `slices` names an unknown slice.
    """
    _check_settings(settings)
    methods = _methods(settings)
    tables = definitions(settings["tables"])
    _check_names(settings, tables, methods)
    rows, remarks = read_rows(runs)
    rows, copies = without_copies(rows)
    rows, twins = set_apart(pool_seeds(rows, settings["pool_weights"]))
    found = list(_tables(tables, methods, rows, settings))
    _refuse_mixed(found, runs, settings["allow_mixed"])
    figures = _figures(settings, methods, rows)
    browser = figures["browser"].rows if "browser" in figures else []
    selection = Selection(
        rows,
        found,
        figures,
        _examples(figures, settings),
        choose_slices(browser, settings["browser_slices"]),
        [*remarks, *copies, *twins],
    )
    if others := selection.in_no_table:
        said = f"In no table: {', '.join(f'{row.title} ({row.folder})' for row in others)}."
        return replace(selection, remarks=[*selection.remarks, said])
    return selection


def select_rows(methods: Iterable[Method], rows: Sequence[Row]) -> Kind:
    """The rows of `methods`, each once, in their order, named by what differs among them."""
    methods = list(methods)
    found = _once(row for method in methods for row in method.rows(rows))
    missing = [name for method in methods for name in method.missing(rows)]
    return Kind(named_among(found), missing)


def references(method: Method, rows: Sequence[Row]) -> list[Row]:
    """The rows of a method among a table's. Those without a variant first."""
    named = {row.folder: row for row in rows}
    return sorted(
        (named[row.folder] for row in method.rows(rows)), key=lambda row: bool(row.variant)
    )


def _once(rows: Iterable[Row]) -> list[Row]:
    """The rows without repetition, each at its first place, as it is named last."""
    return list({row.folder: row for row in rows}.values())


def _check_settings(settings: Mapping[str, Any]) -> None:
    if settings["paper"] not in ("auto", True, False):
        raise ValueError(f"report.paper={settings['paper']}: must be auto, true or false")
    for key, least in (("resamples", 0), ("browser_slices", 0), ("processes", 1)):
        if not isinstance(settings[key], int) or settings[key] < least:
            raise ValueError(f"report.{key}={settings[key]}: must be a whole number from {least}")


def _methods(settings: Mapping[str, Any]) -> dict[str, Method]:
    methods = {}
    for key, value in settings["methods"].items():
        try:
            methods[key] = Method(**value)
        except TypeError as error:
            raise ValueError(
                f"report.methods.{key} has a key that is missing or not known: {error}"
            ) from error
    return methods


def _check_names(
    settings: Mapping[str, Any], tables: Mapping[str, Definition], methods: Mapping[str, Method]
) -> None:
    """Refuse a kind of row that is named somewhere and is not among the methods."""
    named = {f"report.tables.{name}": table.rows for name, table in tables.items()}
    for name, figure in settings["figures"].items():
        named[f"report.figures.{name}"] = list(_kinds(figure or {}).values())
    named["report.differences.reference"] = [settings["differences"]["reference"]]
    for place, names in named.items():
        if unknown := [name for name in names if name not in methods]:
            known = ", ".join(methods)
            raise ValueError(f"{place} names {', '.join(unknown)}; report.methods has {known}")


def _kinds(figure: Mapping[str, Any]) -> dict[str, str]:
    """The methods of a figure, by the part that they play in it."""
    roles = {role: figure[role] for role in ("baselines", "method") if role in figure}
    return roles | {name: name for name in figure.get("rows", [])}


def _tables(
    tables: Mapping[str, Definition],
    methods: Mapping[str, Method],
    rows: Sequence[Row],
    settings: Mapping[str, Any],
) -> Iterator[TableRows]:
    """The tables with their rows, but for those whose rows have nothing that they compare."""
    reference = methods[settings["differences"]["reference"]]
    for name, table in tables.items():
        chosen, paper = select_rows([methods[key] for key in table.rows], rows), settings["paper"]
        expected = Path(table.expected) if table.expected and paper else None
        compared = {repr(row.settings.get(table.compares or "")) for row in chosen.rows}
        published = read_published(expected, paper) if expected else None
        if table.compares and len(compared) < 2:
            continue
        level = [noise_level(chosen.rows)] if chosen.rows else []
        yield TableRows(
            name,
            table.title,
            " ".join([table.caption, *level]),
            table.columns,
            chosen.rows,
            chosen.missing,
            published,
            references(reference, chosen.rows) if table.differences else [],
        )


def _refuse_mixed(tables: Sequence[TableRows], runs: Path, allow_mixed: bool) -> None:
    mixed: dict[str, str] = {}
    for table in tables:
        for words in disagreements(table.rows):
            mixed.setdefault(words, table.name)
    if mixed and not allow_mixed:
        said = [
            f"{name}: rows that should not be compared: {words}." for words, name in mixed.items()
        ]
        raise ValueError(
            f"{' '.join(said)} Move the folders that do not belong here out of {runs}, or say "
            "report.allow_mixed=true to see them side by side with a warning. Of one training with "
            "several seeds: report.pool_weights=true."
        )


def _figures(
    settings: Mapping[str, Any], methods: Mapping[str, Method], rows: Sequence[Row]
) -> dict[str, FigureRows]:
    """The figures that are not null, each with its kinds of rows."""
    found = {}
    for name, figure in settings["figures"].items():
        if figure is None or (name == "browser" and not settings["browser_slices"]):
            continue
        kinds = {
            role: Kind(methods[key].rows(rows), methods[key].missing(rows), methods[key].order)
            for role, key in _kinds(figure).items()
        }
        if name == "browser":
            chosen = select_rows([methods[key] for key in figure["rows"]], rows)
            kinds = {"rows": Kind([_first_seed(row) for row in chosen.rows])}
        columns = [Column(**column) for column in figure.get("columns", [])]
        found[name] = FigureRows(figure["title"], figure["caption"], kinds, columns)
    return found


def _first_seed(row: Row) -> Row:
    """The first of the seeds of which a row is the mean, or the row itself."""
    first = row.runs[0]
    seed = seed_of(first, row.members) if row.members else ""
    return replace(first, variant=", ".join(filter(None, [row.variant, seed])))


def _examples(figures: Mapping[str, FigureRows], settings: Mapping[str, Any]) -> Choice:
    """The slices of Figures 4 and 5: chosen by AutoDDPM, else by the highest noise level."""
    kinds = [figures[name].kinds for name in ("figure4", "figure5") if name in figures]
    ours = chain.from_iterable(one["method"].rows for one in kinds)
    levels = chain.from_iterable(
        reversed(one["baselines"].rows) for one in kinds if "baselines" in one
    )
    how = settings["examples"]
    return choose_examples(_once([*ours, *levels]), how["groups"], how["by"], settings["slices"])
