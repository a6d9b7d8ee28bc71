"""A table as csv, markdown and LaTeX."""

from collections.abc import Iterable, Sequence

import pandas as pd

from autoddpm.report.tables.table import Cell, Column, Table

TRACE = ("variant", "data_hash", "weights_hash", "commit", "seed", "device", "date")
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "–": "--",
    "−": r"$-$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    **{mark: rf"\textsuperscript{{{n}}}" for n, mark in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
LATEX_FITS = 7  # columns of numbers that fit a page as they are


def interval_text(cell: Cell, column: Column) -> str:
    """ "[10.21, 14.83]", or nothing."""
    return (
        "" if cell.low is None else f"[{cell.low:.{column.digits}f}, {cell.high:.{column.digits}f}]"
    )


def spread_text(cell: Cell, column: Column) -> str:
    """ "± 0.31" over seeds, or nothing."""
    return "" if cell.spread is None else f"± {cell.spread:.{column.digits}f}"


def p_text(cell: Cell) -> str:
    """ "p = 0.016", or nothing."""
    return "" if cell.p_value is None else f"p = {cell.p_value:.3f}"


def _ours(cell: Cell, column: Column, value: str) -> str:
    return " ".join(
        filter(None, [value, spread_text(cell, column), interval_text(cell, column), p_text(cell)])
    )


def to_csv(table: Table) -> str:
    """The table as data: numbers without marks, and what each row can be traced by.

    An undefined value is an empty field, and `remarks` says why. Beside a column X stand X low,
    X high (95 %), X sd, X p and X paper, if the table has them.
    """
    lines = []
    for row, cells in zip(table.rows, table.cells, strict=True):
        line: dict[str, object] = {"Method": row.title}
        for column, cell in zip(table.columns, cells, strict=True):
            line[column.title] = _number(cell.value, column)
            line |= {f"{column.title} {name}": text for name, text in _beside(cell, column).items()}
        pairs = zip(table.columns, cells, strict=True)
        line["remarks"] = "; ".join(
            f"{c.title}: {table.notes[cell.note - 1]}" for c, cell in pairs if cell.note
        )
        line["folder"] = "; ".join(str(run.folder) for run in row.runs)
        lines.append(line | {key: row.provenance.get(key, "") for key in TRACE})
    header = ["Method"]
    for n, column in enumerate(table.columns):
        used = [
            name for name in BESIDE if any(_beside(cells[n], column)[name] for cells in table.cells)
        ]
        header += [column.title, *(f"{column.title} {name}" for name in used)]
    return pd.DataFrame(lines, columns=[*header, "remarks", "folder", *TRACE]).to_csv(index=False)


BESIDE = ("low", "high", "sd", "p", "paper")


def _beside(cell: Cell, column: Column) -> dict[str, str]:
    p_value = "" if cell.p_value is None else f"{cell.p_value:.4g}"
    numbers = [_number(value, column) for value in (cell.low, cell.high, cell.spread)]
    return dict(zip(BESIDE, [*numbers, p_value, cell.paper_text], strict=True))


def _number(value: float | None, column: Column) -> str:
    return "" if value is None else f"{value:.{column.digits}f}"


def to_markdown(table: Table) -> str:
    """The table with its title, caption and footnotes, best values bold."""
    header = ["Method"]
    for column, ours, with_paper in zip(table.columns, table.ours, table.with_paper, strict=True):
        beside = ours if with_paper else ours.removeprefix(table.measured).strip()
        header += [f"{column.heading} {table.paper}"] * with_paper + [
            f"{column.heading} {beside}".strip()
        ]
    lines = [
        f"**{table.title}** {table.caption}",
        "",
        _line(header),
        _line(["---", *["---:"] * (len(header) - 1)]),
    ]
    for row, cells in zip(table.rows, table.cells, strict=True):
        line = [row.title]
        for column, cell, with_paper in zip(table.columns, cells, table.with_paper, strict=True):
            line += [_bold(cell.paper_text, cell.paper_best)] * with_paper
            line.append(_ours(cell, column, _bold(cell.text, cell.best)))
        lines.append(_line(line))
    return "\n".join([*lines, "", *(f"- {footnote}" for footnote in table.footnotes), ""])


def _bold(text: str, best: bool) -> str:
    return f"**{text}**" if best else text


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def to_latex(table: Table) -> str:
    """The table as a LaTeX table with booktabs' rules, best values bold, footnotes below.

    It is shrunk to the width of the page if it has many columns.
    """
    widths = [2 if with_paper else 1 for with_paper in table.with_paper]
    wide = sum(widths) > LATEX_FITS
    lines = [
        rf"% needs \usepackage{{booktabs}}{' and graphicx' if wide else ''}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{\textbf{{{latex(table.title)}}} {latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        *[r"\resizebox{\textwidth}{!}{%"] * wide,
        rf"\begin{{tabular}}{{l{'r' * sum(widths)}}}",
        r"\toprule",
        *_latex_head(table, widths),
        r"\midrule",
        *_latex_body(table, widths),
        r"\bottomrule",
        r"\end{tabular}" + "}" * wide,
        *(rf"\par\footnotesize {latex(footnote)}" for footnote in table.footnotes),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _latex_head(table: Table, widths: Sequence[int]) -> list[str]:
    """The line of headings, and below it whose numbers are the paper's and whose ours."""
    first, second, rules, at = ["Method"], [""], [], 2
    for column, ours, width in zip(table.columns, table.ours, widths, strict=True):
        first.append(rf"\multicolumn{{{width}}}{{c}}{{{latex(column.heading)}}}")
        second += [latex(table.paper or "")] * (width - 1) + [latex(ours)]
        rules += [rf"\cmidrule(lr){{{at}-{at + 1}}}"] * (width - 1)
        at += width
    split = [_latex_line(second)] * table.is_split
    return [_latex_line(first), *[" ".join(rules)] * bool(rules), *split]


def _latex_body(table: Table, widths: Sequence[int]) -> list[str]:
    body = []
    for row, cells in zip(table.rows, table.cells, strict=True):
        line = [latex(row.title)]
        for column, cell, width in zip(table.columns, cells, widths, strict=True):
            line += [_latex_bold(latex(cell.paper_text), cell.paper_best)] * (width - 1)
            small = latex(_ours(cell, column, ""))
            line.append(
                _latex_bold(latex(cell.text), cell.best)
                + (rf" {{\scriptsize {small}}}" if small else "")
            )
        body.append(_latex_line(line))
    return body


def _latex_bold(text: str, best: bool) -> str:
    return rf"\textbf{{{text}}}" if best else text


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def latex(text: str) -> str:
    """Text with what is special in LaTeX escaped."""
    return "".join(LATEX.get(letter, letter) for letter in text)
