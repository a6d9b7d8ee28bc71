"""Stores in one file, for a machine that has neither the data sets nor the time to read them."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autoddpm.atomic import written_whole
from autoddpm.data.grid import by
from autoddpm.data.store import COLUMNS, Store

FORMAT = 2


class PackedStore(Store):
    """A store whose arrays are in memory."""

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__


def write_packed(stores: Mapping[str, Store], path: str | Path) -> Path:
    """Write stores, by the name of their source, into one .npz; lossless. Returns the path."""
    path = Path(path)
    arrays: dict[str, np.ndarray] = {}
    about = {}
    for name, store in stores.items():
        arrays[f"{name}.images"] = store.images
        arrays[f"{name}.lesions"] = np.packbits(store.lesions, axis=-1)
        arrays[f"{name}.index"] = np.array(store.index.to_csv(index=False))
        about[name] = {
            "hash": store.hash,
            "modalities": store.modalities,
            "preparation": store.preparation,
        }
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, allow_pickle=False, about=np.array(json.dumps([FORMAT, about])), **arrays
        )
    return path


def packed(path: str | Path, name: str) -> PackedStore:
    """The store of a source in a packed file. Its slices count as the ones they were made of.

    Raises FileNotFoundError, or ValueError that names the file, if it is damaged or has no such
    source.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; pack one: python experiments/gpu/pack.py"
        )
    try:
        with np.load(path, allow_pickle=False) as stored:
            format_, about = json.loads(str(stored["about"]))
            if format_ != FORMAT:
                raise ValueError("it was packed by another version of this program")
            if name not in about:
                raise ValueError(f"it holds {', '.join(about)}, and no {name}")
            return _store(path, stored, name, about[name])
    except Exception as error:  # numpy, zipfile, zlib and pandas each have their own
        raise ValueError(
            f"{path}: not a file of packed slices, or damaged ({error}); pack it again"
        ) from error


def _store(
    path: Path, stored: Mapping[str, np.ndarray], name: str, said: Mapping[str, Any]
) -> PackedStore:
    """A source's part of a packed file. ValueError if its arrays do not belong together."""
    images, bits = stored[f"{name}.images"].astype(np.float32), stored[f"{name}.lesions"]
    table = io.StringIO(str(stored[f"{name}.index"]))
    index = pd.read_csv(table, dtype={"id": str, "subject": str}, keep_default_na=False)
    lesions = np.unpackbits(bits, axis=-1, count=images.shape[-1]).astype(bool)
    modalities = tuple(said["modalities"])
    if images.shape[:2] != (len(index), len(modalities)) or not index["id"].is_unique:
        raise ValueError(f"{len(index)} slices are listed, the images are {by(images.shape)}")
    if images.ndim not in (4, 5) or lesions.shape != (len(images), 1, *images.shape[2:]):
        raise ValueError(f"the images are {by(images.shape)}, the lesions {by(lesions.shape)}")
    if not (images.min(initial=0) >= 0 and images.max(initial=1) <= 1):
        raise ValueError("the images are not in [0, 1]")
    if not (isinstance(said["hash"], str) and isinstance(said["preparation"], dict | None)):
        raise ValueError("its hash or its preparation is none")
    store = PackedStore(path, said["hash"], index[list(COLUMNS)], modalities, said["preparation"])
    store.__dict__ |= {"images": images, "lesions": lesions}  # as the cached properties keep them
    return store
