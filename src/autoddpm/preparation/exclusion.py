"""Volumes that are left out by name, with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoddpm.data.table import read_table
from autoddpm.preparation.volume import RawVolume

UNSAID = "left out by preparation.exclude, without a reason"


def leave_out(
    volumes: Sequence[RawVolume], exclude: str | Sequence[str] | Mapping[str, str] | None
) -> list[RawVolume]:
    """The volumes, of which some are marked as left out.

    exclude: subjects, or ids of volumes: a list; or the reason of each, `{IXI012: motion}`; or the
        path of a csv with the columns subject and reason.

    Raises ValueError that names who is excluded and not there, FileNotFoundError without the csv.
    """
    reasons = _reasons(exclude)
    known = {name for volume in volumes for name in (volume.id, volume.subject)}
    if unknown := sorted(reasons.keys() - known):
        raise ValueError(
            f"preparation.exclude: {unknown[0]} is none of the {len(volumes)} volumes, such as "
            f"{volumes[0].subject}; correct its name"
            if volumes
            else f"preparation.exclude: there is no volume, and so no {unknown[0]}"
        )
    marked = []
    for volume in volumes:
        reason = reasons.get(volume.id, reasons.get(volume.subject, ""))
        marked.append(replace(volume, excluded=reason) if reason else volume)
    return marked


def _reasons(exclude: str | Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    if exclude is None:
        return {}
    if isinstance(exclude, str):
        return _reasons_in(Path(exclude))
    if isinstance(exclude, Mapping):
        return {str(who): str(reason or UNSAID) for who, reason in exclude.items()}
    return {str(who): UNSAID for who in exclude}


def _reasons_in(path: Path) -> dict[str, str]:
    remedy = "give [SUBJECT], {SUBJECT: reason}, or a csv with the columns subject and reason"
    if not path.is_file():
        raise FileNotFoundError(f"preparation.exclude={path}: there is no such file; {remedy}")
    table = read_table(path, ["subject"], remedy)
    reasons = table["reason"] if "reason" in table else [UNSAID] * len(table)
    return {
        who: reason or UNSAID for who, reason in zip(table["subject"], reasons, strict=True) if who
    }
