"""Thresholds calibrated on healthy validation slices."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoddpm.atomic import write_json
from autoddpm.detectors.detector import Detector
from autoddpm.evaluation.conditions import as_now, of_detector
from autoddpm.evaluation.detect import Bench, Made, map_anomalies, reconstruct
from autoddpm.locks import in_turn
from autoddpm.metrics.localization import HEALTHY_FPRS, healthy_threshold
from autoddpm.metrics.typical import typical
from autoddpm.models.weights_file import known_thresholds, read_thresholds
from autoddpm.runs.parts import PartFolder


class Thresholds:
    """Values that healthy validation slices exceed in at most a given share of pixels.

    They are kept beside the checkpoint, or in `folder` if that place cannot be written to.

    provenance: of the row that they are for.
    """

    def __init__(self, bench: Bench, folder: Path, provenance: Mapping[str, Any]) -> None:
        self.bench, self.folder = bench, folder
        beside = bench.trained.path.with_suffix(".thresholds.json")
        self.path = beside if os.access(beside.parent, os.W_OK) else folder / "thresholds.json"
        kept = ("weights_hash", "seed", "sampler", "precision", "size")
        self.conditions = {key: provenance[key] for key in kept}
        self.conditions["data_hash"] = bench.datamodule.hash("calibrate")
        self.conditions["clip"] = bench.trained.model.record().get("data_range")

    def of(
        self, detector: Detector, rates: Sequence[float], title: str, postprocess: str = "none"
    ) -> list[float]:
        """The thresholds for a detector's anomaly map, read from the file or computed and added.

        rates: for each threshold, the share of healthy pixels that may be above it.
        title: shown by the progress bar.
        postprocess: what follows the map, of `POSTPROCESS`.
        """
        conditions = self.conditions | of_detector(detector) | {"postprocess": postprocess}
        wanted = [conditions | {"false_positive_rate": rate} for rate in rates]
        entries = known_thresholds(self.bench.trained) + self._entries()
        known = [
            next((e["threshold"] for e in entries if as_now(e["conditions"]) == one), None)
            for one in wanted
        ]
        strategy = self.bench.trainer.strategy
        strategy.barrier()  # every process has read the same
        if None not in known:
            return [float(value) for value in known if value is not None]
        digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:8]
        parts = PartFolder(self.folder / f"calibration-{digest}")
        made = reconstruct(self.bench, detector, "calibrate", title)
        arrays = map_anomalies(
            self.bench, detector, "calibrate", made.stored, parts, title, postprocess
        )
        found = [healthy_threshold(arrays["anomaly_map"], rate) for rate in rates]
        healthy = typical_slices(arrays, made)
        strategy.barrier()
        if self.bench.trainer.is_global_zero:
            self._add(zip(found, wanted, strict=True), healthy)
            shutil.rmtree(parts.folder)
        strategy.barrier()
        return found

    def of_map(self, detector: Detector) -> dict[str, float]:
        """The last map's thresholds, by the names in `HEALTHY_FPRS`."""
        rates = list(HEALTHY_FPRS.values())
        found = self.of(detector, rates, "calibrate the map", self.bench.postprocess)
        return dict(zip(HEALTHY_FPRS, found, strict=True))

    def _add(
        self, found: "zip[tuple[float, dict[str, Any]]]", healthy: Mapping[str, Any] | None
    ) -> None:
        new = [
            {"threshold": value, "conditions": one} | ({"healthy": healthy} if healthy else {})
            for value, one in found
        ]
        # Rows are made by several processes.
        with in_turn([self.path.with_suffix(".lock")], str(self.path)):
            entries = self._entries()
            write_json(self.path, entries + [entry for entry in new if entry not in entries])

    def _entries(self) -> list[dict[str, Any]]:
        return read_thresholds(self.path)


def typical_slices(arrays: Mapping[str, np.ndarray], made: Made) -> dict[str, Any] | None:
    """`typical` of the slices that a threshold is calibrated on. None of a single one.

    arrays: of `map_anomalies`, in the order of the reconstructions.
    """
    images, reconstructions = arrays["image"], made.stored.arrays["image"]
    return typical(images, reconstructions) if len(images) > 1 else None
