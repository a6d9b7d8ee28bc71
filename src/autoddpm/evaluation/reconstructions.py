"""Reuse of reconstructions: detectors that differ only in their anomaly map are sampled once.

They are in `runs/NAME/reconstructions/HASH`, one file per batch. `conditions.json` beside them
holds all that they depend on, and what made them. A lock lets one process at a time make those of
one hash, while the others wait and then read them. The folder may be deleted at any time: what is
missing is made again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor

from autoddpm.atomic import read_json, write_json
from autoddpm.detectors.detector import Detector, Reconstruction, Slices, parts
from autoddpm.evaluation.conditions import record_of_first
from autoddpm.locks import in_turn
from autoddpm.runs.parts import PartFolder
from autoddpm.runs.provenance import environment
from autoddpm.settings import arguments, describe

NOT_STAGES = ("id", "image", "calls", "seconds")


def depends_on(detector: Detector, given: Mapping[str, Any]) -> dict[str, Any]:
    """All that a detector's reconstructions depend on.

    given: what else they depend on: weights, data, precision.
    """
    initial = arguments(detector).get("initial")
    first = {} if initial is None else {"initial": record_of_first(initial)}
    settings = {
        name: value
        for name, value in (describe(detector) | parts(detector) | first).items()
        if name not in detector.only_of_map
    }
    return {**given, **settings}


@contextmanager
def locked(path: Path, trainer: Trainer, what: str) -> Iterator[None]:
    """Hold a lock, waiting while another run has it.

    Under DDP the first process holds it for all.

    path: of the lock's file.
    what: it is for, said if it must be waited for.
    """
    with in_turn([path], what) if trainer.is_global_zero else nullcontext():
        trainer.strategy.barrier()
        try:
            yield
        finally:
            trainer.strategy.barrier()


class Reconstructions:
    """The reconstructions of one detector on one split, in a folder of their own.

    root: the folder of all of them.
    conditions: all that they depend on, see `depends_on`. The folder's name is their hash.
    """

    def __init__(self, root: Path, conditions: Mapping[str, Any]) -> None:
        text = json.dumps(conditions, sort_keys=True)
        self.conditions = json.loads(text)
        self.hash = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.parts = PartFolder(root / self.hash)

    @property
    def path(self) -> Path:
        return self.parts.folder

    @contextmanager
    def claimed(self, trainer: Trainer) -> Iterator[None]:
        """Hold the lock of this hash, waiting while another run makes the same reconstructions."""
        noted = self.path / "conditions.json"
        with locked(self.path.with_suffix(".lock"), trainer, f"the reconstructions {self.path}"):
            if trainer.is_global_zero and not noted.is_file():
                made = {
                    "conditions": self.conditions,
                    "environment": environment(trainer.strategy.root_device),
                }
                write_json(noted, made)
            yield

    def made_by(self) -> dict[str, Any]:
        """Commit, device and versions of what made them."""
        environment = read_json(self.path / "conditions.json")["environment"]
        return {"hash": self.hash} | {
            key: environment.get(key) for key in ("commit", "device", "versions")
        }

    def write(self, batch: Slices, made: Reconstruction, seconds: float) -> None:
        """Keep the reconstruction of a batch.

        seconds: wall time of the whole batch.
        """
        arrays = {"image": made.image, **made.stages}
        self.parts.write(batch.id, arrays, made.calls, seconds)


class Stored:
    """Reconstructions by the slices' ids."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.position = {name: place for place, name in enumerate(arrays["id"].tolist())}

    def of(self, batch: Slices) -> Reconstruction:
        """The reconstruction of a batch, on its images' device."""
        rows = self._rows(batch.id)
        device = batch.image.device

        def chosen(name: str) -> Tensor:
            return torch.from_numpy(self.arrays[name][rows]).to(device)

        stages = {name: chosen(name) for name in self.arrays if name not in NOT_STAGES}
        return Reconstruction(chosen("image"), torch.from_numpy(self.arrays["calls"][rows]), stages)

    def seconds(self, ids: Sequence[str]) -> np.ndarray:
        """Time of making them per slice, in seconds."""
        return self.arrays["seconds"][self._rows(ids)]

    def _rows(self, ids: Sequence[str]) -> list[int]:
        return [self.position[name] for name in ids]
