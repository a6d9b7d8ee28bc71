"""Charts of the page: what they hold."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from report_runs import (
    BASELINES,
    METHOD,
)
from report_runs import measured as measured

from autoddpm.report.figures.charts import DARK_COLOURS, LEVELS, as_chart, precision_recall_chart
from autoddpm.report.figures.figure import Kind
from autoddpm.report.figures.theme import DARK, LIGHT
from autoddpm.report.tables.intervals import Resampled, Resamples, bootstrap_rows
from autoddpm.runs.row import Row, read_rows


@pytest.fixture(scope="module")
def rows(measured: Path) -> dict[str, Row]:
    return {row.label: row for row in read_rows(measured)[0]}


def test_a_precision_recall_chart_has_a_line_per_row(rows, tmp_path):
    every = list(rows.values())
    found = bootstrap_rows(every, tmp_path, 0, 0)
    kinds = [Kind(METHOD.rows(every)), Kind(BASELINES.rows(every), order="t")]
    drawn = precision_recall_chart(kinds, found)
    lines = [renderer for renderer in drawn.renderers if "title" in renderer.data_source.data]
    assert [line.data_source.data["title"][0] for line in lines] == [
        "AutoDDPM",
        "AnoDDPM (t=100)",
        "AnoDDPM (t=300)",
    ]
    assert [line.glyph.line_color for line in lines][1:] == [LEVELS[0], LEVELS[-1]]
    highest = 100 * rows["AnoDDPM (t=300)"].metrics["lesion/max_dice"]
    assert max(lines[2].data_source.data["dice"]) == pytest.approx(highest)
    empty = Resamples({row.folder: Resampled() for row in every})
    assert precision_recall_chart(kinds, empty) is None


def test_a_chart_is_the_same_data_each_time(rows, tmp_path):
    every = list(rows.values())
    found, kinds = bootstrap_rows(every, tmp_path, 0, 0), [Kind(every)]
    first, second = (
        json.dumps(as_chart("a", precision_recall_chart(kinds, found)).data) for _ in "ab"
    )
    assert first == second
    known = set(re.findall(r'"name": "\w+", "id": "(\w+)"', first))
    assert set(re.findall(r'"id": "(\w+)"', first)) <= known


def test_what_is_dark_on_light_paper_is_light_on_dark_paper():
    def contrast(one: str, other: str) -> float:
        shades = []
        for colour in (one, other):
            part = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
            linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
            shades.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
        return max(shades) / min(shades)

    assert contrast(LIGHT.ink, LIGHT.paper) > 7
    for light, dark in DARK_COLOURS.items():
        assert min(contrast(light, LIGHT.paper), contrast(dark, DARK.paper)) > 1.7
    assert contrast(DARK_COLOURS[LIGHT.ink], DARK.paper) > 7
