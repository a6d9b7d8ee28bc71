"""Docstrings as pages: `name: text`, which the code writes for arguments, becomes a list."""

import re
from typing import Any

import griffe

#: An argument or several of them at the beginning of a line.
ARGUMENT = re.compile(r"^(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?=\S)", re.MULTILINE)


class Arguments(griffe.Extension):
    """Writes each argument of a docstring as an entry of a list."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_list(obj.docstring.value)


def as_list(text: str) -> str:
    """A docstring with its arguments as entries of a list."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        if ARGUMENT.match(paragraph):
            paragraph = ARGUMENT.sub(lambda found: f"- **{found['names']}**: ", paragraph)
        paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)
