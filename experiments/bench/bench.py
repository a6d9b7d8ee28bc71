"""`make bench`: ratios of speed on this machine with the small network, the compared variants in turns, medians."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from data_speed import h100_needs, loader_slices_a_second, volumes_a_minute
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.perceptual import NoPerceptual
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.modules.checkpoint import build_ddpm

ROOT = Path(__file__).resolve().parents[2]
SIZE, BATCH, REPEATS, CALLS = 64, 16, 5, 10


class Slices:
    image = torch.rand(BATCH, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    id = tuple(f"bench/{i}" for i in range(BATCH))


def main() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        model = OmegaConf.to_container(compose("train", ["model=small"]).model, resolve=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    slices = Slices()
    slices.image = slices.image.to(device)
    plain, last = build_ddpm(model).to(device), build_ddpm(model).to(device, memory_format=torch.channels_last)
    t, eps = torch.full((BATCH,), 100, device=device), torch.randn_like(slices.image)

    def forward(ddpm, precision=torch.float32) -> None:
        with torch.no_grad(), torch.autocast(device, precision, enabled=precision != torch.float32):
            ddpm.predict_eps(slices.image, t)

    def train(precision=torch.float32) -> None:
        with torch.autocast(device, precision, enabled=precision != torch.float32):
            loss = plain.loss(slices.image, t, eps).mean()
        loss.backward()

    detector = AnoDDPM(last.eval(), Ancestral(10), NoPerceptual(), residual, t=10 * CALLS)
    variants: dict[str, Callable[[], object]] = {
        "forward fp32": lambda: forward(plain),
        "forward fp32 channels-last": lambda: forward(last),
        "forward bf16 channels-last": lambda: forward(last, torch.bfloat16),
        "train fp32": train,
        "train bf16": lambda: train(torch.bfloat16),
        f"AnoDDPM, {CALLS} calls": lambda: detector(slices),
    }
    seconds = {name: statistics.median(times) for name, times in alternate(variants, device).items()}
    ratios = {
        "forward: fp32 / fp32 channels-last": seconds["forward fp32"] / seconds["forward fp32 channels-last"],
        "forward: fp32 / bf16 channels-last": seconds["forward fp32"] / seconds["forward bf16 channels-last"],
        "training step: fp32 / bf16": seconds["train fp32"] / seconds["train bf16"],
        "AnoDDPM / its calls alone": seconds[f"AnoDDPM, {CALLS} calls"] / seconds["forward fp32 channels-last"] / CALLS,
    }
    steps, slices = volumes_a_minute(), loader_slices_a_second()
    ratios |= {
        "loader / what an H100 could ask for": slices / h100_needs(),
        "loader / training of the small network here": slices * seconds["train fp32"] / BATCH,
    }
    name = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    result = {"device": name, "torch": torch.__version__, "size": SIZE, "batch": BATCH, "repeats": REPEATS}
    folder = ROOT / "runs" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.partial").write_text(
        json.dumps(
            result
            | {"ratios": ratios, "seconds": seconds, "volumes a minute": steps, "loader slices a second": slices},
            indent=2,
        )
    )
    (folder / "bench.partial").replace(folder / "bench.json")

    table = Table("ratio", "value", title=f"{name}, {SIZE} px, batches of {BATCH}, median of {REPEATS}")
    for key, value in ratios.items():
        table.add_row(key, f"{value:.2f}")
    for key, value in steps.items():
        table.add_row(f"src.prepare, volumes a minute: {key}", f"{value:.0f}")
    Console().print(table)


def alternate(variants: dict[str, Callable[[], object]], device: str) -> dict[str, list[float]]:
    """Seconds of each variant, REPEATS times in turns after one call to warm up."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(REPEATS + 1):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
