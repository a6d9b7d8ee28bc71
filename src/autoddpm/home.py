"""Paths that begin with `~`, where no shell has put the home folder instead."""

import os
from pathlib import Path


def at_home(path: str | Path) -> Path:
    """A path with the home folder instead of `~` or `~NAME`.

    Raises ValueError if there is no such home.
    """
    found = Path(os.path.expanduser(path))  # noqa: PTH111 (Path's own names no user)
    if str(found).startswith("~") and not found.exists():
        raise ValueError(f"{path}: {found.parts[0]} is no user here; write the folder's whole path")
    return found
