"""A figure of a page: which rows it shows, and what is drawn of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoddpm.report.figures.theme import DPI
from autoddpm.report.tables.table import Column
from autoddpm.runs.row import Row


@dataclass(frozen=True)
class Kind:
    """The rows of one method.

    missing: rows that are expected and not there, in words.
    order: the detector setting by which they are sorted, None without one.
    """

    rows: Sequence[Row]
    missing: Sequence[str] = ()
    order: str | None = None


@dataclass(frozen=True)
class FigureRows:
    """Rows and columns of a figure, before anything is read.

    kinds: rows by the part that they play in it ("baselines", "method"), or by method.
    columns: the metrics of its panels, if it has curves.
    """

    title: str
    caption: str
    kinds: Mapping[str, Kind]
    columns: Sequence[Column] = ()

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order of their kinds."""
        return [row for kind in self.kinds.values() for row in kind.rows]

    @property
    def missing(self) -> list[str]:
        """A remark on rows that are expected and not there, or nothing."""
        names = [name for kind in self.kinds.values() for name in kind.missing]
        return [f"Not evaluated yet: {', '.join(names)}."] if names else []


@dataclass(frozen=True)
class Chart:
    """A chart of the page, in the colours of light mode.

    name: id of its element.
    is_themed: whether it is drawn again, in other colours, when the mode changes.
    """

    name: str
    data: Mapping[str, Any]
    is_themed: bool = True


@dataclass(frozen=True)
class ReportFigure:
    """A figure as it stands on a page.

    light, dark: PNGs for the two modes of a page, None if there is none.
    remarks: what is not shown, and why.
    chart: drawn by JavaScript, None if there is none.
    """

    name: str
    title: str
    caption: str
    light: bytes | None = None
    dark: bytes | None = None
    remarks: Sequence[str] = field(default_factory=list)
    chart: Chart | None = None

    @property
    def width(self) -> int:
        """Width in CSS pixels (96 per inch), read from the PNG's header."""
        return round(int.from_bytes((self.light or b"")[16:20], "big") * 96 / DPI)
