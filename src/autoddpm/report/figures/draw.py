"""What each figure of a report shows of the rows that are there, and in words what is missing."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from matplotlib.figure import Figure

from autoddpm.report.figures.charts import as_chart, precision_recall_chart
from autoddpm.report.figures.curve import Curve, draw_curves
from autoddpm.report.figures.examples import Choice, Examples
from autoddpm.report.figures.figure import Chart, FigureRows, ReportFigure
from autoddpm.report.figures.pareto import draw_pareto, front, places
from autoddpm.report.figures.slice_figures import noise_paradox_figure, stitching_figure
from autoddpm.report.figures.theme import DARK, LIGHT, Theme, png
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.table import Column
from autoddpm.runs.row import Row

OF_FIGURE4 = ("reconstruction", "anomaly_map")
OF_FIGURE5 = ("initial_reconstruction", "stitched", "reconstruction", "mask")


def draw_figures(
    figures: Mapping[str, FigureRows],
    curves: Mapping[str, Sequence[Curve]],
    resamples: Resamples,
    choice: Choice,
    examples: Examples,
) -> list[ReportFigure]:
    """The figures that were selected, but for the slice browser, which is the page's.

    curves: by the name of their figure.
    choice: how the examples were chosen.
    """
    found = [_curves(name, figures[name], panels) for name, panels in curves.items()]
    if chosen := figures.get("precision_recall"):
        found.append(_precision_recall(chosen, resamples))
    if chosen := figures.get("dice_by_seconds"):
        found.append(_dice_by_seconds(chosen))
    if chosen := figures.get("figure4"):
        found.append(_figure4(chosen, choice, examples))
    if chosen := figures.get("figure5"):
        found.append(_figure5(chosen, choice, examples))
    return found


def report_figure(
    name: str,
    chosen: FigureRows,
    draw: Callable[[Theme], Figure] | None = None,
    said: str = "",
    remarks: Sequence[str] = (),
    chart: Chart | None = None,
) -> ReportFigure:
    """A figure with its PNGs.

    draw: makes them, None if it has none.
    said: what the figure shows, after its caption.
    """
    light, dark = (png(draw(theme)) if draw else None for theme in (LIGHT, DARK))
    if not (draw or chart):
        remarks = ["Not drawn: no row has what it takes.", *remarks]
    caption = f"{chosen.caption} {said}".strip()
    return ReportFigure(
        name, chosen.title, caption, light, dark, list(dict.fromkeys(remarks)), chart
    )


def _curves(name: str, chosen: FigureRows, panels: Sequence[Curve]) -> ReportFigure:
    draw = partial(draw_curves, panels) if panels[0].xs else None
    return report_figure(name, chosen, draw, _in_words(chosen), chosen.missing)


def _in_words(chosen: FigureRows) -> str:
    """How the metrics change from the first noise level to the last, and what the methods have."""
    baselines, columns = chosen.kinds["baselines"], chosen.columns
    levels = [row for row in baselines.rows if baselines.order in row.detector]
    said = ""
    if len(levels) > 1:
        first, last = levels[0], levels[-1]
        changes = [f"{c.title} from {_value(first, c)} to {_value(last, c)}" for c in columns]
        said = f"From {first.title} to {last.title}: {'; '.join(changes)}. "
    return said + " ".join(
        f"{row.title}: {', '.join(f'{c.title} {_value(row, c)}' for c in columns)}."
        for row in chosen.kinds["method"].rows
    )


def _value(row: Row, column: Column) -> str:
    value = row.metrics.get(column.key)
    return "–" if value is None else f"{value * column.scale:.{column.digits}f}"


def _precision_recall(chosen: FigureRows, resamples: Resamples) -> ReportFigure:
    drawn = precision_recall_chart(list(chosen.kinds.values()), resamples)
    chart = as_chart("precision-recall", drawn) if drawn else None
    return report_figure("precision_recall", chosen, remarks=chosen.missing, chart=chart)


def _dice_by_seconds(chosen: FigureRows) -> ReportFigure:
    found = places(chosen.rows)
    best = ", ".join(f"{one.title} ({one.dice:.1f}, {one.seconds:.2g} s)" for one in front(found))
    said = f"No other one is as good as fast: {best}." if found else ""
    draw = partial(draw_pareto, found) if found else None
    return report_figure("dice_by_seconds", chosen, draw, said, chosen.missing)


def _figure4(chosen: FigureRows, choice: Choice, examples: Examples) -> ReportFigure:
    levels, lost_levels = examples.of(chosen.kinds["baselines"].rows, OF_FIGURE4)
    methods, lost_methods = examples.of(chosen.kinds["method"].rows, OF_FIGURE4)
    remarks = [*choice.remarks, *lost_levels, *lost_methods, *chosen.missing]
    if not levels and not methods:
        return report_figure("figure4", chosen, remarks=remarks)
    return report_figure(
        "figure4",
        chosen,
        lambda theme: noise_paradox_figure(examples.examples, levels, methods, theme),
        choice.how,
        remarks,
    )


def _figure5(chosen: FigureRows, choice: Choice, examples: Examples) -> ReportFigure:
    rows = chosen.kinds["method"].rows
    shown, lost = examples.of(rows, OF_FIGURE5)
    remarks = [*choice.remarks, *lost, *chosen.missing]
    if not shown:
        return report_figure("figure5", chosen, remarks=remarks)
    first = shown[0]
    if len(rows) > 1:
        remarks.append(f"Of {', '.join(row.title for row in rows)} this is {first.row.title}.")
    return report_figure(
        "figure5",
        chosen,
        lambda theme: stitching_figure(examples.examples, first, theme),
        choice.how,
        remarks,
    )
