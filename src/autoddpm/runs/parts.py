"""The maps of an evaluation, written batch by batch so that a stop loses little."""

import hashlib
import json
import os
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autoddpm.atomic import written_whole
from autoddpm.data.sample import Batch
from autoddpm.detectors.detector import Detection


class MapFolder:
    """The parts of one evaluation, one file a batch, each written under a temporary name and
    renamed.

    They lie in `folder/name-HASH`, the hash of `conditions`, all that the maps depend on: parts
    that were made under other conditions are never mixed in.
    """

    def __init__(self, folder: Path, name: str, conditions: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:8]
        self.folder = folder / f"{name}-{digest}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, batch: Batch, detection: Detection, seconds: float) -> None:
        """Keep what the detector said of a batch; seconds: wall time of the whole batch."""
        images = {
            "image": batch.image,
            "lesion": batch.lesion,
            "anomaly_map": detection.anomaly_map,
            "reconstruction": detection.reconstruction,
            **detection.stages,
        }
        arrays = {name: values[:, 0].cpu().numpy() for name, values in images.items()}
        arrays["id"] = np.array(batch.id)
        arrays["calls"] = detection.calls.cpu().numpy()
        arrays["seconds"] = np.full(len(batch.id), seconds / len(batch.id))
        write_npz(self.folder / f"{time.time_ns()}-{os.getpid()}.npz", arrays)

    def done(self) -> set[str]:
        """The ids of the slices that are there."""
        return {str(slice_id) for path in self._parts() for slice_id in _read(path)["id"]}

    def merged(self) -> dict[str, np.ndarray]:
        """All parts in one, in the order of the slices' ids, each slice once."""
        parts = self._parts()
        _, order = np.unique(
            np.concatenate([_read(path, "id")["id"] for path in parts]), return_index=True
        )
        return {  # one kind of array after the other: none is in memory twice but the one at work
            name: np.concatenate([_read(path, name)[name] for path in parts])[order]
            for name in _read(parts[0])
        }

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("[!.]*.npz"))


def _read(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The named arrays of a part; all without a name."""
    try:
        with np.load(path) as part:
            return {name: part[name] for name in names or part.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: damaged ({error}); delete it, and its slices are computed again"
        ) from error


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays compressed."""
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
