"""Help texts of `--help`: the first comment of each choice's yaml."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def choices_help(sources: Iterable[Mapping[str, Any]], *groups: str) -> str:
    """One line for each option of each group: `group=option` and what it is.

    sources: Hydra's `hydra.runtime.config_sources`.
    groups: folders in them, in the order of the help.
    """
    folders = [Path(str(source["path"])) for source in sources if source["schema"] == "file"]
    found = {
        group: sorted(file for folder in folders for file in (folder / group).glob("*.yaml"))
        for group in groups
    }
    width = max(
        (len(f"{group}={file.stem}") for group, files in found.items() for file in files), default=0
    )
    lines = []
    for group, files in found.items():
        lines += [
            f"{group}={file.stem}".ljust(width + 2) + _first_comment(file) for file in files
        ] + [""]
    return "\n".join(lines).replace("$", "$$")  # Hydra fills in $CONFIG and the like afterwards


def _first_comment(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    comments = [
        line[1:].strip()
        for line in lines
        if line.startswith("#") and not line.startswith("# @package")
    ]
    return comments[0] if comments else ""
