"""A real checkpoint on the CPU and on the GPU: the same maps in float32?  And what starting takes.

python experiments/gpu/sameness.py data/packed.npz [CHECKPOINT]
"""

import sys
import time

STARTED = time.perf_counter()

import torch  # noqa: E402

from autoddpm.data.sample import Batch  # noqa: E402
from autoddpm.datasets.packed import packed  # noqa: E402
from autoddpm.detectors.anomaly_map import residual  # noqa: E402
from autoddpm.detectors.autoddpm import AutoDDPM  # noqa: E402
from autoddpm.detectors.detector import Detection, detect  # noqa: E402
from autoddpm.detectors.perceptual import RandomLPIPS  # noqa: E402
from autoddpm.diffusion.sampler import Ancestral  # noqa: E402
from autoddpm.models.trained import load_checkpoint  # noqa: E402

SLICES, STRIDE, LIMIT = 4, 25, 1e-4


class Clock:
    """Says in words what took how long."""

    def __init__(self, start: float) -> None:
        self.since, self.said = start, list[str]()

    def lap(self, what: str) -> None:
        now = time.perf_counter()
        self.said.append(f"{what} {now - self.since:.1f} s")
        self.since = now


def batch(path: str) -> Batch:
    store = packed(path, "ixi_stroke")
    rows = store.index.index[store.index["lesion_pixels"] > 0][:SLICES]
    image = torch.from_numpy(store.images[rows])
    lesion = torch.from_numpy(store.lesions[rows])
    return Batch(
        image, lesion, store.index["id"][rows].tolist(), torch.zeros(len(rows), dtype=torch.int64)
    )


def detected(slices: Batch, checkpoint: str, place: str) -> Detection:
    ddpm = load_checkpoint(checkpoint).model.to(place)
    detector = AutoDDPM(
        ddpm, Ancestral(STRIDE), RandomLPIPS(), residual, mask_threshold="percentile"
    )
    there = Batch(slices.image.to(place), slices.lesion, slices.id, slices.epoch)
    return detect(detector, there)


def compare(one: Detection, other: Detection, where: str) -> None:
    """Print how far two detections lie apart; end the program if that is too far."""
    flipped = one.stages["mask"].cpu() != other.stages["mask"].cpu()
    whole = ~flipped.flatten(1).any(1)
    initial = apart(one.stages["initial_map"], other.stages["initial_map"])
    final = apart(one.anomaly_map[whole], other.anomaly_map[whole]) if whole.any() else float("nan")
    same, differ = int(whole.sum()), int(flipped.sum())
    print(f"cpu against {where}: initial map {initial:.1e}, mask pixels that differ {differ},")
    print(f"    final map of the {same} slices of equal masks {final:.1e} (at most {LIMIT:.0e})")
    if not (final <= LIMIT and initial <= LIMIT):
        raise SystemExit("the maps differ by more than that")


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.cpu() - other.cpu()).abs().max())


def main(path: str, checkpoint: str = "ixi-small") -> None:
    clock = Clock(STARTED)
    clock.lap("imports")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    slices = batch(path)
    clock.lap("slices")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.zeros(1, device=device)
    clock.lap(f"device {device}")
    load_checkpoint(checkpoint)
    clock.lap("network")
    found = []
    for place in ("cpu", device):
        found.append(detected(slices, checkpoint, place))
        clock.lap(f"detection on {place}")
    print(", ".join(clock.said))
    compare(*found, device)


if __name__ == "__main__":
    main(*sys.argv[1:])
