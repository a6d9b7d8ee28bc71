"""The paper's numbers beside ours."""

import re

import pytest
from report_runs import (
    AUTODDPM,
    ROOT,
    Page,
    anoddpm,
    autoddpm,
    read_csv,
    report,
    tables_of,
    write_row,
)
from report_runs import no_pictures as no_pictures
from report_runs import runs as runs

from autoddpm.report.tables.published import read_published

pytestmark = pytest.mark.usefixtures("no_pictures")


EXPECTED = ROOT / "experiments" / "paper" / "expected.csv"


EXPECTED_3 = ROOT / "experiments" / "table3_uncertainty" / "expected.csv"


def test_the_paper_s_tables_have_the_changes_its_text_states():
    one, three = (read_published(path, True).values for path in (EXPECTED, EXPECTED_3))
    levels = [f"AnoDDPM (t={t})" for t in range(50, 301, 50)]

    def changes(values: dict, metric: str, methods: list[str], baseline: str) -> list[int]:
        of_baseline = float(values[baseline, metric])
        return [round(100 * (float(values[one, metric]) / of_baseline - 1)) for one in methods]

    dice = changes(one, "lesion/max_dice", levels, "AutoDDPM")
    assert dice == [-74, -71, -67, -65, -66, -63]  # printed -65 for t=250
    assert changes(one, "lesion/auprc", levels, "AutoDDPM")[::5] == [-81, -71]
    ssim = changes(one, "healthy/ssim", levels, "AutoDDPM")
    assert [ssim[0], ssim[1], ssim[5]] == [-14, -26, -48]
    for size, level, change in (("small", 150, 91), ("medium", 300, 145), ("large", 300, 48)):
        key = f"lesion/max_dice/{size}"
        assert changes(one, key, ["AutoDDPM"], f"AnoDDPM (t={level})") == [change]
    for size, change in (("", 14), ("/small", 51)):
        key = f"lesion/max_dice{size}"
        assert changes(three, key, ["AutoDDPM"], "AutoDDPM (w/o uncertainty)") == [change]


def test_the_paper_s_number_stands_beside_ours_as_printed(runs):
    anoddpm(runs, 50)
    autoddpm(runs)
    table = tables_of(runs, "report.page=true")["table1"]
    assert table.with_paper == [True, True, True, False, False, False]
    assert [line[0].paper_text for line in table.cells] == ["93.41", "80.10"]
    assert [line[0].paper for line in table.cells] == [93.41, 80.1]
    assert [line[2].paper_best for line in table.cells] == [True, False]
    folder = runs.parent / "report"
    assert "| AutoDDPM | **93.41** | **41.23** |" in (folder / "table1.md").read_text()
    assert [line["SSIM paper"] for line in read_csv(folder / "table1.csv")] == ["93.41", "80.10"]
    assert "Calls paper" not in read_csv(folder / "table1.csv")[0]
    assert "93.41" in Page((folder / "index.html").read_text()).words


def test_the_paper_s_number_is_not_of_a_row_with_another_setting(runs):
    for seed in (0, 1, 2):
        autoddpm(runs, f"seed{seed}", provenance={"seed": seed})
    autoddpm(runs, "wide", config={"mask_false_positive_rate": 0.1})
    table = tables_of(runs)["table1"]
    shown = {
        row.title: line[0].paper_text for row, line in zip(table.rows, table.cells, strict=True)
    }
    assert shown == {"AutoDDPM": "93.41", "AutoDDPM [mask_false_positive_rate=0.1, seed=0]": ""}


def test_both_variants_of_the_method_have_the_paper_s_number(runs):
    autoddpm(runs)
    official = {"name": "AuthorsCode", "t": 201, "use_uncertainty": True, "resample_steps": 5}
    made_by = {"variant": "authors_code"}
    write_row(runs, "official", "AutoDDPM authors_code", official, 0.3, provenance=made_by)
    table = tables_of(runs)["table1"]
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
    table = tables_of(runs)["table1"]
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
    table = tables_of(runs, f"report.paper={paper}")["table1"]
    assert table.paper == heading
    assert any(table.with_paper) == (heading is not None)
    remarks = [remark for remark in table.remarks if "paper" in remark]
    assert len(remarks) == len(said)
    assert all(word in remark for word, remark in zip(said, remarks, strict=True))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is not there"),
        ("method,metric,value\nA,b\n", "must have the columns method, metric, value"),
        ("method,metric,value\nA,b,22.75%\n", "line 2: '22.75%' is not a number"),
        ("method,metric,value\nA,b,nan\n", "line 2: 'nan' is not a number"),
        ("method,metric,value\nA,b,1\nA,b,2\n", "line 3: A, b is there twice"),
    ],
)
def test_a_broken_file_of_the_paper_s_numbers_is_refused(tmp_path, content, reason):
    path = tmp_path / "expected.csv"
    if content is not None:
        path.write_text(content)
    words = re.escape(str(path)) + ".*" + re.escape(reason)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        read_published(path, "auto")


def test_a_broken_file_stops_only_a_report_that_wants_it(runs, tmp_path):
    autoddpm(runs)
    given = f"report.tables.table1.expected={tmp_path / 'nowhere.csv'}"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        report(runs, given)
    assert not (runs.parent / "report").exists()
    assert tables_of(runs, given, "report.paper=false")["table1"].paper is None


def test_the_paper_s_number_stands_beside_each_training_and_seed(runs):
    for seed, weights in enumerate("ab"):
        facts = {"seed": seed, "weights_hash": weights * 64}
        autoddpm(runs, weights, provenance=facts, config={"seed": seed, "data": {"seed": seed}})
    table = tables_of(runs, "report.allow_mixed=true")["table1"]
    assert [line[0].paper_text for line in table.cells] == ["93.41", "93.41"]
    assert all("data.seed=" in row.variant for row in table.rows)
