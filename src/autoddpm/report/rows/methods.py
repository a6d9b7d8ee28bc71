"""Methods of conf/report.yaml: choosing their rows, telling those apart, and comparing them."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from autoddpm.runs.row import Row

MUST_AGREE = (
    "data_hash",
    "calibrate_hash",
    "weights_hash",
    "data_range",
    "perceptual",
    "size_groups",
)
#: By the models' range.
MEANING_OF_T = {
    "[0.0, 1.0]": "The models' range is [0, 1], so that t is the paper's noise level.",
    "[-1.0, 1.0]": "The models' range is [-1, 1]: the noise of each t is half of the paper's.",
    "None": "The models' range is not recorded; 0.1.0 trained on [-1, 1]: "
    "the noise of a t is half of the paper's.",
}
#: Of these, what rows of different models need not share: each has weights of its own.
OF_MODEL = ("weights_hash", "data_range")
ALSO_SETTINGS = (*MUST_AGREE, "seed", "size", "sampler", "precision")  # of the provenance


@dataclass(frozen=True)
class Method:
    """A kind of row.

    title: how a missing row is called.
    match: settings of the detector, else of the configuration, that a row must have. Without any,
        all rows are meant. A setting has a value, a list of values (null: not set), or {min:, max:}
        (both included). The key `label` is matched as a shell pattern.
    order: the detector setting by which the rows are sorted.
    expected: the values of `order` that one expects to see. A missing one is said.
    optional: whether nothing is said if there is no such row.
    """

    title: str
    match: Mapping[str, Any]
    order: str | None = None
    expected: Sequence[Any] = ()
    optional: bool = False

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of this kind, named by what differs among them.

        They are sorted by `order` and then by title.
        """
        found = named_among(
            [
                row
                for row in rows
                if all(_holds(row, key, wanted) for key, wanted in self.match.items())
            ]
        )
        return sorted(
            found,
            key=lambda row: (*_place(row.detector.get(self.order or "")), _natural(row.title)),
        )

    def missing(self, rows: Sequence[Row]) -> list[str]:
        """Titles of expected rows that are not among `rows`: ["AnoDDPM (t=50)"]."""
        found = self.rows(rows)
        if not self.expected:
            return [] if found or self.optional else [self.title]
        have = {row.detector.get(self.order) for row in found if self.order}
        return [
            f"{self.title} ({self.order}={value})" for value in self.expected if value not in have
        ]


def _natural(title: str) -> list[tuple[int, str]]:
    """Sort key of a title: its numbers as numbers, so that t=50 comes before t=100."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", title)]


def _holds(row: Row, key: str, wanted: Any) -> bool:
    if key == "label":
        return fnmatchcase(row.label, str(wanted))
    value = row.detector.get(key, row.settings.get(key))
    if isinstance(wanted, Mapping):
        return value is not None and bool(
            wanted.get("min", value) <= value <= wanted.get("max", value)
        )
    return value in wanted if isinstance(wanted, list | tuple) else bool(value == wanted)


def _place(value: Any) -> tuple[bool, float]:
    """Sort key of a setting: numbers in their order, then everything else."""
    is_number = isinstance(value, int | float)
    return not is_number, float(value) if is_number else 0.0


def without_copies(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows without copies of one before them, and a remark for each copy.

    A copy has an equal label, settings and metrics (but for time). It is one evaluation under two
    names, which would be compared with itself.
    """
    kept: dict[str, Row] = {}
    remarks = []
    for row in rows:
        metrics = {key: value for key, value in row.metrics.items() if key != "seconds_per_slice"}
        same = kept.setdefault(
            repr((row.label, sorted(settings_of(row).items(), key=str), metrics)), row
        )
        if same is not row:
            remarks.append(f"Shown once: {row.folder} says the same as {same.folder}.")
    return list(kept.values()), remarks


def named_among(rows: Sequence[Row]) -> list[Row]:
    """The rows with the variants that tell them apart: a setting that all share is not named."""
    return set_apart([replace(row, variant="") for row in rows])[0]


