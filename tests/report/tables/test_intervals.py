"""Intervals and paired differences of tables, and what stands in their place."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import (
    BASELINES,
    DICE,
    METHOD,
    SLICES,
    SSIM,
    anoddpm,
    change_json,
    read_csv,
    report,
    table_of,
)
from report_runs import measured as measured
from report_runs import no_pictures as no_pictures
from report_runs import runs as runs
from rich.console import Console

from autoddpm.metrics.counts import every_score, histograms
from autoddpm.metrics.localization import localization, precision_recall
from autoddpm.metrics.statistics import Difference, Interval, holm
from autoddpm.report.rows.scored_slices import read_scored_slices
from autoddpm.report.select import references
from autoddpm.report.tables import intervals
from autoddpm.report.tables.differences import make_differences
from autoddpm.report.tables.intervals import Resamples, bootstrap_rows
from autoddpm.report.tables.table import Column
from autoddpm.runs.row import Row, read_row, read_rows

R = 100


NO_INTERVAL = {
    "calls_per_slice",
    "seconds_per_slice",
    *(f"lesion/best_threshold{group}" for group in ("", "/small", "/medium", "/large")),
}


@pytest.fixture
def copied(measured: Path, runs: Path) -> Path:
    shutil.copytree(measured, runs)
    return runs


def resampled(runs: Path, resamples: int = R, seed: int = 0) -> tuple[dict[str, Row], Resamples]:
    rows = read_rows(runs)[0]
    return {row.folder.name: row for row in rows}, bootstrap_rows(
        rows, runs.parent / "cache", resamples, seed
    )


def change_slices(folder: Path, **columns) -> None:
    path = folder / "slices.csv"
    slices = pd.read_csv(path, dtype={"subject": str})
    slices.assign(**columns).to_csv(path, index=False)


def test_each_metric_is_found_again_in_the_maps_with_an_interval(measured, tmp_path):
    rows = read_rows(measured)[0]
    found = bootstrap_rows(rows, tmp_path, R, 0)
    for row in rows:
        assert len(row.metrics) == 67
        for key in row.metrics.keys() - NO_INTERVAL:
            bounds = found.interval(row, key)
            assert isinstance(bounds, Interval), (row.label, key, bounds)
            assert found.by_folder[row.folder].values[key][0] == pytest.approx(
                row.metrics[key], abs=1e-6
            ), key
            if key != "all/slice_auprc":  # of two healthy slices: a tie in a resample can only help
                low, high = bounds.low - 1e-9, bounds.high + 1e-9
                assert low <= row.metrics[key] <= high, (row.label, key)
        assert all(found.interval(row, key) is None for key in NO_INTERVAL)


def test_slices_of_one_subject_count_as_one(runs):
    """Each slice three times over narrows the interval if these are three subjects, and not if they
    are one."""
    widths = {}
    for name, per_subject in (("three", 1), ("one", 3)):
        slices = [("healthy", 0)] * 24 + [("large", 9)] * 6
        folder = anoddpm(runs, 50, name, slices=slices, metrics={"healthy/ssim": 0.5})
        values = np.repeat(np.linspace(0.2, 0.8, 8), 3)
        change_slices(
            folder,
            ssim=[*values, *[None] * 6],
            subject=[f"s{n // per_subject:02d}" for n in range(30)],
        )
        rows, found = resampled(runs, 2000)
        bounds = found.interval(rows[name], "healthy/ssim")
        widths[name] = bounds.high - bounds.low
    assert widths["one"] / widths["three"] == pytest.approx(np.sqrt(3), rel=0.1)


def test_the_seed_sets_the_resamples(measured, tmp_path):
    rows = read_rows(measured)[0]
    by_seed = [bootstrap_rows(rows, tmp_path / str(seed), R, seed).by_folder for seed in (0, 0, 1)]
    first, again, other = (found[rows[0].folder].values["healthy/ssim"] for found in by_seed)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_resamples_are_the_same_in_several_processes(measured, tmp_path):
    rows = read_rows(measured)[0]
    alone, together = (
        bootstrap_rows(rows, tmp_path / str(n), R, 0, processes=n).by_folder for n in (1, 2)
    )
    assert alone.keys() == together.keys()
    for folder, one in alone.items():
        assert one.values.keys() == together[folder].values.keys()
        for key, values in one.values.items():
            np.testing.assert_array_equal(values, together[folder].values[key])


def test_a_healthy_slice_of_one_lesion_pixel_has_no_lesion(runs):
    folder = anoddpm(runs, 50)
    with np.load(folder / "maps.npz") as archive:
        arrays = dict(archive)
    arrays["lesion"][0, 5, 5] = True
    np.savez(folder / "maps.npz", **arrays)
    scored, _ = read_scored_slices(read_row(folder))
    assert scored.lesion[:2].sum() == 0
    assert scored.lesion.sum() == arrays["lesion"].sum() - 1
    assert scored.is_lesion.tolist() == [group != "healthy" for group, _ in SLICES]


def test_the_curve_encloses_auprc_and_touches_the_highest_dice(measured):
    scored, _ = read_scored_slices(read_row(measured / "anoddpm-t300"))
    ill = scored.is_lesion
    exact = localization(every_score(scored.maps[ill], scored.lesion[ill]))
    recall, precision = precision_recall(histograms(scored.maps[ill], scored.lesion[ill]))
    assert np.all(np.diff(recall) >= 0)
    assert recall[-1] == 1
    assert np.sum(np.diff(recall, prepend=0) * precision) == pytest.approx(exact.auprc[0], abs=0.01)
    assert np.max(2 * precision * recall / (precision + recall)) == pytest.approx(
        exact.max_dice[0], abs=1e-6
    )


def test_a_second_report_resamples_only_changed_rows(copied, monkeypatch):
    asked = []
    inner = intervals.measure
    monkeypatch.setattr(intervals, "measure", lambda *args: asked.append(1) or inner(*args))
    _, first = resampled(copied)
    assert len(asked) == 3
    _, second = resampled(copied)
    assert len(asked) == 3
    for folder, one in first.by_folder.items():
        again = second.by_folder[folder]
        assert all(
            np.array_equal(one.values[key], again.values[key], equal_nan=True) for key in one.values
        )
        assert np.array_equal(one.curve, again.curve)
    change_json(copied / "autoddpm" / "metrics.json", metrics={"lesion/best_threshold": 0.01})
    resampled(copied)
    assert len(asked) == 4
    kept = list((copied.parent / "cache").iterdir())
    assert len(kept) == 3  # what belongs to no row any more is gone
    kept[0].write_bytes(kept[0].read_bytes()[:200])
    resampled(copied)
    assert len(asked) == 5
    resampled(copied, seed=1)
    assert len(asked) == 8


def damaged_maps(folder: Path) -> str:
    path = folder / "maps.npz"
    path.write_bytes(path.read_bytes()[:-30])
    return "maps.npz"


def shorter_slices(folder: Path) -> str:
    path = folder / "slices.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    return "slices.csv has 10 slices and maps.npz 11"


def nobody(folder: Path) -> str:
    change_slices(folder, subject=[None, *["a"] * 10])
    return "does not say the subject of every slice"


def one_healthy_subject(folder: Path) -> str:
    change_slices(folder, subject=["a", "a", *map(str, range(9))])
    return "one healthy subject, a: a bootstrap over subjects needs two"


@pytest.mark.parametrize("damage", [damaged_maps, shorter_slices, nobody, one_healthy_subject])
def test_a_row_not_to_be_resampled_keeps_its_values_and_says_why(copied, damage):
    reason = damage(copied / "autoddpm")
    rows, found = resampled(copied)
    assert reason in found.problem(rows["autoddpm"])
    table = table_of([METHOD, BASELINES], [SSIM, DICE], list(rows.values()), found)
    assert [cell.low is None for cell in table.cells[0]] == [True, True]
    assert [cell.low is None for cell in table.cells[1]] == [False, False]
    assert table.cells[0][0].text == f"{100 * rows['autoddpm'].metrics['healthy/ssim']:.2f}"
    assert any(
        "No interval for AutoDDPM: " in remark and reason in remark for remark in table.remarks
    )
    compared = make_differences(table, references(METHOD, table.rows), found, R)
    assert all(
        cell.value is not None and cell.p_value is None for line in compared.cells for cell in line
    )
    assert any(reason in note for note in compared.notes)


def test_metrics_that_are_not_those_of_the_maps_get_no_interval(copied):
    change_json(copied / "autoddpm" / "metrics.json", metrics={"healthy/ssim": 0.5})
    rows, found = resampled(copied)
    assert "metrics.json 0.5: not of one evaluation" in found.interval(
        rows["autoddpm"], "healthy/ssim"
    )
    assert isinstance(found.interval(rows["autoddpm"], "healthy/mse"), Interval)


def test_a_value_in_too_few_subjects_has_a_note_for_an_interval(runs):
    anoddpm(runs, 50, value=None, slices=[*SLICES[:2], ("small", 2), *SLICES[5:]])
    rows, found = resampled(runs)
    column = Column("small", "lesion/max_dice/small", 100)
    table = table_of([BASELINES], [column], list(rows.values()), found)
    cell = table.cells[0][0]
    assert cell.value == pytest.approx(100 * rows["anoddpm-t50"].metrics[column.key], abs=0.01)
    assert cell.low is None
    assert cell.text.endswith("¹")
    assert "too few subjects for an interval" in table.notes[0]


@pytest.mark.usefixtures("no_pictures")
def test_without_resamples_there_are_just_values_and_curves(copied):
    folder = copied.parent / "report"
    values = {"table1", "table2", "table3", "protocol", "benchmarks"}
    before = {table.name for table in report(copied, f"report.resamples={R}").tables}
    assert before == values | {"table1_differences", "table2_differences"}
    assert (folder / "table1_differences.tex").is_file()
    bounds = {(one["method"], one["metric"]): one for one in read_csv(folder / "measured.csv")}
    found = bounds["AutoDDPM", "all/auprc"]
    assert float(found["low"]) <= float(found["value"]) <= float(found["high"])
    assert bounds["AutoDDPM", "calls_per_slice"]["low"] == ""
    made = report(copied)
    assert {table.name for table in made.tables} == values
    assert all(cell.low is None for table in made.tables for line in table.cells for cell in line)
    assert not any("No interval" in remark for table in made.tables for remark in table.remarks)
    assert not list(folder.glob("*_differences.*"))
    rows, found = resampled(copied, 0)
    assert found.curve(rows["autoddpm"]).shape[0] == 2
    assert found.curve(rows["autoddpm"]).shape[1] > 5


def test_a_row_with_no_metric_to_resample_is_no_error(runs):
    folder = anoddpm(runs, 50)
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {"calls_per_slice": 5}}))
    for _ in range(2):
        rows, found = resampled(runs)
        assert found.interval(rows["anoddpm-t50"], "calls_per_slice") is None
        assert found.problem(rows["anoddpm-t50"]) == ""


def test_progress_is_shown_on_a_terminal_and_not_in_a_file(measured, tmp_path):
    said = []
    for is_terminal in (True, False):
        output = io.StringIO()
        console = Console(file=output, force_terminal=is_terminal, width=80)
        bootstrap_rows(read_rows(measured)[0], tmp_path / str(is_terminal), R, 0, console)
        said.append(output.getvalue())
    assert f"{R} resamples" in said[0]
    assert said[1] == ""


def test_a_difference_is_paired_over_the_same_subjects(copied):
    """SSIM of one row is that of the other plus a constant: its interval is wide, that of the
    difference a point."""
    slices = pd.read_csv(copied / "anoddpm-t100" / "slices.csv")
    change_slices(copied / "anoddpm-t300", ssim=slices["ssim"] + 0.25)
    ssim = read_row(copied / "anoddpm-t100").metrics["healthy/ssim"]
    change_json(copied / "anoddpm-t300" / "metrics.json", metrics={"healthy/ssim": ssim + 0.25})
    rows, found = resampled(copied)
    single = found.interval(rows["anoddpm-t300"], "healthy/ssim")
    paired = found.difference(rows["anoddpm-t300"], rows["anoddpm-t100"], "healthy/ssim")
    assert single.high - single.low > 1e-5
    assert paired[:2] == pytest.approx((0.25, 0.25), abs=1e-9)
    assert paired.p_value == pytest.approx(2 / (R + 1))
    assert found.difference(
        rows["anoddpm-t100"], rows["anoddpm-t300"], "healthy/ssim"
    ).low == pytest.approx(-0.25)


def test_rows_of_other_data_have_no_difference(copied):
    rows, found = resampled(copied)
    other = replace(
        rows["anoddpm-t100"], provenance=rows["anoddpm-t100"].provenance | {"data_hash": "other"}
    )
    assert (
        found.difference(other, rows["autoddpm"], "healthy/ssim")
        == "measured on other data than AutoDDPM"
    )


def test_differences_are_corrected_and_in_bold_if_significant(
    copied,
):
    rows, found = resampled(copied, 1000)
    plain = Column("FPR", "healthy/fpr@healthy_fpr5", 100)
    table = table_of([METHOD, BASELINES], [SSIM, plain, DICE], list(rows.values()), found)
    compared = make_differences(table, references(METHOD, table.rows), found, 1000)
    assert [row.label for row in compared.rows] == ["AnoDDPM (t=100)", "AnoDDPM (t=300)"]
    assert [column.title for column in compared.columns] == ["SSIM", "Dice"]
    raw = [
        found.difference(row, rows["autoddpm"], column.key)
        for row in compared.rows
        for column in compared.columns
    ]
    assert all(isinstance(one, Difference) for one in raw)
    cells = [cell for line in compared.cells for cell in line]
    assert [cell.p_value for cell in cells] == pytest.approx(
        list(holm([one.p_value for one in raw]))
    )
    assert [cell.best for cell in cells] == [cell.p_value < 0.05 for cell in cells]
    assert any(cell.best for cell in cells)
    for cell, row, column in zip(
        cells, [r for r in compared.rows for _ in range(2)], [SSIM, DICE] * 2, strict=True
    ):
        change = row.metrics[column.key] - rows["autoddpm"].metrics[column.key]
        assert cell.text == f"{100 * change:+.2f}"
        assert cell.low <= cell.value <= cell.high


def test_too_few_resamples_are_said_with_the_number_needed(copied):
    rows, found = resampled(copied)
    table = table_of([METHOD, BASELINES], [SSIM, DICE], list(rows.values()), found)
    [remark] = make_differences(table, references(METHOD, table.rows), found, R).remarks
    assert "report.resamples=160" in remark
    assert make_differences(table, references(METHOD, table.rows), found, 160).remarks == []


def test_an_undefined_value_has_a_reason_and_no_difference(copied):
    rows, found = resampled(copied)
    rows["autoddpm"] = replace(
        rows["autoddpm"], metrics={}, undefined={DICE.key: "no lesion slice in the test set"}
    )
    table = table_of([METHOD, BASELINES], [DICE], list(rows.values()), found)
    compared = make_differences(table, references(METHOD, table.rows), found, R)
    assert [line[0].text for line in compared.cells] == ["–¹", "–¹"]
    assert compared.notes == ["no lesion slice in the test set"]


def test_nothing_is_compared_without_the_reference(copied):
    rows, found = resampled(copied)
    table = table_of([BASELINES], [DICE], list(rows.values()), found)
    assert make_differences(table, references(METHOD, table.rows), found, R) is None
