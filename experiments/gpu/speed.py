"""What a GPU reaches, and what of it: network calls, a training step, detection over its calls.

    python experiments/gpu/speed.py UNTIL runs/gpu/speed.json [FILE ...]

Prints a line for each, and a short table at UNTIL at the latest, in seconds since 1970. Each of the
files has each line as soon as it is measured, and `measured_speed`: what paid on this device, for
src/autoddpm/machine/measured_speed.json, by which `callbacks.acceleration` then chooses. On a CPU:
a few small sizes, to rehearse.
"""

import copy
import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
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
from autoddpm.machine.acceleration import LAYOUTS, fuse_attention
from autoddpm.machine.throughput import forward_operations, ideal_operations
from autoddpm.models.trained import build_model

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "experiments" / "bench"))
from baseline import PlainAutoDDPM  # noqa: E402

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
MODELS = ("paper", "compact") if CUDA else ("tiny",)
PRECISIONS = ("fp32", "tf32", "bf16") if CUDA else ("fp32", "bf16")
BATCHES = {"fp32": (1, 8), "tf32": (1, 512), "bf16": (1, 8, 256, 512)} if CUDA else {"bf16": (1,)}
LARGE = 64 if CUDA else 4  # at which ways are compared
SIZE = 128 if CUDA else 32
LEAST = 0.12 if CUDA else 0.02  # seconds of a round
COMPILE_S = 75  # a compilation that takes longer would not pay in the time that there is
PAYS = 1.05
END = float("inf")  # in seconds since 1970: what would be measured after it is left out
Line = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """How a network is run.

    engine: eager, tuned (cuDNN tries its algorithms first), compiled, or graphs (compiled, as one
        CUDA graph).
    """

    layout: str = "contiguous"
    fused_attention: bool = False
    engine: str = "eager"


PLAIN = Way()
EAGER = (PLAIN, Way("channels_last"), Way("contiguous", True), Way("channels_last", True))
TUNED = Way("channels_last", True, "tuned")
COMPILED = Way("channels_last", True, "compiled")
GRAPHS = Way("channels_last", True, "graphs")


@cache
def network(model: str) -> DDPM:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = OmegaConf.to_container(compose("train", [f"model={model}"]).model, resolve=True)
    ddpm = build_model(cfg)  # type: ignore[arg-type]
    # The last layers begin at 0, on which some hardware is faster.
    for parameter in ddpm.parameters():
        nn.init.normal_(parameter, std=0.02)
    return ddpm


def run_as(way: Way, model: str) -> DDPM:
    ddpm = copy.deepcopy(network(model)).to(DEVICE)
    ddpm.denoiser.to(memory_format=LAYOUTS[way.layout])
    if way.fused_attention:
        fuse_attention(ddpm.denoiser)
    if way.engine in ("compiled", "graphs"):
        options = {"triton.cudagraphs": True} if way.engine == "graphs" else None
        ddpm.denoiser = torch.compile(ddpm.denoiser, options=options)
    return ddpm


def parameters(model: str) -> int:
    return sum(values.numel() for values in network(model).parameters())


@cache
def operations(model: str) -> float:
    return forward_operations(run_as(PLAIN, model), SIZE)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Of the first call, and of one call in the best of three rounds after it."""
    first = timed(work)
    count = max(1, int(LEAST / max(1e-6, timed(work))))
    return first, min(timed(work, count) for _ in range(3)) / count


def timed(work: Callable[[], object], count: int = 1) -> float:
    finish()
    start = time.perf_counter()
    for _ in range(count):
        work()
    finish()
    return time.perf_counter() - start


def finish() -> None:
    if CUDA:
        torch.cuda.synchronize()


def at(precision: str) -> torch.autocast:
    """Around one forward pass of a training, or one detection: weights are cast once inside."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def at_most(limit_s: float) -> Iterator[None]:
    """Raise TimeoutError in what is done inside if it takes longer."""

    def end(*_: object) -> None:
        raise TimeoutError(f"took more than {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tried(
    what: str, model: str, precision: str, way: Way, batch: int, measure: Callable[[], Line]
) -> Line:
    """A line with what is measured, or with what went wrong: the others are measured anyway."""
    line = {"what": what, "model": model, "precision": precision, **asdict(way), "batch": batch}
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    torch.backends.cudnn.benchmark = way.engine == "tuned"
    try:
        with at_most(max(0.1, min(COMPILE_S, END - time.time()))):
            line |= measure()
        if CUDA:
            line["GiB"] = torch.cuda.max_memory_allocated() / 2**30
    except Exception as error:  # out of memory, out of time, a compiler that is not there
        said = str(error).splitlines() or [""]
        line["problem"] = f"{type(error).__name__}: {said[0][:150]}"
    gc.collect()
    if way.engine != "eager":
        torch._dynamo.reset()
    if CUDA:
        torch.cuda.empty_cache()
    return line


