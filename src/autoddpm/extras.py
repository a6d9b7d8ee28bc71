"""The packages that are not for everybody: extras of the installation."""

from importlib.util import find_spec

#: The packages of an extra, by the name to import, that its part of the code cannot do without.
EXTRAS = {
    "train": ("lightning", "rich"),  # one kind of noise needs opensimplex too
    "report": ("matplotlib", "rich"),  # a page needs Bokeh too, tables do not
}


def need(extra: str, *packages: str) -> None:
    """Refuse to go on without the packages of an extra: those that are named, or all of `EXTRAS`.

    Raises ImportError that names them and how to install them.
    """
    if missing := [name for name in packages or EXTRAS[extra] if find_spec(name) is None]:
        raise ImportError(
            f"{', '.join(missing)}: not installed; pip install 'autoddpm[{extra}]', or in a "
            f"checkout make install"
        )
