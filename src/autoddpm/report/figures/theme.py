"""Colours and sizes that all figures share, and a Matplotlib figure as a PNG."""

from io import BytesIO
from typing import NamedTuple

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


def png(figure: Figure) -> bytes:
    """The figure as a PNG of its own size and background."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    return buffer.getvalue()
