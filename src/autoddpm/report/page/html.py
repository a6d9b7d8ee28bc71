"""The page of a report: one file that needs no network and no other file."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autoddpm.report.figures.charts import DARK_COLOURS
from autoddpm.report.figures.figure import ReportFigure
from autoddpm.report.rows.seeds import seed_of
from autoddpm.report.tables.formats import interval_text, p_text, spread_text
from autoddpm.report.tables.table import Table, superscript
from autoddpm.runs.row import Row


@dataclass(frozen=True)
class Provenance:
    """Origin of the numbers of a report.

    shared: what all run folders say alike.
    differing: the keys in which they differ.
    lines: per run folder its row's title, its name and the values of `differing`.
    """

    shared: Mapping[str, str]
    differing: Sequence[str]
    lines: Sequence[tuple[str, str, Sequence[str]]]


def provenance(rows: Sequence[Row]) -> Provenance:
    """Data, weights, code, machine, thresholds and network calls of each row."""
    titled = [
        (f"{row.title} ({seed_of(run, row.members)})" if row.members else row.title, run)
        for row in rows
        for run in row.runs
    ]
    recorded = [_facts(run) for _, run in titled]
    keys = list(dict.fromkeys(key for facts in recorded for key in facts))
    shared = {
        key: recorded[0][key] for key in keys if len({facts.get(key) for facts in recorded}) == 1
    }
    differing = [key for key in keys if key not in shared]
    lines = [
        (title, run.folder.name, [facts.get(key, "–") for key in differing])
        for (title, run), facts in zip(titled, recorded, strict=True)
    ]
    return Provenance(shared, differing, lines)


def _facts(row: Row) -> dict[str, str]:
    facts = {key: _words(value) for key, value in row.provenance.items()}
    facts |= {f"threshold {key}": _words(value) for key, value in row.thresholds.items()}
    calls = {"network calls per slice": "calls_per_slice", "seconds per slice": "seconds_per_slice"}
    return facts | {words: _words(row.metrics.get(key)) for words, key in calls.items()}


def _words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(part)}" for key, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def page(
    name: str,
    note: str | None,
    tables: Sequence[Table],
    figures: Sequence[ReportFigure],
    remarks: Sequence[str],
    rows: Sequence[Row],
    slices: Mapping[str, Any] | None = None,
) -> str:
    """The page as HTML.

    note: in plain words, what the data are.
    remarks: what was left out.
    rows: of which the provenance is shown.
    slices: what the slice browser shows.
    """
    charts = [asdict(figure.chart) for figure in figures if figure.chart]
    library = Resources(mode="inline", components=["bokeh", "bokeh-widgets"])  # 1.6 MB
    return render(
        "page.html.jinja",
        name=name,
        note=note,
        tables=tables,
        figures=figures,
        remarks=remarks,
        provenance=provenance(rows),
        charts=charts,
        dark_colours=DARK_COLOURS,
        slices=slices,
        bokeh=Markup(library.render_js()) if charts else "",
    )


def render(template: str, **content: Any) -> str:
    """A template of this folder, filled."""
    environment = Environment(
        loader=PackageLoader("autoddpm.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {
        "base64": lambda data: b64encode(data).decode(),
        "superscript": superscript,
        "interval": interval_text,
        "spread": spread_text,
        "p": p_text,
        "script_json": _script_json,
    }
    return environment.get_template(template).render(**content)


def _script_json(data: Any) -> Markup:
    """JSON that cannot end the script element that holds it."""
    return Markup(json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))
