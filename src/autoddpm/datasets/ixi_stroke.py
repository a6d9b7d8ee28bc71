"""ixi_stroke, version 2: IXI's test subjects, healthy, and with strokes of real outlines."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from autoddpm.atomic import folder_written_whole, read_json, write_json, write_text
from autoddpm.data import shift
from autoddpm.data.lesion_size import GROUPS, size_group
from autoddpm.data.preprocess import pad_to_square, resize_lesion
from autoddpm.data.sample import Record
from autoddpm.data.shift import older, rescanned
from autoddpm.datasets.ixi import ixi, windowed_on_template
from autoddpm.datasets.paths import existing
from autoddpm.datasets.stroke import contrast, implant_stroke
from autoddpm.preparation.folder import prepared
from autoddpm.preparation.template import SHAPE, SLICE_Z, template
from autoddpm.random import Draw, Stage, slice_keys, uniform

VERSION = 2
#: Lesion pixels at 128 x 128 that are drawn for each size group, log-uniform, clear of the groups'
# borders (71, 570).
SIZES = {"small": (6.0, 62.0), "medium": (82.0, 500.0), "large": (640.0, 1600.0)}


@dataclass(frozen=True)
class Recipe:
    """How many slices, and of what kind.

    per_group: slices with a stroke of each size, each of another subject.
    shifted: share of all slices that are seen by another scanner and at an older age.
    seed: of everything that is drawn.
    """

    per_group: int = 63
    shifted: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Planned:
    """A slice to be drawn.

    of: IXI's healthy slice.
    group: of its stroke, or "healthy".
    is_shifted: it is seen by another scanner and at an older age.
    """

    of: Record
    group: str
    is_shifted: bool

    @property
    def id(self) -> str:
        return self.of.subject if self.group == "healthy" else f"{self.of.subject}_{self.group}"


@dataclass
class Drawn:
    """A slice as it is written.

    image: (233, 197) in [0, 1].
    lesion: (233, 197) bool.
    about: further columns of the index.
    """

    image: NDArray[np.floating]
    lesion: NDArray[np.bool_]
    about: dict[str, str] = field(default_factory=dict)


def ixi_stroke(root: str | Path) -> list[Record]:
    """The semi-synthetic benchmark. All of it is to test on.

    root: the folder that `python -m src.prepare +experiment=ixi_stroke` wrote.

    A subject has a healthy slice and up to three with a stroke. The ids are `ixi_stroke/IXI559`,
    `ixi_stroke/IXI559_small`. Raises FileNotFoundError that names the command if it is not there.
    """
    root = Path(root)
    if not (root / "preparation.json").is_file():
        if root.is_dir():
            raise ValueError(
                f"{root}: was not written by src.prepare (version 1 of ixi_stroke?): give another "
                "place for version 2, paths.ixi_stroke=DIR, or move that folder away"
            )
        raise FileNotFoundError(
            f"{root}: ixi_stroke is not there; build it from IXI's slices (a minute): "
            "python -m src.prepare +experiment=ixi_stroke paths.ixi=DIR"
        )
    return prepared(root, "ixi_stroke")


def build_ixi_stroke(root: str | Path, folder: str | Path, recipe: Recipe | None = None) -> None:
    """Write `folder`, unless it is there from the same slices and recipe.

    root: IXI's slices on the template's grid, see `ixi`. Those of split test are used.
    folder: gets slices/, lesions/ (.nii, 8 bits), index.csv and preparation.json. The same slices
        give the same bytes on every machine.
    recipe: None for the benchmark's.
    Raises ValueError or FileNotFoundError, naming the file, if a slice is not there or on another
    grid, or the folder holds something else.
    """
    recipe, folder = recipe or Recipe(), Path(folder)
    healthy = [r for r in ixi(existing(root, "paths.ixi")) if r.split == "test"]
    healthy.sort(key=lambda record: record.id)
    if not healthy:
        raise ValueError(
            f"{root}: holds no subject of split test; correct its split.csv, or paths.ixi"
        )
    settings = _settings(healthy, recipe)
    if folder.exists():
        _check_same(folder, settings)
        return
    with folder_written_whole(folder) as work:
        for part in ("slices", "lesions"):
            (work / part).mkdir()
        planned = list(plan(healthy, recipe))
        rows = [_write(work, one, draw(one, recipe)) for one in track(planned, "Drawing strokes")]
        index = pd.DataFrame(rows).fillna("").sort_values("id", ignore_index=True)
        write_text(work / "index.csv", index.to_csv(index=False, lineterminator="\n"))
        write_json(work / "preparation.json", settings)


def plan(healthy: Sequence[Record], recipe: Recipe) -> Iterator[Planned]:
    """Every subject's healthy slice, and of each size the strokes of `per_group` subjects.

    The subjects are those that come first in a drawn order. In each of these lists a share of
    `recipe.shifted` is shifted.
    """
    for group in GROUPS:
        ranked = sorted(healthy, key=lambda r: _rank(recipe.seed, group, r.subject))
        chosen = ranked if group == "healthy" else ranked[: recipe.per_group]
        for place, record in enumerate(chosen):
            is_shifted = int((place + 1) * recipe.shifted) > int(place * recipe.shifted)
            yield Planned(record, group, is_shifted)


def draw(planned: Planned, recipe: Recipe) -> Drawn:
    """The image, its lesion and how it was made.

    Raises ValueError that names the file if it is on another grid.
    """
    image = windowed_on_template(planned.of)
    key = f"ixi_stroke/{recipe.seed}/{planned.id}"
    image = older(image, key) if planned.is_shifted else image
    drawn = Drawn(image, np.zeros(image.shape, bool))
    if planned.group != "healthy":
        low, high = np.log(SIZES[planned.group])
        u = float(uniform(slice_keys(0, [key]), 1, Stage.VALIDATION, Draw.STROKE_AREA)[0, 0])
        stroke = implant_stroke(
            image, key, float(np.exp(low + (high - low) * u)) * (SHAPE[1] / 128) ** 2
        )
        drawn = Drawn(
            stroke.image,
            stroke.lesion,
            {"outline": stroke.outline, "appearance": stroke.appearance},
        )
    if planned.is_shifted:
        drawn = Drawn(*rescanned(drawn.image, drawn.lesion, key), drawn.about)
    if drawn.lesion.any():
        drawn.about["contrast"] = f"{contrast(drawn.image, drawn.lesion):.3f}"
    return drawn


def _settings(healthy: Sequence[Record], recipe: Recipe) -> dict[str, Any]:
    """The content of preparation.json."""
    files = [(record.id, record.images["T1"]) for record in healthy]
    settings = {
        "version": VERSION,
        "shift": shift.VERSION,
        "steps": asdict(recipe),
        "volumes": [
            [name, path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in files
        ],
    }
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    return {"key": key, **settings}


def _check_same(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that was not built from these settings."""
    if not (folder / "preparation.json").is_file():
        raise ValueError(
            f"{folder} is there already and was not written by this command: move it away"
        )
    if read_json(folder / "preparation.json") != settings:
        raise ValueError(
            f"{folder} was built from other slices, or by another version of this program: give "
            "another place (paths.ixi_stroke=DIR), or move it away"
        )


