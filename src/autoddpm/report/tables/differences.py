"""How much the rows of a table differ from one of them, over the same resamples of subjects."""

from collections.abc import Sequence
from dataclasses import replace

from autoddpm.metrics.statistics import Difference, Interval, holm
from autoddpm.report.rows.methods import Method
from autoddpm.report.rows.row import Row
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

SIGNIFICANT = 0.05
DIFFERENCES = "_differences"  # after the name of a table


def make_differences(
    table: Table, reference: Method, resamples: Resamples, number: int
) -> Table | None:
    """Each row of a table minus the row of `reference`, with paired intervals and p-values.

    Of several rows of `reference` it is the one without a variant, or the first. The columns are
    those with a better side (`best`). The p-values are corrected for all of the table's comparisons
    (Holm, 1979); bold if significant.
    number: of resamples.  None where there is nothing to compare.
    """
    named = {row.folder: row for row in table.rows}
    references = sorted(
        (named[row.folder] for row in reference.rows(table.rows)), key=lambda row: bool(row.variant)
    )
    columns = [column for column in table.columns if column.best]
    rows = [row for row in table.rows if row not in references[:1]]
    if not (references and rows and columns and number):
        return None
    notes: list[str] = []
    cells = [
        [_cell(row, references[0], column, resamples, notes) for column in columns] for row in rows
    ]
    family = [cell.p_value for line in cells for cell in line if cell.p_value is not None]
    corrected = iter(holm(family).tolist())
    cells = [
        [cell if cell.p_value is None else _with(cell, next(corrected)) for cell in line]
        for line in cells
    ]
    caption = (
        f"Each row minus {references[0].title}, over the same {number} resamples of subjects, with "
        "95 % intervals. "
        f"p: two-sided, corrected for the {len(family)} comparisons of this table (Holm). Bold: "
        f"below {SIGNIFICANT}."
    )
    return Table(
        f"{table.name}{DIFFERENCES}",
        f"{table.title}: differences",
        caption,
        [replace(column, best=None) for column in columns],
        rows,
        cells,
        notes,
        _remarks(references, len(family), number),
        table.warnings,
        measured="difference",
    )


def _cell(row: Row, reference: Row, column: Column, resamples: Resamples, notes: list[str]) -> Cell:
    ours, theirs = row.metrics.get(column.key), reference.metrics.get(column.key)
    if ours is None or theirs is None:
        note = note_of((row if ours is None else reference).undefined_because(column.key), notes)
        return Cell(None, UNDEFINED + superscript(note), note=note)
    value = round((ours - theirs) * column.scale, column.digits)
    shown, found = f"{value:+.{column.digits}f}", resamples.difference(row, reference, column.key)
    if isinstance(found, Difference):
        low, high = scaled(Interval(found.low, found.high, found.undefined), column)
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
            f"{SIGNIFICANT}: say "
            f"report.resamples={needed}."
        )
    return remarks
