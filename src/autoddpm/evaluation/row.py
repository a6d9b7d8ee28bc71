"""One row of a table: calibrate, detect, score, and write down what was done."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer

from autoddpm.atomic import read_json
from autoddpm.data.datamodule import SliceDataModule
from autoddpm.data.lesion_size import GROUPS, HEALTHY, size_group
from autoddpm.evaluation.detect import run
from autoddpm.evaluation.reconstructions import CALIBRATION, MAPS, Remapped, find_twin, made_by
from autoddpm.evaluation.thresholds import Thresholds, with_added
from autoddpm.metrics.counts import every_score, refuse_non_finite
from autoddpm.metrics.localization import HEALTHY_FPRS, dice, localization
from autoddpm.metrics.measure import measure
from autoddpm.metrics.reconstruction import Lpips, fidelity, mse, ssim
from autoddpm.metrics.scored import Scored
from autoddpm.models.trained import TrainedDDPM
from autoddpm.preparation.nifti import write_nifti
from autoddpm.runs.parts import MapFolder
from autoddpm.runs.provenance import describe, environment, forget_peak_memory, peak_memory_mb
from autoddpm.runs.row import write_row

log = logging.getLogger(__name__)
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def evaluate(
    detector: Any,
    trained: TrainedDDPM,
    datamodule: SliceDataModule,
    trainer: Trainer,
    lpips: Lpips | None,
    folder: Path,
    mask_false_positive_rate: float = 0.05,
    size_groups: str = "published",
    about: Mapping[str, Any] | None = None,
    config: str = "",
    nifti: bool = False,
) -> dict[str, Any]:
    """Write one run folder: config.yaml, maps.npz, slices.csv and, last, metrics.json, whose
    content is returned.

    A folder that has metrics.json is finished and is not computed again; an interrupted one goes on
    with the slices that are missing. Thresholds are calibrated on the data module's healthy
    validation slices and kept beside the
    checkpoint: the mask's for `mask_false_positive_rate`, the map's for each of `HEALTHY_FPRS`. A
    row whose reconstructions a finished row beside it has (only its map differs) reads them and
    says so.

    lpips: the distance of `healthy/lpips`, which is left out without it.
    size_groups: see `size_group`. about: further entries of the provenance. config: the composed
        configuration, YAML.
    nifti: also write the maps as volumes, nifti/*.nii.gz.
    """
    if str(trainer.precision) not in PRECISIONS:
        raise ValueError(
            f"trainer.precision={trainer.precision}: an evaluation takes {', '.join(PRECISIONS)}"
        )
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = (
        False  # fp32 means fp32
    )
    uses_perceptual = getattr(detector, "uses_perceptual", True)
    provenance = {
        "data_hash": datamodule.hash("test"),
        "weights_hash": trained.weights_hash,
        "weights_step": trained.step,
        "noise": describe(trained.ddpm.noise),
        "data_range": [trained.ddpm.low, trained.ddpm.high],
        "seed": detector.seed,
        "size": datamodule.size,
        "size_groups": size_groups,
        "perceptual": detector.perceptual.name if uses_perceptual else None,
        "sampler": describe(detector.sampler),
        "anomaly_map": describe(detector.anomaly_map),
        "perceptual_settings": describe(detector.perceptual) if uses_perceptual else None,
        "calibrate_hash": datamodule.hash("calibrate"),
        "mask_false_positive_rate": mask_false_positive_rate,
        "precision": str(trainer.precision),
        "variant": getattr(detector, "variant", "paper"),
        **(about or {}),
    }
    finished = folder / "metrics.json"
    if finished.is_file():
        row = read_json(finished)
        before, now = (
            row["provenance"] | with_added(row["detector"]),
            provenance | describe(detector),
        )
        before.setdefault(
            "data_range", provenance["data_range"]
        )  # not recorded in 0.1.0; the weights are compared
        if now.get("mask_threshold") == "calibrated":  # it was replaced by its value
            del now["mask_threshold"]
        for key in sorted(now):
            if before.get(key) != now[key]:
                raise ValueError(
                    f"{folder} holds a finished row with {key} {before.get(key)}, now it would be "
                    f"{now[key]}: give the "
                    "experiment another name (name=...), or move that folder away"
                )
        log.info("%s: finished already, nothing to do", folder)
        return row

    if nifti and (datamodule.index("test")["geometry"] == "").any():
        raise ValueError(
            "nifti=true: the test slices do not say which volumes they were cut from; see "
            "src.prepare"
        )
    device = trainer.strategy.root_device
    forget_peak_memory(device)
    thresholds = Thresholds(trained, datamodule, trainer, folder, provenance)
    mask_threshold = getattr(detector, "mask_threshold", None)
    if mask_threshold == "calibrated":
        (mask_threshold,) = thresholds.of(
            detector.initial, [mask_false_positive_rate], "calibrate the mask"
        )
        detector.mask_threshold = mask_threshold
    record = provenance | describe(detector)
    twin = find_twin(folder, record, detector)
    runner, kept = detector, None
    if twin is not None:
        log.info("the reconstructions are those of %s: only the maps are made anew", twin)
        runner, kept = Remapped(detector, twin / MAPS), twin / CALIBRATION
    calibrator = Remapped(detector, kept) if kept and kept.is_file() else detector
    found = thresholds.of(
        detector, list(HEALTHY_FPRS.values()), "calibrate the map", calibrator, folder / CALIBRATION
    )
    calibrated = dict(zip(HEALTHY_FPRS, found, strict=True))

    maps = MapFolder(folder, "parts", record)
    run(runner, trained, datamodule, trainer, maps, "test", detector.label)
    arrays = maps.merged()
    if isinstance(runner, Remapped):
        arrays["seconds"] = arrays["seconds"] + runner.seconds_of(arrays["id"])
    pixels = torch.from_numpy(arrays["lesion"]).flatten(1).sum(1)
    group = size_group(pixels, datamodule.size, size_groups)
    values = score(arrays, group, calibrated, lpips)
    row = {
        "label": detector.label,
        "detector": describe(detector),
        "metrics": {
            key: None if isinstance(value, str) else value for key, value in values.items()
        },
        "undefined": {key: value for key, value in values.items() if isinstance(value, str)},
        "thresholds": {
            "mask_threshold": None if mask_threshold == "percentile" else mask_threshold,
            **calibrated,
        },
        "provenance": provenance
        | environment(trainer)
        | {
            "peak_memory_mb": round(peak_memory_mb(trainer.strategy.root_device)),
            "reconstructions_of": made_by(twin),
        },
    }
    trainer.strategy.barrier()  # every process has read the parts
    if trainer.is_global_zero:
        if nifti:
            shown = {
                name: values
                for name, values in arrays.items()
                if name in ("id", "anomaly_map", "mask")
            }
            write_nifti(folder / "nifti", shown, datamodule.index("test"))
        slices = slice_lines(arrays, group, datamodule, calibrated["healthy_fpr5"])
        write_row(folder, row, config, arrays, slices)
        shutil.rmtree(maps.folder)
    trainer.strategy.barrier()
    return row


def score(
    arrays: Mapping[str, np.ndarray],
    group: np.ndarray,
    thresholds: Mapping[str, float],
    lpips: Lpips | None = None,
) -> dict[str, float | str]:
    """Every metric of the merged maps: its value, or a text that says why it is undefined."""
    refuse_non_finite(arrays["anomaly_map"], "an anomaly map")
    refuse_non_finite(arrays["reconstruction"], "a reconstruction")
    maps, dimensions = arrays["anomaly_map"], arrays["anomaly_map"].ndim - 1
    pair = arrays["image"], arrays["reconstruction"]
    kept = fidelity(*pair, group == HEALTHY, dimensions, lpips)
    scored = Scored(maps, arrays["lesion"], group, thresholds, kept)
    found = measure(scored, np.ones((1, len(maps))))
    values = {key: one if isinstance(one, str) else float(one[0]) for key, one in found.items()}
    return values | {
        "calls_per_slice": float(arrays["calls"].mean()),
        "seconds_per_slice": float(arrays["seconds"].mean()),
    }


def slice_lines(
    arrays: Mapping[str, np.ndarray],
    group: np.ndarray,
    datamodule: SliceDataModule,
    threshold: float,
) -> list[dict[str, Any]]:
    """The lines of slices.csv: each slice's lesion and group, and its own SSIM and MSE, or Dice."""
    index = datamodule.index("test")
    subjects = dict(zip(index["id"], index["subject"], strict=True))
    lines = []
    for i, slice_id in enumerate(arrays["id"].tolist()):
        image, lesion, scores = arrays["image"][i], arrays["lesion"][i], arrays["anomaly_map"][i]
        line: dict[str, Any] = {
            "id": slice_id,
            "subject": subjects[slice_id],
            "lesion_pixels": int(lesion.sum()),
            "size_group": GROUPS[group[i]],
            "calls": int(arrays["calls"][i]),
            "seconds": float(arrays["seconds"][i]),
        }
        if group[i] == HEALTHY:
            other = arrays["reconstruction"][i]
            line |= {"ssim": ssim(image, other, scores.ndim), "mse": mse(image, other)}
        else:
            line["dice@healthy_fpr5"] = dice(scores > threshold, lesion)
            line["max_dice"] = float(localization(every_score(scores, lesion)).max_dice[0])
        lines.append(line)
    return lines
