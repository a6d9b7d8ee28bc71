"""Curves against the noise level as a Matplotlib figure, for papers."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autoddpm.report.figures.curve import Curve
from autoddpm.report.figures.theme import BASELINE, DPI, LIGHT, METHOD, Theme

MARKERS = "osD^v"
DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MOST_TICKS = 8


def draw_curves(curves: Sequence[Curve], theme: Theme = LIGHT) -> Figure:
    """One panel per curve: the baselines as lines with points, each method as a dashed level."""
    figure = Figure(
        figsize=(3.1 * len(curves), 2.5), dpi=DPI, facecolor=theme.paper, layout="constrained"
    )
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, curve in zip(panels, curves, strict=True):
        _dress(axes, curve, theme)
        for marker, (name, points) in zip(
            MARKERS * len(curve.lines), curve.lines.items(), strict=False
        ):
            places = [point.x for point in points], [point.y for point in points]
            axes.plot(*places, color=BASELINE, marker=marker, ms=3.2, lw=1.1, label=name)
        for dash, level in zip(DASHES * len(curve.levels), curve.levels, strict=False):
            axes.axhline(level.y, color=METHOD, lw=1.1, ls=dash, label=level.title)
        axes.set_ylim(bottom=0)
        if curve.xs:
            step = 1 if len(curve.xs) <= MOST_TICKS else len(curve.xs) // MOST_TICKS + 1
            axes.set_xticks(curve.xs[::step])
    _add_legend(figure, theme)
    return figure


def _add_legend(figure: Figure, theme: Theme) -> None:
    lines = {
        name: line
        for axes in figure.axes
        for line, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if lines:
        figure.legend(
            list(lines.values()),
            list(lines),
            loc="outside lower left",
            frameon=False,
            fontsize=7,
            labelcolor=theme.ink,
            ncols=1 if any(len(name) > 30 for name in lines) else 4,
        )


def _dress(axes: Axes, curve: Curve, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_title(curve.column.title, loc="left", fontsize=8, color=theme.ink)
    axes.set_xlabel(f"noise level {curve.order}", fontsize=7, color=theme.ink)
    axes.set_ylabel("%" if curve.column.scale == 100 else "", fontsize=7, color=theme.ink)
    axes.tick_params(labelsize=6.5, colors=theme.ink, width=0.5, length=2.5)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", lw=0.4, color=theme.ink, alpha=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set(color=theme.ink, linewidth=0.5)
