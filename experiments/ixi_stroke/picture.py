"""Draw README's picture: a head of IXI with an implanted stroke, and what the released weights make
of it.

    python -m src.prepare +experiment=ixi_stroke              # data/ixi_stroke, from IXI's slices
    python experiments/ixi_stroke/picture.py docs/head.png

`ixi-restoration`, and AutoDDPM with `ixi-small` at the paper's noise levels; each at the threshold
in its file.
The slice is the one of AutoDDPM's median Dice, in the tables' row, of the large strokes that no
other scanner is imitated on.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from autoddpm import detect_images
from autoddpm.data.store import build_store
from autoddpm.datasets.ixi_stroke import ixi_stroke
from autoddpm.metrics.localization import dice
from autoddpm.prediction.method import DetectorSettings, method_of

SIZE, CHOSEN = 128, "IXI607_large"
METHODS = {"Restoration": "ixi-restoration", "AutoDDPM": "ixi-small"}


def main(path: str, slices: str = "data/ixi_stroke") -> None:
    """Map one slice by each method, draw it, and say each Dice."""
    (one,) = (record for record in ixi_stroke(slices) if record.id.endswith(CHOSEN))
    store = build_store("ixi_stroke", [one], SIZE, "data/prepared")
    image, lesion = np.array(store.images), np.array(store.lesions)[0, 0]
    found = {}
    for name, weights in METHODS.items():
        method = method_of(weights, DetectorSettings().make)
        made = detect_images(method.detector, torch.from_numpy(image), [one.id])
        threshold, map_ = method.threshold.value, made.anomaly_map[0, 0].numpy()
        score = 100 * dice(map_ > threshold, lesion)
        print(f"{name}, {one.id}: Dice {score:.1f} at {threshold:.4f}")
        found[name] = (made.reconstruction[0, 0].numpy(), map_)
    draw(image[0, 0], lesion, found, path)


def draw(
    image: NDArray, lesion: NDArray, found: dict[str, tuple[NDArray, NDArray]], path: str
) -> None:
    """Write pictures in a row: the input with its lesion's outline, each reconstruction and map."""
    count = 1 + 2 * len(found)
    figure, axes = plt.subplots(1, count, figsize=(2.2 * count, 2.6), layout="constrained")
    shown: list[tuple[str, NDArray, str, Any]] = [("input, stroke outlined", image, "gray", 1.0)]
    for name, (reconstruction, map_) in found.items():
        top = float(np.percentile(map_[map_ > 0], 99))
        shown.append((f"{name}: healthy", reconstruction, "gray", 1.0))
        shown.append((f"{name}: map", map_, "inferno", top))
    for axis, (title, values, colours, high) in zip(axes, shown, strict=True):
        axis.imshow(values, cmap=colours, vmin=0, vmax=high)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    axes[0].contour(lesion, [0.5], colors="#4aa3ff", linewidths=0.8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
