"""The maps of an evaluation, written batch by batch, so that a stop loses little."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autoddpm.data.sample import Batch
from autoddpm.detectors.detector import Detection
from autoddpm.runs.maps import DAMAGES, as_stored, write_npz


class MapFolder:
    """The parts of one evaluation, one file per batch, none of them ever half-written.

    They lie in `folder/name-HASH`. The hash is of `conditions`, all that the maps depend on: parts
    that were made under other conditions are never mixed in.
    """

    def __init__(self, folder: Path, name: str, conditions: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:8]
        self.folder = folder / f"{name}-{digest}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, batch: Batch, detection: Detection, seconds: float) -> None:
        """Keep a detector's images of a batch, with all their channels.

        seconds: wall time of the whole batch.
        """
        images = {
            "image": batch.image,
            "lesion": batch.lesion,
            "anomaly_map": detection.anomaly_map,
            "reconstruction": detection.reconstruction,
            **detection.stages,
        }
        arrays = {name: as_stored(name, one.cpu().numpy()) for name, one in images.items()}
        arrays["id"] = np.array(batch.id)
        arrays["calls"] = detection.calls.cpu().numpy()
        arrays["seconds"] = np.full(len(batch.id), seconds / len(batch.id))
        write_npz(self.folder / f"{time.time_ns()}-{os.getpid()}.npz", arrays)

    def done(self) -> set[str]:
        """The ids of the slices that are there."""
        return {str(slice_id) for path in self._parts() for slice_id in _read(path)["id"]}

    def merged(self) -> dict[str, np.ndarray]:
        """All parts as one, in the order of the slices' ids, each slice once."""
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
    """The named arrays of a part; all if none is named."""
    try:
        with np.load(path) as part:
            return {name: part[name] for name in names or part.files}
    except (KeyError, *DAMAGES) as error:
        raise ValueError(
            f"{path}: damaged ({error}); delete it, and its slices are computed again"
        ) from error
