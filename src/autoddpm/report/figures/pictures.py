"""The report's pictures and charts: what each shows of the rows that are there, and in words what
is missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from autoddpm.report.figures.charts import level_chart, precision_recall_chart
from autoddpm.report.figures.curve import noise_curve
from autoddpm.report.figures.embed import Chart, chart
from autoddpm.report.figures.examples import Example, pick_examples, read_shown
from autoddpm.report.figures.figure import DARK, LIGHT, Theme, noise_paradox, png, resampling
from autoddpm.report.page.browser import browser_layout
from autoddpm.report.page.browser_data import browser_data
from autoddpm.report.page.html import Picture
from autoddpm.report.rows.methods import Method
from autoddpm.report.rows.row import Row, UnreadableRunError
from autoddpm.report.rows.seeds import seed_of
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.table import Column, chosen_rows

INITIAL_STAGES = ("initial_reconstruction", "stitched", "reconstruction", "mask")


def draw_pictures(
    settings: Mapping[str, Any],
    methods: Mapping[str, Method],
    rows: Sequence[Row],
    resamples: Resamples,
) -> list[Picture]:
    """Curves, Figure 4 and Figure 5, from `figures`, `examples` and `slices` of conf/report.yaml;
    none that is null.

    Raises ValueError where `slices` names a slice that is not there.
    """
    draw: dict[str, Callable[[Mapping[str, Any]], Picture]] = {
        "noise_paradox": lambda text: _curve("noise_paradox", text, methods, rows, resamples),
        "dice_by_size": lambda text: _curve("dice_by_size", text, methods, rows, resamples),
        "precision_recall": lambda text: _precision_recall(text, methods, rows, resamples),
        "figure4": lambda text: _figure4(text, methods, rows, settings),
        "figure5": lambda text: _figure5(text, methods, rows, settings),
    }
    figures = settings["figures"]
    return [picture(figures[name]) for name, picture in draw.items() if figures[name] is not None]


def draw_browser(
    settings: Mapping[str, Any], methods: Mapping[str, Method], rows: Sequence[Row]
) -> tuple[list[Picture], dict[str, Any] | None]:
    """The slice browser, and the slices it shows, which the page holds as JSON; none where it is
    not wanted."""
    text = settings["figures"]["browser"]
    if text is None or not settings["browser_slices"]:
        return [], None
    chosen, _ = chosen_rows([methods[key] for key in text["rows"]], rows)
    data, remarks = browser_data([_first_seed(row) for row in chosen], settings["browser_slices"])
    charts = [chart("browser-chart", browser_layout(data), is_themed=False)] if data else []
    return [_picture("browser", text, None, "", remarks, charts)], data


def _first_seed(row: Row) -> Row:
    first = row.runs[0]
    seed = seed_of(first, row.members) if row.members else ""
    return replace(first, variant=", ".join(filter(None, [row.variant, seed])))


def _picture(
    name: str,
    text: Mapping[str, Any],
    draw: Callable[[Theme], Figure] | None,
    said: str,
    remarks: Sequence[str],
    charts: Sequence[Chart] = (),
) -> Picture:
    light, dark = (png(draw(theme)) if draw else None for theme in (LIGHT, DARK))
    caption = f"{text['caption']} {said}".strip()
    remarks = [
        *([] if draw or charts else ["Not drawn: no row has what it takes."]),
        *dict.fromkeys(remarks),
    ]
    return Picture(name, text["title"], caption, light, dark, remarks, charts)


def _precision_recall(
    text: Mapping[str, Any],
    methods: Mapping[str, Method],
    rows: Sequence[Row],
    resamples: Resamples,
) -> Picture:
    kinds = [methods[key] for key in text["rows"]]
    drawn = precision_recall_chart(kinds, rows, resamples)
    charts = [chart("precision-recall", drawn)] if drawn else []
    return _picture("precision_recall", text, None, "", _missing(kinds, rows), charts)


def _curve(
    name: str,
    text: Mapping[str, Any],
    methods: Mapping[str, Method],
    rows: Sequence[Row],
    resamples: Resamples,
) -> Picture:
    baselines, method = methods[text["baselines"]], methods[text["method"]]
    columns = [Column(**column) for column in text["columns"]]
    order = baselines.order or ""
    levels, ours = [row for row in baselines.rows(rows) if order in row.detector], method.rows(rows)
    said = ""
    if len(levels) > 1:
        first, last = levels[0], levels[-1]
        changes = [f"{c.title} from {_value(first, c)} to {_value(last, c)}" for c in columns]
        said = f"From {first.title} to {last.title}: {'; '.join(changes)}. "
    said += " ".join(
        f"{row.title}: {', '.join(f'{c.title} {_value(row, c)}' for c in columns)}." for row in ours
    )
    remarks = _missing([baselines, method], rows)
    if not levels:
        return _picture(name, text, None, said, remarks)
    panels = [level_chart(levels, ours, column, order, resamples) for column in columns]
    charts = [chart(f"{name}-{n}", panel) for n, panel in enumerate(panels)]
    return _picture(
        name,
        text,
        lambda theme: noise_curve(levels, ours, columns, order, theme),
        said,
        remarks,
        charts,
    )


def _figure4(
    text: Mapping[str, Any],
    methods: Mapping[str, Method],
    rows: Sequence[Row],
    settings: Mapping[str, Any],
) -> Picture:
    baselines, method = methods[text["baselines"]], methods[text["method"]]
    levels, ours = baselines.rows(rows), method.rows(rows)
    examples, said, remarks = choose_examples([*ours, *reversed(levels)], settings)
    if not examples:
        return _picture("figure4", text, None, "", remarks)
    shown_levels, lost_levels = read_shown(levels, examples, ["reconstruction", "anomaly_map"])
    shown_ours, lost_ours = read_shown(ours, examples, ["reconstruction", "anomaly_map"])
    remarks += [*lost_levels, *lost_ours, *_missing([baselines, method], rows)]
    return _picture(
        "figure4",
        text,
        lambda theme: noise_paradox(examples, shown_levels, shown_ours, theme),
        said,
        remarks,
    )


def _figure5(
    text: Mapping[str, Any],
    methods: Mapping[str, Method],
    rows: Sequence[Row],
    settings: Mapping[str, Any],
) -> Picture:
    method = methods[text["method"]]
    ours = method.rows(rows)
    examples, said, remarks = choose_examples(ours, settings)
    shown, lost = read_shown(ours, examples, INITIAL_STAGES) if examples else ([], [])
    remarks += [*lost, *_missing([method], rows)]
    if not shown:
        return _picture("figure5", text, None, "", remarks)
    if len(ours) > 1:
        remarks.append(f"Of {', '.join(row.title for row in ours)} this is {shown[0].row.title}.")
    return _picture(
        "figure5", text, lambda theme: resampling(examples, shown[0], theme), said, remarks
    )


def choose_examples(
    rows: Sequence[Row], settings: Mapping[str, Any]
) -> tuple[list[Example], str, list[str]]:
    """The examples of the first row whose files are whole, how they were chosen, and why rows
    before it were not.

    Raises ValueError where `slices` names a slice that is not there.
    """
    remarks, how = [], settings["examples"]
    for row in rows:
        try:
            examples = pick_examples(row, how["groups"], how["by"], settings["slices"])
        except UnreadableRunError as error:
            remarks.append(f"{row.title} is not shown: {error}.")
            continue
        if examples:
            chosen = (
                "chosen by report.slices"
                if settings["slices"]
                else (
                    f"each the slice whose {how['by']} is nearest to the median of its size group "
                    "for "
                    f"{row.title}"
                )
            )
            slices = ", ".join(
                f"{example.id} ({example.pixels} lesion pixels)" for example in examples
            )
            return examples, f"Slices from top to bottom, {chosen}: {slices}.", remarks
        remarks.append(f"{row.title} has no lesion slice in the groups {', '.join(how['groups'])}.")
    return [], "", remarks


def _missing(methods: Sequence[Method], rows: Sequence[Row]) -> list[str]:
    missing = [name for method in methods for name in method.missing(rows)]
    return [f"Not evaluated yet: {', '.join(missing)}."] if missing else []


def _value(row: Row, column: Column) -> str:
    value = row.metrics.get(column.key)
    return "–" if value is None else f"{value * column.scale:.{column.digits}f}"
