import base64
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from report_runs import (
    AUTODDPM,
    METRICS,
    SIZE,
    Page,
    anoddpm,
    autoddpm,
    read_csv,
    report,
    row_of,
    settings,
    table_of,
    write_all,
    write_row,
)
from report_runs import no_pictures as no_pictures
from rich.console import Console

from autoddpm.atomic import write_bytes
from autoddpm.report.figures.curve import curves, draw_curves
from autoddpm.report.figures.examples import Choice, choose_examples
from autoddpm.report.figures.figure import FigureRows, Kind
from autoddpm.report.figures.panels import outline, panel_size, top_of_scale
from autoddpm.report.figures.slice_figures import noise_paradox_figure, stitching_figure
from autoddpm.report.figures.theme import png
from autoddpm.report.page.html import provenance
from autoddpm.report.read import read_pictures
from autoddpm.report.rows.methods import Method, disagreements, set_apart
from autoddpm.report.select import Selection
from autoddpm.report.tables.formats import to_csv, to_markdown
from autoddpm.report.tables.intervals import Resamples, bootstrap_rows
from autoddpm.report.tables.table import Column
from autoddpm.report.tables.terminal import print_table
from autoddpm.runs.folder import UnreadableRunError
from autoddpm.runs.row import read_maps, read_row, read_rows

ROOT = Path(__file__).resolve().parents[2]


# --- the whole report


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "demo" / "evaluate"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "demo"
    report(write_all(folder / "evaluate"), "report.note='Phantoms & <nobody>'")
    return folder / "report"


def test_table_1_has_autoddpm_and_then_anoddpm_by_noise_level(whole):
    lines = read_csv(whole / "table1.csv")
    assert [line["Method"] for line in lines] == ["AutoDDPM"] + [
        f"AnoDDPM (t={t})" for t in range(50, 301, 50)
    ]
    assert [line["Dice"] for line in lines] == [
        "41.23",
        "2.50",
        "5.00",
        "7.50",
        "10.00",
        "12.50",
        "15.00",
    ]
    assert lines[0]["Calls"] == "45.0"
    assert lines[1]["data_hash"] == "d" * 64
    assert lines[1]["folder"].endswith("anoddpm-t50")


def test_table_3_has_autoddpm_and_its_two_ablations(whole):
    lines = read_csv(whole / "table3.csv")
    assert [(line["Method"], line["global"]) for line in lines] == [
        ("AutoDDPM", "41.23"),
        ("AutoDDPM (w/o uncertainty)", "35.00"),
        ("AutoDDPM (w/o re-sampling)", "33.00"),
    ]
    assert not any("Not evaluated" in (whole / f"table{n}.md").read_text() for n in (1, 2, 3))


def test_the_page_holds_the_pictures_and_loads_nothing_else(whole):
    page = Page((whole / "index.html").read_text())
    assert all(address.startswith("data:image/png;base64,") for address in page.loads)
    held = [base64.b64decode(address.split(",", 1)[1]) for address in page.loads]
    for name in ("noise_paradox", "dice_by_size", "figure4", "figure5"):
        assert (whole / f"{name}.png").read_bytes() in held
    corners = [
        sum(Image.open(io.BytesIO(picture)).convert("RGB").getpixel((0, 0))) for picture in held
    ]
    assert [corner > 600 for corner in corners] == [
        False,
        True,
    ] * 4  # each for the dark, then for the light
    assert (whole / "figure4.png").read_bytes() in held[1::2]
    assert "Phantoms & <nobody>" in page.words


def test_the_page_says_what_made_the_numbers(whole):
    words = Page((whole / "index.html").read_text()).words
    for said in (
        "d" * 64,
        "a" * 64,
        "0123abc",
        "torch 2.15.0",
        "denoiser",
        "cpu",
        "0.03",
        "network calls per slice",
    ):
        assert said in words


