"""What a result says of its origin."""

import pytest
import torch

from autoddpm.runs.provenance import environment


def test_a_machine_without_git_has_results_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said = environment(torch.device("cpu"))
    assert said["commit"] is None
    assert said["device"] == "cpu"
