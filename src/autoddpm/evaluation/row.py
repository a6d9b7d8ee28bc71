"""One row of a table: calibrate, detect, score, and write down what was done."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning import Trainer

from autoddpm.atomic import folder_written_whole
from autoddpm.data.lesion_size import CUTS, GROUPS, HEALTHY, size_group
from autoddpm.detectors.detector import Detector
from autoddpm.evaluation.conditions import with_added
from autoddpm.evaluation.detect import Bench, Made, map_anomalies, reconstruct
from autoddpm.evaluation.reconstructions import locked
from autoddpm.evaluation.record import provenance_of
from autoddpm.evaluation.thresholds import Thresholds
from autoddpm.metrics.counts import every_score, refuse_non_finite
from autoddpm.metrics.localization import HEALTHY_FPRS, dice, localization
from autoddpm.metrics.measure import measure, metric_keys
from autoddpm.metrics.reconstruction import Lpips, fidelity, mse, ssim
from autoddpm.metrics.scored_slices import ScoredSlices
from autoddpm.preparation.nifti import check_volumes, write_nifti
from autoddpm.runs.folder import MAPS, UnreadableRunError, is_finished
from autoddpm.runs.maps import as_stored
from autoddpm.runs.parts import PartFolder
from autoddpm.runs.provenance import environment, forget_peak_memory, peak_memory_mb
from autoddpm.runs.row import read_record, write_row
from autoddpm.settings import describe

log = logging.getLogger(__name__)
COSTS = ("calls_per_slice", "seconds_per_slice")
IN_VOLUMES = ("id", "anomaly_map", "mask")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class RowSettings:
    """Settings of a row, beside its detector.

    mask_false_positive_rate: share of healthy validation pixels that a calibrated mask may flag.
    size_groups: see `size_group`.
    about: further entries of the provenance.
    config: the composed configuration, YAML.
    nifti: also write the maps as volumes, nifti/*.nii.gz.

    Raises ValueError if a setting cannot be meant.
    """

    mask_false_positive_rate: float = 0.05
    size_groups: str = "published"
    about: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    nifti: bool = False

    def __post_init__(self) -> None:
        if self.size_groups not in CUTS:
            raise ValueError(f"size_groups={self.size_groups}: must be {' or '.join(CUTS)}")
        if not 0 < self.mask_false_positive_rate < 1:
            raise ValueError(
                f"mask_false_positive_rate={self.mask_false_positive_rate}: must be above 0 and "
                "below 1, a share of the pixels"
            )

    def recorded(self) -> dict[str, Any]:
        """The settings that the provenance holds."""
        names = ("size_groups", "mask_false_positive_rate")
        return {name: getattr(self, name) for name in names} | dict(self.about)


def metrics_of_rows() -> list[str]:
    """The keys of the metrics that a row may have, without those of single sites."""
    return [*metric_keys([*HEALTHY_FPRS], ("ssim", "mse", "lpips")), *COSTS]


def evaluate(
    detector: Detector,
    bench: Bench,
    lpips: Lpips | None,
    folder: Path,
    settings: RowSettings | None = None,
) -> dict[str, Any]:
    """Write one run folder: config.yaml, maps.npz, slices.csv and, last, metrics.json.

    A folder that has metrics.json is finished and is not computed again. An interrupted one goes on
    with the slices that are missing. A second process waits until the first has made the row.

    Thresholds are calibrated on the data module's healthy validation slices and kept beside the
    checkpoint. They are the detector's own for `mask_false_positive_rate`, and the map's for each
    of `HEALTHY_FPRS`. Reconstructions that another row made are read, and the row says so.

    lpips: the distance of `healthy/lpips`. None: that metric is left out.

    Returns the content of metrics.json.

    Raises ValueError if the folder holds another row than is asked for.
    """
    settings, trainer = settings or RowSettings(), bench.trainer
    fixed_precision(trainer)
    own = settings.recorded() | {"postprocess": bench.postprocess}
    provenance = provenance_of(detector, bench.trained, bench.datamodule, trainer, own)
    if settings.nifti:
        check_volumes(bench.datamodule.index("test"))
    row = None
    if not is_finished(folder):
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        with locked(bench.reconstructions / f"row-{name}.lock", trainer, f"the row {folder}"):
            if not is_finished(folder):
                row = make_row(detector, bench, lpips, folder, settings, provenance)
    row = row or finished_row(folder, detector, provenance)
    write_volumes(folder, bench, settings.nifti)
    return row


def make_row(
    detector: Detector,
    bench: Bench,
    lpips: Lpips | None,
    folder: Path,
    settings: RowSettings,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Make and write a row that is not finished, as `evaluate`."""
    trainer = bench.trainer
    forget_peak_memory(trainer.strategy.root_device)
    thresholds = Thresholds(bench, folder, provenance)
    of_mask = set_calibrated(detector, thresholds, settings.mask_false_positive_rate)
    found = thresholds.of_map(detector)
    arrays, made, parts = detect(detector, bench, folder, provenance)
    pixels = arrays["lesion"].sum(axis=tuple(range(1, arrays["lesion"].ndim)))
    group = size_group(pixels, bench.datamodule.size, settings.size_groups)
    index = bench.datamodule.index("test").set_index("id")
    site = index["site"].loc[arrays["id"]].to_numpy(str)
    values = score(arrays, group, found, lpips, site)
    row = {
        "label": detector.label,
        "detector": describe(detector),
        **defined_and_not(values),
        "thresholds": {"mask_threshold": of_mask, **found},
        "provenance": {**provenance, **made_with(trainer, made)},
    }
    trainer.strategy.barrier()  # every process has read the parts
    if trainer.is_global_zero:
        slices = slice_lines(arrays, group, index, found["healthy_fpr5"])
        write_row(folder, row, settings.config, arrays, slices)
        shutil.rmtree(parts.folder)
    trainer.strategy.barrier()
    return row


def fixed_precision(trainer: Trainer) -> None:
    """Turn TF32 off, so that a precision of 32 bits has 32 bits.

    Raises ValueError if the trainer's precision is not one of `PRECISIONS`.
    """
    if str(trainer.precision) not in PRECISIONS:
        raise ValueError(
            f"trainer.precision={trainer.precision}: an evaluation takes {', '.join(PRECISIONS)}"
        )
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def made_with(trainer: Trainer, made: Made) -> dict[str, Any]:
    """The machine's part of the provenance, and the origin of reconstructions that are reused."""
    memory = round(peak_memory_mb(trainer.strategy.root_device))
    return environment(trainer.strategy.root_device) | {
        "peak_memory_mb": memory,
        "reconstructions_of": made.reused,
    }


def defined_and_not(values: Mapping[str, float | str]) -> dict[str, dict[str, Any]]:
    """Metrics, None if undefined, and the reasons why some are undefined."""
    return {
        "metrics": {key: None if isinstance(one, str) else one for key, one in values.items()},
        "undefined": {key: one for key, one in values.items() if isinstance(one, str)},
    }


def write_volumes(folder: Path, bench: Bench, wanted: bool) -> None:
    """Write a finished row's maps into volumes, if that is wanted and not done: `folder`/nifti."""
    if not wanted or (folder / "nifti").is_dir() or not bench.trainer.is_global_zero:
        return
    with np.load(folder / MAPS) as maps, folder_written_whole(folder / "nifti") as volumes:
        shown = {name: maps[name] for name in IN_VOLUMES if name in maps}
        write_nifti(volumes, shown, bench.datamodule.index("test"))


def finished_row(folder: Path, detector: Detector, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The row that a folder holds.

    Raises ValueError if it is another one than is asked for, or cannot be read.
    """
    try:
        row = read_record(folder)
    except UnreadableRunError as error:
        raise ValueError(f"{error}. Delete the folder and evaluate again") from error
    before = row["provenance"] | with_added(row["detector"])
    now = dict(provenance) | describe(detector)
    # 0.1.0 did not record these; the weights are compared, and nothing followed a map.
    of_weights = {key: provenance.get(key) for key in ("data_range", "model")}
    before = of_weights | {"postprocess": "none"} | before
    for name in detector.to_calibrate():  # it was replaced by its value
        del now[name]
    for key in sorted(now):
        if before.get(key) != now[key]:
            raise ValueError(
                f"{folder} holds a finished row with {key} {before.get(key)}, now it would be "
                f"{now[key]}: give the experiment another name (name=...), or move that folder away"
            )
    log.info("%s: finished already, nothing to do", folder)
    return row


def set_calibrated(
    detector: Detector, thresholds: Thresholds, false_positive_rate: float
) -> float | None:
    """Set the settings of a detector that healthy slices decide.

    Returns the threshold of its mask. None if it has no mask, or if each slice has a threshold of
    its own.
    """
    for name, part in detector.to_calibrate().items():
        (value,) = thresholds.of(part, [false_positive_rate], "calibrate the mask")
        setattr(detector, name, value)
    own = describe(detector).get("mask_threshold")
    return None if isinstance(own, str) else own


def detect(
    detector: Detector, bench: Bench, folder: Path, provenance: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Made, PartFolder]:
    """The arrays of maps.npz, the reconstructions behind them, and the folder of the maps' parts.

    The arrays are (N, *space) each, or (N, C, *space) with several channels.
    """
    record = dict(provenance) | describe(detector)
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]
    parts = PartFolder(folder / f"parts-{digest}")
    made = reconstruct(bench, detector, "test", detector.label)
    maps = map_anomalies(
        bench, detector, "test", made.stored, parts, detector.label, bench.postprocess
    )
    kept = dict(made.stored.arrays)
    images = {
        "image": maps["image"],
        "lesion": maps["lesion"],
        "anomaly_map": maps["anomaly_map"],
        "reconstruction": kept.pop("image"),
        **{name: kept[name] for name in kept if name not in ("id", "calls", "seconds")},
    }
    arrays = {name: as_stored(name, values) for name, values in images.items()}
    arrays |= {"id": kept["id"], "calls": kept["calls"]}
    return arrays | {"seconds": made.seconds + maps["seconds"]}, made, parts


def score(
    arrays: Mapping[str, np.ndarray],
    group: np.ndarray,
    thresholds: Mapping[str, float],
    lpips: Lpips | None = None,
    site: np.ndarray | None = None,
) -> dict[str, float | str]:
    """Every metric of the merged maps: its value, or a text that says why it is undefined.

    site: as in `ScoredSlices`.
    """
    refuse_non_finite(arrays["anomaly_map"], "an anomaly map")
    refuse_non_finite(arrays["reconstruction"], "a reconstruction")
    maps, dimensions = arrays["anomaly_map"], arrays["anomaly_map"].ndim - 1
    pair = arrays["image"], arrays["reconstruction"]
    kept = fidelity(*pair, group == HEALTHY, dimensions, lpips)
    site = np.empty(0, str) if site is None else site
    scored = ScoredSlices(maps, arrays["lesion"], group, thresholds, kept, site)
    found = measure(scored, np.ones((1, len(maps))))
    values = {key: one if isinstance(one, str) else float(one[0]) for key, one in found.items()}
    return values | {key: float(arrays[key.removesuffix("_per_slice")].mean()) for key in COSTS}


def slice_lines(
    arrays: Mapping[str, np.ndarray],
    group: np.ndarray,
    index: pd.DataFrame,
    threshold: float,
) -> list[dict[str, Any]]:
    """The lines of slices.csv: each slice's lesion and group, and its own SSIM and MSE, or Dice.

    index: subject and site by id.
    """
    lines = []
    for i, slice_id in enumerate(arrays["id"].tolist()):
        image, lesion, scores = arrays["image"][i], arrays["lesion"][i], arrays["anomaly_map"][i]
        line: dict[str, Any] = {
            "id": slice_id,
            "subject": index["subject"][slice_id],
            "site": index["site"][slice_id],
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
