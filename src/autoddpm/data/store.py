"""The prepared store: a source preprocessed once, memory-mapped, named after its settings and
contents."""

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from autoddpm.data.image_file import read_image, read_lesion
from autoddpm.data.lesion_size import GROUPS, size_group
from autoddpm.data.preprocess import VERSION, Prepared, preprocess
from autoddpm.data.sample import SliceRecord

log = logging.getLogger(__name__)

SHOWN = 5  # bad files in one message
LONG = 100  # slices; above it the build shows a progress bar


ORIGIN = (
    "site",
    "source",
    "source_sha256",
    "slice",
    "geometry",
)  # as of the record, not of the store
FILE_COLUMNS = ("id", "subject", "split", "image", "lesion", "sha256", "lesion_sha256")
BUILT = (*FILE_COLUMNS, "lesion_pixels", "lesion_pixels_full", "lesion_lost")
COLUMNS = (*BUILT, *ORIGIN)


@dataclass
class Store:
    """N prepared slices of one source.

    folder: where images.npy, lesions.npy and index.csv are.  hash: 12 hex digits of the settings
        and the contents.
    index: N rows: id, subject, split, image, lesion (paths as of now), sha256, lesion_sha256 (of
    the files; empty if healthy), lesion_pixels (at the store's size), lesion_pixels_full (before
    the resize), lesion_lost (there before the resize, gone after it); and, of prepared volumes,
    site, source, source_sha256, slice and geometry (empty else). The file has size_group besides;
    its paths and origin are as of when it was built.
    """

    folder: Path
    hash: str
    index: pd.DataFrame

    @cached_property
    def images(self) -> NDArray[np.float32]:
        """(N, size, size) float32 in [0, 1], memory-mapped, read-only."""
        return np.load(self.folder / "images.npy", mmap_mode="r")

    @cached_property
    def lesions(self) -> NDArray[np.bool_]:
        """(N, size, size) bool, memory-mapped, read-only."""
        return np.load(self.folder / "lesions.npy", mmap_mode="r")

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.images.shape[-1]

    def __getstate__(self) -> dict[str, object]:
        """A worker process opens the arrays itself: a pickled memory map would be a copy of
        them."""
        return {"folder": self.folder, "hash": self.hash, "index": self.index}


def prepare_store(
    name: str, records: Sequence[SliceRecord], size: int, prepared: str | Path
) -> Store:
    """Open the store of these records, `prepared/<name>-<hash>/`; build it if it is not there.

    A build works in a temporary folder that is renamed at the end, so a store that has its name is
    whole; of two processes that build the same one, the later drops its own.
    Raises ValueError or FileNotFoundError, in one message for up to five files, before anything is
    written by name.
    """
    digests = _digests(records)
    identity = [
        [r.id, r.subject, r.split, *digest, *(["windowed"] if r.windowed else [])]
        for r, digest in zip(records, digests, strict=True)
    ]
    key = hashlib.sha256(json.dumps([VERSION, size, identity]).encode()).hexdigest()[:12]
    folder = Path(prepared) / f"{name}-{key}"
    if not folder.is_dir():
        _build(folder, records, digests, size, f"Preparing {name} at {size} x {size}")
    index = pd.read_csv(
        folder / "index.csv", dtype={"id": str, "subject": str}, keep_default_na=False
    )
    index["image"] = [str(record.image) for record in records]
    index["lesion"] = ["" if record.lesion is None else str(record.lesion) for record in records]
    for column in ORIGIN:
        index[column] = [record.origin.get(column, "") for record in records]
    return Store(folder, key, index)


def _digests(records: Sequence[SliceRecord]) -> list[tuple[str, str]]:
    """The SHA-256 of each record's image and lesion file ("" without a lesion)."""
    paths = [
        path for record in records for path in (record.image, record.lesion) if path is not None
    ]
    _refuse(
        [
            FileNotFoundError(f"{p}: there is no such file; correct its list.")
            for p in paths
            if not p.is_file()
        ]
    )
    digest = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return [
        (digest[record.image], digest[record.lesion] if record.lesion else "") for record in records
    ]


def _build(
    folder: Path,
    records: Sequence[SliceRecord],
    digests: Sequence[tuple[str, str]],
    size: int,
    title: str,
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        shape = (len(records), size, size)
        images = np.lib.format.open_memmap(temporary / "images.npy", "w+", np.float32, shape)
        lesions = np.lib.format.open_memmap(temporary / "lesions.npy", "w+", np.bool_, shape)
        rows, errors = [], []
        for i, record in enumerate(track(records, title, disable=len(records) <= LONG)):
            try:
                prepared = _prepare(record, size)
            except ValueError as error:
                errors.append(error)
                continue
            images[i], lesions[i] = prepared.image, prepared.lesion
            pixels = int(np.count_nonzero(prepared.lesion))
            full = prepared.lesion_pixels_full
            paths = (str(record.image), str(record.lesion or ""))
            rows.append(
                (
                    record.id,
                    record.subject,
                    record.split,
                    *paths,
                    *digests[i],
                    pixels,
                    full,
                    pixels == 0 < full,
                )
            )
        _refuse(errors)
        images.flush()
        lesions.flush()
        index = pd.DataFrame(rows, columns=BUILT)
        for column in ORIGIN:
            index[column] = [record.origin.get(column, "") for record in records]
        index["size_group"] = [GROUPS[i] for i in size_group(index["lesion_pixels"], size)]
        index.to_csv(temporary / "index.csv", index=False)
        if lost := list(index.loc[index["lesion_lost"], "id"]):
            log.warning(
                "%s: the resize lost the lesion of %d slices: %s",
                folder,
                len(lost),
                ", ".join(lost),
            )
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # anything but another process having been faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _prepare(record: SliceRecord, size: int) -> Prepared:
    image = read_image(record.image)
    lesion = None if record.lesion is None else read_lesion(record.lesion, image)
    try:
        return preprocess(image, lesion, size, window=not record.windowed)
    except ValueError as error:
        raise ValueError(f"{record.image}: {error}.") from error


def _refuse(errors: Sequence[Exception]) -> None:
    """Raise one error for all of them, if there are any."""
    if errors:
        more = [f"... and {len(errors) - SHOWN} more files."] if len(errors) > SHOWN else []
        raise type(errors[0])("\n".join([*map(str, errors[:SHOWN]), *more]))