def test_what_all_rows_say_alike_is_said_once(runs):
    for t, date in ((50, "2026-11-22"), (100, "2026-11-23")):
        anoddpm(runs, t, provenance={"date": date}, metrics={"calls_per_slice": t / 10})
    said = provenance(Method("", {}, "t").rows(read_rows(runs)[0]))
    assert said.shared["commit"] == "0123abc"
    assert said.shared["threshold healthy_fpr5"] == "0.1"
    assert list(said.differing) == ["date", "network calls per slice"]
    assert said.lines[1] == ("AnoDDPM (t=100)", "anoddpm-t100", ["2026-11-23", "10"])


def test_no_temporary_file_is_left(whole):
    names = ("table1", "table2", "table3", "protocol")
    tables = {f"{name}.{end}" for name in names for end in ("csv", "md", "tex")}
    pictures = {"noise_paradox.png", "dice_by_size.png", "figure4.png", "figure5.png"}
    assert {path.name for path in whole.iterdir()} == tables | pictures | {
        "index.html",
        "measured.csv",
        "resamples",
    }
    assert len(list((whole / "resamples").iterdir())) == 9


def test_measured_csv_has_all_metrics_per_row_and_what_made_them(whole):
    lines = read_csv(whole / "measured.csv")
    assert len(lines) == 9 * (len(METRICS) + 1)
    [line] = [
        x
        for x in lines
        if (x["method"], x["metric"]) == ("AnoDDPM (t=250)", "lesion/max_dice/small")
    ]
    assert (line["value"], line["data_hash"], line["perceptual"]) == ("0.125", "d" * 64, "denoiser")


def test_the_same_rows_make_the_same_files(whole):
    before = {path: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    report(whole.parent / "evaluate", "report.note='Phantoms & <nobody>'")
    assert {path: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before


def test_a_report_is_made_without_torch():
    code = "import sys, autoddpm.report.write; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", check=False).returncode == 0
    )


# --- rows that are missing, broken, twins, or not comparable


def test_without_a_page_there_are_the_same_tables(runs):
    with_page = report(write_all(runs))
    before = {path.name: path.read_bytes() for path in with_page.folder.iterdir() if path.is_file()}
    without = report(runs, "report.page=false")
    after = {path.name: path.read_bytes() for path in without.folder.iterdir() if path.is_file()}
    assert without.page is None
    assert {
        name for name in before if name.endswith((".html", ".png"))
    } == before.keys() - after.keys()
    assert all(before[name] == content for name, content in after.items())


def test_tables_alone_are_made_without_bokeh(runs):
    autoddpm(runs)
    code = (
        "import sys, runpy; sys.modules['bokeh'] = None; "
        "runpy.run_module('src.report', None, '__main__', True)"
    )
    given = [
        "name=demo",
        f"paths.runs={runs.parents[1]}",
        "report.page=false",
        "report.resamples=0",
    ]
    subprocess.run([sys.executable, "-c", code, *given], check=True, cwd=ROOT, capture_output=True)
    assert (runs.parent / "report" / "table1.md").is_file()


@pytest.mark.usefixtures("no_pictures")
def test_a_missing_row_is_named_and_the_rest_is_shown(runs):
    autoddpm(runs)
    anoddpm(runs, 125)
    tables = {table.name: table for table in report(runs, "report.noise_levels=[50,125]").tables}
    assert [row.label for row in tables["table1"].rows] == ["AutoDDPM", "AnoDDPM (t=125)"]
    assert tables["table1"].remarks[0] == "Not evaluated yet: AnoDDPM (t=50)."
    assert (
        tables["table3"].remarks[0]
        == "Not evaluated yet: AutoDDPM (w/o uncertainty), AutoDDPM (w/o re-sampling)."
    )


def test_without_autoddpm_figure_4_shows_the_baseline_alone(runs):
    anoddpm(runs, 50)
    old = runs.parent / "report" / "figure5.png"
    old.parent.mkdir()
    old.write_bytes(b"of an earlier report")
    words = Page(report(runs).page.read_text()).words
    assert (old.parent / "figure4.png").is_file()
    assert not old.exists()
    assert "Not drawn" in words
    assert "Not evaluated yet: AutoDDPM." in words


