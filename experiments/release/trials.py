"""How trainings of a folder compare, on IXI's validation subjects: losses, healthy reconstructions, phantom lesions.

    python experiments/release/trials.py runs/trials   # as trials.sh does: prints a table, writes trials.csv there

minutes: of training, by its log; pieces that were stopped are not in it. loss: last validation loss, mean over t =
1..300. SSIM: of reconstructions from t (stride 25), of the slices as they are and as from other scanners (gamma and a
smooth field at full strength, fixed for each subject). Dice: of the rows of +experiment=ixi_tuning in the same folder,
where there are any.
"""

import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from autoddpm.atomic import written_whole
from autoddpm.data.augmentation import augment_intensity
from autoddpm.data.slices import Batch
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.random import Draw, Stage, slice_keys, uniform
from autoddpm.diffusion.sampler import Ancestral, reconstruct
from autoddpm.metrics.reconstruction import ssim
from autoddpm.modules.acceleration import keep_freed_memory
from autoddpm.modules.checkpoint import load_checkpoint

CONF = Path(__file__).resolve().parents[2] / "conf"
BINS = {"0001-0050": 50, "0051-0100": 50, "0101-0200": 100, "0201-0300": 100}
TIMES, STRIDE = (100, 200, 300), 25
SHIFTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "": lambda image, u: image,
    " shifted": lambda image, u: augment_intensity(image, u, 1.0),
}


def detection_loss(run: Path) -> float:
    """The last validation loss where detection happens."""
    logged = pd.concat([pd.read_csv(file) for file in sorted(run.glob("csv/*/metrics.csv"))])
    last = logged.dropna(subset="val/loss").iloc[-1]
    return float(sum(width * last[f"val/loss_t{name}"] for name, width in BINS.items()) / sum(BINS.values()))


def minutes(run: Path) -> float:
    """What the training took, by its log: from each start to the checkpoint it ended with."""
    total, start = timedelta(), None
    for line in (run / "train.log").read_text().splitlines():
        if "training slices" in line:
            start = datetime.fromisoformat(line[1:20])
        elif "- checkpoint=" in line and start:
            total, start = total + datetime.fromisoformat(line[1:20]) - start, None
    return total / timedelta(minutes=1)


def validation_slices() -> Batch:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        data = instantiate(compose("train", ["+experiment=ixi"]).data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    batches: list[Batch] = list(data.loader("calibrate"))
    images, lesions, epochs = (torch.cat([getattr(b, name) for b in batches]) for name in ("image", "lesion", "epoch"))
    return Batch(images, lesions, [slice_id for batch in batches for slice_id in batch.id], epochs)


@torch.no_grad()
def reconstruction_ssim(ddpm: DDPM, slices: Batch, t: int, shift: Callable[[Tensor, Tensor], Tensor]) -> float:
    image = shift(slices.image, uniform(slice_keys(0, slices.id), 6, Stage.VALIDATION, Draw.INTENSITY).float())
    noise = NoiseOf.batch(ddpm.noise, 0, slices.id, image, Stage.RECONSTRUCTION)
    with torch.autocast("cpu", torch.bfloat16):
        made = ddpm.decode(reconstruct(ddpm, Ancestral(STRIDE), ddpm.encode(image), t, noise))
    values = [ssim(one.numpy(), other.numpy()) for one, other in zip(image[:, 0], made[:, 0], strict=True)]
    return sum(values) / len(values)


def dice(rows: list[dict], weights: str, detector: str) -> float | None:
    found = [row for row in rows if row["provenance"]["weights_hash"] == weights and row["label"].startswith(detector)]
    return max((row["metrics"]["lesion/max_dice"] for row in found), default=None)


def main(folder: Path) -> None:
    keep_freed_memory()
    slices, lines = validation_slices(), []
    rows = [json.loads(path.read_text()) for path in folder.glob("evaluate/*/metrics.json")]
    for run in track(sorted(path.parents[1] for path in folder.glob("train/*/checkpoints/last.ckpt")), "trials"):
        trained = load_checkpoint(run / "checkpoints" / "last.ckpt")
        parameters = sum(p.numel() for p in trained.ddpm.parameters()) / 1e6
        line = {"training": run.name, "M parameters": parameters, "steps": trained.step}
        line |= {"minutes": minutes(run), "loss": detection_loss(run)}
        for (name, shift), t in ((pair, t) for pair in SHIFTS.items() for t in TIMES):
            line[f"SSIM t={t}{name}"] = 100 * reconstruction_ssim(trained.ddpm, slices, t, shift)
        for detector in ("AutoDDPM", "AnoDDPM"):
            value = dice(rows, trained.weights_hash, detector)
            line[f"Dice {detector}"] = None if value is None else 100 * value
        lines.append(line)
    table = pd.DataFrame(lines)
    with written_whole(folder / "trials.csv") as path:
        table.to_csv(path, index=False, float_format="%.4g")
    shown = Table(*table.columns)
    for values in table.itertuples(index=False):
        shown.add_row(*("–" if v is None or v != v else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values))
    Console(width=200).print(shown)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
