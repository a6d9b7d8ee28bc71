"""The paper's numbers beside ours, the protocol, fairness, LaTeX, and rows that failed."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import (
    AUTODDPM,
    ROOT,
    Page,
    anoddpm,
    autoddpm,
    read_csv,
    report,
    settings,
    table_of,
    write_row,
)
from report_runs import no_pictures as no_pictures

from autoddpm.report.rows.methods import Method, set_apart
from autoddpm.report.rows.seeds import pool_seeds
from autoddpm.report.tables.formats import latex, to_csv, to_latex, to_markdown
from autoddpm.report.tables.published import read_published
from autoddpm.report.tables.table import Column
from autoddpm.runs.row import read_rows

pytestmark = pytest.mark.usefixtures("no_pictures")

EXPECTED = ROOT / "experiments" / "paper" / "expected.csv"
EXPECTED_3 = ROOT / "experiments" / "table3_uncertainty" / "expected.csv"
EVERY = Method("every row", {})
DICE = Column("Dice", "lesion/max_dice", 100, best="max")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "demo" / "evaluate"


def tables(runs: Path, *overrides: str) -> dict:
    return {table.name: table for table in report(runs, *overrides).tables}


# --- the paper's numbers


def test_the_paper_s_tables_agree_in_the_numbers_they_share():
    paper, three = (read_published(path, True).values for path in (EXPECTED, EXPECTED_3))
    assert (len(paper), len(three)) == (42, 8)
    assert paper["AutoDDPM", "lesion/max_dice"] == "22.75"
    keys = [key for key in three if key in paper]
    assert len(keys) == 4
    assert all(paper[key] == three[key] for key in keys)


def test_the_paper_s_tables_have_the_changes_its_text_states():
    one, three = (read_published(path, True).values for path in (EXPECTED, EXPECTED_3))
    two = one

    def change(values: dict, metric: str, method: str, baseline: str) -> int:
        return round(100 * (float(values[method, metric]) / float(values[baseline, metric]) - 1))

    dice = [
        change(one, "lesion/max_dice", f"AnoDDPM (t={t})", "AutoDDPM") for t in range(50, 301, 50)
    ]
    assert dice == [-74, -71, -67, -65, -66, -63]  # printed -65 for t=250
    assert [change(one, "lesion/auprc", f"AnoDDPM (t={t})", "AutoDDPM") for t in (50, 300)] == [
        -81,
        -71,
    ]
    assert [
        change(one, "healthy/ssim", f"AnoDDPM (t={t})", "AutoDDPM") for t in (50, 100, 300)
    ] == [-14, -26, -48]
    assert change(two, "lesion/max_dice/small", "AutoDDPM", "AnoDDPM (t=150)") == 91
    assert [
        change(two, f"lesion/max_dice/{size}", "AutoDDPM", "AnoDDPM (t=300)")
        for size in ("medium", "large")
    ] == [
        145,
        48,
    ]
    assert change(three, "lesion/max_dice", "AutoDDPM", "AutoDDPM (w/o uncertainty)") == 14
    assert change(three, "lesion/max_dice/small", "AutoDDPM", "AutoDDPM (w/o uncertainty)") == 51


def test_the_paper_s_number_stands_beside_ours_as_printed(runs):
    anoddpm(runs, 50)
    autoddpm(runs)
    table = tables(runs)["table1"]
    assert table.with_paper == [True, True, True, False, False, False]
    assert [line[0].paper_text for line in table.cells] == ["93.41", "80.10"]
    assert [line[0].paper for line in table.cells] == [93.41, 80.1]
    assert [line[2].paper_best for line in table.cells] == [True, False]
    folder = runs.parent / "report"
    assert "| AutoDDPM | **93.41** | **41.23** |" in (folder / "table1.md").read_text()
    assert [line["SSIM paper"] for line in read_csv(folder / "table1.csv")] == ["93.41", "80.10"]
    assert "Calls paper" not in read_csv(folder / "table1.csv")[0]
    assert "93.41" in Page((folder / "index.html").read_text()).words


def test_the_paper_s_best_is_that_of_its_whole_table(runs):
    anoddpm(runs, 50)
    anoddpm(runs, 100)
    assert not any(line[0].paper_best for line in tables(runs)["table1"].cells)


def test_the_paper_s_number_is_not_of_a_row_with_another_setting(runs):
    for seed in (0, 1, 2):
        autoddpm(runs, f"seed{seed}", provenance={"seed": seed})
    autoddpm(runs, "wide", config={"mask_false_positive_rate": 0.1})
    table = tables(runs)["table1"]
    shown = {
        row.title: line[0].paper_text for row, line in zip(table.rows, table.cells, strict=True)
    }
    assert shown == {"AutoDDPM": "93.41", "AutoDDPM [mask_false_positive_rate=0.1, seed=0]": ""}


def test_both_variants_of_the_method_have_the_paper_s_number(runs):
    autoddpm(runs)
    official = {"name": "AuthorsCode", "t": 201, "use_uncertainty": True, "resample_steps": 5}
    made_by = {"variant": "authors_code"}
    write_row(runs, "official", "AutoDDPM authors_code", official, 0.3, provenance=made_by)
    table = tables(runs)["table1"]
    assert [row.title for row in table.rows] == ["AutoDDPM", "AutoDDPM authors_code"]
    assert [line[2].paper_text for line in table.cells] == ["22.75", "22.75"]
    lines = read_csv(runs.parent / "report" / "table1.csv")
    assert [line["variant"] for line in lines] == ["", "authors_code"]


def test_rows_of_before_and_of_now_stand_in_the_same_table(runs):
    def written(label: str, name: str, variant: str, t: int) -> None:
        detector = AUTODDPM | {"name": name, "t": t}
        changes = {
            "provenance": {"variant": variant},
            "config": {"detector": {"_target_": f"{variant}.{name}", "t": t}},
        }
        write_row(runs, f"{name}-{t}", label, detector, 0.2, **changes)

    written("AutoDDPM official_v0", "OfficialV0", "official_v0", 200)
    written("AutoDDPM authors_code", "AuthorsCode", "authors_code", 201)
    written("AnoDDPM official_v0 (t=50)", "OfficialV0AnoDDPM", "official_v0", 51)
    written("AnoDDPM authors_code (t=100)", "AuthorsCodeAnoDDPM", "authors_code", 101)
    table = tables(runs)["table1"]
    assert [row.title for row in table.rows] == [
        "AutoDDPM authors_code [detector.t=200]",
        "AutoDDPM authors_code [detector.t=201]",
        "AnoDDPM authors_code (t=50)",
        "AnoDDPM authors_code (t=100)",
    ]


@pytest.mark.parametrize(
    ("paper", "test", "heading", "said"),
    [
        ("auto", ["ixi_stroke"], "paper (ATLAS v2.0)", ["ixi_stroke"]),
        ("auto", ["atlas"], "paper (ATLAS v2.0)", []),
        ("auto", None, "paper (ATLAS v2.0)", ["does not name"]),
        ("true", ["ixi_stroke"], "paper", []),
        ("false", ["ixi_stroke"], None, []),
    ],
)
def test_the_paper_s_columns_name_its_data_and_remarks_any_other(runs, paper, test, heading, said):
    autoddpm(runs, config={"data": {"test": test}} if test else {})
    table = tables(runs, f"report.paper={paper}")["table1"]
    assert table.paper == heading
    assert any(table.with_paper) == (heading is not None)
    remarks = [remark for remark in table.remarks if "paper" in remark]
    assert len(remarks) == len(said)
    assert all(word in remark for word, remark in zip(said, remarks, strict=True))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is not there"),
        ("", "must have the columns method, metric, value"),
        ("method,metric,value\nA,b\n", "must have the columns"),
        ("method,metric,value\nA,b,22.75%\n", "line 2: '22.75%' is not a number"),
        ("method,metric,value\nA,b,nan\n", "line 2: 'nan' is not a number"),
        ("method,metric,value\nA,b,1\nA,b,2\n", "line 3: A, b is there twice"),
    ],
)
def test_a_broken_file_of_the_paper_s_numbers_is_refused(runs, tmp_path, content, reason):
    autoddpm(runs)
    path = tmp_path / "expected.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        (ValueError, FileNotFoundError), match=re.escape(str(path)) + ".*" + re.escape(reason)
    ):
        report(runs, f"report.tables.table1.expected={path}")
    assert not (runs.parent / "report").exists()
    assert (
        tables(runs, f"report.tables.table1.expected={path}", "report.paper=false")["table1"].paper
        is None
    )


# --- protocol and fairness


def test_the_protocol_gives_a_number_or_a_reason(
    runs,
):
    anoddpm(runs, 50, value=None)
    autoddpm(runs)
    table = tables(runs, "report.resamples=50")["protocol"]
    old, new = table.cells
    assert all(cell.value is not None and cell.low is not None for cell in new)
    lacking = [
        column.key for column, cell in zip(table.columns, old, strict=True) if cell.value is None
    ]
    assert "lesion/dice@healthy_fpr1" in lacking
    assert "all/slice_auroc" in lacking
    assert len(lacking) == 12
    assert len([note for note in table.notes if note.startswith("not in metrics.json")]) == 1
    text = (runs.parent / "report" / "protocol.csv").read_text()
    assert "nan" not in text.lower().replace("anoddpm", "")


def test_fairness_has_every_row_and_is_shown_if_the_maps_differ(runs):
    anoddpm(runs, 50, config={"anomaly_map": {"_target_": "x.residual"}})
    autoddpm(runs, config={"anomaly_map": {"_target_": "x.residual"}})
    assert "fairness" not in tables(runs)
    anoddpm(runs, 50, "other", config={"anomaly_map": {"_target_": "x.product"}})
    shown = tables(runs)
    assert sorted(row.title for row in shown["fairness"].rows) == [
        "AnoDDPM (t=50) [anomaly_map=product]",
        "AnoDDPM (t=50) [anomaly_map=residual]",
        "AutoDDPM",
    ]
    assert [row.label for row in shown["table1"].rows] == ["AutoDDPM", "AnoDDPM (t=50)"]


def test_the_paper_s_number_stands_beside_each_training_and_seed(runs):
    for seed, weights in enumerate("ab"):
        facts = {"seed": seed, "weights_hash": weights * 64}
        autoddpm(runs, weights, provenance=facts, config={"seed": seed, "data": {"seed": seed}})
    table = tables(runs, "report.allow_mixed=true")["table1"]
    assert [line[0].paper_text for line in table.cells] == ["93.41", "93.41"]
    assert all("data.seed=" in row.variant for row in table.rows)


def test_a_row_that_is_as_most_others_are_has_no_variant(runs):
    for n, (stride, steps) in enumerate([(10, 5), (1, 5), (10, 2)]):
        config = {"sampler": {"stride": stride}, "detector": {"resample_steps": steps}}
        write_row(runs, f"{n}", "AutoDDPM", AUTODDPM | {"resample_steps": steps}, config=config)
    rows, remarks = set_apart(read_rows(runs)[0])
    assert [row.title for row in rows] == [
        "AutoDDPM",
        "AutoDDPM [sampler.stride=1]",
        "AutoDDPM [detector.resample_steps=2]",
    ]
    assert not remarks


def test_a_setting_that_a_row_lacks_tells_it_apart(runs):
    for n, config in enumerate([{"x": 1}, {"x": 1}, {}]):
        write_row(runs, f"{n}", "AutoDDPM", AUTODDPM, config={"y": n, **config})
    assert [row.variant for row in set_apart(read_rows(runs)[0])[0]] == [
        "y=0",
        "y=1",
        "x=None, y=2",
    ]


def test_a_mean_over_seeds_is_not_named_by_a_seed(runs):
    for n, (seed, stride) in enumerate([(0, 10), (1, 10), (0, 5), (0, 2), (0, 1)]):
        config = {"seed": seed, "sampler": {"stride": stride}}
        write_row(runs, f"{n}", "AutoDDPM", AUTODDPM, config=config)
    rows, _ = set_apart(pool_seeds(read_rows(runs)[0]))
    assert [row.title for row in rows] == [
        f"AutoDDPM [sampler.stride={stride}]" for stride in (10, 5, 2, 1)
    ]


def test_a_table_that_is_null_is_left_out(runs):
    autoddpm(runs)
    assert set(tables(runs, "report.tables.table2=null", "report.tables.protocol=null")) == {
        "table1",
        "table3",
    }


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("report.paper=maybe", "report.paper=maybe: must be auto, true or false"),
        ("report.resamples=-1", "report.resamples=-1: must be a whole number"),
        ("report.resamples=0.5", "report.resamples=0.5: must be a whole number"),
        ("report.browser_slices=many", "report.browser_slices=many: must be"),
        ("report.differences.reference=autodpm", "report.differences.reference names autodpm"),
        ("report.tables.table1.rows=[autodpm]", "report.tables.table1 names autodpm"),
        ("report.figures.browser.rows=[autodpm]", "report.figures.browser names autodpm"),
        (
            "+report.tables.table1.columns.0.unit=1",
            "report.tables.table1 has a key that is missing or not known",
        ),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(runs, override, words):
    autoddpm(runs)
    given = settings() if "columns" in override else None
    if given:
        given["tables"]["table1"]["columns"][0]["unit"] = 1
    with pytest.raises(ValueError, match=re.escape(words)):
        _with(runs, given) if given else report(runs, override)
    assert not (runs.parent / "report").exists()


def _with(runs: Path, given: dict) -> None:
    from autoddpm.report.write import write_report

    write_report(runs, runs.parent / "report", "demo", given)


# --- rows that failed


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


def test_only_failed_rows_are_an_error_with_their_reasons(runs):
    (runs / "full").mkdir(parents=True)
    (runs / "full" / "failed.json").write_text('{"error": "no space left"}')
    with pytest.raises(FileNotFoundError, match=r"Failed: .*full: no space left.*src\.evaluate"):
        report(runs)


@pytest.mark.parametrize("key", ["undefined", "thresholds", "metrics"])
def test_a_metrics_file_whose_parts_are_of_another_kind_is_named(runs, key):
    anoddpm(runs, 50)
    path = anoddpm(runs, 100) / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: ["x"]}))
    [remark] = read_rows(runs)[1]
    assert str(path) in remark


# --- LaTeX and csv


def every_row(runs: Path, *columns: Column, published: bool = False):
    rows = read_rows(runs)[0]
    paper = read_published(EXPECTED, "auto") if published else None
    words = {"name": "t_1", "title": "50 % & more", "caption": "Caption_1."}
    return table_of([EVERY], columns, rows, published=paper, **words)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("count", [1, 9])
def test_every_line_of_a_latex_table_has_all_its_cells(runs, published, count):
    anoddpm(runs, 50)
    autoddpm(runs)
    columns = [DICE, *[Column(f"C{n}", "lesion/auprc/large") for n in range(count - 1)]]
    text = to_latex(every_row(runs, *columns, published=published))
    [spec] = re.findall(r"\\begin\{tabular\}\{(l+r+)\}", text)
    width = sum(2 if published and column.key == DICE.key else 1 for column in columns)
    assert spec == "l" + "r" * width
    for line in text.splitlines():
        if line.endswith(r"\\"):
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d)\}", line)]
            cells = len(re.findall(r"(?<!\\)&", line)) + 1
            assert cells + sum(spans) - len(spans) == len(spec)
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert ("graphicx" in text) == (r"\resizebox" in text) == (width > 7)


def test_latex_has_the_best_in_bold_and_what_is_special_escaped(runs):
    anoddpm(runs, 50)
    write_row(runs, "odd", r"A_B & 50% #1 {x} ~ ^ $ \y", AUTODDPM, 0.4123)
    text = to_latex(every_row(runs, DICE))
    assert r"\textbf{41.23}" in text
    assert r"\textbf{2.50}" not in text
    assert (
        r"A\_B \& 50\% \#1 \{x\} \textasciitilde{} \textasciicircum{} \$ \textbackslash{}y" in text
    )
    assert r"\caption{\textbf{50 \% \& more} Caption\_1.}" in text
    assert (
        latex("Dice ↑ ± – ¹² ≤")
        == r"Dice $\uparrow$ $\pm$ -- \textsuperscript{1}\textsuperscript{2} $\leq$"
    )
    assert all(ord(letter) < 128 for letter in text)


def test_an_undefined_value_is_a_dash_with_its_note_in_latex(runs):
    anoddpm(runs, 50, metrics={DICE.key: None}, undefined={DICE.key: "no lesion_slice"})
    text = to_latex(every_row(runs, DICE))
    assert r"AnoDDPM (t=50) & --\textsuperscript{1} \\" in text
    assert r"\textsuperscript{1} no lesion\_slice" in text


def test_each_format_has_interval_spread_and_p_if_the_table_has(runs):
    anoddpm(runs, 50, value=0.05)
    anoddpm(runs, 100, value=0.025)
    plain = every_row(runs, DICE)
    [first], [second] = plain.cells
    cells = [[replace(first, low=1.0, high=4.5, spread=0.25, p_value=0.0161)], [second]]
    table = replace(plain, cells=cells)
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    read = [[line[f"Dice{end}"] for end in ("", " low", " high", " sd", " p")] for line in lines]
    assert read == [["5.00", "1.00", "4.50", "0.25", "0.0161"], ["2.50", "", "", "", ""]]
    assert "Dice low" not in to_csv(plain)
    text = to_markdown(table)
    assert "| Method | Dice ↑ ± sd [95 % CI] p |" in text
    assert "| **5.00** ± 0.25 [1.00, 4.50] p = 0.016 |" in text
    assert r"\textbf{5.00} {\scriptsize $\pm$ 0.25 [1.00, 4.50] p = 0.016}" in to_latex(table)


def test_the_files_of_the_paper_are_found_from_any_folder(runs, tmp_path, monkeypatch):
    autoddpm(runs)
    monkeypatch.chdir(tmp_path)
    assert tables(runs)["table1"].cells[0][0].paper == 93.41
    shutil.rmtree(runs.parent / "report")
