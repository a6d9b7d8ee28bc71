"""IXI (brain-development.org, CC BY-SA 3.0), as 2-D slices, and strokes implanted in it."""

from dataclasses import replace
from pathlib import Path

from autoddpm.data.slice_folder import slice_folder
from autoddpm.data.slices import SliceRecord


def ixi(root: str | Path) -> list[SliceRecord]:
    """Healthy mid-axial slices, one a subject: root/slices/*.png and root/split.csv (subject, file, split).

    The id is the subject's, `ixi/IXI002`. Raises what `slice_folder` raises.
    """
    root = _existing(root, "paths.ixi")
    records = slice_folder(root / "slices", index=root / "split.csv", name="ixi")
    return [replace(record, id=f"ixi/{record.subject}") for record in records]


def ixi_stroke(root: str | Path) -> list[SliceRecord]:
    """The semi-synthetic benchmark: IXI test subjects, some with the outline of a real stroke implanted; all test.

    root/images/*.png, root/lesions/*.png of the same names, root/index.csv (file, subject, kind). A subject may have
    several slices. The id is the file's, `ixi_stroke/lesion_004`. Raises what `slice_folder` raises.
    """
    root = _existing(root, "paths.ixi_stroke")
    return slice_folder(root / "images", root / "lesions", index=root / "index.csv", split="test", name="ixi_stroke")


def _existing(root: str | Path, key: str) -> Path:
    if not Path(root).is_dir():
        raise FileNotFoundError(
            f"{root}: there is no such folder; give {key}=DIR, or set AUTODDPM_DATA to the folder that holds the sets"
        )
    return Path(root)
