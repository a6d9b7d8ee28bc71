"""One row of a table: calibrate, detect, score, and write down what was done."""

import csv
import datetime
import hashlib
import inspect
import io
import json
import logging
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from torchmetrics import Metric, MetricCollection

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.metrics.localization import GROUPS, HEALTHY, dice, healthy_threshold, max_dice, size_group, threshold_counts
from autoddpm.metrics.reconstruction import mse, ssim
from autoddpm.modules.checkpoint import TrainedDDPM
from autoddpm.modules.detection_module import DetectionModule
from autoddpm.modules.run_folder import MapFolder, write_json, write_npz

log = logging.getLogger(__name__)


def evaluate(
    detector: Any,
    trained: TrainedDDPM,
    datamodule: SliceDataModule,
    trainer: Trainer,
    metrics: Mapping[str, Metric],
    folder: Path,
    false_positive_rate: float = 0.05,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write one run folder: maps.npz, slices.csv and, last, metrics.json, whose content is returned.

    A folder that has metrics.json is finished and is not computed again; an interrupted one goes on with the slices
    that are missing. Thresholds are calibrated on the data module's healthy validation slices and kept beside the
    checkpoint. about: further entries of the provenance.
    """
    provenance = {
        "data_hash": datamodule.hash("test"),
        "weights_hash": trained.weights_hash,
        "weights_step": trained.step,
        "seed": detector.seed,
        "size": datamodule.size,
        "perceptual": detector.perceptual.name,
        "sampler": describe(detector.sampler),
        "anomaly_map": describe(detector.anomaly_map)["name"],
        "precision": str(trainer.precision),
        **(about or {}),
    }
    finished = folder / "metrics.json"
    if finished.is_file():
        row = json.loads(finished.read_text())
        for key in ("data_hash", "weights_hash"):
            if row["provenance"][key] != provenance[key]:
                raise ValueError(
                    f"{folder} holds a finished row with {key} {row['provenance'][key]}, now it would be "
                    f"{provenance[key]}: give the experiment another name (name=...), or move that folder away"
                )
        log.info("%s: finished already, nothing to do", folder)
        return row

    thresholds = Thresholds(trained, datamodule, trainer, folder, false_positive_rate, provenance)
    mask_threshold = getattr(detector, "mask_threshold", None)
    if mask_threshold == "calibrated":
        mask_threshold = detector.mask_threshold = thresholds.of(detector.initial, "calibrate the mask")
    threshold = thresholds.of(detector, "calibrate the map")

    maps = MapFolder(folder / "parts")
    run(detector, trained, datamodule, trainer, maps, "test", detector.label)
    arrays = maps.merged()
    values = score(arrays, datamodule.size, threshold, metrics)
    row = {
        "label": detector.label,
        "detector": describe(detector),
        "metrics": {key: None if isinstance(value, str) else value for key, value in values.items()},
        "undefined": {key: value for key, value in values.items() if isinstance(value, str)},
        "thresholds": {"mask_threshold": mask_threshold, "healthy_fpr5": threshold},
        "provenance": provenance | environment(trainer),
    }
    if trainer.is_global_zero:
        write_npz(folder / "maps.npz", {k: v for k, v in arrays.items() if k not in ("calls", "seconds")})
        write_slices(folder / "slices.csv", arrays, datamodule, threshold)
        write_json(finished, row)
        shutil.rmtree(maps.folder)
    trainer.strategy.barrier()
    return row


def run(
    detector: Any,
    trained: TrainedDDPM,
    datamodule: SliceDataModule,
    trainer: Trainer,
    maps: MapFolder,
    split: str,
    title: str,
) -> None:
    """Run a detector over the slices of a split that `maps` does not have yet; under DDP each rank does its share."""
    done = maps.done()
    trainer.strategy.barrier()
    loader = datamodule.loader(split, skip=done)
    if len(loader):
        trainer.test(DetectionModule(detector, trained.ddpm, maps, title), loader, verbose=False)
    trainer.strategy.barrier()


class Thresholds:
    """Values that healthy validation slices exceed in at most a given share of pixels, kept beside the checkpoint."""

    def __init__(
        self,
        trained: TrainedDDPM,
        datamodule: SliceDataModule,
        trainer: Trainer,
        folder: Path,
        false_positive_rate: float,
        provenance: Mapping[str, Any],
    ) -> None:
        self.trained, self.datamodule, self.trainer, self.folder = trained, datamodule, trainer, folder
        self.path = trained.path.with_suffix(".thresholds.json")
        kept = ("weights_hash", "seed", "perceptual", "sampler", "precision", "size")
        self.conditions = {key: provenance[key] for key in kept} | {
            "data_hash": datamodule.hash("calibrate"),
            "false_positive_rate": false_positive_rate,
        }

    def of(self, detector: Any, title: str) -> float:
        """The threshold for this detector's anomaly map, read from the file or computed and added to it."""
        conditions = self.conditions | {
            "detector": describe(detector),
            "anomaly_map": describe(detector.anomaly_map)["name"],
        }
        for entry in self._entries():
            if entry["conditions"] == conditions:
                return float(entry["threshold"])
        digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:8]
        maps = MapFolder(self.folder / f"calibration-{digest}")
        run(detector, self.trained, self.datamodule, self.trainer, maps, "calibrate", title)
        threshold = healthy_threshold(maps.merged()["anomaly_map"], conditions["false_positive_rate"])
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            write_json(self.path, [*self._entries(), {"threshold": threshold, "conditions": conditions}])
            shutil.rmtree(maps.folder)
        self.trainer.strategy.barrier()
        return threshold

    def _entries(self) -> list[dict[str, Any]]:
        return json.loads(self.path.read_text()) if self.path.is_file() else []


