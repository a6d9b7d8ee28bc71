"""Curves of metrics against the noise level: their values, and their drawing for page and paper."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autoddpm.metrics.statistics import Interval
from autoddpm.report.figures.figure import FigureRows
from autoddpm.report.figures.theme import BASELINE, DPI, LIGHT, METHOD, Theme, dress
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.table import Column
from autoddpm.runs.row import Row

MARKERS = "osD^v"
DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MOST_TICKS = 8


@dataclass(frozen=True)
class Point:
    """A metric of one row, in the column's unit.

    x: noise level. NaN for a method that has none.
    low, high: bounds of the 95 % interval. NaN without one.
    title: of the row.
    """

    x: float
    y: float
    low: float
    high: float
    title: str


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
    low, high = bounds if isinstance(bounds, Interval) else (math.nan, math.nan)
    y, low, high = (number * column.scale for number in (value, low, high))
    return [Point(x, y, low, high, row.title)]


def draw_curves(curves: Sequence[Curve], theme: Theme = LIGHT) -> Figure:
    """One panel per curve: the baselines as lines with points, each method as a dashed level.

    Intervals are bars and bands.
    """
    figure = Figure(
        figsize=(3.1 * len(curves), 2.5), dpi=DPI, facecolor=theme.paper, layout="constrained"
    )
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, curve in zip(panels, curves, strict=True):
        _dress(axes, curve, theme)
        for marker, (name, points) in zip(
            MARKERS * len(curve.lines), curve.lines.items(), strict=False
        ):
            xs, ys, lows, highs = zip(*((p.x, p.y, p.low, p.high) for p in points), strict=True)
            axes.plot(xs, ys, color=BASELINE, marker=marker, ms=3.2, lw=1.1, label=name)
            axes.vlines(xs, lows, highs, color=BASELINE, lw=0.8)
        for dash, level in zip(DASHES * len(curve.levels), curve.levels, strict=False):
            axes.axhline(level.y, color=METHOD, lw=1.1, ls=dash, label=level.title)
            axes.axhspan(level.low, level.high, color=METHOD, alpha=0.12, lw=0)
        axes.set_ylim(bottom=0)
        if curve.xs:
            step = 1 if len(curve.xs) <= MOST_TICKS else len(curve.xs) // MOST_TICKS + 1
            axes.set_xticks(curve.xs[::step])
    _add_legend(figure, theme)
    return figure


def _add_legend(figure: Figure, theme: Theme) -> None:
    lines = {
        name: line
        for axes in figure.axes
        for line, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if lines:
        figure.legend(
            list(lines.values()),
            list(lines),
            loc="outside lower left",
            frameon=False,
            fontsize=7,
            labelcolor=theme.ink,
            ncols=1 if any(len(name) > 30 for name in lines) else 4,
        )


def _dress(axes: Axes, curve: Curve, theme: Theme) -> None:
    dress(axes, theme, f"noise level {curve.order}", "%" if curve.column.scale == 100 else "")
    axes.set_title(curve.column.title, loc="left", fontsize=8, color=theme.ink)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", lw=0.4, color=theme.ink, alpha=0.15)
    axes.spines[["top", "right"]].set_visible(False)
