"""A table: rows of chosen methods, columns of chosen metrics; as csv, markdown and on the terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from autoddpm.report.methods import Method, disagreements
from autoddpm.report.rows import Row

UNDEFINED = "–"
METHOD_WIDTH = 15
TRACE = ("data_hash", "weights_hash", "commit", "seed", "device", "date")
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Column:
    """key: of metrics.json.  scale: 100 for percent.  best: "max", "min" or None: which value is set in bold."""

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
    """value: scaled and rounded as shown, None where undefined.  note: number of the table's note that says why."""

    value: float | None
    text: str
    best: bool = False
    note: int | None = None


@dataclass(frozen=True)
class Table:
    """cells[i][j] belongs to rows[i] and columns[j]; notes[n - 1] is note n; warnings are to be shown loudly."""

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    cells: Sequence[Sequence[Cell]]
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def footnotes(self) -> list[str]:
        """Warnings, numbered notes and remarks, in words."""
        numbered = [f"{superscript(n)} {note}" for n, note in enumerate(self.notes, start=1)]
        return [f"WARNING: {warning}" for warning in self.warnings] + numbered + self.remarks


def make_table(
    name: str, title: str, caption: str, methods: Iterable[Method], columns: Sequence[Column], rows: Sequence[Row]
) -> Table:
    """Fill a table with the rows of `methods`, in their order. What is expected and missing becomes a remark."""
    chosen: dict[str, Row] = {}
    missing: list[str] = []
    for method in methods:
        chosen |= {str(row.folder): row for row in method.rows(rows)}
        missing += method.missing(rows)
    found = list(chosen.values())
    notes: list[str] = []
    by_column = [_cells(column, found, notes) for column in columns]
    cells = [[column[i] for column in by_column] for i in range(len(found))]
    remarks = [f"Not evaluated yet: {', '.join(missing)}."] if missing else []
    warnings = [f"rows that should not be compared: {words}." for words in disagreements(found)]
    return Table(name, title, caption, columns, found, cells, notes, remarks, warnings)


def _cells(column: Column, rows: Sequence[Row], notes: list[str]) -> list[Cell]:
    raw = [row.metrics.get(column.key) for row in rows]
    values = [None if value is None else round(value * column.scale, column.digits) for value in raw]
    defined = [value for value in values if value is not None]
    best = {"max": max, "min": min}[column.best](defined) if column.best and len(defined) > 1 else None
    cells = []
    for row, value in zip(rows, values, strict=True):
        if value is not None:
            cells.append(Cell(value, f"{value:.{column.digits}f}", best=value == best))
            continue
        reason = row.undefined.get(column.key, f"metrics.json has no {column.key}")
        if reason not in notes:
            notes.append(reason)
        note = notes.index(reason) + 1
        cells.append(Cell(None, UNDEFINED + superscript(note), note=note))
    return cells


def superscript(number: int) -> str:
    """12 -> "¹²"."""
    return str(number).translate(SUPERSCRIPT)


def to_csv(table: Table) -> str:
    """The table as data: numbers without marks, an empty field where undefined (`remarks` says why), and what each row
    can be traced by."""
    lines = []
    for row, cells in zip(table.rows, table.cells, strict=True):
        pairs = list(zip(table.columns, cells, strict=True))
        line: dict[str, object] = {"Method": row.title}
        line |= {
            column.title: "" if cell.value is None else f"{cell.value:.{column.digits}f}" for column, cell in pairs
        }
        line["remarks"] = "; ".join(f"{c.title}: {table.notes[cell.note - 1]}" for c, cell in pairs if cell.note)
        line["folder"] = str(row.folder)
        lines.append(line | {key: row.provenance.get(key, "") for key in TRACE})
    header = ["Method", *(column.title for column in table.columns), "remarks", "folder", *TRACE]
    return pd.DataFrame(lines, columns=header).to_csv(index=False)


def to_markdown(table: Table) -> str:
    """The table with its title, caption and footnotes, best values bold."""
    header = ["Method", *(column.heading for column in table.columns)]
    lines = [f"**{table.title}** {table.caption}", "", _line(header), _line(["---", *["---:"] * len(table.columns)])]
    for row, cells in zip(table.rows, table.cells, strict=True):
        lines.append(_line([row.title, *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)]))
    return "\n".join([*lines, "", *(f"- {footnote}" for footnote in table.footnotes), ""])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def print_table(table: Table, console: Console) -> None:
    """Print a table with its footnotes; plain text where the output is no terminal."""
    drawn = RichTable(title=Text(table.title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("Method", overflow="fold", min_width=METHOD_WIDTH)
    widths = []
    for n, column in enumerate(table.columns):
        widths.append(max(map(len, [*column.heading.split(), *(cells[n].text for cells in table.cells)])))
        drawn.add_column(Text(column.heading), justify="right", width=widths[-1])
    for row, cells in zip(table.rows, table.cells, strict=True):
        drawn.add_row(Text(row.title), *(Text(cell.text, style="bold" if cell.best else "") for cell in cells))
    needed = METHOD_WIDTH + sum(width + 2 for width in widths) + 2
    if needed > console.width:  # Rich would leave out what does not fit
        drawn.width = needed
    console.print(drawn, crop=False)
    for footnote in table.footnotes:
        console.print(Text(footnote, style="bold red" if footnote.startswith("WARNING") else "dim"))
