"""How to run on a device in the time that there is, by what `speed.py` measured there: overrides.

    python experiments/gpu/choice.py runs/gpu/speed.json train 200
    python experiments/gpu/choice.py runs/gpu/speed.json tables 100

A compilation must pay within these seconds, and each row of a table is a process of its own, which
would compile again. Prints nothing if nothing was measured. Imports nothing that takes long.
"""

import json
import sys
from pathlib import Path
from typing import Any

KINDS = {"train": "step", "tables": "call"}
SETTINGS = ("layout", "fused_attention", "compile", "cuda_graphs")
Line = dict[str, Any]


def done(line: Line, seconds: float) -> float:
    """Slices in the time that is left once the first step, with its compilation, is done."""
    return float(line["slices/s"] * max(0.0, seconds - line["first_s"]))


def best(lines: list[Line], stage: str, seconds: float) -> Line | None:
    kind = [line for line in lines if line["what"] == KINDS[stage] and "slices/s" in line]
    wanted = (
        {key: kind[0][key] for key in ("model", "batch")} | {"precision": "bf16"} if kind else {}
    )
    kind = [line for line in kind if wanted.items() <= line.items()]
    if stage == "tables":
        kind = [line for line in kind if line["engine"] == "eager"]
    return max(kind, key=lambda line: done(line, seconds), default=None)


def overrides(line: Line) -> list[str]:
    engine = line["engine"]
    said = line | {"compile": engine in ("compiled", "graphs"), "cuda_graphs": engine == "graphs"}
    tuned = ["+trainer.benchmark=true"] if engine == "tuned" else []
    return [f"callbacks.acceleration.{key}={str(said[key]).lower()}" for key in SETTINGS] + tuned


def main(path: str, stage: str, seconds: str) -> None:
    file = Path(path)
    lines = json.loads(file.read_text())["lines"] if file.is_file() else []
    line = best(lines, stage, float(seconds))
    print(" ".join(overrides(line)) if line else "")


if __name__ == "__main__":
    main(*sys.argv[1:])
