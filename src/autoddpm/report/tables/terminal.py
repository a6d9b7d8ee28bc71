"""A table on the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from autoddpm.report.tables.table import Table

METHOD_WIDTH = 15


def print_table(table: Table, console: Console) -> None:
    """Print a table's values with its footnotes, as plain text if the output is no terminal.

    Intervals and the paper's numbers are left to the page: a terminal is too narrow for them.
    """
    drawn = RichTable(
        title=Text(table.title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    drawn.add_column("Method", overflow="fold", min_width=METHOD_WIDTH)
    widths = []
    for n, column in enumerate(table.columns):
        widths.append(
            max(map(len, [*column.heading.split(), *(cells[n].text for cells in table.cells)]))
        )
        drawn.add_column(Text(column.heading), justify="right", width=widths[-1])
    for row, cells in zip(table.rows, table.cells, strict=True):
        drawn.add_row(
            Text(row.title), *(Text(cell.text, style="bold" if cell.best else "") for cell in cells)
        )
    needed = METHOD_WIDTH + sum(width + 2 for width in widths) + 2
    if needed > console.width:  # Rich would leave out what does not fit
        drawn.width = needed
    console.print(drawn, crop=False)
    for footnote in table.footnotes:
        console.print(Text(footnote, style="bold red" if footnote.startswith("WARNING") else "dim"))
