"""The store: a source preprocessed once, memory-mapped, named after its settings and contents."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from autoddpm.atomic import folder_written_whole
from autoddpm.data.image_file import read_image, read_lesion
from autoddpm.data.preprocess import VERSION, Preprocessed, preprocess
from autoddpm.data.sample import Record

log = logging.getLogger(__name__)

FORMAT = 3  # of the files: raise it with any change of what they hold or how
SHOWN = 5  # bad files in one message
LONG = 100  # records; above it the build shows a progress bar

#: Columns that are as the records say now, whatever they said when the store was built. A volume is
#: named by `volume`, by which slices are grouped; without one it is the subject.
ORIGIN = ("site", "source", "source_sha256", "slice", "geometry", "volume")
BUILT = (
    *("id", "subject", "split", "sha256", "lesion_sha256"),
    *("lesion_pixels", "lesion_pixels_full", "lesion_lost"),
)
COLUMNS = ("id", "subject", "split", "image", "lesion", *BUILT[3:], *ORIGIN)


@dataclass
class Store:
    """N preprocessed images of one source; their space is (H, W) or (D, H, W).

    folder: holds images.npy, lesions.npy and index.csv.
    hash: 12 hex digits of the settings and the contents.
    index: N rows, `COLUMNS`. image and lesion are paths, sha256 and lesion_sha256 of their files.
        Those of the lesion are empty if there is none. lesion_pixels is at the store's size,
        lesion_pixels_full before the resize. lesion_lost is true if it is gone after the resize.
        site, source, source_sha256, slice and geometry are empty unless slices are of volumes.
    modalities: of the channels, in their order.
    preparation: how slices were made from volumes, see `Record`.
    """

    folder: Path
    hash: str
    index: pd.DataFrame
    modalities: tuple[str, ...]
    preparation: Mapping[str, Any] | None = None

    @cached_property
    def images(self) -> NDArray[np.float32]:
        """(N, C, *space) float32 in [0, 1], memory-mapped, read-only."""
        return np.load(self.folder / "images.npy", mmap_mode="r")

    @cached_property
    def lesions(self) -> NDArray[np.bool_]:
        """(N, 1, *space) bool, memory-mapped, read-only."""
        return np.load(self.folder / "lesions.npy", mmap_mode="r")

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.images.shape[-1]

    @property
    def dimensions(self) -> int:
        """2 if it holds slices, 3 if it holds volumes."""
        return self.images.ndim - 2

    def __getstate__(self) -> dict[str, object]:
        """Leave the arrays to the worker process: a pickled memory map would be a copy of them."""
        arrays = ("images", "lesions")
        return {name: value for name, value in self.__dict__.items() if name not in arrays}


def build_store(name: str, records: Sequence[Record], size: int, stores: str | Path) -> Store:
    """Open the store of these records, `stores/<name>-<hash>/`; build it if it is not there.

    name: of the source.
    records: all of the same modalities and dimensions.
    size: pixels a side.
    stores: the folder of the stores.

    A store that has its name is whole. Of two processes that build the same one, the later drops
    its own. Raises ValueError or FileNotFoundError, in one message for up to five files; then
    nothing is written.
    """
    _check_alike(records)
    digests = _digests(records)
    identity = [
        [r.id, r.subject, r.split, *digest, *_particular(r)]
        for r, digest in zip(records, digests, strict=True)
    ]
    content = json.dumps([VERSION, FORMAT, size, identity])
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    folder = Path(stores) / f"{name}-{key}"
    if not folder.is_dir():
        title = f"Building the store of {name}, {size} pixels a side"
        with folder_written_whole(folder) as temporary:
            lost = _build(temporary, records, digests, size, title)
        if lost:
            names = ", ".join(lost)
            log.warning("%s: the resize lost the lesion of %d slices: %s", folder, len(lost), names)
    text = {"id": str, "subject": str}
    index = pd.read_csv(folder / "index.csv", dtype=text, keep_default_na=False)
    index["image"] = [record.files for record in records]
    index["lesion"] = ["" if record.lesion is None else str(record.lesion) for record in records]
    for column in ORIGIN:
        index[column] = [record.origin.get(column, "") for record in records]
    index["volume"] = index["volume"].where(index["volume"] != "", index["subject"])
    first = records[0]
    is_common = all(record.preparation == first.preparation for record in records)
    preparation = first.preparation if is_common else None
    return Store(folder, key, index[list(COLUMNS)], tuple(first.images), preparation)


def check_stores(stores: str | Path) -> None:
    """Try to write to the folder of the stores, which is made if it is not there.

    Raises OSError that says how to give another.
    """
    try:
        with folder_written_whole(Path(stores) / ".tried"):
            pass
        (Path(stores) / ".tried").rmdir()
    except OSError as error:
        raise OSError(f"{stores}: cannot be written to ({error}): paths.prepared=DIR") from error


def _check_alike(records: Sequence[Record]) -> None:
    """Refuse records that cannot be channels and space of one array."""
    first = records[0]
    for record in records:
        if tuple(record.images) != tuple(first.images):
            raise ValueError(
                f"{record.files} has the modalities {', '.join(record.images)}, {first.files} has "
                f"{', '.join(first.images)}; give both the same, in the same order."
            )
        if record.dimensions != first.dimensions:
            raise ValueError(
                f"{record.files} has {record.dimensions} dimensions, {first.files} has "
                f"{first.dimensions}; put slices and volumes into two sources."
            )


def _particular(record: Record) -> list[str]:
    """Marks in the hash of a record that is not one of slices to be windowed."""
    windowed = ["windowed"] if record.windowed else []
    shrunk = ["above 0"] if record.above_0 else []
    space = [] if record.dimensions == 2 else [f"{record.dimensions}-D"]
    return [*windowed, *shrunk, *space]


def _digests(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The SHA-256 of each record's images and of its lesion file ("" without a lesion)."""
    paths = [
        path
        for record in records
        for path in (*record.images.values(), record.lesion)
        if path is not None
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
        (
            _joined({modality: digest[path] for modality, path in record.images.items()}),
            digest[record.lesion] if record.lesion else "",
        )
        for record in records
    ]


