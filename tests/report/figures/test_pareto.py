"""Dice against seconds: which rows no other one beats, and that all of them are drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_runs import measured as measured

from autoddpm.report.figures.pareto import LINE, _apart, draw_pareto, front, places
from autoddpm.runs.row import Row, read_rows


@pytest.fixture
def row(measured: Path) -> Row:
    return read_rows(measured)[0][0]


def of(row: Row, label: str, seconds: float | None, dice: float | None) -> Row:
    metrics = row.metrics | {"seconds_per_slice": seconds, "lesion/max_dice": dice}
    return replace(row, label=label, metrics=metrics)


def test_the_front_has_what_no_faster_row_equals(row):
    rows = [
        of(row, "slow", 9.0, 0.6),
        of(row, "fast", 0.1, 0.3),
        of(row, "beaten", 2.0, 0.2),
        of(row, "equal", 3.0, 0.3),
        of(row, "middle", 3.0, 0.4),
        of(row, "undefined", 1.0, None),
        of(row, "untimed", None, 0.9),
    ]
    found = places(rows)
    assert [one.title for one in found] == ["fast", "beaten", "middle", "equal", "slow"]
    assert [one.title for one in front(found)] == ["fast", "middle", "slow"]


def test_an_upper_bound_is_no_method(row):
    bound = of(row, "bound", 0.1, 1.0)
    bound = replace(bound, provenance=bound.provenance | {"sees_lesion": True})
    assert [one.title for one in places([of(row, "slow", 9.0, 0.6), bound])] == ["slow"]


def test_of_rows_of_equal_calls_the_best_map_counts(row):
    rows = [
        replace(of(row, "A", 1.0, dice), variant=f"calls={calls}, map={dice}")
        for calls, dice in ((90, 0.3), (90, 0.4), (45, 0.2))
    ]
    for one, calls in zip(rows, (90, 90, 45), strict=True):
        one.metrics["calls_per_slice"] = calls
    assert [place.dice for place in places(rows[:2])] == [40.0]
    assert places(rows[:2])[0].title == "A"
    other = replace(rows[0], provenance=rows[0].provenance | {"weights_hash": "other"})
    assert sorted(place.dice for place in places([*rows[:2], other])) == [30.0, 40.0]
    assert {place.title for place in places(rows)} == {
        "A [calls=90, map=0.4]",
        "A [calls=45, map=0.2]",
    }


def test_every_row_has_its_point_and_its_name(row):
    found = places([of(row, f"method {n}", 0.01 * 4**n, 0.1 + 0.01 * n) for n in range(6)])
    axes = draw_pareto(found).axes[0]
    assert [text.get_text() for text in axes.texts] == [one.title for one in found]
    points = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert np.allclose(points, [(one.seconds, one.dice) for one in found])


def test_names_of_like_rows_do_not_cover_each_other():
    heights, seconds = np.array([0.5, 0.5, 0.51, 0.5]), np.array([1.0, 2.0, 1.5, 1000.0])
    placed = _apart(heights, seconds)
    assert np.diff(np.sort(placed[:3])).min() >= LINE - 1e-9
    assert placed[3] == 0.5
