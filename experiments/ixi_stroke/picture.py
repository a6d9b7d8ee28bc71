"""Draw README's picture: a head of IXI with an implanted stroke, and what AutoDDPM makes of it.

    python -m src.prepare +experiment=ixi_stroke              # data/ixi_stroke, from IXI's slices
    python experiments/ixi_stroke/picture.py IXI_DIR docs/head.png

`ixi-small` at the paper's noise levels. The slice is the first large stroke of the set that no
other scanner is imitated on: not the best one.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from autoddpm import Ancestral, AutoDDPM, detect_images, load_model
from autoddpm.data.store import build_store
from autoddpm.datasets.ixi import ixi
from autoddpm.datasets.ixi_stroke import ixi_stroke
from autoddpm.detectors.detector import Detector
from autoddpm.detectors.perceptual import TrainedLPIPS
from autoddpm.metrics.localization import dice, healthy_threshold

SIZE, FALSE_POSITIVES, AT_ONCE, CHOSEN = 128, 0.05, 10, "IXI559_large"


def maps_of(detector: Detector, images: NDArray, ids: Sequence[str]) -> NDArray:
    """(N, 1, 128, 128) anomaly maps, a few slices at once."""
    parts = [slice(at, at + AT_ONCE) for at in range(0, len(ids), AT_ONCE)]
    made = [detect_images(detector, torch.from_numpy(images[p]), ids[p]) for p in parts]
    return torch.cat([one.anomaly_map for one in made]).numpy()


def main(root: str, path: str, slices: str = "data/ixi_stroke") -> None:
    """Calibrate on IXI's healthy validation slices, map one slice, draw it, and say its Dice."""
    healthy = [record for record in ixi(root) if record.split == "val"]
    (one,) = (record for record in ixi_stroke(slices) if record.id.endswith(CHOSEN))
    store = build_store("ixi", healthy, SIZE, "data/prepared")
    images, ids = np.array(store.images), store.index["id"].tolist()
    detector = AutoDDPM(load_model("ixi-small"), Ancestral(5), TrainedLPIPS())
    for name, first in detector.to_calibrate().items():
        threshold = healthy_threshold(maps_of(first, images, ids), FALSE_POSITIVES)
        setattr(detector, name, threshold)
    threshold = healthy_threshold(maps_of(detector, images, ids), FALSE_POSITIVES)
    store = build_store("ixi_stroke", [one], SIZE, "data/prepared")
    image, lesion = np.array(store.images), np.array(store.lesions)[0, 0]
    made = detect_images(detector, torch.from_numpy(image), [one.id])
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
