"""Cores and memory that a process may use: affinity, containers of both kinds, macOS."""

import math
import os
from pathlib import Path

import pytest

from autoddpm import allowance, float64
from autoddpm.random import Draw, Stage, normal, slice_keys, uniform


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty files of control groups; 8 cores and 64 GiB are here."""
    monkeypatch.setattr(allowance, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(allowance, "LIMITS", tmp_path / "limits")
    monkeypatch.setattr(allowance, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {64 * 2**20} kB\n")
    return tmp_path


def limit(container: Path, groups: str, **files: str) -> None:
    (container / "cgroup").write_text(groups)
    for name, text in files.items():
        path = container / "limits" / name.replace("__", "/").replace("-", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("50000 100000", 1), ("350000 100000", 3), ("max 100000", 8), ("", 8)],
)
def test_version_2_grants_a_share_of_the_cores(quota: str, cores: int, container: Path) -> None:
    limit(container, "0::/a/b\n", **{"a__b__cpu-max": quota})
    assert allowance.cores() == cores


def test_the_limit_of_an_outer_group_counts_too(container: Path) -> None:
    inner = {"a__b__cpu-max": "max 100000", "a__cpu-max": "300000 100000"}
    limit(container, "0::/a/b\n", **inner, **{"a__memory-max": str(7 * 2**30)})
    assert allowance.cores() == 3
    assert allowance.memory() == 7 * 2**30


@pytest.mark.parametrize("path", ["docker__x__", ""])
def test_version_1_is_read_from_within_and_from_without(path: str, container: Path) -> None:
    files = {
        f"cpu,cpuacct__{path}cpu-cfs_quota_us": "200000",
        f"cpu,cpuacct__{path}cpu-cfs_period_us": "100000",
        f"memory__{path}memory-limit_in_bytes": str(4 * 2**30),
    }
    limit(container, "5:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n", **files)
    assert allowance.cores() == 2
    assert allowance.memory() == 4 * 2**30


def test_version_1_without_a_limit_has_none(container: Path) -> None:
    files = {"cpu__cpu-cfs_quota_us": "-1", "memory__memory-limit_in_bytes": str(2**63 - 4096)}
    limit(container, "5:cpu:/\n3:memory:/\n", **files)
    assert allowance.cores() == 8
    assert allowance.memory() == 64 * 2**30


def test_memory_decides_how_many_processes_there_are(container: Path) -> None:
    limit(container, "0::/\n", **{"memory-max": str(7 * 2**30)})
    assert allowance.processes_that_fit(3 * 2**30) == 2
    assert allowance.processes_that_fit(30 * 2**30) == 1
    assert allowance.processes_that_fit(1) == 8


def test_macos_has_cores_and_memory_too(container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    (container / "meminfo").unlink()
    assert allowance.cores() == 10
    assert 0 < allowance.memory() < math.inf


# devices without float64


SRC = Path(allowance.__file__).parent
#: Float64 of the CPU: computed when a schedule is made, and slices before they are stored.
ON_THE_CPU = {"schedule.py", "float64.py", "shift.py"}


def test_nothing_asks_a_device_for_float64_by_itself() -> None:
    rooms = ("diffusion", "autoencoder", "detectors", "models", "training", "machine", "prediction")
    files = [SRC / "random.py", *(file for room in rooms for file in (SRC / room).rglob("*.py"))]
    assert [
        file.name
        for file in files
        if file.name not in ON_THE_CPU
        and any(word in file.read_text("utf-8") for word in (".double()", "torch.float64"))
    ] == []


def test_a_device_without_float64_has_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = slice_keys(0, ["a", "b"])
    given = keys, 1000, Stage.TRAINING, Draw.FORWARD
    exact, noise = uniform(*given), normal(*given)
    for module in ("float64", "random"):
        monkeypatch.setattr(f"autoddpm.{module}.WITHOUT", ("cpu",))
    rounded = uniform(*given)
    assert rounded.dtype == noise.dtype
    assert ((rounded > 0) & (rounded < 1)).all()
    assert (rounded - exact).abs().max() < 1e-7
    assert normal(*given).equal(noise)
    assert float64.double(keys).device.type == "cpu"
