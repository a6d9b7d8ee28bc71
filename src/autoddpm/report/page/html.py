"""One self-contained page: tables, figures, charts, slices, provenance. Needs no network and no
other file."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autoddpm.report.figures.charts import DARK_COLOURS
from autoddpm.report.figures.embed import Chart, bokeh_library
from autoddpm.report.figures.figure import DPI
from autoddpm.report.rows.row import Row
from autoddpm.report.rows.seeds import seed_of
from autoddpm.report.tables.formats import interval_text, p_text, spread_text
from autoddpm.report.tables.table import Table, superscript


@dataclass(frozen=True)
class Picture:
    """A figure of the page; light and dark are PNGs, None where it could not be drawn, and
    `remarks` say why.

    charts: shown in the PNG's place where there is JavaScript.
    """

    name: str
    title: str
    caption: str
    light: bytes | None = None
    dark: bytes | None = None
    remarks: Sequence[str] = ()
    charts: Sequence[Chart] = ()

    @property
    def width(self) -> int:
        """In CSS pixels (96 an inch), from the PNG's header, so that its text has its size on the
        page."""
        return round(int.from_bytes((self.light or b"")[16:20], "big") * 96 / DPI)


@dataclass(frozen=True)
class Provenance:
    """shared: what all rows say alike.  differing: the keys in which they differ.  lines: one a run
    folder: its row's title, its name and the values of `differing`."""

    shared: Mapping[str, str]
    differing: Sequence[str]
    lines: Sequence[tuple[str, str, Sequence[str]]]


def provenance(rows: Sequence[Row]) -> Provenance:
    """What made the numbers: data, weights, code, machine, thresholds and network calls of each
    row."""
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
    calls = {"network calls a slice": "calls_per_slice", "seconds a slice": "seconds_per_slice"}
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
    pictures: Sequence[Picture],
    remarks: Sequence[str],
    rows: Sequence[Row],
    slices: Mapping[str, Any] | None = None,
) -> str:
    """The page as HTML; `note` says in plain words what the data are, `remarks` what was left out.
    slices: what the slice browser shows."""
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
    charts = [asdict(chart) for picture in pictures for chart in picture.charts]
    return environment.get_template("page.html.jinja").render(
        name=name,
        note=note,
        tables=tables,
        pictures=pictures,
        remarks=remarks,
        provenance=provenance(rows),
        charts=charts,
        dark_colours=DARK_COLOURS,
        slices=slices,
        bokeh=Markup(bokeh_library()) if charts else "",
    )


def _script_json(data: Any) -> Markup:
    """JSON that cannot end the script element that holds it."""
    return Markup(json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))
