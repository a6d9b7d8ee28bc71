"""What re-sampling is good for: the pseudo-healthy tissue inside lesions whose healthy truth is
known.

    python experiments/restoration/inside.py ixi-small ixi-restoration
    [IXI_DIR]

IXI's validation subjects with phantom lesions: the slice before the lesion was drawn is the truth.
Each method's reconstruction is compared with it inside the lesion: SSIM (window of 1.5 pixels),
LPIPS (VGG16) and the mean absolute difference. Prints a table, and writes
runs/restoration_inside/inside.csv, with 95 % intervals over subjects.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from torch import Tensor

from autoddpm import Ancestral, AutoDDPM, detect_images, load_model
from autoddpm.atomic import written_whole
from autoddpm.data.sample import Record
from autoddpm.data.store import build_store
from autoddpm.datasets.implanted import ixi_tuning
from autoddpm.detectors.anomaly_map import brighter_residual, unlikeness
from autoddpm.detectors.detector import Detector
from autoddpm.detectors.perceptual import NoPerceptual, TrainedLPIPS
from autoddpm.detectors.restoration import RestorationDetector
from autoddpm.machine.memory import keep_freed_memory
from autoddpm.metrics.statistics import interval, subject_weights, weighted_mean

SIZE, AT_ONCE, RESAMPLES = 128, 10, 2000
#: Where the restored slice is brighter by this much, AutoDDPM's mask is.
MASK = 0.1


def detectors(ddpm_name: str, restoration_name: str) -> Mapping[str, Detector]:
    """The methods, in the order of the table."""
    ddpm = load_model(ddpm_name)
    restoration = RestorationDetector.of_weights(
        restoration_name, NoPerceptual(), brighter_residual
    )

    def masked(passes: int) -> AutoDDPM:
        return AutoDDPM(
            ddpm,
            Ancestral(5),
            NoPerceptual(),
            initial=restoration,
            resample_steps=passes,
            mask_threshold=MASK,
        )

    return {
        "restoration": restoration,
        "restoration, stitched": masked(0),
        "restoration, stitched, re-sampled": masked(5),
        "AutoDDPM, stitched": AutoDDPM(
            ddpm, Ancestral(5), TrainedLPIPS(), resample_steps=0, mask_threshold="percentile"
        ),
        "AutoDDPM": AutoDDPM(ddpm, Ancestral(5), TrainedLPIPS(), mask_threshold="percentile"),
    }


def pairs(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Slices with a lesion, and the healthy slice of each one's subject."""
    healthy = {one.subject: one for one in records if one.split == "test" and one.lesion is None}
    ill = [one for one in records if one.split == "test" and one.lesion is not None]
    return ill, [healthy[one.subject] for one in ill]


def inside(made: Tensor, truth: Tensor, lesion: Tensor) -> dict[str, np.ndarray]:
    """Of each slice, the mean inside its lesion; (B, 1, H, W) each."""
    distance = TrainedLPIPS()
    maps = {
        "SSIM": 1 - unlikeness(truth, made, [1.5]),
        "LPIPS": torch.cat(
            [
                distance(None, one, other)  # type: ignore[arg-type]  # it has its own network
                for one, other in zip(made.split(AT_ONCE), truth.split(AT_ONCE), strict=True)
            ]
        ),
        "difference": (made - truth).abs(),
    }
    weights = lesion.float()
    pixels = weights.sum((1, 2, 3))
    return {
        name: ((values * weights).sum((1, 2, 3)) / pixels).numpy() for name, values in maps.items()
    }


class Slices(NamedTuple):
    """Slices with a lesion, (N, 1, 128, 128) each, and what they were before it was drawn."""

    image: Tensor
    truth: Tensor
    lesion: Tensor
    ids: list[str]
    subjects: list[str]


def read(root: str) -> Slices:
    ill, truths = pairs(ixi_tuning(root, "data/phantoms"))
    store = build_store("ixi_tuning", ill, SIZE, "data/prepared")
    ids, subjects = (store.index[name].tolist() for name in ("id", "subject"))
    healthy = {one.subject: one for one in truths}
    before = build_store("ixi_tuning", [*healthy.values()], SIZE, "data/prepared")
    row = {subject: number for number, subject in enumerate(before.index["subject"])}
    image, lesion, truth = (
        torch.from_numpy(np.array(one)) for one in (store.images, store.lesions, before.images)
    )
    return Slices(image, truth[[row[one] for one in subjects]], lesion, ids, subjects)


def table(found: Mapping[str, Mapping[str, np.ndarray]], subjects: list[str]) -> pd.DataFrame:
    """A line per method and metric: its mean and its interval."""
    weights = subject_weights(subjects, np.ones(len(subjects), bool), RESAMPLES)
    lines = []
    for name, values in found.items():
        for metric, of_slices in values.items():
            low, high = interval(weighted_mean(of_slices, weights))
            lines.append((name, metric, of_slices.mean(), low, high))
    return pd.DataFrame(lines, columns=["method", "metric", "value", "low", "high"])


def main(ddpm_name: str, restoration_name: str, root: str = "data/ixi") -> None:
    keep_freed_memory()
    slices = read(root)
    found = {"the slice with its lesion": inside(slices.image, slices.truth, slices.lesion)}
    parts = [slice(at, at + AT_ONCE) for at in range(0, len(slices.ids), AT_ONCE)]
    for name, detector in detectors(ddpm_name, restoration_name).items():
        with torch.autocast("cpu", torch.bfloat16):  # as the tables of methods that call often
            made = [
                detect_images(detector, slices.image[part], slices.ids[part]).reconstruction
                for part in track(parts, name)
            ]
        found[name] = inside(torch.cat(made).float(), slices.truth, slices.lesion)
    shown, path = table(found, slices.subjects), Path("runs/restoration_inside/inside.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        shown.to_csv(temporary, index=False)
    print(shown.round(4).to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