def set_apart(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Give rows of the same label a variant: the settings in which they differ.

    Settings in which a row is as most of the others are not named. Returns the rows in the same
    order, and a remark for rows that no setting tells apart: these get the names of their folders.
    """
    twins = defaultdict(list)
    for row in rows:
        twins[row.label].append(row)
    named, remarks = {}, []
    for label, group in twins.items():
        if len(group) == 1:
            continue
        known = [settings_of(row) for row in group]
        differing = [
            key for key in sorted(set().union(*known)) if len({repr(k.get(key)) for k in known}) > 1
        ]
        usual = {key: _usual([k.get(key) for k in known]) for key in differing}
        variants = [", ".join(_named(row, k, usual)) for row, k in zip(group, known, strict=True)]
        for row, variant in zip(group, variants, strict=True):
            same = [other for other, v in zip(group, variants, strict=True) if v == variant]
            if len(same) > 1:
                variant = ", ".join(part for part in (variant, row.folder.name) if part)
                if row is same[0]:
                    remarks.append(
                        f"Shown more than once: {' and '.join(str(r.folder) for r in same)} are "
                        f"all {label!r} and no "
                        "setting tells them apart. Delete all but one."
                    )
            named[row.folder] = replace(row, variant=variant)
    return [named.get(row.folder, row) for row in rows], remarks


def is_seed(key: str) -> bool:
    """Whether a setting is a seed, which a row that is the mean of several does not have."""
    return key.split(".")[-1] == "seed"


def _named(row: Row, settings: Mapping[str, Any], usual: Mapping[str, str]) -> list[str]:
    named = [
        key
        for key in usual
        if repr(settings.get(key)) != usual[key] and (key in settings or usual[key])
    ]
    named = [key for key in named if not (row.members and is_seed(key))]
    return [f"{key}={_short(settings.get(key))}" for key in named]


def _usual(values: Sequence[Any]) -> str:
    """The value that more than half of the values have, as `repr` writes it; else empty."""
    value, times = Counter(map(repr, values)).most_common(1)[0]
    return value if 2 * times > len(values) else ""


def settings_of(row: Row) -> dict[str, Any]:
    """All settings in which a row may differ from a twin: two rows of the same label.

    Settings of the provenance are added if the configuration does not have them.
    """
    settings = dict(row.settings)
    recorded = {key: row.provenance[key] for key in ALSO_SETTINGS if key in row.provenance}
    return settings | {
        k: v for k, v in recorded.items() if not any(s.split(".")[0] == k for s in settings)
    }


def _short(value: Any) -> str:
    text = str(value)
    is_hash = len(text) >= 16 and all(c in "0123456789abcdef" for c in text)
    return text[:8] if is_hash else text


def noise_level(rows: Sequence[Row]) -> str:
    """A sentence on the meaning of t in these rows.

    The noise of a level depends on the range that the model was trained on.
    """
    ranges = {repr(row.provenance.get("data_range")) for row in rows}
    return MEANING_OF_T.get(
        ranges.pop() if len(ranges) == 1 else "",
        "The models' ranges differ, or are not recorded for all rows: "
        "the same t is not the same noise.",
    )


def disagreements(rows: Sequence[Row]) -> list[str]:
    """Facts of MUST_AGREE in which rows that are compared differ, in words, with the folders.

    A perceptual distance that is not recorded (null) was not used, and agrees with any.
    """
    by_model = defaultdict(list)
    for row in rows:
        by_model[row.provenance.get("model", "DDPM")].append(row)  # 0.1.0 had no other
    alike = [key for key in MUST_AGREE if key not in OF_MODEL]
    of_model = [words for own in by_model.values() for words in _differing(own, OF_MODEL)]
    return [*_differing(rows, alike), *of_model]


def _differing(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    found = []
    same_weights = len({row.provenance.get("weights_hash") for row in rows}) == 1
    for key in keys:
        if key == "data_range" and same_weights:
            continue  # not recorded in 0.1.0: the same weights have the same
        folders = defaultdict(list)
        for row in rows:
            value = row.provenance.get(key)
            if value is not None or key != "perceptual":
                folders["not recorded" if value is None else str(value)].append(row.folder.name)
        if len(folders) > 1:
            parts = [f"{_short(value)} in {', '.join(names)}" for value, names in folders.items()]
            found.append(f"{key} differs: {'; '.join(parts)}")
    return found
