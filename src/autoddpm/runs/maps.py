"""The maps of a run folder: arrays of N slices or volumes, one for each stage.

A stage of C channels is stored as (N, C, *space), and of one channel as (N, *space), as 0.1.0 did.
The anomaly map and the lesion always have one channel: `space` has one dimension fewer than they.
"""

import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoddpm.atomic import written_whole
from autoddpm.runs.folder import UnreadableRunError

KEPT_BYTES = 2**30
ONE_CHANNEL = ("anomaly_map", "lesion")
#: Errors of zipfile and numpy on a damaged file; RuntimeError if it says that it is encrypted.
DAMAGES = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays compressed."""
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def as_stored(name: str, values: np.ndarray) -> np.ndarray:
    """A stage (N, C, *space) as it is stored: without the axis of a single channel.

    Raises ValueError if an anomaly map or a lesion has several channels.
    """
    if values.shape[1] == 1:
        return values[:, 0]
    if name in ONE_CHANNEL:
        raise ValueError(f"{name} has {values.shape[1]} channels: it must have one")
    return values


class MapReader:
    """Reads the maps.npz of several run folders. Each is opened once.

    Its arrays are read when they are asked for. The last used ones are kept, at most `most` bytes
    of all files together, or a single larger one.
    """

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.most = most
        self._files: dict[Path, zipfile.ZipFile] = {}
        self._arrays: OrderedDict[tuple[Path, str], NDArray[Any]] = OrderedDict()

    def contents(self, path: Path) -> dict[str, tuple[int, int]]:
        """{name: (size, checksum)} of the arrays in a file; UnreadableRunError if it is damaged."""
        parts = self._open(path).infolist()
        return {part.filename.removesuffix(".npy"): (part.file_size, part.CRC) for part in parts}

    def read(self, path: Path, name: str) -> NDArray[Any]:
        """An array of a file, not to be changed.

        Raises UnreadableRunError, naming the file, if it is damaged or has no such array. Raises it
        too if the array has another number of slices than of ids, or holds NaN or infinity.
        """
        key = (path, name)
        if key not in self._arrays:
            self._arrays[key] = self._checked(path, name)
        self._arrays.move_to_end(key)
        held = sum(one.nbytes for one in self._arrays.values())
        while held > self.most and len(self._arrays) > 1:
            held -= self._arrays.popitem(last=False)[1].nbytes
        return self._arrays[key]

    def _open(self, path: Path) -> zipfile.ZipFile:
        if path not in self._files:
            try:
                self._files[path] = zipfile.ZipFile(path)
            except DAMAGES as error:
                raise UnreadableRunError(f"{path} is not readable ({error})") from error
        return self._files[path]

    def _checked(self, path: Path, name: str) -> NDArray[Any]:
        file = self._open(path)
        try:
            with file.open(f"{name}.npy") as part:
                values: NDArray[Any] = np.lib.format.read_array(part, allow_pickle=False)
        except KeyError as error:
            raise UnreadableRunError(f"{path} is not whole ({error.args[0]})") from error
        except DAMAGES as error:
            raise UnreadableRunError(f"{path} is not readable ({error})") from error
        if name == "id":
            return values
        if values.ndim < 3 or len(values) != len(self.read(path, "id")):
            raise UnreadableRunError(
                f"{path}: {name} has shape {values.shape}, expected (N, H, W) or with channels or "
                "a depth"
            )
        if not np.isfinite(values).all():
            raise UnreadableRunError(f"{path}: {name} holds values that are no numbers")
        return values
