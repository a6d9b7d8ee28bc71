"""A table: rows of chosen methods, columns of chosen metrics.

Each number has its interval and the paper's number beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from autoddpm.metrics.statistics import Interval
from autoddpm.report.rows.methods import disagreements
from autoddpm.report.rows.seeds import seed_of
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.published import Published, other_data
from autoddpm.runs.row import Row

UNDEFINED = "–"
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Column:
    """A metric as a column.

    key: of metrics.json.
    scale: 100 for percent.
    digits: shown behind the point.
    best: "max", "min" or None, which value is set in bold.
    """

    title: str
    key: str
    scale: float = 1.0
    digits: int = 2
    best: str | None = None

    @property
    def heading(self) -> str:
        return self.title + {"max": " ↑", "min": " ↓"}.get(self.best or "", "")


@dataclass(frozen=True)
class Cell:
    """A number of a table.

    value: scaled and rounded as shown, None if undefined.
    text: the value in words, with the number of its note.
    best: whether it is set in bold.
    note: number of the table's note that says why there is no value or no interval.
    low, high: bounds of the 95 % interval, scaled and rounded, None without one.
    spread: standard deviation over seeds, None for one seed.
    p_value: of a difference, corrected for the table's number of comparisons.
    paper: the paper's number, None if it has none.
    paper_text: the same as printed.
    paper_best: whether it is the best that the paper has.
    """

    value: float | None
    text: str
    best: bool = False
    note: int | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    p_value: float | None = None
    paper: float | None = None
    paper_text: str = ""
    paper_best: bool = False


@dataclass(frozen=True)
class TableRows:
    """Rows and columns of a table, before any number is read.

    name: of its files.
    missing: rows that are expected and not there, in words.
    references: rows of which the first is what the others are compared with, in a table of
        differences; empty if there is none.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    missing: Sequence[str] = ()
    published: Published | None = None
    references: Sequence[Row] = ()


@dataclass(frozen=True)
class Table:
    """A table with its numbers.

    cells: cells[i][j] belongs to rows[i] and columns[j].
    notes: notes[n - 1] is note n.
    warnings: shown loudly.
    paper: heading of the paper's columns, None if the table has none.
    measured: what our numbers are.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    cells: Sequence[Sequence[Cell]]
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    paper: str | None = None
    measured: str = "ours"

    @property
    def footnotes(self) -> list[str]:
        """Warnings, numbered notes and remarks, in words."""
        numbered = [f"{superscript(n)} {note}" for n, note in enumerate(self.notes, start=1)]
        return [f"WARNING: {warning}" for warning in self.warnings] + numbered + self.remarks

    @property
    def with_paper(self) -> list[bool]:
        """For each column, whether the paper has a number in it."""
        return [
            any(cells[n].paper is not None for cells in self.cells)
            for n in range(len(self.columns))
        ]

    @property
    def ours(self) -> list[str]:
        """For each column, what stands in it beside the paper's number: "ours [95 % CI]"."""
        headings = []
        for n in range(len(self.columns)):
            cells = [line[n] for line in self.cells]
            parts = {
                "± sd": any(cell.spread is not None for cell in cells),
                "[95 % CI]": any(cell.low is not None for cell in cells),
                "p": any(cell.p_value is not None for cell in cells),
            }
            headings.append(
                " ".join([self.measured, *(part for part, is_there in parts.items() if is_there)])
            )
        return headings

    @property
    def is_split(self) -> bool:
        """Whether a second line of headings says which numbers are the paper's, or what stands
        beside ours."""
        return any(self.with_paper) or any(heading != self.measured for heading in self.ours)


def make_table(chosen: TableRows, resamples: Resamples) -> Table:
    """Fill a table with numbers. What is expected and missing becomes a remark."""
    notes: list[str] = []
    columns = [_cells(chosen, column, resamples, notes) for column in chosen.columns]
    table = Table(
        chosen.name,
        chosen.title,
        chosen.caption,
        chosen.columns,
        chosen.rows,
        [[column[i] for column in columns] for i in range(len(chosen.rows))],
        notes,
        warnings=[f"rows that should not be compared: {w}." for w in disagreements(chosen.rows)],
        paper=chosen.published.heading if chosen.published else None,
    )
    table.remarks.extend(_remarks(table, chosen.missing, resamples))
    return table


def _cells(chosen: TableRows, column: Column, resamples: Resamples, notes: list[str]) -> list[Cell]:
    """The cells of a column, with the paper's numbers. An upper bound is not the best method."""
    cells = [_measured(row, column, resamples, notes) for row in chosen.rows]
    competing = [
        None if row.sees_lesion else cell.value
        for row, cell in zip(chosen.rows, cells, strict=True)
    ]
    defined = [value for value in competing if value is not None]
    choose = {None: None, "max": max, "min": min}[column.best]
    best = choose(defined) if choose and len(defined) > 1 else None
    cells = [
        replace(cell, best=value is not None and value == best)
        for cell, value in zip(cells, competing, strict=True)
    ]
    if not (published := chosen.published):
        return cells
    printed = [published.of(row, column.key) for row in chosen.rows]
    return [
        replace(
            cell,
            paper=float(text),
            paper_text=text,
            paper_best=published.is_best(text, column.key, column.best),
        )
        if text
        else cell
        for cell, text in zip(cells, printed, strict=True)
    ]


def _measured(row: Row, column: Column, resamples: Resamples, notes: list[str]) -> Cell:
    """A row's value with its interval, or the number of the note that says why it has none."""
    measured, found = row.metrics.get(column.key), resamples.interval(row, column.key)
    value = None if measured is None else round(measured * column.scale, column.digits)
    note = None
    if value is None:
        note = note_of(row.undefined_because(column.key), notes)
    elif isinstance(found, str):
        note = note_of(f"no interval: {found}", notes)
    shown = UNDEFINED if value is None else f"{value:.{column.digits}f}"
    low, high = scaled(found, column) if isinstance(found, Interval) else (None, None)
    spread = row.spread.get(column.key)
    return Cell(
        value,
        shown + (superscript(note) if note else ""),
        note=note,
        low=low,
        high=high,
        spread=None if spread is None else round(spread * column.scale, column.digits),
    )


def scaled(bounds: Interval, column: Column) -> tuple[float, float]:
    """The bounds as the column shows its values."""
    low, high = (round(bound * column.scale, column.digits) for bound in bounds)
    return low, high


def note_of(reason: str, notes: list[str]) -> int:
    """The number of a note, which is added to `notes` if it is not among them."""
    if reason not in notes:
        notes.append(reason)
    return notes.index(reason) + 1


def _remarks(table: Table, missing: Sequence[str], resamples: Resamples) -> list[str]:
    remarks = [f"Not evaluated yet: {', '.join(missing)}."] if missing else []
    if any(table.with_paper) and table.paper != "paper":
        remarks += [words for words in [other_data(table.rows)] if words]
    seeds = [
        f"{row.title}: {'; '.join(seed_of(one, row.members) for one in row.members)}"
        for row in table.rows
        if row.members
    ]
    if seeds:
        remarks.append(f"Means over seeds ± their standard deviation. {'. '.join(seeds)}.")
    problems = {row.title: problem for row in table.rows if (problem := resamples.problem(row))}
    return remarks + [f"No interval for {title}: {problem}." for title, problem in problems.items()]


def superscript(number: int) -> str:
    """12 -> "¹²"."""
    return str(number).translate(SUPERSCRIPT)
