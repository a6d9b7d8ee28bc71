"""Volumes that are left out by name."""

from pathlib import Path
from typing import Any

import pytest

from autoddpm.preparation.exclusion import UNSAID, leave_out
from autoddpm.preparation.volume import RawVolume, Source

VOLUMES = [
    RawVolume(f"{s}_{n}", s, "train", Source(Path(f"{s}_{n}.nii"))) for s in "ab" for n in "12"
]


def reasons(exclude: Any) -> dict[str, str]:
    return {volume.id: volume.excluded for volume in leave_out(VOLUMES, exclude)}


def table(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_nobody_is_left_out_unasked() -> None:
    assert leave_out(VOLUMES, None) == VOLUMES


def test_a_subject_is_left_out_with_all_its_volumes(tmp_path: Path) -> None:
    motion = {"a_1": "", "a_2": "", "b_1": "motion", "b_2": "motion"}
    assert reasons({"b": "motion"}) == motion
    assert reasons(table(tmp_path / "x.csv", "subject,reason", "b,motion")) == motion
    assert reasons(["b"]) == {**motion, "b_1": UNSAID, "b_2": UNSAID}
    assert reasons(table(tmp_path / "y.csv", "subject", "b")) == reasons(["b"])


def test_one_volume_is_left_out_by_its_id() -> None:
    assert reasons({"b_2": "twice"}) == {"a_1": "", "a_2": "", "b_1": "", "b_2": "twice"}


def test_who_is_not_there_cannot_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"exclude: c is none of the 4 volumes, such as a;"):
        leave_out(VOLUMES, ["a", "c"])
    with pytest.raises(FileNotFoundError, match=r"exclude=gone\.csv: there is no such file; give"):
        leave_out(VOLUMES, "gone.csv")
    with pytest.raises(ValueError, match=r"z\.csv: has no column subject, .*; give"):
        leave_out(VOLUMES, table(tmp_path / "z.csv", "who,reason", "a,x"))
