"""What a result says of its origin."""

import errno
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from autoddpm.runs import provenance
from autoddpm.runs.provenance import OWN_PLACE, commit_of, environment


def test_a_machine_without_git_has_results_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said = environment(torch.device("cpu"))
    assert said["commit"] is None
    assert said["device"] == "cpu"


def repository(folder: Path, *tracked: str) -> str:
    """A repository with some files in a commit, which is returned."""
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    said = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()[:12]


def test_a_container_that_counts_no_peak_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, text: str) -> None:
        tried.append(text)
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    tried: list[str] = []
    monkeypatch.setattr(provenance, "CLEAR_REFS", tmp_path)
    monkeypatch.setattr(Path, "write_text", read_only)
    provenance.forget_peak_memory(torch.device("cpu"))
    assert tried == ["5"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_only_our_own_checkout_s_commit_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "ours" / OWN_PLACE
    commit = repository(tmp_path / "ours", OWN_PLACE)
    assert commit_of(ours) == commit
    ours.write_text("changed")
    assert commit_of(ours) == f"{commit}-dirty"
    installed = ".venv/lib/python3/site-packages/autoddpm/runs/provenance.py"
    repository(tmp_path / "committed", installed, "analysis.py")
    repository(tmp_path / "ignored", "analysis.py")
    shutil.copytree(tmp_path / "committed" / ".venv", tmp_path / "ignored" / ".venv")
    assert commit_of(tmp_path / "committed" / installed) is None
    assert commit_of(tmp_path / "ignored" / installed) is None
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "ignored" / ".git"))
    assert commit_of(ours) == f"{commit}-dirty"
    assert commit_of(tmp_path / "committed" / installed) is None
