"""Provenance: the settings, code, machine and memory that a result was made with."""

import datetime
import inspect
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


def describe(thing: Any) -> dict[str, Any]:
    """Name and plain settings of a detector, sampler, distance or map function.

    They tell two results apart. Raises ValueError if an object does not keep an argument of its
    constructor as an attribute of the same name.
    """
    if inspect.isfunction(thing) or hasattr(thing, "func"):
        return {"name": getattr(thing, "func", thing).__name__, **getattr(thing, "keywords", {})}
    names = inspect.signature(type(thing)).parameters
    if lost := [name for name in names if not hasattr(thing, name)]:
        raise ValueError(
            f"{type(thing).__name__} must keep its setting {lost[0]} as an attribute: two results "
            "that differ in it would pass for the same"
        )
    settings = {name: getattr(thing, name) for name in names}
    plain = {
        name: value
        for name, value in settings.items()
        if isinstance(value, (bool, int, float, str))
    }
    return {"name": type(thing).__name__, **plain}


def environment(trainer: Trainer) -> dict[str, Any]:
    """Commit, versions, device and date of a result."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False)
    device = trainer.strategy.root_device
    return {
        "commit": commit.stdout.strip() or None,
        "versions": {
            name: _version(name) for name in ("autoddpm", "torch", "lightning", "monai", "numpy")
        },
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def forget_peak_memory(device: torch.device) -> None:
    """Count `peak_memory_mb` anew from here on, if the system allows it: CUDA and Linux do."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_REFS.exists():
        with suppress(PermissionError):
            CLEAR_REFS.write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """Most memory that this process held: of the GPU if it used one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    for line in lines:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