@pytest.mark.usefixtures("no_pictures")
def test_a_broken_row_is_named_and_the_others_go_on(runs):
    anoddpm(runs, 50)
    (anoddpm(runs, 100) / "metrics.json").write_text('{"label": "AnoDDPM (t=1')
    (anoddpm(runs, 150) / "metrics.json").unlink()
    (anoddpm(runs, 200) / "metrics.json").write_text('{"label": "AnoDDPM (t=200)", "metrics": {}}')
    made = report(runs)
    assert [row.label for row in made.tables[0].rows] == ["AnoDDPM (t=50)"]
    assert len(made.remarks) == 3
    words = Page(made.page.read_text()).words
    for name in (
        "anoddpm-t100/metrics.json",
        "anoddpm-t150 has no metrics.json",
        "anoddpm-t200/metrics.json",
    ):
        assert any(name in remark for remark in made.remarks)
        assert name in words


@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[:100], lambda b: b[:-30], lambda b: b[:900] + b"?" * 50 + b[950:]],
)
def test_damaged_maps_are_an_error_that_names_the_file(runs, damage):
    row = row_of(anoddpm(runs, 50))
    path = row.folder / "maps.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnreadableRunError, match=re.escape(str(path))):
        read_maps(row, ["phantom/003"], ["image", "lesion", "reconstruction", "anomaly_map"])


def test_a_row_of_truncated_maps_is_named_and_others_are_drawn(runs):
    autoddpm(runs)
    maps = anoddpm(runs, 50) / "maps.npz"
    maps.write_bytes(maps.read_bytes()[:-30])
    anoddpm(runs, 100)
    words = Page(report(runs).page.read_text()).words
    assert "AnoDDPM (t=50) is not shown" in words
    assert str(maps) in words
    assert "AnoDDPM (t=100) is not shown" not in words
    assert (runs.parent / "report" / "figure4.png").is_file()


def _without(path: Path) -> None:
    path.unlink()


def _with(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(path.read_text().replace(old, new, 1))


def _with_nan(path: Path) -> None:
    with np.load(path) as maps:
        arrays = dict(maps)
    arrays["anomaly_map"][0, 0, 0] = np.nan
    np.savez_compressed(path, **arrays)


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("slices.csv", _without, "slices.csv is not readable"),
        ("slices.csv", _with("phantom/001", "phantom/000"), "slices.csv has phantom/000 twice"),
        ("slices.csv", _with(",45", ",many"), "slices.csv: not every calls is a number"),
        ("slices.csv", lambda path: path.write_text(""), "slices.csv is not readable"),
        ("maps.npz", _with_nan, "maps.npz: anomaly_map holds values that are no numbers"),
    ],
    ids=["missing", "twice", "text", "empty", "nan"],
)
@pytest.mark.parametrize("row", ["autoddpm", "anoddpm-t50"])
def test_a_row_s_damaged_file_is_named_and_other_rows_are_shown(runs, file, damage, said, row):
    autoddpm(runs)
    anoddpm(runs, 50)
    anoddpm(runs, 100)
    damage(runs / row / file)
    made = report(runs, "report.resamples=10", "report.browser_slices=5")
    page = Page(made.page.read_text())
    assert f"{row}/{said}" in page.words
    assert [other.folder.name for other in made.rows] == ["anoddpm-t100", "anoddpm-t50", "autoddpm"]
    assert "browser-chart" in made.page.read_text()


@pytest.mark.parametrize("name", settings()["figures"])
def test_a_figure_that_is_null_is_left_out(runs, name):
    autoddpm(runs)
    anoddpm(runs, 50)
    others = [
        f"report.figures.{other}=null"
        for other in settings()["figures"]
        if other not in (name, "browser")
    ]
    made = report(runs, "report.resamples=10", f"report.figures.{name}=null", *others)
    titles = {key: text["title"] for key, text in settings()["figures"].items()}
    page = Page(made.page.read_text()).words
    assert titles[name] not in page
    assert (titles["browser"] in page) == (name != "browser")


def test_no_browser_is_drawn_where_none_is_wanted(runs):
    autoddpm(runs)
    made = report(runs, "report.resamples=10", "report.browser_slices=0")
    assert "browser-chart" not in made.page.read_text()
    assert "Not drawn" not in Page(made.page.read_text()).words.split("Precision and recall")[-1]


