"""Published lists, packaged as facts: see README.md beside them."""

from importlib.resources import files

import pandas as pd


def published(name: str) -> pd.DataFrame:
    """One of the tables in this folder, every column as text."""
    with (files(__name__) / name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str)
