"""docs/notebooks: both run from the first cell to the last, at a tiny size."""

import os
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

BOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PICTURES = {"autoddpm_step_by_step": 8, "a_table_you_can_trust": 2}


def run(book: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs, run by this checkout's package in an empty folder."""
    place = {"metadata": {"path": str(folder)}}
    return NotebookClient(book, timeout=600, kernel_name="python3", resources=place).execute()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTODDPM_TINY", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)


def test_these_are_all_notebooks_and_they_hold_no_outputs() -> None:
    assert {book.stem for book in BOOKS} == {*PICTURES}
    for book in BOOKS:
        cells = nbformat.read(book, 4).cells
        assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_a_notebook_runs_to_its_end(book: Path, tmp_path: Path) -> None:
    made = run(nbformat.read(book, 4), tmp_path)
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == PICTURES[book.stem]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_cell_that_fails_fails_the_notebook(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("import autoddpm\nautoddpm.nothing")
    with pytest.raises(CellExecutionError, match="no attribute 'nothing'"):
        run(nbformat.v4.new_notebook(cells=[cell]), tmp_path)