def _write(work: Path, planned: Planned, drawn: Drawn) -> dict[str, str]:
    """Save a slice and its lesion. Returns its row of the index."""
    file, lesion_file, pixels = f"slices/{planned.id}.nii", "", 0
    _save(work / file, np.round(255 * drawn.image).astype(np.uint8), 1 / 255)
    if drawn.lesion.any():
        lesion_file = f"lesions/{planned.id}.nii"
        _save(work / lesion_file, drawn.lesion.astype(np.uint8), 1.0)
        pixels = int(np.count_nonzero(resize_lesion(pad_to_square(drawn.lesion, False), 128)))
    group = GROUPS[size_group([pixels], 128)[0]]
    if group != planned.group:
        raise ValueError(
            f"{planned.of.files}: a {planned.group} stroke became {group}, with {pixels} pixels at "
            "128 x 128"
        )
    return {
        "id": planned.id,
        "file": file,
        "lesion_file": lesion_file,
        "subject": planned.of.subject,
        "split": "test",
        "site": planned.of.origin.get("site", ""),
        "source": planned.of.images["T1"].name,
        "slice": str(SLICE_Z),
        "lesion_pixels": str(np.count_nonzero(drawn.lesion)),
        "lesion_pixels_128": str(pixels),
        "size_group": group,
        "shifted": str(planned.is_shifted).lower(),
        "excluded": "",
        "windowed": "slice",
        **drawn.about,
    }


def _save(path: Path, picture: NDArray[np.uint8], unit: float) -> None:
    """As a NIfTI slice at its place in the template; unit: the intensity of 1 in the file."""
    affine = template().affine @ np.array(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, SLICE_Z], [0, 0, 0, 1.0]]
    )
    image = nibabel.Nifti1Image(np.ascontiguousarray(np.rot90(picture, -1))[..., None], affine)
    image.header.set_slope_inter(unit, 0)
    nibabel.save(image, path)


def _rank(seed: int, group: str, subject: str) -> bytes:
    return hashlib.sha256(f"{seed}/{group}/{subject}".encode()).digest()