def rate(batch: int, taken: tuple[float, float], work: float) -> Line:
    first, each = taken
    return {"slices/s": batch / each, "TFLOP/s": work * batch / each / 1e12, "first_s": first}


def call(model: str, precision: str, way: Way, batch: int) -> Line:
    def measure() -> Line:
        net = run_as(way, model).eval().denoiser
        x = torch.randn(batch, 1, SIZE, SIZE, device=DEVICE)
        t = torch.full((batch,), 100, device=DEVICE)
        with at(precision), torch.no_grad():
            return rate(batch, seconds(lambda: net(x, t)), operations(model))

    return tried("call", model, precision, way, batch, measure)


def step(model: str, way: Way) -> Line:
    """A training step in bf16: forward, backward, clipping, AdamW."""

    def measure() -> Line:
        ddpm = run_as(way, model).train()
        optimizer = torch.optim.AdamW(ddpm.parameters(), lr=1e-4)
        x0 = torch.rand(LARGE, 1, SIZE, SIZE, device=DEVICE)
        t = torch.full((LARGE,), 100, device=DEVICE)

        def one() -> None:
            with at("bf16"):
                loss = ddpm.noise_error(x0, t, torch.randn_like(x0)).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(ddpm.parameters(), 1.0)
            optimizer.step()

        return rate(LARGE, seconds(one), 3 * operations(model))

    return tried("step", model, "bf16", way, LARGE, measure)


class Slices:
    def __init__(self, batch: int) -> None:
        self.image = torch.rand(batch, 1, SIZE, SIZE, device=DEVICE)
        self.id = [str(number) for number in range(batch)]


def detection(model: str, stride: int, lines: list[Line]) -> Line:
    """A short detection in bf16 over its calls alone, which `lines` have."""
    wanted = {
        "what": "call",
        "model": model,
        "precision": "bf16",
        **asdict(EAGER[-1]),
        "batch": LARGE,
    }
    bare = next(
        (
            line["slices/s"]
            for line in lines
            if wanted.items() <= line.items() and "slices/s" in line
        ),
        None,
    )

    def measure() -> Line:
        if bare is None:
            raise RuntimeError("its calls were not measured")
        ddpm, batch = run_as(EAGER[-1], model).eval(), Slices(LARGE)
        short = {"t": 8, "t_resample": 4, "mask_threshold": -1.0}  # every slice has a mask
        detector = AutoDDPM(ddpm, Ancestral(stride), NoPerceptual(), residual, **short)
        with at("bf16"):
            _, taken = seconds(lambda: detect(detector, batch))
        a_call = taken / (LARGE * detector.most_calls)
        return {"over its calls": a_call * bare, "slice_call_s": a_call}

    return tried(f"detection, stride {stride}", model, "bf16", EAGER[-1], LARGE, measure)


def plain(model: str) -> Line:
    """The plain baseline: fp32, slice by slice."""

    def measure() -> Line:
        network = run_as(PLAIN, model).eval().denoiser
        detector = PlainAutoDDPM(network, None, 8, 4, threshold=-1.0)
        image = Slices(1).image
        with at("fp32"):
            return {"slice_call_s": seconds(lambda: detector(image))[1] / detector.calls}

    return tried("plain detection", model, "fp32", PLAIN, 1, measure)


def measurements(lines: list[Line]) -> Iterator[Line]:
    """In the order of what matters; compilations, which take long, last."""
    for model in MODELS:
        for precision in reversed(PRECISIONS):
            yield from (call(model, precision, way, LARGE) for way in EAGER)
        yield from (step(model, way) for way in EAGER)
        for stride in (1, 5):
            yield detection(model, stride, lines)
        yield plain(model)
        for precision, batches in BATCHES.items():
            yield from (call(model, precision, EAGER[-1], batch) for batch in batches)
        if "bf16" in BATCHES:
            yield call(model, "bf16", PLAIN, BATCHES["bf16"][-1])
    if CUDA:
        yield step(MODELS[0], TUNED)
        yield step(MODELS[0], COMPILED)
        yield call(MODELS[0], "bf16", COMPILED, LARGE)
        yield call(MODELS[0], "bf16", GRAPHS, LARGE)
        yield call(MODELS[0], "fp32", COMPILED, LARGE)