def _joined(digests: Mapping[str, str]) -> str:
    """One digest for all modalities. Of one modality it is its file's own."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    return hashlib.sha256(json.dumps(list(digests.items())).encode()).hexdigest()


def _build(
    folder: Path,
    records: Sequence[Record],
    digests: Sequence[tuple[str, str]],
    size: int,
    title: str,
) -> list[str]:
    """Write the arrays and the index. Returns the ids whose lesion the resize lost."""
    space = (size,) * records[0].dimensions
    images = np.lib.format.open_memmap(
        folder / "images.npy", "w+", np.float32, (len(records), len(records[0].images), *space)
    )
    lesions = np.lib.format.open_memmap(
        folder / "lesions.npy", "w+", np.bool_, (len(records), 1, *space)
    )
    rows, errors, remarks = [], [], []
    for i, record in enumerate(track(records, title, disable=len(records) <= LONG)):
        try:
            channels, remark = _preprocess(record, size)
        except ValueError as error:
            errors.append(error)
            continue
        remarks += [f"{record.lesion}: {remark}"] if remark else []
        images[i] = np.stack([channel.image for channel in channels])
        lesions[i, 0] = channels[0].lesion
        pixels, full = int(np.count_nonzero(lesions[i])), channels[0].lesion_pixels_full
        sizes = (pixels, full, pixels == 0 < full)
        rows.append((record.id, record.subject, record.split, *digests[i], *sizes))
    _refuse(errors)
    if remarks:
        log.warning("%d doubtful masks. %s", len(remarks), _lines(remarks))
    images.flush()
    lesions.flush()
    index = pd.DataFrame(rows, columns=BUILT)
    index.to_csv(folder / "index.csv", index=False)
    return list(index.loc[index["lesion_lost"], "id"])


def _preprocess(record: Record, size: int) -> tuple[list[Preprocessed], str]:
    """The channels of one record, each with its lesion, and what is doubtful in the lesion."""
    first, *others = record.images.values()
    images = [read_image(first, record.dimensions)]
    images += [read_image(path, record.dimensions, like=first) for path in others]
    if len({image.shape for image in images}) > 1:
        shapes = " and ".join(" x ".join(map(str, image.shape)) for image in images)
        raise ValueError(f"{record.files}: have {shapes} pixels; save all modalities alike.")
    lesion, remark = None, ""
    if record.lesion is not None:
        lesion, remark = read_lesion(record.lesion, images[0], first, record.above_0)
    window = not record.windowed
    channels = []
    for path, image in zip(record.images.values(), images, strict=True):
        try:
            channels.append(preprocess(image, lesion, size, window))
        except ValueError as error:
            raise ValueError(f"{path}: {error}.") from error
    return channels, remark


def _refuse(errors: Sequence[Exception]) -> None:
    """Raise one error for all of them, if there are any."""
    if errors:
        raise type(errors[0])(_lines(list(map(str, errors))))


def _lines(texts: Sequence[str]) -> str:
    """The first texts, and how many more there are."""
    more = [f"... and {len(texts) - SHOWN} more files."] if len(texts) > SHOWN else []
    return "\n".join([*texts[:SHOWN], *more])
