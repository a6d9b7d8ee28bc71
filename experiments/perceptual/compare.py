"""Which encoder level, and at which time, makes the best perceptual distance: on phantoms that no
table uses (seed 1).

usage: python experiments/perceptual/compare.py CHECKPOINT      a checkpoint of +experiment=demo
"""

import sys
from functools import partial
from pathlib import Path

import torch
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from torch.nn.functional import interpolate, normalize

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.datasets.phantom.phantoms import phantoms
from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import norm95, residual
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import NoPerceptual, RandomLPIPS
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.metrics.counts import every_score
from autoddpm.metrics.localization import localization
from autoddpm.models.trained import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@torch.no_grad()
def main(checkpoint: str) -> None:
    ddpm = load_checkpoint(checkpoint).model
    draw = partial(
        phantoms,
        ROOT / "data/phantoms",
        size=64,
        seed=1,
        train=2,
        val=12,
        test_healthy=10,
        test_lesion=45,
    )
    data = SliceDataModule(
        {"phantom": draw}, [], [], ["phantom"], size=64, prepared=ROOT / "data/prepared"
    )
    detector = AnoDDPM(ddpm, Ancestral(10), NoPerceptual(), residual, t=200)
    image, lesion, reconstruction = [], [], []
    for batch in data.test_dataloader():
        reconstruction.append(detect(detector, batch).reconstruction)
        image.append(batch.image)
        lesion.append(batch.lesion)
    x, x_hat, truth = torch.cat(image), torch.cat(reconstruction), torch.cat(lesion)
    has_lesion = truth.flatten(1).any(1)

    def show(name: str, distance: torch.Tensor) -> None:
        scores = norm95((x_hat - x).abs()) * distance  # Eq. (9)
        counts = every_score(scores[has_lesion].numpy(), truth[has_lesion].numpy())
        (auprc,), (max_dice,), _ = localization(counts)
        print(f"| {name} | {100 * auprc:.1f} | {100 * max_dice:.1f} |", flush=True)

    print("| distance in Eq. (9) | AUPRC | max Dice |\n|---|---|---|")
    show("none", torch.ones_like(x))
    for t in (1, 50, 200, 500):
        for level, (a, b) in enumerate(
            zip(features(ddpm, x_hat, t), features(ddpm, x, t), strict=True)
        ):
            difference = (normalize(a, dim=1) - normalize(b, dim=1)).square().sum(1, keepdim=True)
            show(
                f"denoiser, level {level}, t={t}",
                interpolate(difference, x.shape[-2:], mode="bilinear"),
            )
    show("LPIPS, random backbone", RandomLPIPS(0)(ddpm, x_hat, x))


def features(ddpm, image, t):
    """The last output of every encoder level."""
    unet = ddpm.denoiser
    times = torch.full((len(image),), t - 1)
    embedding = unet.time_embed(get_timestep_embedding(times, unet.block_out_channels[0]))
    h, levels = unet.conv_in(ddpm.encode(image)), []
    for block in unet.down_blocks:
        h, outputs = block(hidden_states=h, temb=embedding, context=None)
        levels.append(outputs[-1] if block.downsampler is None else outputs[-2])
    return levels


if __name__ == "__main__":
    main(sys.argv[1])
