"""docs/troubleshooting.md is true: its words are the code's, and its remedies can be typed."""

import ast
import re
import shlex
from functools import cache

import pytest
from conftest import CONF, ROOT, compose_config

from autoddpm.cli import _parser

PAGE = ROOT / "docs" / "troubleshooting.md"
VERB = {"src.prepare": "prepare", "src.evaluate": "evaluate", "src.report": "report"}
#: Settings that a verb has only with this.
WITH = {"logger": ["logger=wandb"], "preparation": ["+experiment=ixi"], "nifti": []}


def entries() -> list[tuple[str, str, str]]:
    """Section, words and remedy of each entry."""
    found, section = [], ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:].split(",")[0]
        elif line.startswith("| ") and not line.startswith("| words"):
            words, remedy = line.strip("| ").split(" | ")
            found.append((section, words, remedy))
    return found


@cache
def messages() -> str:
    """Every text in the code. What is filled in is a hole."""
    texts = []
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    one.value if isinstance(one, ast.Constant) else "{}" for one in node.values
                ]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return " ".join("\n".join(texts).split())


def settings() -> list[tuple[str, str]]:
    """Verb and KEY=VALUE of each setting that a remedy gives by itself."""
    given = []
    for section, _, remedy in entries():
        for code in re.findall(r"`([^`]+)`", remedy):
            if re.fullmatch(r"'?\+?[a-z_.]+=\S.*", code) and not code.startswith("python"):
                given += [(VERB.get(section, "train"), one) for one in shlex.split(code)]
    return given


@pytest.mark.parametrize("words", [words for _, words, _ in entries()])
def test_its_words_are_those_of_a_message(words: str) -> None:
    assert words in messages()


def test_words_that_no_message_has_are_found() -> None:
    assert "the moon is full" not in messages()


@pytest.mark.parametrize(("verb", "setting"), settings())
def test_a_setting_of_a_remedy_composes(verb: str, setting: str) -> None:
    key = setting.split("=")[0].lstrip("+")
    group, verb = key.split(".")[0], "evaluate" if key == "data.eval_batch_size" else verb
    verb = "report" if group == "report" else verb
    more = WITH.get(group, ["+experiment=ixi"] if verb == "prepare" else [])
    if group == "logger":
        verb = "train"
    assert compose_config(verb, *more, setting)


def test_there_are_settings_and_commands_to_try() -> None:
    assert len(settings()) > 20
    assert PAGE.read_text("utf-8").count("python -m src.") > 8


def test_a_command_of_the_console_script_is_one() -> None:
    found = re.findall(r"`autoddpm (\S+ [^`]*)`", PAGE.read_text("utf-8"))
    assert len(found) >= 2
    for command in found:
        assert _parser().parse_args(shlex.split(command)).run


def test_every_section_is_of_a_verb() -> None:
    verbs = {f"src.{file.stem}" for file in CONF.glob("*.yaml") if file.stem != "naming"}
    assert {section for section, *_ in entries()} == verbs | {"Every verb"}
