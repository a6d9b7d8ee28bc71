"""The files in a folder: none is dropped without a word."""

import os
from pathlib import Path
from typing import Any

import pytest

from autoddpm.data.files import entries, files_below


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "c.nii", "deep/d.nii")
    folder = touch(tmp_path / "cohort", "a/a.nii", "b.nii", ".hidden")
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "a" / "round").symlink_to(folder, target_is_directory=True)
    found = [path.name for path in files_below(folder)]
    assert sorted(found) == ["a.nii", "b.nii", "c.nii", "d.nii"]


def test_a_link_that_leads_nowhere_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to(tmp_path / "gone.nii")
    assert files_below(tmp_path) == [tmp_path / "a.nii"]


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = touch(tmp_path, "a/a.nii", "closed/b.nii")
    scan = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    monkeypatch.setattr(os, "listdir", lambda path: [e.name for e in guarded(path)])
    with pytest.raises(PermissionError, match=r"closed: may not be read \(Permission denied\); "):
        files_below(folder)
    with pytest.raises(PermissionError, match=r"closed: may not be read"):
        entries(folder / "closed")
