"""Who is on a slice, by the names of files, if no table says it."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

SEPARATOR = r"[_\-. ]"
#: sub-01_z080, sub-01/anat/z080: the subject as BIDS names it.
BIDS = re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)(?=[/_.\-]|$)")
#: p1_z080, p1-slice-80_T1: what stands before the number of the slice.
NUMBERED_SLICE = re.compile(
    rf"([^/]*[^/_\-. ]){SEPARATOR}+(?:z|sl|slice|ax|axial){SEPARATOR}*\d+(?:{SEPARATOR}[^/]*)?$",
    re.I,
)
WORD = (
    "(?:slice|sl|z|image|img|im|scan|brain|head|mri|data|healthy|normal|abnormal|lesion|test|train"
    "|val)s?"
)
#: 000, slice_12, img3: a number, which is nobody's name. Folders of such words name nobody either.
COUNTER = re.compile(rf"(?:{WORD}{SEPARATOR}*)?\d+", re.I)
NOBODY = re.compile(rf"(?:{WORD}/)*{COUNTER.pattern}", re.I)
LAST_NUMBER = re.compile(r"(.*\D)\d+(\D*)$")
FIRST_NUMBER = re.compile(r"((?:.*/)?)\d+[_\-. ]+([^/]*[A-Za-z][^/]*)$")


def subjects_of(keys: Sequence[str], source: str, pattern: str | None = None) -> list[str]:
    """The subject of each slice.

    keys: paths of files without suffix.
    source: the name of the source. Numbers count within it: `000` of two sources are two people.
    pattern: a regular expression, whose first group that matches is the subject.

    Without a pattern `sub-01_z080` is of sub-01, and `p1_z080` or `p1_slice_80` of p1. Any other
    file is of its own subject, named as the file.

    Raises ValueError that says which table to write if a name does not match the pattern, or if
    names may hold a subject and a number.
    """
    if pattern is not None:
        return [_matched(key, source, pattern) for key in keys]
    subjects = [_understood(key) for key in keys]
    others = [key for key, subject in zip(keys, subjects, strict=True) if subject is None]
    for rule in (_without_last_number, _without_first_number):
        _refuse_if_shared([key for key in others if not NOBODY.fullmatch(key)], rule, source)
    number = len({subject for subject in subjects if subject is not None})
    if number < len(keys) - len(others):
        key, first = next((k, s) for k, s in zip(keys, subjects, strict=True) if s is not None)
        log.warning(
            "%s: by their names %d slices are of %d subjects, such as %s of %s; if that is wrong, "
            "%s",
            source,
            len(keys) - len(others),
            number,
            key,
            first,
            _remedy(source),
        )
    return [
        _own(key, source) if subject is None else subject
        for key, subject in zip(keys, subjects, strict=True)
    ]


def _understood(key: str) -> str | None:
    found = BIDS.search(key) or NUMBERED_SLICE.search(key)
    return found[1] if found else None


def _own(key: str, source: str) -> str:
    """The subject of a file that is the only one of it."""
    name = key.rsplit("/", 1)[-1]
    return f"{source}/{key}" if COUNTER.fullmatch(name) else name


def _matched(key: str, source: str, pattern: str) -> str:
    found = re.search(pattern, key)
    groups = [] if found is None else [g for g in found.groups() or (found[0],) if g]
    if not groups:
        raise ValueError(
            f"{source}: {key} does not match the pattern of subjects {pattern!r}; correct it, or "
            f"{_remedy(source)}"
        )
    return groups[0]


def _without_last_number(key: str) -> str:
    found = LAST_NUMBER.fullmatch(key)
    return found[1] + found[2] if found else ""


def _without_first_number(key: str) -> str:
    found = FIRST_NUMBER.fullmatch(key)
    return found[1] + found[2] if found else ""


def _refuse_if_shared(keys: Sequence[str], rule: Callable[[str], str], source: str) -> None:
    """Refuse names of which some, and not all, are the same but for a number."""
    shared = Counter(name for key in keys if (name := rule(key)))
    if len(shared) < 2 or max(shared.values()) < 2:
        return
    name = shared.most_common(1)[0][0]
    first, second = [key for key in keys if rule(key) == name][:2]
    raise ValueError(
        f"{source}: {first} and {second} differ in a number alone: are they slices of one person? "
        f"Nothing says it, so {_remedy(source)}, one line per slice"
    )


def _remedy(source: str) -> str:
    return f"write a csv with the columns file and subject: data.sources.{source}.index=FILE"