def compared(lines: list[Line], what: str, precision: str, model: str = MODELS[0]) -> list[Line]:
    """The ways that were measured at LARGE, the fastest first."""
    wanted = {"what": what, "precision": precision, "model": model, "batch": LARGE}
    found = [line for line in lines if wanted.items() <= line.items() and "slices/s" in line]
    return sorted(found, key=lambda line: -line["slices/s"])


def choice(lines: list[Line], what: str, precision: str) -> Line | None:
    """What an entry of `measured_speed.json` says; None unless 5 % faster than plain.

    Only a training is long enough for a compilation to pay whatever it is of.
    """
    engines = ("eager", "compiled", "graphs") if what == "step" else ("eager",)
    ways = [line for line in compared(lines, what, precision) if line["engine"] in engines]
    if not (reference := only_plain(ways)):
        return None
    best, gain = ways[0], ways[0]["slices/s"] / reference[0]["slices/s"]
    chosen = {
        "layout": best["layout"],
        "fused_attention": best["fused_attention"],
        "compile": best["engine"] != "eager",
        "cuda_graphs": best["engine"] == "graphs",
    }
    of = {"precision": precision, "parameters": parameters(MODELS[0])}
    return {**chosen, "gain": round(gain, 3), **of} if gain >= PAYS else None


def summary(lines: list[Line], ideal: dict[str, float]) -> Iterator[str]:
    """A short table: the plain way and the best of each kind, and detection."""
    for model in MODELS:
        for what, precision in (*(("call", one) for one in PRECISIONS), ("step", "bf16")):
            ways = compared(lines, what, precision, model)
            for name, few in (("plain", only_plain(ways)), ("best", ways)):
                for line in few[:1]:
                    share = 100 * line["TFLOP/s"] / ideal.get(precision, float("nan"))
                    way = f"{line['layout']}{', fused' * line['fused_attention']}, {line['engine']}"
                    yield (
                        f"{model:8}{what:6}{precision:6}{name:7}{line['slices/s']:9.1f} slices/s"
                        f"{line['TFLOP/s']:9.2f} TFLOP/s {share:4.0f} %  {way}"
                    )
        found = {
            line["what"]: line
            for line in lines
            if line["model"] == model and "slice_call_s" in line
        }
        slow = found.get("plain detection")
        for what, calls in (("detection, stride 1", 450), ("detection, stride 5", 90)):
            if (line := found.get(what)) is not None:
                over = (
                    f"{451 * slow['slice_call_s'] / calls / line['slice_call_s']:.1f}"
                    if slow
                    else "?"
                )
                yield (
                    f"{model:8}{what}: {line['over its calls']:.3f} of its calls alone; "
                    f"plain (fp32, slice by slice) takes {over} times as long"
                )
    for line in lines:
        if "problem" in line:
            tried_to = (
                f"{line['what']}, {line['precision']}, {line['engine']}, batch {line['batch']}"
            )
            yield f"{line['model']:8}{tried_to}: {line['problem']}"


def only_plain(ways: list[Line]) -> list[Line]:
    return [line for line in ways if asdict(PLAIN).items() <= line.items()]


def main(until: str, *paths: str) -> None:
    global END
    END = float(until)
    types = {"bf16": torch.bfloat16, "fp32": torch.float32}
    ideal = {name: ideal_operations(DEVICE, dtype) / 1e12 for name, dtype in types.items()}
    name = torch.cuda.get_device_name() if CUDA else "cpu"
    said = "  ".join(f"{key} {value:.4g} TFLOP/s" for key, value in ideal.items())
    print(f"{name}, torch {torch.__version__}: matrix products reach {said}")
    about = {"device": name, "torch": torch.__version__, "ideal TFLOP/s": ideal}
    lines: list[Line] = []
    try:
        for line in measurements(lines):
            lines.append(line)
            shown = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in line.values())
            print("  ".join(shown), flush=True)
            write(paths, name, about, lines)  # each time: what is measured by then counts
            if time.time() >= END:
                print("the time is over")
                break
    except KeyboardInterrupt:
        raise SystemExit("speed: cut") from None
    finally:
        print(f"\n{name}: of {said}", *summary(lines, ideal), sep="\n")


def write(paths: Sequence[str], name: str, about: dict[str, Any], lines: list[Line]) -> None:
    entry = {
        "training": choice(lines, "step", "bf16"),
        "evaluation": choice(lines, "call", "bf16"),
    }
    speed = {name: {key: value for key, value in entry.items() if value}}
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**about, "measured_speed": speed, "lines": lines})


if __name__ == "__main__":
    main(*sys.argv[1:])
