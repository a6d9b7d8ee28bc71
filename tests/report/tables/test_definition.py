"""Tables of a report, as the folders of experiments/ define them."""

from pathlib import Path

import pytest
import yaml
from report_runs import ROOT, settings

from autoddpm.report.tables.definition import definitions, read_tables

TABLE = {"title": "T", "caption": "C", "rows": ["every"], "columns": [{"title": "x", "key": "y"}]}


def write(root: Path, folder: str, **tables: dict) -> Path:
    path = root / folder / "table.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(tables))
    return path


def test_a_folder_with_a_table_adds_it_to_the_report(tmp_path: Path) -> None:
    write(tmp_path, "b", late=TABLE, first=TABLE | {"place": 1})
    path = write(tmp_path, "a", mine=TABLE)
    path.with_name("expected.csv").touch()
    tables = read_tables(tmp_path)
    assert list(tables) == ["first", "late", "mine"]
    assert tables["mine"]["expected"] == str(tmp_path / "a" / "expected.csv")
    assert "expected" not in tables["late"]
    assert definitions(tables)["mine"].columns[0].key == "y"


@pytest.mark.parametrize(
    ("folder", "text", "words"),
    [
        ("b", "[1, 2]", "must hold tables by name"),
        ("b", "t: 1", "must hold tables by name"),
        ("b", "t: {", "not readable as YAML"),
        ("b", "mine: {title: T}", "another folder has a table mine"),
    ],
)
def test_a_file_of_tables_that_cannot_be_meant_is_named(
    tmp_path: Path, folder: str, text: str, words: str
) -> None:
    write(tmp_path, "a", mine=TABLE)
    path = write(tmp_path, folder)
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}.*{words}"):
        read_tables(tmp_path)


@pytest.mark.parametrize("change", [{"rows": None, "columns": None}, {"unit": 1}])
def test_a_table_with_an_unknown_or_a_missing_key_is_named(change: dict) -> None:
    table = {key: value for key, value in (TABLE | change).items() if value is not None}
    with pytest.raises(ValueError, match=r"report\.tables\.mine has a key that is missing or not"):
        definitions({"left_out": None, "mine": table})


def test_a_table_is_changed_and_left_out_on_the_command_line() -> None:
    tables = settings("report.tables.table2=null", "report.tables.table1.rows=[every]")["tables"]
    assert list(tables) == ["table1", "table2", "table3", "protocol", "benchmarks", "fairness"]
    assert tables["table2"] is None
    assert tables["table1"]["rows"] == ["every"]


def test_every_table_of_the_repository_is_whole() -> None:
    found = definitions(read_tables(ROOT / "experiments"))
    assert {name for name, one in found.items() if one.expected} == {"table1", "table2", "table3"}