@pytest.mark.parametrize(
    ("part", "key"), [("thresholds", "healthy_fpr5"), ("metrics", "lesion/max_dice")]
)
def test_a_word_in_place_of_a_number_makes_a_row_unreadable(runs, part, key):
    path = autoddpm(runs) / "metrics.json"
    content = json.loads(path.read_text())
    content[part][key] = "high"
    path.write_text(json.dumps(content))
    with pytest.raises(UnreadableRunError, match=f"{re.escape(str(path))}: {key} is 'high'"):
        read_row(path.parent)


def test_rows_that_no_setting_sorts_stand_by_numbers_in_titles(runs):
    for t in (100, 50, 300):
        anoddpm(runs, t)
    autoddpm(runs)
    found = [row.title for row in Method("every", {}).rows(read_rows(runs)[0])]
    assert found == ["AnoDDPM (t=50)", "AnoDDPM (t=100)", "AnoDDPM (t=300)", "AutoDDPM"]


@pytest.mark.usefixtures("no_pictures")
def test_a_row_without_its_noise_level_stands_behind_the_others(runs):
    for folder, t in (("a", None), ("b", 100), ("c", 50)):
        write_row(
            runs,
            folder,
            f"AnoDDPM (t={t})",
            {"name": "AnoDDPM", "t": t} if t else {"name": "AnoDDPM"},
        )
    table = report(runs).tables[0]
    assert [row.label for row in table.rows] == [
        "AnoDDPM (t=50)",
        "AnoDDPM (t=100)",
        "AnoDDPM (t=None)",
    ]


def test_no_finished_row_is_an_error_with_folder_and_command(runs):
    with pytest.raises(
        FileNotFoundError, match=r"demo/evaluate.*src\.evaluate \+experiment=demo checkpoint="
    ):
        read_rows(runs)
    (anoddpm(runs, 50) / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"anoddpm-t50 has no metrics\.json"):
        read_rows(runs)


def test_rows_of_one_label_are_told_apart_by_their_settings(runs):
    autoddpm(runs, "a")
    autoddpm(
        runs,
        "b",
        config={"sampler": {"stride": 1}, "paths": {"runs": "elsewhere"}, "checkpoint": "x.ckpt"},
    )
    anoddpm(runs, 50)
    rows, remarks = set_apart(read_rows(runs)[0])
    assert [row.title for row in rows] == [
        "AutoDDPM [sampler.stride=10]",
        "AnoDDPM (t=50)",
        "AutoDDPM [sampler.stride=1]",
    ] or [row.title for row in rows] == [
        "AutoDDPM [sampler.stride=10]",
        "AutoDDPM [sampler.stride=1]",
        "AnoDDPM (t=50)",
    ]
    assert not remarks


@pytest.mark.usefixtures("no_pictures")
def test_an_evaluation_with_two_names_is_shown_and_compared_once(runs):
    first, second = (
        anoddpm(runs, 50, "a"),
        anoddpm(runs, 50, "b", metrics={"seconds_per_slice": 9.0}),
    )
    autoddpm(runs)
    made = report(runs)
    assert [row.title for row in made.tables[0].rows] == ["AutoDDPM", "AnoDDPM (t=50)"]
    (remark,) = [remark for remark in made.remarks if "Shown once" in remark]
    assert str(first) in remark
    assert str(second) in remark


