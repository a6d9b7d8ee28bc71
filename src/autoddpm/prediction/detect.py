"""Slices of several scans through one detector, in batches across scans."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autoddpm.data.sample import Batch
from autoddpm.detectors.detector import (
    Detection,
    Detector,
    checked_map,
    checked_reconstruction,
    seen_by,
)
from autoddpm.evaluation.in_parts import InParts
from autoddpm.models.model import Trained
from autoddpm.prediction.prepared import Prepared

SLICES_AT_ONCE = {"cpu": 16, "cuda": 64, "mps": 16}
DEVICES = "auto, cpu, cuda, cuda:N or mps"


@dataclass(frozen=True)
class Detected:
    """What a detector made of the slices of one scan.

    maps: (N, size, size) float32 >= 0.
    reconstructions: (N, size, size) float32, in [0, 1].
    seconds: the scan's share of the batches' time.
    """

    maps: NDArray[np.float32]
    reconstructions: NDArray[np.float32]
    seconds: float


def device_of(asked: str) -> torch.device:
    """The device that `auto` (a GPU if there is one), or a name, means.

    Raises ValueError if it is not here.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise ValueError(f"device {asked}: must be {DEVICES}") from error
    if device.type not in SLICES_AT_ONCE:
        raise ValueError(f"device {asked}: must be {DEVICES}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {asked}: this machine has {torch.cuda.device_count()} GPUs")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {asked}: this machine has no GPU of Apple")
    return device


def put_on(trained: Trained, device: torch.device) -> None:
    """Move a model, and keep 32 bits 32 bits there."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    cast(nn.Module, trained.model).to(device)


def detect_scans(
    detector: Detector, scans: Sequence[Prepared], device: torch.device, at_once: int | None = None
) -> list[Detected]:
    """Reconstruct and map the slices of scans that are of one size.

    at_once: slices in a batch, whichever scans they are of. None: as the device takes them.

    A scan's map does not depend on the others: its noise is of its own content.
    """
    images = torch.from_numpy(np.concatenate([scan.images for scan in scans]))[:, None]
    ids = [name for scan in scans for name in scan.ids]
    in_parts = InParts(lambda batch: _detection(detector, batch), _joined)
    size = at_once or SLICES_AT_ONCE[device.type]
    maps, reconstructions, seconds = [], [], np.zeros(len(ids))
    for start in range(0, len(ids), size):
        part, began = slice(start, start + size), time.perf_counter()
        image = images[part].to(device)
        none = torch.zeros_like(image, dtype=torch.bool)
        epoch = torch.zeros(len(image), dtype=torch.int64)
        made = in_parts(Batch(image, none, ids[part], epoch))
        maps.append(made.anomaly_map[:, 0].cpu().numpy())
        reconstructions.append(made.reconstruction[:, 0].clamp(0, 1).cpu().numpy())
        seconds[part] = (time.perf_counter() - began) / len(image)
    ends = np.cumsum([len(scan.images) for scan in scans])[:-1]
    shares = zip(
        *(np.split(values, ends) for values in map(np.concatenate, (maps, reconstructions))),
        np.split(seconds, ends),
        strict=True,
    )
    return [Detected(one, other, float(spent.sum())) for one, other, spent in shares]


def _detection(detector: Detector, batch: Batch) -> Detection:
    seen = seen_by(detector, batch)
    made = checked_reconstruction(detector.reconstruct(seen), seen)
    found = checked_map(detector.anomaly_map(seen, made), seen)
    return Detection(found, made.image, made.calls)


def _joined(parts: list[Detection]) -> Detection:
    return Detection(
        torch.cat([part.anomaly_map for part in parts]),
        torch.cat([part.reconstruction for part in parts]),
        torch.cat([part.calls for part in parts]),
    )
