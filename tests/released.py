"""Released weights and a scan for the documents' commands, both small."""

import sys
from pathlib import Path
from typing import Any

from conftest import ROOT

from autoddpm.models.trained import load_checkpoint
from autoddpm.prediction.method import DetectorSettings


def write_released(folder: Path) -> None:
    """Tiny networks with thresholds under the names of the released ones in `weights/`, and
    `sub-01_T1w.nii.gz`."""
    sys.path.append(str(ROOT / "tests" / "prediction"))
    from scan_files import write_scan, write_small_weights
    from test_method import entry, keep

    (folder / "weights").mkdir()
    weights = write_small_weights(folder / "weights" / "ixi-small.safetensors", "tiny")
    detector: Any = DetectorSettings().make(load_checkpoint(weights).model)
    first = entry(weights, detector.first, 0.1)
    detector.mask_threshold = 0.1
    keep(weights, first, entry(weights, detector, 0.01))
    weights = write_small_weights(folder / "weights" / "ixi-restoration.safetensors")
    restoration = DetectorSettings().make(load_checkpoint(weights).model)
    keep(weights, entry(weights, restoration, 0.1, false_positive_rate=0.002))
    write_scan(folder / "sub-01_T1w.nii.gz")
