"""Interactive curves: metrics against the noise level, and precision against recall."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    HoverTool,
    Legend,
    LegendItem,
    NumeralTickFormatter,
    Range1d,
    Whisker,
)
from bokeh.plotting import figure

from autoddpm.metrics.statistics import Interval
from autoddpm.report.figures.curve import MARKERS
from autoddpm.report.figures.figure import BASELINE, DARK, LIGHT, METHOD
from autoddpm.report.rows.methods import Method
from autoddpm.report.rows.row import Row
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.table import Column

INK = LIGHT.ink
METHODS = (METHOD, "#009E73", "#CC79A7", "#E69F00")  # of Okabe and Ito
LEVELS = (
    "#9fc7e4",
    "#86b2d3",
    "#6d9dc2",
    "#5589b1",
    "#3f75a0",
    "#2c628f",
    "#1d507d",
    "#134069",
    "#0d3155",
)
DARK_LEVELS = (
    "#2b5d86",
    "#3b6e97",
    "#4c7fa7",
    "#5f91b7",
    "#74a3c6",
    "#8ab5d4",
    "#a1c6e1",
    "#b8d7ee",
    "#cfe8fb",
)
#: What is dark on light paper, and light on dark paper.
DARK_COLOURS = {LIGHT.ink: DARK.ink, **dict(zip(LEVELS, DARK_LEVELS, strict=True))}
SHAPES = dict(
    zip("osD^v", ("circle", "square", "diamond", "triangle", "inverted_triangle"), strict=True)
)
EQUAL_DICE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def level_chart(
    baselines: Sequence[Row],
    methods: Sequence[Row],
    column: Column,
    order: str,
    resamples: Resamples,
) -> figure:
    """A metric of the baselines against the detector setting `order`, and of each method as a
    level, with intervals.

    Baselines with different other settings (variants) are different lines; an undefined value is
    left out.
    """
    drawn = _panel(column.title, f"noise level {order}", "%" if column.scale == 100 else "")
    lines: dict[str, list[Row]] = defaultdict(list)
    for row in baselines:
        lines[row.variant].append(row)
    items, highest = [], []
    for marker, (variant, rows) in zip(MARKERS * len(lines), lines.items(), strict=False):
        source = _points(
            sorted(rows, key=lambda row: row.detector[order]), column, order, resamples
        )
        highest += _tops(source)
        line = drawn.line("x", "y", source=source, color=BASELINE, line_width=1.5)
        points = drawn.scatter(
            "x", "y", source=source, color=BASELINE, size=7, marker=SHAPES[marker]
        )
        bars = Whisker(base="x", lower="low", upper="high", source=source, line_color=BASELINE)
        bars.upper_head.size = bars.lower_head.size = 5
        bars.upper_head.line_color = bars.lower_head.line_color = BASELINE
        drawn.add_layout(bars)
        name = f"{rows[0].detector['name']}{f' [{variant}]' if variant else ''}"
        items.append(LegendItem(label=name, renderers=[line, points]))
    ends = [
        min(row.detector[order] for row in baselines),
        max(row.detector[order] for row in baselines),
    ]
    for colour, row in zip(METHODS * len(methods), methods, strict=False):
        level = _points([row, row], column, order, resamples, ends)
        if level.data["y"]:
            highest += _tops(level)
            band = drawn.varea("x", "low", "high", source=level, color=colour, alpha=0.15)
            line = drawn.line(
                "x", "y", source=level, color=colour, line_width=1.5, line_dash="dashed"
            )
            items.append(LegendItem(label=row.title, renderers=[band, line]))
    drawn.y_range = Range1d(0, 1.08 * max(highest, default=1.0))
    drawn.add_tools(HoverTool(tooltips=[("", "@title"), (column.title, "@shown")]))
    _add_legend(drawn, items)
    return drawn


def _tops(source: ColumnDataSource) -> list[float]:
    return [
        float(np.nanmax(pair)) for pair in zip(source.data["y"], source.data["high"], strict=True)
    ]


def _points(
    rows: Sequence[Row], column: Column, order: str, resamples: Resamples, at: Sequence[float] = ()
) -> ColumnDataSource:
    """x, y and the bounds of its interval; NaN bounds, which are not drawn, where there is none."""
    data: dict[str, list[object]] = {key: [] for key in ("x", "y", "low", "high", "title", "shown")}
    for n, row in enumerate(rows):
        value, bounds = row.metrics.get(column.key), resamples.interval(row, column.key)
        if value is None:
            continue
        low, high = bounds[:2] if isinstance(bounds, Interval) else (np.nan, np.nan)
        numbers = [f"{number * column.scale:.{column.digits}f}" for number in (value, low, high)]
        said = (
            f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
            if isinstance(bounds, Interval)
            else numbers[0]
        )
        line = (
            at[n] if at else row.detector[order],
            *(number * column.scale for number in (value, low, high)),
        )
        for key, entry in zip(data, (*line, row.title, said), strict=True):
            data[key].append(entry)
    return ColumnDataSource(data)


def precision_recall_chart(
    methods: Sequence[Method], rows: Sequence[Row], resamples: Resamples
) -> figure | None:
    """Precision against recall, a line a row; None where no row has lesions."""
    drawn = _panel("", "recall", "precision", height=420)
    items, highest = [], 0.0
    for row, colour in _coloured(methods, rows):
        recall, precision = resamples.curve(row)
        if not len(recall):
            continue
        dice = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        source = ColumnDataSource(
            {"x": recall, "y": precision, "dice": 100 * dice, "title": [row.title] * len(recall)}
        )
        line = drawn.line("x", "y", source=source, color=colour, line_width=1.6)
        items.append(LegendItem(label=row.title, renderers=[line]))
        highest = max(highest, float(precision[recall >= 0.02].max()))
    if not items:
        return None
    top = min(1.0, 1.1 * highest)
    for value in EQUAL_DICE:
        recall = np.linspace(value / 2 + 1e-6, 1, 400)
        precision = value * recall / (2 * recall - value)
        seen = (precision <= top) & (precision >= 0)
        if seen.any():
            drawn.line(recall[seen], precision[seen], color=INK, alpha=0.18, line_width=0.8)
            drawn.text(
                [1.0],
                [precision[-1]],
                text=[f"Dice {100 * value:.0f}"],
                text_align="right",
                text_baseline="bottom",
                text_font_size="10px",
                text_color=INK,
                text_alpha=0.55,
            )
    drawn.x_range, drawn.y_range = Range1d(0, 1), Range1d(0, top)
    for axis in (drawn.xaxis, drawn.yaxis):
        axis.formatter = NumeralTickFormatter(format="0 %")
    shown = [
        ("", "@title"),
        ("recall", "@x{0.0 %}"),
        ("precision", "@y{0.0 %}"),
        ("Dice", "@dice{0.0} %"),
    ]
    drawn.add_tools(HoverTool(tooltips=shown, renderers=[item.renderers[0] for item in items]))
    _add_legend(drawn, items, "right")
    return drawn


def _coloured(methods: Sequence[Method], rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """Each row of the methods with its colour: those of a noise level from light to dark blue."""
    colours = iter(METHODS * (len(rows) + 1))
    for method in methods:
        found = method.rows(rows)
        for n, row in enumerate(found):
            level = LEVELS[round(n / max(1, len(found) - 1) * (len(LEVELS) - 1))]
            yield row, level if method.order else next(colours)


def _panel(title: str, x: str, y: str, height: int = 300) -> figure:
    drawn = figure(
        title=title,
        x_axis_label=x,
        y_axis_label=y,
        height=height,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,reset",
        toolbar_location="above",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
    )
    drawn.toolbar.logo, drawn.toolbar.autohide = None, True
    for axis in drawn.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.axis_line_color = axis.major_tick_line_color = INK
        axis.minor_tick_line_color = None
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
    drawn.xgrid.grid_line_color = None
    drawn.ygrid.grid_line_color, drawn.ygrid.grid_line_alpha = INK, 0.13
    drawn.title.text_color, drawn.title.text_font_size = INK, "13px"
    return drawn


def _add_legend(drawn: figure, items: Sequence[LegendItem], place: str = "below") -> None:
    is_short = place == "below" and sum(len(item.label.value) + 6 for item in items) <= 40
    legend = Legend(
        items=list(items),
        click_policy="hide",
        background_fill_color=None,
        border_line_color=None,
        label_text_color=INK,
        label_text_font_size="12px",
        spacing=12 if is_short else 1,
        padding=4,
        orientation="horizontal" if is_short else "vertical",
        location="left" if place == "below" else "top",
    )
    drawn.add_layout(legend, place)
