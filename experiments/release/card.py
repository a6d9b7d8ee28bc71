"""What the model card shows of released weights: pictures beside the file, and tables as markdown
on the screen.

    python experiments/release/card.py weights/ixi-small.safetensors runs/ixi_release/train/default
    [RUN ...]

NAME_reconstructions.png: validation subjects (top) and their reconstructions from t = 100, 200,
300.
NAME_samples.png: slices made from noise alone.
Printed: the validation loss by noise level along the training, the last loss where detection
happens (t = 1..300) of this and of further trainings, and the file's sha256.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from rich.progress import track
from skimage.util import montage
from torch import Tensor

from autoddpm.atomic import written_whole
from autoddpm.data.sample import Batch
from autoddpm.diffusion.noise import NoiseOf
from autoddpm.diffusion.sampler import Ancestral, reconstruct
from autoddpm.machine.memory import keep_freed_memory
from autoddpm.models.trained import load_checkpoint
from autoddpm.models.weights_file import weights_files
from autoddpm.random import Stage

CONF = Path(__file__).resolve().parents[2] / "conf"
COLUMNS, TIMES, STRIDE = 8, (100, 200, 300), 5
BINS = {"t = 0001-0050": 50, "t = 0051-0100": 50, "t = 0101-0200": 100, "t = 0201-0300": 100}


def validation_slices() -> Batch:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        data = instantiate(compose("train", ["+experiment=ixi"]).data, _convert_="all")
    data.prepare_data()
    data.setup("fit")
    batches: list[Batch] = list(data.loader("calibrate"))
    images, lesions, epochs = (
        torch.cat([getattr(b, name) for b in batches]) for name in ("image", "lesion", "epoch")
    )
    return Batch(images, lesions, [slice_id for batch in batches for slice_id in batch.id], epochs)


def picture(rows: list[Tensor], path: Path) -> None:
    """Write slices as a grid. rows: each (B, 1, H, W) in [0, 1]."""
    pixels = montage(torch.cat(rows)[:, 0].numpy(), grid_shape=(len(rows), len(rows[0])))
    with written_whole(path) as temporary:
        Image.fromarray((pixels * 255).round().astype(np.uint8)).save(temporary)


def losses(run: Path) -> pd.DataFrame:
    """Validation losses, a line for each validation, a column for each range of t."""
    logged = pd.concat(
        [pd.read_csv(file) for file in sorted(run.glob("csv/*/metrics.csv"))]
    ).dropna(subset="val/loss")
    shown = (
        logged.drop_duplicates("step", keep="last")
        .sort_values("step")
        .filter(regex="^step$|^val/loss")
    )
    shown["step"] += 1
    return shown.rename(
        columns=lambda name: name.replace("val/loss_t", "t = ").replace("val/loss", "all")
    )


def detection_loss(run: Path) -> float:
    """The last validation loss where detection happens: mean over t = 1..300."""
    last = losses(run).iloc[-1]
    return float(sum(width * last[name] for name, width in BINS.items()) / sum(BINS.values()))


def main(weights: Path, run: Path, *others: Path) -> None:
    keep_freed_memory()
    trained, slices, table = load_checkpoint(weights), validation_slices(), losses(run)
    ddpm, image = trained.model, slices.image[:COLUMNS]
    noise = NoiseOf.batch(ddpm.noise, 0, slices.id[:COLUMNS], image, Stage.RECONSTRUCTION)
    starts = [(ddpm.encode(image), t) for t in TIMES] + [(torch.zeros_like(image), ddpm.schedule.T)]
    made = [
        ddpm.decode(reconstruct(ddpm, Ancestral(STRIDE), x, t, noise))
        for x, t in track(starts, "reconstructing")
    ]
    picture([image, *made[:-1]], weights.with_name(f"{weights.stem}_reconstructions.png"))
    picture([*made[-1].split(COLUMNS // 2)], weights.with_name(f"{weights.stem}_samples.png"))
    print("|", " | ".join(table.columns), "|\n|", " | ".join(["---:"] * len(table.columns)), "|")
    for values in table.itertuples(index=False):
        print(
            "|",
            " | ".join(
                f"{value:#.3g}" if name else f"{value:.0f}" for name, value in enumerate(values)
            ),
            "|",
        )
    print(f"\n{trained.step} steps")
    for one in (run, *others):
        print(f"loss for t = 1..300 of {one}: {detection_loss(one):.4f}")
    for file in weights_files(weights):
        print(f"sha256 of {file.name}: {hashlib.sha256(file.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
