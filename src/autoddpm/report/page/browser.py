"""The slice browser: a picture and the widgets that choose what it shows; `browser.js` says what
they do."""

from collections.abc import Mapping
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

from autoddpm.report.figures.figure import ANOMALY_COLOURS, LESION

FLAGGED = "#5be38a"  # neither in the grey image nor among the colours of the maps
SIDE, BORDER = (
    512,
    4,
)  # of the picture, in CSS pixels; without a border its edge is not cleared between two drawings
SORTS = [("best", "best found first"), ("worst", "worst found first"), ("id", "name")]
OWN = ("own", "own choice")


def browser_layout(data: Mapping[str, Any]) -> LayoutDOM:
    """The picture and its widgets. data: from `browser_data`, which the page holds as JSON in
    `#slice-data`.

    Nothing is drawn before the widget called `start` has changed once.
    """
    height, width = data["size"]
    picture, parts = _picture(height, width)
    stages, groups = list(data["stages"]), list(data["groups"])
    presets = dict.fromkeys(name for method in data["rows"] for name in method["presets"])
    last = max(
        1, *(len(method["levels"]) - 1 for method in data["rows"])
    )  # a method of fewer levels ends before it
    widgets: dict[str, Any] = {
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
    texts = {name: Div(text="", render_as_text=True) for name in ("label", "said")}
    callback = CustomJS(
        args={**widgets, **parts, **texts, "picture": picture},
        code=files("autoddpm.report.page").joinpath("browser.js").read_text(encoding="utf-8"),
    )
    for name, widget in widgets.items():
        if isinstance(widget, Button):
            widget.js_on_event("button_click", callback)
        else:
            widget.js_on_change("active" if name in ("show", "sizes") else "value", callback)
    style = InlineStyleSheet(css=WIDGETS)
    for widget in (*widgets.values(), *texts.values()):
        widget.stylesheets = [style]
        widget.sizing_mode = "stretch_width"
    heading = Div(text="Sizes", stylesheets=[style], styles={"color": "var(--soft)"})
    steps = row(widgets["previous"], widgets["next"], sizing_mode="stretch_width")
    choices: list[UIElement] = [
        widgets["row"],
        widgets["show"],
        heading,
        widgets["sizes"],
        widgets["sort"],
        widgets["slice"],
        steps,
        widgets["preset"],
        texts["label"],
        widgets["threshold"],
        texts["said"],
    ]
    side = column(
        children=choices, sizing_mode="stretch_width", min_width=280, max_width=480, spacing=8
    )
    return row(
        picture,
        side,
        sizing_mode="stretch_width",
        spacing=24,
        stylesheets=[InlineStyleSheet(css=WRAPS)],
    )


def _picture(height: int, width: int) -> tuple[figure, dict[str, Any]]:
    """An empty picture, and what of it changes: {name in browser.js: model}."""
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
    inferno = [to_hex(colour) for colour in colormaps[ANOMALY_COLOURS](np.arange(256))]
    mappers = {
        "grey": LinearColorMapper(
            palette=[f"#{n:02x}{n:02x}{n:02x}" for n in range(256)], low=0, high=255
        ),
        "heat": LinearColorMapper(palette=inferno, low=0, high=1),
    }
    sources = {
        "grey": ColumnDataSource({"image": [np.zeros((height, width), np.uint8)]}),
        "heat": ColumnDataSource({"image": [np.zeros((height, width), np.float32)]}),
    }
    images = {
        name: drawn.image(
            "image",
            x=0,
            y=0,
            dw=width,
            dh=height,
            source=sources[name],
            color_mapper=mapper,
            visible=name == "grey",
        )
        for name, mapper in mappers.items()
    }
    edges = {
        name: ColumnDataSource({key: [] for key in ("x0", "y0", "x1", "y1")})
        for name in ("lesion", "flagged")
    }
    for name, colour in (("flagged", FLAGGED), ("lesion", LESION)):
        drawn.segment(
            "x0", "y0", "x1", "y1", source=edges[name], color=colour, line_width=2, line_cap="round"
        )
    return drawn, {
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