def test_rows_of_the_same_settings_are_both_shown_and_named(runs):
    first, second = autoddpm(runs, "a"), autoddpm(runs, "b")
    rows, remarks = set_apart(read_rows(runs)[0])
    assert [row.title for row in rows] == ["AutoDDPM [a]", "AutoDDPM [b]"]
    assert len(remarks) == 1
    assert str(first) in remarks[0]
    assert str(second) in remarks[0]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    "key", ["data_hash", "calibrate_hash", "weights_hash", "perceptual", "size_groups"]
)
def test_rows_that_must_not_be_compared_are_refused_unless_asked(runs, key):
    anoddpm(runs, 50)
    autoddpm(runs, "other", provenance={key: "b" * 64})
    with pytest.raises(
        ValueError,
        match=rf"{key} differs: bbbbbbbb in other; \w+ in anoddpm-t50.*report\.allow_mixed=true",
    ):
        report(runs)
    assert not (runs.parent / "report").exists()
    made = report(runs, "report.allow_mixed=true")
    assert key in made.tables[0].warnings[0]
    assert "WARNING: rows that should not be compared" in to_markdown(made.tables[0])
    assert f"{key} differs" in Page(made.page.read_text()).words


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("data_range", "said"),
    [
        ([0.0, 1.0], "is [0, 1], so that t is the paper's"),
        ([-1.0, 1.0], "half of the paper's"),
        (None, "not recorded; 0.1.0 trained on [-1, 1]"),
    ],
)
def test_a_table_says_what_its_noise_levels_are(runs, data_range, said):
    anoddpm(runs, 50, provenance={"data_range": data_range})
    autoddpm(runs, provenance={"data_range": data_range})
    made = report(runs)
    assert said in made.tables[0].caption
    assert ("0 to 1" in (made.page.parent / "measured.csv").read_text()) == (
        data_range == [0.0, 1.0]
    )


def test_rows_of_two_ranges_agree_only_with_the_same_weights(runs):
    anoddpm(runs, 50, provenance={"data_range": None})
    autoddpm(runs, provenance={"data_range": [-1.0, 1.0]})
    assert disagreements(read_rows(runs)[0]) == []  # 0.1.0 did not record it
    autoddpm(runs, "other", provenance={"data_range": [0.0, 1.0], "weights_hash": "b" * 64})
    assert any(
        words.startswith("data_range differs: ") for words in disagreements(read_rows(runs)[0])
    )


def test_a_perceptual_distance_that_was_not_used_agrees_with_any(runs):
    anoddpm(runs, 50, provenance={"perceptual": None})
    autoddpm(runs)
    assert disagreements(read_rows(runs)[0]) == []


@pytest.mark.usefixtures("no_pictures")
def test_a_finished_row_that_stands_in_no_table_is_named(runs):
    anoddpm(runs, 50)
    write_row(
        runs,
        "neither",
        "AutoDDPM (w/o both)",
        AUTODDPM | {"use_uncertainty": False, "resample_steps": 0},
    )
    remarks = report(runs).remarks
    assert len(remarks) == 1
    assert "AutoDDPM (w/o both)" in remarks[0]


# --- methods and tables


@pytest.mark.parametrize(
    ("match", "labels"),
    [
        ({"name": "AnoDDPM"}, ["AnoDDPM (t=50)", "AnoDDPM (t=100)"]),
        ({"t": [100, 200]}, ["AnoDDPM (t=100)", "AutoDDPM"]),
        ({"t": {"min": 100}}, ["AnoDDPM (t=100)", "AutoDDPM"]),
        ({"t": {"min": 51, "max": 100}}, ["AnoDDPM (t=100)"]),
        ({"label": "*(t=1*"}, ["AnoDDPM (t=100)"]),
        ({"use_uncertainty": True}, ["AutoDDPM"]),
        ({"use_uncertainty": False}, []),
    ],
)
def test_a_method_is_known_by_its_settings(runs, match, labels):
    for t in (100, 50):
        anoddpm(runs, t)
    autoddpm(runs)
    assert [row.label for row in Method("x", match, order="t").rows(read_rows(runs)[0])] == labels


def column_of(runs: Path, column: Column):
    return table_of([Method("AnoDDPM", {"name": "AnoDDPM"}, "t")], [column], read_rows(runs)[0])


