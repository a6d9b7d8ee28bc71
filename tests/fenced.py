"""The code in the documents: their fenced blocks, and those that are files of an example."""

import re
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (?P<name>(?:src|conf)/\S+\.(?:py|yaml))\n")


class Block(NamedTuple):
    """A block of code; `file` is the name on its first line, "" if it has none."""

    language: str
    text: str
    file: str


def blocks(document: Path) -> list[Block]:
    found = []
    for match in BLOCK.finditer(document.read_text(encoding="utf-8")):
        name = FILE.match(match["text"])
        text = match["text"][name.end() :] if name else match["text"]
        found.append(Block(match["language"], text, name["name"] if name else ""))
    return found


def commands(document: Path) -> list[str]:
    """The document's `python -m src.VERB ...` that are blocks, in their order."""
    lines = [
        line for one in blocks(document) if one.language == "bash" for line in one.text.splitlines()
    ]
    return [line.split("#")[0].strip() for line in lines if line.startswith("python -m src.")]
