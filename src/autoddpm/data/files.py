"""The files in a folder: none is dropped without a word."""

import os
from pathlib import Path
from typing import NoReturn


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden files.

    Raises FileNotFoundError if a link in it leads nowhere, PermissionError if it may not be read.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.name[0] != ".")
    except PermissionError as error:
        _refuse(error)
    for path in found:
        if not path.exists():
            raise FileNotFoundError(f"{path}: is a link that leads nowhere; restore or remove it")
    return found


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted, without hidden ones. Links are followed.

    A folder that several links lead to is searched once. Raises PermissionError that names a folder
    that may not be read.
    """
    files: list[Path] = []
    searched = {_identity(folder)}
    for where, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        at = Path(where)
        files += [at / name for name in names if name[0] != "."]
        for name in sorted(folders, key=lambda name: ((at / name).is_symlink(), name)):
            if (identity := _identity(at / name)) in searched:
                folders.remove(name)
            searched.add(identity)
    return sorted(files)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _refuse(error: OSError) -> NoReturn:
    raise type(error)(
        f"{error.filename}: may not be read ({error.strerror}); give yourself the right to read "
        "it, or move it away"
    ) from error
