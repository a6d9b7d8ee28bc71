"""Tables: cells, footnotes, what is bold, and the forms in which they are written."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import (
    AUTODDPM,
    BASELINES,
    DICE,
    EVERY,
    METHOD,
    ROOT,
    anoddpm,
    autoddpm,
    settings,
    table_of,
    tables_of,
    write_row,
)
from report_runs import no_pictures as no_pictures
from report_runs import runs as runs
from rich.console import Console

from autoddpm.report.rows.methods import set_apart
from autoddpm.report.tables.formats import latex, to_csv, to_latex, to_markdown
from autoddpm.report.tables.published import read_published
from autoddpm.report.tables.table import Column
from autoddpm.report.tables.terminal import print_table
from autoddpm.runs.row import read_rows

EXPECTED = ROOT / "experiments" / "paper" / "expected.csv"


def column_of(runs: Path, column: Column):
    return table_of([BASELINES], [column], read_rows(runs)[0])


def test_a_single_row_is_not_called_the_best(runs):
    anoddpm(runs, 50)
    assert not column_of(runs, DICE).cells[0][0].best


def test_an_upper_bound_is_not_called_the_best(runs):
    for t, value in ((50, 0.1), (100, 0.2), (150, 0.9)):
        anoddpm(runs, t, metrics={DICE.key: value})
    *others, bound = sorted(read_rows(runs)[0], key=lambda row: row.metrics[DICE.key])
    bound = replace(bound, provenance=bound.provenance | {"sees_lesion": True})
    table = table_of([BASELINES], [DICE], [*others, bound])
    assert [cells[0].best for cells in table.cells] == [False, True, False]


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


def test_a_pipe_gets_brackets_and_no_escape_codes(runs):
    autoddpm(runs, "a")
    autoddpm(runs, "b", config={"sampler": {"stride": 1}})
    rows, _ = set_apart(read_rows(runs)[0])
    output = io.StringIO()
    table = table_of([METHOD], [Column("Dice", "lesion/auprc")], rows)
    print_table(table, Console(file=output, width=100))
    assert "AutoDDPM [sampler.stride=1] " in output.getvalue()
    assert "\x1b" not in output.getvalue()


def test_a_narrow_terminal_shows_every_number_of_table_1(runs):
    anoddpm(runs, 300)
    autoddpm(runs)
    columns = [Column(**column) for column in settings()["tables"]["table1"]["columns"]]
    table = table_of([BASELINES, METHOD], columns, read_rows(runs)[0])
    output = io.StringIO()
    print_table(table, Console(file=output, width=40))
    assert re.search(r"AnoDDPM \(t=300\)( +15\.00){5} +45\.0", output.getvalue())


@pytest.mark.usefixtures("no_pictures")
def test_the_protocol_gives_a_number_or_a_reason(
    runs,
):
    anoddpm(runs, 50, value=None)
    autoddpm(runs)
    table = tables_of(runs, "report.resamples=50")["protocol"]
    old, new = table.cells
    assert all(cell.value is not None and cell.low is not None for cell in new)
    lacking = [
        column.key for column, cell in zip(table.columns, old, strict=True) if cell.value is None
    ]
    assert "lesion/dice@healthy_fpr1" in lacking
    assert "all/slice_auroc" in lacking
    assert len(lacking) == 14
    assert len([note for note in table.notes if note.startswith("not in metrics.json")]) == 1
    text = (runs.parent / "report" / "protocol.csv").read_text()
    assert "nan" not in text.lower().replace("anoddpm", "")


@pytest.mark.usefixtures("no_pictures")
def test_fairness_has_every_row_and_is_shown_if_the_maps_differ(runs):
    anoddpm(runs, 50, config={"anomaly_map": {"_target_": "x.residual"}})
    autoddpm(runs, config={"anomaly_map": {"_target_": "x.residual"}})
    assert "fairness" not in tables_of(runs)
    anoddpm(runs, 50, "other", config={"anomaly_map": {"_target_": "x.product"}})
    shown = tables_of(runs)
    assert sorted(row.title for row in shown["fairness"].rows) == [
        "AnoDDPM (t=50) [anomaly_map=product]",
        "AnoDDPM (t=50) [anomaly_map=residual]",
        "AutoDDPM",
    ]
    assert [row.label for row in shown["table1"].rows] == ["AutoDDPM", "AnoDDPM (t=50)"]


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
