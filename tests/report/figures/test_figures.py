"""Figures: which slices are shown, and that they are shown as they are."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from report_runs import (
    BASELINES,
    METHOD,
    SIZE,
    SSIM,
    anoddpm,
    autoddpm,
    read_csv,
)
from report_runs import measured as measured
from report_runs import runs as runs

from autoddpm.report.figures.curve import curves, draw_curves
from autoddpm.report.figures.examples import Choice, choose_examples
from autoddpm.report.figures.figure import FigureRows, Kind
from autoddpm.report.figures.panels import outline, panel_size, top_of_scale
from autoddpm.report.figures.slice_figures import noise_paradox_figure, stitching_figure
from autoddpm.report.figures.theme import png
from autoddpm.report.read import read_pictures
from autoddpm.report.select import Selection
from autoddpm.report.tables.intervals import Resamples, bootstrap_rows
from autoddpm.report.tables.table import Column
from autoddpm.runs.row import read_row, read_rows


def pictures_of(row, slices):
    """What a report would read of the slices of a row."""
    figure = FigureRows("", "", {"method": Kind([row])})
    return read_pictures(Selection([row], [], {"figure5": figure}, slices, Choice(), [])).examples


def test_an_example_is_the_slice_nearest_to_its_groups_median(runs):
    row = read_row(anoddpm(runs, 200))
    lines = read_csv(row.folder / "slices.csv")
    wanted = []
    for size in ("large", "medium", "small"):
        group = sorted(
            (float(line["max_dice"]), line["id"]) for line in lines if line["size_group"] == size
        )
        assert len({dice for dice, _ in group}) == 3
        wanted.append(group[1][1])
    chosen = choose_examples([row], ["large", "medium", "small"], "max_dice")
    assert [example.id for example in chosen.slices] == wanted
    picked = pictures_of(row, chosen).examples
    assert [example.id for example in picked] == wanted
    assert [example.size_group for example in picked] == ["large", "medium", "small"]
    assert all(example.lesion.sum() == example.pixels for example in picked)


def test_examples_can_be_named(runs):
    named = ["phantom/007", "phantom/000"]
    chosen = choose_examples([read_row(autoddpm(runs))], [], "", named)
    assert [one.id for one in chosen.slices] == named


def test_an_outline_runs_along_the_edges_of_the_lesions_pixels():
    axes = Figure().add_subplot()
    mask = np.zeros((6, 8), bool)
    mask[2, 5] = True
    outline(axes, mask, "red")
    edges = {frozenset(map(tuple, path.vertices)) for path in axes.collections[0].get_paths()}
    # (x, y) around the pixel in row 2, column 5
    corners = [(4.5, 1.5), (5.5, 1.5), (5.5, 2.5), (4.5, 2.5)]
    assert edges == {frozenset((corners[i], corners[(i + 1) % 4])) for i in range(4)}
    outline(axes, np.ones((3, 4), bool), "red")  # it is closed at the border
    assert len(axes.collections[1].get_paths()) == 2 * (3 + 4)


def test_panels_show_every_pixel_as_it_is_on_a_scale_from_0_to_1(runs):
    row = read_row(anoddpm(runs, 100))
    read = pictures_of(row, choose_examples([row], ["large"], "max_dice"))
    shown, remarks = read.of([row], ["reconstruction", "anomaly_map"])
    assert not remarks
    examples, figure = read.examples, noise_paradox_figure(read.examples, shown, [])
    drawn = np.asarray(Image.open(io.BytesIO(png(figure))).convert("L")).astype(float)
    side = panel_size(examples[0].image, 256)
    for wanted in (examples[0].image, shown[0].stages["reconstruction"][0]):
        panel = np.kron(wanted, np.ones((side // SIZE, side // SIZE))) * 255
        errors = [
            np.abs(drawn[y : y + side, x : x + side] - panel).max()
            for y in range(30, 80)
            if y + side <= drawn.shape[0]
            for x in (215, 215 + side + 10)
            if x + side <= drawn.shape[1]
        ]
        assert min(errors) < 2  # of 255: the colour map's own rounding


def test_figure_5_names_the_initial_reconstruction_s_noise_level(runs):
    row = read_row(autoddpm(runs))
    read = pictures_of(row, choose_examples([row], ["large"], "max_dice"))
    [shown], _ = read.of([row], ["initial_reconstruction", "stitched", "mask"])
    words = [text.get_text() for text in stitching_figure(read.examples, shown).texts]
    assert any("AnoDDPM (t=200)" in " ".join(text.split()) for text in words)


def test_the_scale_of_maps_ends_at_a_high_percentile():
    maps = np.zeros((2, 50, 50))
    maps[0, 0] = np.linspace(0.02, 1, 50)
    assert top_of_scale([maps]) == pytest.approx(np.percentile(np.linspace(0.02, 1, 50), 99))
    assert top_of_scale([np.zeros((3, 3))]) == 1


def test_a_curve_has_a_point_per_noise_level_and_a_level_line(runs):
    for t in (300, 50):
        anoddpm(runs, t)
    anoddpm(runs, 100, metrics={"healthy/ssim": None})
    autoddpm(runs)
    rows = read_rows(runs)[0]
    kinds = {"baselines": Kind(BASELINES.rows(rows), order="t")}
    kinds["method"] = Kind(METHOD.rows(rows))
    chosen = FigureRows("", "", kinds, [Column("SSIM", "healthy/ssim", 100)])
    axes = draw_curves(curves(chosen, Resamples({}))).axes[0]
    points, level = axes.get_lines()
    assert list(points.get_xdata()) == [50, 300]
    assert list(points.get_ydata()) == pytest.approx([2.5, 15.0])
    assert list(level.get_ydata()) == pytest.approx([41.23, 41.23])


def test_a_curve_has_bars_and_a_band_for_its_intervals(measured, tmp_path):
    rows = read_rows(measured)[0]
    levels, ours = BASELINES.rows(rows), METHOD.rows(rows)
    found = bootstrap_rows(rows, tmp_path, 50, 0)
    kinds = {"baselines": Kind(levels, order="t"), "method": Kind(ours)}
    axes = draw_curves(curves(FigureRows("", "", kinds, [SSIM]), found)).axes[0]
    bounds = [found.interval(row, "healthy/ssim") for row in (*levels, *ours)]
    expected = [[100 * bound for bound in one[:2]] for one in bounds]
    bars = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    band = axes.patches[0].get_bbox()
    assert [*bars, [band.y0, band.y1]] == pytest.approx(np.array(expected))
