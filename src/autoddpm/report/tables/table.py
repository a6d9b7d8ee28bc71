"""A table: rows of chosen methods, columns of chosen metrics, each number with its interval and the
paper's beside."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autoddpm.metrics.statistics import Interval
from autoddpm.report.rows.methods import Method, disagreements, named_among
from autoddpm.report.rows.row import Row
from autoddpm.report.rows.seeds import seed_of
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.published import Published, other_data

UNDEFINED = "–"
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Column:
    """key: of metrics.json.  scale: 100 for percent.  best: "max", "min" or None: which value is
    set in bold."""

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
    """value: scaled and rounded as shown, None where undefined.  text: the value in words, with its
    note's number.

    best:        set in bold.
    note:        number of the table's note that says why there is no value, or no interval.
    low, high:   bounds of the 95 % interval, scaled and rounded; None where there is none.
    spread:      standard deviation over seeds; None for one seed.
    p_value:     of a difference, corrected for the table's number of comparisons.
    paper:       the paper's number, its text as printed, and whether it is the best that the paper
                 has; None where it has none.
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
class Table:
    """cells[i][j] belongs to rows[i] and columns[j]; notes[n - 1] is note n; warnings are to be
    shown loudly.

    paper: heading of the paper's columns; None where the table has none.  measured: what ours are.
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


def make_table(
    name: str,
    title: str,
    caption: str,
    methods: Iterable[Method],
    columns: Sequence[Column],
    rows: Sequence[Row],
    resamples: Resamples | None = None,
    published: Published | None = None,
) -> Table:
    """Fill a table with the rows of `methods`, in their order. What is expected and missing becomes
    a remark."""
    resamples = resamples or Resamples({})
    found, missing = chosen_rows(methods, rows)
    notes: list[str] = []
    by_column = [_cells(column, found, notes, resamples, published) for column in columns]
    cells = [[column[i] for column in by_column] for i in range(len(found))]
    warnings = [f"rows that should not be compared: {words}." for words in disagreements(found)]
    table = Table(
        name,
        title,
        caption,
        columns,
        found,
        cells,
        notes,
        [],
        warnings,
        published.heading if published else None,
    )
    table.remarks.extend(_remarks(table, missing, resamples))
    return table


def chosen_rows(methods: Iterable[Method], rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows of `methods`, each once, in their order, named by what differs among them; and what
    is expected and not there, in words."""
    chosen: dict[str, Row] = {}
    missing: list[str] = []
    for method in methods:
        chosen |= {str(row.folder): row for row in method.rows(rows)}
        missing += method.missing(rows)
    return named_among(list(chosen.values())), missing


def _cells(
    column: Column,
    rows: Sequence[Row],
    notes: list[str],
    resamples: Resamples,
    published: Published | None,
) -> list[Cell]:
    raw = [row.metrics.get(column.key) for row in rows]
    values = [
        None if value is None else round(value * column.scale, column.digits) for value in raw
    ]
    defined = [value for value in values if value is not None]
    best = (
        {"max": max, "min": min}[column.best](defined) if column.best and len(defined) > 1 else None
    )
    cells = []
    for row, value in zip(rows, values, strict=True):
        found = resamples.interval(row, column.key)
        reason = row.undefined_because(column.key) if value is None else f"no interval: {found}"
        note = note_of(reason, notes) if value is None or isinstance(found, str) else None
        shown = UNDEFINED if value is None else f"{value:.{column.digits}f}"
        low, high = scaled(found, column) if isinstance(found, Interval) else (None, None)
        spread = row.spread.get(column.key)
        printed = published.of(row, column.key) if published else None
        cells.append(
            Cell(
                value,
                shown + (superscript(note) if note else ""),
                best=value is not None and value == best,
                note=note,
                low=low,
                high=high,
                spread=None if spread is None else round(spread * column.scale, column.digits),
                paper=None if printed is None else float(printed),
                paper_text=printed or "",
                paper_best=bool(
                    published and printed and published.is_best(printed, column.key, column.best)
                ),
            )
        )
    return cells


def scaled(bounds: Interval, column: Column) -> tuple[float, float]:
    """The bounds as the column shows its values."""
    low, high = (round(bound * column.scale, column.digits) for bound in bounds[:2])
    return low, high


def note_of(reason: str, notes: list[str]) -> int:
    """The number of a note, added to `notes` where it is not among them."""
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
