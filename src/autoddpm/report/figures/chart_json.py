"""A Bokeh chart as JSON, which a page draws without loading anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bokeh.models import LayoutDOM


@dataclass(frozen=True)
class Chart:
    """A chart of the page, in the colours of light mode.

    name: id of its element.
    is_themed: whether it is drawn again, in other colours, when the mode changes.
    """

    name: str
    data: Mapping[str, Any]
    is_themed: bool = True


def chart(name: str, model: "LayoutDOM", is_themed: bool = True) -> Chart:
    """A chart from Bokeh's models: the same data whatever was drawn before."""
    from bokeh.embed import json_item  # late: tables alone are made without Bokeh

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
