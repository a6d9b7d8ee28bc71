"""A real checkpoint on the CPU and on the GPU: the same maps in float32?

python experiments/gpu/sameness.py data/packed.npz [CHECKPOINT]
"""

import sys

import torch

from autoddpm.data.sample import Batch
from autoddpm.datasets.packed import packed
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import Detection, detect
from autoddpm.detectors.perceptual import RandomLPIPS
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.models.trained import load_checkpoint

SLICES, STRIDE, LIMIT = 4, 25, 1e-4


def main(path: str, checkpoint: str = "ixi-small") -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    store, device = packed(path, "ixi_stroke"), "cuda" if torch.cuda.is_available() else "cpu"
    rows = store.index.index[store.index["lesion_pixels"] > 0][:SLICES]
    image = torch.from_numpy(store.images[rows])
    lesion = torch.from_numpy(store.lesions[rows])
    ids, epoch = store.index["id"][rows].tolist(), torch.zeros(len(rows), dtype=torch.int64)
    found: dict[str, Detection] = {}
    for place in ("cpu", device):
        ddpm = load_checkpoint(checkpoint).model.to(place)
        detector = AutoDDPM(
            ddpm, Ancestral(STRIDE), RandomLPIPS(), residual, mask_threshold="percentile"
        )
        found[place] = detect(detector, Batch(image.to(place), lesion, ids, epoch))
    one, other = found["cpu"], found[device]
    flipped = one.stages["mask"] != other.stages["mask"].cpu()
    whole = ~flipped.flatten(1).any(1)
    initial = (one.stages["initial_map"] - other.stages["initial_map"].cpu()).abs().max()
    final = (one.anomaly_map - other.anomaly_map.cpu()).abs()[whole]
    worst = float(final.max()) if len(final) else float("nan")
    print(
        f"cpu against {device}: initial map {float(initial):.1e}, mask pixels that differ "
        f"{int(flipped.sum())}, "
    )
    print(
        f"    final map of the {int(whole.sum())} slices of equal masks {worst:.1e} (at most "
        f"{LIMIT:.0e})"
    )
    if not worst <= LIMIT or float(initial) > LIMIT:
        raise SystemExit("the maps differ by more than that")


if __name__ == "__main__":
    main(*sys.argv[1:])