def score(
    arrays: Mapping[str, np.ndarray], size: int, threshold: float, metrics: Mapping[str, Metric]
) -> dict[str, float | str]:
    """Every metric of the merged maps: its value, or a text that says why it is undefined."""
    lesion = torch.from_numpy(arrays["lesion"])
    collection = MetricCollection(dict(metrics), compute_groups=False)
    collection.update(
        image=torch.from_numpy(arrays["image"]),
        reconstruction=torch.from_numpy(arrays["reconstruction"]),
        anomaly_map=torch.from_numpy(arrays["anomaly_map"]),
        lesion=lesion,
        group=size_group(lesion.flatten(1).sum(1), size),
        threshold=threshold,
    )
    values = collection.compute()
    return values | {
        "calls_per_slice": float(arrays["calls"].mean()),
        "seconds_per_slice": float(arrays["seconds"].mean()),
    }


def write_slices(
    path: Path, arrays: Mapping[str, np.ndarray], datamodule: SliceDataModule, threshold: float
) -> None:
    """slices.csv: one line a slice with its lesion, group, and its own SSIM and MSE, or Dice."""
    subjects = dict(datamodule.index("test")[["id", "subject"]].itertuples(index=False))
    text = io.StringIO()
    names = ["id", "subject", "lesion_pixels", "size_group", "ssim", "mse", "dice@healthy_fpr5", "max_dice", "calls"]
    writer = csv.DictWriter(text, [*names, "seconds"])
    writer.writeheader()
    for i, slice_id in enumerate(arrays["id"].tolist()):
        image, lesion, scores = arrays["image"][i], arrays["lesion"][i], arrays["anomaly_map"][i]
        group = int(size_group(torch.tensor([int(lesion.sum())]), datamodule.size)[0])
        line: dict[str, Any] = {"id": slice_id, "subject": subjects[slice_id], "lesion_pixels": int(lesion.sum())}
        line |= {"size_group": GROUPS[group], "calls": int(arrays["calls"][i]), "seconds": float(arrays["seconds"][i])}
        if group == HEALTHY:
            reconstruction = arrays["reconstruction"][i]
            line |= {"ssim": ssim(image, reconstruction), "mse": mse(image, reconstruction)}
        else:
            line["dice@healthy_fpr5"] = dice(scores > threshold, lesion)
            line["max_dice"] = max_dice(threshold_counts(scores, lesion))[0]
        writer.writerow(line)
    temporary = path.with_suffix(".partial")
    temporary.write_text(text.getvalue())
    temporary.replace(path)


def describe(thing: Any) -> dict[str, Any]:
    """Name and plain settings of a detector, sampler or map function, for a result's record."""
    if inspect.isfunction(thing) or hasattr(thing, "func"):
        return {"name": getattr(thing, "func", thing).__name__}
    settings = {name: getattr(thing, name, None) for name in inspect.signature(type(thing)).parameters}
    plain = {name: value for name, value in settings.items() if isinstance(value, (bool, int, float, str))}
    return {"name": type(thing).__name__, **plain}


def environment(trainer: Trainer) -> dict[str, Any]:
    """Commit, versions, device and date of a result."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False)
    device = trainer.strategy.root_device
    return {
        "commit": commit.stdout.strip() or None,
        "versions": {name: _version(name) for name in ("autoddpm", "torch", "lightning", "monai", "numpy")},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
