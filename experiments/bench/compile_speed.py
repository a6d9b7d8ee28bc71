"""Does torch.compile pay here? Start, gain a call and break-even of each network, size and
precision: about 20 minutes.

    python experiments/bench/compile_speed.py                  (all)
    python experiments/bench/compile_speed.py small compact 64    (these networks and sizes)

The compiled network in either layout is compared with the one that is not, in the better of its
two.
"""

import os
import sys
import tempfile
from contextlib import closing
from itertools import product

import torch
from detection_speed import exact_float32, forward, images, network
from rich.console import Console
from rich.table import Table
from turns import Side, Variants, in_turns

from autoddpm.machine.acceleration import LAYOUTS
from autoddpm.machine.memory import can_keep_freed_memory, keep_freed_memory

BATCH, REPEATS, CALLS = 8, 5, 450


def variants(model: str, size: int, precision: str, layout: str) -> Variants:
    exact_float32()
    if can_keep_freed_memory():
        keep_freed_memory()
    plain, compiled = (
        network(model).to(images(1, 8).device, memory_format=LAYOUTS[layout]) for _ in range(2)
    )
    compiled.denoiser.compile()
    image = images(BATCH, size)
    return {
        "plain": forward(plain, image, precision),
        "compiled": forward(compiled, image, precision),
    }


def main() -> None:
    models = [name for name in sys.argv[1:] if not name.isdigit()] or ["small", "compact"]
    sizes = [int(name) for name in sys.argv[1:] if name.isdigit()] or [64, 128]
    table = Table(
        "network, px, precision",
        "start",
        "plain a call",
        "compiled",
        "break-even",
        title=f"{BATCH} slices",
    )
    for model, size, precision in product(models, sizes, ("32-true", "bf16-mixed")):
        starts, seconds = {}, {}
        for layout in LAYOUTS:
            with tempfile.TemporaryDirectory() as cache:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # a start with nothing kept
                with closing(Side(variants, model, size, precision, layout)) as side:
                    starts[layout] = side.seconds("compiled")
                    names = {f"{name}, {layout}": (side, name) for name in side.names}
                    seconds |= in_turns(names, REPEATS)
        plain = min(seconds[f"plain, {layout}"] for layout in LAYOUTS)
        best = min(LAYOUTS, key=lambda layout: seconds[f"compiled, {layout}"])
        gain = plain - seconds[f"compiled, {best}"]
        even = (
            "never"
            if gain <= 0
            else f"{starts[best] / gain * BATCH / CALLS:.0f} slices of {CALLS} calls"
        )
        times = [
            f"{starts[best]:.0f} s",
            f"{1e3 * plain:.0f} ms",
            f"{1e3 * (plain - gain):.0f} ms ({best})",
        ]
        table.add_row(f"{model}, {size}, {precision}", *times, even)
        print(f"{model} {size} {precision}", *times, even, flush=True)
    Console().print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", table)


if __name__ == "__main__":
    main()
