"""The rooms of report/ import one way, and what they draw is selected and read once."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from report_runs import anoddpm, autoddpm, report
from test_architecture import SRC, imported_modules, within

#: The way of a row: each room may import those before it; the files beside them import all.
ORDER = ("rows", "tables", "figures", "page", "tracking")


def later_rooms(src: Path, room: str) -> set[str]:
    """What a room imports of the rooms behind it, or of the files above them."""
    report_room = src / "autoddpm" / "report"
    above = [f"autoddpm.report.{file.stem}" for file in report_room.glob("[!_]*.py")]
    later = [f"autoddpm.report.{other}" for other in ORDER[ORDER.index(room) + 1 :]]
    files = (report_room / room).rglob("*.py")
    names = {name for file in files for name in imported_modules(file, src)}
    return {name for name in names if within(name, [*later, *above])}


@pytest.mark.parametrize("room", ORDER)
def test_a_room_of_the_report_imports_only_those_before_it(room: str) -> None:
    assert later_rooms(SRC, room) == set()


def test_the_rooms_of_the_report_are_those_of_the_order() -> None:
    folders = {path.parent.name for path in (SRC / "autoddpm" / "report").glob("*/__init__.py")}
    assert folders == set(ORDER)


@pytest.mark.parametrize("text", ["from ..page import html", "import autoddpm.report.select"])
def test_an_import_of_a_later_room_is_found(tmp_path: Path, text: str) -> None:
    for path, content in (("figures/x.py", text), ("select.py", "")):
        file = tmp_path / "autoddpm" / "report" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    assert later_rooms(tmp_path, "figures")


def test_the_maps_of_a_row_are_opened_once_for_all_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, opened = tmp_path / "demo" / "evaluate", []
    autoddpm(runs)
    for t in (50, 100):
        anoddpm(runs, t)
    report(runs)  # what was resampled is kept

    class Counted(zipfile.ZipFile):
        def __init__(self, file: Any, *given: Any, **how: Any) -> None:
            opened.append(str(file))
            super().__init__(file, *given, **how)

    monkeypatch.setattr("autoddpm.runs.maps.zipfile.ZipFile", Counted)
    report(runs)
    maps = [path for path in opened if path.endswith("maps.npz")]
    assert sorted(maps) == sorted(str(path) for path in runs.glob("*/maps.npz"))
