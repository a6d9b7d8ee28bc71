"""`make bench`: how fast it is on this machine, as ratios; compared variants in turns, medians of
repeats.

Writes runs/bench/bench.json and prints a table. `--quick` runs everything once, with networks that
do nothing, in
seconds: a test that it runs, not a measurement. What each entry is: experiments/bench/README.md.
"""

import argparse
import datetime
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import metrics_speed
import torch
import training_speed
from data_speed import h100_needs, loader_slices_a_second, volumes_a_minute
from detection_speed import Chain, our_calls, ours, plain, plain_calls, samplers
from rich.console import Console
from rich.table import Table
from turns import Side, in_turns

from autoddpm.atomic import write_json

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """Sizes of what is measured.

    training: model, size, batch, steps.  metrics: slices, size, resamples.
    """

    repeats: int
    small: Chain
    paper: Chain
    training: tuple[str, int, int, int]
    metrics: tuple[int, int, int] = (655, 128, 1000)
    loader_slices: int = 512
    preparation: bool = True
    own_processes: bool = True


ON_CPU = Plan(
    repeats=3,
    small=Chain(
        "small", 128, t=8, t_resample=4, passes=2, batch=8, plain_slices=2, batches=(1, 8, 16)
    ),
    paper=Chain("paper", 128, t=2, t_resample=1, passes=1, batch=2, plain_slices=1, batches=(1, 2)),
    training=("small", 64, 16, 8),
)
ON_GPU = Plan(
    repeats=5,
    small=Chain(
        "small",
        128,
        t=40,
        t_resample=20,
        passes=5,
        batch=128,
        plain_slices=2,
        batches=(32, 64, 128),
    ),
    paper=Chain(
        "paper", 128, t=20, t_resample=10, passes=2, batch=64, plain_slices=2, batches=(16, 32, 64)
    ),
    training=("paper", 128, 16, 30),
)
QUICK = Plan(
    repeats=1,
    small=Chain("tiny", 32, t=2, t_resample=1, passes=2, batch=2, plain_slices=1, batches=(1, 2)),
    paper=Chain("tiny", 32, t=1, t_resample=1, passes=1, batch=1, plain_slices=1, batches=(1,)),
    training=("tiny", 32, 4, 4),
    metrics=(30, 32, 50),
    loader_slices=16,
    preparation=False,
    own_processes=False,
)


@dataclass(frozen=True)
class Entry:
    """A line of the table. goal: what the project asks of it, None where it asks nothing."""

    name: str
    value: float
    unit: str
    goal: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a test that it runs, in seconds")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "runs" / "bench", help="where bench.json goes"
    )
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else ON_GPU if torch.cuda.is_available() else ON_CPU
    seconds, peaks = measure(plan)
    found = [
        *ratios(plan, seconds),
        *(Entry(f"most memory: {name}", peak, "MB") for name, peak in peaks.items()),
    ]
    found += list(data_entries(plan, seconds))
    machine = describe_machine()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_json(
        arguments.folder / "bench.json",
        {
            "machine": machine,
            "plan": asdict(plan),
            "entries": [asdict(entry) for entry in found],
            "seconds": seconds,
        },
    )
    table = Table(
        "what", "value", "goal", title=f"{machine['device']}, torch {machine['versions']['torch']}"
    )
    for entry in found:
        table.add_row(entry.name, f"{entry.value:.3g} {entry.unit}".strip(), entry.goal or "")
    Console(width=None if Console().is_terminal else 120).print(table)


