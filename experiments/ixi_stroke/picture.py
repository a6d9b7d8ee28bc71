"""Draw README's picture: a head of IXI with an implanted stroke, and what AutoDDPM makes of it.

    python -m src.prepare +experiment=ixi_stroke              # data/ixi_stroke, from IXI's slices
    python experiments/ixi_stroke/picture.py docs/head.png

`ixi-small` at the paper's noise levels, with the thresholds in its file. The slice is the one of
median Dice, in the tables' row, of the large strokes that no other scanner is imitated on.
"""

import sys
from pathlib import Path

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


def main(path: str, slices: str = "data/ixi_stroke") -> None:
    """Map one slice, draw it, and say its Dice."""
    (one,) = (record for record in ixi_stroke(slices) if record.id.endswith(CHOSEN))
    method = method_of("ixi-small", DetectorSettings().make)
    threshold = method.threshold.value
    store = build_store("ixi_stroke", [one], SIZE, "data/prepared")
    image, lesion = np.array(store.images), np.array(store.lesions)[0, 0]
    made = detect_images(method.detector, torch.from_numpy(image), [one.id])
    found = made.anomaly_map[0, 0].numpy()
    print(f"{one.id}: Dice {100 * dice(found > threshold, lesion):.1f} at {threshold:.4f}")
    draw(image[0, 0], made.reconstruction[0, 0].numpy(), found, lesion, path)


def draw(
    image: NDArray, reconstruction: NDArray, found: NDArray, lesion: NDArray, path: str
) -> None:
    """Write three pictures in a row: the input with its lesion's outline, reconstruction, map."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), layout="constrained")
    titles = ("input, implanted stroke outlined", "AutoDDPM's reconstruction", "anomaly map")
    top = float(np.percentile(found[found > 0], 99))
    shown = ((image, "gray", 1.0), (reconstruction, "gray", 1.0), (found, "inferno", top))
    for axis, title, (values, colours, high) in zip(axes, titles, shown, strict=True):
        axis.imshow(values, cmap=colours, vmin=0, vmax=high)
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    axes[0].contour(lesion, [0.5], colors="#4aa3ff", linewidths=0.8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
