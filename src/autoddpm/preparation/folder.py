"""From raw volumes to a folder of slices: every volume by itself, in parallel, to be continued
after a stop.

The folder holds slices/*.nii.gz (and lesions/ of the same names), index.csv with a row for each
slice and for each volume that was left out, and preparation.json with the settings. `prepared`
lists it as slice records.
"""

import errno
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from autoddpm.atomic import read_json, write_json, write_text
from autoddpm.data.sample import SliceRecord
from autoddpm.data.store import ORIGIN
from autoddpm.preparation.cutting import RawVolume, Steps, cut_volume
from autoddpm.preparation.volume import Source

#: Part of the settings: raise it with any change of what is computed from a volume.
VERSION = 2
ERROR = "error: "  # how the reason of exclusion of a volume begins that could not be prepared


def prepare_volumes(
    volumes: Sequence[RawVolume],
    steps: Steps,
    folder: str | Path,
    processes: int | None = None,
    on_error: str = "stop",
    title: str = "Preparing",
) -> pd.DataFrame:
    """Write `folder`, unless it is there with the same settings and volumes; returns its index.

    Work is done in `folder.HASH.unfinished` beside it, which takes the folder's name at the end;
    after a stop it is
    continued: volumes whose files are the same are not done again. The result does not depend on
    `processes` (None: one a core).
    on_error: "stop" raises the first error; "skip" notes it in the index as the volume's reason of
    exclusion. Raises ValueError or FileNotFoundError naming the file, or where `folder` holds
    something else, or no volume can be used; OSError where the disk is full.
    """
    folder = Path(folder)
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error={on_error}: must be stop or skip")
    if not volumes:
        raise ValueError(f"{folder}: no volume to prepare it from")
    by_id: dict[str, RawVolume] = {}
    for volume in volumes:
        if volume is not by_id.setdefault(volume.id, volume):
            raise ValueError(
                f"{volume.image} and {by_id[volume.id].image} are both {volume.id}; leave one out"
            )
    absent = [file for volume in volumes for file in _files(volume) if not file.path.is_file()]
    if absent and on_error == "stop":
        raise FileNotFoundError(
            f"{absent[0]}: there is no such file; add it, or leave its volume out: on_error=skip"
        )
    settings = {
        "version": VERSION,
        "steps": asdict(steps),
        "volumes": [_identity(volume) for volume in volumes],
    }
    key = _hash(settings)
    if folder.exists():
        if not (folder / "preparation.json").is_file():
            raise ValueError(
                f"{folder} is there already and was not written by this command: give another "
                "place, or move it away"
            )
        if (there := read_json(folder / "preparation.json"))["key"] != key:
            raise ValueError(
                f"{folder} was prepared with other settings or from other volumes "
                f"({_difference(there, settings)}): "
                "give another place, or move it away"
            )
        return read_index(folder)
    work = folder.with_name(f"{folder.name}.{_hash([VERSION, asdict(steps)])}.unfinished")
    rows_of = {v.id: work / "rows" / f"{v.id}-{_hash(_identity(v))}.json" for v in volumes}
    with _full_disk_named(work):
        for name in ("slices", "lesions", "rows"):
            (work / name).mkdir(parents=True, exist_ok=True)
        missing = [volume for volume in volumes if not _is_done(rows_of[volume.id])]
        jobs = [(volume, steps, work, rows_of[volume.id], on_error) for volume in missing]
        with _progress() as progress:
            task = progress.add_task(
                title, total=len(volumes), completed=len(volumes) - len(missing)
            )
            for _ in _done(jobs, min(processes or len(os.sched_getaffinity(0)), len(missing))):
                progress.advance(task)
        rows = [row for volume in volumes for row in read_json(rows_of[volume.id])]
        index = pd.DataFrame(rows).fillna("").sort_values("id", kind="stable", ignore_index=True)
        index.insert(0, "id", index.pop("id"))
        if (index["excluded"] != "").all():
            raise ValueError(
                f"{folder}: none of {len(volumes)} volumes can be used; {rows[0]['excluded']}"
            )
        listed = {*index["file"], *index["lesion_file"]}
        for path in [*work.glob("slices/*"), *work.glob("lesions/*")]:
            if (
                path.relative_to(work).as_posix() not in listed
            ):  # of a volume that has changed since, or of a kill
                path.unlink()
        write_text(work / "index.csv", index.to_csv(index=False))
        write_json(work / "preparation.json", {"key": key, **settings})
    shutil.rmtree(work / "rows")
    work.rename(folder)
    return read_index(folder)


def _done(
    jobs: Sequence[tuple[RawVolume, Steps, Path, Path, str]], processes: int
) -> Iterator[None]:
    """Do the jobs, and give a sign for each that is done."""
    if processes <= 1:
        for job in jobs:
            _prepare(*job)
            yield
        return
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    with ProcessPoolExecutor(
        processes, get_context("spawn"), torch.set_num_threads, (threads,)
    ) as pool:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, [signal.SIGINT]
        )  # the processes inherit it: Ctrl-C is for this one
        try:
            futures = [pool.submit(_prepare, *job) for job in jobs]
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        try:
            for future in as_completed(futures):
                future.result()
                yield
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process was killed, most likely for want of memory; run the same command again "
                "with fewer processes"
            ) from error
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(
                error, KeyboardInterrupt
            ):  # an error lets them finish the volumes that they are at
                for process in active_children():
                    process.terminate()
            raise


def read_index(folder: str | Path) -> pd.DataFrame:
    """The index of a prepared folder, every column as text."""
    return pd.read_csv(Path(folder) / "index.csv", dtype=str, keep_default_na=False)


def _files(volume: RawVolume) -> list[Source]:
    """What is read of a volume."""
    return (
        []
        if volume.excluded
        else [file for file in (volume.image, volume.lesion) if file is not None]
    )


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


def _is_done(rows: Path) -> bool:
    """Whether a volume's rows are there; one that was left out for an error is tried again."""
    return rows.is_file() and not read_json(rows)[0]["excluded"].startswith(ERROR)


def _prepare(volume: RawVolume, steps: Steps, work: Path, rows_file: Path, on_error: str) -> None:
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
        write_json(rows_file, [left_out | {"excluded": volume.excluded}])
        return
    try:
        rows = cut_volume(volume, steps, work)
    except ValueError as error:
        if on_error == "stop":
            raise
        write_json(rows_file, [left_out | {"excluded": f"{ERROR}{error}"}])
        return
    write_json(rows_file, [common | row for row in rows])


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


def prepared(root: str | Path, name: str) -> list[SliceRecord]:
    """The slices of a prepared folder, without what was left out; ids are `name/ID`, sorted.

    Raises FileNotFoundError where `root` is no such folder, or lost a file.
    """
    root = Path(root)
    records = []
    for row in read_index(root).to_dict("records"):
        if row["excluded"]:
            continue
        image, lesion = (
            root / row["file"],
            root / row["lesion_file"] if row["lesion_file"] else None,
        )
        if absent := [path for path in (image, lesion) if path is not None and not path.is_file()]:
            raise FileNotFoundError(
                f"{absent[0]}: there is no such file, though {root / 'index.csv'} lists it"
            )
        origin = {column: str(row.get(column, "")) for column in ORIGIN}
        windowed = bool(row["windowed"])
        record = SliceRecord(
            f"{name}/{row['id']}", row["subject"], row["split"], image, lesion, windowed, origin
        )
        records.append(record)
    return sorted(records, key=lambda record: record.id)


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
