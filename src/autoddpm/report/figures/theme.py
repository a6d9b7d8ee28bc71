"""Colours and sizes that all figures share, and a Matplotlib figure as a PNG."""

from io import BytesIO
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 200
ANOMALY_COLOURS = "inferno"
#: Blue and orange of Okabe and Ito: apart for every colour vision.
LESION, MASK = "#56B4E9", "#E69F00"
BASELINE, METHOD = "#3B8BC2", "#D55E00"


class Theme(NamedTuple):
    """Colours of the paper and of what is written on it."""

    paper: str
    ink: str


LIGHT, DARK = Theme("#ffffff", "#1b1b1b"), Theme("#15171a", "#d8dadd")


def dress(axes: Axes, theme: Theme, x: str, y: str) -> None:
    """Give axes their labels, sizes and colours."""
    axes.set_facecolor(theme.paper)
    axes.set_xlabel(x, fontsize=7, color=theme.ink)
    axes.set_ylabel(y, fontsize=7, color=theme.ink)
    axes.tick_params(labelsize=6.5, colors=theme.ink, width=0.5, length=2.5)
    for spine in axes.spines.values():
        spine.set(color=theme.ink, linewidth=0.5)


def png(figure: Figure) -> bytes:
    """The figure as a PNG of its own size and background."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    return buffer.getvalue()