def test_an_undefined_metric_is_a_dash_with_its_reason(runs):
    column = Column("large", "lesion/max_dice/large", 100, best="max")
    reason = {"lesion/max_dice/large": "no lesion slice in the group large"}
    anoddpm(runs, 50, metrics={column.key: None}, undefined=reason)
    anoddpm(runs, 100, metrics={column.key: float("nan")})
    anoddpm(runs, 150, metrics={column.key: None}, undefined=reason)
    anoddpm(runs, 200, metrics={column.key: 0.0})
    anoddpm(runs, 250, metrics={column.key: 0.001})
    table = column_of(runs, column)
    assert [cells[0].text for cells in table.cells] == ["–¹", "–²", "–¹", "0.00", "0.10"]
    assert [cells[0].best for cells in table.cells] == [False, False, False, False, True]
    assert table.footnotes == ["¹ no lesion slice in the group large", "² metrics.json holds nan"]
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [line["large"] for line in lines] == ["", "", "", "0.00", "0.10"]
    assert lines[0]["remarks"] == "large: no lesion slice in the group large"
    assert "| AnoDDPM (t=250) | **0.10** |" in to_markdown(table)


def test_a_metric_that_the_file_does_not_have_is_said(runs):
    anoddpm(runs, 50)
    [note] = column_of(runs, Column("x", "lesion/nothing")).notes
    assert note.startswith("not in metrics.json")
    assert "evaluate again" in note


@pytest.mark.parametrize(
    ("best", "bold"), [("max", [False, True, True]), ("min", [True, False, False]), (None, [0] * 3)]
)
def test_the_best_value_is_bold_with_all_that_are_shown_equal(runs, best, bold):
    for t, value in ((50, 0.1), (100, 0.20001), (150, 0.20002)):
        anoddpm(runs, t, metrics={"lesion/auprc": value})
    table = column_of(runs, Column("AUPRC", "lesion/auprc", 100, best=best))
    assert [cells[0].best for cells in table.cells] == [bool(b) for b in bold]


def test_a_single_row_is_not_called_the_best(runs):
    anoddpm(runs, 50)
    assert not column_of(runs, Column("AUPRC", "lesion/auprc", best="max")).cells[0][0].best


def test_a_pipe_gets_brackets_and_no_escape_codes(runs):
    autoddpm(runs, "a")
    autoddpm(runs, "b", config={"sampler": {"stride": 1}})
    rows, _ = set_apart(read_rows(runs)[0])
    output = io.StringIO()
    method = Method("AutoDDPM", {"name": "AutoDDPM"})
    table = table_of([method], [Column("Dice", "lesion/auprc")], rows)
    print_table(table, Console(file=output, width=100))
    assert "AutoDDPM [sampler.stride=1] " in output.getvalue()
    assert "\x1b" not in output.getvalue()


@pytest.mark.parametrize("width", [80, 40])
def test_a_narrow_terminal_shows_every_number_of_table_1(whole, width):
    rows = read_rows(whole.parent / "evaluate")[0]
    table1 = settings()["tables"]["table1"]
    methods = [
        Method("AnoDDPM", {"name": "AnoDDPM"}, "t"),
        Method("AutoDDPM", {"name": "AutoDDPM"}),
    ]
    table = table_of(methods, [Column(**column) for column in table1["columns"]], rows)
    output = io.StringIO()
    print_table(table, Console(file=output, width=width))
    assert re.search(r"AnoDDPM \(t=300\)( +15\.00){5} +45\.0", output.getvalue())


def test_a_table_of_an_unknown_method_is_refused_by_name(runs):
    anoddpm(runs, 50)
    with pytest.raises(
        ValueError,
        match=r"report\.tables\.table1 names autodpm; report\.methods has autoddpm, .*anoddpm",
    ):
        report(runs, "report.tables.table1.rows=[autodpm]")
    with pytest.raises(
        ValueError, match=r"report\.methods\.anoddpm has a key that is missing or not known.*sort"
    ):
        report(runs, "+report.methods.anoddpm.sort=t")


# --- examples and figures


def pictures_of(row, slices):
    """What a report would read of the slices of a row."""
    figure = FigureRows("", "", {"method": Kind([row])})
    return read_pictures(Selection([row], [], {"figure5": figure}, slices, Choice(), [])).examples


def test_an_example_is_the_slice_nearest_to_its_groups_median(runs):
    row = row_of(anoddpm(runs, 200))
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


