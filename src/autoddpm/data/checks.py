"""What must hold between the slices of one experiment, whatever their sources; each check raises
one clear message."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from autoddpm.data.sample import HEALTHY_PIXELS, SliceRecord


def check_records(records: Mapping[str, Sequence[SliceRecord]]) -> None:
    """Raise ValueError unless each source has slices, ids are unique, and a source has each subject
    in one split."""
    seen: dict[str, SliceRecord] = {}
    for source, slices in records.items():
        if not slices:
            raise ValueError(f"the source {source} lists no slice; correct its folder or its list.")
        splits: dict[str, SliceRecord] = {}
        for record in slices:
            if (other := seen.setdefault(record.id, record)) is not record:
                raise ValueError(
                    f"{record.image} and {other.image} have the same id {record.id!r}; "
                    f"rename one, or give one of two sources another `name`."
                )
            if (other := splits.setdefault(record.subject, record)).split != record.split:
                raise ValueError(
                    f"subject {record.subject} of {source} is in two splits: {other.split} "
                    f"({other.image}) and "
                    f"{record.split} ({record.image}); put all its slices in one."
                )


def check_separate(used: Mapping[str, pd.DataFrame]) -> None:
    """Raise ValueError if a subject is used for two roles. used: the index of each role's slices,
    columns as a store's.

    Subjects are compared by name over all sources: who has another name in another source cannot be
    recognised.
    """
    first: dict[str, tuple[str, str]] = {}
    for role, index in used.items():
        for subject, image in zip(index["subject"], index["image"], strict=True):
            other, at = first.setdefault(subject, (role, image))
            if other != role:
                raise ValueError(
                    f"subject {subject} is used to {other} ({at}) and to {role} ({image}); leave "
                    "it out of one, or, "
                    "if these are two people, name them differently in the column `subject` of "
                    "their csv."
                )


def check_healthy(role: str, index: pd.DataFrame) -> None:
    """Raise ValueError if a slice has more than one pixel of lesion, as it is on disk or as it is
    prepared."""
    pixels = index[["lesion_pixels", "lesion_pixels_full"]].max(axis=1)
    ill = list(index.loc[pixels > HEALTHY_PIXELS, "image"])
    if ill:
        raise ValueError(
            f"lesion slices among those to {role} on, which must be healthy: {first_few(ill)}; "
            f"move them to the split test or leave them out."
        )


def first_few(names: Iterable[str], shown: int = 5) -> str:
    """The first names and how many more there are."""
    names = list(names)
    return ", ".join(names[:shown]) + (
        f" and {len(names) - shown} more" if len(names) > shown else ""
    )
