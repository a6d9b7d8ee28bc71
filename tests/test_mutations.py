"""The list of mutations: each can still be made, and its tests are there."""

import pytest
from mutate import ROOT, mutated, mutations


@pytest.mark.parametrize("mutation", mutations(), ids=lambda one: f"{one['file']}: {one['to']}")
def test_a_mutation_s_line_is_there_once_and_its_tests_too(mutation: dict) -> None:
    text = (ROOT / "src" / "autoddpm" / mutation["file"]).read_text("utf-8")
    changed = mutated(text, mutation["line"], mutation["to"])
    compile(changed, mutation["file"], "exec")
    assert changed != text
    assert all((ROOT / path).exists() for path in mutation["tests"])


def test_there_are_40_different_mutations() -> None:
    assert len({(one["file"], one["line"], one["to"]) for one in mutations()}) >= 40


@pytest.mark.parametrize("text", ["a = 1\n", "x = 1\nif y:\n    x = 1\n"])
def test_a_line_that_is_not_there_once_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not once"):
        mutated(text, "x = 1", "x = 2")
