"""The folder of a data set, as the configuration names it."""

from pathlib import Path


def existing(root: str | Path | None, key: str) -> Path:
    """`root` as an absolute path, so that what is written down is true from another folder too.

    key: the setting that names it.
    Raises FileNotFoundError that says which key to give if it is not there.
    """
    if root is None:
        raise FileNotFoundError(
            f"{key} is not given: give {key}=DIR, where the data set as downloaded lies"
        )
    if not Path(root).exists():
        raise FileNotFoundError(
            f"{root}: there is no such folder; give {key}=DIR, or set AUTODDPM_DATA to the folder "
            "that holds the sets"
        )
    return Path(root).absolute()
