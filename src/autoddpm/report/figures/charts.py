"""Interactive curves of precision against recall, as JSON that a page draws."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.models import (
    ColumnDataSource,
    HoverTool,
    LayoutDOM,
    Legend,
    LegendItem,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.plotting import figure
from matplotlib.colors import to_hex, to_rgb

from autoddpm.report.figures.figure import Chart, Kind
from autoddpm.report.figures.theme import DARK, LIGHT, METHOD
from autoddpm.report.tables.intervals import Resamples
from autoddpm.runs.row import Row

INK = LIGHT.ink
METHODS = (METHOD, "#009E73", "#CC79A7", "#E69F00")  # of Okabe and Ito
LEVELS, DARK_LEVELS = (  # of noise, from low to high
    [to_hex(colour) for colour in np.linspace(to_rgb(low), to_rgb(high), 9)]
    for low, high in (("#9fc7e4", "#0d3155"), ("#2b5d86", "#cfe8fb"))
)
#: Colours that are dark on light paper, and the light ones in their place on dark paper.
DARK_COLOURS = {LIGHT.ink: DARK.ink, **dict(zip(LEVELS, DARK_LEVELS, strict=True))}
EQUAL_DICE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def as_chart(name: str, model: LayoutDOM, is_themed: bool = True) -> Chart:
    """A chart from Bokeh's models: the same data whatever was drawn before."""
    names: dict[str, str] = {}

    def renamed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: renamed(v, k) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [renamed(v) for v in value]
        if key in ("id", "root_id") and value:
            return names.setdefault(value, f"m{len(names)}")
        return value

    return Chart(name, renamed(json_item(model)), is_themed)


def precision_recall_chart(kinds: Sequence[Kind], resamples: Resamples) -> figure | None:
    """Precision against recall, a line per row. None if no row has lesions."""
    drawn = _panel()
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
    drawn.add_layout(_legend(items), "right")
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


def _panel() -> figure:
    drawn = figure(
        x_axis_label="recall",
        y_axis_label="precision",
        height=420,
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
    return drawn


def _legend(items: Sequence[LegendItem]) -> Legend:
    return Legend(
        items=list(items),
        click_policy="hide",
        background_fill_color=None,
        border_line_color=None,
        label_text_color=INK,
        label_text_font_size="12px",
        spacing=1,
        padding=4,
        location="top",
    )
