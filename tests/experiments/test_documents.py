"""experiments/documents.py: the documents' tables are what the csv files hold."""

import csv
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from autoddpm.prediction.export import card_licence, front_matter

CARD = ROOT / "weights" / "README.md"
CSV = "method,metric,value,low,high\nA,m,0.12345,0.1,0.2\nA [anomaly_map=x],m,0.5,,\n"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import documents

    return documents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "measured.csv").write_text(CSV)
    return tmp_path


def test_writing_the_documents_again_changes_nothing(script: ModuleType) -> None:
    made = script.documents(sorted(p.parent for p in ROOT.glob("experiments/*/documents.yaml")))
    assert {str(path.relative_to(ROOT)) for path in made} >= {"README.md", "weights/README.md"}
    for path, text in made.items():
        assert text == path.read_text(), f"{path}: run python experiments/documents.py"


def test_a_table_has_the_values_of_the_file(script: ModuleType, folder: Path) -> None:
    columns = {
        "M": "m",
        "raw": {"metric": "m", "scale": 1, "digits": 4},
        "`x`": {"metric": "m", "map": "x"},
        "`y`": {"metric": "m", "map": "y"},
    }
    made = script.table(folder, {"columns": columns, "rows": {"first": "A", "maps": "A"}})
    assert made.splitlines()[2] == (
        "| first | 12.35 [10.00, 20.00] | 0.1235 [0.1000, 0.2000] | 12.35 [10.00, 20.00] "
        "| 12.35 [10.00, 20.00] |"
    )
    of_map = {"columns": columns | {"M": columns["`x`"]}, "rows": {"maps": "A [anomaly_map={map}]"}}
    del of_map["columns"]["raw"]
    assert script.table(folder, of_map).splitlines()[2] == "| maps | 50.00 | 50.00 | – |"


def test_a_row_that_was_not_measured_is_an_error(script: ModuleType, folder: Path) -> None:
    with pytest.raises(KeyError, match="B"):
        script.table(folder, {"columns": {"M": "m"}, "rows": {"first": "B"}})


@pytest.mark.parametrize("text", ["", "<!-- table t: f -->\nno end\n"])
def test_a_document_without_the_place_is_an_error(script: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match="<!-- table t: f --> must be there once"):
        script.written(text, "f", {"t": "| |\n"})


def test_what_stands_around_a_table_is_left_alone(script: ModuleType) -> None:
    text = "a\n<!-- table t: f -->\nold\n<!-- end -->\nb\n"
    assert script.written(text, "f", {"t": "new\n"}) == text.replace("old", "new")


def test_hubs_read_of_the_card_what_its_tables_say() -> None:
    text = CARD.read_text()
    card = front_matter(text)
    assert {"license", "library_name", "pipeline_tag", "tags", "datasets"} <= card.keys()
    assert card["license"] == card_licence("ixi-small") == "cc-by-sa-3.0"
    results = {model["name"]: model["results"][0] for model in card["model-index"]}
    assert {name: len(one["metrics"]) for name, one in results.items()} == {
        "ixi-small": 2 * 4,
        "ixi-restoration": 4,
    }
    for result in results.values():
        assert {"type", "name"} <= result["task"].keys() & result["dataset"].keys()
    for metric in [metric for result in results.values() for metric in result["metrics"]]:
        low, high = metric["args"]["interval_95"]
        assert low < metric["value"] < high
        assert f"{metric['value']:.2f} [{low:.2f}, {high:.2f}]" in text.split("---\n", 2)[2]


def test_a_number_in_the_head_is_that_of_the_csv_file() -> None:
    with (ROOT / "experiments" / "ixi_stroke" / "measured.csv").open(newline="") as file:
        rows = {(row["method"], row["metric"]): row["value"] for row in csv.DictReader(file)}
    wanted = round(100 * float(rows["AutoDDPM [anomaly_map=residual]", "lesion/auprc"]), 2)
    metrics = front_matter(CARD.read_text())["model-index"][0]["results"][0]["metrics"]
    found = [one["value"] for one in metrics if one["name"] == "AUPRC, percent (AutoDDPM)"]
    assert found == [wanted]


def test_a_document_s_head_is_replaced_not_doubled(script: ModuleType) -> None:
    text = script.headed("# Title\n\n---\nrule\n---\n", "---\na: 1\n---\n")
    assert text == "---\na: 1\n---\n# Title\n\n---\nrule\n---\n"
    assert script.headed(text, "---\nb: 2\n---\n") == text.replace("a: 1", "b: 2")
