"""Files of a cohort whose names say nothing: they are counted and named, not dropped."""

import logging
from collections.abc import Sequence
from pathlib import Path

from autoddpm.data.image_file import stem
from autoddpm.data.integrity import first_few
from autoddpm.preparation.volume import RawVolume, Source

log = logging.getLogger(__name__)


def not_understood(files: Sequence[Source], raw: Path, like: str) -> list[RawVolume]:
    """Volumes that are left out because of their names. A warning counts and names them.

    raw: the folder, or the tar, that the files are in.
    like: the name of a file that is understood.
    """
    if files:
        names = first_few([file.name for file in files])
        log.warning(
            "%s: %d volumes are left out, whose names are not like %s: %s; rename those that are "
            "to be used",
            raw,
            len(files),
            like,
            names,
        )
    return [
        RawVolume(name, name, "train", file, excluded=f"its name is not like {like}")
        for file, name in ((file, _name(file, raw)) for file in files)
    ]


def _name(file: Source, raw: Path) -> str:
    """A file's place as one name."""
    place = Path(file.member) if file.member else file.path.relative_to(raw)
    return "_".join([*place.parent.parts, stem(place)])
