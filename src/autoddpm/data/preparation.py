"""From raw volumes to a folder of slices: every volume by itself, in parallel, to be continued after a stop.

The folder holds slices/*.nii.gz (and lesions/ of the same names), index.csv with a row for each slice and for each
volume that was left out, and preparation.json with the settings. `prepared` lists it as slice records.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from autoddpm.atomic import read_json, write_json, write_text
from autoddpm.data.cutting import RawVolume, Steps, cut_volume
from autoddpm.data.slices import SliceRecord
from autoddpm.data.store import ORIGIN

#: Part of the settings: raise it with any change of what is computed from a volume.
VERSION = 1


def prepare_volumes(
    volumes: Sequence[RawVolume],
    steps: Steps,
    folder: str | Path,
    processes: int | None = None,
    on_error: str = "stop",
    title: str = "Preparing",
) -> pd.DataFrame:
    """Write `folder`, unless it is there with the same settings and volumes; returns its index.

    Work is done in `folder.HASH.unfinished` beside it, which takes the folder's name at the end; after a stop it is
    continued. The result does not depend on `processes` (None: one a core).
    on_error: "stop" raises the first error; "skip" notes it in the index as the volume's reason of exclusion.
    Raises ValueError naming the file; or where `folder` holds something else.
    """
    folder = Path(folder)
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error={on_error}: must be stop or skip")
    if not volumes:
        raise ValueError(f"{folder}: no volume to prepare it from")
    settings = {"version": VERSION, "steps": asdict(steps), "volumes": [_identity(volume) for volume in volumes]}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    if folder.exists():
        if not (folder / "preparation.json").is_file():
            raise ValueError(
                f"{folder} is there already and was not written by this command: give another place, or move it away"
            )
        if read_json(folder / "preparation.json")["key"] != key:
            raise ValueError(
                f"{folder} was prepared with other settings or from other volumes: give another place, or move it away"
            )
        return read_index(folder)
    work = folder.with_name(f"{folder.name}.{key}.unfinished")
    for name in ("slices", "lesions", "rows"):
        (work / name).mkdir(parents=True, exist_ok=True)
    missing = [volume for volume in volumes if not _row_file(work, volume).is_file()]
    count = min(processes or len(os.sched_getaffinity(0)), len(missing))
    with _progress() as progress:
        task = progress.add_task(title, total=len(volumes), completed=len(volumes) - len(missing))
        if count <= 1:
            for volume in missing:
                _prepare(volume, steps, work, on_error)
                progress.advance(task)
        else:
            with ProcessPoolExecutor(count, get_context("spawn")) as pool:
                jobs = [pool.submit(_prepare, volume, steps, work, on_error) for volume in missing]
                try:
                    for job in as_completed(jobs):
                        job.result()
                        progress.advance(task)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    rows = [row for volume in volumes for row in read_json(_row_file(work, volume))]
    index = pd.DataFrame(rows).fillna("").sort_values("id", kind="stable", ignore_index=True)
    write_text(work / "index.csv", index.to_csv(index=False))
    write_json(work / "preparation.json", {"key": key, **settings})
    shutil.rmtree(work / "rows")
    work.rename(folder)
    return read_index(folder)


def read_index(folder: str | Path) -> pd.DataFrame:
    """The index of a prepared folder, every column as text."""
    return pd.read_csv(Path(folder) / "index.csv", dtype=str, keep_default_na=False)


def _identity(volume: RawVolume) -> list[Any]:
    boxes = {str(z): [list(box) for box in boxes] for z, boxes in volume.boxes.items()}
    files = [] if volume.excluded else [file for file in (volume.image, volume.lesion) if file is not None]
    slices = None if volume.slices is None else list(volume.slices)
    sizes = [[file.name, file.size] for file in files]
    return [volume.id, volume.subject, volume.split, sizes, boxes, slices, volume.excluded]


def _row_file(work: Path, volume: RawVolume) -> Path:
    return work / "rows" / f"{volume.id}.json"


def _prepare(volume: RawVolume, steps: Steps, work: Path, on_error: str) -> None:
    """Write the slices of one volume and then, as the mark that they are whole, its rows."""
    common = {
        "subject": volume.subject,
        "split": volume.split,
        "site": volume.site,
        "source": str(volume.image),
        **volume.about,
    }
    left_out = {"id": volume.id, **common}
    if volume.excluded:
        write_json(_row_file(work, volume), [left_out | {"excluded": volume.excluded}])
        return
    try:
        rows = cut_volume(volume, steps, work)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(f"{work}: the disk is full; free some space and run the same command again") from error
        raise
    except ValueError as error:
        if on_error == "stop":
            raise
        write_json(_row_file(work, volume), [left_out | {"excluded": f"error: {error}"}])
        return
    write_json(_row_file(work, volume), [common | row for row in rows])


def prepared(root: str | Path, name: str) -> list[SliceRecord]:
    """The slices of a prepared folder, without what was left out; ids are `name/ID`, sorted.

    Raises FileNotFoundError where `root` is no such folder, or lost a file.
    """
    root = Path(root)
    records = []
    for row in read_index(root).to_dict("records"):
        if row["excluded"]:
            continue
        image, lesion = root / row["file"], root / row["lesion_file"] if row["lesion_file"] else None
        if absent := [path for path in (image, lesion) if path is not None and not path.is_file()]:
            raise FileNotFoundError(f"{absent[0]}: there is no such file, though {root / 'index.csv'} lists it")
        origin = {column: str(row.get(column, "")) for column in ORIGIN}
        windowed = bool(row["windowed"])
        record = SliceRecord(f"{name}/{row['id']}", row["subject"], row["split"], image, lesion, windowed, origin)
        records.append(record)
    return sorted(records, key=lambda record: record.id)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), speed_estimate_period=600,
    )  # fmt: skip
