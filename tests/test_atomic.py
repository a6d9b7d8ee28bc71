"""Files and folders that are never seen half-written."""

import json
from pathlib import Path

import pytest

from autoddpm.atomic import folder_written_whole, write_bytes, write_json


def test_a_folder_is_seen_when_it_is_whole(tmp_path: Path) -> None:
    with folder_written_whole(tmp_path / "a" / "set") as temporary:
        (temporary / "one").touch()
        assert not (tmp_path / "a" / "set").exists()
    assert [path.name for path in (tmp_path / "a" / "set").iterdir()] == ["one"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["set"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with folder_written_whole(tmp_path / "set") as temporary:
            (temporary / "one").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_faster_of_two_writers_stays(tmp_path: Path) -> None:
    with folder_written_whole(tmp_path / "set") as temporary:
        (temporary / "slow").touch()
        with folder_written_whole(tmp_path / "set") as other:
            (other / "fast").touch()
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["fast"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set").touch()
    with pytest.raises(OSError, match="set"), folder_written_whole(tmp_path / "set"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1.5, "b": None})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert json.loads(path.read_text()) == {"a": 1.5, "b": None}
    assert list(tmp_path.iterdir()) == [path]
