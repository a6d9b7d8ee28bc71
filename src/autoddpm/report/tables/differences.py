"""Differences of the rows of a table from one of them, over the same resamples of subjects."""

from collections.abc import Sequence
from dataclasses import replace

from autoddpm.metrics.statistics import Difference, Interval, holm
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.table import (
    UNDEFINED,
    Cell,
    Column,
    Table,
    note_of,
    scaled,
    superscript,
)
from autoddpm.runs.row import Row

SIGNIFICANT = 0.05
DIFFERENCES = "_differences"  # after the name of a table


def make_differences(
    table: Table, references: Sequence[Row], resamples: Resamples, number: int
) -> Table | None:
    """Each row of a table minus the first of `references`, with paired intervals and p-values.

    The columns are those with a better side (`best`). The p-values are corrected for all of the
    table's comparisons (Holm, 1979). A significant one is bold.

    references: rows of the table that are of the kind with which the others are compared.
    number: of resamples.

    Returns None if there is nothing to compare.
    """
    columns = [column for column in table.columns if column.best]
    rows = [row for row in table.rows if row not in references[:1]]
    if not (references and rows and columns and number):
        return None
    notes: list[str] = []
    cells = [
        [_cell(row, references[0], column, resamples, notes) for column in columns] for row in rows
    ]
    comparisons, cells = _corrected(cells)
    caption = (
        f"Each row minus {references[0].title}, over the same {number} resamples of subjects, with "
        f"95 % intervals. p: two-sided, corrected for the {comparisons} comparisons of this table "
        f"(Holm). Bold: below {SIGNIFICANT}."
    )
    return Table(
        f"{table.name}{DIFFERENCES}",
        f"{table.title}: differences",
        caption,
        [replace(column, best=None) for column in columns],
        rows,
        cells,
        notes,
        _remarks(references, comparisons, number),
        table.warnings,
        measured="difference",
    )


def _corrected(cells: list[list[Cell]]) -> tuple[int, list[list[Cell]]]:
    """The number of comparisons, and the cells with their p-values corrected for it."""
    family = [cell.p_value for line in cells for cell in line if cell.p_value is not None]
    values = iter(holm(family).tolist())
    return len(family), [
        [cell if cell.p_value is None else _with(cell, next(values)) for cell in line]
        for line in cells
    ]


def _cell(row: Row, reference: Row, column: Column, resamples: Resamples, notes: list[str]) -> Cell:
    ours, theirs = row.metrics.get(column.key), reference.metrics.get(column.key)
    if ours is None or theirs is None:
        note = note_of((row if ours is None else reference).undefined_because(column.key), notes)
        return Cell(None, UNDEFINED + superscript(note), note=note)
    value = round((ours - theirs) * column.scale, column.digits)
    shown, found = f"{value:+.{column.digits}f}", resamples.difference(row, reference, column.key)
    if isinstance(found, Difference):
        low, high = scaled(Interval(found.low, found.high), column)
        return Cell(value, shown, low=low, high=high, p_value=found.p_value)
    note = note_of(
        f"no interval: {found or resamples.problem(row) or resamples.problem(reference)}", notes
    )
    return Cell(value, shown + superscript(note), note=note)


def _with(cell: Cell, p_value: float) -> Cell:
    return replace(cell, p_value=p_value, best=p_value < SIGNIFICANT)


def _remarks(references: Sequence[Row], comparisons: int, number: int) -> list[str]:
    remarks = []
    if len(references) > 1:
        others = ", ".join(row.title for row in references[1:])
        remarks.append(
            f"Compared with {references[0].title}, the first of its kind; the others are {others}."
        )
    needed = int(2 * comparisons / SIGNIFICANT)
    if number < needed:
        remarks.append(
            f"With {number} resamples no p of {comparisons} comparisons can be below "
            f"{SIGNIFICANT}: say report.resamples={needed}."
        )
    return remarks
