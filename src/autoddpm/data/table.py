"""Tables that people write: csv files, in each dialect and encoding that leaves no doubt."""

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

SEPARATORS = ",;\t"


def read_table(path: str | Path, needed: Sequence[str], remedy: str) -> pd.DataFrame:
    """A csv table with a header, each cell as text without blanks around it.

    Its cells are separated as its header's are: by commas, semicolons or tabs. Lines without any
    text are left out, and so are columns without name and text.

    needed: columns that it must have.
    remedy: ends each message.

    Raises ValueError that names the file and the line, if one is to blame, as `read_lines` does,
    and if a line has more or fewer cells than the header, or a column is missing or there twice.
    """
    (_, header), *lines = read_lines(path, remedy)
    for number, cells in lines:
        if len(cells) != len(header):
            raise ValueError(
                f"{path}: line {number} has {len(cells)} cells, its header {len(header)}; {remedy}"
            )
    if absent := [column for column in needed if column not in header]:
        raise ValueError(
            f"{path}: has no column {absent[0]}, its columns are {', '.join(header)}; {remedy}"
        )
    used = [i for i, name in enumerate(header) if name or any(cells[i] for _, cells in lines)]
    names = [header[i] for i in used]
    if twice := [name for name in names if names.count(name) > 1 or not name]:
        what = f"column {twice[0]} is there twice" if twice[0] else "a column has no name"
        raise ValueError(f"{path}: {what}; {remedy}")
    table = pd.DataFrame([[cells[i] for i in used] for _, cells in lines], columns=names, dtype=str)
    return table.reset_index(drop=True)


def read_lines(path: str | Path, remedy: str) -> list[tuple[int, list[str]]]:
    """The number and the cells of each line that holds text; at least one.

    Raises ValueError that names the file if it is empty, in an unknown encoding, or if a quote is
    not closed on its line: the lines after it would be lost. Raises FileNotFoundError if there is
    no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; {remedy}")
    text = io.StringIO(_text(path, remedy), newline="")
    first = text.readline()
    text.seek(0)
    separator = max(SEPARATORS, key=first.count)
    lines = []
    reader = csv.reader(text, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            if any("\n" in cell or "\r" in cell for cell in cells):
                raise csv.Error("a quote is not closed on its line")
            if any(stripped := [cell.strip() for cell in cells]):
                lines.append((reader.line_num, stripped))
    except csv.Error as error:
        raise ValueError(
            f"{path}: line {reader.line_num} is no line of a csv table ({error}); {remedy}"
        ) from error
    if not lines:
        raise ValueError(f"{path}: is no csv table, it is empty; {remedy}")
    return lines


def _text(path: Path, remedy: str) -> str:
    """A file's text: UTF-8, or UTF-16 with the mark that Excel writes."""
    content = path.read_bytes()
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not text in UTF-8 ({error}); save it so; {remedy}") from error
    if "\0" in text:
        raise ValueError(f"{path}: is no text, it holds zeros; {remedy}")
    return text.replace("\r\n", "\n").replace("\r", "\n")
