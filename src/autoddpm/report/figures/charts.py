"""Interactive curves: metrics against the noise level, and precision against recall."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    GlyphRenderer,
    HoverTool,
    Legend,
    LegendItem,
    NumeralTickFormatter,
    Range1d,
    Whisker,
)
from bokeh.plotting import figure

from autoddpm.report.figures.curve import Curve, Point
from autoddpm.report.figures.figure import Kind
from autoddpm.report.figures.theme import BASELINE, DARK, LIGHT, METHOD
from autoddpm.report.tables.intervals import Resamples
from autoddpm.runs.row import Row

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
#: Colours that are dark on light paper, and the light ones in their place on dark paper.
DARK_COLOURS = {LIGHT.ink: DARK.ink, **dict(zip(LEVELS, DARK_LEVELS, strict=True))}
SHAPES = ("circle", "square", "diamond", "triangle", "inverted_triangle")
EQUAL_DICE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def level_chart(curve: Curve) -> figure:
    """A metric against the noise level, with intervals: baselines as lines, methods as bands."""
    title, unit = curve.column.title, "%" if curve.column.scale == 100 else ""
    drawn = _panel(title, f"noise level {curve.order}", unit)
    items = []
    for shape, (name, points) in zip(SHAPES * len(curve.lines), curve.lines.items(), strict=False):
        items.append(LegendItem(label=name, renderers=_line(drawn, _source(points), shape)))
    for colour, level in zip(METHODS * len(curve.levels), curve.levels, strict=False):
        ends = _source([replace(level, x=x) for x in (curve.xs[0], curve.xs[-1])])
        band = drawn.varea("x", "low", "high", source=ends, color=colour, alpha=0.15)
        dashed = drawn.line("x", "y", source=ends, color=colour, line_width=1.5, line_dash="dashed")
        items.append(LegendItem(label=level.title, renderers=[band, dashed]))
    points = [*curve.levels, *(point for line in curve.lines.values() for point in line)]
    highest = [float(np.nanmax([point.y, point.high])) for point in points]
    drawn.y_range = Range1d(0, 1.08 * max(highest, default=1.0))
    drawn.add_tools(HoverTool(tooltips=[("", "@title"), (title, "@shown")]))
    _add_legend(drawn, items)
    return drawn


def _source(points: Sequence[Point]) -> ColumnDataSource:
    return ColumnDataSource(
        {field.name: [getattr(point, field.name) for point in points] for field in fields(Point)}
    )


def _line(drawn: figure, source: ColumnDataSource, shape: str) -> list[GlyphRenderer]:
    """A baseline's line and points, with whiskers if there is an interval."""
    line = drawn.line("x", "y", source=source, color=BASELINE, line_width=1.5)
    points = drawn.scatter("x", "y", source=source, color=BASELINE, size=7, marker=shape)
    bars = Whisker(base="x", lower="low", upper="high", source=source, line_color=BASELINE)
    bars.upper_head.size = bars.lower_head.size = 5
    bars.upper_head.line_color = bars.lower_head.line_color = BASELINE
    drawn.add_layout(bars)
    return [line, points]


def precision_recall_chart(kinds: Sequence[Kind], resamples: Resamples) -> figure | None:
    """Precision against recall, a line per row; None if no row has lesions."""
    drawn = _panel("", "recall", "precision", height=420)
    items, highest = [], 0.0
    for row, colour in _coloured(kinds):
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
    _add_equal_dice(drawn, top)
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


def _add_equal_dice(drawn: figure, top: float) -> None:
    """Thin lines that join points of equal Dice, up to the precision `top`."""
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


def _coloured(kinds: Sequence[Kind]) -> Iterator[tuple[Row, str]]:
    """Each row with its colour: those of a noise level from light to dark blue."""
    colours = iter(METHODS * (1 + sum(len(kind.rows) for kind in kinds)))
    for kind in kinds:
        for n, row in enumerate(kind.rows):
            level = LEVELS[round(n / max(1, len(kind.rows) - 1) * (len(LEVELS) - 1))]
            yield row, level if kind.order else next(colours)


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