def test_examples_can_be_named_and_an_unknown_name_is_refused(runs):
    row = row_of(autoddpm(runs))
    named = ["phantom/007", "phantom/000"]
    assert [one.id for one in choose_examples([row], [], "", named).slices] == named
    with pytest.raises(ValueError, match=r"names phantom/999, .*phantom/000"):
        report(runs, "report.slices=[phantom/999]")
    assert not (runs.parent / "report").exists()


def test_maps_are_read_by_slice_id_in_the_order_asked_for(runs):
    row = row_of(anoddpm(runs, 50))
    with np.load(row.folder / "maps.npz") as archive:
        image, ids = archive["image"], list(archive["id"])
    got = read_maps(row, [ids[7], ids[3]], ["image"])["image"]
    assert np.array_equal(got, image[[7, 3]])


def test_an_outline_runs_along_the_edges_of_the_lesions_pixels():
    axes = Figure().add_subplot()
    mask = np.zeros((6, 8), bool)
    mask[2, 5] = True
    outline(axes, mask, "red")
    edges = {frozenset(map(tuple, path.vertices)) for path in axes.collections[0].get_paths()}
    corners = [
        (4.5, 1.5),
        (5.5, 1.5),
        (5.5, 2.5),
        (4.5, 2.5),
    ]  # (x, y) around the pixel in row 2, column 5
    assert edges == {frozenset((corners[i], corners[(i + 1) % 4])) for i in range(4)}


def test_the_outline_of_a_mask_that_reaches_the_border_is_closed():
    axes = Figure().add_subplot()
    outline(axes, np.ones((3, 4), bool), "red")
    assert len(axes.collections[0].get_paths()) == 2 * (3 + 4)


def test_panels_show_every_pixel_as_it_is_on_a_scale_from_0_to_1(runs):
    row = row_of(anoddpm(runs, 100))
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
    row = row_of(autoddpm(runs))
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
    levels = Method("", {"name": "AnoDDPM"}, "t").rows(rows)
    ours = Method("", {"name": "AutoDDPM"}).rows(rows)
    kinds = {"baselines": Kind(levels, order="t"), "method": Kind(ours)}
    chosen = FigureRows("", "", kinds, [Column("SSIM", "healthy/ssim", 100)])
    axes = draw_curves(curves(chosen, Resamples({}))).axes[0]
    points, level = axes.get_lines()
    assert list(points.get_xdata()) == [50, 300]
    assert list(points.get_ydata()) == pytest.approx([2.5, 15.0])
    assert list(level.get_ydata()) == pytest.approx([41.23, 41.23])


def test_a_curve_has_bars_and_a_band_for_its_intervals(runs, tmp_path):
    for t in (100, 300):
        anoddpm(runs, t, value=None)
    autoddpm(runs, value=None)
    rows = read_rows(runs)[0]
    levels, ours = (Method("", {"name": name}, "t").rows(rows) for name in ("AnoDDPM", "AutoDDPM"))
    kinds = {"baselines": Kind(levels, order="t"), "method": Kind(ours)}
    found = bootstrap_rows(rows, tmp_path, 50, 0)
    figure = FigureRows("", "", kinds, [Column("SSIM", "healthy/ssim", 100)])
    axes = draw_curves(curves(figure, found)).axes[0]
    bounds = [found.interval(row, "healthy/ssim") for row in (*levels, *ours)]
    expected = [[100 * bound for bound in one[:2]] for one in bounds]
    bars = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    band = axes.patches[0].get_bbox()
    assert [*bars, [band.y0, band.y1]] == pytest.approx(np.array(expected))


# --- files and the verb


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write_bytes(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def verb(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "src" / "report.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_verb_prints_table_1_and_where_the_report_is(runs):
    cwd = runs.parents[2]
    anoddpm(runs, 50)
    done = verb(cwd, "name=demo")
    assert done.returncode == 0, done.stderr
    assert re.search(r"AnoDDPM \(t=50\)\s+2\.50", done.stdout)
    assert "runs/demo/report/index.html" in done.stdout
    assert {path.name for path in cwd.iterdir()} == {"runs"}


def test_the_verb_ends_with_one_message_where_there_is_no_row(tmp_path):
    done = verb(tmp_path, "name=nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("report: no finished evaluation row in runs/nothing/evaluate")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
