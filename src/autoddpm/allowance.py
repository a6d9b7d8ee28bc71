"""What this process may use of its machine: cores and memory, also inside a container."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

#: Of Linux: which groups a process is in, and their limits.
GROUPS, LIMITS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
MEMORY = Path("/proc/meminfo")
NO_LIMIT = 2**60  # bytes: version 1 writes a number near 2^63
#: What PyTorch says if memory is not enough.
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|CUDNN_STATUS_NOT_SUPPORTED\."
)


def cores() -> int:
    """Number of cores that this process may use, at least one.

    A container's share of the processor counts, not the cores of its host.
    """
    has_affinity = hasattr(os, "sched_getaffinity")  # macOS has none
    here = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    quota = cpu_quota()
    return here if quota >= here else max(1, math.floor(quota))


def processes_that_fit(bytes_each: float) -> int:
    """Number of processes: one per core, and no more than memory is there for; at least one."""
    return max(1, min(cores(), int(memory() // bytes_each)))


def cpu_quota() -> float:
    """Cores that the container's scheduler grants; infinity without a limit."""
    found = [math.inf]
    for folder in _folders("cpu"):
        both = _words(folder / "cpu.max")
        quota = both[0] if both else "".join(_words(folder / "cpu.cfs_quota_us"))
        period = both[1] if len(both) > 1 else "".join(_words(folder / "cpu.cfs_period_us"))
        if quota.isdecimal() and period.isdecimal() and int(period):
            found.append(int(quota) / int(period))
    return min(found)


def memory() -> float:
    """Bytes that this process may use: of the machine or of its container."""
    found = [math.inf]
    for folder in _folders("memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            words = _words(folder / name)
            if words and words[0].isdecimal() and int(words[0]) < NO_LIMIT:
                found.append(int(words[0]))
    return min(*found, _of_the_machine())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough, of the machine or of a device."""
    said = isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None
    return said or isinstance(error, MemoryError)


def _of_the_machine() -> float:
    for line in _lines(MEMORY):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return math.inf


def _folders(controller: str) -> Iterator[Path]:
    """Folders of this process's control groups, outwards: the tightest of their limits counts.

    Version 2 has one tree, version 1 one per controller. A container may see its own group as the
    root, while its path is the host's.
    """
    for line in _lines(GROUPS):
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            root = LIMITS
        elif controller in controllers.split(","):
            roots = [LIMITS / name for name in (controllers, controller)]
            root = next((one for one in roots if one.is_dir()), LIMITS / controller)
        else:
            continue
        inner = root / path.strip("/")
        yield from (one for one in (inner, *inner.parents) if one.is_relative_to(root))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()
