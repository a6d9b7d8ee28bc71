"""Thresholds calibrated on healthy validation slices."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning import Trainer

from autoddpm.atomic import read_json, write_json
from autoddpm.data.datamodule import SliceDataModule
from autoddpm.evaluation.detect import run
from autoddpm.metrics.localization import healthy_threshold
from autoddpm.models.trained import TrainedDDPM
from autoddpm.models.weights_file import known_thresholds
from autoddpm.runs.maps import write_npz
from autoddpm.runs.parts import MapFolder
from autoddpm.runs.provenance import describe

#: Settings of detectors that entries of 0.1.0 do not name, and what they were then.
ADDED = {"AutoDDPM": {"mask_region": "image"}}


class Thresholds:
    """Values that healthy validation slices exceed in at most a given share of pixels, kept beside
    the checkpoint."""

    def __init__(
        self,
        trained: TrainedDDPM,
        datamodule: SliceDataModule,
        trainer: Trainer,
        folder: Path,
        provenance: Mapping[str, Any],
    ) -> None:
        self.trained, self.datamodule, self.trainer, self.folder = (
            trained,
            datamodule,
            trainer,
            folder,
        )
        beside = trained.path.with_suffix(".thresholds.json")
        self.path = beside if os.access(beside.parent, os.W_OK) else folder / "thresholds.json"
        kept = ("weights_hash", "seed", "sampler", "precision", "size")
        self.conditions = {key: provenance[key] for key in kept} | {
            "data_hash": datamodule.hash("calibrate")
        }
        self.conditions["clip"] = list(trained.ddpm.clip)

    def of(
        self,
        detector: Any,
        false_positive_rates: Sequence[float],
        title: str,
        runner: Any = None,
        keep: Path | None = None,
    ) -> list[float]:
        """The thresholds for this detector's anomaly map, read from the file or computed and added
        to it.

        runner: what is run in the detector's place and gives the same maps (reconstructions that
            were kept).
        keep: where the healthy maps are left.
        """
        conditions = self.conditions | {
            "detector": describe(detector),
            "anomaly_map": describe(detector.anomaly_map),
            "perceptual": describe(detector.perceptual)
            if getattr(detector, "uses_perceptual", True)
            else None,
        }
        wanted = [conditions | {"false_positive_rate": rate} for rate in false_positive_rates]
        entries = known_thresholds(self.trained) + self._entries()
        known = [
            next((e["threshold"] for e in entries if as_now(e["conditions"]) == one), None)
            for one in wanted
        ]
        self.trainer.strategy.barrier()  # every process has read the same
        if None not in known:
            return [float(value) for value in known if value is not None]
        maps = MapFolder(self.folder, "calibration", conditions)
        run(
            runner or detector,
            self.trained,
            self.datamodule,
            self.trainer,
            maps,
            "calibrate",
            title,
        )
        arrays = maps.merged()
        found = [healthy_threshold(arrays["anomaly_map"], rate) for rate in false_positive_rates]
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            new = [
                {"threshold": value, "conditions": one}
                for value, one in zip(found, wanted, strict=True)
            ]
            with FileLock(self.path.with_suffix(".lock")):  # rows are made by several processes
                entries = self._entries()
                write_json(self.path, entries + [entry for entry in new if entry not in entries])
            if keep is not None:
                write_npz(keep, arrays)
            shutil.rmtree(maps.folder)
        self.trainer.strategy.barrier()
        return found

    def _entries(self) -> list[dict[str, Any]]:
        return read_json(self.path) if self.path.is_file() else []


def as_now(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of a stored threshold with the settings that were added since it was
    calibrated."""
    return {"clip": [-1.0, 1.0], **conditions, "detector": with_added(conditions["detector"])}


def with_added(detector: Mapping[str, Any]) -> dict[str, Any]:
    """A detector's record with the settings that were added since it was written."""
    return {**ADDED.get(detector.get("name", ""), {}), **detector}
