"""The noise paradox as curves: a metric against the noise level, with our method as a level
line."""

from collections import defaultdict
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autoddpm.report.figures.figure import BASELINE, DPI, LIGHT, METHOD, Theme
from autoddpm.report.rows.row import Row
from autoddpm.report.tables.table import Column

MARKERS = "osD^v"
DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def noise_curve(
    baselines: Sequence[Row],
    methods: Sequence[Row],
    columns: Sequence[Column],
    order: str,
    theme: Theme = LIGHT,
) -> Figure:
    """One panel a column: the baselines' metric against the detector setting `order`, each method
    as a dashed level.

    Baselines with different other settings (variants) are different lines. A point whose metric is
    undefined is left out; the tables say why.
    """
    baselines = [row for row in baselines if order in row.detector]
    figure = Figure(
        figsize=(3.1 * len(columns), 2.5), dpi=DPI, facecolor=theme.paper, layout="constrained"
    )
    for axes, column in zip(
        figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True
    ):
        _dress(axes, column, order, theme)
        lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in baselines:
            value = row.metrics.get(column.key)
            if value is not None:
                lines[row.variant].append((row.detector[order], value * column.scale))
        for marker, (variant, points) in zip(MARKERS * len(lines), lines.items(), strict=False):
            name = f"{baselines[0].detector['name']}{f' [{variant}]' if variant else ''}"
            axes.plot(
                *zip(*sorted(points), strict=True),
                color=BASELINE,
                marker=marker,
                ms=3.2,
                lw=1.1,
                label=name,
            )
        for dash, row in zip(DASHES * len(methods), methods, strict=False):
            value = row.metrics.get(column.key)
            if value is not None:
                axes.axhline(value * column.scale, color=METHOD, lw=1.1, ls=dash, label=row.title)
        axes.set_ylim(bottom=0)
        if xs := sorted({row.detector[order] for row in baselines}):
            axes.set_xticks(xs if len(xs) <= 8 else xs[:: len(xs) // 8 + 1])
    legend = {
        name: line
        for axes in figure.axes
        for line, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if legend:
        figure.legend(
            list(legend.values()),
            list(legend),
            loc="outside lower left",
            frameon=False,
            fontsize=7,
            labelcolor=theme.ink,
            ncols=1 if any(len(name) > 30 for name in legend) else 4,
        )
    return figure


def _dress(axes: Axes, column: Column, order: str, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_title(column.title, loc="left", fontsize=8, color=theme.ink)
    axes.set_xlabel(f"noise level {order}", fontsize=7, color=theme.ink)
    axes.set_ylabel("%" if column.scale == 100 else "", fontsize=7, color=theme.ink)
    axes.tick_params(labelsize=6.5, colors=theme.ink, width=0.5, length=2.5)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", lw=0.4, color=theme.ink, alpha=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set(color=theme.ink, linewidth=0.5)
