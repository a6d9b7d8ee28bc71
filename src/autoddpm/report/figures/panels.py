"""Panels of images: grey from 0 to 1, anomaly maps in a perceptual colour map with their colour
bar, lesions as outlines.

A panel is a whole multiple of the image's pixels, so that no pixel is interpolated.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from autoddpm.report.figures.theme import DPI, Theme

FONT = 7.5  # points
#: In pixels: a letter, a line, and the margin for notes at the left.
LETTER, LINE, LEFT = 12, 27, 215


class Sheet:
    """A figure of panels laid out in whole pixels.

    widths, heights: of the columns and rows, each with the gap that follows it.
    headings: text above a column.
    key: what the outlines are, as {text: colour}.
    foot: text at the bottom, to the right of the key.
    """

    def __init__(
        self,
        widths: Sequence[tuple[int, int]],
        heights: Sequence[tuple[int, int]],
        headings: Mapping[int, str],
        key: Mapping[str, str],
        theme: Theme,
        foot: str = "",
    ) -> None:
        wrapped = {
            column: wrap(text.replace(" [", "\n["), widths[column][0])
            for column, text in headings.items()
        }
        top = 22 + LINE * max(text.count("\n") + 1 for text in wrapped.values())
        self.widths, self.heights, self.theme = widths, heights, theme
        self.lefts = list(accumulate((w + gap for w, gap in widths), initial=LEFT))
        self.tops = list(accumulate((h + gap for h, gap in heights), initial=top))
        key_ends = LEFT + sum(86 + LETTER * len(text) for text in key) + LETTER * len(foot)
        self.size = (max(self.lefts[-1], key_ends), self.tops[-1] + 2 * LINE)
        self.figure = Figure(
            figsize=(self.size[0] / DPI, self.size[1] / DPI), dpi=DPI, facecolor=theme.paper
        )
        for column, text in wrapped.items():
            self.text(
                self.lefts[column] + widths[column][0] / 2, top - 10, text, va="bottom", ha="center"
            )
        x, y = LEFT, self.size[1] - LINE
        for text, colour in key.items():
            self.figure.add_artist(Line2D(*self._at([x, x + 36], [y, y]), color=colour, lw=1.2))
            self.text(x + 46, y, text, va="center", ha="left")
            x += 86 + LETTER * len(text)
        self.text(x, y, foot, va="center", ha="left")

    def axes(self, row: int, column: int, width: int | None = None) -> Axes:
        """Axes that fill the cell, or the left `width` pixels of it."""
        (w, h), (full_w, full_h) = (
            (width or self.widths[column][0], self.heights[row][0]),
            self.size,
        )
        x, y = self.lefts[column], full_h - self.tops[row] - h
        return self.figure.add_axes((x / full_w, y / full_h, w / full_w, h / full_h))

    def panel(
        self, row: int, column: int, image: NDArray[Any], colours: str = "gray", top: float = 1.0
    ) -> AxesImage:
        axes = self.axes(row, column)
        axes.set_axis_off()
        return axes.imshow(
            image, cmap=colours, vmin=0, vmax=top, interpolation="nearest", aspect="equal"
        )

    def side_note(self, row: int, text: str) -> None:
        self.text(
            LEFT - 14, self.tops[row] + self.heights[row][0] / 2, text, va="center", ha="right"
        )

    def text(self, x: float, y: float, text: str, **how: Any) -> None:
        """Text at pixels from the top left corner."""
        [x], [y] = self._at([x], [y])
        self.figure.text(x, y, text, color=self.theme.ink, fontsize=FONT, **how)

    def _at(self, xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
        return [x / self.size[0] for x in xs], [1 - y / self.size[1] for y in ys]

    def colour_bar(self, row: int, column: int, image: AxesImage) -> None:
        bar = self.figure.colorbar(
            image, cax=self.axes(row, column, width=14), extend="max", extendfrac=0.05
        )
        bar.outline.set_visible(False)
        top = float(image.get_clim()[1])
        bar.set_ticks([0, top / 2, top], labels=["0", f"{top / 2:.2g}", f"{top:.2g}"])
        bar.ax.tick_params(labelsize=6.5, colors=self.theme.ink, width=0.4, length=2, pad=1.5)


def outline(axes: Axes, mask: NDArray[Any], colour: str, width: float = 0.8) -> None:
    """Draw the edges of the pixels at which a mask, (H, W) bool, begins and ends."""
    padded = np.pad(mask.astype(bool), 1)
    upright = [((x, y - 1), (x, y)) for y, x in np.argwhere(padded[:, 1:] != padded[:, :-1])]
    level = [((x - 1, y), (x, y)) for y, x in np.argwhere(padded[1:] != padded[:-1])]
    edges = np.array(upright + level, dtype=float).reshape(-1, 2, 2) - 0.5
    axes.add_collection(
        LineCollection(list(edges), colors=colour, linewidths=width, capstyle="round")
    )


def top_of_scale(maps: Sequence[NDArray[Any]]) -> float:
    """The 99th percentile of all positive values, so that one hot pixel does not darken the rest.

    It is 1 if no value is positive.
    """
    positive = np.concatenate([m[m > 0].ravel() for m in maps]) if maps else np.empty(0)
    return float(np.percentile(positive, 99)) if positive.size else 1.0


def panel_size(image: NDArray[Any], wanted: int) -> int:
    """The multiple of the image's side that is nearest to `wanted` pixels."""
    return max(1, round(wanted / image.shape[0])) * image.shape[0]


def wrap(text: str, width: int) -> str:
    """The text in lines that fit `width` pixels."""
    return "\n".join(fill(line, width // LETTER) for line in text.split("\n"))
