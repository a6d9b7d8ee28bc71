"""The slice browser: a picture and the widgets that choose what it shows.

What the widgets do stands in `browser.js`.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    CheckboxButtonGroup,
    ColumnDataSource,
    CustomJS,
    Div,
    InlineStyleSheet,
    LayoutDOM,
    LinearColorMapper,
    RadioButtonGroup,
    Select,
    Slider,
    UIElement,
)
from bokeh.plotting import figure
from matplotlib import colormaps
from matplotlib.colors import to_hex

from autoddpm.report.figures.charts import as_chart
from autoddpm.report.figures.draw import report_figure
from autoddpm.report.figures.figure import FigureRows, ReportFigure
from autoddpm.report.figures.theme import ANOMALY_COLOURS, LESION

FLAGGED = "#5be38a"  # neither in the grey image nor among the colours of the maps
#: Of the picture, in CSS pixels. Without a border its edge is not cleared between two drawings.
SIDE, BORDER = 512, 4
SORTS = [("best", "best found first"), ("worst", "worst found first"), ("id", "name")]
OWN = ("own", "own choice")


def draw_browser(
    chosen: FigureRows, data: Mapping[str, Any] | None, remarks: Sequence[str]
) -> ReportFigure:
    """The slice browser as a figure of the page. data: what it shows, None if there is nothing."""
    chart = as_chart("browser-chart", browser_layout(data), is_themed=False) if data else None
    return report_figure("browser", chosen, remarks=remarks, chart=chart)


def browser_layout(data: Mapping[str, Any]) -> LayoutDOM:
    """The picture and its widgets.

    data: from `browser_data`. The page holds it as JSON in `#slice-data`.

    Nothing is drawn before the widget called `start` has changed once.
    """
    height, width = data["size"]
    drawn = _canvas(height, width)
    parts, widgets = _parts(drawn, height, width), _widgets(data)
    texts = {name: Div(text="", render_as_text=True) for name in ("label", "said")}
    callback = CustomJS(
        args={**widgets, **parts, **texts, "picture": drawn},
        code=files("autoddpm.report.page").joinpath("browser.js").read_text(encoding="utf-8"),
    )
    for name, widget in widgets.items():
        if isinstance(widget, Button):
            widget.js_on_event("button_click", callback)
        else:
            widget.js_on_change("active" if name in ("show", "sizes") else "value", callback)
    side = _side(widgets, texts)
    return row(
        drawn,
        side,
        sizing_mode="stretch_width",
        spacing=24,
        stylesheets=[InlineStyleSheet(css=WRAPS)],
    )


def _widgets(data: Mapping[str, Any]) -> dict[str, Any]:
    """What chooses the picture, by its name in browser.js."""
    stages, groups = list(data["stages"]), list(data["groups"])
    presets = dict.fromkeys(name for method in data["rows"] for name in method["presets"])
    # a method of fewer levels ends before the slider's end
    last = max(1, *(len(method["levels"]) - 1 for method in data["rows"]))
    return {
        "row": Select(
            name="start",
            title="Method",
            options=[(str(n), method["title"]) for n, method in enumerate(data["rows"])],
            value="0",
        ),
        "show": RadioButtonGroup(labels=stages, active=stages.index("map")),
        "sizes": CheckboxButtonGroup(labels=groups, active=list(range(len(groups)))),
        "sort": Select(title="Sort by Dice", options=SORTS, value="best"),
        "slice": Select(title="Slice", options=[], value=""),
        "previous": Button(label="previous"),
        "next": Button(label="next"),
        "preset": Select(
            title="Threshold at",
            options=[*((name, name) for name in presets), OWN],
            value=next(iter(presets), OWN[0]),
        ),
        "threshold": Slider(title="", start=0, end=last, step=1, value=0, show_value=False),
    }


def _side(widgets: Mapping[str, Any], texts: Mapping[str, Div]) -> LayoutDOM:
    """The widgets and texts beside the picture, from top to bottom."""
    style = InlineStyleSheet(css=WIDGETS)
    for widget in (*widgets.values(), *texts.values()):
        widget.stylesheets = [style]
        widget.sizing_mode = "stretch_width"
    heading = Div(text="Sizes", stylesheets=[style], styles={"color": "var(--soft)"})
    steps = row(widgets["previous"], widgets["next"], sizing_mode="stretch_width")
    below = [widgets[name] for name in ("sizes", "sort", "slice")]
    choices: list[UIElement] = [
        widgets["row"],
        widgets["show"],
        heading,
        *below,
        steps,
        widgets["preset"],
        texts["label"],
        widgets["threshold"],
        texts["said"],
    ]
    return column(
        children=choices, sizing_mode="stretch_width", min_width=280, max_width=480, spacing=8
    )


def _canvas(height: int, width: int) -> figure:
    """An empty picture, one unit per pixel."""
    drawn = figure(
        width=SIDE + 2 * BORDER,
        height=round(SIDE * height / width) + 2 * BORDER,
        x_range=(0, width),
        y_range=(height, 0),
        toolbar_location=None,
        tools="",
        min_border=BORDER,
        outline_line_color=None,
        background_fill_color="black",
        border_fill_color="black",
    )
    drawn.styles = {"flex-shrink": "0", "background": "black"}
    drawn.axis.visible = drawn.grid.visible = False
    return drawn


def _parts(drawn: figure, height: int, width: int) -> dict[str, Any]:
    """What of the picture changes, by its name in browser.js: images, colours and outlines."""
    inferno = [to_hex(colour) for colour in colormaps[ANOMALY_COLOURS](np.arange(256))]
    grey = [f"#{n:02x}{n:02x}{n:02x}" for n in range(256)]
    mappers = {
        "grey": LinearColorMapper(palette=grey, low=0, high=255),
        "heat": LinearColorMapper(palette=inferno, low=0, high=1),
    }
    types = {"grey": np.uint8, "heat": np.float32}
    sources = {
        name: ColumnDataSource({"image": [np.zeros((height, width), dtype)]})
        for name, dtype in types.items()
    }
    place = {"x": 0, "y": 0, "dw": width, "dh": height}
    images = {
        name: drawn.image(
            "image", **place, source=sources[name], color_mapper=mapper, visible=name == "grey"
        )
        for name, mapper in mappers.items()
    }
    edges = {
        name: ColumnDataSource({key: [] for key in ("x0", "y0", "x1", "y1")})
        for name in ("lesion", "flagged")
    }
    for name, colour in (("flagged", FLAGGED), ("lesion", LESION)):
        ends = {"source": edges[name], "color": colour, "line_width": 2, "line_cap": "round"}
        drawn.segment("x0", "y0", "x1", "y1", **ends)
    return {
        "grey_source": sources["grey"],
        "heat": sources["heat"],
        "colours": mappers["heat"],
        "grey_image": images["grey"],
        "heat_image": images["heat"],
        "lesion_edges": edges["lesion"],
        "flagged_edges": edges["flagged"],
    }


WRAPS = ":host { flex-wrap: wrap; }"
#: The page's colours, which reach into the widgets as CSS variables.
WIDGETS = """
:host {
  color: var(--ink);
  font: .88rem/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
.bk-input-group label, .bk-slider-title { color: var(--soft); }
.bk-input, select.bk-input {
  background-color: var(--faint); color: var(--ink); border-color: var(--line);
}
select.bk-input { appearance: auto !important; background-image: none !important; }
.bk-input option { background-color: var(--paper); color: var(--ink); }
.bk-btn { background: var(--faint); color: var(--ink); border-color: var(--line); }
.bk-btn:hover { background: var(--line); }
.bk-btn.bk-active { background: var(--soft); color: var(--paper); border-color: var(--paper); }
.noUi-target, .noUi-connects { background: var(--line); border-color: var(--line); }
.noUi-connect { background: var(--soft); }
.noUi-handle { background: var(--ink); border-color: var(--paper); box-shadow: none; }
"""
