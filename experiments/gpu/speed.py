"""What a GPU reaches, and what of it: the calls, detection over its calls, a training step over its
floor.

    python experiments/gpu/speed.py runs/gpu/speed.json

Prints a table, and writes it with `measured_speed.json`'s entry for this device
(src/autoddpm/modules), which
`callbacks.acceleration` chooses by once it is copied there. On a CPU: a few small sizes, to
rehearse.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from autoddpm.atomic import write_json
from autoddpm.detectors.anomaly_map import residual
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import NoPerceptual
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.machine.acceleration import LAYOUTS
from autoddpm.machine.throughput import forward_operations, ideal_operations
from autoddpm.models.trained import build_model

CONF = Path(__file__).resolve().parents[2] / "conf"
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
MODELS = ("paper", "compact") if CUDA else ("tiny",)
BATCHES = (1, 8, 64, 256, 512) if CUDA else (1, 4)
LARGE = 64 if CUDA else 4  # at which ways are compared
SIZE = 128 if CUDA else 32
PRECISIONS = ("fp32", "tf32", "bf16") if CUDA else ("fp32", "bf16")
COMPILED = (
    {"bf16": ("compiled", "graphs"), "fp32": ("compiled",)} if CUDA else {}
)  # of the first model, at LARGE
Line = dict[str, Any]


def network(model: str) -> DDPM:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = OmegaConf.to_container(compose("train", [f"model={model}"]).model, resolve=True)
    ddpm = build_model(cfg)  # type: ignore[arg-type]
    for (
        parameter
    ) in ddpm.parameters():  # the last layers begin at 0, on which some hardware is faster
        nn.init.normal_(parameter, std=0.02)
    return ddpm.to(DEVICE)


def seconds(work: Callable[[], object], least: float = 0.4) -> float:
    """Of one call, the best of three rounds of about `least` seconds, after one that does not
    count."""
    work()
    _finish()
    start = time.perf_counter()
    work()
    _finish()
    count = max(1, int(least / max(1e-6, time.perf_counter() - start)))
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(count):
            work()
        _finish()
        rounds.append((time.perf_counter() - start) / count)
    return min(rounds)


def _finish() -> None:
    if CUDA:
        torch.cuda.synchronize()


def at(precision: str) -> torch.autocast:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16")


def engine(net: nn.Module, name: str) -> nn.Module:
    if name == "eager":
        return net
    options = {"triton.cudagraphs": True} if name == "graphs" else None
    return torch.compile(net, options=options)  # type: ignore[return-value]


def calls(model: str) -> Iterator[Line]:
    """Forward passes; compilation, which takes half a minute, is tried at the large batch only."""
    operations = forward_operations(network(model).denoiser, SIZE)
    for precision in PRECISIONS:
        ways = [("contiguous", "eager"), ("channels_last", "eager")]
        ways += [
            ("channels_last", name) for name in COMPILED.get(precision, ()) if model == MODELS[0]
        ]
        for layout, name in ways:
            net = engine(network(model).eval().denoiser.to(memory_format=LAYOUTS[layout]), name)
            for batch in BATCHES if name == "eager" else (LARGE,):
                x, t = (
                    torch.randn(batch, 1, SIZE, SIZE, device=DEVICE),
                    torch.full((batch,), 100, device=DEVICE),
                )
                with torch.no_grad(), at(precision):
                    taken = seconds(lambda net=net, x=x, t=t: net(x, t))
                yield {
                    "what": "call",
                    "model": model,
                    "precision": precision,
                    "layout": layout,
                    "engine": name,
                    **rate(batch, taken, operations),
                }


def rate(batch: int, taken: float, operations: float) -> Line:
    return {"batch": batch, "slices/s": batch / taken, "TFLOP/s": operations * batch / taken / 1e12}


def steps(model: str) -> Iterator[Line]:
    """Training steps in bf16: forward, backward, clipping, AdamW."""
    operations = 3 * forward_operations(network(model).denoiser, SIZE)
    ways = [("contiguous", "eager"), ("channels_last", "eager")]
    ways += [("channels_last", "compiled")] if COMPILED and model == MODELS[0] else []
    for layout, name in ways:
        ddpm = network(model).train()
        ddpm.denoiser = engine(ddpm.denoiser.to(memory_format=LAYOUTS[layout]), name)
        optimizer = torch.optim.AdamW(ddpm.parameters(), lr=1e-4)
        x0, t = (
            torch.rand(LARGE, 1, SIZE, SIZE, device=DEVICE),
            torch.full((LARGE,), 100, device=DEVICE),
        )

        def step(ddpm: DDPM = ddpm, optimizer: torch.optim.Optimizer = optimizer) -> None:
            with at("bf16"):
                loss = ddpm.noise_error(x0, t, torch.randn_like(x0)).mean()  # noqa: B023
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(ddpm.parameters(), 1.0)
            optimizer.step()

        yield {
            "what": "step",
            "model": model,
            "precision": "bf16",
            "layout": layout,
            "engine": name,
            **rate(LARGE, seconds(step), operations),
        }


class Slices:
    def __init__(self, batch: int) -> None:
        self.image = torch.rand(batch, 1, SIZE, SIZE, device=DEVICE)
        self.id = [str(number) for number in range(batch)]


def detection(model: str, bare: float) -> Iterator[Line]:
    """A short exact detection over its calls alone.  bare: seconds of a call of the same batch and
    precision."""
    ddpm, batch = network(model).eval(), Slices(LARGE)
    detector = AutoDDPM(
        ddpm, Ancestral(), NoPerceptual(), residual, t=8, t_resample=4, mask_threshold=-1.0
    )
    with at("fp32"):
        taken = seconds(lambda: detect(detector, batch))
    yield {
        "what": "detection over calls",
        "model": model,
        "precision": "fp32",
        "batch": LARGE,
        "ratio": taken / (bare * detector.most_calls),
    }


def choice(lines: list[Line], what: str, precision: str) -> Line | None:
    """The fastest way at LARGE, as in `measured_speed.json`, if it is at least 5 % faster than
    plain."""
    wanted = {"what": what, "precision": precision, "model": MODELS[0], "batch": LARGE}
    kind = [line for line in lines if wanted.items() <= line.items()]
    plain = [line for line in kind if (line["layout"], line["engine"]) == ("contiguous", "eager")]
    if not plain:
        return None
    best = max(kind, key=lambda line: line["slices/s"])
    gain = best["slices/s"] / plain[0]["slices/s"]
    chosen = {
        "layout": best["layout"],
        "compile": best["engine"] != "eager",
        "cuda_graphs": best["engine"] == "graphs",
    }
    return {**chosen, "gain": round(gain, 3)} if gain >= 1.05 else None


def measurements(lines: list[Line]) -> Iterator[Line]:
    """In the order of what matters, and what takes long last; detection needs a line of before."""
    yield from calls(MODELS[0])
    yield from steps(MODELS[0])
    for model in MODELS[1:]:
        yield from calls(model)
        yield from steps(model)
    for model in MODELS:
        plain = {
            "what": "call",
            "model": model,
            "precision": "fp32",
            "layout": "contiguous",
            "engine": "eager",
        }
        bare = next(line for line in lines if (plain | {"batch": LARGE}).items() <= line.items())
        yield from detection(model, LARGE / bare["slices/s"])


def main(path: str) -> None:
    types = {"bf16": torch.bfloat16, "fp32": torch.float32}
    ideal = {name: ideal_operations(DEVICE, dtype) / 1e12 for name, dtype in types.items()}
    name = torch.cuda.get_device_name() if CUDA else "cpu"
    print(
        f"{name}: matrix products reach",
        "  ".join(f"{key} {value:.4g} TFLOP/s" for key, value in ideal.items()),
    )
    lines: list[Line] = []
    for line in measurements(
        lines
    ):  # written each time: what is measured when the time is up counts
        lines.append(line)
        print(
            "  ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in line.values()),
            flush=True,
        )
        entry = {
            "training": choice(lines, "step", "bf16"),
            "evaluation": choice(lines, "call", "fp32"),
        }
        speed = {name: {key: value for key, value in entry.items() if value}}
        write_json(
            Path(path),
            {"device": name, "ideal TFLOP/s": ideal, "lines": lines, "measured_speed": speed},
        )
    print(json.dumps(speed))


if __name__ == "__main__":
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    main(sys.argv[1])
