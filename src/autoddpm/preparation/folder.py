"""From raw volumes to a folder of slices: volume by volume, in parallel, continued after a stop.

The folder holds slices/*.nii.gz (and lesions/ of the same names), index.csv and preparation.json.
The index has one row per slice and per volume that was left out, the other file the settings.
`prepared` lists the folder as records.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from autoddpm.allowance import cores, processes_that_fit
from autoddpm.atomic import read_json, write_json, write_text, written_whole
from autoddpm.data.sample import SPLITS, Record
from autoddpm.data.store import ORIGIN
from autoddpm.data.table import read_table
from autoddpm.preparation.cutting import Cut, ImplausibleError, Steps, cut
from autoddpm.preparation.volume import RawVolume, Source, read_mask, read_volume
from autoddpm.processes import in_processes

#: Part of the settings: raise it with any change of what is computed from a volume.
VERSION = 3
#: Reasons of exclusion: what begins that of a volume that could not be prepared, or whose brain
#: cannot be one; and that of a slice.
ERROR, IMPLAUSIBLE, EMPTY = "error: ", "implausible brain: ", "empty slice"
#: Columns without which an index of slices cannot be used.
NEEDED = ("id", "subject", "split", "file", "lesion_file", "excluded", "windowed")
REMEDY = "delete the folder and prepare it again: python -m src.prepare"
MEMORY_EACH = 3 * 2**30  # bytes of a process that corrects, finds the brain and registers
OLDEST_MODALITY = "T1"  # of folders that do not state theirs


@dataclass(frozen=True)
class Job:
    """One volume whose slices, and then its rows of the index, are to be written into `work`.

    Its rows are the mark that its slices are whole.
    on_error: "stop", or "skip": an error becomes the volume's reason of exclusion.
    """

    volume: RawVolume
    steps: Steps
    work: Path
    on_error: str

    @property
    def rows_file(self) -> Path:
        """The file of the rows."""
        return self.work / "rows" / f"{self.volume.id}-{_hash(_identity(self.volume))}.json"

    @property
    def is_done(self) -> bool:
        """Whether the rows are there. A volume that was left out for an error is tried again."""
        file = self.rows_file
        return file.is_file() and not read_json(file)[0]["excluded"].startswith(ERROR)

    def run(self) -> None:
        """Write the slices, and then the rows."""
        volume = self.volume
        common = {
            "subject": volume.subject,
            "split": volume.split,
            "site": volume.site,
            "source": str(volume.image),
            **volume.about,
        }
        excluded, rows = volume.excluded, []
        if not excluded:
            try:
                rows = write_slices(volume, self.steps, self.work)
            except OSError:  # of the disk: files of the volume are refused by ValueError
                raise
            except ImplausibleError as error:
                excluded = f"{IMPLAUSIBLE}{error}"
            except Exception as error:  # of any library, about this volume
                if isinstance(error.__cause__, ImportError):  # of this machine
                    raise
                if self.on_error == "stop":
                    raise _named(error, volume) from error
                excluded = f"{ERROR}{_named(error, volume)}"
        left_out = [{"id": volume.id, **common, "excluded": " ".join(excluded.split())}]
        write_json(self.rows_file, [common | row for row in rows] or left_out)


def prepare_volumes(
    volumes: Sequence[RawVolume],
    steps: Steps,
    folder: str | Path,
    processes: int | None = None,
    on_error: str = "stop",
    title: str = "Preparing",
) -> pd.DataFrame:
    """Write `folder`, unless it is there with the same settings and volumes. Returns its index.

    Work is done in `folder.HASH.unfinished` beside it, which takes the folder's name at the end.
    After a stop it is continued: volumes whose files are the same are not done again.

    processes: how many. None: one per core, if memory is there for them. The result does not
        depend on it.
    on_error: "stop" raises the first error; "skip" notes it in the index as the volume's reason of
        exclusion.
    title: of the progress bar.

    Volumes whose brain cannot be one, or was not aligned with the template, are left out with the
    reason, and so are empty slices.

    Raises ValueError or FileNotFoundError that names the file. Raises ValueError if `folder` holds
    something else, or if no volume can be used, and OSError if the disk is full.
    """
    folder = Path(folder)
    _check(volumes, folder, on_error)
    settings = _settings(volumes, steps)
    if folder.exists():
        _check_same(folder, settings)
        return read_index(folder)
    work = folder.with_name(f"{folder.name}.{_hash([VERSION, asdict(steps)])}.unfinished")
    jobs = [Job(volume, steps, work, on_error) for volume in volumes]
    with _full_disk_named(work):
        for name in ("slices", "lesions", "rows"):
            (work / name).mkdir(parents=True, exist_ok=True)
        _run_missing(jobs, processes or processes_that_fit(MEMORY_EACH), title)
        index = _index([row for job in jobs for row in read_json(job.rows_file)])
        if (index["excluded"] != "").all():
            reason = read_json(jobs[0].rows_file)[0]["excluded"]
            raise ValueError(f"{folder}: none of {len(volumes)} volumes can be used; {reason}")
        _remove_unlisted(work, index)
        write_text(work / "index.csv", index.to_csv(index=False))
        write_json(work / "preparation.json", settings)
    shutil.rmtree(work / "rows")
    work.rename(folder)
    return read_index(folder)


def write_slices(raw: RawVolume, steps: Steps, folder: Path) -> list[dict[str, Any]]:
    """Write a volume's slices to `folder`/slices (and lesions).

    Returns one row of the index for each, and for each that was left out because it is empty.

    Raises ValueError that names the file if it cannot be read or cut; then nothing is written.
    """
    volume = read_volume(raw.image)
    lesion = read_mask(raw.lesion, volume) if raw.lesion else None
    cuts, empty = cut(volume, steps, lesion, raw.boxes, raw.slices)
    is_one = len(cuts) + len(empty) == 1
    rows = []
    for one in cuts:
        name = raw.id if is_one else f"{raw.id}_z{one.z:03d}"
        row = {"id": name, "volume": raw.id, "file": f"slices/{name}.nii.gz", "lesion_file": ""}
        _save(folder / row["file"], one.image, one)
        if one.lesion is not None and one.lesion.any():
            row["lesion_file"] = f"lesions/{name}.nii.gz"
            _save(folder / row["lesion_file"], one.lesion.astype(np.uint8), one)
        rows.append(
            row
            | {
                "slice": str(one.z),
                "excluded": "",
                "source_sha256": volume.sha256,
                "steps": " ".join(one.done),
                "brain_dice": "" if one.brain_dice is None else f"{one.brain_dice:.4f}",
                "windowed": "" if steps.window == "slice" else steps.window,
                "geometry": one.geometry.to_json(),
            }
        )
    left_out = [
        {"id": f"{raw.id}_z{z:03d}", "volume": raw.id, "file": "", "lesion_file": ""}
        | {"slice": str(z), "excluded": EMPTY, "source_sha256": volume.sha256}
        for z in empty
    ]
    return rows + left_out


def read_index(folder: str | Path) -> pd.DataFrame:
    """The index of a prepared folder, every column as text.

    Raises ValueError, naming the file, if it is damaged, and FileNotFoundError if it is lost.
    """
    path = Path(folder) / "index.csv"
    index = read_table(path, NEEDED, REMEDY)
    if unknown := sorted(set(index["split"]) - set(SPLITS)):
        raise ValueError(f"{path}: unknown split {unknown[0]!r}; {REMEDY}")
    return index


def prepared(root: str | Path, name: str) -> list[Record]:
    """The slices of a prepared folder, without what was left out; ids are `name/ID`, sorted.

    Raises FileNotFoundError if `root` is no such folder, or lost a file.
    """
    root, records = Path(root), []
    stored = _stored(root)
    modality, preparation = stored.get("modality", OLDEST_MODALITY), _preparation(stored)
    for row in read_index(root).to_dict("records"):
        if row["excluded"]:
            continue
        image = root / row["file"]
        lesion = root / row["lesion_file"] if row["lesion_file"] else None
        if absent := [path for path in (image, lesion) if path is not None and not path.is_file()]:
            raise FileNotFoundError(
                f"{absent[0]}: there is no such file, though {root / 'index.csv'} lists it"
            )
        origin = {column: str(row.get(column, "")) for column in ORIGIN}
        origin["volume"] = f"{name}/{origin['volume'] or row['id']}"
        record = Record(
            f"{name}/{row['id']}",
            row["subject"],
            row["split"],
            {modality: image},
            lesion,
            windowed=bool(row["windowed"]),
            origin=origin,
            preparation=preparation,
        )
        records.append(record)
    return sorted(records, key=lambda record: record.id)


def _stored(root: Path) -> dict[str, Any]:
    """The content of a folder's preparation.json. ValueError if it is another's."""
    path = root / "preparation.json"
    stored = read_json(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("steps", {}), dict):
        raise ValueError(f"{path}: says nothing about a preparation; {REMEDY}")
    if not isinstance(stored.get("modality", OLDEST_MODALITY), str):
        raise ValueError(f"{path}: its modality is {stored['modality']!r}; {REMEDY}")
    try:
        _preparation(stored)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: its steps are none ({error}); {REMEDY}") from error
    return stored


def _preparation(stored: dict[str, Any]) -> dict[str, Any] | None:
    """`Steps.record` of a preparation.json. None if the folder was built in another way."""
    steps = stored.get("steps", {})
    if "slices" not in steps:
        return None
    return Steps(**steps).record(stored.get("modality", OLDEST_MODALITY))


def _check(volumes: Sequence[RawVolume], folder: Path, on_error: str) -> None:
    """Refuse volumes that cannot be prepared together, or whose files are not there."""
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error={on_error}: must be stop or skip")
    if not volumes:
        raise ValueError(f"{folder}: no volume to prepare it from")
    first: dict[str, RawVolume] = {}
    for volume in volumes:
        if volume is not (other := first.setdefault(volume.id, volume)):
            raise ValueError(
                f"{volume.image} and {other.image} are both {volume.id}; leave one out"
            )
        if volume.modality != volumes[0].modality:
            raise ValueError(
                f"{volume.image} is {volume.modality} and {volumes[0].image} is "
                f"{volumes[0].modality}; prepare each modality into a folder of its own"
            )
    absent = [file for volume in volumes for file in _files(volume) if not file.path.is_file()]
    if absent and on_error == "stop":
        raise FileNotFoundError(
            f"{absent[0]}: there is no such file; add it, or leave its volume out: on_error=skip"
        )


def _settings(volumes: Sequence[RawVolume], steps: Steps) -> dict[str, Any]:
    """The content of preparation.json."""
    hashed = {
        "version": VERSION,
        "steps": asdict(steps),
        "volumes": [_identity(volume) for volume in volumes],
    }
    return {"key": _hash(hashed), **hashed, "modality": volumes[0].modality}


def _check_same(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that was not prepared with these settings."""
    if not (folder / "preparation.json").is_file():
        raise ValueError(
            f"{folder} is there already and was not written by this command: give another place, "
            "or move it away"
        )
    there = {"modality": OLDEST_MODALITY, **read_json(folder / "preparation.json")}
    if (there["key"], there["modality"]) != (settings["key"], settings["modality"]):
        raise ValueError(
            f"{folder} was prepared with other settings or from other volumes "
            f"({_difference(there, settings)}): give another place, or move it away"
        )


