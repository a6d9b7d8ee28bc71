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
#: p1_2020-01-31, p1-20200131_T1.
DATE = re.compile(r"(.*?)(?:19|20)\d\d([_\-.]?)[01]\d\2[0-3]\d(.*)")
#: p1_l, p1-right.
SIDE = re.compile(rf"(.*[^/]){SEPARATOR}(?:l|r|lh|rh|left|right)", re.I)


def subjects_of(
    keys: Sequence[str], source: str, pattern: str | None = None, remedy: str | None = None
) -> list[str]:
    """The subject of each slice.

    keys: paths of files without suffix.
    source: the name of the source. Numbers count within it: `000` of two sources are two people.
    pattern: a regular expression, whose first group that matches is the subject.
    remedy: how the subjects can be told. None: by a csv.

    Without a pattern `sub-01_z080` is of sub-01, and `p1_z080` or `p1_slice_80` of p1. Any other
    file is of its own subject, named as the file.

    Raises ValueError that says the remedy if the pattern is none, if a name does not match it, or
    if names may hold a subject and a number, a date or a side.
    """
    remedy = remedy or _csv(source)
    if pattern is not None:
        return _matched(keys, source, pattern, remedy)
    subjects = [_understood(key) for key in keys]
    others = [key for key, subject in zip(keys, subjects, strict=True) if subject is None]
    named = [key for key in others if not NOBODY.fullmatch(key)]
    for what, rule in RULES:
        _refuse_if_shared(named, what, rule, source, remedy)
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
            remedy,
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


def _matched(keys: Sequence[str], source: str, pattern: str, remedy: str) -> list[str]:
    try:
        matches = [re.search(pattern, key) for key in keys]
    except re.error as error:
        raise ValueError(
            f"{source}: the pattern of subjects {pattern!r} is no regular expression ({error}); "
            f"correct it, or {remedy}"
        ) from error
    subjects = []
    for key, found in zip(keys, matches, strict=True):
        groups = [] if found is None else [g for g in found.groups() or (found[0],) if g]
        if not groups:
            raise ValueError(
                f"{source}: {key} does not match the pattern of subjects {pattern!r}; correct it, "
                f"or {remedy}"
            )
        subjects.append(groups[0])
    return subjects


def _without(pattern: re.Pattern[str]) -> Callable[[str], str]:
    """A function from a name to the rest of it around a part. Empty if it has no such part."""

    def rest(key: str) -> str:
        found = pattern.fullmatch(key)
        return "".join(found.groups()) if found else ""

    return rest


#: What may tell the slices of one person apart, and the name without it.
RULES = (
    ("a date", _without(DATE)),
    ("a side", _without(SIDE)),
    ("a number", _without(LAST_NUMBER)),
    ("a number", _without(FIRST_NUMBER)),
)


def _refuse_if_shared(
    keys: Sequence[str], what: str, rule: Callable[[str], str], source: str, remedy: str
) -> None:
    """Refuse names of which some, and not all, are the same but for a part of them."""
    shared = Counter(name for key in keys if (name := rule(key)))
    if len(shared) < 2 or max(shared.values()) < 2:
        return
    name = shared.most_common(1)[0][0]
    first, second = [key for key in keys if rule(key) == name][:2]
    raise ValueError(
        f"{source}: {first} and {second} differ in {what} alone: are they of one person? "
        f"Nothing says it, so {remedy}"
    )


def _csv(source: str) -> str:
    return (
        "write a csv with the columns file and subject, one line per slice: "
        f"data.sources.{source}.index=FILE"
    )
