"""Provenance: the settings, code, machine and memory that a result was made with."""

import datetime
import os
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

OWN_PLACE = "src/autoddpm/runs/provenance.py"  # of this file in its checkout
SET_BY_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


def environment(device: torch.device) -> dict[str, Any]:
    """Commit, versions, device and date of a result."""
    return {
        "commit": commit_of(Path(__file__).resolve()),
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
        with suppress(OSError):  # a container may have it read-only
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


def commit_of(file: Path) -> str | None:
    """The commit of the checkout that has this file as its own, with "-dirty" after a change.

    None if none has, as of a package that is installed inside somebody's repository, or if there is
    no git.
    """
    if _git(file, "ls-files", "--full-name", file.name) != OWN_PLACE:
        return None
    return _git(file, "describe", "--always", "--dirty", "--abbrev=12")


def _git(file: Path, *command: str) -> str | None:
    """What git says in a file's folder. None if it refuses, or is not there."""
    own = {name: value for name, value in os.environ.items() if name not in SET_BY_HOOKS}
    with suppress(OSError):
        said = subprocess.run(
            ["git", "-C", str(file.parent), *command],
            capture_output=True,
            text=True,
            check=False,
            env=own,
        )
        return said.stdout.strip() or None if said.returncode == 0 else None
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
