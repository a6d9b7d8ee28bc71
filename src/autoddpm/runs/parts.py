"""Results batch by batch, one file per batch, so that a stop loses little."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from autoddpm.runs.maps import DAMAGES, write_npz


class PartFolder:
    """A folder of parts, each written under a temporary name and renamed.

    Its name must hold the hash of all that the parts depend on: those that were made under other
    conditions are then never mixed in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(
        self, ids: Sequence[str], images: Mapping[str, Tensor], calls: Tensor, seconds: float
    ) -> None:
        """Keep what was made of a batch.

        images: by name, each (B, C, *space). All channels are kept.
        calls: (B,), network calls per slice.
        seconds: wall time of the whole batch.
        """
        arrays = {name: values.cpu().numpy() for name, values in images.items()}
        arrays["id"] = np.array(ids)
        arrays["calls"] = calls.cpu().numpy()
        arrays["seconds"] = np.full(len(ids), seconds / len(ids))
        write_npz(self.folder / f"{time.time_ns()}-{os.getpid()}.npz", arrays)

    def done(self) -> set[str]:
        """Ids of the slices that are there."""
        return {str(slice_id) for path in self._parts() for slice_id in _read(path, "id")["id"]}

    def merged(self) -> dict[str, np.ndarray]:
        """All parts as one, in the order of the slices' ids, each slice once."""
        parts = self._parts()
        ids = np.concatenate([_read(path, "id")["id"] for path in parts])
        _, order = np.unique(ids, return_index=True)
        # One kind of array after the other: none is in memory twice but the one at work.
        return {
            name: np.concatenate([_read(path, name)[name] for path in parts])[order]
            for name in _read(parts[0])
        }

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("[!.]*.npz"))


def _read(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The named arrays of a part. All if none is named."""
    try:
        with np.load(path) as part:
            return {name: part[name] for name in names or part.files}
    except (KeyError, *DAMAGES) as error:
        raise ValueError(
            f"{path}: damaged ({error}); delete it, and its slices are computed again"
        ) from error