def _named(error: Exception, volume: RawVolume) -> ValueError:
    """An error as one that names the volume, in one line."""
    files = tuple(f"{file}: " for file in (volume.image, volume.lesion) if file is not None)
    if isinstance(error, ValueError) and str(error).startswith(files):
        return error
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    what = said[-1] if said else type(error).__name__
    return ValueError(
        f"{volume.image}: cannot be prepared ({what}); look at it, or leave it out: "
        "preparation.exclude, or on_error=skip"
    )


def _run_missing(jobs: Sequence[Job], processes: int, title: str) -> None:
    """Do what is not done, and show the progress."""
    missing = [job for job in jobs if not job.is_done]
    processes = min(processes, max(1, len(missing)))
    with _progress() as progress:
        task = progress.add_task(title, total=len(jobs), completed=len(jobs) - len(missing))
        for _ in in_processes(Job.run, missing, processes, threads=max(1, cores() // processes)):
            progress.advance(task)


def _index(rows: list[dict[str, Any]]) -> pd.DataFrame:
    index = pd.DataFrame(rows).fillna("").sort_values("id", kind="stable", ignore_index=True)
    index.insert(0, "id", index.pop("id"))
    return index


def _remove_unlisted(work: Path, index: pd.DataFrame) -> None:
    """Remove files of a volume that has changed since they were written, or of a kill."""
    listed = {*index["file"], *index["lesion_file"]}
    for path in [*work.glob("slices/*"), *work.glob("lesions/*")]:
        if path.relative_to(work).as_posix() not in listed:
            path.unlink()


def _files(volume: RawVolume) -> list[Source]:
    """The files of a volume that are read."""
    files = [] if volume.excluded else [volume.image, volume.lesion]
    return [file for file in files if file is not None]


def _identity(volume: RawVolume) -> list[Any]:
    boxes = {str(z): [list(box) for box in boxes] for z, boxes in volume.boxes.items()}
    slices = None if volume.slices is None else list(volume.slices)
    sizes = [[file.name, file.size if file.path.is_file() else None] for file in _files(volume)]
    return [volume.id, volume.subject, volume.split, sizes, boxes, slices, volume.excluded]


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The first thing that differs between two settings, in words."""
    if there["version"] != here["version"]:
        return "by another version of this program"
    if there["modality"] != here["modality"]:
        return f"modality is {there['modality']} there and {here['modality']} here"
    for name, value in here["steps"].items():
        if there["steps"][name] != value:
            return f"{name} is {there['steps'][name]} there and {value} here"
    old, new = (
        {volume[0]: json.dumps(volume, sort_keys=True) for volume in s["volumes"]}
        for s in (there, here)
    )
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    return (
        f"{changed[0]} has changed" if changed else f"{len(old)} volumes there and {len(new)} here"
    )


@contextmanager
def _full_disk_named(work: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                f"{work}: the disk is full; free some space and run the same command again"
            ) from error
        raise


def _save(path: Path, data: np.ndarray, place: Cut) -> None:
    with written_whole(path) as temporary:
        image = nibabel.Nifti1Image(data[..., None], place.geometry.slice_affine)
        nibabel.save(image, temporary)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        speed_estimate_period=600,
    )
