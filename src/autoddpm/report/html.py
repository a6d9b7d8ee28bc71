"""One self-contained page: tables, figures, provenance. Needs no network and no other file."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from autoddpm.report.figure import DPI
from autoddpm.report.rows import Row
from autoddpm.report.table import Table, superscript


@dataclass(frozen=True)
class Picture:
    """A figure of the page; light and dark are PNGs, None where it could not be drawn, and `remarks` say why."""

    name: str
    title: str
    caption: str
    light: bytes | None = None
    dark: bytes | None = None
    remarks: Sequence[str] = ()

    @property
    def width(self) -> int:
        """In CSS pixels (96 an inch), from the PNG's header, so that its text has its size on the page."""
        return round(int.from_bytes((self.light or b"")[16:20], "big") * 96 / DPI)


@dataclass(frozen=True)
class Provenance:
    """shared: what all rows say alike.  differing: the keys in which they differ.  lines: one a row: its title, folder
    and the values of `differing`."""

    shared: Mapping[str, str]
    differing: Sequence[str]
    lines: Sequence[tuple[str, str, Sequence[str]]]


def provenance(rows: Sequence[Row]) -> Provenance:
    """What made the numbers: data, weights, code, machine, thresholds and network calls of each row."""
    recorded = [_facts(row) for row in rows]
    keys = list(dict.fromkeys(key for facts in recorded for key in facts))
    shared = {key: recorded[0][key] for key in keys if len({facts.get(key) for facts in recorded}) == 1}
    differing = [key for key in keys if key not in shared]
    lines = [
        (row.title, row.folder.name, [facts.get(key, "–") for key in differing])
        for row, facts in zip(rows, recorded, strict=True)
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
) -> str:
    """The page as HTML; `note` says in plain words what the data are, `remarks` what was left out."""
    environment = Environment(
        loader=PackageLoader("autoddpm.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"base64": lambda data: b64encode(data).decode(), "superscript": superscript}
    return environment.get_template("page.html.jinja").render(
        name=name, note=note, tables=tables, pictures=pictures, remarks=remarks, provenance=provenance(rows)
    )
