"""Curves of metrics against the noise level: the values that every drawing of them shows."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from autoddpm.metrics.statistics import Interval
from autoddpm.report.figures.figure import FigureRows
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.table import Column
from autoddpm.runs.row import Row


@dataclass(frozen=True)
class Point:
    """A metric of one row, in the column's unit.

    x: noise level; NaN for a method that has none.
    low, high: bounds of the 95 % interval; NaN without one.
    title: of the row.
    shown: value and interval as text.
    """

    x: float
    y: float
    low: float
    high: float
    title: str
    shown: str


@dataclass(frozen=True)
class Curve:
    """One metric against the noise level.

    order: the detector setting that is the noise level.
    xs: all noise levels of the baselines, rising.
    lines: points of the baselines by name of the line: one line per variant.
    levels: the methods, which are the same at each noise level.
    """

    column: Column
    order: str
    xs: Sequence[float]
    lines: dict[str, list[Point]]
    levels: list[Point]


def curves(chosen: FigureRows, resamples: Resamples) -> list[Curve]:
    """A curve per column of the figure. An undefined value is left out: the tables say why."""
    baselines, method = chosen.kinds["baselines"], chosen.kinds["method"]
    order = str(baselines.order)
    rows = [row for row in baselines.rows if order in row.detector]
    found = []
    for column in chosen.columns:
        lines: dict[str, list[Point]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: float(row.detector[order])):
            name = f"{row.detector['name']}{f' [{row.variant}]' if row.variant else ''}"
            lines[name] += _points(row, column, row.detector[order], resamples)
        lines = {name: points for name, points in lines.items() if points}
        levels = [
            point for row in method.rows for point in _points(row, column, math.nan, resamples)
        ]
        xs = sorted({row.detector[order] for row in rows})
        found.append(Curve(column, order, xs, lines, levels))
    return found


def _points(row: Row, column: Column, x: float, resamples: Resamples) -> list[Point]:
    """The row's point, or none if its value is undefined."""
    value, bounds = row.metrics.get(column.key), resamples.interval(row, column.key)
    if value is None:
        return []
    low, high = bounds[:2] if isinstance(bounds, Interval) else (math.nan, math.nan)
    y, low, high = (number * column.scale for number in (value, low, high))
    texts = [f"{number:.{column.digits}f}" for number in (y, low, high)]
    shown = f"{texts[0]} [{texts[1]}, {texts[2]}]" if isinstance(bounds, Interval) else texts[0]
    return [Point(x, y, low, high, row.title, shown)]
