"""Rows that differ in the map only share their reconstructions: sampled once, read by the
others."""

import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from autoddpm.atomic import read_json
from autoddpm.data.sample import Batch
from autoddpm.detectors.detector import Detection

log = logging.getLogger(__name__)

CALIBRATION, MAPS = "calibration.npz", "maps.npz"


class Remapped:
    """A detector that reads its reconstructions from the maps of a row and only makes the anomaly
    map anew.

    detector: one with `remap`.  path: an .npz with id, reconstruction, calls, seconds and the
        detector's stages.
    """

    def __init__(self, detector: Any, path: Path) -> None:
        self.detector = detector
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        self.position = {slice_id: i for i, slice_id in enumerate(arrays.pop("id").tolist())}
        self.calls, self.seconds = arrays.pop("calls"), arrays.pop("seconds")
        self.reconstruction = arrays.pop("reconstruction")
        self.stages = {
            k: v for k, v in arrays.items() if k not in ("image", "lesion", "anomaly_map")
        }

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Detection:
        rows = [self.position[slice_id] for slice_id in batch.id]

        def chosen(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values[rows])[:, None].to(batch.image.device)

        reconstruction = chosen(self.reconstruction)
        stages = {name: chosen(values) for name, values in self.stages.items()}
        anomaly_map = self.detector.remap(batch.image, reconstruction, stages)
        return Detection(anomaly_map, reconstruction, torch.from_numpy(self.calls[rows]), stages)

    def seconds_of(self, ids: np.ndarray) -> np.ndarray:
        """What sampling took, for each slice."""
        return self.seconds[[self.position[slice_id] for slice_id in ids.tolist()]]


def find_twin(folder: Path, record: Mapping[str, Any], detector: Any) -> Path | None:
    """A finished row beside `folder` whose reconstructions are those that `detector` would make, if
    there is one.

    record: what tells this row apart (its provenance and the detector's settings). Two rows that
    agree in it but for the settings in `detector.only_of_map` have the same reconstructions.
    """
    if not hasattr(detector, "remap") or not folder.parent.is_dir():
        return None
    free = {*detector.only_of_map}
    ours = {key: value for key, value in record.items() if key not in free}
    for other in sorted(folder.parent.iterdir()):
        if other == folder or not all((other / name).is_file() for name in ("metrics.json", MAPS)):
            continue
        try:
            row = read_json(other / "metrics.json")
            theirs = row["provenance"] | row["detector"]
            if all(theirs.get(key) == value for key, value in ours.items()):
                for name in (MAPS, CALIBRATION):
                    if (other / name).is_file():
                        Remapped(detector, other / name)  # reads it whole
                return other
        except (
            OSError,
            ValueError,
            KeyError,
            EOFError,
            TypeError,
            BadZipFile,
            zlib.error,
        ) as error:
            log.warning(
                "%s is damaged (%s): nothing is taken from it; delete it to have it made anew",
                other,
                error,
            )
    return None


def made_by(twin: Path | None) -> dict[str, Any] | None:
    """What a record says of the row that its reconstructions are of: its name, and the commit,
    device and versions that sampled them; None where the row sampled its own."""
    if twin is None:
        return None
    provenance = read_json(twin / "metrics.json")["provenance"]
    first = provenance.get("reconstructions_of")  # who sampled them, not who read them last
    return first or {"row": twin.name} | {
        key: provenance.get(key) for key in ("commit", "device", "versions")
    }