def measure(plan: Plan) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of every variant, and the most memory in MB that each side held."""
    seconds: dict[str, float] = {}
    peaks: dict[str, float] = {}
    groups: list[dict[str, Any]] = [
        {
            "plain": partial(plain, plan.small),
            "fp32": partial(ours, plan.small, "32-true"),
            "bf16": partial(ours, plan.small, "bf16-mixed"),
        },
        {"paper's network": partial(ours, plan.paper, "32-true")},
        {
            "bare loop": partial(training_speed.bare, *plan.training),
            "Lightning": partial(training_speed.lightning, *plan.training),
        },
        {"metrics": partial(metrics_speed.metrics, *plan.metrics)},
    ]
    left_out = {
        ("paper's network", name) for name in ("detect stride 10", "detect fast", "distance")
    }
    for group in groups:
        with ExitStack() as stack:
            sides = {
                name: stack.enter_context(closing(Side(make, here=not plan.own_processes)))
                for name, make in group.items()
            }
            variants = {
                f"{side}: {name}": (there, name)
                for side, there in sides.items()
                for name in there.names
                if (side, name) not in left_out
            }
            seconds |= in_turns(variants, plan.repeats)
            peaks |= {name: side.peak_mb() for name, side in sides.items()}
    return seconds, peaks


def ratios(plan: Plan, seconds: dict[str, float]) -> Iterator[Entry]:
    """What is compared, from the seconds of each variant."""
    small, paper, compared = plan.small, plan.paper, samplers()
    for label, chain, side, goal in (
        ("small", small, "fp32", "<= 1.10"),
        ("paper's", paper, "paper's network", "<= 1.05"),
    ):
        best = min(seconds[f"{side}: forward, {size}"] / size for size in chain.batches)
        loop = seconds[f"{side}: detect exact"] / chain.batch / our_calls(compared["exact"], chain)
        yield Entry(
            f"exact detection / its calls alone, {label} network, fp32", loop / best, "", goal
        )
    a_call = seconds["plain: detect"] / small.plain_slices / plain_calls(small)
    plain_slice = plain_calls() * a_call + 2 * seconds["plain: distance"] / small.plain_slices
    yield Entry(f"slices a minute, plain ({plain_calls()} calls)", 60 / plain_slice, "")
    goals = {"exact, fp32": ">= 1.2", "exact, bf16": ">= 1.5"}
    if torch.cuda.is_available():
        goals = dict.fromkeys(goals, ">= 5")
    goals |= {"fast, fp32": ">= 10", "fast, bf16": ">= 10"}
    for (name, sampler), side in product(compared.items(), ("fp32", "bf16")):
        a_call = seconds[f"{side}: detect {name}"] / small.batch / our_calls(sampler, small)
        a_slice = our_calls(sampler) * a_call + seconds[f"{side}: distance"] / small.batch
        what = f"{name}, {side}"
        yield Entry(f"plain baseline / ours, {what}", plain_slice / a_slice, "", goals.get(what))
        yield Entry(f"slices a minute, {what} ({our_calls(sampler)} calls)", 60 / a_slice, "")
    largest = max(small.batches)
    for side in ("fp32", "bf16"):
        ratio = seconds[f"{side}: forward contiguous"] / seconds[f"{side}: forward, {largest}"]
        yield Entry(f"forward, {side}, {largest} slices: contiguous / as chosen", ratio, "")
    given_back = seconds[f"plain: forward, {largest}"] / seconds["fp32: forward contiguous"]
    yield Entry(f"forward, fp32, {largest} slices: freed memory given back / kept", given_back, "")
    per_image = (
        seconds["plain: distance"] / small.plain_slices / (seconds["fp32: distance"] / small.batch)
    )
    yield Entry("LPIPS: image by image / batched", per_image, "")
    yield Entry(
        "training step: Lightning / bare loop, bf16",
        seconds["Lightning: step bf16"] / seconds["bare loop: step bf16"],
        "",
        "<= 1.05",
    )
    yield Entry(
        "training step: fp32 / bf16",
        seconds["bare loop: step fp32"] / seconds["bare loop: step bf16"],
        "",
    )
    slices, size, resamples = plan.metrics
    where = f"{slices} slices of {size} x {size}"
    yield Entry(
        f"AUPRC, Dice, all size groups, {where}", seconds["metrics: localization"], "s", "<= 15 s"
    )
    yield Entry(f"slice- and lesion-wise metrics, {where}", seconds["metrics: detection"], "s")
    yield Entry(
        f"intervals of AUPRC and Dice, {resamples} resamples", seconds["metrics: intervals"], "s"
    )


def data_entries(plan: Plan, seconds: dict[str, float]) -> Iterator[Entry]:
    """The loader, and the steps of src.prepare."""
    speed, (_, _, batch, _) = loader_slices_a_second(plan.loader_slices), plan.training
    yield Entry("loader / what an H100 could ask for", speed / h100_needs(), "", ">= 1")
    yield Entry(
        "loader / training here", speed * seconds["bare loop: step bf16"] / batch, "", ">= 1"
    )
    for step, value in (volumes_a_minute() if plan.preparation else {}).items():
        yield Entry(f"src.prepare: {step}", value, "volumes a minute")


def describe_machine() -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name()
        if on_gpu
        else f"CPU, {torch.get_num_threads()} threads",
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg(),
        "versions": {name: version(name) for name in ("torch", "lightning", "monai", "numpy")},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    main()
