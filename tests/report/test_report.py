"""The whole report: what it holds, and rows that are missing, broken or failed."""

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import (
    METRICS,
    ROOT,
    Page,
    anoddpm,
    autoddpm,
    read_csv,
    report,
    settings,
    write_all,
)
from report_runs import no_pictures as no_pictures
from report_runs import runs as runs

from autoddpm.locks import alone
from autoddpm.report.page.html import provenance
from autoddpm.report.rows.methods import Method
from autoddpm.report.write import write_report
from autoddpm.runs.row import read_rows


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
    dice = ["41.23", "2.50", "5.00", "7.50", "10.00", "12.50", "15.00"]
    assert [line["Dice"] for line in lines] == dice
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
    for name in ("noise_paradox", "dice_by_size", "dice_by_seconds", "figure4", "figure5"):
        assert (whole / f"{name}.png").read_bytes() in held
    corners = [Image.open(io.BytesIO(one)).convert("RGB").getpixel((0, 0)) for one in held]
    # each for the dark, then for the light
    assert [sum(corner) > 600 for corner in corners] == [False, True] * 5
    assert (whole / "figure4.png").read_bytes() in held[1::2]
    assert "Phantoms & <nobody>" in page.words


def test_the_page_says_what_made_the_numbers(whole):
    words = Page((whole / "index.html").read_text()).words
    made_by = ["d" * 64, "a" * 64, "0123abc", "torch 2.15.0", "denoiser", "cpu", "0.03"]
    for said in (*made_by, "network calls per slice"):
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
    names = ("table1", "table2", "table3", "protocol", "benchmarks")
    tables = {f"{name}.{end}" for name in names for end in ("csv", "md", "tex")}
    pictures = {f"{name}.png" for name in ("noise_paradox", "dice_by_size", "dice_by_seconds")}
    pictures |= {"figure4.png", "figure5.png"}
    others = {"index.html", "measured.csv", "resamples"}
    assert {path.name for path in whole.iterdir()} == tables | pictures | others


def test_measured_csv_has_all_metrics_per_row_and_what_made_them(whole):
    lines = read_csv(whole / "measured.csv")
    assert len(lines) == 9 * (len(METRICS) + 2)
    [line] = [
        x
        for x in lines
        if (x["method"], x["metric"]) == ("AnoDDPM (t=250)", "lesion/max_dice/small")
    ]
    assert (line["value"], line["data_hash"], line["perceptual"]) == ("0.125", "d" * 64, "denoiser")


def test_the_same_rows_make_the_same_files(runs):
    autoddpm(runs)
    anoddpm(runs, 50)
    first, second = (
        {path: path.read_bytes() for path in report(runs).folder.iterdir() if path.is_file()}
        for _ in range(2)
    )
    assert len(first) > 10
    assert first == second


def test_a_report_is_made_without_torch():
    code = "import sys, autoddpm.report.write; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", check=False)
    assert done.returncode == 0


def test_a_second_report_is_told_of_the_first(runs):
    write_all(runs)
    with (
        alone(runs.parent / "report", beside=True),
        pytest.raises(ValueError, match="another process is at work here"),
    ):
        report(runs)


def test_without_a_page_there_are_the_same_tables(whole, tmp_path):
    before = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    given = settings("report.resamples=0", "report.page=false")
    without = write_report(whole.parent / "evaluate", tmp_path, "demo", given)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert without.page is None
    assert before.keys() - after.keys() == {n for n in before if n.endswith((".html", ".png"))}
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
    for name in ("t100/metrics.json", "t150 has no metrics.json", "t200/metrics.json"):
        assert any(f"anoddpm-{name}" in remark for remark in made.remarks)
        assert name in words


def with_nan(path: Path) -> None:
    with np.load(path) as maps:
        arrays = dict(maps)
    arrays["anomaly_map"][0, 0, 0] = np.nan
    np.savez_compressed(path, **arrays)


def replaced(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("autoddpm/slices.csv", Path.unlink, "is not readable"),
        ("anoddpm-t50/slices.csv", replaced("m/001", "m/000"), "has phantom/000 twice"),
        ("autoddpm/slices.csv", replaced(",45", ",many"), ": not every calls is a number"),
        ("anoddpm-t50/maps.npz", with_nan, ": anomaly_map holds values that are no numbers"),
        ("autoddpm/maps.npz", lambda path: path.write_bytes(path.read_bytes()[:-30]), "is not"),
    ],
    ids=["missing", "twice", "text", "nan", "truncated"],
)
def test_a_row_s_damaged_file_is_named_and_other_rows_are_shown(runs, file, damage, said):
    autoddpm(runs)
    anoddpm(runs, 50)
    damage(runs / file)
    made = report(runs, "report.resamples=10", "report.browser_slices=5")
    words = file + said if said.startswith(":") else f"{file} {said}"
    assert words in Page(made.page.read_text()).words
    assert [other.folder.name for other in made.rows] == ["anoddpm-t50", "autoddpm"]
    assert "browser-chart" in made.page.read_text()


def test_a_figure_that_is_null_is_left_out(whole, runs):
    autoddpm(runs)
    figures = settings()["figures"]
    made = report(runs, *(f"report.figures.{name}=null" for name in figures))
    left_out, shown = (Page(path.read_text()).words for path in (made.page, whole / "index.html"))
    for figure in figures.values():
        assert figure["title"] not in left_out
        assert figure["title"] in shown


def test_no_browser_is_drawn_where_none_is_wanted(runs):
    autoddpm(runs)
    made = report(runs, "report.resamples=10", "report.browser_slices=0")
    assert "browser-chart" not in made.page.read_text()
    assert "Not drawn" not in Page(made.page.read_text()).words.split("Precision and recall")[-1]


def test_a_row_that_failed_is_listed_with_its_reason(runs):
    anoddpm(runs, 50)
    for name, content in (
        ("lost", '{"error": "CUDA out of memory'),
        ("full", json.dumps({"error": "no space left."})),
    ):
        (runs / name).mkdir()
        (runs / name / "failed.json").write_text(content)
    made = report(runs)
    assert [row.label for row in made.tables[0].rows] == ["AnoDDPM (t=50)"]
    words = Page(made.page.read_text()).words
    full, lost = made.remarks
    assert full.startswith(f"Failed: {runs / 'full'}: no space left. Mend that")
    assert lost.startswith(f"Failed: {runs / 'lost'}: for a reason that is lost")
    assert full in words
    assert lost in words


def test_a_row_that_failed_and_then_finished_is_a_row(runs):
    (anoddpm(runs, 50) / "failed.json").write_text('{"error": "no space left"}')
    made = report(runs)
    assert not made.remarks
    assert len(made.tables[0].rows) == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("report.paper=maybe", "report.paper=maybe: must be auto, true or false"),
        ("report.resamples=0.5", "report.resamples=0.5: must be a whole number"),
        ("report.browser_slices=many", "report.browser_slices=many: must be"),
        ("report.differences.reference=autodpm", "report.differences.reference names autodpm"),
        (
            "report.tables.table1.rows=[autodpm]",
            "report.tables.table1 names autodpm; report.methods has autoddpm",
        ),
        ("report.figures.browser.rows=[autodpm]", "report.figures.browser names autodpm"),
        ("+report.methods.anoddpm.sort=t", "report.methods.anoddpm has a key that is missing or"),
        ("report.slices=[phantom/999]", "names phantom/999, "),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(runs, override, words):
    autoddpm(runs)
    with pytest.raises(ValueError, match=re.escape(words)):
        report(runs, override)
    assert not (runs.parent / "report").exists()
