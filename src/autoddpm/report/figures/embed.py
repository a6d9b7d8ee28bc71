"""Bokeh's charts inside a page that loads nothing: their library, and each of them as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bokeh.embed import json_item
from bokeh.models import LayoutDOM
from bokeh.resources import Resources


@dataclass(frozen=True)
class Chart:
    """A chart of the page, in the colours of light mode.

    name: the id of its element.  is_themed: whether it is drawn again, in other colours, where the
        mode changes.
    """

    name: str
    data: Mapping[str, Any]
    is_themed: bool = True


def chart(name: str, model: LayoutDOM, is_themed: bool = True) -> Chart:
    """A chart from Bokeh's models, as the same data whatever was drawn before."""
    names: dict[str, str] = {}

    def renamed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: renamed(v, k) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [renamed(v) for v in value]
        return (
            names.setdefault(value, f"m{len(names)}")
            if key in ("id", "root_id") and value
            else value
        )

    return Chart(name, renamed(json_item(model)), is_themed)


def bokeh_library() -> str:
    """Bokeh's JavaScript as script elements, 1.6 MB."""
    return Resources(mode="inline", components=["bokeh", "bokeh-widgets"]).render_js()
