"""Running a detector over a split, and thresholds calibrated on healthy validation slices."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Trainer

from autoddpm.atomic import read_json, write_json
from autoddpm.data.datamodule import Role, SliceDataModule
from autoddpm.metrics.localization import healthy_threshold
from autoddpm.modules.checkpoint import TrainedDDPM
from autoddpm.modules.detection_module import DetectionModule
from autoddpm.modules.provenance import describe
from autoddpm.modules.run_folder import MapFolder
from autoddpm.modules.weights_file import known_thresholds


def run(
    detector: Any,
    trained: TrainedDDPM,
    datamodule: SliceDataModule,
    trainer: Trainer,
    maps: MapFolder,
    role: Role,
    title: str,
) -> None:
    """Run a detector over the slices of a role that `maps` does not have yet; under DDP each rank does its share.

    Raises ValueError where the role has no slices, or where the trainer did not go through all of them.
    """
    every = set(datamodule.index(role)["id"])
    if not every:
        raise ValueError(f"no slices to {role} on: name a source in data.{role}")
    done = maps.done()
    trainer.strategy.barrier()
    if every - done:  # asked of all slices: a rank without any takes part all the same
        loader = datamodule.loader(role, skip=done)
        trainer.test(DetectionModule(detector, trained.ddpm, maps, title), loader, verbose=False)
    trainer.strategy.barrier()
    if missing := every - maps.done():
        raise ValueError(
            f"{maps.folder}: {len(missing)} of {len(every)} slices were not processed: a row is of all of them, so "
            "leave trainer.limit_test_batches out, or run the same command again if it was stopped"
        )


class Thresholds:
    """Values that healthy validation slices exceed in at most a given share of pixels, kept beside the checkpoint."""

    def __init__(
        self,
        trained: TrainedDDPM,
        datamodule: SliceDataModule,
        trainer: Trainer,
        folder: Path,
        provenance: Mapping[str, Any],
    ) -> None:
        self.trained, self.datamodule, self.trainer, self.folder = trained, datamodule, trainer, folder
        beside = trained.path.with_suffix(".thresholds.json")
        self.path = beside if os.access(beside.parent, os.W_OK) else folder / "thresholds.json"
        kept = ("weights_hash", "seed", "sampler", "precision", "size")
        self.conditions = {key: provenance[key] for key in kept} | {"data_hash": datamodule.hash("calibrate")}

    def of(self, detector: Any, false_positive_rate: float, title: str) -> float:
        """The threshold for this detector's anomaly map, read from the file or computed and added to it."""
        conditions = self.conditions | {
            "false_positive_rate": false_positive_rate,
            "detector": describe(detector),
            "anomaly_map": describe(detector.anomaly_map),
            "perceptual": describe(detector.perceptual) if getattr(detector, "uses_perceptual", True) else None,
        }
        for entry in known_thresholds(self.trained) + self._entries():
            if entry["conditions"] == conditions:
                return float(entry["threshold"])
        maps = MapFolder(self.folder, "calibration", conditions)
        run(detector, self.trained, self.datamodule, self.trainer, maps, "calibrate", title)
        threshold = healthy_threshold(maps.merged()["anomaly_map"], false_positive_rate)
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            write_json(self.path, [*self._entries(), {"threshold": threshold, "conditions": conditions}])
            shutil.rmtree(maps.folder)
        self.trainer.strategy.barrier()
        return threshold

    def _entries(self) -> list[dict[str, Any]]:
        return read_json(self.path) if self.path.is_file() else []
