"""Provenance: the settings, code, machine and memory that a result was made with."""

import datetime
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


def environment(device: torch.device) -> dict[str, Any]:
    """Commit, versions, device and date of a result."""
    return {
        "commit": _commit(),
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


def _commit() -> str | None:
    """Of the checkout. None if this is none, or if there is no git."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(FileNotFoundError):
        return (
            subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or None
        )
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
